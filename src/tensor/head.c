/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head: softmax over the vocabulary, whose logits [T, vocab] would be the largest matrix of a pass and are never
 * held as a whole.
 *
 * Log-probabilities: each tile of logits is reduced to a maximum and a sum of exponentials per token, in the thread's
 * scratch; the tiles of a token are then merged in tile order, in double.
 *
 * Gradient: a piece of the vocabulary at a time, in two passes. The first computes log sum exp, the second the logits
 * once more and (softmax - onehot) W.
 */
#include <math.h>
#include <string.h>

#include "exp.h"
#include "linear_tile.h"
#include "scratch.h"
#include "widen.h"

/* Maximum of m and the logits; *sum = sum of exp(logit - maximum). */
static float logits_sum_exp(const float *logits, int64_t n, float m, float *sum) {
    float s = 0;
#pragma omp simd reduction(max : m)
    for (int64_t i = 0; i < n; i++) m = logits[i] > m ? logits[i] : m;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += fast_exp(logits[i] - m);
    *sum = s;
    return m;
}

/* ------------------------------------------------------ log-probabilities */

enum { TILE_MAX = 512 };
_Static_assert(TILE_MAX *TILE_MAX <= TILE_FLOATS, "a tile of logits fits the scratch");

/* Whole tiles only: there are enough of them, since a vocabulary is large. */
static tile_grid head_grid(const espl_linear *head, int64_t T) { return tile_cut(T, head->out, TILE_MAX, TILE_MAX, 0); }

int64_t espl_head_partial_floats(const espl_linear *head, int64_t T) {
    tile_grid g = head_grid(head, T);
    return 2 * T * (g.count / g.r_tiles);
}

void espl_tensor_logprob(const espl_linear *head, const float *x, int64_t T, const int32_t *target, double *logprob,
                         float *partial, espl_workspace *ws) {
    tile_grid g = head_grid(head, T);
    int64_t columns = g.count / g.r_tiles;
    memset(logprob, 0, (size_t)T * sizeof *logprob);
    /* partial [columns, T, 2]: maximum and sum of each token's tiles. logprob: the target's logit, from the one tile
     * that holds it. */
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t index = 0; index < g.count; index++) {
        tile at = tile_at(&g, index);
        scratch s = espl_workspace_mine(ws);
        espl_linear_tile(head, x, &at, at.rn, s.tile, at.cn, false, &s);
        for (int64_t t = 0; t < at.rn; t++) {
            const float *logits = s.tile + t * at.cn;
            float *p = partial + 2 * (index / g.r_tiles * T + at.r0 + t);
            p[0] = logits_sum_exp(logits, at.cn, -INFINITY, &p[1]);
            int64_t id = target[at.r0 + t];
            if (id >= at.c0 && id < at.c0 + at.cn) logprob[at.r0 + t] = (double)logits[id - at.c0];
        }
    }
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++) {
        if (target[t] < 0) continue;
        float m = partial[2 * t];
        double sum = 0;
        for (int64_t c = 1; c < columns; c++) m = partial[2 * (c * T + t)] > m ? partial[2 * (c * T + t)] : m;
        for (int64_t c = 0; c < columns; c++) {
            const float *p = partial + 2 * (c * T + t);
            sum += (double)p[1] * exp((double)p[0] - (double)m);
        }
        logprob[t] -= (double)m + log(sum);
    }
}

/* --------------------------------------------------------------- gradient */

enum { PIECE = ESPL_HEAD_PIECE };

static espl_linear head_piece(const espl_linear *head, int64_t r0) {
    espl_linear p = *head;
    p.weight = (const char *)head->weight + (size_t)(r0 * head->in) * espl_dtype_size(head->dtype);
    p.out = espl_min_i64(PIECE, head->out - r0);
    p.mask = head->mask ? head->mask + r0 * espl_mask_words(head->in) : NULL;
    p.bias = head->bias ? head->bias + r0 : NULL;
    return p;
}

int64_t espl_head_backward_floats(const espl_linear *head, int64_t T) {
    return T * (espl_min_i64(PIECE, head->out) + 2);
}

/* First pass over the pieces of the vocabulary, for n of T tokens: lse becomes the largest logit, sum the sum of
 * exp(logit - that), and picked, if there are targets, the target's logit. logits: scratch of a piece. */
static void head_normalise(const espl_linear *head, const float *x, int64_t n, int64_t T, const int32_t *target,
                           float *lse, double *sum, float *picked, float *logits, espl_workspace *ws) {
    for (int64_t t = 0; t < n; t++) {
        lse[t] = -INFINITY;
        sum[t] = 0;
    }
    for (int64_t r0 = 0; r0 < head->out; r0 += PIECE) {
        espl_linear p = head_piece(head, r0);
        espl_tensor_linear_blocks(&p, 1, x, n, T, &logits, false, ws);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < n; t++) {
            float s, m = logits_sum_exp(logits + t * p.out, p.out, lse[t], &s);
            sum[t] = sum[t] * exp((double)lse[t] - (double)m) + (double)s;
            lse[t] = m;
            if (target && target[t] >= r0 && target[t] < r0 + p.out) picked[t] = logits[t * p.out + target[t] - r0];
        }
    }
}

void espl_tensor_head_backward(const espl_linear *head, const float *x, int64_t T, const int32_t *target, float scale,
                               double *logprob, float *dx, float *buffer, espl_workspace *ws) {
    espl_tensor_head_backward_blocks(head, x, T, T, target, scale, logprob, dx, buffer, ws);
}

void espl_tensor_head_backward_blocks(const espl_linear *head, const float *x, int64_t rows, int64_t T,
                                      const int32_t *target, float scale, double *logprob, float *dx, float *buffer,
                                      espl_workspace *ws) {
    float *lse = buffer, *picked = lse + rows, *logits = picked + rows;
    head_normalise(head, x, rows, T, target, lse, logprob, picked, logits, ws);
    for (int64_t t = 0; t < rows; t++) {
        double all = (double)lse[t] + log(logprob[t]);
        lse[t] = (float)all;
        logprob[t] = target[t] >= 0 ? (double)picked[t] - all : 0;
    }
    /* Second pass. The logits of a piece become scale * (softmax - onehot). */
    for (int64_t r0 = 0; r0 < head->out; r0 += PIECE) {
        espl_linear p = head_piece(head, r0);
        espl_tensor_linear_blocks(&p, 1, x, rows, T, &logits, false, ws);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < rows; t++) {
            float *gradient = logits + t * p.out, factor = target[t] >= 0 ? scale : 0;
#pragma omp simd
            for (int64_t i = 0; i < p.out; i++) gradient[i] = factor * fast_exp(gradient[i] - lse[t]);
            if (target[t] >= r0 && target[t] < r0 + p.out) gradient[target[t] - r0] -= scale;
        }
        espl_tensor_linear_backward_blocks(&p, 1, (const float *const[]){logits}, rows, T, dx, r0 > 0, ws);
    }
}

/* ------------------------------------------------------------ distillation */

int64_t espl_head_distill_floats(const espl_linear *head, int64_t T) {
    return 2 * T * (espl_min_i64(PIECE, head->out) + 1);
}

/* Log sum exp of a model's logits for each of n tokens. sum [n]: scratch. */
static void distill_normalise(const espl_linear *head, const float *x, int64_t n, float *lse, double *sum,
                              float *logits, espl_workspace *ws) {
    head_normalise(head, x, n, n, NULL, lse, sum, NULL, logits, ws);
    for (int64_t t = 0; t < n; t++) lse[t] = (float)((double)lse[t] + log(sum[t]));
}

void espl_tensor_head_distill(const espl_linear *head, const float *x, const float *teacher, int64_t T, int64_t n,
                              float scale, double *divergence, float *dx, float *buffer, espl_workspace *ws) {
    int64_t piece = espl_min_i64(PIECE, head->out);
    float *own = buffer, *lse = own + T * piece, *taught = lse + T, *taught_lse = taught + T * piece;
    memset(divergence, 0, (size_t)T * sizeof *divergence);
    memset(dx, 0, (size_t)(T * head->in) * sizeof *dx);
    if (n == 0) return;
    distill_normalise(head, x, n, lse, divergence, own, ws);
    distill_normalise(head, teacher, n, taught_lse, divergence, taught, ws);
    memset(divergence, 0, (size_t)n * sizeof *divergence);
    for (int64_t r0 = 0; r0 < head->out; r0 += PIECE) {
        espl_linear p = head_piece(head, r0);
        espl_tensor_linear(&p, 1, x, n, &own, false, ws);
        espl_tensor_linear(&p, 1, teacher, n, &taught, false, ws);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < n; t++) {
            float *q = own + t * p.out, sum = 0;
            const float *u = taught + t * p.out;
#pragma omp simd reduction(+ : sum)
            for (int64_t i = 0; i < p.out; i++) {
                float log_q = q[i] - lse[t], log_p = u[i] - taught_lse[t], prob = fast_exp(log_p);
                sum += prob * (log_p - log_q);
                q[i] = scale * (fast_exp(log_q) - prob);
            }
            divergence[t] += (double)sum;
        }
        espl_tensor_linear_backward(&p, 1, (const float *const[]){own}, n, dx, r0 > 0, ws);
    }
}

/* ---------------------------------------------------- among a few ids alone */

void espl_tensor_choices(const espl_linear *head, const float *x, int64_t T, const int32_t *target,
                         const int32_t *choices, int64_t n, float scale, double *logprob, float *dx,
                         espl_workspace *ws) {
    int64_t C = head->in;
    float *row = espl_workspace_mine(ws).panel; /* few tokens have a target: one thread is enough */
    for (int64_t t = 0; t < T; t++) {
        double logit[ESPL_CHOICES_MAX], most = -INFINITY, sum = 0;
        logprob[t] = 0;
        if (dx) memset(dx + t * C, 0, (size_t)C * sizeof *dx);
        if (target[t] < 0) continue;
        for (int64_t k = 0; k < n; k++) {
            espl_linear_widen(head, choices[k], 0, C, row);
            logit[k] = head->bias ? (double)head->bias[choices[k]] : 0;
            for (int64_t c = 0; c < C; c++) logit[k] += (double)row[c] * (double)x[t * C + c];
            most = fmax(most, logit[k]);
        }
        for (int64_t k = 0; k < n; k++) sum += exp(logit[k] - most);
        for (int64_t k = 0; k < n; k++) {
            double p = exp(logit[k] - most) / sum;
            bool right = choices[k] == target[t];
            if (right) logprob[t] = logit[k] - most - log(sum);
            if (!dx) continue;
            float factor = scale * (float)(p - (right ? 1 : 0));
            espl_linear_widen(head, choices[k], 0, C, row);
            for (int64_t c = 0; c < C; c++) dx[t * C + c] += factor * row[c];
        }
    }
}
