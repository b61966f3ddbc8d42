/* Backward of causal attention, in blocks with recomputed probabilities (Dao et al. 2022, algorithm 4):
 *     P = exp(q k^T / sqrt(d) - lse),  dV = P^T dO,  dP = dO V^T,  dS = P * (dP - rowsum(dO * O)) / sqrt(d),
 *     dQ = dS K,  dK = dS^T Q.
 * Work is a grid of (query block i, key block j <= i, kv head). The blocks of one diagonal i - j share neither queries
 * nor keys: they run in parallel and add to dQ, dK, dV in place, diagonal after diagonal, so that every sum has one
 * order. The query heads of a kv group are stacked as rows. */
#include "internal.h"
#include "tiles.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { SPAN = 256, MOST_ROWS = 512 }; /* tokens of a block; stacked query rows at a time */
_Static_assert((int)SPAN * 2 * MOST_ROWS <= (int)TILE_OUT * TILE_IN, "probabilities and their gradients fit the panel");

/* Queries first .. first + n - 1 of a kv group against keys k0 .. k0 + width - 1; row r = h * n + i for head h of the
 * group and query i. */
typedef struct block {
    const espl_attention_shape *s;
    const espl_attention_gradient *a;
    int64_t kv, group, first, n, k0, width;
    float *q, *dout, *dq; /* [group * n, head_dim] */
    float *p, *ds;        /* [group * n, width] */
} block;

static int64_t row_feature(const block *b, int64_t i, int64_t h) {
    return ((b->first + i) * b->s->heads + b->kv * b->group + h) * b->s->head_dim;
}

static void gather(const block *b, const float *from, float *to) {
    int64_t d = b->s->head_dim;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++)
            memcpy(to + (h * b->n + i) * d, from + row_feature(b, i, h), (size_t)d * sizeof(float));
}

static void scatter_add(const block *b) {
    int64_t d = b->s->head_dim;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++) {
            const float *from = b->dq + (h * b->n + i) * d;
            float *to = b->a->dq + row_feature(b, i, h);
            for (int64_t j = 0; j < d; j++) to[j] += from[j];
        }
}

/* c [m, n] (+)= a b^T with ld = inner size on both. */
static void times_transposed(const float *a, const float *b, int64_t m, int64_t n, int64_t k, float alpha, float *c) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, alpha, a, (int)k, b, (int)k, 0.0f, c,
                (int)n);
}

/* One row: scores become probabilities and dP becomes dS on the visible keys lo .. hi - 1; both are 0 elsewhere. */
static void soften_row(float *p, float *ds, int64_t lo, int64_t hi, int64_t width, float lse, float delta,
                       float scale) {
#pragma omp simd
    for (int64_t j = lo; j < hi; j++) {
        p[j] = fast_exp(p[j] - lse);
        ds[j] = p[j] * (ds[j] - delta) * scale;
    }
    memset(p, 0, (size_t)lo * sizeof *p);
    memset(ds, 0, (size_t)lo * sizeof *ds);
    memset(p + hi, 0, (size_t)(width - hi) * sizeof *p);
    memset(ds + hi, 0, (size_t)(width - hi) * sizeof *ds);
}

static void soften(const block *b, float scale) {
    for (int64_t i = 0; i < b->n; i++) {
        int64_t at = b->first + i, oldest = b->s->window > 0 ? at + 1 - b->s->window - b->k0 : 0;
        int64_t hi = tile_min(at + 1 - b->k0, b->width), lo = oldest < 0 ? 0 : tile_min(oldest, hi);
        for (int64_t h = 0; h < b->group; h++) {
            int64_t r = h * b->n + i, head = at * b->s->heads + b->kv * b->group + h;
            soften_row(b->p + r * b->width, b->ds + r * b->width, lo, hi, b->width, b->a->lse[head], b->a->delta[head],
                       scale);
        }
    }
}

/* to [width, head_dim] inside [T, kv_heads * head_dim] += m^T rows */
static void add_to_keys(const block *b, const float *m, const float *rows, float *to) {
    int64_t d = b->s->head_dim, ld = b->s->kv_heads * d;
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)b->width, (int)d, (int)(b->group * b->n), 1.0f, m,
                (int)b->width, rows, (int)d, 1.0f, to + b->k0 * ld + b->kv * d, (int)ld);
}

static void backward_block(const block *b) {
    int64_t d = b->s->head_dim, rows = b->group * b->n, at = (b->kv * b->a->capacity + b->k0) * d;
    float scale = 1.0f / sqrtf((float)d);
    gather(b, b->a->q, b->q);
    gather(b, b->a->dout, b->dout);
    times_transposed(b->q, b->a->k + at, rows, b->width, d, scale, b->p);
    times_transposed(b->dout, b->a->v + at, rows, b->width, d, 1.0f, b->ds);
    soften(b, scale);
    add_to_keys(b, b->p, b->dout, b->a->dv);
    add_to_keys(b, b->ds, b->q, b->a->dk);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)b->width, 1.0f, b->ds, (int)b->width,
                b->a->k + at, (int)d, 0.0f, b->dq, (int)d);
    scatter_add(b);
}

/* Queries taken at a time: as many as the scratch holds with all heads of a group. */
static int64_t queries_at_once(const espl_attention_shape *s) {
    int64_t rows = tile_min(MOST_ROWS, TILE_T * TILE_OUT / (3 * s->head_dim)), n = rows / (s->heads / s->kv_heads);
    return n >= SPAN ? SPAN : n >= 16 ? tile_even(SPAN, n / 16 * 16) : n > 0 ? n : 1;
}

/* Query block i against key block j of one kv head. */
static void backward_task(const espl_attention_shape *s, const espl_attention_gradient *a, int64_t i, int64_t j,
                          int64_t kv, scratch mine) {
    int64_t end = tile_min((i + 1) * SPAN, a->T), per = queries_at_once(s), group = s->heads / s->kv_heads;
    block b = {.s = s, .a = a, .kv = kv, .group = group, .k0 = j * SPAN};
    for (b.first = i * SPAN; b.first < end; b.first += per) {
        b.n = tile_min(per, end - b.first);
        b.width = tile_min(SPAN, b.first + b.n - b.k0); /* what the last query sees */
        if (s->window > 0 && b.first + 1 - s->window >= b.k0 + b.width) return;
        b.q = mine.tile;
        b.dout = b.q + group * b.n * s->head_dim;
        b.dq = b.dout + group * b.n * s->head_dim;
        b.p = mine.panel;
        b.ds = b.p + group * b.n * b.width;
        backward_block(&b);
    }
}

/* delta [T, heads] = rowsum(dO * O) */
static void fill_delta(const espl_attention_shape *s, const espl_attention_gradient *a) {
    int64_t d = s->head_dim;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->T * s->heads; r++) {
        const float *x = a->dout + r * d, *y = a->out + r * d;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < d; j++) sum += x[j] * y[j];
        a->delta[r] = sum;
    }
}

bool espl_attention_backward_fits(const espl_attention_shape *s) {
    return s->head_dim <= MAX_HEAD_DIM && s->heads / s->kv_heads <= TILE_T * TILE_OUT / (3 * s->head_dim) &&
           s->heads / s->kv_heads <= MOST_ROWS;
}

void espl_tensor_attention_backward(const espl_attention_shape *s, const espl_attention_gradient *a,
                                    espl_workspace *ws) {
    size_t q_bytes = (size_t)(a->T * s->heads * s->head_dim) * sizeof(float);
    size_t kv_bytes = (size_t)(a->T * s->kv_heads * s->head_dim) * sizeof(float);
    int64_t blocks = tile_ceil(a->T, SPAN);
    memset(a->dq, 0, q_bytes);
    memset(a->dk, 0, kv_bytes);
    memset(a->dv, 0, kv_bytes);
    fill_delta(s, a);
    for (int64_t diagonal = 0; diagonal < blocks; diagonal++) {
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t task = 0; task < (blocks - diagonal) * s->kv_heads; task++) {
            int64_t j = task / s->kv_heads;
            backward_task(s, a, j + diagonal, j, task % s->kv_heads, espl_workspace_mine(ws));
        }
    }
}
