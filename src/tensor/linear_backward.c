/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backward pass of linear layers: the gradient of their input, and what pruning needs of the gradient of their weights.
 * The latter is as large as the weights in f32 and is never held: a tile of it is formed in a thread's scratch,
 * reduced, and dropped. Tiles are cut by shape alone, and partial sums are added in tile order (tiles.h).
 */
#include "espalier/tensor/linear.h"

#include <cblas.h>
#include <math.h>

#include "scratch.h"
#include "tiles.h"
#include "widen.h"

enum { TILE_MAX = 512, TILE_MIN = 128, TILES_ENOUGH = 4 };
_Static_assert(TILE_MAX *TILE_OUT <= PANEL_FLOATS && TILE_MAX * TILE_MAX <= TILE_FLOATS, "a tile fits the scratch");

void espl_tensor_linear_backward(const espl_linear *linears, int n, const float *const *dy, int64_t T, float *dx,
                                 bool accumulate, espl_workspace *ws) {
    int64_t in = linears[0].in; /* common to all; their contributions are added in order, in the same tile */
    tile_grid g = tile_cut(T, in, TILE_MAX, TILE_MIN, TILES_ENOUGH);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        tile at = tile_at(&g, index);
        float *panel = espl_workspace_mine(ws).panel;
        for (int i = 0; i < n; i++) {
            const espl_linear *l = &linears[i];
            for (int64_t r0 = 0; r0 < l->out; r0 += TILE_OUT) {
                int64_t rn = espl_min_i64(TILE_OUT, l->out - r0);
                bool add = accumulate || i > 0 || r0 > 0;
                for (int64_t r = 0; r < rn; r++) espl_linear_widen(l, r0 + r, at.c0, at.cn, panel + r * at.cn);
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)at.rn, (int)at.cn, (int)rn, 1.0f,
                            dy[i] + at.r0 * l->out + r0, (int)l->out, panel, (int)at.cn, add ? 1.0f : 0.0f,
                            dx + at.r0 * in + at.c0, (int)in);
            }
        }
    }
}

/* ------------------------------------------------------- weight gradients */

/* dy^T x of the tile's weights into `gradient` [rn, cn]. */
static void gradient_form(const espl_linear *l, const tile *at, const float *x, const float *dy, int64_t T,
                          float *gradient) {
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)at->rn, (int)at->cn, (int)T, 1.0f, dy + at->r0,
                (int)l->out, x + at->c0, (int)l->in, 0.0f, gradient, (int)at->cn);
}

/* The tiles of the weights of n linears. */
static tile_list gradient_list(const espl_linear *linears, int n) {
    tile_list list = {.count = 0};
    for (int i = 0; i < n; i++) {
        list.grids[i] = tile_cut(linears[i].out, linears[i].in, TILE_MAX, TILE_MIN, TILES_ENOUGH);
        list.count += list.grids[i].count;
    }
    return list;
}

int64_t espl_gradient_partials(const espl_linear *linears, int n) { return gradient_list(linears, n).count; }

static double absolute_sum(const float *p, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)fabsf(p[i]);
    return sum;
}

void espl_tensor_gradient_sums(const espl_linear *linears, int n, const float *x, const float *const *dy, int64_t T,
                               double *partial, double *sums, espl_workspace *ws) {
    tile_list list = gradient_list(linears, n);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < list.count; task++) {
        int64_t index = task;
        int i = tile_list_find(&list, &index);
        const espl_linear *l = &linears[i];
        tile at = tile_at(&list.grids[i], index);
        float *gradient = espl_workspace_mine(ws).tile;
        gradient_form(l, &at, x, dy[i], T, gradient);
        for (int64_t r = 0; l->mask && r < at.rn; r++)
            espl_mask_apply(gradient + r * at.cn, l->mask + (at.r0 + r) * espl_mask_words(l->in), at.c0, at.cn);
        partial[task] = absolute_sum(gradient, at.rn * at.cn);
    }
    /* In tile order: which thread computed a tile leaves no trace. */
    for (int i = 0; i < n; i++) {
        sums[i] = 0;
        for (int64_t k = 0; k < list.grids[i].count; k++) sums[i] += *partial++;
    }
}

/* sum [out, in] += dL/dW of one sample, or its square, tile after tile. */
static void gradient_accumulate(const espl_linear *l, const float *x, const float *dy, int64_t T, bool squared,
                                float *sum, espl_workspace *ws) {
    tile_list list = gradient_list(l, 1);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < list.count; index++) {
        float *gradient = espl_workspace_mine(ws).tile;
        tile at = tile_at(&list.grids[0], index);
        gradient_form(l, &at, x, dy, T, gradient);
        for (int64_t r = 0; r < at.rn; r++) {
            const float *from = gradient + r * at.cn;
            float *to = sum + (at.r0 + r) * l->in + at.c0;
            for (int64_t c = 0; c < at.cn; c++) to[c] += squared ? from[c] * from[c] : from[c];
        }
    }
}

void espl_tensor_gradient_add(const espl_linear *l, const float *x, const float *dy, int64_t T, float *gradient,
                              espl_workspace *ws) {
    gradient_accumulate(l, x, dy, T, false, gradient, ws);
}

void espl_tensor_gradient_squares(const espl_linear *l, const float *x, const float *dy, int64_t T, float *squares,
                                  espl_workspace *ws) {
    gradient_accumulate(l, x, dy, T, true, squares, ws);
}
