/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backward of causal attention, in blocks with recomputed probabilities (Dao et al. 2022, algorithm 4):
 *     P = exp(scale q k^T - lse),  dV = P^T dO,  dP = dO V^T,  dS = scale P * (dP - rowsum(dO * O)),
 *     dQ = dS K,  dK = dS^T Q.
 *
 * Work is a grid of (query block i, key block j <= i, kv head). The blocks of one diagonal i - j share neither queries
 * nor keys: they run in parallel and add to dQ, dK, dV in place, diagonal after diagonal. So every sum has one order,
 * whatever the number of threads. The query heads of a kv group are stacked as rows.
 *
 * Ranks that share a window take blocks of it: a rank adds to dQ of its blocks and to dK, dV of its blocks, and so
 * computes P and dS of a query block of its own against another rank's keys, and the other way round. Two ranks then
 * form the same P, but no partial sum travels, and every sum has the order that it has on one rank.
 */
#include "espalier/tensor/attention.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "exp.h"
#include "pack.h"
#include "tiles.h"

/* Most tokens of a block of queries or keys; stacked query rows at a time. */
enum { SPAN = ESPL_ATTENTION_SPAN, ROWS_MAX = 512, HEAD_DIM_MAX = 512 };
_Static_assert(SPAN * 2 * ROWS_MAX <= PANEL_FLOATS, "probabilities and their gradients fit the panel");
/* In bf16 the tile holds the rows of q, dout and the block's keys and values, all rounded, and dq in f32. */
enum { BF16_HEAD_DIM_MAX = 256 };
_Static_assert(2 * (TILE_FLOATS / 3 + BF16_STEP * BF16_HEAD_DIM_MAX) + SPAN * BF16_HEAD_DIM_MAX <= TILE_FLOATS,
               "bf16 operands fit the tile");

/* Queries first .. first + n - 1 of a kv group against keys k0 .. k0 + width - 1; row r = h * n + i for head h of the
 * group and query i. */
typedef struct gradient_block {
    const espl_attention_shape *s;
    const espl_attention_gradient *a;
    int64_t kv, group, first, n, k0, width;
    float *q, *dout, *dq;     /* [group * n, head_dim] */
    float *p, *ds;            /* [group * n, width] */
    bool to_queries, to_keys; /* which gradients are wanted */
    const scratch *mine;
} gradient_block;

/* Where query i of the block and head h of the group begin in [T, heads * head_dim]. */
static int64_t gradient_row(const gradient_block *b, int64_t i, int64_t h) {
    return ((b->first + i) * b->s->heads + b->kv * b->group + h) * b->s->head_dim;
}

static void gradient_gather(const gradient_block *b, const float *from, float *to) {
    int64_t d = b->s->head_dim;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++)
            memcpy(to + (h * b->n + i) * d, from + gradient_row(b, i, h), (size_t)d * sizeof(float));
}

/* c [m, n] = alpha a b^T, with k columns in a and b. */
static void times_transposed(const float *a, const float *b, int64_t m, int64_t n, int64_t k, float alpha, float *c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, alpha, a, (int)k, b, (int)k, 0.0f, c,
                (int)n);
}

/* Scores p become probabilities and ds, which holds dP, becomes dS on the keys that a query sees; elsewhere 0. Rows
 * have ld >= width places. */
static void gradient_soften(const gradient_block *b, float scale, int64_t ld) {
    for (int64_t i = 0; i < b->n; i++) {
        int64_t pos = b->first + i, oldest = b->s->window > 0 ? pos + 1 - b->s->window - b->k0 : 0;
        int64_t hi = espl_min_i64(pos + 1 - b->k0, b->width), lo = oldest < 0 ? 0 : espl_min_i64(oldest, hi);
        for (int64_t h = 0; h < b->group; h++) {
            int64_t r = h * b->n + i, head = pos * b->s->heads + b->kv * b->group + h;
            float *p = b->p + r * ld, *ds = b->ds + r * ld;
            float lse = b->a->lse[head], delta = b->a->delta[head];
#pragma omp simd
            for (int64_t j = lo; j < hi; j++) {
                p[j] = fast_exp(p[j] - lse);
                ds[j] = p[j] * (ds[j] - delta) * scale;
            }
            memset(p, 0, (size_t)lo * sizeof *p);
            memset(ds, 0, (size_t)lo * sizeof *ds);
            memset(p + hi, 0, (size_t)(ld - hi) * sizeof *p);
            memset(ds + hi, 0, (size_t)(ld - hi) * sizeof *ds);
        }
    }
}

/* The block's keys in `to` [T, kv_heads * head_dim] += m^T rows, m [group * n, width]. */
static void gradient_add_to_keys(const gradient_block *b, const float *m, const float *rows, float *to) {
    int64_t d = b->s->head_dim, ld = b->s->kv_heads * d;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)b->width, (int)d, (int)(b->group * b->n), 1.0f, m,
                (int)b->width, rows, (int)d, 1.0f, to + b->k0 * ld + b->kv * d, (int)ld);
}

static void gradient_scatter(const gradient_block *b) {
    int64_t d = b->s->head_dim;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++) {
            const float *from = b->dq + (h * b->n + i) * d;
            float *to = b->a->dq + gradient_row(b, i, h);
            for (int64_t j = 0; j < d; j++) to[j] += from[j];
        }
}

/* Query rows in the layout of the heads, times `factor`, rounded; ld >= head_dim. */
static void gradient_gather_bf16(const gradient_block *b, const float *from, float factor, uint16_t *to, int64_t ld) {
    int64_t d = b->s->head_dim, rows = b->group * b->n;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++)
            espl_pack_rows(from + gradient_row(b, i, h), d, 1, d, factor, to + (h * b->n + i) * ld, ld, 1);
    memset(to + rows * ld, 0, (size_t)((bf16_padded(rows) - rows) * ld) * sizeof *to);
}

/* Rounds m [rows, n] in place, and its rows of padding to 0: a row in bf16 ends before the next one in f32 begins. */
static const uint16_t *gradient_round(float *m, int64_t rows, int64_t n) {
    uint16_t row[SPAN], *to = (uint16_t *)m;
    for (int64_t r = 0; r < rows; r++) {
        espl_pack_rows(m + r * n, n, 1, n, 1, row, n, 1);
        memcpy(to + r * n, row, (size_t)n * sizeof *to);
    }
    memset(to + rows * n, 0, (size_t)((bf16_padded(rows) - rows) * n) * sizeof *to);
    return to;
}

/* gradient_block_backward in bf16. q is scaled before it is rounded in the scores, and taken as it is in dK. */
static void gradient_block_bf16(const gradient_block *b) {
    int64_t d = b->s->head_dim, rows = b->group * b->n, padded = bf16_padded(rows);
    int64_t keys = bf16_padded(b->width), from = (b->kv * b->a->capacity + b->k0) * d, ld = b->s->kv_heads * d;
    float scale = espl_attention_scale(b->s);
    bf16_engine *e = b->mine->bf16;
    uint16_t *q = (uint16_t *)(b->dq + padded * d), *dout = q + padded * d, *k = dout + padded * d;
    uint16_t *v = k + keys * d;
    gradient_gather_bf16(b, b->a->q, scale, q, d);
    gradient_gather_bf16(b, b->a->dout, 1, dout, d);
    espl_pack_rows(b->a->k + from, d, b->width, d, 1, k, d, keys);
    espl_pack_rows(b->a->v + from, d, b->width, d, 1, v, d, keys);
    bf16_shape s = {.m = padded, .n = keys, .k = d, .lda = d, .ldb = d, .ldc = keys, .b_transposed = true};
    espl_bf16_product(e, &s, q, k, b->p);
    espl_bf16_product(e, &s, dout, v, b->ds);
    gradient_soften(b, scale, keys);
    const uint16_t *p = gradient_round(b->p, rows, keys), *ds = gradient_round(b->ds, rows, keys);
    bf16_shape g = {
        .m = b->width, .n = d, .k = padded, .lda = keys, .ldb = d, .ldc = ld, .a_transposed = true, .add = true};
    if (b->to_keys) {
        gradient_gather_bf16(b, b->a->q, 1, q, d);
        espl_bf16_product(e, &g, p, dout, b->a->dv + b->k0 * ld + b->kv * d);
        espl_bf16_product(e, &g, ds, q, b->a->dk + b->k0 * ld + b->kv * d);
    }
    if (!b->to_queries) return;
    bf16_shape o = {.m = padded, .n = d, .k = keys, .lda = keys, .ldb = d, .ldc = d};
    espl_bf16_product(e, &o, ds, k, b->dq);
    gradient_scatter(b);
}

/* In f32. */
static void gradient_block_backward(const gradient_block *b) {
    int64_t d = b->s->head_dim, rows = b->group * b->n, keys = (b->kv * b->a->capacity + b->k0) * d;
    float scale = espl_attention_scale(b->s);
    gradient_gather(b, b->a->q, b->q);
    gradient_gather(b, b->a->dout, b->dout);
    times_transposed(b->q, b->a->k + keys, rows, b->width, d, scale, b->p);
    times_transposed(b->dout, b->a->v + keys, rows, b->width, d, 1.0f, b->ds);
    gradient_soften(b, scale, b->width);
    if (b->to_keys) {
        gradient_add_to_keys(b, b->p, b->dout, b->a->dv);
        gradient_add_to_keys(b, b->ds, b->q, b->a->dk);
    }
    if (!b->to_queries) return;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)b->width, 1.0f, b->ds, (int)b->width,
                b->a->k + keys, (int)d, 0.0f, b->dq, (int)d);
    gradient_scatter(b);
}

/* Query rows whose q, dout and dq fit the tile. */
static int64_t rows_max(const espl_attention_shape *s) { return TILE_FLOATS / (3 * s->head_dim); }

bool espl_attention_backward_fits(const espl_attention_shape *s) {
    int64_t group = s->heads / s->kv_heads;
    return s->head_dim <= HEAD_DIM_MAX && group <= rows_max(s) && group <= ROWS_MAX;
}

static int64_t gradient_span(const espl_attention_gradient *a) { return a->block > 0 ? a->block : SPAN; }

static bool gradient_owns(const espl_attention_gradient *a, int64_t block) {
    return a->parts <= 1 || block % a->parts == a->part;
}

/* Query block i against key block j of one kv head, as many queries at a time as the scratch holds. */
static void backward_task(const espl_attention_shape *s, const espl_attention_gradient *a, int64_t i, int64_t j,
                          int64_t kv, scratch mine) {
    int64_t group = s->heads / s->kv_heads, span = gradient_span(a), end = espl_min_i64((i + 1) * span, a->T);
    int64_t per = espl_min_i64(ROWS_MAX, rows_max(s)) / group;
    if (per >= SPAN)
        per = SPAN;
    else if (per >= TILE_STEP)
        per = tile_even(SPAN, per / TILE_STEP * TILE_STEP);
    else if (per < 1)
        per = 1;
    gradient_block b = {.s = s, .a = a, .kv = kv, .group = group, .k0 = j * span, .mine = &mine};
    b.to_queries = gradient_owns(a, i);
    b.to_keys = gradient_owns(a, j);
    bool bf16 = mine.bf16 && s->head_dim <= BF16_HEAD_DIM_MAX && s->head_dim % BF16_STEP == 0;
    for (b.first = i * span; b.first < end; b.first += per) {
        b.n = espl_min_i64(per, end - b.first);
        b.width = espl_min_i64(span, b.first + b.n - b.k0); /* the keys that the last query sees */
        if (s->window > 0 && b.first + 1 - s->window >= b.k0 + b.width) return;
        b.p = mine.panel;
        if (bf16) {
            b.dq = mine.tile;
            b.ds = b.p + bf16_padded(group * b.n) * bf16_padded(b.width);
            gradient_block_bf16(&b);
        } else {
            b.q = mine.tile;
            b.dout = b.q + group * b.n * s->head_dim;
            b.dq = b.dout + group * b.n * s->head_dim;
            b.ds = b.p + group * b.n * b.width;
            gradient_block_backward(&b);
        }
    }
}

void espl_tensor_attention_delta(const espl_attention_shape *s, const float *out, const float *dout, int64_t T,
                                 float *delta) {
    int64_t d = s->head_dim;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < T * s->heads; r++) {
        const float *x = dout + r * d, *y = out + r * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += x[j] * y[j];
        delta[r] = sum;
    }
}

void espl_tensor_attention_backward(const espl_attention_shape *s, const espl_attention_gradient *a,
                                    espl_workspace *ws) {
    int64_t d = s->head_dim, blocks = tile_ceil(a->T, gradient_span(a));
    size_t kv_bytes = (size_t)(a->T * s->kv_heads * d) * sizeof(float);
    memset(a->dq, 0, (size_t)(a->T * s->heads * d) * sizeof(float));
    memset(a->dk, 0, kv_bytes);
    memset(a->dv, 0, kv_bytes);
    for (int64_t diagonal = 0; diagonal < blocks; diagonal++) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t task = 0; task < (blocks - diagonal) * s->kv_heads; task++) {
            int64_t j = task / s->kv_heads;
            if (gradient_owns(a, j) || gradient_owns(a, j + diagonal))
                backward_task(s, a, j + diagonal, j, task % s->kv_heads, espl_workspace_mine(ws));
        }
    }
}
