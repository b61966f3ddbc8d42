/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampling of a token from logits. NaN, which a damaged model may give, never wins and never breaks the sort.
 */
#include "espalier/model/sampling.h"

#include <math.h>
#include <stdlib.h>

/* Descending logit, ascending id among equals. NaN last, so that the order is total. */
static int by_logit(const void *a, const void *b, void *logits) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    float x = ((const float *)logits)[i], y = ((const float *)logits)[j];
    if (isnan(x) != isnan(y)) return isnan(x) ? 1 : -1;
    if (x < y || x > y) return x > y ? -1 : 1;
    return i < j ? -1 : i > j;
}

/* The probability of an id but for the common factor; relative to the best logit, so that exp does not overflow. */
static double token_weight(const float *logits, int32_t id, int32_t best, double temperature) {
    return exp(((double)logits[id] - (double)logits[best]) / temperature);
}

int32_t espl_model_sample(const float *logits, int64_t vocab, const espl_sampling *s, espl_rng *rng, int32_t *scratch) {
    if (s->temperature <= 0) {
        int64_t best = 0;
        for (int64_t i = 1; i < vocab; i++)
            if (logits[i] > logits[best] || isnan(logits[best])) best = i;
        return (int32_t)best;
    }
    for (int64_t i = 0; i < vocab; i++) scratch[i] = (int32_t)i;
    qsort_r(scratch, (size_t)vocab, sizeof *scratch, by_logit, (void *)(uintptr_t)logits);
    /* The nucleus: the fewest tokens, best first, that hold top_p of the probability; at least one. */
    double total = 0, kept = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < vocab; i++) total += token_weight(logits, scratch[i], scratch[0], s->temperature);
    do kept += token_weight(logits, scratch[n++], scratch[0], s->temperature);
    while (n < vocab && kept < s->top_p * total);
    double at = espl_rng_uniform(rng) * kept;
    for (int64_t i = 0; i < n; i++) {
        at -= token_weight(logits, scratch[i], scratch[0], s->temperature);
        if (at < 0) return scratch[i];
    }
    return scratch[n - 1]; /* rounding of the sum */
}
