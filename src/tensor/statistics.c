/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Statistics of activations, and a quantile of scored weights. Sums run over the tokens in order, in tiles of columns
 * that the shape alone decides.
 */
#include "espalier/tensor/statistics.h"

#include <cblas.h>
#include <inttypes.h>
#include <math.h>

#include "espalier/tensor/select.h"
#include "tiles.h"
#include "widen.h"

void espl_tensor_square_sums(const float *x, int64_t T, int64_t C, double *sums) {
    espl_tensor_column_square_sums(x, C, T, C, sums);
}

void espl_tensor_column_square_sums(const float *x, int64_t ld, int64_t T, int64_t C, double *sums) {
    enum { COLUMNS = 64 }; /* of one thread at a time: 512 bytes of sums stay in L1 */
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        int64_t n = espl_min_i64(COLUMNS, C - c0);
        for (int64_t t = 0; t < T; t++) {
            const float *row = x + t * ld + c0;
            for (int64_t c = 0; c < n; c++) sums[c0 + c] += (double)row[c] * (double)row[c];
        }
    }
}

enum { TILE_MAX = 384, TILE_MIN = 96, TILES_ENOUGH = 8 }; /* of products of features with features */

void espl_tensor_gram(const float *x, int64_t T, int64_t C, float *gram) {
    tile_grid g = tile_cut(C, C, TILE_MAX, TILE_MIN, TILES_ENOUGH);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        tile at = tile_at(&g, index);
        float *to = gram + at.r0 * C + at.c0;
        if (at.c0 >= at.r0 + at.rn) continue; /* above the diagonal */
        if (at.r0 == at.c0 && at.rn == at.cn)
            cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (int)at.rn, (int)T, 1.0f, x + at.r0, (int)C, 1.0f, to,
                        (int)C);
        else
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)at.rn, (int)at.cn, (int)T, 1.0f, x + at.r0,
                        (int)C, x + at.c0, (int)C, 1.0f, to, (int)C);
    }
}

void espl_tensor_cross_gram(const float *y, const float *x, int64_t T, int64_t C, float *cross) {
    tile_grid g = tile_cut(C, C, TILE_MAX, TILE_MIN, TILES_ENOUGH);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        tile at = tile_at(&g, index);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)at.rn, (int)at.cn, (int)T, 1.0f, y + at.r0, (int)C,
                    x + at.c0, (int)C, 1.0f, cross + at.r0 * C + at.c0, (int)C);
    }
}

/* ---------------------------------------------------------------- quantile */

typedef struct score_rows {
    espl_linear dense; /* the linear without its mask, which the keys take from `mask` */
    const uint64_t *mask;
    const float *norm;
} score_rows;

/* Keys of |W| * norm of row r. */
static const int32_t *score_row(const void *context, int64_t r, int32_t *keys) {
    enum { PIECE = 512 }; /* columns that stay in L1 */
    const score_rows *s = context;
    int64_t in = s->dense.in;
    float w[PIECE];
    for (int64_t c0 = 0; c0 < in; c0 += PIECE) {
        int64_t n = espl_min_i64(PIECE, in - c0);
        espl_linear_widen(&s->dense, r, c0, n, w);
        for (int64_t c = 0; c < n; c++) w[c] = fabsf(w[c]) * s->norm[c0 + c];
        espl_select_keys(w, n, keys + c0);
    }
    if (s->mask) espl_select_mark_pruned(s->mask + r * espl_mask_words(in), in, keys);
    return keys;
}

espl_status espl_tensor_score_quantile(const espl_linear *l, const float *norm, double fraction, double *out,
                                       espl_workspace *ws) {
    score_rows s = {.dense = *l, .mask = l->mask, .norm = norm};
    espl_select_matrix m = {.rows = l->out, .columns = l->in, .row = score_row, .context = &s};
    int64_t n = espl_linear_survivors(l), below;
    s.dense.mask = NULL;
    *out = NAN;
    if (l->in > ESPL_SELECT_COLUMNS_MAX)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "a linear of %" PRId64 " inputs is too wide for a quantile, at most %d",
                         l->in, ESPL_SELECT_COLUMNS_MAX);
    if (n == 0) return ESPL_OK;
    /* Pruned weights have the highest key: ranks below n are those of survivors. */
    *out = (double)espl_select_score(espl_select_rank(&m, (int64_t)floor(fraction * (double)(n - 1)), &below, ws));
    return ESPL_OK;
}

/* --------------------------------------------------------------- row factors */

/* The root of the published W^2 E[x^2] E[g^2]^p: the same order, and no underflow of small squares in f32. */
void espl_tensor_row_factors(const double *squares, int64_t out, double unit, double power, float *rows) {
    for (int64_t r = 0; r < out; r++) rows[r] = (float)pow(unit * squares[r], power / 2);
}
