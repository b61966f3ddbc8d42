/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of activations, and of weights scored by them. All functions are Local and use OpenMP inside. [T, C] means
 * T rows (tokens) of C features.
 */
#ifndef ESPALIER_TENSOR_STATISTICS_H
#define ESPALIER_TENSOR_STATISTICS_H

#include "espalier/base/status.h"
#include "espalier/tensor/linear.h"

/* sums[c] += sum over t of x[t][c]^2, token after token in double. x [T, C], sums [C]. */
void espl_tensor_square_sums(const float *x, int64_t T, int64_t C, double *sums);
/* The same of C columns of a matrix whose rows are ld floats apart. */
void espl_tensor_column_square_sums(const float *x, int64_t ld, int64_t T, int64_t C, double *sums);

/* gram [C, C] += x^T x, the lower triangle (columns up to the row's number) only. x [T, C]. */
void espl_tensor_gram(const float *x, int64_t T, int64_t C, float *gram);

/* cross [C, C] += y^T x, all of it. x, y [T, C]. */
void espl_tensor_cross_gram(const float *y, const float *x, int64_t T, int64_t C, float *cross);

/* *out = the k-th smallest (from 0), k = floor(fraction * (n - 1)), of the scores |W| * norm (float) over the n
 * surviving weights; NAN if no weight survives. Exact, and without a copy of the scores. norm [in], >= 0; fraction in
 * [0, 1]. ESPL_NOMEM. */
espl_status espl_tensor_score_quantile(const espl_linear *l, const float *norm, double fraction, double *out,
                                       espl_workspace *ws);

/* The row factors of score curvature: rows[i] = (unit * squares[i])^(power / 2), in f64 and rounded once. squares
 * [out]: sums of squared gradients of a linear's outputs (espalier/model/calibration.h); unit makes them mean squares.
 * With |W|
 * * norm * rows the order is that of W^2 E[x^2] E[g^2]^power. power 0: 1 for every row, dead ones too. */
void espl_tensor_row_factors(const double *squares, int64_t out, double unit, double power, float *rows);

#endif
