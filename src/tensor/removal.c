/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The removal curve: what pruning the lowest weights adds up to. Of every row: a row is sorted and its partial sums are
 * taken at each level. Of the whole linear: scores are counted in bins, since sorting all of them would take longer
 * than the calibration. Each row, or chunk of rows, is computed by one thread and they are added in order: the same
 * bits on any number of threads.
 */
#include "espalier/tensor/statistics.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/tensor/select.h"
#include "scratch.h"
#include "widen.h"

/* Rows that are sampled of a larger linear: the curve feeds an estimate whose other errors are larger. */
enum { ROWS = 128 };

typedef uint32_t __attribute__((may_alias)) float_bits;

/* One pass of a radix sort, by the byte at `shift`. */
static void sort_by_byte(const float_bits *from, float_bits *to, int64_t n, int shift) {
    int64_t at[257] = {0};
    for (int64_t i = 0; i < n; i++) at[(from[i] >> shift & 255) + 1]++;
    for (int b = 0; b < 256; b++) at[b + 1] += at[b];
    for (int64_t i = 0; i < n; i++) to[at[from[i] >> shift & 255]++] = from[i];
}

/* curve [levels]: partial sums of the sorted squared scores of row r. row: scratch of 2 * in floats. */
static void row_curve(const espl_linear *l, const float *norm, int64_t r, float *row, int64_t levels, double *curve) {
    float_bits *bits = (float_bits *)(void *)row, *spare = bits + l->in;
    double sum = 0;
    espl_linear_widen(l, r, 0, l->in, row);
    for (int64_t c = 0; c < l->in; c++) row[c] = row[c] * norm[c] * (row[c] * norm[c]);
    for (int shift = 0; shift < 32; shift += 16) { /* floats >= 0 order as their bits do */
        sort_by_byte(bits, spare, l->in, shift);
        sort_by_byte(spare, bits, l->in, shift + 8);
    }
    for (int64_t k = 0, c = 0; k < levels; k++) {
        for (; c < (k + 1) * l->in / levels; c++) sum += (double)row[c];
        curve[k] = sum;
    }
}

espl_status espl_tensor_removal_curve(const espl_linear *l, const float *norm, const double *importance, int64_t levels,
                                      double *curve, espl_workspace *ws) {
    int64_t rows = espl_min_i64(l->out, ROWS);
    espl_linear dense = *l;
    double *curves, all = 0, seen = 0;
    dense.mask = NULL;
    if (2 * l->in > TILE_FLOATS)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "a linear of %" PRId64 " inputs is too wide for its removal curve, at most %d", l->in,
                         TILE_FLOATS / 2);
    ESPL_TRY(espl_mem_alloc(&curves, rows * levels, sizeof *curves, "removal curves"));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        row_curve(&dense, norm, i * l->out / rows, espl_workspace_mine(ws).tile, levels, curves + i * levels);
    for (int64_t k = 0; k < levels; k++) curve[k] = 0;
    for (int64_t i = 0; i < rows; i++) {
        double weight = importance[i * l->out / rows];
        seen += weight;
        for (int64_t k = 0; k < levels; k++) curve[k] += weight * curves[i * levels + k];
    }
    /* Sampled rows stand for all of them in proportion to their importance. */
    for (int64_t r = 0; r < l->out; r++) all += importance[r];
    for (int64_t k = 0; k < levels && seen > 0; k++) curve[k] *= all / seen;
    espl_mem_free(&curves);
    return ESPL_OK;
}

/* ------------------------------------------------------- of a whole linear */

/* Bins of a key's upper bits, 8 of exponent and 6 of mantissa. Chunks of rows: as many as threads usually are, whatever
 * they are. */
enum { BIN_SHIFT = 17, BINS = 1 << (31 - BIN_SHIFT), CHUNKS = 8 };

typedef struct removal_bin {
    double damage;
    int64_t weights;
} removal_bin;

espl_status espl_tensor_removal_curve_of_layer(const espl_linear *l, const float *norm, const float *factors,
                                               const double *importance, int64_t levels, double *curve,
                                               espl_workspace *ws) {
    espl_linear dense = *l;
    removal_bin *bins;
    dense.mask = NULL;
    if (2 * l->in > TILE_FLOATS)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "a linear of %" PRId64 " inputs is too wide for its removal curve, at most %d", l->in,
                         TILE_FLOATS / 2);
    ESPL_TRY(espl_mem_alloc(&bins, CHUNKS * BINS, sizeof *bins, "removal curves"));
#pragma omp parallel for schedule(static, 1)
    for (int64_t chunk = 0; chunk < CHUNKS; chunk++) {
        removal_bin *mine = bins + chunk * BINS;
        float *score = espl_workspace_mine(ws).tile;
        int32_t *keys = (int32_t *)(void *)(score + l->in);
        for (int64_t r = chunk * l->out / CHUNKS; r < (chunk + 1) * l->out / CHUNKS; r++) {
            double weight = importance[r];
            float factor = factors[r];
            espl_linear_widen(&dense, r, 0, l->in, score);
            for (int64_t c = 0; c < l->in; c++) score[c] = (score[c] < 0 ? -score[c] : score[c]) * norm[c] * factor;
            espl_select_keys(score, l->in, keys);
            espl_linear_widen(&dense, r, 0, l->in, score);
            for (int64_t c = 0; c < l->in; c++) {
                removal_bin *bin = &mine[keys[c] >> BIN_SHIFT];
                double x = (double)(score[c] * norm[c]);
                bin->damage += weight * x * x;
                bin->weights++;
            }
        }
    }
    for (int64_t chunk = 1; chunk < CHUNKS; chunk++)
        for (int64_t b = 0; b < BINS; b++) {
            bins[b].damage += bins[chunk * BINS + b].damage;
            bins[b].weights += bins[chunk * BINS + b].weights;
        }
    int64_t n = 0, b = 0;
    double sum = 0;
    for (int64_t k = 0; k < levels; k++) {
        int64_t wanted = (k + 1) * l->out * l->in / levels;
        for (; b < BINS && n + bins[b].weights <= wanted; b++) {
            n += bins[b].weights;
            sum += bins[b].damage;
        }
        curve[k] = sum;
        if (b < BINS && n < wanted) curve[k] += bins[b].damage * (double)(wanted - n) / (double)bins[b].weights;
    }
    espl_mem_free(&bins);
    return ESPL_OK;
}
