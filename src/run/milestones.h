/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prune.milestones: sparsities on the way to the target at which the model is measured as the report measures it, and
 * exported if run.export_milestones asks for it. The agent is asked for one after the other, as for a target: it plans
 * for it, and meets it to the weight. So the model at the first milestone is that of a run to it, and the model at a
 * later one that of the run to the milestone before, resumed with a higher target.
 *
 * What was measured is part of a checkpoint: it is measured once, however often the run is interrupted.
 */
#ifndef ESPL_RUN_MILESTONES_H
#define ESPL_RUN_MILESTONES_H

#include "state.h"

/* Local. Reads the list of the configuration; job.c makes its sparsities those of all linears. Free with
 * espl_milestones_free. ESPL_NOMEM. */
espl_status espl_milestones_read(espl_job *j);
void espl_milestones_free(espl_job *j);

/* Local. What the agent is asked for: the next one, or the target when none is left, as a sparsity of all linears. */
double espl_milestones_goal(const espl_job *j);
/* Local. Appends the name of the directory of a milestone's export: "model-0.3". */
void espl_milestones_put_directory(const espl_job *j, int64_t milestone, espl_str *name);

/* Collective. Measures the accepted state, if it has reached the next milestone or several at once, as a source with
 * many zeros may. Errors of espl_quality_report and espl_model_export. */
espl_status espl_milestones_measure(espl_job *j);

/* Local. Appends what was measured so far as a JSON list, for checkpoint and summary; rank 0 has it. */
void espl_milestones_put(const espl_job *j, espl_str *out);
/* Local. Takes such a list back from a checkpoint, and counts the milestones that the restored state has passed.
 * `text` is empty on other ranks than 0. ESPL_FORMAT naming `path`; ESPL_NOMEM. */
espl_status espl_milestones_restore(espl_job *j, const espl_str *text, const char *path);

#endif
