/* The one linear routine: weights stay in their source dtype; tiles of them are widened (and masked) into a thread's
 * panel and multiplied by single-threaded sgemm. */
#include "internal.h"

#include <cblas.h>
#include <string.h>

/* Up to this many tokens a linear is bound by reading its weights: dot products beat sgemm's packing. */
enum { FEW_TOKENS = 6, GEMV_ROWS = 16 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* keep_rows[b] holds all-ones where bit i of b is set: 8 weights are masked with one table row. */
static uint32_t keep_rows[256][8];

__attribute__((constructor)) static void fill_keep_rows(void) {
    for (int b = 0; b < 256; b++)
        for (int i = 0; i < 8; i++) keep_rows[b][i] = (b >> i & 1) ? 0xFFFFFFFFu : 0;
}

/* n <= 8 floats; a constant 8 becomes one vector instruction. */
static inline void mask_few(float *p, const uint32_t *keep, size_t n) {
    uint32_t u[8] = {0};
    memcpy(u, p, n * sizeof *u);
    for (int j = 0; j < 8; j++) u[j] &= keep[j];
    memcpy(p, u, n * sizeof *u);
}

/* Clears the floats whose mask bit is 0. c0 is a multiple of 8; bytes of a word run from low to high columns. */
void espl_mask_apply(float *p, const uint64_t *row, int64_t c0, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) mask_few(p + i, keep_rows[espl_mask_row_bits(row, c0 + i, 8)], 8);
    if (i < n) mask_few(p + i, keep_rows[espl_mask_row_bits(row, c0 + i, 8)], (size_t)(n - i));
}

/* Weights [r, c0 .. c0 + n) of the linear as f32. */
void espl_linear_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *dst) {
    const char *w = (const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype);
    espl_tensor_widen(w, l->dtype, n, dst);
    if (l->mask) espl_mask_apply(dst, l->mask + r * espl_mask_words(l->in), c0, n);
}

/* y [t0.., r0..] (+)= x [t0.., :] W[r0.., :]^T for tn tokens and rn outputs; y has row stride ldy. */
static void multiply_tile(const espl_linear *l, const float *x, int64_t t0, int64_t tn, int64_t r0, int64_t rn,
                          float *y, int64_t ldy, bool accumulate, float *panel) {
    for (int64_t c0 = 0; c0 < l->in; c0 += TILE_IN) {
        int64_t cn = min64(TILE_IN, l->in - c0);
        for (int64_t r = 0; r < rn; r++) espl_linear_widen(l, r0 + r, c0, cn, panel + r * cn);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tn, (int)rn, (int)cn, 1.0f, x + t0 * l->in + c0,
                    (int)l->in, panel, (int)cn, c0 > 0 || accumulate ? 1.0f : 0.0f, y, (int)ldy);
    }
}

static void add_bias(const float *bias, int64_t tn, int64_t rn, float *y, int64_t ldy) {
    for (int64_t t = 0; t < tn; t++)
        for (int64_t r = 0; r < rn; r++) y[t * ldy + r] += bias[r];
}

/* How a [T, out] result is cut: by shape alone, so that results do not depend on the number of threads. */
typedef struct tiling {
    int64_t tn, rn;           /* tile size */
    int64_t t_tiles, r_tiles; /* count each way */
} tiling;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Equal tiles of at most `most`, each a multiple of 16 (sgemm's micro-kernels) but the last. */
static int64_t even_tile(int64_t n, int64_t most) {
    int64_t tile = ceil_div(n, ceil_div(n, most));
    return ceil_div(tile, 16) * 16;
}

static tiling cut(int64_t T, int64_t out) {
    enum { ENOUGH_TILES = 4, SMALLEST = 128 };
    tiling g = {.tn = even_tile(T, TILE_T), .rn = even_tile(out, TILE_OUT)};
    while (ceil_div(T, g.tn) * ceil_div(out, g.rn) < ENOUGH_TILES && (g.tn > SMALLEST || g.rn > SMALLEST)) {
        if (g.rn >= g.tn)
            g.rn = even_tile(g.rn, g.rn / 2 + 15);
        else
            g.tn = even_tile(g.tn, g.tn / 2 + 15);
    }
    g.t_tiles = ceil_div(T, g.tn);
    g.r_tiles = ceil_div(out, g.rn);
    return g;
}

static void gemm_tile(const espl_linear *l, const tiling *g, int64_t index, const float *x, int64_t T, float *y,
                      bool accumulate, espl_workspace *ws) {
    int64_t r = g->t_tiles > 1 ? index / g->t_tiles : index;
    int64_t t0 = (index - r * g->t_tiles) * g->tn, r0 = r * g->rn;
    int64_t tn = min64(g->tn, T - t0), rn = min64(g->rn, l->out - r0);
    float *corner = y + t0 * l->out + r0;
    multiply_tile(l, x, t0, tn, r0, rn, corner, l->out, accumulate, espl_workspace_mine(ws).panel);
    if (l->bias) add_bias(l->bias + r0, tn, rn, corner, l->out);
}

static float dot(const float *a, const float *b, int64_t n) {
    float s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += a[i] * b[i];
    return s;
}

/* GEMV_ROWS outputs for few tokens. A row is widened piece by piece into L1 and met with every token. */
static void gemv_rows(const espl_linear *l, int64_t r0, const float *x, int64_t T, float *y, bool accumulate) {
    float piece[TILE_IN];
    for (int64_t r = r0; r < min64(r0 + GEMV_ROWS, l->out); r++) {
        float sum[FEW_TOKENS] = {0};
        for (int64_t c0 = 0; c0 < l->in; c0 += TILE_IN) {
            int64_t cn = min64(TILE_IN, l->in - c0);
            espl_linear_widen(l, r, c0, cn, piece);
            for (int64_t t = 0; t < T; t++) sum[t] += dot(piece, x + t * l->in + c0, cn);
        }
        for (int64_t t = 0; t < T; t++) {
            float *out = &y[t * l->out + r];
            *out = sum[t] + (l->bias ? l->bias[r] : 0) + (accumulate ? *out : 0);
        }
    }
}

/* The tiles of several linears as one list, so that small ones share a parallel loop. */
enum { MAX_LINEARS = 8 };

typedef struct work {
    const espl_linear *linears;
    int n;
    tiling grids[MAX_LINEARS];
    int64_t first[MAX_LINEARS + 1];
} work;

static int owner(const work *w, int64_t index) {
    int i = 0;
    while (index >= w->first[i + 1]) i++;
    return i;
}

static void plan_work(work *w, const espl_linear *linears, int n, int64_t T) {
    *w = (work){.linears = linears, .n = n};
    for (int i = 0; i < n; i++) {
        w->grids[i] = cut(T, linears[i].out);
        int64_t tiles =
            T <= FEW_TOKENS ? ceil_div(linears[i].out, GEMV_ROWS) : w->grids[i].t_tiles * w->grids[i].r_tiles;
        w->first[i + 1] = w->first[i] + tiles;
    }
}

void espl_tensor_linear(const espl_linear *linears, int n, const float *x, int64_t T, float *const *y, bool accumulate,
                        espl_workspace *ws) {
    work w;
    plan_work(&w, linears, n, T);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < w.first[n]; index++) {
        int i = owner(&w, index);
        if (T <= FEW_TOKENS)
            gemv_rows(&linears[i], (index - w.first[i]) * GEMV_ROWS, x, T, y[i], accumulate);
        else
            gemm_tile(&linears[i], &w.grids[i], index - w.first[i], x, T, y[i], accumulate, ws);
    }
}

/* ------------------------------------------------------------------ head */

/* Largest logit and sum of exp(logit - largest) of one row of a tile. */
static void row_partial(const float *logits, int64_t n, float *max_out, float *sum_out) {
    float m = logits[0], s = 0;
#pragma omp simd reduction(max : m)
    for (int64_t i = 1; i < n; i++) m = logits[i] > m ? logits[i] : m;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += fast_exp(logits[i] - m);
    *max_out = m;
    *sum_out = s;
}

int64_t espl_head_partial_floats(const espl_linear *head, int64_t T) {
    return 2 * T * ceil_div(head->out, even_tile(head->out, TILE_OUT));
}

static void head_tile(const espl_linear *head, const tiling *g, int64_t index, const float *x, int64_t T,
                      const int32_t *target, double *logprob, float *partial, espl_workspace *ws) {
    scratch s = espl_workspace_mine(ws);
    int64_t t0 = index % g->t_tiles * g->tn, column = index / g->t_tiles, r0 = column * g->rn;
    int64_t tn = min64(g->tn, T - t0), rn = min64(g->rn, head->out - r0);
    multiply_tile(head, x, t0, tn, r0, rn, s.tile, rn, false, s.panel);
    if (head->bias) add_bias(head->bias + r0, tn, rn, s.tile, rn);
    for (int64_t t = 0; t < tn; t++) {
        float *p = partial + 2 * (column * T + t0 + t);
        const float *row = s.tile + t * rn;
        row_partial(row, rn, &p[0], &p[1]);
        int64_t at = target[t0 + t] - r0;
        if (target[t0 + t] >= 0 && at >= 0 && at < rn) logprob[t0 + t] = row[at]; /* one tile owns each target */
    }
}

/* log sum exp over a token's tiles, in tile order. */
static double merge_partials(const float *partial, int64_t columns, int64_t T, int64_t t) {
    float m = partial[2 * t];
    for (int64_t c = 1; c < columns; c++) m = partial[2 * (c * T + t)] > m ? partial[2 * (c * T + t)] : m;
    double sum = 0;
    for (int64_t c = 0; c < columns; c++) {
        const float *p = partial + 2 * (c * T + t);
        sum += (double)p[1] * __builtin_exp((double)p[0] - (double)m);
    }
    return (double)m + __builtin_log(sum);
}

void espl_tensor_logprob(const espl_linear *head, const float *x, int64_t T, const int32_t *target, double *logprob,
                         float *partial, espl_workspace *ws) {
    tiling g = {.tn = even_tile(T, TILE_T), .rn = even_tile(head->out, TILE_OUT)};
    g.t_tiles = ceil_div(T, g.tn);
    g.r_tiles = ceil_div(head->out, g.rn);
    memset(logprob, 0, (size_t)T * sizeof *logprob);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.t_tiles * g.r_tiles; index++)
        head_tile(head, &g, index, x, T, target, logprob, partial, ws);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++)
        if (target[t] >= 0) logprob[t] -= merge_partials(partial, g.r_tiles, T, t);
}
