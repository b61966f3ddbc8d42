/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SparseGPT (Frantar & Alistarh 2301.00774): columns from left to right. The error of a pruned weight is compensated by
 * the weights to its right: within its block of columns at once, to the right of the block by one product per block.
 * Rows depend on each other only through the selection of the mask.
 */
#include "espalier/prune/sparsegpt.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "internal.h"

#include <cblas.h>
#include <inttypes.h>
#include <string.h>

enum { ROWS = 64 }; /* a tile of rows, computed by one thread */
_Static_assert(ROWS *ESPL_SPARSEGPT_BLOCK_MAX * 4 <= ESPL_WORKSPACE_SCRATCH, "a tile's errors fit the scratch");

typedef struct surgeon {
    const espl_linear *l;
    const espl_sparsegpt_options *o;
    uint64_t *mask; /* [out, words] */
    float *w;       /* [out, in] as updated so far */
    int32_t *keys;  /* [out, columns of a block] */
    double *loss;   /* [out], added in row order: the same sum for any number of threads */
    int64_t words;
    espl_workspace *ws;
} surgeon;

/* Columns first .. last - 1. */
typedef struct column_range {
    int64_t first, last;
} column_range;

/* w^2 / U_jj^2 of columns c of row r as keys: twice the loss of pruning the weight and compensating for it, by the
 * weight of the row's output for the model's loss. */
static void surgeon_keys(const surgeon *s, int64_t r, column_range c, int32_t *keys) {
    const float *w = s->w + r * s->l->in, *factor = s->o->factor;
    for (int64_t i = c.first; i < c.last; i++) {
        float d = factor[i * s->l->in + i], e = w[i] * w[i] / (d * d);
        if (s->o->rows) e = e * s->o->rows[r] * s->o->rows[r];
        espl_select_keys(&e, 1, &keys[i - c.first]);
    }
}

/* Of `count` weights to prune in `in` columns, those that columns c lose: differences of a rounded cumulative share,
 * so that all blocks together lose exactly `count`. */
static int64_t surgeon_share(int64_t count, column_range c, int64_t in) {
    int64_t before = (int64_t)((double)count * (double)c.first / (double)in);
    return (int64_t)((double)count * (double)c.last / (double)in) - before;
}

/* Clears the mask of columns c of row r where the bit of `kept`, whose bit 0 is column c.first, is clear. */
static void surgeon_clear(const surgeon *s, int64_t r, column_range c, const uint64_t *kept) {
    uint64_t *row = s->mask + r * s->words;
    for (int64_t i = c.first; i < c.last; i++)
        if (!espl_mask_row_get(kept, i - c.first)) espl_mask_row_clear(row, i);
}

/* The keys of a block, for espl_select_rank. */
typedef struct block_keys {
    const int32_t *keys; /* [out, n] */
    int64_t n;
} block_keys;

static const int32_t *surgeon_block_row(const void *context, int64_t r, int32_t *scratch) {
    const block_keys *b = context;
    (void)scratch;
    return b->keys + r * b->n;
}

/* Selects the mask of a block of columns. N:M selects group by group in surgeon_row instead, from updated weights. */
static void surgeon_select(surgeon *s, column_range c) {
    int64_t n = c.last - c.first, out = s->l->out, in = s->l->in, count = s->o->count, below;
    if (s->o->given || espl_pattern_is_n_m(s->o->pattern)) return;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int32_t *keys = s->keys + r * n;
        surgeon_keys(s, r, c, keys);
        if (s->o->pattern.group != ESPL_GROUP_ROW) continue;
        uint64_t kept[ESPL_SPARSEGPT_BLOCK_MAX / ESPL_MASK_BITS];
        memset(kept, 0xFF, sizeof kept);
        espl_select_smallest(keys, n, surgeon_share(count / out + (r < count % out), c, in), kept);
        surgeon_clear(s, r, c, kept);
    }
    int64_t k = surgeon_share(count, c, in);
    if (s->o->pattern.group != ESPL_GROUP_LAYER || k == 0) return;
    /* The lowest keys among all rows of the block; among equals the lower row, then the lower column. */
    block_keys b = {s->keys, n};
    espl_select_matrix m = {.rows = out, .columns = n, .row = surgeon_block_row, .context = &b};
    int32_t highest = espl_select_rank(&m, k - 1, &below, s->ws);
    int64_t ties = k - below;
    for (int64_t r = 0; r < out; r++) {
        const int32_t *keys = s->keys + r * n;
        for (int64_t i = 0; i < n; i++) {
            if (keys[i] > highest || (keys[i] == highest && ties <= 0)) continue;
            ties -= keys[i] == highest;
            espl_mask_row_clear(s->mask + r * s->words, c.first + i);
        }
    }
}

/* Takes one row through a block of columns. err [columns of the block]: w / U_jj of the pruned weights, else 0; this is
 * what the columns after the block have to compensate for. */
static void surgeon_row(surgeon *s, int64_t r, column_range c, float *err) {
    int64_t in = s->l->in;
    espl_pattern p = s->o->pattern;
    float *w = s->w + r * in;
    const uint64_t *row = s->mask + r * s->words;
    for (int64_t i = c.first; i < c.last; i++) {
        const float *u = s->o->factor + i * in;
        if (!s->o->given && espl_pattern_is_n_m(p) && i % p.m == 0) {
            int32_t keys[ESPL_PATTERN_M_MAX];
            uint64_t kept = ~UINT64_C(0);
            column_range group = {i, espl_min_i64(i + p.m, in)};
            surgeon_keys(s, r, group, keys);
            espl_select_n_m(keys, group.last - group.first, p.n, p.m, &kept);
            surgeon_clear(s, r, group, &kept);
        }
        float e = espl_mask_row_get(row, i) ? 0 : w[i] / u[i];
        err[i - c.first] = e;
        if (e == 0) continue;
        s->loss[r] += (double)e * (double)e / 2;
        for (int64_t j = i + 1; j < c.last; j++) w[j] -= e * u[j];
    }
}

int64_t espl_prune_sparsegpt_bytes(int64_t out, int64_t in, int64_t block) {
    return out * (espl_min_i64(block, in) * (int64_t)sizeof(int32_t) + (int64_t)sizeof(double));
}

double espl_prune_sparsegpt_flops(int64_t out, int64_t in, int64_t block, int64_t count) {
    double flops = (double)count * (double)(espl_min_i64(block, in) - 1);
    for (int64_t c = block; c < in; c += block) flops += 2 * (double)out * (double)block * (double)(in - c);
    return flops;
}

espl_status espl_prune_sparsegpt(const espl_linear *l, const espl_sparsegpt_options *o, uint64_t *mask, float *weight,
                                 double *loss, espl_workspace *ws) {
    surgeon s = {.l = l, .o = o, .mask = mask, .w = weight, .words = espl_mask_words(l->in), .ws = ws};
    int64_t out = l->out, in = l->in;
    espl_status st;
    if (o->block < 1 || o->block > ESPL_SPARSEGPT_BLOCK_MAX)
        return ESPL_FAIL(ESPL_USAGE, "SparseGPT: blocks of %" PRId64 " columns; expected 1 to %d", o->block,
                         ESPL_SPARSEGPT_BLOCK_MAX);
    bool fits = espl_pattern_is_n_m(o->pattern) ? o->block % o->pattern.m == 0 : o->count >= 0 && o->count <= out * in;
    if (!o->given && !fits)
        return ESPL_FAIL(ESPL_USAGE,
                         "SparseGPT cannot prune %" PRId64 " of %" PRId64 " weights in blocks of %" PRId64
                         " columns by this pattern",
                         o->count, out * in, o->block);
    ESPL_CHECK(st, done,
               espl_mem_alloc(&s.keys, out, (size_t)espl_min_i64(o->block, in) * sizeof *s.keys, "mask keys"));
    ESPL_CHECK(st, done, espl_mem_alloc(&s.loss, out, sizeof *s.loss, "losses"));
    /* A dead feature says nothing about its weights; they are 0 from the start and compensate for nothing. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        float *w = weight + r * in;
        if (o->given) continue;
        espl_prune_widen(l, r, 0, in, w);
        for (int64_t c = 0; c < in; c++) w[c] = o->dead[c] ? 0 : w[c];
    }
    /* A block of columns is finished in all rows before the next one: its mask compares rows (layer), and its errors
     * reach the columns to its right as one product per tile of rows. */
    for (int64_t first = 0; first < in; first += o->block) {
        column_range c = {first, espl_min_i64(first + o->block, in)};
        int64_t n = c.last - c.first;
        surgeon_select(&s, c);
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t r0 = 0; r0 < out; r0 += ROWS) {
            int64_t rows = espl_min_i64(ROWS, out - r0);
            float *err = espl_workspace_scratch(ws);
            for (int64_t r = 0; r < rows; r++) surgeon_row(&s, r0 + r, c, err + r * n);
            if (c.last < in)
                cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)(in - c.last), (int)n, -1.0f,
                            err, (int)n, o->factor + c.first * in + c.last, (int)in, 1.0f, weight + r0 * in + c.last,
                            (int)in);
        }
    }
    *loss = 0;
    for (int64_t r = 0; r < out; r++) *loss += s.loss[r];
        /* A pruned weight still holds the value that its error came from. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++)
            if (!espl_mask_row_get(mask + r * s.words, c)) weight[r * in + c] = 0;
done:
    espl_mem_free(&s.keys);
    espl_mem_free(&s.loss);
    return st;
}
