/* From axes to runs: which there are, what they are called, what their configurations are. */
#include "sweep.h"

#include <string.h>

enum { NAME_MAX_BYTES = 200 }; /* file systems take 255, and tools append to it */

const sweep_entry *espl_sweep_choice(const espl_sweep *s, int64_t i, int64_t axis) {
    int64_t choice = s->choices[i * s->n_axes + axis];
    return choice < 0 ? NULL : &s->entries[choice];
}

espl_status espl_sweep_path(const espl_sweep *s, int64_t i, const char *file, espl_str *out) {
    espl_str_printf(out, "%s/%s%s%s", s->dir, s->names[i], *file ? "/" : "", file);
    return espl_str_status(out);
}

/* ------------------------------------------------------------------ names */

/* What any shell, file system and table takes as it is; the rest becomes an underscore. */
static void put_plain(espl_str *s, const char *text) {
    for (const char *p = text; *p; p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        bool plain = word || *p == '-' || *p == '+' || *p == '_' || (*p == '.' && s->len > 0);
        espl_str_put(s, plain ? p : "_", 1);
    }
}

static espl_status name_run(espl_sweep *s, int64_t i) {
    espl_str name = {0};
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, i, a);
        if (!e) continue;
        if (name.len > 0) espl_str_puts(&name, "-");
        put_plain(&name, e->name);
    }
    if (name.len == 0) espl_str_puts(&name, "run");
    espl_status st = espl_str_status(&name);
    if (st == ESPL_OK && name.len > NAME_MAX_BYTES)
        st = ESPL_FAIL(ESPL_CONFIG, "%s: run %lld would be called %.60s..., which is longer than %d bytes", s->path,
                       (long long)i + 1, name.data, NAME_MAX_BYTES);
    if (st == ESPL_OK)
        s->names[i] = name.data;
    else
        espl_str_free(&name);
    return st;
}

static espl_status check_names(const espl_sweep *s) {
    espl_map *seen;
    int64_t other;
    ESPL_TRY(espl_map_create(&seen, s->n_runs));
    espl_status st = ESPL_OK;
    for (int64_t i = 0; i < s->n_runs && st == ESPL_OK; i++) {
        int64_t len = (int64_t)strlen(s->names[i]);
        if (espl_map_get(seen, s->names[i], len, &other))
            st = ESPL_FAIL(ESPL_CONFIG, "%s: runs %lld and %lld would both be called %s", s->path, (long long)other + 1,
                           (long long)i + 1, s->names[i]);
        else
            st = espl_map_put(seen, s->names[i], len, i);
    }
    espl_map_destroy(&seen);
    return st;
}

static espl_status name_all(espl_sweep *s) {
    ESPL_TRY(espl_mem_alloc(&s->names, s->n_runs, sizeof *s->names, "names of a sweep's runs"));
    for (int64_t i = 0; i < s->n_runs; i++) ESPL_TRY(name_run(s, i));
    return check_names(s);
}

/* -------------------------------------------------------------- expansion */

/* The entries chosen so far, and how many of them set each option. */
typedef struct sweep_walk {
    int64_t *choice; /* [axes] */
    int set_by[ESPL_OPTIONS];
} sweep_walk;

static void count_options(const espl_sweep *s, int64_t entry, sweep_walk *w, int by) {
    const sweep_entry *e = &s->entries[entry];
    for (int64_t k = e->first; k < e->first + e->n; k++) w->set_by[s->assignments[k].row - espl_option_table] += by;
}

/* Has an earlier choice settled what this axis would vary? */
static bool settled(const espl_sweep *s, const sweep_axis *a, const sweep_walk *w) {
    for (int64_t i = a->first; i < a->first + a->n; i++) {
        const sweep_entry *e = &s->entries[i];
        for (int64_t k = e->first; k < e->first + e->n; k++)
            if (w->set_by[s->assignments[k].row - espl_option_table] > 0) return true;
    }
    return false;
}

static espl_status add_run(espl_sweep *s, const sweep_walk *w) {
    if (s->n_runs == ESPL_SWEEP_MAX) return ESPL_FAIL(ESPL_CONFIG, "%s: more than %d runs", s->path, ESPL_SWEEP_MAX);
    ESPL_TRY(espl_mem_resize(&s->choices, (s->n_runs + 1) * s->n_axes + 1, sizeof *s->choices, "runs of a sweep"));
    for (int64_t a = 0; a < s->n_axes; a++) s->choices[s->n_runs * s->n_axes + a] = w->choice[a];
    s->n_runs++;
    return ESPL_OK;
}

/* The last axis varies fastest. There are no more axes than options, and three. */
static espl_status walk(espl_sweep *s, sweep_walk *w, int64_t axis) {
    if (axis == s->n_axes) return add_run(s, w);
    const sweep_axis *a = &s->axes[axis];
    w->choice[axis] = -1;
    if (settled(s, a, w)) return walk(s, w, axis + 1);
    for (int64_t e = a->first; e < a->first + a->n; e++) {
        w->choice[axis] = e;
        count_options(s, e, w, 1);
        ESPL_TRY(walk(s, w, axis + 1));
        count_options(s, e, w, -1);
    }
    return ESPL_OK;
}

espl_status espl_sweep_expand(espl_sweep *s) {
    sweep_walk w = {0};
    ESPL_TRY(espl_mem_alloc(&w.choice, s->n_axes, sizeof *w.choice, "runs of a sweep"));
    espl_status st = walk(s, &w, 0);
    if (st == ESPL_OK) st = name_all(s);
    espl_mem_free(&w.choice);
    return st;
}

/* ---------------------------------------------------------- configuration */

/* Does any run choose a value of this option? */
static bool varies(const espl_sweep *s, const espl_option *row) {
    for (int64_t i = 0; i < s->n_entries; i++)
        for (int64_t k = s->entries[i].first; k < s->entries[i].first + s->entries[i].n; k++)
            if (s->assignments[k].row == row) return true;
    return false;
}

espl_status espl_sweep_set(espl_sweep *s, const char *assignment) {
    espl_config scratch;
    char section[64];
    sweep_assignment a = {0};
    ESPL_TRY(espl_config_init(&scratch));
    espl_status st = espl_config_set(assignment, &scratch);
    espl_config_free(&scratch);
    ESPL_TRY(st);
    const char *dot = strchr(assignment, '.'), *equals = strchr(assignment, '=');
    snprintf(section, sizeof section, "%.*s", (int)(dot - assignment), assignment);
    for (int i = 0; i < ESPL_OPTIONS && !a.row; i++) {
        const espl_option *row = &espl_option_table[i];
        bool key = strlen(row->key) == (size_t)(equals - dot - 1) && strncmp(dot + 1, row->key, strlen(row->key)) == 0;
        if (key && strcmp(section, row->section) == 0) a.row = row;
    }
    if (!a.row || a.row == &espl_option_table[ESPL_OPTION_OF_run_dir] || varies(s, a.row))
        return ESPL_FAIL(ESPL_CONFIG, "--set %s: %s", assignment,
                         a.row && varies(s, a.row) ? "the sweep varies this option"
                                                   : "every run has a directory of its own, in the sweep's \"dir\"");
    ESPL_TRY(espl_sweep_keep(s, assignment, (int64_t)strlen(assignment), &a.text));
    ESPL_TRY(espl_mem_resize(&s->overrides, s->n_overrides + 1, sizeof *s->overrides, "sweep"));
    s->overrides[s->n_overrides++] = a;
    return ESPL_OK;
}

static espl_status assign(const sweep_assignment *a, int64_t n, espl_config *o) {
    for (int64_t i = 0; i < n; i++) ESPL_TRY(espl_config_set(a[i].text, o));
    return ESPL_OK;
}

static espl_status read_files(const espl_sweep *s, int64_t i, espl_config *o) {
    if (s->base) ESPL_TRY(espl_config_read(s->base, o));
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, i, a);
        if (e && e->file) ESPL_TRY(espl_config_read(e->file, o));
    }
    return ESPL_OK;
}

/* Files first, then what the sweep says, the general before the particular. */
espl_status espl_sweep_config(const espl_sweep *s, int64_t i, espl_config *o) {
    espl_str dir = {0};
    ESPL_TRY(read_files(s, i, o));
    ESPL_TRY(assign(s->assignments + s->set_first, s->n_set, o));
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, i, a);
        if (e) ESPL_TRY(assign(s->assignments + e->first, e->n, o));
    }
    ESPL_TRY(assign(s->overrides, s->n_overrides, o));
    espl_str_puts(&dir, "run.dir=");
    espl_status st = espl_sweep_path(s, i, "", &dir);
    if (st == ESPL_OK) st = espl_config_set(dir.data, o);
    espl_str_free(&dir);
    return st;
}

static espl_status check_run(const espl_sweep *s, int64_t i) {
    espl_config o;
    ESPL_TRY(espl_config_init(&o));
    espl_status st = espl_sweep_config(s, i, &o);
    if (st == ESPL_OK) st = espl_config_check(&o);
    espl_config_free(&o);
    return st;
}

espl_status espl_sweep_check(const espl_sweep *s) {
    for (int64_t i = 0; i < s->n_runs; i++) {
        espl_status st = check_run(s, i);
        if (st == ESPL_OK) continue;
        espl_str text = {0};
        espl_str_puts(&text, espl_base_error_text());
        st = ESPL_FAIL(st, "%s: run %lld, %s: %s", s->path, (long long)i + 1, s->names[i], text.data ? text.data : "");
        espl_str_free(&text);
        return st;
    }
    return ESPL_OK;
}

int64_t espl_sweep_count(const espl_sweep *s) { return s->n_runs; }
const char *espl_sweep_name(const espl_sweep *s, int64_t i) { return s->names[i]; }
