/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backward pass of linear layers: the gradient of their input, and what pruning needs of the gradient of their weights.
 * The latter is as large as the weights in f32 and is never held: a tile of it is formed in a thread's scratch,
 * reduced, and dropped. Tiles are cut by shape alone, and partial sums are added in tile order (tiles.h).
 */
#include "espalier/tensor/linear.h"

#include <cblas.h>
#include <math.h>

#include "linear_tile.h"
#include "pack.h"
#include "widen.h"

enum { TILE_MAX = 512, TILE_MIN = 128, WIDE_TILE_MIN = 256, TOKENS = TILE_IN };
_Static_assert(TILE_MAX *TILE_OUT <= PANEL_FLOATS && TILE_MAX * TILE_MAX <= TILE_FLOATS, "a tile fits the scratch");

/* Outputs r0 .. r0 + rn - 1 of the linear: dy W into the tile of dx, with row stride l->in. */
static void backward_f32(const espl_linear *l, const float *dy, const tile *at, int64_t step, int64_t r0, int64_t rn,
                         float *dx, bool add, float *panel) {
    for (int64_t r = 0; r < rn; r++) espl_linear_widen(l, r0 + r, at->c0, at->cn, panel + r * at->cn);
    for (int64_t t = 0; t < at->rn; t += step)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)espl_min_i64(step, at->rn - t), (int)at->cn,
                    (int)rn, 1.0f, dy + (at->r0 + t) * l->out + r0, (int)l->out, panel, (int)at->cn, add ? 1.0f : 0.0f,
                    dx + t * l->in, (int)l->in);
}

static void backward_bf16(const espl_linear *l, const float *dy, const tile *at, int64_t step, int64_t r0, int64_t rn,
                          float *dx, bool add, const scratch *mine) {
    bf16_shape s = {.n = at->cn, .k = bf16_padded(rn), .ldb = at->cn, .ldc = l->in, .add = add};
    uint16_t *left = scratch_left(mine), *right = scratch_right(mine);
    s.lda = s.k;
    espl_pack_rows(dy + at->r0 * l->out + r0, l->out, at->rn, rn, 1, left, s.k, bf16_padded(at->rn));
    espl_pack_weights(l, r0, rn, at->c0, at->cn, right, at->cn, s.k, mine->tail);
    for (int64_t t = 0; t < at->rn; t += step) {
        s.m = espl_min_i64(step, at->rn - t);
        espl_pack_product(mine, s, left + t * s.k, right, dx + t * l->in);
    }
}

/* One grid: the inputs, common to all, whose contributions are added in order in the same tile. */
tile_list espl_linear_backward_units(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads) {
    int64_t outputs = 0;
    for (int i = 0; i < n; i++) outputs += linears[i].out;
    tile_list list = {.count = 0};
    list.grids[0] = tile_first_rows(tile_cut_linear(T, linears[0].in, outputs), rows);
    tile_list_group(&list, 1, threads);
    return list;
}

void espl_tensor_linear_backward(const espl_linear *linears, int n, const float *const *dy, int64_t T, float *dx,
                                 bool accumulate, espl_workspace *ws) {
    espl_tensor_linear_backward_blocks(linears, n, dy, T, T, dx, accumulate, ws);
}

void espl_tensor_linear_backward_blocks(const espl_linear *linears, int n, const float *const *dy, int64_t rows,
                                        int64_t T, float *dx, bool accumulate, espl_workspace *ws) {
    int64_t in = linears[0].in;
    tile_list list = espl_linear_backward_units(linears, n, rows, T, espl_tensor_threads());
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < list.count; index++) {
        tile at = tile_at(&list.grids[0], index);
        scratch mine = espl_workspace_mine(ws);
        float *to = dx + at.r0 * in + at.c0;
        for (int i = 0; i < n; i++) {
            for (int64_t r0 = 0; r0 < linears[i].out; r0 += TILE_OUT) {
                int64_t rn = espl_min_i64(TILE_OUT, linears[i].out - r0);
                bool add = accumulate || i > 0 || r0 > 0;
                if (mine.bf16)
                    backward_bf16(&linears[i], dy[i], &at, list.steps[0], r0, rn, to, add, &mine);
                else
                    backward_f32(&linears[i], dy[i], &at, list.steps[0], r0, rn, to, add, mine.panel);
            }
        }
    }
}

/* ------------------------------------------------------- weight gradients */

/* dy^T x of a tile's weights into the thread's tile, with row stride at->cn. dy and x point at the tile's first output
 * and input of token 0. In bf16 TOKENS at a time, and with zeros in the padding of its rows. */
static float *gradient_form(const tile *at, const float *x, int64_t ldx, const float *dy, int64_t ldy, int64_t T,
                            const scratch *mine) {
    if (!mine->bf16) {
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)at->rn, (int)at->cn, (int)T, 1.0f, dy, (int)ldy, x,
                    (int)ldx, 0.0f, mine->tile, (int)at->cn);
        return mine->tile;
    }
    bf16_shape s = {.m = bf16_padded(at->rn), .n = at->cn, .ldb = at->cn, .ldc = at->cn, .a_transposed = true};
    uint16_t *left = scratch_left(mine), *right = scratch_right(mine);
    s.lda = s.m;
    for (int64_t t = 0; t < T; t += TOKENS) {
        int64_t n = espl_min_i64(TOKENS, T - t);
        s.k = bf16_padded(n);
        s.add = t > 0;
        espl_pack_rows(dy + t * ldy, ldy, n, at->rn, 1, left, s.lda, s.k);
        espl_pack_rows(x + t * ldx, ldx, n, at->cn, 1, right, s.ldb, s.k);
        espl_bf16_product(mine->bf16, &s, left, right, mine->tile);
    }
    return mine->tile;
}

/* The tiles of the weights of n linears. */
tile_list espl_gradient_units(const espl_linear *linears, int n) {
    tile_list list = {.count = 0};
    for (int i = 0; i < n; i++) {
        bool wide = tile_is_wide(linears[i].out, linears[i].in);
        list.grids[i] = tile_cut(linears[i].out, linears[i].in, TILE_MAX, wide ? WIDE_TILE_MIN : TILE_MIN,
                                 wide ? 2 * NODE_TILES : FEW_TILES);
        list.count += list.grids[i].count;
    }
    return list;
}

int64_t espl_gradient_partials(const espl_linear *linears, int n) { return espl_gradient_units(linears, n).count; }

static double absolute_sum(const float *p, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)fabsf(p[i]);
    return sum;
}

/* The tiles of all n linears, by rows or columns, are one list, so that small linears do not fall to the same parts. */
void espl_gradient_part(const espl_linear *linears, int n, bool by_columns, int parts, int part,
                        espl_weight_block *blocks) {
    tile_list list = espl_gradient_units(linears, n);
    int64_t tiles[TILE_LIST_MAX], all = 0, before = 0;
    for (int i = 0; i < n; i++) {
        const tile_grid *g = &list.grids[i];
        all += tiles[i] = by_columns ? g->count / g->r_tiles : g->r_tiles;
    }
    for (int i = 0; i < n; before += tiles[i++]) {
        int64_t size = by_columns ? list.grids[i].cn : list.grids[i].rn,
                end = by_columns ? linears[i].in : linears[i].out;
        int64_t first = espl_max_i64(all * part / parts - before, 0) * size;
        int64_t last = espl_max_i64(all * (part + 1) / parts - before, 0) * size;
        first = espl_min_i64(first, end);
        last = espl_min_i64(last, end);
        blocks[i] = (espl_weight_block){.rows = linears[i].out, .columns = linears[i].in};
        if (by_columns)
            blocks[i].c0 = first, blocks[i].columns = last - first;
        else
            blocks[i].r0 = first, blocks[i].rows = last - first;
    }
}

/* The place of task `index` among all tiles of the linears, and the tile; false: it is not of the blocks. */
static bool gradient_tile(const tile_list *list, const espl_weight_block *blocks, int64_t index, int *i, tile *at) {
    *i = tile_list_find(list, &index);
    *at = tile_at(&list->grids[*i], index);
    const espl_weight_block *b = &blocks[*i];
    return at->r0 >= b->r0 && at->r0 < b->r0 + b->rows && at->c0 >= b->c0 && at->c0 < b->c0 + b->columns;
}

void espl_tensor_gradient_partials(const espl_linear *linears, int n, const espl_weight_block *blocks, const float *x,
                                   const float *const *dy, int64_t T, double *partial, espl_workspace *ws) {
    tile_list list = espl_gradient_units(linears, n);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t task = 0; task < list.count; task++) {
        int i;
        tile at;
        partial[task] = 0;
        if (!gradient_tile(&list, blocks, task, &i, &at)) continue;
        const espl_linear *l = &linears[i];
        const espl_weight_block *b = &blocks[i];
        scratch mine = espl_workspace_mine(ws);
        float *gradient = gradient_form(&at, x + at.c0 - b->c0, b->columns, dy[i] + at.r0 - b->r0, b->rows, T, &mine);
        for (int64_t r = 0; l->mask && r < at.rn; r++)
            espl_mask_apply(gradient + r * at.cn, l->mask + (at.r0 + r) * espl_mask_words(l->in), at.c0, at.cn);
        partial[task] = absolute_sum(gradient, at.rn * at.cn);
    }
}

void espl_gradient_add_partials(const espl_linear *linears, int n, const double *partial, double *sums) {
    tile_list list = espl_gradient_units(linears, n);
    for (int i = 0; i < n; i++) {
        sums[i] = 0;
        for (int64_t k = 0; k < list.grids[i].count; k++) sums[i] += *partial++;
    }
}

void espl_tensor_gradient_sums(const espl_linear *linears, int n, const float *x, const float *const *dy, int64_t T,
                               double *partial, double *sums, espl_workspace *ws) {
    espl_weight_block whole[TILE_LIST_MAX];
    espl_gradient_part(linears, n, false, 1, 0, whole);
    espl_tensor_gradient_partials(linears, n, whole, x, dy, T, partial, ws);
    espl_gradient_add_partials(linears, n, partial, sums);
}

/* sum [out, in] += dL/dW of one sample, or its square, tile after tile. */
static void gradient_accumulate(const espl_linear *l, const float *x, const float *dy, int64_t T, bool squared,
                                float *sum, espl_workspace *ws) {
    tile_list list = espl_gradient_units(l, 1);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < list.count; index++) {
        scratch mine = espl_workspace_mine(ws);
        tile at = tile_at(&list.grids[0], index);
        const float *gradient = gradient_form(&at, x + at.c0, l->in, dy + at.r0, l->out, T, &mine);
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
