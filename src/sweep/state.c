/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a run, read from its directory alone. There is no other record of a sweep's progress, so that a laptop,
 * the tasks of a Slurm array and a later day agree without talking to each other.
 */
#include <cjson/cJSON.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/base/json.h"
#include "espalier/base/json_writer.h"
#include "espalier/run/job.h"
#include "plan.h"

enum { MARK_BYTES_MAX = 1 << 20, DIFFERENCES_SHOWN = 4 };

const char *espl_sweep_state_name(espl_sweep_state state) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_SWEEP_STATE_LIST(X)
#undef X
    };
    return names[state];
}

/* ------------------------------------------------------------ sweep.json */

static const char *const mark_names[] = {
#define X(name, text) text,
    SWEEP_MARK_LIST(X)
#undef X
};

/* Appends "host n1, process 123, Slurm job 45". */
static void sweep_put_place(espl_str *s) {
    char host[256] = "";
    const char *slurm = getenv("SLURM_JOB_ID");
    if (gethostname(host, sizeof host - 1) != 0) strcpy(host, "?");
    espl_str_printf(s, "host %s, process %" PRId64, host, (int64_t)getpid());
    if (slurm) espl_str_printf(s, ", Slurm job %s", slurm);
}

espl_status espl_sweep_write_mark(const espl_sweep *s, int64_t run, sweep_mark mark, const char *message) {
    espl_str text = {0}, path = {0}, place = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    espl_status st;
    if (mark == SWEEP_MARK_UNDER_WAY) {
        sweep_put_place(&place);
        ESPL_CHECK(st, done, espl_str_status(&place));
        message = place.data;
    }
    espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(&w, "sweep", s->path);
    espl_json_put_text(&w, "name", s->names[run]);
    for (int64_t a = 0; a < s->n_axes; a++)
        if (!s->axes[a].grid && espl_sweep_choice(s, run, a))
            espl_json_put_text(&w, s->axes[a].name, espl_sweep_choice(s, run, a)->name);
    espl_json_open_object(&w, "set", ESPL_JSON_SPACED);
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, run, a);
        for (int64_t k = e ? e->first : 0; e && k < e->first + e->n; k++) {
            const sweep_assignment *as = &s->assignments[k];
            const char *value = strchr(as->text, '=') + 1;
            char name[128];
            snprintf(name, sizeof name, "%s.%s", as->row->section, as->row->key);
            espl_json_put_raw(&w, name, value, (int64_t)strlen(value));
        }
    }
    espl_json_close(&w);
    espl_json_put_text(&w, "state", mark_names[mark]);
    espl_json_put_text(&w, "message", message);
    espl_json_close(&w);
    espl_str_puts(&text, "\n");
    ESPL_CHECK(st, done, espl_str_status(&text));
    ESPL_CHECK(st, done, espl_sweep_path(s, run, "", &path));
    ESPL_CHECK(st, done, espl_file_make_directory(path.data));
    espl_str_puts(&path, "/sweep.json");
    ESPL_CHECK(st, done, espl_str_status(&path));
    st = espl_file_replace(path.data, text.data, text.len);
done:
    espl_str_free(&text);
    espl_str_free(&path);
    espl_str_free(&place);
    return st;
}

/* True if sweep.json holds this mark; appends its message. A file that cannot be read counts as no mark: the
 * checkpoints of the run tell more than it does. */
static bool sweep_has_mark(const char *path, sweep_mark mark, espl_str *message) {
    cJSON *doc;
    const char *state = "", *text = "";
    if (!espl_file_exists(path) || espl_json_read(path, MARK_BYTES_MAX, &doc) != ESPL_OK) return false;
    bool read = espl_json_get_str(doc, "state", path, true, &state) == ESPL_OK &&
                espl_json_get_str(doc, "message", path, true, &text) == ESPL_OK;
    bool found = read && strcmp(state, mark_names[mark]) == 0;
    if (found) espl_str_puts(message, text);
    espl_json_free(&doc);
    return found;
}

/* --------------------------------------------------------- configuration */

/* Compares the run's configuration with the one that its directory was begun with. *differs: a result may depend on the
 * difference, which is appended to *note; or the manifest cannot be read, which is another configuration for all we
 * know. */
static espl_status sweep_compare(const espl_sweep *s, int64_t run, const char *manifest, bool *differs,
                                 espl_str *note) {
    espl_config then = {0}, now = {0};
    espl_str names = {0};
    unsigned classes = ~(1u << ESPL_RESUME_CIRCUMSTANCE);
    espl_status st;
    ESPL_CHECK(st, done, espl_config_init(&then));
    ESPL_CHECK(st, done, espl_config_init(&now));
    ESPL_CHECK(st, done, espl_sweep_config(s, run, &now));
    st = espl_config_read_recorded(manifest, &then);
    if (st == ESPL_NOMEM) goto done; /* says nothing about the file */
    if (st != ESPL_OK) {
        st = ESPL_OK;
        espl_str_puts(note, espl_base_error_text());
        *differs = true;
        goto done;
    }
    ESPL_CHECK(st, done, espl_config_differences(&then, &now, classes, DIFFERENCES_SHOWN, &names));
    *differs = names.len > 0;
    if (*differs) espl_str_printf(note, "begun with another %s", names.data);
done:
    espl_str_free(&names);
    espl_config_free(&then);
    espl_config_free(&now);
    return st;
}

/* ----------------------------------------------------------------- state */

/* Whether the checkpoint can be read is decided on resume; here its existence means that the run has begun. */
static bool sweep_has_checkpoint(const char *dir) {
    DIR *d = opendir(dir);
    bool found = false;
    for (const struct dirent *e; d && !found && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        found = n > 3 && strcmp(e->d_name + n - 3, ".h5") == 0;
    }
    if (d) closedir(d);
    return found;
}

espl_status espl_sweep_state_of(const espl_sweep *s, int64_t run, espl_sweep_state *state, espl_str *note) {
    espl_str manifest = {0}, summary = {0}, mark = {0}, checkpoints = {0}, place = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_sweep_path(s, run, "manifest.json", &manifest));
    ESPL_CHECK(st, done, espl_sweep_path(s, run, "summary.json", &summary));
    ESPL_CHECK(st, done, espl_sweep_path(s, run, "sweep.json", &mark));
    ESPL_CHECK(st, done, espl_sweep_path(s, run, "checkpoints", &checkpoints));

    bool begun = sweep_has_checkpoint(checkpoints.data);
    espl_status verdict = ESPL_OK;
    bool finished = espl_file_exists(summary.data) && espl_run_summary_reads(summary.data, &verdict);
    bool differs = false;
    if ((finished || begun) && espl_file_exists(manifest.data))
        ESPL_CHECK(st, done, sweep_compare(s, run, manifest.data, &differs, note));
    if (differs) {
        *state = ESPL_SWEEP_DIFFERS;
    } else if (finished) {
        if (verdict != ESPL_OK) espl_str_puts(note, espl_status_text(verdict));
        *state = ESPL_SWEEP_FINISHED;
    } else if (sweep_has_mark(mark.data, SWEEP_MARK_FAILED, note)) {
        *state = ESPL_SWEEP_FAILED;
    } else if (sweep_has_mark(mark.data, SWEEP_MARK_UNDER_WAY, &place)) {
        espl_str_printf(note, "under way (%s), or killed there", place.data ? place.data : "");
        *state = ESPL_SWEEP_RESUMABLE;
    } else {
        *state = begun ? ESPL_SWEEP_RESUMABLE : ESPL_SWEEP_NEW;
    }
    st = espl_str_status(note);
done:
    espl_str_free(&manifest);
    espl_str_free(&summary);
    espl_str_free(&mark);
    espl_str_free(&checkpoints);
    espl_str_free(&place);
    return st;
}

/* --------------------------------------------------------------- listing */

espl_status espl_sweep_list(const espl_sweep *s, espl_str *out) {
    int64_t count[ESPL_SWEEP_STATES] = {0};
    for (int64_t i = 0; i < s->n_runs; i++) {
        espl_sweep_state state = ESPL_SWEEP_NEW;
        espl_str note = {0};
        espl_status st = espl_sweep_state_of(s, i, &state, &note);
        espl_str_printf(out, "%5" PRId64 "  %-9s  %s", i + 1, espl_sweep_state_name(state), s->names[i]);
        if (s->milestones && s->milestones[i]) /* "prune.milestones=[0.2, 0.3]" */
            espl_str_printf(out, ", measured on the way at %s", strchr(s->milestones[i], '['));
        if (note.len > 0) espl_str_printf(out, ": %s", note.data);
        espl_str_puts(out, "\n");
        espl_str_free(&note);
        ESPL_TRY(st);
        count[state]++;
    }
    const char *comma = " ";
    espl_str_printf(out, "%" PRId64 " run%s:", s->n_runs, s->n_runs == 1 ? "" : "s");
    for (int k = 0; k < ESPL_SWEEP_STATES; k++) {
        if (count[k] == 0) continue;
        espl_str_printf(out, "%s%" PRId64 " %s", comma, count[k], espl_sweep_state_name((espl_sweep_state)k));
        comma = ", ";
    }
    espl_str_puts(out, "\n");
    return espl_str_status(out);
}

/* Runs whose directory holds another configuration are left out: the array task would only fail. */
espl_status espl_sweep_unfinished(const espl_sweep *s, espl_str *out) {
    int64_t first = -1; /* of the current range */
    for (int64_t i = 0; i <= s->n_runs; i++) {
        espl_sweep_state state = ESPL_SWEEP_FINISHED;
        espl_str note = {0};
        espl_status st = i < s->n_runs ? espl_sweep_state_of(s, i, &state, &note) : ESPL_OK;
        espl_str_free(&note);
        ESPL_TRY(st);
        bool due = state != ESPL_SWEEP_FINISHED && state != ESPL_SWEEP_DIFFERS;
        if (due && first < 0) first = i;
        if (due || first < 0) continue;
        espl_str_printf(out, "%s%" PRId64, out->len > 0 ? "," : "", first + 1);
        if (i - first > 1) espl_str_printf(out, "-%" PRId64, i);
        first = -1;
    }
    return espl_str_status(out);
}
