/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From axes to runs: which combinations there are, and what their directories are called. Names must not change between
 * versions of the program: a directory's name is the only link between a sweep and the runs that it has done.
 */
#include <inttypes.h>
#include <string.h>

#include "plan.h"

enum { RUN_NAME_BYTES_MAX = 200 }; /* file systems take 255 bytes, and tools append to a name */

/* ---------------------------------------------------------- combinations */

/* The entries chosen so far, and how many of them set each option. */
typedef struct sweep_walk {
    int64_t *choice; /* [axes] */
    int set_by[ESPL_OPTIONS];
} sweep_walk;

static void sweep_count_options(const espl_sweep *s, int64_t entry, sweep_walk *w, int by) {
    const sweep_entry *e = &s->entries[entry];
    for (int64_t k = e->first; k < e->first + e->n; k++) w->set_by[s->assignments[k].row - espl_option_table] += by;
}

/* Has an earlier choice already set an option that this axis would vary? */
static bool sweep_is_settled(const espl_sweep *s, const sweep_axis *a, const sweep_walk *w) {
    for (int64_t i = a->first; i < a->first + a->n; i++) {
        const sweep_entry *e = &s->entries[i];
        for (int64_t k = e->first; k < e->first + e->n; k++)
            if (w->set_by[s->assignments[k].row - espl_option_table] > 0) return true;
    }
    return false;
}

/* Adds all runs that continue the choices made for the axes before `axis`. The last axis varies fastest. The recursion
 * is as deep as there are axes: at most one per option, and three. */
static espl_status sweep_walk_axes(espl_sweep *s, sweep_walk *w, int64_t axis) {
    if (axis == s->n_axes) {
        if (s->n_runs == ESPL_SWEEP_MAX)
            return ESPL_FAIL(ESPL_CONFIG, "%s: more than %d runs", s->path, ESPL_SWEEP_MAX);
        ESPL_TRY(espl_mem_resize(&s->choices, (s->n_runs + 1) * s->n_axes + 1, sizeof *s->choices, "runs of a sweep"));
        for (int64_t a = 0; a < s->n_axes; a++) s->choices[s->n_runs * s->n_axes + a] = w->choice[a];
        s->n_runs++;
        return ESPL_OK;
    }
    const sweep_axis *a = &s->axes[axis];
    w->choice[axis] = -1;
    if (sweep_is_settled(s, a, w)) return sweep_walk_axes(s, w, axis + 1);
    for (int64_t e = a->first; e < a->first + a->n; e++) {
        w->choice[axis] = e;
        sweep_count_options(s, e, w, 1);
        ESPL_TRY(sweep_walk_axes(s, w, axis + 1));
        sweep_count_options(s, e, w, -1);
    }
    return ESPL_OK;
}

/* ----------------------------------------------------------------- names */

/* Appends text with only such characters as any shell, file system and table takes; others become underscores. */
static void sweep_put_plain(espl_str *s, const char *text) {
    for (const char *p = text; *p; p++) {
        bool word = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        bool plain = word || *p == '-' || *p == '+' || *p == '_' || (*p == '.' && s->len > 0);
        espl_str_put(s, plain ? p : "_", 1);
    }
}

espl_status espl_sweep_put_name(const espl_sweep *s, int64_t run, bool merged, espl_str *out) {
    int64_t start = out->len;
    for (int64_t a = 0; a < s->n_axes; a++) {
        const sweep_entry *e = espl_sweep_choice(s, run, a);
        if (!e) continue;
        if (out->len > start) espl_str_puts(out, "-");
        sweep_put_plain(out, merged && strcmp(s->axes[a].name, "prune.target") == 0 ? "targets" : e->name);
    }
    if (out->len == start) espl_str_puts(out, "run");
    ESPL_TRY(espl_str_status(out));
    if (out->len - start > RUN_NAME_BYTES_MAX)
        return ESPL_FAIL(ESPL_CONFIG, "%s: the name of run %" PRId64 ", %.60s..., is longer than %d bytes", s->path,
                         run + 1, out->data + start, RUN_NAME_BYTES_MAX);
    return ESPL_OK;
}

static espl_status sweep_name_run(espl_sweep *s, int64_t run) {
    espl_str name = {0};
    espl_status st = espl_sweep_put_name(s, run, false, &name);
    if (st == ESPL_OK)
        s->names[run] = name.data;
    else
        espl_str_free(&name);
    return st;
}

espl_status espl_sweep_check_names(const espl_sweep *s) {
    espl_map *seen;
    int64_t other;
    ESPL_TRY(espl_map_create(&seen, s->n_runs));
    espl_status st = ESPL_OK;
    for (int64_t i = 0; i < s->n_runs && st == ESPL_OK; i++) {
        int64_t len = (int64_t)strlen(s->names[i]);
        if (espl_map_get(seen, s->names[i], len, &other))
            st = ESPL_FAIL(ESPL_CONFIG, "%s: runs %" PRId64 " and %" PRId64 " would both be called %s", s->path,
                           other + 1, i + 1, s->names[i]);
        else
            st = espl_map_put(seen, s->names[i], len, i);
    }
    espl_map_destroy(&seen);
    return st;
}

espl_status espl_sweep_expand(espl_sweep *s) {
    sweep_walk w = {0};
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&w.choice, s->n_axes, sizeof *w.choice, "runs of a sweep"));
    ESPL_CHECK(st, done, sweep_walk_axes(s, &w, 0));
    ESPL_CHECK(st, done, espl_mem_alloc(&s->names, s->n_runs, sizeof *s->names, "names of a sweep's runs"));
    for (int64_t i = 0; i < s->n_runs; i++) ESPL_CHECK(st, done, sweep_name_run(s, i));
    st = espl_sweep_check_names(s);
done:
    espl_mem_free(&w.choice);
    return st;
}
