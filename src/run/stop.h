/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping a job early: signals, a stop file, a time limit. espl_stop_watch and espl_stop_signalled are in
 * espalier/run/stop.h. */
#ifndef ESPL_RUN_STOP_H
#define ESPL_RUN_STOP_H

#include "espalier/run/stop.h"
#include "state.h"

typedef enum espl_stop_point {
    ESPL_STOP_BETWEEN_PHASES,
    ESPL_STOP_BEFORE_STEP /* a whole step would follow: it must also fit into the time limit */
} espl_stop_point;

/* Collective. ESPL_STOPPED on every rank if one of them got a signal, the stop file is there, or the time limit does
 * not allow another step. ESPL_IO: the run directory is no longer this run's, or
 * the files of the model have changed. */
espl_status espl_stop_check(espl_job *j, espl_stop_point point);

/* Local. From now on a signal to any rank of `all` that waits for others reaches rank 0, where it counts as one of its
 * own; NULL: no longer, before `all` ends. */
void espl_stop_watch_waits(espl_comm *all);

/* Rank 0 only. Would espl_stop_check stop here? For waits of unknown length, which poll it as often as they like. */
bool espl_stop_is_due(espl_job *j);

#endif
