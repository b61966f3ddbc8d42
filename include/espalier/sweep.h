/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep: a grid of runs, each with a number (from 0 here, from 1 for users), a name, and a directory of that name
 * (docs/sweep.md). Progress is stored only in the run directories.
 */
#ifndef ESPALIER_SWEEP_H
#define ESPALIER_SWEEP_H

#include "espalier/comm.h"
#include "espalier/config/config.h"

typedef struct espl_sweep espl_sweep;

enum { ESPL_SWEEP_MAX = 10000 }; /* maximum number of runs */

/* X(name, text) */
#define ESPL_SWEEP_STATE_LIST(X)                                                                                       \
    X(FINISHED, "finished")                                                                                            \
    X(RESUMABLE, "resumable") /* has a checkpoint, or is under way */                                                  \
    X(FAILED, "failed")                                                                                                \
    X(DIFFERS, "differs") /* the directory holds a run with another configuration */                                   \
    X(NEW, "new")
typedef enum espl_sweep_state {
#define X(name, text) ESPL_SWEEP_##name,
    ESPL_SWEEP_STATE_LIST(X)
#undef X
        ESPL_SWEEP_STATES
} espl_sweep_state;
/* "resumable". Static storage. */
const char *espl_sweep_state_name(espl_sweep_state state);

/* --------------------------------------------------------------- reading */

/* Local. Reads a sweep file ("-": standard input) and expands it into runs. ESPL_IO; ESPL_CONFIG naming file, line and
 * what was expected. Owned by the caller: espl_sweep_free. */
espl_status espl_sweep_read(const char *path, espl_sweep **out);
/* Local. The same for text[0..len), called `name` in messages. */
espl_status espl_sweep_parse(const char *text, int64_t len, const char *name, espl_sweep **out);
void espl_sweep_free(espl_sweep **s);
/* Local. Applies "section.key=value" to every run, over everything else. ESPL_CONFIG, also for an option that the sweep
 * varies. */
espl_status espl_sweep_set(espl_sweep *s, const char *assignment);

/* Local. If the sweep's file asks for "merge_targets", makes one run of those that differ in prune.target alone, where
 * they may have milestones. Call it after espl_sweep_set, before the runs are numbered. ESPL_CONFIG, ESPL_IO. */
espl_status espl_sweep_merge(espl_sweep *s);

/* Local. Number of runs, and the name of one (borrowed). */
int64_t espl_sweep_count(const espl_sweep *s);
const char *espl_sweep_name(const espl_sweep *s, int64_t run);
/* Local. Applies the configuration of a run to *o, which holds the defaults. ESPL_IO, ESPL_CONFIG. */
espl_status espl_sweep_config(const espl_sweep *s, int64_t run, espl_config *o);
/* Local. Checks the configuration of every run (espl_config_check). The error names the run. */
espl_status espl_sweep_check(const espl_sweep *s);

/* -------------------------------------------------------------- progress */

/* Local. The state of a run; appends a reason or a remark to *note if there is one. */
espl_status espl_sweep_state_of(const espl_sweep *s, int64_t run, espl_sweep_state *state, espl_str *note);
/* Local. Appends one line per run, and totals. */
espl_status espl_sweep_list(const espl_sweep *s, espl_str *out);
/* Local. Appends the users' numbers of unfinished runs as Slurm's --array takes them, "1-4,7"; nothing if there are
 * none. */
espl_status espl_sweep_unfinished(const espl_sweep *s, espl_str *out);

/* --------------------------------------------------------------- running */

/* Collective. Executes the unfinished runs one after another, previously failed runs last, or only the run `only`
 * (below 0: all). s: on rank 0, elsewhere NULL. A failed run is recorded in its directory, the others continue, and the
 * result is ESPL_FAILED. ESPL_STOPPED: stopped early; ESPL_CONFIG: a directory holds another run. run.max_minutes
 * counts from this call. */
espl_status espl_sweep_run(espl_comm *c, const espl_sweep *s, int64_t only);

#endif
