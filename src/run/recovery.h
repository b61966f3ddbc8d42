/* SPDX-License-Identifier: Apache-2.0 */
/* New weights for the survivors inside a job: updates by linear, distillation, and when. */
#ifndef ESPL_RUN_RECOVERY_H
#define ESPL_RUN_RECOVERY_H

#include "state.h"

/* Collective. Measures what the dense model predicts, if the run distills. The model is dense afterwards. */
espl_status espl_recovery_prepare(espl_job *j);

/* Collective. Updates the surviving weights after a step that left `pruned` weights pruned, as prune.update and
 * prune.update_when say (j->update tells what came of it), then trains them: distill.passes over the calibration once
 * the target is reached, else distill.steps. The weights can be rolled back with the step. */
espl_status espl_recovery_run(espl_job *j, int64_t iteration, int64_t pruned);

#endif
