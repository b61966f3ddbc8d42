/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removal curves. Of every row: a row's weights are sorted by score and their squares summed. Of the whole linear:
 * squares are counted in bins of the score, since sorting all of them would take longer than the calibration that the
 * scores come from. Each row, or chunk of rows, is computed by one thread, and they are added in order.
 */
#include "espalier/prune/removal.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "internal.h"

typedef struct removal {
    scorer s;
    const float *norm;
    const double *const *importance; /* [n] */
    int n;
    int64_t levels;
    double *curves; /* [n, levels] */
    espl_workspace *ws;
} removal;

/* (W norm)^2 of a row's weights. */
static void removal_squares(const removal *v, int64_t r, float *squares) {
    espl_prune_widen(v->s.l, r, 0, v->s.l->in, squares);
    for (int64_t c = 0; c < v->s.l->in; c++) squares[c] = squares[c] * v->norm[c] * (squares[c] * v->norm[c]);
}

/* --------------------------------------------------------------- of each row */

/* A weight as one integer: key of its score above, bits of its square below. Integers order as scores do. */
static uint64_t removal_pair(int32_t key, float square) {
    uint32_t bits;
    memcpy(&bits, &square, sizeof bits);
    return (uint64_t)(uint32_t)key << 32 | bits;
}

static double removal_square_of(uint64_t pair) {
    uint32_t bits = (uint32_t)pair;
    float square;
    memcpy(&square, &bits, sizeof square);
    return (double)square;
}

/* Sorts n pairs by their keys, a byte at a time; `spare` [n] is scratch. Four passes: the result is in `pairs`. */
static void removal_sort(uint64_t *pairs, uint64_t *spare, int64_t n) {
    for (int shift = 32; shift < 64; shift += 8) {
        int64_t at[257] = {0};
        for (int64_t i = 0; i < n; i++) at[(pairs[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++) at[b + 1] += at[b];
        for (int64_t i = 0; i < n; i++) spare[at[pairs[i] >> shift & 255]++] = pairs[i];
        uint64_t *sorted = spare;
        spare = pairs;
        pairs = sorted;
    }
}

/* sums [levels]: squares of the lowest weights of row r. pairs: scratch of 2 * in. */
static void removal_of_row(const removal *v, int64_t r, uint64_t *pairs, double *sums) {
    int64_t in = v->s.l->in;
    int32_t *keys = (int32_t *)(void *)(pairs + in);
    float *squares = (float *)(void *)(keys + in);
    double sum = 0;
    espl_scorer_keys(&v->s, r, keys);
    removal_squares(v, r, squares);
    for (int64_t c = 0; c < in; c++) pairs[c] = removal_pair(keys[c], squares[c]);
    removal_sort(pairs, pairs + in, in);
    for (int64_t k = 0, c = 0; k < v->levels; k++) {
        for (; c < (k + 1) * in / v->levels; c++) sum += removal_square_of(pairs[c]);
        sums[k] = sum;
    }
}

static espl_status removal_of_rows(removal *v) {
    int64_t out = v->s.l->out, in = v->s.l->in, levels = v->levels;
    double *sums = NULL;
    uint64_t *pairs = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&sums, out * levels, sizeof *sums, "removal curves"));
    ESPL_CHECK(st, done, espl_mem_alloc(&pairs, espl_tensor_threads() * 2 * in, sizeof *pairs, "removal curves"));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) removal_of_row(v, r, pairs + espl_tensor_thread() * 2 * in, sums + r * levels);
    for (int i = 0; i < v->n; i++)
        for (int64_t r = 0; r < out; r++)
            for (int64_t k = 0; k < levels; k++)
                v->curves[i * levels + k] += v->importance[i][r] * sums[r * levels + k];
done:
    espl_mem_free(&sums);
    espl_mem_free(&pairs);
    return st;
}

/* ------------------------------------------------------- of a whole linear */

/* Bins of a key's upper bits, 8 of exponent and 6 of mantissa. Chunks of rows: as many as threads usually are, whatever
 * they are. */
enum { BIN_SHIFT = 17, BINS = 1 << (31 - BIN_SHIFT), CHUNKS = 8 };

typedef struct removal_bin {
    double damage[ESPL_REMOVAL_CURVES_MAX];
    int64_t weights;
} removal_bin;

/* Adds the weights of a chunk of rows to its bins. */
static void removal_count(const removal *v, int64_t first, int64_t last, removal_bin *bins) {
    int64_t in = v->s.l->in;
    int32_t *keys = espl_workspace_scratch(v->ws);
    float *squares = (float *)(void *)(keys + in);
    for (int64_t r = first; r < last; r++) {
        espl_scorer_keys(&v->s, r, keys);
        removal_squares(v, r, squares);
        for (int64_t c = 0; c < in; c++) {
            removal_bin *bin = &bins[keys[c] >> BIN_SHIFT];
            for (int i = 0; i < v->n; i++) bin->damage[i] += v->importance[i][r] * (double)squares[c];
            bin->weights++;
        }
    }
}

/* Reads the curves off the bins: where a level ends inside a bin, it takes its share of it. */
static void removal_read_bins(const removal *v, const removal_bin *bins) {
    int64_t weights = v->s.l->out * v->s.l->in;
    for (int i = 0; i < v->n; i++) {
        int64_t n = 0, b = 0;
        double sum = 0;
        for (int64_t k = 0; k < v->levels; k++) {
            int64_t wanted = (k + 1) * weights / v->levels;
            for (; b < BINS && n + bins[b].weights <= wanted; b++) {
                n += bins[b].weights;
                sum += bins[b].damage[i];
            }
            double rest = b < BINS && n < wanted ? (double)(wanted - n) / (double)bins[b].weights : 0;
            v->curves[i * v->levels + k] = sum + (rest > 0 ? rest * bins[b].damage[i] : 0);
        }
    }
}

static espl_status removal_of_linear(removal *v) {
    removal_bin *bins;
    int64_t out = v->s.l->out;
    if (2 * v->s.l->in * (int64_t)sizeof(float) > ESPL_WORKSPACE_SCRATCH)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "a linear of %" PRId64 " inputs is too wide for its removal curve",
                         v->s.l->in);
    ESPL_TRY(espl_mem_alloc(&bins, CHUNKS * BINS, sizeof *bins, "removal curves"));
#pragma omp parallel for schedule(static, 1)
    for (int64_t chunk = 0; chunk < CHUNKS; chunk++)
        removal_count(v, chunk * out / CHUNKS, (chunk + 1) * out / CHUNKS, bins + chunk * BINS);
    for (int64_t b = BINS; b < CHUNKS * BINS; b++) { /* chunk after chunk */
        removal_bin *sum = &bins[b % BINS];
        for (int i = 0; i < v->n; i++) sum->damage[i] += bins[b].damage[i];
        sum->weights += bins[b].weights;
    }
    removal_read_bins(v, bins);
    espl_mem_free(&bins);
    return ESPL_OK;
}

espl_status espl_prune_removal_curves(const espl_linear *l, const espl_scoring *by, espl_group group, const float *norm,
                                      const double *const *importance, int n, int64_t levels, double *curves,
                                      espl_workspace *ws) {
    removal v = {.norm = norm, .importance = importance, .n = n, .levels = levels, .curves = curves, .ws = ws};
    espl_linear dense = *l;
    uint64_t *all = NULL;
    espl_status st;
    dense.mask = NULL;
    for (int64_t k = 0; k < n * levels; k++) curves[k] = 0;
    ESPL_TRY(espl_mem_alloc(&all, l->out * espl_mask_words(l->in), sizeof *all, "removal curves"));
    espl_mask_fill(all, l->out, l->in);
    ESPL_CHECK(st, done, espl_scorer_create(&dense, by, all, &v.s));
    st = group == ESPL_GROUP_ROW ? removal_of_rows(&v) : removal_of_linear(&v);
    espl_scorer_destroy(&v.s);
done:
    espl_mem_free(&all);
    return st;
}
