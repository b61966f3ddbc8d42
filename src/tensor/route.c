/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The choice of experts. One thread works on a token, so that results do not depend on the number of threads.
 */
#include "espalier/tensor/route.h"

#include <math.h>
#include <string.h>

enum { WORTH_THREADS = 1 << 12 }; /* logits; fewer are done before threads have woken */

static void route_softmax(float *p, int64_t n) {
    float max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) max = p[i] > max ? p[i] : max;
    for (int64_t i = 0; i < n; i++) sum += p[i] = expf(p[i] - max);
    for (int64_t i = 0; i < n; i++) p[i] /= sum;
}

static bool route_has(const int32_t *chosen, int64_t n, int64_t expert) {
    for (int64_t k = 0; k < n; k++)
        if (chosen[k] == expert) return true;
    return false;
}

/* The largest of the experts that are not among the first n of `chosen`. Always one, whatever the numbers: NaN too must
 * lead to an expert. */
static int32_t route_next(const float *p, int64_t experts, const int32_t *chosen, int64_t n) {
    int32_t best = -1;
    for (int32_t e = 0; e < experts; e++)
        if ((best < 0 || p[e] > p[best]) && !route_has(chosen, n, e)) best = e;
    return best;
}

void espl_tensor_route(const espl_route_shape *s, float *probs, int64_t T, int32_t *chosen, float *weights) {
    int64_t E = s->experts, K = s->per_token;
#pragma omp parallel for schedule(static) if (T * E > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) {
        float *p = probs + t * E, *w = weights + t * K, sum = 0;
        int32_t *mine = chosen + t * K;
        route_softmax(p, E);
        for (int64_t k = 0; k < K; k++) {
            mine[k] = route_next(p, E, mine, k);
            sum += w[k] = p[mine[k]];
        }
        for (int64_t k = 0; k < K && s->normed; k++) w[k] /= sum;
    }
}

void espl_tensor_route_backward(const espl_route_shape *s, const float *probs, const int32_t *chosen,
                                const float *d_weights, int64_t T, float *d_logits) {
    int64_t E = s->experts, K = s->per_token;
#pragma omp parallel for schedule(static) if (T * E > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) {
        const float *p = probs + t * E, *dw = d_weights + t * K;
        const int32_t *mine = chosen + t * K;
        float *d = d_logits + t * E, sum = 0, mean = 0, dot = 0;
        memset(d, 0, (size_t)E * sizeof *d);
        for (int64_t k = 0; k < K; k++) sum += p[mine[k]];
        for (int64_t k = 0; k < K; k++) mean += dw[k] * p[mine[k]] / sum;
        /* First of the probabilities: w = p / sum, or p. */
        for (int64_t k = 0; k < K; k++) d[mine[k]] = s->normed ? (dw[k] - mean) / sum : dw[k];
        /* Then of the logits, through the softmax. */
        for (int64_t k = 0; k < K; k++) dot += p[mine[k]] * d[mine[k]];
        for (int64_t e = 0; e < E; e++) d[e] = p[e] * (d[e] - dot);
    }
}
