/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens on their way to the experts of a layer and back. A token is at most once among an expert's pairs, so threads
 * may take pairs of an expert in any order. */
#include "experts.h"

#include <string.h>

#include "espalier/base/region.h"

enum { WORTH_THREADS = 1 << 15 }; /* floats; fewer are done before threads have woken */

espl_route_shape espl_experts_shape(const espl_model_config *c) {
    return (espl_route_shape){.experts = c->experts, .per_token = c->experts_per_token, .normed = c->experts_normed};
}

void espl_experts_route(const espl_model *m, int64_t local_layer, const float *x, int64_t T, const expert_routing *r) {
    const espl_route_shape shape = espl_experts_shape(&m->config);
    int64_t slots = T * shape.per_token, at = 0;
    float *logits = r->probs;
    double t = espl_clock_now();
    espl_tensor_linear(&m->layers[local_layer].router, 1, x, T, &logits, false, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_route(&shape, r->probs, T, r->chosen, r->weights);
    /* Counting sort: first[e + 1] counts the pairs of e, then moves from their beginning to their end. */
    memset(r->first, 0, (size_t)(shape.experts + 1) * sizeof *r->first);
    for (int64_t s = 0; s < slots; s++) r->first[r->chosen[s] + 1]++;
    for (int64_t e = 0; e < shape.experts; e++) {
        int64_t n = r->first[e + 1];
        r->first[e + 1] = at;
        at += n;
    }
    for (int64_t s = 0; s < slots; s++) r->slots[r->first[r->chosen[s] + 1]++] = s;
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_experts_gather(const espl_model *m, const expert_routing *r, int64_t expert, bool weighted, const float *x,
                         float *rows) {
    int64_t K = m->config.experts_per_token, C = m->config.hidden;
#pragma omp parallel for schedule(static) if (espl_experts_count(r, expert) * C > WORTH_THREADS)
    for (int64_t p = r->first[expert]; p < r->first[expert + 1]; p++) {
        const float *from = x + r->slots[p] / K * C;
        float *to = rows + (p - r->first[expert]) * C, w = weighted ? r->weights[r->slots[p]] : 1;
        for (int64_t i = 0; i < C; i++) to[i] = w * from[i];
    }
}

void espl_experts_scatter(const espl_model *m, const expert_routing *r, int64_t expert, bool weighted,
                          const float *rows, float *x) {
    int64_t K = m->config.experts_per_token, C = m->config.hidden;
#pragma omp parallel for schedule(static) if (espl_experts_count(r, expert) * C > WORTH_THREADS)
    for (int64_t p = r->first[expert]; p < r->first[expert + 1]; p++) {
        const float *from = rows + (p - r->first[expert]) * C;
        float *to = x + r->slots[p] / K * C, w = weighted ? r->weights[r->slots[p]] : 1;
        for (int64_t i = 0; i < C; i++) to[i] += w * from[i];
    }
}

void espl_experts_weigh(const espl_model *m, const expert_routing *r, int64_t expert, const float *dy,
                        const float *rows, float *d_weights) {
    int64_t K = m->config.experts_per_token, C = m->config.hidden;
#pragma omp parallel for schedule(static) if (espl_experts_count(r, expert) * C > WORTH_THREADS)
    for (int64_t p = r->first[expert]; p < r->first[expert + 1]; p++) {
        const float *d = dy + r->slots[p] / K * C, *y = rows + (p - r->first[expert]) * C;
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < C; i++) sum += d[i] * y[i];
        d_weights[r->slots[p]] = sum;
    }
}
