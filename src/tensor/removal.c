/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The removal curve: what pruning the lowest weights of every row adds up to. A row is sorted and its partial sums are
 * taken at each level. Each row is computed by one thread and rows are added in order: the same bits on any number of
 * threads.
 */
#include "espalier/tensor/statistics.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "scratch.h"
#include "widen.h"

/* Rows that are sampled of a larger linear: the curve feeds an estimate whose other errors are larger. */
enum { ROWS = 128 };

typedef uint32_t __attribute__((may_alias)) float_bits;

/* One pass of a radix sort, by the byte at `shift`. */
static void sort_by_byte(const float_bits *from, float_bits *to, int64_t n, int shift) {
    int64_t at[257] = {0};
    for (int64_t i = 0; i < n; i++) at[(from[i] >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++) at[b + 1] += at[b];
    for (int64_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
}

/* curve [levels]: partial sums of the sorted squared scores of row r. row: scratch of 2 * in floats. */
static void row_curve(const espl_linear *l, const float *norm, int64_t r, float *row, int64_t levels, double *curve) {
    float_bits *bits = (float_bits *)(void *)row, *spare = bits + l->in;
    double sum = 0;
    espl_linear_widen(l, r, 0, l->in, row);
    for (int64_t c = 0; c < l->in; c++) row[c] = row[c] * norm[c] * (row[c] * norm[c]);
    for (int shift = 0; shift < 32; shift += 16) { /* floats >= 0 order as their bits do */
        sort_by_byte(bits, spare, l->in, shift);
        sort_by_byte(spare, bits, l->in, shift + 8);
    }
    for (int64_t k = 0, c = 0; k < levels; k++) {
        for (; c < (k + 1) * l->in / levels; c++) sum += (double)row[c];
        curve[k] = sum;
    }
}

espl_status espl_tensor_removal_curve(const espl_linear *l, const float *norm, const double *importance, int64_t levels,
                                      double *curve, espl_workspace *ws) {
    int64_t rows = espl_min_i64(l->out, ROWS);
    espl_linear dense = *l;
    double *curves, all = 0, seen = 0;
    dense.mask = NULL;
    if (2 * l->in > TILE_FLOATS)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "a linear of %" PRId64 " inputs is too wide for its removal curve, at most %d", l->in,
                         TILE_FLOATS / 2);
    ESPL_TRY(espl_mem_alloc(&curves, rows * levels, sizeof *curves, "removal curves"));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        row_curve(&dense, norm, i * l->out / rows, espl_workspace_mine(ws).tile, levels, curves + i * levels);
    for (int64_t k = 0; k < levels; k++) curve[k] = 0;
    for (int64_t i = 0; i < rows; i++) {
        double weight = importance[i * l->out / rows];
        seen += weight;
        for (int64_t k = 0; k < levels; k++) curve[k] += weight * curves[i * levels + k];
    }
    /* Sampled rows stand for all of them in proportion to their importance. */
    for (int64_t r = 0; r < l->out; r++) all += importance[r];
    for (int64_t k = 0; k < levels && seen > 0; k++) curve[k] *= all / seen;
    espl_mem_free(&curves);
    return ESPL_OK;
}
