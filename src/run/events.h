/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of events.jsonl (docs/run.md). Rank 0 only; on other ranks the functions do nothing. ESPL_IO. */
#ifndef ESPL_RUN_EVENTS_H
#define ESPL_RUN_EVENTS_H

#include "state.h"

/* Opens j->events, cut to j->iteration. Outcomes that are missing in the file, which may have been damaged, are written
 * again from j->history. */
espl_status espl_events_open(espl_job *j, const char *path);
/* Seals events.jsonl and dialogue.jsonl (base/journal.h), and flushes them to disk. */
espl_status espl_events_seal(espl_job *j);

espl_status espl_event_start(espl_job *j, bool resumed);
/* The profile that the next decision is based on. */
espl_status espl_event_profile(espl_job *j);
/* A plan that the agent had measured before it decided. */
espl_status espl_event_experiment(espl_job *j, const espl_outcome *o);
espl_status espl_event_outcome(espl_job *j, const espl_outcome *o, double seconds);
/* Local. Appends the members of an outcome that a checkpoint remembers: "accepted", sparsities, measures, decision. */
espl_status espl_event_put_outcome(espl_json_writer *w, const espl_job *j, const espl_outcome *o);
/* The exponents that were tried for score curvature, the loss with each, and j->curvature_power, the chosen one. */
espl_status espl_event_curvature_power(espl_job *j, const double *powers, const double *losses, int64_t n);
/* A line with a text: why the run ended. */
espl_status espl_event_text(espl_job *j, const char *type, const char *text);

#endif
