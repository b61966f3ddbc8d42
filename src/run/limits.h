/* SPDX-License-Identifier: Apache-2.0 */
/* Which linears may be pruned, and how far: prune.targets, prune.ignore and prune.caps. All functions are Local. */
#ifndef ESPL_RUN_LIMITS_H
#define ESPL_RUN_LIMITS_H

#include "state.h"

/* Does the configuration limit single linears at all? */
bool espl_limits_are_set(const espl_config *o);
/* Fills caps [linears of a model of `layers` layers] with the largest sparsity of each linear: 0 for those that
 * prune.ignore names or prune.targets does not; else that of the last pattern of prune.caps that matches, or prune.cap.
 * ESPL_CONFIG naming key and pattern: it matches no linear, or its cap is no number from 0 to 1; no linear is left. */
espl_status espl_limits_read(const espl_config *o, espl_layout layout, double *caps);

#endif
