/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of events.jsonl (docs/run.md). Rank 0 only; on other ranks the functions do nothing. ESPL_IO. */
#ifndef ESPL_RUN_EVENTS_H
#define ESPL_RUN_EVENTS_H

#include "state.h"

espl_status espl_event_start(espl_job *j, bool resumed);
/* The profile that the next decision is based on. */
espl_status espl_event_profile(espl_job *j);
/* A plan that the agent had measured before it decided. */
espl_status espl_event_experiment(espl_job *j, const espl_outcome *o);
espl_status espl_event_outcome(espl_job *j, const espl_outcome *o, double seconds);
/* The exponents that were tried for score curvature, the loss with each, and j->curvature_power, the chosen one. */
espl_status espl_event_curvature_power(espl_job *j, const double *powers, const double *losses, int64_t n);
/* A line with a text: why the run ended. */
espl_status espl_event_text(espl_job *j, const char *type, const char *text);

#endif
