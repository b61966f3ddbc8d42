/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a sweep's file (docs/sweep.md): JSON with comments, every value checked against the option that it sets. */
#include <cjson/cJSON.h>
#include <string.h>

#include "plan.h"

enum { SWEEP_FILE_BYTES_MAX = 1 << 20 };

/* X(name, key): the members of a sweep's file. */
#define SWEEP_MEMBER_LIST(X)                                                                                           \
    X(DIR, "dir")                                                                                                      \
    X(BASE, "base")                                                                                                    \
    X(SET, "set")                                                                                                      \
    X(MODELS, "models")                                                                                                \
    X(METHODS, "methods")                                                                                              \
    X(AGENTS, "agents")                                                                                                \
    X(GRID, "grid")                                                                                                    \
    X(MERGE_TARGETS, "merge_targets")
enum {
#define X(name, key) MEMBER_##name,
    SWEEP_MEMBER_LIST(X)
#undef X
        MEMBERS
};

/* A sweep being read. */
typedef struct sweep_file {
    espl_sweep *s;
    espl_config scratch; /* values are tried on it */
    int64_t first;       /* first assignment, or first entry, of the object being read: names are unique within it */
    bool given[MEMBERS];
} sweep_file;

/* ---------------------------------------------------------------- errors */

/* Fails with a foreign name, quoted for a terminal, and a text. */
static espl_status sweep_fail_named(const espl_jsonc *r, int64_t at, const char *name, const char *text) {
    espl_str s = {0};
    espl_jsonc_put_quoted(&s, name, (int64_t)strlen(name));
    espl_str_puts(&s, text);
    return espl_jsonc_fail(r, at, &s);
}

/* ----------------------------------------------------------- assignments */

/* The option that "section.key" names; NULL with *st on failure. run.dir is refused: every run has a directory of its
 * own. */
static const espl_option *sweep_find_option(const espl_jsonc *r, const char *name, int64_t at, espl_status *st) {
    char section[64];
    const char *dot = strchr(name, '.');
    const espl_option *row = NULL;
    snprintf(section, sizeof section, "%.*s", dot ? (int)(dot - name) : 0, name);
    if (dot) row = espl_option_find(section, dot + 1);
    *st = ESPL_OK;
    if (!dot) {
        espl_str s = {0};
        espl_jsonc_put_quoted(&s, name, (int64_t)strlen(name));
        espl_str_puts(&s, ": expected an option, such as prune.target; ");
        espl_option_put_suggestion(&s, name, "");
        *st = espl_jsonc_fail(r, at, &s);
    } else if (!row)
        *st = espl_option_fail_unknown(r, at, section, dot + 1);
    else if (row == &espl_option_table[ESPL_OPTION_OF_run_dir])
        *st = espl_jsonc_fail_with(r, at, "run.dir: every run has a directory of its own, in the sweep's \"dir\"");
    return *st == ESPL_OK ? row : NULL;
}

/* Tries the value at r->at and keeps it as an assignment. */
static espl_status sweep_take_assignment(espl_jsonc *r, const espl_option *row, sweep_file *f) {
    espl_str text = {0};
    ESPL_TRY(espl_jsonc_skip_blank(r));
    int64_t at = r->at;
    ESPL_TRY(espl_option_take(r, row, &f->scratch));
    espl_str_printf(&text, "%s.%s=", row->section, row->key);
    espl_str_put(&text, r->text + at, r->at - at);
    espl_status st = espl_str_status(&text);
    if (st == ESPL_OK) st = espl_sweep_add_assignment(f->s, row, text.data, text.len);
    espl_str_free(&text);
    return st;
}

/* A member "prune.target": 0.45 of the object whose assignments begin at f->first. */
static espl_status sweep_take_option(espl_jsonc *r, const char *key, int64_t at, void *context) {
    sweep_file *f = context;
    espl_status st;
    const espl_option *row = sweep_find_option(r, key, at, &st);
    if (!row) return st;
    for (int64_t i = f->first; i < f->s->n_assignments; i++)
        if (f->s->assignments[i].row == row) return sweep_fail_named(r, at, key, " is given twice here");
    return sweep_take_assignment(r, row, f);
}

/* ------------------------------------------------------------------ axes */

static espl_status sweep_take_text(espl_jsonc *r, const char *key, const char **out, espl_sweep *s) {
    cJSON *v;
    ESPL_TRY(espl_jsonc_skip_blank(r));
    int64_t at = r->at;
    ESPL_TRY(espl_jsonc_scalar(r, "a text in quotes", &v));
    espl_status st = cJSON_IsString(v) && *v->valuestring
                         ? espl_sweep_keep_text(s, v->valuestring, (int64_t)strlen(v->valuestring), out)
                         : sweep_fail_named(r, at, key, ": expected a text in quotes, not empty");
    cJSON_Delete(v);
    return st;
}

/* A member "wanda": {"prune.score": "wanda", ...}, or "qwen": "configs/qwen3-0.6b.json". */
static espl_status sweep_take_entry(espl_jsonc *r, const char *name, int64_t at, void *context) {
    sweep_file *f = context;
    espl_sweep *s = f->s;
    int64_t axis_first = f->first;
    for (int64_t i = axis_first; i < s->n_entries; i++)
        if (strcmp(s->entries[i].name, name) == 0) return sweep_fail_named(r, at, name, " is given twice here");
    if (!*name) return espl_jsonc_fail_with(r, at, "a name must not be empty");
    ESPL_TRY(espl_sweep_add_entry(s, name, (int64_t)strlen(name)));
    sweep_entry *e = &s->entries[s->n_entries - 1];
    ESPL_TRY(espl_jsonc_skip_blank(r));
    if (espl_jsonc_at(r, "\"")) return sweep_take_text(r, name, &e->file, s);
    f->first = e->first;
    ESPL_TRY(espl_jsonc_members(r, "an object of options, { ... }, or the path of a configuration in quotes",
                                sweep_take_option, f));
    f->first = axis_first;
    e->n = s->n_assignments - e->first;
    return ESPL_OK;
}

static espl_status sweep_take_flag(espl_jsonc *r, const char *key, bool *out) {
    cJSON *v;
    ESPL_TRY(espl_jsonc_skip_blank(r));
    int64_t at = r->at;
    ESPL_TRY(espl_jsonc_scalar(r, "true or false", &v));
    espl_status st = cJSON_IsBool(v) ? ESPL_OK : sweep_fail_named(r, at, key, ": expected true or false");
    *out = cJSON_IsTrue(v);
    cJSON_Delete(v);
    return st;
}

static espl_status sweep_take_axis(espl_jsonc *r, const char *key, const char *axis, sweep_file *f) {
    int64_t at = r->at;
    f->first = f->s->n_entries;
    ESPL_TRY(espl_jsonc_members(r, "an object of names, { ... }", sweep_take_entry, f));
    if (f->s->n_entries == f->first) return sweep_fail_named(r, at, key, " is empty: leave it out, or add an entry");
    return espl_sweep_add_axis(f->s, axis, false, f->first);
}

/* Adds the entry of a grid value. Its part of a run's name is "target0.45" for a number, "allocation.owl" for a word.
 */
static espl_status sweep_take_grid_value(espl_jsonc *r, const espl_option *row, sweep_file *f) {
    espl_sweep *s = f->s;
    espl_str name = {0};
    int64_t first = s->n_assignments;
    bool number = row->type == ESPL_OPTION_INTEGER || row->type == ESPL_OPTION_REAL;
    ESPL_TRY(sweep_take_assignment(r, row, f));
    espl_str_printf(&name, "%s%s", row->key, number ? "" : ".");
    espl_option_put_plain(&name, row, &f->scratch);
    espl_status st = espl_str_status(&name);
    if (st == ESPL_OK) st = espl_sweep_add_entry(s, name.data, name.len);
    espl_str_free(&name);
    ESPL_TRY(st);
    s->entries[s->n_entries - 1].first = first;
    s->entries[s->n_entries - 1].n = 1;
    return ESPL_OK;
}

/* A member "prune.target": [0.2, 0.45] of the grid: an axis of its own. */
static espl_status sweep_take_grid_axis(espl_jsonc *r, const char *key, int64_t at, void *context) {
    sweep_file *f = context;
    espl_sweep *s = f->s;
    espl_status st;
    const espl_option *row = sweep_find_option(r, key, at, &st);
    int64_t first = s->n_entries;
    bool more = true, done;
    if (!row) return st;
    for (int64_t i = 0; i < s->n_axes; i++)
        if (strcmp(s->axes[i].name, key) == 0) return sweep_fail_named(r, at, key, " is given twice here");
    ESPL_TRY(espl_jsonc_take(r, '[', "a list of values, [ ... ]"));
    ESPL_TRY(espl_jsonc_take_if(r, ']', &done));
    while (!done) {
        if (!more) return espl_jsonc_fail_expected(r, "a comma or ]");
        ESPL_TRY(sweep_take_grid_value(r, row, f));
        ESPL_TRY(espl_jsonc_take_if(r, ',', &more));
        ESPL_TRY(espl_jsonc_take_if(r, ']', &done));
    }
    if (s->n_entries == first) return sweep_fail_named(r, at, key, " has no value");
    return espl_sweep_add_axis(s, key, true, first);
}

/* ------------------------------------------------------------------ file */

static espl_status sweep_take_member(espl_jsonc *r, const char *key, int64_t at, void *context) {
    static const char *const keys[MEMBERS] = {
#define X(name, text) text,
        SWEEP_MEMBER_LIST(X)
#undef X
    };
    sweep_file *f = context;
    espl_sweep *s = f->s;
    int k = 0;
    while (k < MEMBERS && strcmp(keys[k], key) != 0) k++;
    if (k == MEMBERS)
        return sweep_fail_named(r, at, key,
                                ": a sweep has dir, base, set, models, methods, agents, grid and merge_targets");
    if (f->given[k]) return sweep_fail_named(r, at, key, " is given twice");
    f->given[k] = true;
    switch (k) {
    case MEMBER_DIR:
        return sweep_take_text(r, key, &s->dir, s);
    case MEMBER_BASE:
        return sweep_take_text(r, key, &s->base, s);
    case MEMBER_SET:
        f->first = s->set_first = s->n_assignments;
        ESPL_TRY(espl_jsonc_members(r, "an object of options, { ... }", sweep_take_option, f));
        s->n_set = s->n_assignments - s->set_first;
        return ESPL_OK;
    case MEMBER_MODELS:
        return sweep_take_axis(r, key, "model", f);
    case MEMBER_METHODS:
        return sweep_take_axis(r, key, "method", f);
    case MEMBER_MERGE_TARGETS:
        return sweep_take_flag(r, key, &s->merge_targets);
    case MEMBER_AGENTS:
        return sweep_take_axis(r, key, "agent", f);
    default:
        return espl_jsonc_members(r, "an object of options and lists, { ... }", sweep_take_grid_axis, f);
    }
}

/* Models, methods and agents come first, in this order, whatever their order in the file. */
static int sweep_axis_rank(const sweep_axis *a) {
    static const char *const names[] = {"model", "method", "agent"};
    int rank = 0;
    while (rank < 3 && (a->grid || strcmp(a->name, names[rank]) != 0)) rank++;
    return rank;
}

/* A stable insertion sort: grid axes keep the file's order. */
static void sweep_order_axes(espl_sweep *s) {
    for (int64_t i = 1; i < s->n_axes; i++)
        for (int64_t k = i; k > 0 && sweep_axis_rank(&s->axes[k]) < sweep_axis_rank(&s->axes[k - 1]); k--) {
            sweep_axis a = s->axes[k];
            s->axes[k] = s->axes[k - 1];
            s->axes[k - 1] = a;
        }
}

espl_status espl_sweep_parse(const char *text, int64_t len, const char *name, espl_sweep **out) {
    espl_jsonc r = {.name = name, .text = text, .len = len, .lines = true};
    sweep_file f = {0};
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_config_init(&f.scratch));
    ESPL_CHECK(st, done, espl_mem_alloc(&f.s, 1, sizeof *f.s, "sweep"));
    ESPL_CHECK(st, done, espl_sweep_keep_text(f.s, name, (int64_t)strlen(name), &f.s->path));
    ESPL_CHECK(st, done, espl_jsonc_document(&r, sweep_take_member, &f));
    if (!f.s->dir) {
        st = ESPL_FAIL(ESPL_CONFIG, "%s: \"dir\" is missing: the directory that holds the runs' directories", name);
        goto done;
    }
    sweep_order_axes(f.s);
    st = espl_sweep_expand(f.s);
done:
    espl_config_free(&f.scratch);
    if (st == ESPL_OK)
        *out = f.s;
    else
        espl_sweep_free(&f.s);
    return st;
}

espl_status espl_sweep_read(const char *path, espl_sweep **out) {
    char *text;
    int64_t len;
    *out = NULL;
    ESPL_TRY(espl_file_read(path, SWEEP_FILE_BYTES_MAX, &text, &len));
    espl_status st = espl_sweep_parse(text, len, strcmp(path, "-") == 0 ? "standard input" : path, out);
    espl_mem_free(&text);
    return st;
}
