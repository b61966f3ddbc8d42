/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sensitivity profile that the agent reads: one espl_profile_row per linear of the model, from the statistics of
 * calibration (arXiv 2601.09694: P = {z(s), z(g), rho}).
 */
#ifndef ESPALIER_SENSITIVITY_H
#define ESPALIER_SENSITIVITY_H

#include "espalier/loop/loop.h"
#include "espalier/model/calibration.h"
#include "espalier/model/model.h"

/* s is this quantile of |W| * ||X||_2 over surviving weights (espl_tensor_score_quantile). */
#define ESPL_SENSITIVITY_QUANTILE 0.10

/* power of espl_sensitivity_profile: damage of pruning within rows by |W| * ||X||. */
#define ESPL_SENSITIVITY_BY_ROW (-1.0)

/* Collective. The profile of the model as it is masked now, from a calibration of it: rows [layers * ESPL_LINEAR_KINDS]
 * on every rank, in the order of espl_linear_index. s is NAN without forward windows, g without samples, both where no
 * weight survives; damage needs windows and samples. ESPL_NOMEM, ESPL_UNSUPPORTED.
 *
 * damage is the diagonal Gauss-Newton estimate of the loss (LeCun et al. 1989, Optimal Brain Damage, with the empirical
 * Fisher information of a linear's output and input taken as independent, as in K-FAC, Martens & Grosse 2015):
 *     1/2 sum over the removed weights of W_oj^2 E[x_j^2] E[(dl/dy_o)^2],  l the loss of a token.
 * This is Wanda's score squared, each output row weighted by its gradient. Ours, not the paper's. Which weights are
 * removed: with power ESPL_SENSITIVITY_BY_ROW those of each row with the lowest |W_oj| * ||X_j||, else those of the
 * whole linear with the lowest score curvature of this exponent. */
espl_status espl_sensitivity_profile(espl_comm *comm, const espl_model *m, const espl_calibration *c, double power,
                                     espl_profile_row *rows);

/* Local. z_s and z_g of n rows: z = (x - mean) / (std + 1e-12) over the rows whose x is finite, population standard
 * deviation, in double and row order; NAN where x is not finite. */
void espl_sensitivity_standardise(espl_profile_row *rows, int64_t n);

#endif
