/* Causal attention in blocks: the heads of one kv group are stacked, so that a block of keys is packed once for all. */
#include "internal.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

/* One block of queries: rows r = h * n + i for head h of the group and query i of n. */
typedef struct block {
    const espl_attention_shape *s;
    const espl_attention *a;
    int64_t kv, group; /* kv head; query heads per kv head */
    int64_t first, n;  /* queries first .. first + n - 1 of the sequence's new tokens */
    float *q, *o;      /* [group * n, head_dim] */
    float *scores;     /* [group * n, keys of the block] */
    float *m, *l;      /* [group * n] running largest score, running sum of exp */
} block;

static void gather_queries(block *b) {
    int64_t d = b->s->head_dim, ld = b->s->heads * d;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++)
            memcpy(b->q + (h * b->n + i) * d, b->a->q + (b->first + i) * ld + (b->kv * b->group + h) * d,
                   (size_t)d * sizeof(float));
}

/* out = o / l, back in the layout of the heads. */
static void scatter_outputs(const block *b) {
    int64_t d = b->s->head_dim, ld = b->s->heads * d;
    for (int64_t h = 0; h < b->group; h++)
        for (int64_t i = 0; i < b->n; i++) {
            const float *o = b->o + (h * b->n + i) * d;
            float *out = b->a->out + (b->first + i) * ld + (b->kv * b->group + h) * d;
            float inv = 1.0f / b->l[h * b->n + i];
            if (b->a->lse)
                b->a->lse[(b->first + i) * b->s->heads + b->kv * b->group + h] =
                    b->m[h * b->n + i] + logf(b->l[h * b->n + i]);
            for (int64_t j = 0; j < d; j++) out[j] = o[j] * inv;
        }
}

/* Scores of row r against keys lo .. hi - 1 (inside the row of `width` floats) become exp(score - m); the rest 0. */
static void soften_row(block *b, int64_t r, int64_t lo, int64_t hi, int64_t width) {
    float *p = b->scores + r * width, m = b->m[r], sum = 0;
#pragma omp simd reduction(max : m)
    for (int64_t j = lo; j < hi; j++) m = p[j] > m ? p[j] : m;
    memset(p, 0, (size_t)lo * sizeof *p);
    memset(p + hi, 0, (size_t)(width - hi) * sizeof *p);
#pragma omp simd reduction(+ : sum)
    for (int64_t j = lo; j < hi; j++) {
        p[j] = fast_exp(p[j] - m);
        sum += p[j];
    }
    if (m != b->m[r]) { /* earlier blocks were scaled by a smaller maximum */
        float fade = fast_exp(b->m[r] - m), *o = b->o + r * b->s->head_dim;
        for (int64_t j = 0; j < b->s->head_dim; j++) o[j] *= fade;
        b->l[r] *= fade;
    }
    b->m[r] = m;
    b->l[r] += sum;
}

static int64_t clamp(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* Softmax over the part of keys k0 .. k0 + width - 1 that each query may see. */
static void soften(block *b, int64_t k0, int64_t width) {
    for (int64_t i = 0; i < b->n; i++) {
        int64_t at = b->a->pos + b->first + i;
        int64_t hi = clamp(at + 1 - k0, 0, width);
        int64_t lo = b->s->window > 0 ? clamp(at + 1 - b->s->window - k0, 0, hi) : 0;
        for (int64_t h = 0; h < b->group; h++) {
            int64_t r = h * b->n + i;
            if (lo < hi)
                soften_row(b, r, lo, hi, width);
            else
                memset(b->scores + r * width, 0, (size_t)width * sizeof(float));
        }
    }
}

/* Decoding many sequences behind a shared prefix: two or so query rows per block, for which packing the keys for sgemm
 * costs more than the products. */
static bool few_rows(const block *b) {
    enum { FEW_ROWS = 8 };
    return b->a->prefix > 0 && b->group * b->n <= FEW_ROWS;
}

/* scores = q k^T / sqrt(head_dim), and o += scores v, for few rows. */
static void few_scores(const block *b, const float *k, int64_t width) {
    int64_t d = b->s->head_dim;
    float scale = 1.0f / sqrtf((float)d);
    for (int64_t j = 0; j < width; j++)
        for (int64_t r = 0; r < b->group * b->n; r++) {
            const float *q = b->q + r * d, *key = k + j * d;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < d; c++) sum += q[c] * key[c];
            b->scores[r * width + j] = sum * scale;
        }
}

static void few_values(const block *b, const float *v, int64_t width) {
    int64_t d = b->s->head_dim;
    for (int64_t j = 0; j < width; j++)
        for (int64_t r = 0; r < b->group * b->n; r++) {
            float p = b->scores[r * width + j], *o = b->o + r * d;
            const float *value = v + j * d;
#pragma omp simd
            for (int64_t c = 0; c < d; c++) o[c] += p * value[c];
        }
}

/* The first of several keys or values of positions k0 ..., all shared or all the sequence's own. */
static const float *cached(const block *b, int64_t k0, const float *prefix, const float *own) {
    const espl_attention *a = b->a;
    int64_t row = k0 < a->prefix ? k0 : k0 - a->prefix;
    return (k0 < a->prefix ? prefix : own) + (b->kv * a->capacity + row) * b->s->head_dim;
}

/* Keys of positions k0 .. k0 + width - 1. */
static void attend_keys(block *b, int64_t k0, int64_t width) {
    const float *k = cached(b, k0, b->a->prefix_k, b->a->k), *v = cached(b, k0, b->a->prefix_v, b->a->v);
    int64_t d = b->s->head_dim, rows = b->group * b->n;
    if (few_rows(b)) {
        few_scores(b, k, width);
        soften(b, k0, width);
        few_values(b, v, width);
        return;
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)width, (int)d, 1.0f / sqrtf((float)d), b->q,
                (int)d, k, (int)d, 0.0f, b->scores, (int)width);
    soften(b, k0, width);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)d, (int)width, 1.0f, b->scores, (int)width,
                v, (int)d, 1.0f, b->o, (int)d);
}

/* Positions first .. end - 1 in blocks counted from `first`, whole blocks before `oldest` left out. */
static void attend_range(block *b, int64_t first, int64_t end, int64_t oldest) {
    int64_t skip = oldest > first ? (oldest - first) / BLOCK_K * BLOCK_K : 0;
    for (int64_t k0 = first + skip; k0 < end; k0 += BLOCK_K) attend_keys(b, k0, clamp(end - k0, 0, BLOCK_K));
}

static void begin(block *b) {
    int64_t rows = b->group * b->n;
    memset(b->o, 0, (size_t)(rows * b->s->head_dim) * sizeof(float));
    for (int64_t r = 0; r < rows; r++) {
        b->m[r] = -INFINITY;
        b->l[r] = 0;
    }
}

static void attend_block(block *b) {
    int64_t end = b->a->pos + b->first + b->n;
    int64_t oldest = b->s->window > 0 ? clamp(b->a->pos + b->first + 1 - b->s->window, 0, end) : 0;
    gather_queries(b);
    begin(b);
    attend_range(b, 0, b->a->prefix, oldest);
    attend_range(b, b->a->prefix, end, oldest);
    scatter_outputs(b);
}

static int64_t queries_per_block(const espl_attention_shape *s) {
    int64_t n = BLOCK_Q / (s->heads / s->kv_heads);
    return n > 0 ? n : 1;
}

/* How many of n sequences, from the first on, are decoded behind one prefix: their queries are stacked and attend to
 * it together, so that its keys are read once for all. 1: this one is not of that kind. */
static int64_t stacked(const espl_attention_shape *s, const espl_attention *a, int64_t n) {
    int64_t most = STACK_ROWS / (s->heads / s->kv_heads), k = 1;
    if (a->T != 1 || a->prefix == 0 || s->window > 0) return 1;
    while (k < n && k < most && a[k].T == 1 && a[k].prefix == a->prefix && a[k].prefix_k == a->prefix_k) k++;
    return k;
}

/* The rows of stacked sequence i, as a block of its own. */
static block row_of(const block *all, int64_t i) {
    block b = *all;
    int64_t at = i * all->group;
    b.a = all->a + i;
    b.n = 1;
    b.q += at * all->s->head_dim;
    b.o += at * all->s->head_dim;
    b.m += at;
    b.l += at;
    return b;
}

/* b->a[0 .. n - 1]: the shared prefix together, then each sequence's own keys. */
static void attend_stack(block *b) {
    for (int64_t i = 0; i < b->n; i++) {
        block one = row_of(b, i);
        gather_queries(&one);
    }
    begin(b);
    attend_range(b, 0, b->a->prefix, 0);
    for (int64_t i = 0; i < b->n; i++) {
        block one = row_of(b, i);
        attend_range(&one, one.a->prefix, one.a->pos + 1, 0);
        scatter_outputs(&one);
    }
}

/* Tasks per kv head for `count` stacked sequences, or one: blocks of queries. */
static int64_t units_of(const espl_attention_shape *s, const espl_attention *a, int64_t count) {
    int64_t per = queries_per_block(s);
    return count > 1 ? 1 : (a->T + per - 1) / per;
}

/* index counts (stack of sequences or block of one's queries, kv head). */
static void attend_task(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, int64_t index,
                        espl_workspace *ws) {
    int64_t rest = index / s->kv_heads, at = 0, count = stacked(s, seqs, n);
    while (rest >= units_of(s, seqs + at, count)) {
        rest -= units_of(s, seqs + at, count);
        at += count;
        count = stacked(s, seqs + at, n - at);
    }
    float m[BLOCK_Q], l[BLOCK_Q];
    scratch mine = espl_workspace_mine(ws);
    block b = {.s = s, .a = seqs + at, .kv = index % s->kv_heads, .group = s->heads / s->kv_heads, .m = m, .l = l};
    b.q = mine.tile;
    b.o = mine.tile + BLOCK_Q * MAX_HEAD_DIM;
    b.scores = mine.panel;
    if (count > 1) {
        b.n = count;
        attend_stack(&b);
        return;
    }
    b.first = rest * queries_per_block(s);
    b.n = clamp(b.a->T - b.first, 0, queries_per_block(s));
    attend_block(&b);
}

void espl_tensor_attention(const espl_attention_shape *s, const espl_attention *seqs, int64_t n, espl_workspace *ws) {
    int64_t tasks = 0;
    for (int64_t i = 0, count; i < n; i += count) {
        count = stacked(s, seqs + i, n - i);
        tasks += units_of(s, seqs + i, count) * s->kv_heads;
    }
    /* Later query blocks see more keys: hand out the longest tasks first. */
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = tasks - 1; i >= 0; i--) attend_task(s, seqs, n, i, ws);
}

void espl_tensor_cache_store(const float *x, int64_t T, int64_t heads, int64_t head_dim, float *cache,
                             int64_t capacity) {
#pragma omp parallel for collapse(2) schedule(static) if (T * heads * head_dim > 1 << 15)
    for (int64_t h = 0; h < heads; h++)
        for (int64_t t = 0; t < T; t++)
            memcpy(cache + (h * capacity + t) * head_dim, x + (t * heads + h) * head_dim, (size_t)head_dim * sizeof *x);
}
