/* Reads a sweep's file: docs/sweep.md. */
#include "sweep.h"

#include <cjson/cJSON.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

typedef struct sweep_text {
    espl_sweep *s;
    espl_config scratch; /* values are tried on it */
    const char *members; /* "method": what the entries being read are called */
    int64_t first;       /* assignment or entry of the object being read */
    int64_t line_of[8];  /* of the file's own members; 0: not yet */
} sweep_text;

/* ---------------------------------------------------------------- growing */

espl_status espl_sweep_keep(espl_sweep *s, const char *text, int64_t len, const char **out) {
    char *copy;
    ESPL_TRY(espl_mem_resize(&s->texts, s->n_texts + 1, sizeof *s->texts, "sweep"));
    ESPL_TRY(espl_mem_alloc(&copy, len + 1, 1, "sweep"));
    memcpy(copy, text, (size_t)len);
    s->texts[s->n_texts++] = copy;
    *out = copy;
    return ESPL_OK;
}

static espl_status add_entry(espl_sweep *s, const char *name, int64_t len) {
    sweep_entry e = {.first = s->n_assignments};
    if (s->n_entries == ESPL_SWEEP_MAX)
        return ESPL_FAIL(ESPL_CONFIG, "%s: more than %d names and values", s->path, ESPL_SWEEP_MAX);
    ESPL_TRY(espl_sweep_keep(s, name, len, &e.name));
    ESPL_TRY(espl_mem_resize(&s->entries, s->n_entries + 1, sizeof *s->entries, "sweep"));
    s->entries[s->n_entries++] = e;
    return ESPL_OK;
}

static espl_status add_axis(espl_sweep *s, const char *name, bool grid, int64_t first_entry) {
    sweep_axis a = {.grid = grid, .first = first_entry, .n = s->n_entries - first_entry};
    ESPL_TRY(espl_sweep_keep(s, name, (int64_t)strlen(name), &a.name));
    ESPL_TRY(espl_mem_resize(&s->axes, s->n_axes + 1, sizeof *s->axes, "sweep"));
    s->axes[s->n_axes++] = a;
    return ESPL_OK;
}

/* ------------------------------------------------------------ assignments */

static espl_status fail_named(const espl_jsonc *r, int64_t at, const char *name, const char *text) {
    espl_str s = {0};
    espl_jsonc_put_quoted(&s, name, (int64_t)strlen(name));
    espl_str_puts(&s, text);
    return espl_jsonc_fail(r, at, &s);
}

static void section_of(const char *name, char *section, size_t size) {
    const char *dot = strchr(name, '.');
    snprintf(section, size, "%.*s", dot ? (int)(dot - name) : 0, name);
}

/* The option that "section.key" names; NULL: none that a sweep may set. */
static const espl_option *find_option(const char *name) {
    char section[64];
    const char *dot = strchr(name, '.');
    section_of(name, section, sizeof section);
    const espl_option *row = dot ? espl_option_find(section, dot + 1) : NULL;
    return row == &espl_option_table[ESPL_OPTION_OF_run_dir] ? NULL : row;
}

static espl_status fail_option(const espl_jsonc *r, const char *name, int64_t at) {
    char section[64];
    const char *dot = strchr(name, '.');
    section_of(name, section, sizeof section);
    if (!dot) return fail_named(r, at, name, ": expected an option, such as prune.target");
    if (!espl_option_find(section, dot + 1)) return espl_option_fail_unknown(r, at, section, dot + 1);
    return espl_jsonc_fail_with(r, at, "run.dir: every run has a directory of its own, in the sweep's \"dir\"");
}

/* The value at r->at, tried and kept as an assignment. */
static espl_status take_assignment(espl_jsonc *r, const espl_option *row, sweep_text *t) {
    espl_sweep *s = t->s;
    espl_str text = {0};
    sweep_assignment a = {.row = row};
    ESPL_TRY(espl_jsonc_skip_blank(r));
    int64_t at = r->at;
    ESPL_TRY(espl_option_take(r, row, &t->scratch));
    espl_str_printf(&text, "%s.%s=", row->section, row->key);
    espl_str_put(&text, r->text + at, r->at - at);
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK) st = espl_sweep_keep(s, text.data, text.len, &a.text);
    espl_str_free(&text);
    ESPL_TRY(st);
    ESPL_TRY(espl_mem_resize(&s->assignments, s->n_assignments + 1, sizeof *s->assignments, "sweep"));
    s->assignments[s->n_assignments++] = a;
    return ESPL_OK;
}

/* "prune.target": 0.45, of the object whose assignments begin at t->first. */
static espl_status take_member(espl_jsonc *r, const char *key, int64_t at, void *ctx) {
    sweep_text *t = ctx;
    const espl_option *row = find_option(key);
    if (!row) return fail_option(r, key, at);
    for (int64_t i = t->first; i < t->s->n_assignments; i++)
        if (t->s->assignments[i].row == row) return fail_named(r, at, key, " is given twice here");
    return take_assignment(r, row, t);
}

/* ------------------------------------------------------------------- axes */

static espl_status take_text(espl_jsonc *r, const char *key, const char **out, espl_sweep *s) {
    cJSON *v;
    int64_t at;
    ESPL_TRY(espl_jsonc_skip_blank(r));
    at = r->at;
    ESPL_TRY(espl_jsonc_scalar(r, "a text in quotes", &v));
    espl_status st = cJSON_IsString(v) && *v->valuestring
                         ? espl_sweep_keep(s, v->valuestring, (int64_t)strlen(v->valuestring), out)
                         : fail_named(r, at, key, ": expected a text in quotes, not empty");
    cJSON_Delete(v);
    return st;
}

/* "wanda": {"prune.score": "wanda", ...}, or "qwen": "configs/qwen3-0.6b.json". */
static espl_status take_entry(espl_jsonc *r, const char *name, int64_t at, void *ctx) {
    sweep_text *t = ctx;
    espl_sweep *s = t->s;
    int64_t axis_first = t->first;
    for (int64_t i = axis_first; i < s->n_entries; i++)
        if (strcmp(s->entries[i].name, name) == 0) return fail_named(r, at, name, " is given twice here");
    if (!*name) return espl_jsonc_fail_with(r, at, "a name must not be empty");
    ESPL_TRY(add_entry(s, name, (int64_t)strlen(name)));
    sweep_entry *e = &s->entries[s->n_entries - 1];
    ESPL_TRY(espl_jsonc_skip_blank(r));
    if (espl_jsonc_at(r, "\"")) return take_text(r, name, &e->file, s);
    t->first = e->first;
    ESPL_TRY(
        espl_jsonc_members(r, "an object of options, { ... }, or a configuration's path in quotes", take_member, t));
    t->first = axis_first;
    e->n = s->n_assignments - e->first;
    return ESPL_OK;
}

static espl_status take_axis(espl_jsonc *r, const char *members, const char *axis, sweep_text *t) {
    int64_t at = r->at;
    t->first = t->s->n_entries;
    ESPL_TRY(espl_jsonc_members(r, "an object of names, { ... }", take_entry, t));
    if (t->s->n_entries == t->first) return fail_named(r, at, members, " is empty: leave it out, or name something");
    return add_axis(t->s, axis, false, t->first);
}

/* Adds the entry of a grid value. Its part of a run's name is "target0.45" for a number, "allocation.owl" for a word.
 */
static espl_status sweep_add_value_entry(espl_sweep *s, const sweep_assignment *a, const espl_config *scratch) {
    espl_str name = {0};
    bool number = a->row->type == ESPL_OPTION_INTEGER || a->row->type == ESPL_OPTION_REAL;
    espl_str_printf(&name, "%s%s", a->row->key, number ? "" : ".");
    espl_option_put_plain(&name, a->row, scratch);
    espl_status st = espl_str_status(&name);
    if (st == ESPL_OK) st = add_entry(s, name.data, name.len);
    espl_str_free(&name);
    return st;
}

static espl_status take_grid_value(espl_jsonc *r, const espl_option *row, sweep_text *t) {
    espl_sweep *s = t->s;
    int64_t first = s->n_assignments;
    ESPL_TRY(take_assignment(r, row, t));
    ESPL_TRY(sweep_add_value_entry(s, &s->assignments[first], &t->scratch));
    s->entries[s->n_entries - 1].first = first;
    s->entries[s->n_entries - 1].n = 1;
    return ESPL_OK;
}

/* "prune.target": [0.2, 0.45]. */
static espl_status take_grid(espl_jsonc *r, const char *key, int64_t at, void *ctx) {
    sweep_text *t = ctx;
    espl_sweep *s = t->s;
    const espl_option *row = find_option(key);
    int64_t first = s->n_entries;
    bool more = true, done;
    if (!row) return fail_option(r, key, at);
    for (int64_t i = 0; i < s->n_axes; i++)
        if (strcmp(s->axes[i].name, key) == 0) return fail_named(r, at, key, " is given twice here");
    ESPL_TRY(espl_jsonc_take(r, '[', "a list of values, [ ... ]"));
    ESPL_TRY(espl_jsonc_take_if(r, ']', &done));
    while (!done) {
        if (!more) return espl_jsonc_fail_expected(r, "a comma or ]");
        ESPL_TRY(take_grid_value(r, row, t));
        ESPL_TRY(espl_jsonc_take_if(r, ',', &more));
        ESPL_TRY(espl_jsonc_take_if(r, ']', &done));
    }
    if (s->n_entries == first) return fail_named(r, at, key, " has no value");
    return add_axis(s, key, true, first);
}

/* ------------------------------------------------------------------- file */

static espl_status take_set(espl_jsonc *r, sweep_text *t) {
    t->first = t->s->set_first = t->s->n_assignments;
    ESPL_TRY(espl_jsonc_members(r, "an object of options, { ... }", take_member, t));
    t->s->n_set = t->s->n_assignments - t->s->set_first;
    return ESPL_OK;
}

static espl_status take_file_member(espl_jsonc *r, const char *key, int64_t at, void *ctx) {
    static const char *const keys[] = {"dir", "base", "set", "models", "methods", "agents", "grid"};
    enum { DIR, BASE, SET, MODELS, METHODS, AGENTS, GRID, KEYS };
    sweep_text *t = ctx;
    int k = 0;
    while (k < KEYS && strcmp(keys[k], key) != 0) k++;
    if (k == KEYS) return fail_named(r, at, key, ": a sweep has dir, base, set, models, methods, agents and grid");
    if (t->line_of[k]) return fail_named(r, at, key, " is given twice");
    t->line_of[k] = espl_jsonc_line(r, at);
    switch (k) {
    case DIR:
        return take_text(r, key, &t->s->dir, t->s);
    case BASE:
        return take_text(r, key, &t->s->base, t->s);
    case SET:
        return take_set(r, t);
    case MODELS:
        return take_axis(r, key, "model", t);
    case METHODS:
        return take_axis(r, key, "method", t);
    case AGENTS:
        return take_axis(r, key, "agent", t);
    default:
        return espl_jsonc_members(r, "an object of options and lists, { ... }", take_grid, t);
    }
}

/* Models, methods and agents come first, in this order, whatever their order in the file. */
static int rank_of(const sweep_axis *a) {
    static const char *const names[] = {"model", "method", "agent"};
    for (int k = 0; k < 3 && !a->grid; k++)
        if (strcmp(a->name, names[k]) == 0) return k;
    return 3;
}

static void order_axes(espl_sweep *s) {
    for (int64_t i = 1; i < s->n_axes; i++)
        for (int64_t k = i; k > 0 && rank_of(&s->axes[k]) < rank_of(&s->axes[k - 1]); k--) {
            sweep_axis a = s->axes[k];
            s->axes[k] = s->axes[k - 1];
            s->axes[k - 1] = a;
        }
}

static espl_status parse(sweep_text *t, espl_jsonc *r) {
    ESPL_TRY(espl_jsonc_document(r, take_file_member, t));
    if (!t->s->dir)
        return ESPL_FAIL(ESPL_CONFIG, "%s: \"dir\" is missing: the directory that holds the runs' directories",
                         r->name);
    order_axes(t->s);
    return espl_sweep_expand(t->s);
}

espl_status espl_sweep_parse(const char *text, int64_t len, const char *name, espl_sweep **out) {
    espl_jsonc r = {.name = name, .text = text, .len = len, .lines = true};
    sweep_text t = {0};
    *out = NULL;
    ESPL_TRY(espl_config_init(&t.scratch));
    espl_status st = espl_mem_alloc(&t.s, 1, sizeof *t.s, "sweep");
    if (st == ESPL_OK) st = espl_sweep_keep(t.s, name, (int64_t)strlen(name), &t.s->path);
    if (st == ESPL_OK) st = parse(&t, &r);
    espl_config_free(&t.scratch);
    if (st != ESPL_OK) return espl_sweep_free(&t.s), st;
    *out = t.s;
    return ESPL_OK;
}

espl_status espl_sweep_read(const char *path, espl_sweep **out) {
    char *text;
    int64_t len;
    *out = NULL;
    ESPL_TRY(espl_file_read(path, FILE_MAX, &text, &len));
    espl_status st = espl_sweep_parse(text, len, strcmp(path, "-") == 0 ? "standard input" : path, out);
    espl_mem_free(&text);
    return st;
}

void espl_sweep_free(espl_sweep **s) {
    if (!*s) return;
    for (int64_t i = 0; i < (*s)->n_texts; i++) espl_mem_free(&(*s)->texts[i]);
    for (int64_t i = 0; (*s)->names && i < (*s)->n_runs; i++) espl_mem_free(&(*s)->names[i]);
    espl_mem_free(&(*s)->texts);
    espl_mem_free(&(*s)->names);
    espl_mem_free(&(*s)->choices);
    espl_mem_free(&(*s)->assignments);
    espl_mem_free(&(*s)->overrides);
    espl_mem_free(&(*s)->entries);
    espl_mem_free(&(*s)->axes);
    espl_mem_free(s);
}
