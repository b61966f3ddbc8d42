/* What taking the least important weights of every row away adds up to. */
#include "internal.h"

#include <stdlib.h>

enum { ROWS = 128 }; /* as many rows speak for a linear */

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Squared scores of row r, ascending, into `row`; their partial sums, as far as each level goes, into curve. */
static void row_curve(const espl_linear *l, const float *norm, int64_t r, float *row, int64_t levels, double *curve) {
    double sum = 0;
    espl_linear_widen(l, r, 0, l->in, row);
    for (int64_t c = 0; c < l->in; c++) row[c] = row[c] * norm[c] * (row[c] * norm[c]);
    qsort(row, (size_t)l->in, sizeof *row, by_value);
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
    if (l->in > (int64_t)TILE_T * TILE_OUT)
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
