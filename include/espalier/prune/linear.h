/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning one linear by a score. A cleared mask bit is a pruned weight (tensor/mask.h). All functions are Local.
 */
#ifndef ESPALIER_PRUNE_LINEAR_H
#define ESPALIER_PRUNE_LINEAR_H

#include "espalier/prune/choices.h"
#include "espalier/tensor/linear.h"

/* A score and the statistics that it needs. Borrowed. */
typedef struct espl_scoring {
    espl_score score;
    const float *norm; /* [in] ||X_j||_2; NULL for scores without activations */
    const float
        *gradient; /* [out, in], >= 0: the score is |W| * (norm + gradient); NULL for scores without gradients */
    const float
        *rows; /* [out] curvature: factor of each row, of espl_tensor_row_factors (tensor/statistics.h); else NULL */
} espl_scoring;

/* Prunes weights of a linear: clears bits of `mask` [out, words], which holds the linear's mask so far (l->mask is
 * ignored). The surviving weights with the lowest scores go first; NaN goes last. Scores are computed in f32; RIA's
 * sums are over the weights that survive.
 *
 *   Row    `count` more weights. Brings all rows to the same number of pruned weights; if it does not divide, the first
 *          rows lose one more. Rows that have already lost more stay as they are. Among equal scores the lower column
 *          goes.
 *   Layer  the `count` lowest scores of the linear; among equals the lower row, then the lower column.
 *   N:M    every group of m inputs keeps its n highest, or fewer that survive; among equals the lower column goes.
 *          `count` is ignored.
 *
 * The same bits for any number of threads. ESPL_USAGE: `count` is negative or more than survive, or a statistic is
 * missing; ESPL_UNSUPPORTED: more inputs than the keys of a row fit the workspace's scratch (262144). The mask is
 * unchanged after a failure. */
espl_status espl_prune_linear(const espl_linear *l, const espl_scoring *s, const espl_pattern *p, int64_t count,
                              uint64_t *mask, espl_workspace *ws);

/* Counts the keys of a linear's scores as espl_select_count does, for a selection over several linears. Weights that
 * `mask` prunes have the highest key. counts [ESPL_SELECT_BINS], written. Errors as espl_prune_linear. */
espl_status espl_prune_count_keys(const espl_linear *l, const espl_scoring *s, const uint64_t *mask, int32_t upper,
                                  int64_t *counts, espl_workspace *ws);

/* Bytes that espl_prune_linear allocates for a linear [out, in], with the current number of threads. */
int64_t espl_prune_linear_bytes(espl_score score, const espl_pattern *p, int64_t out, int64_t in);

/* Weights that a dense linear [out, in] loses under an N:M pattern. */
int64_t espl_prune_pattern_count(const espl_pattern *p, int64_t out, int64_t in);

#endif
