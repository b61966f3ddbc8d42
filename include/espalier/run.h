/* SPDX-License-Identifier: Apache-2.0 */
/*
 * run: the pruning job: profile, ask, prune, judge, roll back or checkpoint; signals and deadlines, the run directory.
 * docs/run.md describes it for users.
 */
#ifndef ESPALIER_RUN_H
#define ESPALIER_RUN_H

#include "espalier/comm.h"
#include "espalier/config/config.h"

/* -------------------------------------------------------------------- job */

/* Collective. Runs (or, with `resume`, continues) the job. ESPL_STOPPED (75): stopped early, can be resumed. */
espl_status espl_run_prune(espl_comm *c, const espl_config *o, bool resume);

/* Collective. Prints on rank 0 what the job would take: layer-to-rank map, bytes per rank, time per iteration. ranks: 0
 * for the number that is running. */
espl_status espl_run_dry(espl_comm *c, const espl_config *o, int64_t ranks);

/* Local. summary.json is written last and whole: one that does not read was damaged later, and says nothing. */
bool espl_run_summary_reads(const char *path);

/* Local. Catches USR1 and TERM, and remembers them. */
void espl_stop_watch(void);
/* Local. Has this rank been told to stop? */
bool espl_stop_signalled(void);

#endif
