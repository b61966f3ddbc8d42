/* SparseGPT (Frantar & Alistarh 2301.00774): columns from left to right; what a pruned weight's loss costs is made up
 * by the weights to its right, at once within a block of columns, by one product after it. Rows do not depend on each
 * other but for the choice of the mask. */
#include "internal.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { ROWS = 64, MOST_BLOCK = 1024 };
_Static_assert(ROWS *MOST_BLOCK * 4 <= ESPL_WORKSPACE_SCRATCH, "a tile's errors fit the scratch");

typedef struct surgeon {
    const espl_linear *l;
    const espl_obs *o;
    uint64_t *mask;
    float *w;      /* [out, in] */
    int32_t *keys; /* [out, block] */
    double *loss;  /* [out] */
    int64_t words;
    espl_workspace *ws;
} surgeon;

/* Columns first .. last - 1. */
typedef struct columns {
    int64_t first, last;
} columns;

static void load(surgeon *s) {
    int64_t in = s->l->in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->l->out; r++) {
        const char *from = (const char *)s->l->weight + (size_t)(r * in) * espl_dtype_size(s->l->dtype);
        float *w = s->w + r * in;
        espl_tensor_widen(from, s->l->dtype, in, w);
        for (int64_t c = 0; c < in; c++) w[c] = s->o->dead[c] ? 0 : w[c];
        s->loss[r] = 0;
    }
}

/* w^2 / U_jj^2 of n columns as keys. */
static void error_keys(const surgeon *s, const float *w, int64_t c0, int64_t n, int32_t *keys) {
    for (int64_t c = 0; c < n; c++) {
        float d = s->o->factor[(c0 + c) * s->l->in + c0 + c], e = w[c] * w[c] / (d * d);
        memcpy(&keys[c], &e, sizeof e);
        keys[c] = keys[c] < KEY_NAN ? keys[c] & INT32_MAX : KEY_NAN;
    }
}

/* What columns 0 .. c - 1 of a row, or of `rows` rows, lose when all of them lose `count`. */
static int64_t lost_until(int64_t count, int64_t c, int64_t in) {
    return (int64_t)((double)count * (double)c / (double)in);
}

/* The mask of one row's block from a word with the pruned ones clear. keys index 0 is column c.first. */
static void clear_bits(const surgeon *s, int64_t r, columns c, const uint64_t *kept) {
    uint64_t *row = s->mask + r * s->words;
    for (int64_t i = c.first; i < c.last; i++)
        if (!(kept[(i - c.first) / 64] >> ((i - c.first) % 64) & 1)) row[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

/* Each row loses its own share. */
static void select_rows(surgeon *s, columns c) {
    int64_t n = c.last - c.first, out = s->l->out, in = s->l->in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int64_t all = s->o->count / out + (r < s->o->count % out);
        uint64_t kept[MOST_BLOCK / 64];
        memset(kept, 0xFF, sizeof kept);
        espl_select_smallest(s->keys + r * n, n, lost_until(all, c.last, in) - lost_until(all, c.first, in), kept);
        clear_bits(s, r, c, kept);
    }
}

/* Keys of the whole block up to a limit. */
static int64_t count_up_to(const surgeon *s, int64_t n, int32_t limit) {
    int64_t count = 0;
#pragma omp parallel for schedule(static) reduction(+ : count)
    for (int64_t r = 0; r < s->l->out; r++) {
        int32_t row = 0;
        for (int64_t c = 0; c < n; c++) row += s->keys[r * n + c] <= limit;
        count += row;
    }
    return count;
}

/* The least key that at least k >= 1 keys do not exceed. */
static int32_t kth_key(const surgeon *s, int64_t n, int64_t k) {
    int32_t lo = -1, hi = KEY_NAN;
    while (hi > lo + 1) {
        int32_t middle = (int32_t)(((int64_t)lo + hi) / 2);
        if (count_up_to(s, n, middle) >= k)
            hi = middle;
        else
            lo = middle;
    }
    return hi;
}

/* All rows of the block compete. */
static void select_block(surgeon *s, columns c) {
    int64_t n = c.last - c.first, in = s->l->in;
    int64_t k = lost_until(s->o->count, c.last, in) - lost_until(s->o->count, c.first, in);
    if (k == 0) return;
    int32_t key = kth_key(s, n, k);
    int64_t ties = k - (key > 0 ? count_up_to(s, n, key - 1) : 0);
    for (int64_t r = 0; r < s->l->out; r++) {
        const int32_t *keys = s->keys + r * n;
        for (int64_t i = 0; i < n; i++) {
            if (keys[i] > key || (keys[i] == key && ties <= 0)) continue;
            ties -= keys[i] == key;
            s->mask[r * s->words + (c.first + i) / 64] &= ~(UINT64_C(1) << ((c.first + i) % 64));
        }
    }
}

static void select_mask(surgeon *s, columns c) {
    int64_t n = c.last - c.first;
    if (s->o->pattern.group == ESPL_GROUP_N_M) return; /* on the way, from updated weights */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->l->out; r++) error_keys(s, s->w + r * s->l->in + c.first, c.first, n, s->keys + r * n);
    if (s->o->pattern.group == ESPL_GROUP_ROW)
        select_rows(s, c);
    else
        select_block(s, c);
}

/* The next group of an N:M pattern begins at column c. */
static void select_group(const surgeon *s, int64_t r, int64_t c) {
    int32_t keys[64];
    uint64_t kept = ~UINT64_C(0);
    columns group = {c, c + espl_min_i64(s->o->pattern.m, s->l->in - c)};
    error_keys(s, s->w + r * s->l->in + c, c, group.last - c, keys);
    espl_select_n_m(keys, group.last - c, &s->o->pattern, &kept);
    clear_bits(s, r, group, &kept);
}

/* One row through a block of columns; err [n] is what each column leaves to those after the block. */
static void walk_row(surgeon *s, int64_t r, columns c, float *err) {
    int64_t in = s->l->in;
    float *w = s->w + r * in;
    const uint64_t *row = s->mask + r * s->words;
    for (int64_t i = c.first; i < c.last; i++) {
        const float *u = s->o->factor + i * in;
        if (s->o->pattern.group == ESPL_GROUP_N_M && i % s->o->pattern.m == 0) select_group(s, r, i);
        float e = row[i / 64] >> (i % 64) & 1 ? 0 : w[i] / u[i];
        err[i - c.first] = e;
        if (e == 0) continue;
        s->loss[r] += (double)e * (double)e / 2;
        for (int64_t j = i + 1; j < c.last; j++) w[j] -= e * u[j];
    }
}

static void walk(surgeon *s, columns c) {
    int64_t in = s->l->in, n = c.last - c.first;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t r0 = 0; r0 < s->l->out; r0 += ROWS) {
        int64_t rows = espl_min_i64(ROWS, s->l->out - r0);
        float *err = espl_workspace_scratch(s->ws);
        for (int64_t r = 0; r < rows; r++) walk_row(s, r0 + r, c, err + r * n);
        if (c.last < in)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)(in - c.last), (int)n, -1.0f, err,
                        (int)n, s->o->factor + c.first * in + c.last, (int)in, 1.0f, s->w + r0 * in + c.last, (int)in);
    }
}

static void clear_pruned(surgeon *s) {
    int64_t in = s->l->in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->l->out; r++)
        for (int64_t c = 0; c < in; c++)
            if (!(s->mask[r * s->words + c / 64] >> (c % 64) & 1)) s->w[r * in + c] = 0;
}

static espl_status check(const espl_linear *l, const espl_obs *o) {
    if (o->pattern.group == ESPL_GROUP_N_M ? o->block % o->pattern.m != 0 : o->count < 0 || o->count > l->out * l->in)
        return ESPL_FAIL(ESPL_USAGE, "SparseGPT cannot prune %lld of %lld weights in blocks of %lld by this pattern",
                         (long long)o->count, (long long)(l->out * l->in), (long long)o->block);
    if (o->block < 1 || o->block > MOST_BLOCK)
        return ESPL_FAIL(ESPL_USAGE, "SparseGPT in blocks of %lld columns: 1 to %d are possible", (long long)o->block,
                         MOST_BLOCK);
    return ESPL_OK;
}

espl_status espl_prune_sparsegpt(const espl_linear *l, const espl_obs *o, uint64_t *mask, float *weight, double *loss,
                                 espl_workspace *ws) {
    surgeon s = {.l = l, .o = o, .mask = mask, .w = weight, .words = espl_mask_words(l->in), .ws = ws};
    ESPL_TRY(check(l, o));
    espl_status st =
        espl_mem_alloc(&s.keys, l->out, (size_t)espl_min_i64(o->block, l->in) * sizeof *s.keys, "mask keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&s.loss, l->out, sizeof *s.loss, "losses");
    if (st == ESPL_OK) {
        load(&s);
        for (int64_t c = 0; c < l->in; c += o->block) {
            columns block = {c, espl_min_i64(c + o->block, l->in)};
            select_mask(&s, block);
            walk(&s, block);
        }
        clear_pruned(&s);
        *loss = 0;
        for (int64_t r = 0; r < l->out; r++) *loss += s.loss[r];
    }
    espl_mem_free(&s.keys);
    espl_mem_free(&s.loss);
    return st;
}
