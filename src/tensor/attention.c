/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Causal attention in blocks of queries and keys, with an online softmax (Milakov & Gimelshein 2018; Dao et al. 2022).
 *
 * The query heads that share a kv head are stacked as rows of one block, so that sgemm packs a block of keys once for
 * all of them. Keys are cut at multiples of BLOCK_K from the sequence's start (from the end of its prefix), queries by
 * the head counts alone, and one thread takes a block of queries through all its keys in order. So the bits of a token
 * depend on neither threads nor ranks, and keys outside a sliding window are skipped by whole blocks only.
 *
 * Sequences that decode one token behind the same prefix are stacked too, and attend to the prefix together: its keys
 * are then read once for all of them. Their own keys follow one sequence at a time.
 */
#include "espalier/tensor/attention.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "exp.h"
#include "pack.h"
#include "scratch.h"

/* Rows of stacked queries and keys of a block; rows of stacked sequences. */
enum { BLOCK_Q = 256, BLOCK_K = 512, HEAD_DIM_MAX = 512, STACK_ROWS = 64 };
_Static_assert(BLOCK_Q *BLOCK_K <= PANEL_FLOATS, "scores fit the panel");
_Static_assert(2 * BLOCK_Q * HEAD_DIM_MAX <= TILE_FLOATS, "queries and outputs fit the tile");
/* In bf16 the scores take half of the panel, and the operands the other half: rows of queries or probabilities in its
 * first part, keys or values in its second. Fewer rows than BF16_ROWS_MIN, as when decoding, stay f32. KEY_STEP: the
 * number of keys is padded to it, to compile fewer shapes. */
enum { BF16_ROWS_MIN = 16, BF16_HEAD_DIM_MAX = 256, KEY_STEP = 64, LEFT_BF16 = BLOCK_Q * BLOCK_K };
_Static_assert(2 * BLOCK_Q * BLOCK_K + LEFT_BF16 + BLOCK_K * BF16_HEAD_DIM_MAX <= 2 * PANEL_FLOATS,
               "scores and operands fit the panel");

/* A block of queries; row r = h * n + i for head h of the group and query i of n. */
typedef struct query_block {
    const espl_attention_shape *s;
    const espl_attention *a;
    int64_t kv, group; /* kv head; query heads per kv head */
    int64_t first, n;  /* queries first .. first + n - 1 of the sequence's new tokens */
    float *q, *o;      /* [group * n, head_dim] queries, and outputs that are not divided by `sum` yet */
    float *scores;     /* [group * n, keys of the block] */
    float *max, *sum;  /* [group * n] running maximum of the scores, running sum of exp(score - max) */
    const scratch *mine;
} query_block;

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

static void block_gather_queries(query_block *b) {
    int64_t d = b->s->head_dim, ld = b->s->heads * d;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++)
            memcpy(b->q + (h * b->n + i) * d, b->a->q + (b->first + i) * ld + (b->kv * b->group + h) * d,
                   (size_t)d * sizeof(float));
}

static void block_clear(query_block *b) {
    int64_t rows = b->group * b->n;
    memset(b->o, 0, (size_t)(rows * b->s->head_dim) * sizeof(float));
    for (int64_t r = 0; r < rows; r++) {
        b->max[r] = -INFINITY;
        b->sum[r] = 0;
    }
}

/* out = o / sum, in the layout of the heads; lse = log of the sum of all exponentials. */
static void block_scatter_outputs(const query_block *b) {
    int64_t d = b->s->head_dim, ld = b->s->heads * d;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++) {
            int64_t r = h * b->n + i, head = b->kv * b->group + h;
            const float *o = b->o + r * d;
            float *out = b->a->out + (b->first + i) * ld + head * d, inverse = 1.0f / b->sum[r];
            if (b->a->lse) b->a->lse[(b->first + i) * b->s->heads + head] = b->max[r] + logf(b->sum[r]);
            for (int64_t j = 0; j < d; j++) out[j] = o[j] * inverse;
        }
}

/* Scores of row r against keys lo .. hi - 1 of `width` become exp(score - max); those against other keys become 0. When
 * the maximum rises, what earlier blocks added was scaled by a smaller one and is faded. */
static void block_soften_row(query_block *b, int64_t r, int64_t lo, int64_t hi, int64_t ld) {
    float *p = b->scores + r * ld, max = b->max[r], sum = 0;
#pragma omp simd reduction(max : max)
    for (int64_t j = lo; j < hi; j++) max = p[j] > max ? p[j] : max;
    memset(p, 0, (size_t)lo * sizeof *p);
    memset(p + hi, 0, (size_t)(ld - hi) * sizeof *p);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = lo; j < hi; j++) {
        p[j] = fast_exp(p[j] - max);
        sum += p[j];
    }
    if (max != b->max[r]) {
        float fade = fast_exp(b->max[r] - max), *o = b->o + r * b->s->head_dim;
        for (int64_t j = 0; j < b->s->head_dim; j++) o[j] *= fade;
        b->sum[r] *= fade;
    }
    b->max[r] = max;
    b->sum[r] += sum;
}

/* Softmax over those of keys k0 .. k0 + width - 1 that each query may see. The rows of scores have ld >= width places.
 */
static void block_soften(query_block *b, int64_t k0, int64_t width, int64_t ld) {
    for (int64_t i = 0; i < b->n; i++) {
        int64_t pos = b->a->pos + b->first + i;
        int64_t hi = clamp(pos + 1 - k0, 0, width);
        int64_t lo = b->s->window > 0 ? clamp(pos + 1 - b->s->window - k0, 0, hi) : 0;
        for (int64_t h = 0; h < b->group; h++) {
            int64_t r = h * b->n + i;
            if (lo < hi)
                block_soften_row(b, r, lo, hi, ld);
            else
                memset(b->scores + r * ld, 0, (size_t)ld * sizeof(float));
        }
    }
}

float espl_attention_scale(const espl_attention_shape *s) {
    return s->scale > 0 ? s->scale : 1.0f / sqrtf((float)s->head_dim);
}

/* o += softmax(scale q k^T) v in bf16: queries, keys, probabilities and values are rounded, sums are f32. */
static void block_attend_bf16(query_block *b, int64_t k0, int64_t width, const float *k, const float *v) {
    int64_t d = b->s->head_dim, rows = b->group * b->n, padded = bf16_padded(rows), inner = bf16_padded(d);
    int64_t keys = (width + KEY_STEP - 1) / KEY_STEP * KEY_STEP;
    uint16_t *left = scratch_right(b->mine), *right = left + LEFT_BF16;
    bf16_shape s = {.m = padded, .n = keys, .k = inner, .lda = inner, .ldb = inner, .ldc = keys, .b_transposed = true};
    espl_pack_rows(b->q, d, rows, d, espl_attention_scale(b->s), left, inner, padded);
    espl_pack_rows(k, d, width, d, 1, right, inner, keys);
    espl_bf16_product(b->mine->bf16, &s, left, right, b->scores);
    block_soften(b, k0, width, keys);
    bf16_shape o = {.m = rows, .n = d, .k = keys, .lda = keys, .ldb = d, .ldc = d, .add = true};
    espl_pack_rows(b->scores, keys, rows, keys, 1, left, keys, padded);
    espl_pack_rows(v, d, width, d, 1, right, d, keys);
    espl_pack_product(b->mine, o, left, right, b->o);
}

/* o += softmax(scale q k^T) v for keys k0 .. k0 + width - 1, all of them of the prefix or all the
 * sequence's own. */
static void block_attend(query_block *b, int64_t k0, int64_t width) {
    enum {
        FEW_ROWS = 8
    }; /* of decoding behind a prefix: sgemm's packing of the keys would cost more than the products */
    const espl_attention *a = b->a;
    bool shared = k0 < a->prefix;
    int64_t d = b->s->head_dim, rows = b->group * b->n, row = shared ? k0 : k0 - a->prefix;
    const float *k = (shared ? a->prefix_k : a->k) + (b->kv * a->capacity + row) * d;
    const float *v = (shared ? a->prefix_v : a->v) + (b->kv * a->capacity + row) * d;
    float scale = espl_attention_scale(b->s);
    bool few = a->prefix > 0 && rows <= FEW_ROWS;
    if (!few && b->mine->bf16 && rows >= BF16_ROWS_MIN && d <= BF16_HEAD_DIM_MAX) {
        block_attend_bf16(b, k0, width, k, v);
        return;
    }
    if (!few) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)width, (int)d, scale, b->q, (int)d, k,
                    (int)d, 0.0f, b->scores, (int)width);
        block_soften(b, k0, width, width);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)width, 1.0f, b->scores,
                    (int)width, v, (int)d, 1.0f, b->o, (int)d);
        return;
    }
    for (int64_t j = 0; j < width; j++)
        for (int64_t r = 0; r < rows; r++) {
            const float *q = b->q + r * d, *key = k + j * d;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < d; c++) sum += q[c] * key[c];
            b->scores[r * width + j] = sum * scale;
        }
    block_soften(b, k0, width, width);
    for (int64_t j = 0; j < width; j++)
        for (int64_t r = 0; r < rows; r++) {
            float p = b->scores[r * width + j], *o = b->o + r * d;
            const float *value = v + j * d;
#pragma omp simd
            for (int64_t c = 0; c < d; c++) o[c] += p * value[c];
        }
}

/* Keys first .. end - 1 in blocks counted from `first`, without the whole blocks before `oldest`. */
static void block_attend_range(query_block *b, int64_t first, int64_t end, int64_t oldest) {
    int64_t skip = oldest > first ? (oldest - first) / BLOCK_K * BLOCK_K : 0;
    for (int64_t k0 = first + skip; k0 < end; k0 += BLOCK_K) block_attend(b, k0, clamp(end - k0, 0, BLOCK_K));
}

/* The rows of stacked sequence i, as a block of its own. */
static query_block stack_member(const query_block *stack, int64_t i) {
    query_block b = *stack;
    int64_t row = i * stack->group;
    b.a = stack->a + i;
    b.n = 1;
    b.q += row * stack->s->head_dim;
    b.o += row * stack->s->head_dim;
    b.max += row;
    b.sum += row;
    return b;
}

/* ------------------------------------------------------------------ tasks */

static int64_t queries_per_block(const espl_attention_shape *s) {
    return espl_max_i64(BLOCK_Q / (s->heads / s->kv_heads), 1);
}

/* How many of n sequences, from the first on, can be stacked because they decode behind the same prefix; 1: none. */
static int64_t stacked(const espl_attention_shape *s, const espl_attention *a, int64_t n) {
    int64_t max = STACK_ROWS / (s->heads / s->kv_heads), k = 1;
    if (a->T != 1 || a->prefix == 0 || s->window > 0) return 1;
    while (k < n && k < max && a[k].T == 1 && a[k].prefix == a->prefix && a[k].prefix_k == a->prefix_k) k++;
    return k;
}

/* Tasks per kv head: one for a stack of sequences, else one per block of queries. */
static int64_t tasks_of(const espl_attention_shape *s, const espl_attention *a, int64_t stack) {
    int64_t per = queries_per_block(s);
    return stack > 1 ? 1 : (a->T + per - 1) / per;
}

/* Task `index` of all, which count the stacks or blocks of queries, and for each the kv heads. */
static void attend_task(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, int64_t index,
                        scratch mine) {
    int64_t unit = index / s->kv_heads, at = 0, stack = stacked(s, seqs, n);
    while (unit >= tasks_of(s, seqs + at, stack)) {
        unit -= tasks_of(s, seqs + at, stack);
        at += stack;
        stack = stacked(s, seqs + at, n - at);
    }
    float max[BLOCK_Q], sum[BLOCK_Q];
    const espl_attention *a = seqs + at;
    query_block b = {.s = s, .a = a, .kv = index % s->kv_heads, .group = s->heads / s->kv_heads};
    b.q = mine.tile, b.o = mine.tile + BLOCK_Q * HEAD_DIM_MAX, b.scores = mine.panel, b.max = max, b.sum = sum;
    b.mine = &mine;
    if (stack > 1) {
        b.n = stack;
        for (int64_t i = 0; i < stack; i++) {
            query_block one = stack_member(&b, i);
            block_gather_queries(&one);
        }
        block_clear(&b);
        block_attend_range(&b, 0, a->prefix, 0);
        for (int64_t i = 0; i < stack; i++) {
            query_block one = stack_member(&b, i);
            block_attend_range(&one, one.a->prefix, one.a->pos + 1, 0);
            block_scatter_outputs(&one);
        }
        return;
    }
    b.first = unit * queries_per_block(s);
    b.n = espl_min_i64(a->T - b.first, queries_per_block(s));
    int64_t end = a->pos + b.first + b.n;
    int64_t oldest = s->window > 0 ? clamp(a->pos + b.first + 1 - s->window, 0, end) : 0;
    block_gather_queries(&b);
    block_clear(&b);
    block_attend_range(&b, 0, a->prefix, oldest);
    block_attend_range(&b, a->prefix, end, oldest);
    block_scatter_outputs(&b);
}

void espl_tensor_attention(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, espl_workspace *ws) {
    int64_t tasks = 0;
    for (int64_t i = 0, stack; i < n; i += stack) {
        stack = stacked(s, seqs + i, n - i);
        tasks += tasks_of(s, seqs + i, stack) * s->kv_heads;
    }
    /* Later blocks of queries see more keys: the longest tasks first. */
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = tasks - 1; i >= 0; i--) attend_task(s, seqs, n, i, espl_workspace_mine(ws));
}

void espl_tensor_cache_store(const float *x, int64_t T, int64_t heads, int64_t head_dim, float *cache,
                             int64_t capacity) {
    enum { WORTH_THREADS = 1 << 15 }; /* floats; fewer are copied before threads have woken */
#pragma omp parallel for collapse(2) schedule(static) if (T * heads * head_dim > WORTH_THREADS)
    for (int64_t h = 0; h < heads; h++)
        for (int64_t t = 0; t < T; t++)
            memcpy(cache + (h * capacity + t) * head_dim, x + (t * heads + h) * head_dim, (size_t)head_dim * sizeof *x);
}
