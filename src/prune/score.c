/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scores of a linear's weights, row by row, in f32 as the published implementations compute them.
 */
#include "internal.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- RIA's sums */

/* Columns handled at a time: they stay in L1. HALF bits of a mask word at a time: the loop over them vectorises. */
enum { PIECE = 512, HALF = 32 };

/* |W| of n columns of row r from column c0 (a multiple of HALF) on; 0 where a weight is pruned. */
static void surviving_magnitudes(const scorer *s, int64_t r, int64_t c0, int64_t n, float *w) {
    const uint64_t *row = s->mask + r * s->words;
    espl_prune_widen(s->l, r, c0, n, w);
    for (int64_t c = 0; c < n; c++) w[c] = fabsf(w[c]);
    for (int64_t c = 0; c < n; c += HALF) {
        uint32_t bits = (uint32_t)espl_mask_row_bits(row, c0 + c, HALF);
        for (int64_t i = 0; i < espl_min_i64(HALF, n - c); i++) w[c + i] = bits >> i & 1 ? w[c + i] : 0;
    }
}

/* Sums are formed in f64 and in a fixed order: a block of columns by one thread from the first row to the last, a row
 * in a fixed number of lanes. */
static void ria_sums(scorer *s) {
    enum { BLOCK = 64, LANES = 16 };
    int64_t in = s->l->in, out = s->l->out;
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < in; c0 += BLOCK) {
        int64_t n = espl_min_i64(BLOCK, in - c0);
        double sums[BLOCK] = {0};
        float w[BLOCK];
        for (int64_t r = 0; r < out; r++) {
            surviving_magnitudes(s, r, c0, n, w);
            for (int64_t c = 0; c < n; c++) sums[c] += (double)w[c];
        }
        for (int64_t c = 0; c < n; c++) s->column_sums[c0 + c] = (float)sums[c];
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        double lanes[LANES] = {0}, sum = 0;
        float w[PIECE];
        for (int64_t c0 = 0; c0 < in; c0 += PIECE) {
            int64_t n = espl_min_i64(PIECE, in - c0), c = 0;
            surviving_magnitudes(s, r, c0, n, w);
            for (; c + LANES <= n; c += LANES)
                for (int i = 0; i < LANES; i++) lanes[i] += (double)w[c + i];
            for (; c < n; c++) sum += (double)w[c];
        }
        for (int i = 0; i < LANES; i++) sum += lanes[i];
        s->row_sums[r] = (float)sum;
    }
}

/* ---------------------------------------------------------------- scorer */

espl_status espl_scorer_create(const espl_linear *l, const espl_scoring *by, const uint64_t *mask, scorer *out) {
    const int64_t keys_max = ESPL_WORKSPACE_SCRATCH / (int64_t)sizeof(int32_t);
    espl_status st;
    *out = (scorer){.l = l, .by = by, .mask = mask, .words = espl_mask_words(l->in)};
    if (l->in > keys_max)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "cannot score a linear of %" PRId64 " input features; the maximum is %" PRId64, l->in,
                         keys_max);
    if (espl_score_needs_activations(by->score) && !by->norm)
        return ESPL_FAIL(ESPL_USAGE, "score %s needs the norms of the activations", espl_score_name(by->score));
    if (espl_score_needs_gradients(by->score) && !by->gradient)
        return ESPL_FAIL(ESPL_USAGE, "score %s needs the gradient of each weight", espl_score_name(by->score));
    if (espl_score_needs_outputs(by->score) && !by->rows)
        return ESPL_FAIL(ESPL_USAGE, "score %s needs a factor for each row", espl_score_name(by->score));
    if (by->score != ESPL_SCORE_RIA) return ESPL_OK;
    ESPL_CHECK(st, failed, espl_mem_alloc(&out->column_sums, l->in, sizeof *out->column_sums, "column sums"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&out->row_sums, l->out, sizeof *out->row_sums, "row sums"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&out->scale, l->in, sizeof *out->scale, "activation scales"));
    ria_sums(out);
    for (int64_t c = 0; c < l->in; c++) out->scale[c] = sqrtf(by->norm[c]);
    return ESPL_OK;
failed:
    espl_scorer_destroy(out);
    return st;
}

void espl_scorer_destroy(scorer *s) {
    espl_mem_free(&s->column_sums);
    espl_mem_free(&s->row_sums);
    espl_mem_free(&s->scale);
}

int64_t espl_scorer_bytes(espl_score score, int64_t out, int64_t in) {
    return score == ESPL_SCORE_RIA ? (2 * in + out) * (int64_t)sizeof(float) : 0;
}

/* |w| / sum; a sum of 0 has only zeros to divide. */
static float ria_fraction(float w, float sum) { return sum > 0 ? w / sum : 0; }

/* Piece by piece: a piece's scores are computed, and become keys, while they are in L1. The mask is applied to the keys
 * at the end rather than to the weights, since a pruned weight must rank above every score, NaN included. */
void espl_scorer_keys(const scorer *s, int64_t r, int32_t *keys) {
    const uint64_t *row = s->mask + r * s->words;
    int64_t in = s->l->in;
    float w[PIECE];
    for (int64_t c0 = 0; c0 < in; c0 += PIECE) {
        int64_t n = espl_min_i64(PIECE, in - c0);
        const float *norm = s->by->norm; /* [in]; scores without activations do not read it */
        espl_prune_widen(s->l, r, c0, n, w);
        for (int64_t c = 0; c < n; c++) w[c] = fabsf(w[c]);
        switch (s->by->score) { /* no default: the compiler reports a score that is missing here */
        case ESPL_SCORE_MAGNITUDE:
            break;
        case ESPL_SCORE_WANDA:
            for (int64_t c = 0; c < n; c++) w[c] *= norm[c0 + c];
            break;
        case ESPL_SCORE_RIA: {
            const float *columns = s->column_sums + c0, *scale = s->scale + c0;
            for (int64_t c = 0; c < n; c++)
                w[c] = (ria_fraction(w[c], columns[c]) + ria_fraction(w[c], s->row_sums[r])) * scale[c];
            break;
        }
        case ESPL_SCORE_CURVATURE: {
            float row_factor = s->by->rows[r];
            for (int64_t c = 0; c < n; c++) w[c] = w[c] * norm[c0 + c] * row_factor;
            break;
        }
        case ESPL_SCORE_GBLM:
        case ESPL_SCORE_RGS: {
            const float *gradient = s->by->gradient + r * in + c0;
            for (int64_t c = 0; c < n; c++) w[c] *= norm[c0 + c] + gradient[c];
            break;
        }
        case ESPL_SCORE_COUNT:
            break;
        }
        espl_select_keys(w, n, keys + c0);
    }
    espl_select_mark_pruned(row, in, keys);
}
