/* LSA's error of a linear (BeiYazi0/LSA): how fast the output goes wrong when weights go greedily. */
#include "internal.h"

#include <cblas.h>
#include <string.h>

enum { GROUP = 128, ROWS = 64, CHUNK = 2048 };
_Static_assert((ROWS * CHUNK + ROWS * GROUP) * 4 <= ESPL_WORKSPACE_SCRATCH, "a tile's changes fit the scratch");

typedef struct greedy {
    const espl_linear *l;
    const float *hessian; /* [in, in] */
    float *score;         /* [out, in] */
    double *error;        /* [out] */
    espl_workspace *ws;
} greedy;

static void widen_row(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *w) {
    espl_tensor_widen((const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype), l->dtype, n, w);
}

static void first_scores(greedy *g) {
    int64_t in = g->l->in;
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < g->l->out; r++) {
        float *s = g->score + r * in;
        widen_row(g->l, r, 0, in, s);
        for (int64_t c = 0; c < in; c++) s[c] = s[c] * s[c] * g->hessian[c * in + c];
    }
}

static int64_t least(const float *score, const bool *gone, int64_t n) {
    int64_t best = -1;
    for (int64_t c = 0; c < n; c++)
        if (!gone[c] && (best < 0 || score[c] < score[best])) best = c;
    return best;
}

/* Half of a group's weights of one row go; w_gone [n] is what went, 0 elsewhere. */
static void shrink_row(greedy *g, int64_t r, int64_t c0, int64_t n, float *w_gone) {
    int64_t in = g->l->in;
    float w[GROUP], *score = g->score + r * in + c0;
    bool gone[GROUP] = {false};
    widen_row(g->l, r, c0, n, w);
    memset(w_gone, 0, (size_t)n * sizeof *w_gone);
    for (int64_t k = 0; k < n / 2; k++) {
        int64_t i = least(score, gone, n);
        const float *h = g->hessian + (c0 + i) * in + c0;
        float twice = 2 * w[i];
        g->error[r] += (double)score[i];
        w_gone[i] = w[i];
        gone[i] = true;
        for (int64_t c = 0; c < n; c++) score[c] += w[c] * twice * h[c];
    }
}

/* score[c] += 2 w_c * sum over what went of w_i H_ic, for the columns after the group. went [rows, n]. */
static void spread(greedy *g, int64_t r0, int64_t rows, int64_t c0, int64_t n, const float *went, float *change) {
    int64_t in = g->l->in;
    for (int64_t c = c0 + n; c < in; c += CHUNK) {
        int64_t width = espl_min_i64(CHUNK, in - c);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)width, (int)n, 2.0f, went, (int)n,
                    g->hessian + c0 * in + c, (int)in, 0.0f, change, (int)width);
        for (int64_t r = 0; r < rows; r++) {
            float w[CHUNK], *score = g->score + (r0 + r) * in + c;
            widen_row(g->l, r0 + r, c, width, w);
            for (int64_t i = 0; i < width; i++) score[i] += w[i] * change[r * width + i];
        }
    }
}

static void shrink(greedy *g) {
    int64_t in = g->l->in;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t r0 = 0; r0 < g->l->out; r0 += ROWS) {
        int64_t rows = espl_min_i64(ROWS, g->l->out - r0);
        float *went = espl_workspace_scratch(g->ws), *change = went + ROWS * GROUP;
        for (int64_t c0 = 0; c0 < in; c0 += GROUP) {
            int64_t n = espl_min_i64(GROUP, in - c0);
            for (int64_t r = 0; r < rows; r++) shrink_row(g, r0 + r, c0, n, went + r * n);
            spread(g, r0, rows, c0, n, went, change);
        }
    }
}

espl_status espl_prune_lsa_error(const espl_linear *l, const float *hessian, double *error, espl_workspace *ws) {
    greedy g = {.l = l, .hessian = hessian, .ws = ws};
    espl_status st = espl_mem_alloc(&g.score, l->out, (size_t)l->in * sizeof *g.score, "greedy scores");
    if (st == ESPL_OK) st = espl_mem_alloc(&g.error, l->out, sizeof *g.error, "greedy errors");
    if (st == ESPL_OK) {
        first_scores(&g);
        shrink(&g);
        *error = 0;
        for (int64_t r = 0; r < l->out; r++) *error += g.error[r];
    }
    espl_mem_free(&g.score);
    espl_mem_free(&g.error);
    return st;
}
