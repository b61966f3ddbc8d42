/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forward pass of linear layers.
 *
 * Weights stay in their source dtype. A thread widens (and masks) a panel of them to f32 and multiplies it at once by
 * single-threaded sgemm, while the panel is in cache: a widened copy of a model would take twice the memory of its BF16
 * source and would be read from memory all the same.
 *
 * With few tokens a linear takes as long as reading its weights. Dot products then beat sgemm, which would copy the
 * panel once more to pack it.
 *
 * The cut is by shape alone (tiles.h), and the inputs of a tile are added panel after panel in order. So the bits do
 * not depend on the number of threads, nor on the rank that holds the layer. They do depend on the number of tokens.
 */
#include "espalier/tensor/linear.h"

#include <cblas.h>

#include "linear_tile.h"
#include "pack.h"
#include "widen.h"

/* Up to FEW_TOKENS tokens dot products are faster (measured); a task then computes GEMV_OUTPUTS outputs. */
enum { FEW_TOKENS = 6, GEMV_OUTPUTS = 16 };
_Static_assert((int)LINEAR_COLUMNS <= (int)TILE_OUT && 2 * (int)LINEAR_ROWS <= (int)TILE_T,
               "a unit's operands fit the panel");

/* Inputs k0 .. k0 + kn - 1 of a tile, from a panel of widened weights. */
static void tile_f32(const espl_linear *l, const float *x, const tile *at, int64_t step, int64_t k0, int64_t kn,
                     float *y, int64_t ldy, bool add, float *panel) {
    for (int64_t r = 0; r < at->cn; r++) espl_linear_widen(l, at->c0 + r, k0, kn, panel + r * kn);
    for (int64_t t = 0; t < at->rn; t += step)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)espl_min_i64(step, at->rn - t), (int)at->cn, (int)kn,
                    1.0f, x + (at->r0 + t) * l->in + k0, (int)l->in, panel, (int)kn, add ? 1.0f : 0.0f, y + t * ldy,
                    (int)ldy);
}

/* The same from bf16 panels of both. */
static void tile_bf16(const espl_linear *l, const float *x, const tile *at, int64_t step, int64_t k0, int64_t kn,
                      float *y, int64_t ldy, bool add, const scratch *mine) {
    bf16_shape s = {.n = at->cn, .k = bf16_padded(kn), .ldc = ldy, .b_transposed = true, .add = add};
    uint16_t *left = scratch_left(mine), *right = scratch_right(mine);
    s.lda = s.ldb = s.k;
    espl_pack_rows(x + at->r0 * l->in + k0, l->in, at->rn, kn, 1, left, s.k, bf16_padded(at->rn));
    espl_pack_weights(l, at->c0, at->cn, k0, kn, right, s.k, at->cn, mine->tail);
    for (int64_t t = 0; t < at->rn; t += step) {
        s.m = espl_min_i64(step, at->rn - t);
        espl_pack_product(mine, s, left + t * s.k, right, y + t * ldy);
    }
}

void espl_linear_tile(const espl_linear *l, const float *x, const tile *at, int64_t step, float *y, int64_t ldy,
                      bool accumulate, const scratch *mine) {
    for (int64_t k0 = 0; k0 < l->in; k0 += TILE_IN) {
        int64_t kn = espl_min_i64(TILE_IN, l->in - k0);
        bool add = k0 > 0 || accumulate;
        if (mine->bf16)
            tile_bf16(l, x, at, step, k0, kn, y, ldy, add, mine);
        else
            tile_f32(l, x, at, step, k0, kn, y, ldy, add, mine->panel);
    }
    if (!l->bias) return;
    for (int64_t t = 0; t < at->rn; t++)
        for (int64_t r = 0; r < at->cn; r++) y[t * ldy + r] += l->bias[at->c0 + r];
}

static float dot(const float *a, const float *b, int64_t n) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* Outputs at->c0 .. of all T <= FEW_TOKENS tokens. A row of weights is widened piece by piece into L1 and used for
 * every token. */
static void gemv_tile(const espl_linear *l, const float *x, int64_t T, const tile *at, float *y, bool accumulate) {
    float piece[TILE_IN];
    for (int64_t r = at->c0; r < at->c0 + at->cn; r++) {
        float sum[FEW_TOKENS] = {0};
        for (int64_t k0 = 0; k0 < l->in; k0 += TILE_IN) {
            int64_t kn = espl_min_i64(TILE_IN, l->in - k0);
            espl_linear_widen(l, r, k0, kn, piece);
            for (int64_t t = 0; t < T; t++) sum[t] += dot(piece, x + t * l->in + k0, kn);
        }
        for (int64_t t = 0; t < T; t++) {
            float *out = &y[t * l->out + r];
            *out = sum[t] + (l->bias ? l->bias[r] : 0) + (accumulate ? *out : 0);
        }
    }
}

int64_t espl_tensor_block(int64_t T) { return tile_even(T, LINEAR_ROWS); }

tile_list espl_linear_units(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads) {
    tile_list list = {.count = 0};
    for (int i = 0; i < n; i++)
        list.grids[i] = tile_first_rows(tile_cut_linear(T, linears[i].out, linears[i].in), rows);
    tile_list_group(&list, n, threads);
    return list;
}

/* Tasks of few tokens: every output of a row of weights for all tokens. */
static tile_list linear_gemv_units(const espl_linear *linears, int n, int64_t rows) {
    tile_list list = {.count = 0};
    for (int i = 0; i < n; i++) {
        list.grids[i] = tile_grid_of(rows, linears[i].out, espl_max_i64(rows, 1), GEMV_OUTPUTS);
        list.count += list.grids[i].count;
    }
    return list;
}

void espl_tensor_linear(const espl_linear *linears, int n, const float *x, int64_t T, float *const *y, bool accumulate,
                        espl_workspace *ws) {
    espl_tensor_linear_blocks(linears, n, x, T, T, y, accumulate, ws);
}

void espl_tensor_linear_blocks(const espl_linear *linears, int n, const float *x, int64_t rows, int64_t T,
                               float *const *y, bool accumulate, espl_workspace *ws) {
    bool few = T <= FEW_TOKENS;
    tile_list list =
        few ? linear_gemv_units(linears, n, rows) : espl_linear_units(linears, n, rows, T, espl_tensor_threads());
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < list.count; task++) {
        int64_t index = task;
        int i = tile_list_find(&list, &index);
        const espl_linear *l = &linears[i];
        tile at = tile_at(&list.grids[i], index);
        scratch mine = espl_workspace_mine(ws);
        if (few)
            gemv_tile(l, x, rows, &at, y[i], accumulate);
        else
            espl_linear_tile(l, x, &at, list.steps[i], y[i] + at.r0 * l->out + at.c0, l->out, accumulate, &mine);
    }
}
