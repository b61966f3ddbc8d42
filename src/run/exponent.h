/* SPDX-License-Identifier: Apache-2.0 */
/* The exponent of score curvature: prune.curvature_power, or measured at the start of a run. */
#ifndef ESPL_RUN_EXPONENT_H
#define ESPL_RUN_EXPONENT_H

#include "state.h"

/* Collective. Fills j->curvature_power, unless a checkpoint has: with prune.score "curvature" and prune.curvature_power
 * below 0 by trying exponents on the validation windows, which events.jsonl records; else from the configuration. The
 * masks must be dense. */
espl_status espl_exponent_choose(espl_job *j);

#endif
