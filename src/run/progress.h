/* SPDX-License-Identifier: Apache-2.0 */
/* Progress for people, on standard error. Local; rank 0 prints. */
#ifndef ESPL_RUN_PROGRESS_H
#define ESPL_RUN_PROGRESS_H

#include "state.h"

/* The dense model, or the restored state, is measured. */
void espl_progress_start(espl_job *j, bool resumed);
/* A plan that the agent had measured; it is taken back already. */
void espl_progress_experiment(const espl_job *j, const espl_outcome *o);
/* A step is judged, and j holds the accepted state. ESPL_NOMEM. */
espl_status espl_progress_outcome(espl_job *j, const espl_outcome *o, double seconds);

#endif
