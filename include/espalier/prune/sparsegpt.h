/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SparseGPT (Frantar & Alistarh 2301.00774) on one linear: prunes and updates the surviving weights. All functions are
 * Local; results are the same bits for any number of threads.
 */
#ifndef ESPALIER_PRUNE_SPARSEGPT_H
#define ESPALIER_PRUNE_SPARSEGPT_H

#include "espalier/loop/pattern.h"
#include "espalier/tensor/linear.h"

/* From the lower triangle of hessian [n, n] = sum of x x^T over all tokens (overwritten) to factor [n, n], the upper
 * triangular U with U^T U = (scale * H + damping * mean(diag) I)^-1; its strictly lower triangle is not written. dead
 * [n]: features that are 0 in every token; their diagonal counts as 1. Computed in f64. ESPL_FAILED: not positive
 * definite. */
espl_status espl_prune_factor(double *hessian, int64_t n, double scale, double damping, float *factor, bool *dead);
/* Bytes that it allocates, with the current number of threads. */
int64_t espl_prune_factor_bytes(int64_t n);
/* Its FLOPs: n^3 / 3 for the Cholesky factorization and as many for the triangular inverse. */
double espl_prune_factor_flops(int64_t n);

enum { ESPL_SPARSEGPT_BLOCK_MAX = 1024 }; /* columns: the errors of a tile of rows must fit the workspace's scratch */

typedef struct espl_sparsegpt_options {
    const float *factor;  /* [in, in], of espl_prune_factor; borrowed */
    const bool *dead;     /* [in], of espl_prune_factor; borrowed */
    const float *rows;    /* [out] weights of rows that compete (score curvature), or NULL: all 1; borrowed */
    bool given;           /* the mask is given, and the weights to start from: rows, pattern and count are not read */
    espl_pattern pattern; /* Row, layer: which weights of a block of columns compete */
    int64_t count;        /* weights to prune; ignored for N:M */
    int64_t block;        /* columns per block, 1 .. ESPL_SPARSEGPT_BLOCK_MAX; for N:M a multiple of M */
} espl_sparsegpt_options;

/* Prunes exactly `count` weights of a dense linear (N:M: those of the pattern), columns from left to right, and
 * compensates for each with the weights to its right. weight [out, in] f32 is written, 0 where pruned; `mask` [out,
 * words], all set before, is cleared there. Weights compete by w^2 / U_jj^2, times
 * the square of their row's weight: within all rows of a block (layer), within
 * each row of a block (row), or within M columns with the weights as updated so far (N:M). *loss: sum of (w / U_jj)^2 /
 * 2 over the pruned weights. ESPL_USAGE: an invalid count or block.
 *
 * With `given`, weight [out, in] holds the weights to start from, and the weights that `mask` prunes go: the optimal
 * brain surgeon for a mask that others chose. The mask stays as it is. Weights of dead features keep their values. */
espl_status espl_prune_sparsegpt(const espl_linear *l, const espl_sparsegpt_options *o, uint64_t *mask, float *weight,
                                 double *loss, espl_workspace *ws);
/* Bytes that it allocates for a linear [out, in]. */
int64_t espl_prune_sparsegpt_bytes(int64_t out, int64_t in, int64_t block);
/* Its FLOPs: each of `count` pruned weights updates the rest of its block, (block - 1) / 2 weights on average, by 2
 * FLOPs; each block updates all weights to its right by a product over all its columns, whatever the sparsity. */
double espl_prune_sparsegpt_flops(int64_t out, int64_t in, int64_t block, int64_t count);

#endif
