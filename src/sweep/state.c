/* How far the runs of a sweep are: read from their directories, so that a laptop, an array's tasks and a later day
 * agree on it without a word between them. */
#include "sweep.h"

#include "espalier/run/job.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t MANIFEST_MAX = (int64_t)1 << 26;
enum { NOTE_MAX = 1 << 20 };

const char *espl_sweep_state_name(espl_sweep_state state) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_SWEEP_STATE_LIST(X)
#undef X
    };
    return names[state];
}

/* ------------------------------------------------------------------- mark */

static void put_member(espl_str *s, const char *key, const char *text) {
    espl_str_printf(s, "  \"%s\": ", key);
    espl_str_put_json(s, text, (int64_t)strlen(text));
    espl_str_puts(s, ",\n");
}

/* What makes it this run: "model", "method", "agent", and every option that its choices set. */
static void put_choices(const espl_sweep *s, int64_t i, espl_str *out) {
    const char *between = "";
    for (int64_t a = 0; a < s->n_axes; a++)
        if (!s->axes[a].grid && espl_sweep_choice(s, i, a))
            put_member(out, s->axes[a].name, espl_sweep_choice(s, i, a)->name);
    espl_str_puts(out, "  \"set\": {");
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, i, a);
        for (int64_t k = e ? e->first : 0; e && k < e->first + e->n; k++) {
            const sweep_assignment *as = &s->assignments[k];
            espl_str_printf(out, "%s\"%s.%s\": %s", between, as->row->section, as->row->key, strchr(as->text, '=') + 1);
            between = ", ";
        }
    }
    espl_str_puts(out, "},\n");
}

/* "host n1, process 123, Slurm job 45" */
static void put_place(espl_str *s) {
    char host[256] = "";
    const char *slurm = getenv("SLURM_JOB_ID");
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "?");
    espl_str_printf(s, "host %s, process %lld", host, (long long)getpid());
    if (slurm) espl_str_printf(s, ", Slurm job %s", slurm);
}

espl_status espl_sweep_mark(const espl_sweep *s, int64_t i, const char *state, const char *message) {
    espl_str text = {0}, path = {0}, place = {0};
    bool under_way = strcmp(state, "under way") == 0;
    if (under_way) put_place(&place);
    espl_str_puts(&text, "{\n");
    put_member(&text, "sweep", s->path);
    put_member(&text, "name", s->names[i]);
    put_choices(s, i, &text);
    put_member(&text, "state", state);
    put_member(&text, "message", under_way ? (place.data ? place.data : "") : message);
    text.len -= 2; /* the last comma */
    espl_str_puts(&text, "\n}\n");
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK) st = espl_sweep_path(s, i, "", &path);
    if (st == ESPL_OK) st = espl_file_make_directory(path.data);
    espl_str_puts(&path, "/sweep.json");
    if (st == ESPL_OK) st = espl_str_status(&path);
    if (st == ESPL_OK) st = espl_file_replace(path.data, text.data, text.len);
    espl_str_free(&text);
    espl_str_free(&path);
    espl_str_free(&place);
    return st;
}

/* ---------------------------------------------------------- configuration */

/* Names the options on which a result may depend and that differ, at most a few. */
static espl_status put_differences(espl_str *note, const espl_config *then, const espl_config *now) {
    enum { SHOWN = 4 };
    unsigned all = ~0u, classes = all & ~(1u << ESPL_RESUME_CIRCUMSTANCE);
    espl_str names = {0};
    espl_status st = espl_config_differences(then, now, classes, SHOWN, &names);
    if (st == ESPL_OK && names.len > 0) espl_str_printf(note, "begun with another %s", names.data);
    espl_str_free(&names);
    return st;
}

/* manifest.json's "config". An older program may have known other options: what is missing has its default. */
static espl_status read_manifest(const char *path, espl_config *o) {
    cJSON *doc;
    ESPL_TRY(espl_json_read(path, MANIFEST_MAX, &doc));
    const cJSON *config = espl_json_member(doc, "config");
    char *text = config ? cJSON_PrintUnformatted(config) : NULL;
    espl_status st = text ? espl_config_parse(text, (int64_t)strlen(text), path, o)
                          : ESPL_FAIL(ESPL_FORMAT, "%s: config is missing", path);
    cJSON_free(text);
    espl_json_free(&doc);
    return st;
}

static espl_status compare(const espl_sweep *s, int64_t i, const char *manifest, espl_str *note) {
    espl_config then = {0}, now = {0};
    espl_status st = espl_config_init(&then);
    if (st == ESPL_OK) st = espl_config_init(&now);
    if (st == ESPL_OK) st = espl_sweep_config(s, i, &now);
    if (st == ESPL_OK && read_manifest(manifest, &then) != ESPL_OK)
        espl_str_puts(note, espl_base_error_text());
    else if (st == ESPL_OK)
        st = put_differences(note, &then, &now);
    espl_config_free(&then);
    espl_config_free(&now);
    return st;
}

/* ------------------------------------------------------------------ state */

static bool has_checkpoint(const char *dir) {
    DIR *d = opendir(dir);
    bool found = false;
    for (const struct dirent *e; d && !found && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        found = n > 3 && strcmp(e->d_name + n - 3, ".h5") == 0;
    }
    if (d) closedir(d);
    return found;
}

/* "failed" or "under way" of sweep.json; a file that cannot be read says nothing. */
static bool marked(const char *path, const char *state, espl_str *note) {
    cJSON *doc;
    const char *is = "", *message = "";
    if (!espl_file_exists(path) || espl_json_read(path, NOTE_MAX, &doc) != ESPL_OK) return false;
    bool read = espl_json_get_str(doc, "state", path, true, &is) == ESPL_OK &&
                espl_json_get_str(doc, "message", path, true, &message) == ESPL_OK;
    bool found = read && strcmp(is, state) == 0;
    if (found) espl_str_puts(note, message);
    espl_json_free(&doc);
    return found;
}

/* Files of a run's directory that tell its state. */
typedef struct sweep_files {
    espl_str manifest, summary, mark, checkpoints;
} sweep_files;

static espl_status paths(const espl_sweep *s, int64_t i, sweep_files *f) {
    ESPL_TRY(espl_sweep_path(s, i, "manifest.json", &f->manifest));
    ESPL_TRY(espl_sweep_path(s, i, "summary.json", &f->summary));
    ESPL_TRY(espl_sweep_path(s, i, "sweep.json", &f->mark));
    return espl_sweep_path(s, i, "checkpoints", &f->checkpoints);
}

static espl_status look(const espl_sweep *s, int64_t i, const sweep_files *f, espl_sweep_state *state, espl_str *note) {
    espl_str place = {0};
    bool begun = has_checkpoint(f->checkpoints.data), finished = false;
    if (espl_file_exists(f->summary.data)) finished = espl_run_summary_reads(f->summary.data);
    *state = finished ? ESPL_SWEEP_FINISHED : begun ? ESPL_SWEEP_RESUMABLE : ESPL_SWEEP_NEW;
    if ((finished || begun) && espl_file_exists(f->manifest.data)) ESPL_TRY(compare(s, i, f->manifest.data, note));
    if (note->len > 0) return *state = ESPL_SWEEP_DIFFERS, espl_str_status(note);
    if (finished) return ESPL_OK;
    if (marked(f->mark.data, "failed", note)) *state = ESPL_SWEEP_FAILED;
    if (marked(f->mark.data, "under way", &place)) {
        espl_str_printf(note, "under way (%s), or ended there without a word", place.data ? place.data : "");
        *state = ESPL_SWEEP_RESUMABLE;
    }
    espl_str_free(&place);
    return espl_str_status(note);
}

espl_status espl_sweep_state_of(const espl_sweep *s, int64_t i, espl_sweep_state *state, espl_str *note) {
    sweep_files f = {0};
    espl_status st = paths(s, i, &f);
    if (st == ESPL_OK) st = look(s, i, &f, state, note);
    espl_str_free(&f.manifest);
    espl_str_free(&f.summary);
    espl_str_free(&f.mark);
    espl_str_free(&f.checkpoints);
    return st;
}

/* ---------------------------------------------------------------- listing */

static void put_totals(espl_str *out, const int64_t *count, int64_t n) {
    espl_str_printf(out, "%lld run%s:", (long long)n, n == 1 ? "" : "s");
    const char *between = " ";
    for (int k = 0; k < ESPL_SWEEP_STATES; k++) {
        if (count[k] == 0) continue;
        espl_str_printf(out, "%s%lld %s", between, (long long)count[k], espl_sweep_state_name((espl_sweep_state)k));
        between = ", ";
    }
    espl_str_puts(out, "\n");
}

static espl_status put_line(const espl_sweep *s, int64_t i, int64_t *count, espl_str *out) {
    espl_sweep_state state = ESPL_SWEEP_NEW;
    espl_str note = {0};
    espl_status st = espl_sweep_state_of(s, i, &state, &note);
    espl_str_printf(out, "%5lld  %-9s  %s", (long long)i + 1, espl_sweep_state_name(state), s->names[i]);
    if (note.len > 0) espl_str_printf(out, ": %s", note.data);
    espl_str_puts(out, "\n");
    espl_str_free(&note);
    count[state]++;
    return st;
}

espl_status espl_sweep_list(const espl_sweep *s, espl_str *out) {
    int64_t count[ESPL_SWEEP_STATES] = {0};
    for (int64_t i = 0; i < s->n_runs; i++) ESPL_TRY(put_line(s, i, count, out));
    put_totals(out, count, s->n_runs);
    return espl_str_status(out);
}

espl_status espl_sweep_unfinished(const espl_sweep *s, espl_str *out) {
    int64_t first = -1;
    for (int64_t i = 0; i <= s->n_runs; i++) {
        espl_sweep_state state = ESPL_SWEEP_FINISHED;
        espl_str note = {0};
        espl_status st = i < s->n_runs ? espl_sweep_state_of(s, i, &state, &note) : ESPL_OK;
        espl_str_free(&note);
        ESPL_TRY(st);
        bool due = state != ESPL_SWEEP_FINISHED && state != ESPL_SWEEP_DIFFERS;
        if (due && first < 0) first = i;
        if (due || first < 0) continue;
        espl_str_printf(out, "%s%lld", out->len > 0 ? "," : "", (long long)first + 1);
        if (i - first > 1) espl_str_printf(out, "-%lld", (long long)i);
        first = -1;
    }
    return espl_str_status(out);
}
