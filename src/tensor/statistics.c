/* Statistics of activations and of scored weights. */
#include "internal.h"
#include "tiles.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

enum { COLUMNS = 64 };

void espl_tensor_square_sums(const float *x, int64_t T, int64_t C, double *sums) {
#pragma omp parallel for schedule(static)
    for (int64_t c0 = 0; c0 < C; c0 += COLUMNS) {
        int64_t n = tile_min(COLUMNS, C - c0);
        for (int64_t t = 0; t < T; t++) {
            const float *row = x + t * C + c0;
            for (int64_t c = 0; c < n; c++) sums[c0 + c] += (double)row[c] * (double)row[c];
        }
    }
}

void espl_tensor_gram(const float *x, int64_t T, int64_t C, float *gram) {
    enum { MOST = 384, LEAST = 96, ENOUGH = 8 };
    tile_grid g = tile_cut(C, C, MOST, LEAST, ENOUGH);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        int64_t r0 = index % g.r_tiles * g.rn, c0 = index / g.r_tiles * g.cn;
        int64_t rn = tile_min(g.rn, C - r0), cn = tile_min(g.cn, C - c0);
        if (c0 >= r0 + rn) continue; /* above the diagonal */
        if (r0 == c0 && rn == cn)
            cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (int)rn, (int)T, 1.0f, x + r0, (int)C, 1.0f,
                        gram + r0 * C + c0, (int)C);
        else
            cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)rn, (int)cn, (int)T, 1.0f, x + r0, (int)C, x + c0,
                        (int)C, 1.0f, gram + r0 * C + c0, (int)C);
    }
}

/* The mask bits of columns c0 .. c0 + 63 of row r; bits past the last column are 0. c0 is a multiple of 64. */
static uint64_t mask_word(const espl_linear *l, int64_t r, int64_t c0) {
    uint64_t word = l->mask ? l->mask[r * espl_mask_words(l->in) + c0 / 64] : ~UINT64_C(0);
    return l->in - c0 >= 64 ? word : word & ((UINT64_C(1) << (l->in - c0)) - 1);
}

int64_t espl_tensor_surviving(const espl_linear *l) {
    int64_t count = l->mask ? 0 : l->out * l->in;
    if (!l->mask) return count;
#pragma omp parallel for schedule(static) reduction(+ : count)
    for (int64_t r = 0; r < l->out; r++)
        for (int64_t c0 = 0; c0 < l->in; c0 += 64) count += __builtin_popcountll(mask_word(l, r, c0));
    return count;
}

/* --------------------------------------------------- exact selection by radix
 *
 * Scores |w| * norm are floats >= 0, whose bits order as they do. One pass counts the upper 16 bits of each, the second
 * the lower 16 of those that share the wanted upper half. Counts are integers: no order of summation to keep. */
enum { BINS = 1 << 16, NONE = -1 };
_Static_assert((int)BINS <= (int)TILE_OUT * TILE_IN, "a thread's counts fit its panel");

typedef struct selection {
    const espl_linear *l;
    const float *norm; /* [in] */
    int32_t upper;     /* NONE in the first pass */
    int64_t *counts;   /* [BINS] of all threads */
} selection;

/* Counts the scores of one row; row is scratch of at least TILE_IN floats. */
static void count_row(const selection *s, int64_t r, float *row, uint32_t *counts) {
    const espl_linear *l = s->l;
    for (int64_t c0 = 0; c0 < l->in; c0 += 64) {
        int64_t n = tile_min(64, l->in - c0);
        uint64_t word = mask_word(l, r, c0);
        uint32_t bits[64];
        espl_linear_widen(l, r, c0, n, row);
        for (int64_t c = 0; c < n; c++) row[c] = fabsf(row[c]) * s->norm[c0 + c];
        memcpy(bits, row, (size_t)n * sizeof *bits);
        if (s->upper == NONE) {
            for (int64_t c = 0; c < n; c++) counts[bits[c] >> 16] += word >> c & 1;
            continue;
        }
        for (int64_t c = 0; c < n; c++)
            if (bits[c] >> 16 == (uint32_t)s->upper) counts[bits[c] & 0xFFFF] += word >> c & 1;
    }
}

static void count_all(const selection *s, espl_workspace *ws) {
    memset(s->counts, 0, BINS * sizeof *s->counts);
#pragma omp parallel
    {
        scratch mine = espl_workspace_mine(ws);
        uint32_t *counts = (uint32_t *)(void *)mine.panel;
        memset(counts, 0, BINS * sizeof *counts);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < s->l->out; r++) count_row(s, r, mine.tile, counts);
#pragma omp critical(espl_selection)
        for (int64_t b = 0; b < BINS; b++) s->counts[b] += counts[b];
    }
}

/* The bin that holds the score of rank *k (from 0); *k becomes its rank inside the bin. */
static uint32_t find_bin(const int64_t *counts, int64_t *k) {
    uint32_t bin = 0;
    while (bin < BINS - 1 && *k >= counts[bin]) *k -= counts[bin++];
    return bin;
}

espl_status espl_tensor_score_quantile(const espl_linear *l, const float *norm, double fraction, double *out,
                                       espl_workspace *ws) {
    int64_t n = espl_tensor_surviving(l), k = (int64_t)floor(fraction * (double)(n - 1));
    *out = NAN;
    if (n == 0) return ESPL_OK;
    selection s = {.l = l, .norm = norm, .upper = NONE};
    ESPL_TRY(espl_mem_alloc(&s.counts, BINS, sizeof *s.counts, "score counts"));
    count_all(&s, ws);
    s.upper = (int32_t)find_bin(s.counts, &k);
    count_all(&s, ws);
    uint32_t bits = (uint32_t)s.upper << 16 | find_bin(s.counts, &k);
    float score;
    memcpy(&score, &bits, sizeof score);
    *out = (double)score;
    espl_mem_free(&s.counts);
    return ESPL_OK;
}
