/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep: a grid of runs (docs/sweep.md).
 */
#ifndef ESPALIER_SWEEP_H
#define ESPALIER_SWEEP_H

#include "espalier/comm.h"
#include "espalier/config/config.h"

/* ------------------------------------------------------------------ sweep
 *
 * A grid of runs, each with a number (from 0 here, from 1 for users), a name and a directory of that name:
 * docs/sweep.md. How far they are stands in their directories alone. */
typedef struct espl_sweep espl_sweep;

enum { ESPL_SWEEP_MAX = 10000 }; /* runs at most */

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

/* Local. Reads a sweep ("-": standard input) and expands it. ESPL_IO; ESPL_CONFIG naming file, line and what was
 * expected. Owned by the caller. */
espl_status espl_sweep_read(const char *path, espl_sweep **out);
espl_status espl_sweep_parse(const char *text, int64_t len, const char *name, espl_sweep **out);
void espl_sweep_free(espl_sweep **s);
/* Local. "section.key=value" for every run, over all else. ESPL_CONFIG, also for an option that the sweep varies. */
espl_status espl_sweep_set(espl_sweep *s, const char *assignment);

int64_t espl_sweep_count(const espl_sweep *s);                 /* Local */
const char *espl_sweep_name(const espl_sweep *s, int64_t run); /* Local. Borrowed. */
/* Local. The configuration of a run over what *o holds, which are the defaults. ESPL_IO, ESPL_CONFIG. */
espl_status espl_sweep_config(const espl_sweep *s, int64_t run, espl_config *o);
/* Local. Every run's configuration is possible (espl_config_check). The error names the run. */
espl_status espl_sweep_check(const espl_sweep *s);

/* Local. How far a run is, and, appended, what there is to say about it. */
espl_status espl_sweep_state_of(const espl_sweep *s, int64_t run, espl_sweep_state *state, espl_str *note);
/* Local. One line per run, and totals, appended. */
espl_status espl_sweep_list(const espl_sweep *s, espl_str *out);
/* Local. The users' numbers of the runs that are still to be done, as Slurm's --array takes them, "1-4,7"; "" if there
 * are none. Appended. */
espl_status espl_sweep_unfinished(const espl_sweep *s, espl_str *out);

/* Collective. Does what is still to be done, one run after another, those that failed before at last, or only run
 * `only` (below 0: all). s: on rank 0, elsewhere NULL. A run that fails goes on record in its directory, and the others
 * go on: ESPL_FAILED at the end. ESPL_STOPPED; ESPL_CONFIG: a directory holds another run. run.max_minutes counts from
 * here. */
espl_status espl_sweep_run(espl_comm *c, const espl_sweep *s, int64_t only);

#endif
