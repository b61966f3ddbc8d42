/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LSA's error of a linear (BeiYazi0/LSA): how fast its output deteriorates when weights are pruned greedily.
 *
 * score_j = w_j^2 H_jj is what the pruning of w_j adds to the error. The weight of lowest score goes first; every other
 * score_i of the row then grows by 2 w_i w_j H_ij. Half of each group of GROUP inputs goes, group after group from the
 * left, and a group's scores include all changes from the groups before it. Within a group the scores are updated at
 * once; those to its right are updated by one product per group.
 */
#include "espalier/prune/lsa.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "internal.h"

#include <cblas.h>
#include <string.h>

/* GROUP is LSA's. A tile of ROWS rows is computed by one thread, CHUNK columns to the right of a group at a time. */
enum { GROUP = 128, ROWS = 64, CHUNK = 2048 };
_Static_assert((ROWS * CHUNK + ROWS * GROUP) * 4 <= ESPL_WORKSPACE_SCRATCH, "a tile's changes fit the scratch");

/* Prunes half of the n weights of one row from column c0 on, given their scores. Adds to *error; pruned [n] receives
 * the pruned weights, 0 elsewhere. */
static void lsa_prune_group(const espl_linear *l, const float *hessian, int64_t r, int64_t c0, int64_t n, float *score,
                            double *error, float *pruned) {
    float w[GROUP];
    bool gone[GROUP] = {false};
    espl_prune_widen(l, r, c0, n, w);
    memset(pruned, 0, (size_t)n * sizeof *pruned);
    for (int64_t k = 0; k < n / 2; k++) {
        int64_t min = -1;
        for (int64_t c = 0; c < n; c++)
            if (!gone[c] && (min < 0 || score[c] < score[min])) min = c;
        const float *h = hessian + (c0 + min) * l->in + c0;
        float twice = 2 * w[min];
        *error += (double)score[min];
        pruned[min] = w[min];
        gone[min] = true;
        for (int64_t c = 0; c < n; c++) score[c] += w[c] * twice * h[c];
    }
}

/* For the columns c to the right of a group of n columns at c0: score_c += 2 w_c * sum over the group of pruned_i H_ic.
 * pruned [rows, n]; score [rows, in] of rows r0 on; change is scratch [rows, CHUNK]. */
static void lsa_update_right(const espl_linear *l, const float *hessian, int64_t r0, int64_t rows, int64_t c0,
                             int64_t n, const float *pruned, float *score, float *change) {
    for (int64_t c = c0 + n; c < l->in; c += CHUNK) {
        int64_t width = espl_min_i64(CHUNK, l->in - c);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)width, (int)n, 2.0f, pruned, (int)n,
                    hessian + c0 * l->in + c, (int)l->in, 0.0f, change, (int)width);
        for (int64_t r = 0; r < rows; r++) {
            float w[CHUNK], *s = score + r * l->in + c;
            espl_prune_widen(l, r0 + r, c, width, w);
            for (int64_t i = 0; i < width; i++) s[i] += w[i] * change[r * width + i];
        }
    }
}

int64_t espl_prune_lsa_bytes(int64_t out, int64_t in) {
    return out * (in * (int64_t)sizeof(float) + (int64_t)sizeof(double));
}

double espl_prune_lsa_flops(int64_t out, int64_t in) {
    double flops = 0;
    for (int64_t c0 = 0; c0 < in; c0 += GROUP) {
        double n = (double)espl_min_i64(GROUP, in - c0), right = (double)(in - c0) - n;
        flops += (double)out * (n * n + 2 * n * right);
    }
    return flops;
}

espl_status espl_prune_lsa_error(const espl_linear *l, const float *hessian, double *error, espl_workspace *ws) {
    int64_t in = l->in, out = l->out;
    float *score = NULL;       /* [out, in] */
    double *row_errors = NULL; /* [out], added in row order: the same sum for any number of threads */
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&score, out, (size_t)in * sizeof *score, "greedy scores"));
    ESPL_CHECK(st, done, espl_mem_alloc(&row_errors, out, sizeof *row_errors, "greedy errors"));
    /* Rows are independent. A tile of rows goes through all groups at once, so that the products have enough rows. */
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t r0 = 0; r0 < out; r0 += ROWS) {
        int64_t rows = espl_min_i64(ROWS, out - r0);
        float *pruned = espl_workspace_scratch(ws), *change = pruned + ROWS * GROUP, *s = score + r0 * in;
        for (int64_t r = 0; r < rows; r++) {
            espl_prune_widen(l, r0 + r, 0, in, s + r * in);
            for (int64_t c = 0; c < in; c++) s[r * in + c] = s[r * in + c] * s[r * in + c] * hessian[c * in + c];
        }
        for (int64_t c0 = 0; c0 < in; c0 += GROUP) {
            int64_t n = espl_min_i64(GROUP, in - c0);
            for (int64_t r = 0; r < rows; r++)
                lsa_prune_group(l, hessian, r0 + r, c0, n, s + r * in + c0, &row_errors[r0 + r], pruned + r * n);
            lsa_update_right(l, hessian, r0, rows, c0, n, pruned, s, change);
        }
    }
    *error = 0;
    for (int64_t r = 0; r < out; r++) *error += row_errors[r];
done:
    espl_mem_free(&score);
    espl_mem_free(&row_errors);
    return st;
}
