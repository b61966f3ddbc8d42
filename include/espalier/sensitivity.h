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
#include "espalier/prune/choices.h"

/* s is this quantile of |W| * ||X||_2 over surviving weights (espl_tensor_score_quantile). */
#define ESPL_SENSITIVITY_QUANTILE 0.10

/* How weights will be pruned: damage is that of the weights that then go. */
typedef struct espl_sensitivity_removal {
    espl_score score; /* magnitude, wanda, ria or curvature: the scores of steps */
    espl_group group; /* row or layer */
    double power;     /* exponent of score curvature */
} espl_sensitivity_removal;

/* Collective. The profile of the model as it is masked now, from a calibration of it: rows [linears] on
 * every rank, in the order of espl_linear_index. s is NAN without forward windows, g without samples, both where no
 * weight survives; damage needs windows and samples; k, z_k and damage_k need the calibration's knowledge too.
 * ESPL_NOMEM, ESPL_UNSUPPORTED.
 *
 * damage is the diagonal Gauss-Newton estimate of the loss (LeCun et al. 1989, Optimal Brain Damage, with the empirical
 * Fisher information of a linear's output and input taken as independent, as in K-FAC, Martens & Grosse 2015):
 *     1/2 sum over the removed weights of W_oj^2 E[x_j^2] E[(dl/dy_o)^2],  l the loss of a token.
 * This is Wanda's score squared, each output row weighted by its gradient. Ours, not the paper's. damage_k is the same
 * with l the loss of an answer token. E[x_j^2] is the text's in both. */
espl_status espl_sensitivity_profile(espl_comm *comm, const espl_model *m, const espl_calibration *c,
                                     const espl_sensitivity_removal *by, espl_profile_row *rows);

/* Local. z_s, z_g, z_topic and z_k of n rows: z = (x - mean) / (std + 1e-12) over the rows whose x is finite,
 * population standard deviation, in double and row order; NAN where x is not finite. The x of z_k is the mean of
 * z_topic by espl_topic_weights over the topics of which any row has a finite k. */
void espl_sensitivity_standardise(espl_profile_row *rows, int64_t n);

#endif
