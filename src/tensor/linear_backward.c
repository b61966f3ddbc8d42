/* Backward of the linears: the gradient of their input, and the mean size of their weights' gradient, which is never
 * held: a tile of it is formed in a thread's scratch, summed, and forgotten. */
#include "internal.h"
#include "tiles.h"

#include <cblas.h>
#include <math.h>

enum { MOST = 512, LEAST = 128, ENOUGH = 4 };
_Static_assert((int)MOST <= (int)TILE_T && (int)MOST <= (int)TILE_OUT && (int)MOST <= (int)TILE_IN,
               "a tile fits the scratch");

/* dx [t0.., c0..] (+)= dy [t0.., :] W[:, c0..] for tn tokens and cn inputs. */
static void input_tile(const espl_linear *l, const float *dy, int64_t t0, int64_t tn, int64_t c0, int64_t cn, float *dx,
                       bool accumulate, float *panel) {
    for (int64_t r0 = 0; r0 < l->out; r0 += TILE_OUT) {
        int64_t rn = tile_min(TILE_OUT, l->out - r0);
        for (int64_t r = 0; r < rn; r++) espl_linear_widen(l, r0 + r, c0, cn, panel + r * cn);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)tn, (int)cn, (int)rn, 1.0f, dy + t0 * l->out + r0,
                    (int)l->out, panel, (int)cn, r0 > 0 || accumulate ? 1.0f : 0.0f, dx + t0 * l->in + c0, (int)l->in);
    }
}

void espl_tensor_linear_backward(const espl_linear *linears, int n, const float *const *dy, int64_t T, float *dx,
                                 bool accumulate, espl_workspace *ws) {
    int64_t in = linears[0].in;
    tile_grid g = tile_cut(T, in, MOST, LEAST, ENOUGH);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        int64_t t0 = index % g.r_tiles * g.rn, c0 = index / g.r_tiles * g.cn;
        float *panel = espl_workspace_mine(ws).panel;
        for (int i = 0; i < n; i++)
            input_tile(&linears[i], dy[i], t0, tile_min(g.rn, T - t0), c0, tile_min(g.cn, in - c0), dx,
                       accumulate || i > 0, panel);
    }
}

/* ------------------------------------------------------- weight gradients */

static tile_grid gradient_grid(const espl_linear *l) { return tile_cut(l->out, l->in, MOST, LEAST, ENOUGH); }

int64_t espl_gradient_partials(const espl_linear *linears, int n) {
    int64_t tiles = 0;
    for (int i = 0; i < n; i++) tiles += gradient_grid(&linears[i]).count;
    return tiles;
}

static double absolute_sum(const float *p, int64_t n) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)fabsf(p[i]);
    return sum;
}

/* Rows and columns of a tile. */
typedef struct place {
    int64_t r0, c0, rn, cn;
} place;

/* dy^T x of tile `index` of the grid into `tile` [rn, cn]. */
static place form_tile(const espl_linear *l, const tile_grid *g, int64_t index, const float *x, const float *dy,
                       int64_t T, float *tile) {
    place p = {.r0 = index % g->r_tiles * g->rn, .c0 = index / g->r_tiles * g->cn};
    p.rn = tile_min(g->rn, l->out - p.r0), p.cn = tile_min(g->cn, l->in - p.c0);
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)p.rn, (int)p.cn, (int)T, 1.0f, dy + p.r0, (int)l->out,
                x + p.c0, (int)l->in, 0.0f, tile, (int)p.cn);
    return p;
}

/* Sum of |dy^T x| over the surviving weights of tile `index` of the grid. */
static double gradient_tile(const espl_linear *l, const tile_grid *g, int64_t index, const float *x, const float *dy,
                            int64_t T, float *tile) {
    place p = form_tile(l, g, index, x, dy, T, tile);
    if (l->mask)
        for (int64_t r = 0; r < p.rn; r++)
            espl_mask_apply(tile + r * p.cn, l->mask + (p.r0 + r) * espl_mask_words(l->in), p.c0, p.cn);
    return absolute_sum(tile, p.rn * p.cn);
}

void espl_tensor_gradient_squares(const espl_linear *l, const float *x, const float *dy, int64_t T, float *squares,
                                  espl_workspace *ws) {
    tile_grid g = gradient_grid(l);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        float *tile = espl_workspace_mine(ws).tile;
        place p = form_tile(l, &g, index, x, dy, T, tile);
        for (int64_t r = 0; r < p.rn; r++) {
            float *to = squares + (p.r0 + r) * l->in + p.c0;
            for (int64_t c = 0; c < p.cn; c++) to[c] += tile[r * p.cn + c] * tile[r * p.cn + c];
        }
    }
}

void espl_tensor_gradient_sums(const espl_linear *linears, int n, const float *x, const float *const *dy, int64_t T,
                               double *partial, double *sums, espl_workspace *ws) {
    int64_t tiles = espl_gradient_partials(linears, n);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < tiles; index++) {
        int64_t rest = index;
        int i = 0;
        tile_grid g = gradient_grid(&linears[0]);
        while (rest >= g.count) {
            rest -= g.count;
            g = gradient_grid(&linears[++i]);
        }
        partial[index] = gradient_tile(&linears[i], &g, rest, x, dy[i], T, espl_workspace_mine(ws).tile);
    }
    for (int i = 0; i < n; i++) {
        sums[i] = 0;
        for (int64_t left = gradient_grid(&linears[i]).count; left > 0; left--) sums[i] += *partial++;
    }
}
