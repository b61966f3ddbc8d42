/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pruning a linear by a score takes away, by sparsity. All functions are Local.
 */
#ifndef ESPALIER_PRUNE_REMOVAL_H
#define ESPALIER_PRUNE_REMOVAL_H

#include "espalier/prune/linear.h"

/* curves [n, levels]: curves[i][k] = sum of importance[i][r] * (W_rc norm_c)^2 over the weights that are gone once the
 * dense linear (its mask is ignored) has been pruned by the score to sparsity (k + 1) / levels: the lowest (k + 1) in /
 * levels of each row (ESPL_GROUP_ROW), or the lowest (k + 1) out in / levels of the linear (ESPL_GROUP_LAYER). norm
 * [in] >= 0; importance [n] of [out] >= 0, n <= ESPL_REMOVAL_CURVES_MAX. All rows are read. Of a whole linear, scores
 * are sorted into bins 1.6 % wide, inside which damage is taken as proportional to the number of weights. The same bits
 * on any number of threads. ESPL_UNSUPPORTED, ESPL_NOMEM. */
enum { ESPL_REMOVAL_CURVES_MAX = 2 };
espl_status espl_prune_removal_curves(const espl_linear *l, const espl_scoring *by, espl_group group, const float *norm,
                                      const double *const *importance, int n, int64_t levels, double *curves,
                                      espl_workspace *ws);

#endif
