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
#include "scratch.h"
#include "widen.h"

/* Up to FEW_TOKENS tokens dot products are faster (measured); a task then computes GEMV_OUTPUTS outputs. */
enum { FEW_TOKENS = 6, GEMV_OUTPUTS = 16 };
/* Tiles are halved, down to TILE_MIN, until there are TILES_ENOUGH: small linears keep several threads busy too. */
enum { TILE_MAX = 512, TILE_MIN = 128, TILES_ENOUGH = 4 };
_Static_assert(TILE_MAX *TILE_IN <= PANEL_FLOATS, "a tile's weights fit the panel");

void espl_linear_tile(const espl_linear *l, const float *x, const tile *at, float *y, int64_t ldy, bool accumulate,
                      float *panel) {
    for (int64_t k0 = 0; k0 < l->in; k0 += TILE_IN) {
        int64_t kn = espl_min_i64(TILE_IN, l->in - k0);
        for (int64_t r = 0; r < at->cn; r++) espl_linear_widen(l, at->c0 + r, k0, kn, panel + r * kn);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)at->rn, (int)at->cn, (int)kn, 1.0f,
                    x + at->r0 * l->in + k0, (int)l->in, panel, (int)kn, k0 > 0 || accumulate ? 1.0f : 0.0f, y,
                    (int)ldy);
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

void espl_tensor_linear(const espl_linear *linears, int n, const float *x, int64_t T, float *const *y, bool accumulate,
                        espl_workspace *ws) {
    bool few = T <= FEW_TOKENS;
    tile_list list = {.count = 0};
    for (int i = 0; i < n; i++) {
        int64_t out = linears[i].out;
        list.grids[i] =
            few ? tile_grid_of(T, out, T, GEMV_OUTPUTS) : tile_cut(T, out, TILE_MAX, TILE_MIN, TILES_ENOUGH);
        list.count += list.grids[i].count;
    }
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < list.count; task++) {
        int64_t index = task;
        int i = tile_list_find(&list, &index);
        const espl_linear *l = &linears[i];
        tile at = tile_at(&list.grids[i], index);
        if (few)
            gemv_tile(l, x, T, &at, y[i], accumulate);
        else
            espl_linear_tile(l, x, &at, y[i] + at.r0 * l->out + at.c0, l->out, accumulate,
                             espl_workspace_mine(ws).panel);
    }
}
