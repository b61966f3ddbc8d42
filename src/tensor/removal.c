/* What taking the least important weights of every row away adds up to. */
#include "internal.h"

enum { ROWS = 128 }; /* as many rows speak for a linear */

typedef uint32_t __attribute__((may_alias)) float_bits;

/* One pass of a radix sort, by the byte at `shift`. */
static void sort_by_byte(const float_bits *from, float_bits *to, int64_t n, int shift) {
    int64_t at[257] = {0};
    for (int64_t i = 0; i < n; i++) at[(from[i] >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++) at[b + 1] += at[b];
    for (int64_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
}

/* Ascending; of floats >= 0 the bits order as they do. spare [n]. */
static void sort_row(float *row, int64_t n, float *spare) {
    float_bits *a = (float_bits *)(void *)row, *b = (float_bits *)(void *)spare;
    for (int shift = 0; shift < 32; shift += 16) {
        sort_by_byte(a, b, n, shift);
        sort_by_byte(b, a, n, shift + 8);
    }
}

/* Squared scores of row r, ascending, into `row`; their partial sums, as far as each level goes, into curve. */
static void row_curve(const espl_linear *l, const float *norm, int64_t r, float *row, int64_t levels, double *curve) {
    double sum = 0;
    espl_linear_widen(l, r, 0, l->in, row);
    for (int64_t c = 0; c < l->in; c++) row[c] = row[c] * norm[c] * (row[c] * norm[c]);
    sort_row(row, l->in, row + l->in);
    for (int64_t k = 0, c = 0; k < levels; k++) {
        for (; c < (k + 1) * l->in / levels; c++) sum += (double)row[c];
        curve[k] = sum;
    }
}

/* Rows in their order, so that the sum is the same on any number of threads. */
static void sum_rows(const espl_linear *l, const double *importance, const double *curves, int64_t rows, int64_t levels,
                     double *curve) {
    double all = 0, seen = 0;
    for (int64_t r = 0; r < l->out; r++) all += importance[r];
    for (int64_t k = 0; k < levels; k++) curve[k] = 0;
    for (int64_t i = 0; i < rows; i++) {
        double weight = importance[i * l->out / rows];
        seen += weight;
        for (int64_t k = 0; k < levels; k++) curve[k] += weight * curves[i * levels + k];
    }
    for (int64_t k = 0; k < levels && seen > 0; k++) curve[k] *= all / seen;
}

espl_status espl_tensor_removal_curve(const espl_linear *l, const float *norm, const double *importance, int64_t levels,
                                      double *curve, espl_workspace *ws) {
    int64_t rows = l->out < ROWS ? l->out : ROWS;
    espl_linear dense = *l;
    double *curves;
    dense.mask = NULL;
    if (2 * l->in > (int64_t)TILE_T * TILE_OUT)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "a linear of %lld inputs is too wide for its removal curve",
                         (long long)l->in);
    ESPL_TRY(espl_mem_alloc(&curves, rows * levels, sizeof *curves, "removal curves"));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        row_curve(&dense, norm, i * l->out / rows, espl_workspace_mine(ws).tile, levels, curves + i * levels);
    sum_rows(l, importance, curves, rows, levels, curve);
    espl_mem_free(&curves);
    return ESPL_OK;
}
