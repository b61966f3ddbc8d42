/* SPDX-License-Identifier: Apache-2.0 */
/* What makes two runs the same run: model, texts and questions, by hash. */
#ifndef ESPL_RUN_IDENTITY_H
#define ESPL_RUN_IDENTITY_H

#include "state.h"

/* Collective. Fills j->identity on rank 0. The model must still have its own weights. */
espl_status espl_identity_compute(espl_job *j);
/* Rank 0 only. Compares with the identity and the configuration that are stored in the checkpoint at `path`,
 * and takes j->curvature_power from there.
 * ESPL_CONFIG naming what differs: another model, other inputs, another method. Other changed options are named in the
 * log. */
espl_status espl_identity_check(espl_job *j, const char *path, const espl_checkpoint *stored);

#endif
