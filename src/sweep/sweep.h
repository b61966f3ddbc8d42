/* Private to the room: a sweep as read and expanded. */
#ifndef ESPL_SWEEP_SWEEP_H
#define ESPL_SWEEP_SWEEP_H

#include "espalier/config/table.h"
#include "espalier/sweep.h"

/* "prune.target=0.45", known to fit. */
typedef struct sweep_assignment {
    const espl_option *row;
    const char *text; /* as of --set */
} sweep_assignment;

/* One of the things an axis offers. */
typedef struct sweep_entry {
    const char *name; /* its part of a run's name */
    const char *file; /* configuration that is read over the base; NULL: none */
    int64_t first, n; /* assignments */
} sweep_entry;

typedef struct sweep_axis {
    const char *name; /* "model", "method", "agent", or the option of a grid, "prune.target" */
    bool grid;
    int64_t first, n; /* entries */
} sweep_axis;

struct espl_sweep {
    const char *path, *dir, *base; /* base: NULL or a configuration */
    sweep_assignment *assignments;
    int64_t n_assignments;
    int64_t set_first, n_set; /* those of "set" */
    sweep_assignment *overrides;
    int64_t n_overrides; /* those of --set */
    sweep_entry *entries;
    int64_t n_entries;
    sweep_axis *axes; /* models, methods, agents, then the grid in the file's order */
    int64_t n_axes;
    int64_t n_runs;
    int64_t *choices; /* [runs, axes] entry of each axis, -1: not varied */
    char **names;     /* [runs], owned */
    char **texts;     /* every other text, owned */
    int64_t n_texts;
};

/* Local. A copy of text[0..len), owned by the sweep. */
espl_status espl_sweep_keep(espl_sweep *s, const char *text, int64_t len, const char **out);
/* Local. Runs and names from axes and entries. */
espl_status espl_sweep_expand(espl_sweep *s);
/* Local. The entry that run i takes of an axis; NULL: that axis is not varied. */
const sweep_entry *espl_sweep_choice(const espl_sweep *s, int64_t i, int64_t axis);
/* Local. dir/name/file of run i, appended; file "" for the directory. */
espl_status espl_sweep_path(const espl_sweep *s, int64_t i, const char *file, espl_str *out);

/* Local. What happened to the run, kept as sweep.json in its directory beside what makes it this run: "under way",
 * "stopped", "finished" or "failed" with the reason. ESPL_IO. */
espl_status espl_sweep_mark(const espl_sweep *s, int64_t i, const char *state, const char *message);

#endif
