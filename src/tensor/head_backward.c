/* Cross entropy and its gradient through the head, a piece of the vocabulary at a time: first the log-sum-exp, then,
 * with the logits computed once more, (softmax - onehot) W. [T, vocab] never exists. */
#include "internal.h"
#include "tiles.h"

#include <math.h>

enum { PIECE = 2048 }; /* rows of the head at a time */

static espl_linear piece_of(const espl_linear *head, int64_t r0) {
    espl_linear p = *head;
    p.weight = (const char *)head->weight + (size_t)(r0 * head->in) * espl_dtype_size(head->dtype);
    p.out = tile_min(PIECE, head->out - r0);
    p.mask = head->mask ? head->mask + r0 * espl_mask_words(head->in) : NULL;
    p.bias = head->bias ? head->bias + r0 : NULL;
    return p;
}

int64_t espl_head_backward_floats(const espl_linear *head, int64_t T) { return T * (tile_min(PIECE, head->out) + 2); }

/* Adds a piece's logits to a token's running maximum *m and sum of exp(logit - *m). */
static void add_to_sum(const float *logits, int64_t n, float *m, double *sum) {
    float most = *m, s = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = logits[i] > most ? logits[i] : most;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += fast_exp(logits[i] - most);
    *sum = *sum * exp((double)*m - (double)most) + (double)s;
    *m = most;
}

/* logprob [T] = log-probability of the targets; lse [T]. */
static void first_pass(const espl_linear *head, const float *x, int64_t T, const int32_t *target, double *logprob,
                       float *lse, float *picked, float *logits, espl_workspace *ws) {
    for (int64_t t = 0; t < T; t++) {
        lse[t] = -INFINITY;
        logprob[t] = 0;
    }
    for (int64_t r0 = 0; r0 < head->out; r0 += PIECE) {
        espl_linear p = piece_of(head, r0);
        espl_tensor_linear(&p, 1, x, T, &logits, false, ws);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < T; t++) {
            add_to_sum(logits + t * p.out, p.out, &lse[t], &logprob[t]);
            if (target[t] >= r0 && target[t] < r0 + p.out) picked[t] = logits[t * p.out + target[t] - r0];
        }
    }
    for (int64_t t = 0; t < T; t++) {
        double all = (double)lse[t] + log(logprob[t]);
        lse[t] = (float)all;
        logprob[t] = target[t] >= 0 ? (double)picked[t] - all : 0;
    }
}

/* logits [n] become scale * (softmax - onehot); at: the target's place in this piece, if it is in it. */
static void softmax_gradient(float *logits, int64_t n, float lse, float scale, int64_t at) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) logits[i] = scale * fast_exp(logits[i] - lse);
    if (at >= 0 && at < n) logits[at] -= scale;
}

void espl_tensor_head_backward(const espl_linear *head, const float *x, int64_t T, const int32_t *target, float scale,
                               double *logprob, float *dx, float *buffer, espl_workspace *ws) {
    float *lse = buffer, *picked = lse + T, *logits = picked + T;
    first_pass(head, x, T, target, logprob, lse, picked, logits, ws);
    for (int64_t r0 = 0; r0 < head->out; r0 += PIECE) {
        espl_linear p = piece_of(head, r0);
        espl_tensor_linear(&p, 1, x, T, &logits, false, ws);
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < T; t++)
            softmax_gradient(logits + t * p.out, p.out, lse[t], target[t] >= 0 ? scale : 0, target[t] - r0);
        espl_tensor_linear_backward(&p, 1, (const float *const[]){logits}, T, dx, r0 > 0, ws);
    }
}
