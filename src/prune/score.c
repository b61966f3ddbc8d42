/* Scores of a linear's weights, row by row, in f32 as the published implementations compute them. */
#include "internal.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    bool activations, gradients;
} scores[ESPL_SCORE_COUNT] = {
#define X(name, text, activations, gradients) {text, activations, gradients},
    ESPL_SCORE_LIST(X)
#undef X
};

const char *espl_score_name(espl_score s) { return scores[s].name; }

bool espl_score_parse(const char *name, espl_score *out) {
    for (int i = 0; i < ESPL_SCORE_COUNT; i++)
        if (strcmp(scores[i].name, name) == 0) return *out = (espl_score)i, true;
    return false;
}

bool espl_score_needs_activations(espl_score s) { return scores[s].activations; }

bool espl_score_needs_gradients(espl_score s) { return scores[s].gradients; }

static const char *const update_names[ESPL_UPDATE_COUNT] = {
#define X(name, text) text,
    ESPL_UPDATE_LIST(X)
#undef X
};

const char *espl_update_name(espl_update u) { return update_names[u]; }

bool espl_update_parse(const char *name, espl_update *out) {
    for (int i = 0; i < ESPL_UPDATE_COUNT; i++)
        if (strcmp(update_names[i], name) == 0) return *out = (espl_update)i, true;
    return false;
}

enum { PIECE = 512 }; /* columns scored at a time: they stay in L1 */

/* |W| of row r, columns c0 .. c0 + n. */
static void magnitudes(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *out) {
    const char *w = (const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype);
    espl_tensor_widen(w, l->dtype, n, out);
    for (int64_t c = 0; c < n; c++) out[c] = fabsf(out[c]);
}

/* Those of n <= PIECE magnitudes of row r, from column c0 (a multiple of 32) on, that survive; the others become 0. */
static void surviving_magnitudes(const scorer *s, int64_t r, int64_t c0, int64_t n, float *out) {
    const uint64_t *row = s->mask + r * s->words;
    magnitudes(s->l, r, c0, n, out);
    for (int64_t c = 0; c < n; c += 32) {
        uint32_t half = (uint32_t)(row[(c0 + c) / 64] >> ((c0 + c) % 64));
        for (int64_t i = 0; i < espl_min_i64(32, n - c); i++) out[c + i] = half >> i & 1 ? out[c + i] : 0;
    }
}

/* Sums of |W| over survivors, one block of columns by one thread, in row order in double. */
static void sum_columns(scorer *s) {
    enum { BLOCK = 64 };
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < s->l->in; c0 += BLOCK) {
        int64_t n = espl_min_i64(BLOCK, s->l->in - c0);
        double sums[BLOCK] = {0};
        float w[BLOCK];
        for (int64_t r = 0; r < s->l->out; r++) {
            surviving_magnitudes(s, r, c0, n, w);
            for (int64_t c = 0; c < n; c++) sums[c] += (double)w[c];
        }
        for (int64_t c = 0; c < n; c++) s->columns[c0 + c] = (float)sums[c];
    }
}

/* In lanes of a fixed number, so that it vectorises. */
static float sum_row(const scorer *s, int64_t r) {
    enum { LANES = 16 };
    double lanes[LANES] = {0}, sum = 0;
    float w[PIECE];
    for (int64_t c0 = 0; c0 < s->l->in; c0 += PIECE) {
        int64_t n = espl_min_i64(PIECE, s->l->in - c0), c = 0;
        surviving_magnitudes(s, r, c0, n, w);
        for (; c + LANES <= n; c += LANES)
            for (int i = 0; i < LANES; i++) lanes[i] += (double)w[c + i];
        for (; c < n; c++) sum += (double)w[c];
    }
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return (float)sum;
}

static espl_status prepare_ria(scorer *s) {
    ESPL_TRY(espl_mem_alloc(&s->columns, s->l->in, sizeof *s->columns, "column sums"));
    ESPL_TRY(espl_mem_alloc(&s->rows, s->l->out, sizeof *s->rows, "row sums"));
    ESPL_TRY(espl_mem_alloc(&s->scale, s->l->in, sizeof *s->scale, "activation scales"));
    sum_columns(s);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < s->l->out; r++) s->rows[r] = sum_row(s, r);
    for (int64_t c = 0; c < s->l->in; c++) s->scale[c] = sqrtf(s->norm[c]);
    return ESPL_OK;
}

espl_status espl_scorer_create(const espl_linear *l, const espl_scoring *what, const uint64_t *mask, scorer *out) {
    *out = (scorer){.l = l,
                    .mask = mask,
                    .words = espl_mask_words(l->in),
                    .score = what->score,
                    .norm = what->norm,
                    .gradient = what->gradient};
    if (l->in * (int64_t)sizeof(int32_t) > ESPL_WORKSPACE_SCRATCH)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "a linear of %lld input features is too wide to prune, the most is %lld",
                         (long long)l->in, (long long)(ESPL_WORKSPACE_SCRATCH / (int64_t)sizeof(int32_t)));
    if (scores[what->score].activations && !what->norm)
        return ESPL_FAIL(ESPL_USAGE, "score %s needs the norms of the activations", scores[what->score].name);
    if (scores[what->score].gradients && !what->gradient)
        return ESPL_FAIL(ESPL_USAGE, "score %s needs the gradient of each weight", scores[what->score].name);
    if (what->score != ESPL_SCORE_RIA) return ESPL_OK;
    espl_status st = prepare_ria(out);
    if (st != ESPL_OK) espl_scorer_destroy(out);
    return st;
}

void espl_scorer_destroy(scorer *s) {
    espl_mem_free(&s->columns);
    espl_mem_free(&s->rows);
    espl_mem_free(&s->scale);
}

/* A sum that is 0 has only zeros to divide. */
static float share(float w, float sum) { return sum > 0 ? w / sum : 0; }

/* |W| of n columns of row r, from c0 on, becomes the score. */
static void score_piece(const scorer *s, int64_t r, int64_t c0, int64_t n, float *w) {
    if (s->score == ESPL_SCORE_MAGNITUDE) return;
    const float *norm = s->norm + c0;
    if (s->score == ESPL_SCORE_WANDA)
        for (int64_t c = 0; c < n; c++) w[c] *= norm[c];
    if (s->score == ESPL_SCORE_RIA) {
        const float *columns = s->columns + c0, *scale = s->scale + c0;
        for (int64_t c = 0; c < n; c++) w[c] = (share(w[c], columns[c]) + share(w[c], s->rows[r])) * scale[c];
    }
    if (scores[s->score].gradients) {
        const float *gradient = s->gradient + r * s->l->in + c0;
        for (int64_t c = 0; c < n; c++) w[c] *= norm[c] + gradient[c];
    }
}

static void mark_pruned(const uint64_t *row, int64_t n, int32_t *keys) {
    for (int64_t c0 = 0; c0 < n; c0 += 32) {
        uint32_t half = (uint32_t)(row[c0 / 64] >> (c0 % 64));
        if (half == UINT32_MAX) continue;
        for (int64_t c = 0; c < espl_min_i64(32, n - c0); c++) keys[c0 + c] = half >> c & 1 ? keys[c0 + c] : KEY_PRUNED;
    }
}

void espl_scorer_keys(const scorer *s, int64_t r, int32_t *keys) {
    float w[PIECE];
    for (int64_t c0 = 0; c0 < s->l->in; c0 += PIECE) {
        int64_t n = espl_min_i64(PIECE, s->l->in - c0);
        magnitudes(s->l, r, c0, n, w);
        score_piece(s, r, c0, n, w);
        memcpy(keys + c0, w, (size_t)n * sizeof *w);
        for (int64_t c = 0; c < n; c++) {
            int32_t key = keys[c0 + c] & INT32_MAX;
            keys[c0 + c] = key < KEY_NAN ? key : KEY_NAN;
        }
    }
    mark_pruned(s->mask + r * s->words, s->l->in, keys);
}
