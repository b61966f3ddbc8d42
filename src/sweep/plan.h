/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the sweep room: a sweep as read from its file, and the runs that it expands to.
 *
 * A sweep has axes: models, methods, agents, and one per grid option. An axis has entries, an entry has assignments of
 * options. A run chooses one entry of each axis. An axis whose options are all settled by an earlier choice is not
 * varied for that run: a method that sets its own target, for example, is not repeated for every target of the grid.
 */
#ifndef ESPL_SWEEP_PLAN_H
#define ESPL_SWEEP_PLAN_H

#include "espalier/config/table.h"
#include "espalier/sweep.h"

/* "prune.target=0.45", which was checked against its row. */
typedef struct sweep_assignment {
    const espl_option *row;
    const char *text; /* as for --set */
} sweep_assignment;

typedef struct sweep_entry {
    const char *name; /* its part of a run's name */
    const char *file; /* configuration that is read over the base; NULL: none */
    int64_t first, n; /* its assignments */
} sweep_entry;

typedef struct sweep_axis {
    const char *name; /* "model", "method", "agent", or the option of a grid, "prune.target" */
    bool grid;
    int64_t first, n; /* its entries */
} sweep_axis;

struct espl_sweep {
    const char *path, *dir, *base; /* base: a configuration, or NULL */
    sweep_assignment *assignments; /* of all entries and of "set" */
    int64_t n_assignments;
    int64_t set_first, n_set; /* those of "set" */
    sweep_assignment *overrides;
    int64_t n_overrides; /* of --set */
    sweep_entry *entries;
    int64_t n_entries;
    sweep_axis *axes; /* models, methods, agents, then the grid in the file's order */
    int64_t n_axes;
    bool merge_targets; /* runs that differ in prune.target alone become one with milestones (merge.c) */
    int64_t n_runs;
    int64_t *choices;  /* [runs, axes] entry of each axis, -1: not varied */
    char **names;      /* [runs], owned */
    char **milestones; /* [runs] "prune.milestones=[...]" of a merged run, owned; NULL: not merged. NULL: none is */
    char **texts;      /* all other texts, owned */
    int64_t n_texts;
};

/* Local. Copies text[0..len); the sweep owns the copy. ESPL_NOMEM. */
espl_status espl_sweep_keep_text(espl_sweep *s, const char *text, int64_t len, const char **out);
/* Local. Appends an assignment, an entry without assignments so far, an axis of the entries from first_entry on. */
espl_status espl_sweep_add_assignment(espl_sweep *s, const espl_option *row, const char *text, int64_t len);
espl_status espl_sweep_add_entry(espl_sweep *s, const char *name, int64_t len);
espl_status espl_sweep_add_axis(espl_sweep *s, const char *name, bool grid, int64_t first_entry);

/* Local. Appends the name of a run. merged: what stands for its target is "targets". */
espl_status espl_sweep_put_name(const espl_sweep *s, int64_t run, bool merged, espl_str *out);
/* Local. ESPL_CONFIG: two runs of one name. */
espl_status espl_sweep_check_names(const espl_sweep *s);
/* Local. The entry that a run chooses of an axis; NULL: the axis is not varied for it. */
const sweep_entry *espl_sweep_choice(const espl_sweep *s, int64_t run, int64_t axis);
/* Local. Appends DIR/NAME/file; file "": the run's directory. */
espl_status espl_sweep_path(const espl_sweep *s, int64_t run, const char *file, espl_str *out);

/* Local. expand.c: makes runs and names from axes and entries. ESPL_CONFIG: too many runs, or two of one name. */
espl_status espl_sweep_expand(espl_sweep *s);

/* What happened to a run last. X(name, text in sweep.json) */
#define SWEEP_MARK_LIST(X)                                                                                             \
    X(UNDER_WAY, "under way")                                                                                          \
    X(STOPPED, "stopped")                                                                                              \
    X(FINISHED, "finished")                                                                                            \
    X(FAILED, "failed")
typedef enum sweep_mark {
#define X(name, text) SWEEP_MARK_##name,
    SWEEP_MARK_LIST(X)
#undef X
} sweep_mark;
/* Local. state.c: writes sweep.json into the run's directory: what makes it this run, and what happened to it.
 * `message` says why; for UNDER_WAY the place of this process is written instead. ESPL_IO. */
espl_status espl_sweep_write_mark(const espl_sweep *s, int64_t run, sweep_mark mark, const char *message);

#endif
