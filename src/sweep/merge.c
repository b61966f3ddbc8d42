/* SPDX-License-Identifier: Apache-2.0 */
/*
 * "merge_targets": runs that differ in prune.target alone become one, to the highest target, with the others as its
 * milestones: masks only grow, so that one trajectory passes them all. Only where a run may have milestones: a one-shot
 * method prunes once for each target.
 */
#include <stdlib.h>
#include <string.h>

#include "plan.h"

/* The axis of a grid that varies prune.target, -1 if there is none. */
static int64_t merge_axis(const espl_sweep *s) {
    for (int64_t a = 0; a < s->n_axes; a++)
        if (s->axes[a].grid && strcmp(s->axes[a].name, "prune.target") == 0) return a;
    return -1;
}

/* Do two runs choose the same of every axis but this one, and both something of this one? */
static bool merge_same(const espl_sweep *s, int64_t x, int64_t y, int64_t axis) {
    const int64_t *a = s->choices + x * s->n_axes, *b = s->choices + y * s->n_axes;
    for (int64_t k = 0; k < s->n_axes; k++)
        if (k == axis ? a[k] < 0 || b[k] < 0 : a[k] != b[k]) return false;
    return true;
}

/* *target: of a run; *may: it could have milestones. ESPL_CONFIG: it has some already. */
static espl_status merge_look(const espl_sweep *s, int64_t run, double *target, bool *may) {
    espl_config o;
    ESPL_TRY(espl_config_init(&o));
    espl_status st = espl_sweep_config(s, run, &o);
    *target = o.prune_target;
    *may = !espl_config_refuses_milestones(&o);
    if (st == ESPL_OK && *may && *o.prune_milestones)
        st = ESPL_FAIL(ESPL_CONFIG,
                       "%s: \"merge_targets\" makes milestones of targets, so that %s cannot have its own "
                       "prune.milestones",
                       s->path, s->names[run]);
    espl_config_free(&o);
    return st;
}

static int merge_rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The runs of one trajectory. */
typedef struct merge_group {
    int64_t highest; /* the run with the highest target */
    double *targets; /* [n], owned */
    int64_t n;
} merge_group;

/* All runs from `first` on that go with it; each is marked in `gone` but the one with the highest target. */
static espl_status merge_collect(const espl_sweep *s, int64_t first, int64_t axis, bool *gone, merge_group *g) {
    double highest = 0, target;
    bool may;
    *g = (merge_group){.highest = first};
    ESPL_TRY(merge_look(s, first, &target, &may));
    if (!may) return ESPL_OK;
    for (int64_t i = first; i < s->n_runs; i++) {
        if (gone[i] || !merge_same(s, first, i, axis)) continue;
        ESPL_TRY(merge_look(s, i, &target, &may));
        ESPL_TRY(espl_mem_resize(&g->targets, g->n + 1, sizeof *g->targets, "targets of a sweep"));
        if (g->n == 0 || target > highest) {
            highest = target;
            g->highest = i;
        }
        g->targets[g->n++] = target;
        gone[i] = true;
    }
    gone[g->highest] = false;
    if (g->n > 0) qsort(g->targets, (size_t)g->n, sizeof *g->targets, merge_rising);
    return ESPL_OK;
}

/* Makes the run with the highest target the one of the group: its name and its milestones. */
static espl_status merge_make(espl_sweep *s, const merge_group *g) {
    espl_str list = {0}, name = {0};
    espl_status st;
    espl_str_puts(&list, "prune.milestones=[");
    for (int64_t i = 0; i + 1 < g->n; i++) {
        if (i > 0) espl_str_puts(&list, ", ");
        espl_str_put_shortest(&list, g->targets[i]);
    }
    espl_str_puts(&list, "]");
    ESPL_CHECK(st, done, espl_str_status(&list));
    ESPL_CHECK(st, done, espl_sweep_put_name(s, g->highest, true, &name));
    espl_mem_free(&s->names[g->highest]);
    s->names[g->highest] = name.data;
    name = (espl_str){0};
    s->milestones[g->highest] = list.data;
    list = (espl_str){0};
done:
    espl_str_free(&list);
    espl_str_free(&name);
    return st;
}

/* Removes the runs that are gone; the others keep their order. */
static void merge_compact(espl_sweep *s, const bool *gone) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s->n_runs; i++) {
        if (gone[i]) {
            espl_mem_free(&s->names[i]);
            continue;
        }
        memmove(s->choices + kept * s->n_axes, s->choices + i * s->n_axes, (size_t)s->n_axes * sizeof *s->choices);
        s->names[kept] = s->names[i];
        s->milestones[kept++] = s->milestones[i];
    }
    for (int64_t i = kept; i < s->n_runs; i++) {
        s->names[i] = NULL;
        s->milestones[i] = NULL;
    }
    s->n_runs = kept;
}

espl_status espl_sweep_merge(espl_sweep *s) {
    int64_t axis = merge_axis(s);
    bool *gone = NULL;
    espl_status st;
    if (!s->merge_targets || axis < 0 || s->milestones) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&s->milestones, s->n_runs, sizeof *s->milestones, "milestones of a sweep"));
    ESPL_CHECK(st, done, espl_mem_alloc(&gone, s->n_runs, sizeof *gone, "runs of a sweep"));
    for (int64_t i = 0; i < s->n_runs; i++) {
        merge_group g = {0};
        if (gone[i] || s->milestones[i]) continue;
        st = merge_collect(s, i, axis, gone, &g);
        if (st == ESPL_OK && g.n > 1) st = merge_make(s, &g);
        espl_mem_free(&g.targets);
        if (st != ESPL_OK) goto done;
    }
    merge_compact(s, gone);
    st = espl_sweep_check_names(s);
done:
    espl_mem_free(&gone);
    return st;
}
