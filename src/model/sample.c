#include "espalier/model/sampling.h"

#include <math.h>
#include <stdlib.h>

static int32_t greatest(const float *logits, int64_t vocab) {
    int64_t best = 0;
    for (int64_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best] || isnan(logits[best])) best = i;
    return (int32_t)best;
}

/* Descending logit, ascending id among equals; NaN last, so that the order is a total one. */
static int by_logit(const void *a, const void *b, void *logits) {
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;
    float x = ((const float *)logits)[i], y = ((const float *)logits)[j];
    if (isnan(x) != isnan(y)) return isnan(x) ? 1 : -1;
    if (x < y || x > y) return x > y ? -1 : 1;
    return i < j ? -1 : i > j;
}

static double weight(const float *logits, int32_t id, int32_t best, double temperature) {
    return exp(((double)logits[id] - (double)logits[best]) / temperature);
}

int32_t espl_model_sample(const float *logits, int64_t vocab, const espl_sampling *s, espl_rng *rng, int32_t *scratch) {
    if (s->temperature <= 0) return greatest(logits, vocab);
    for (int64_t i = 0; i < vocab; i++) scratch[i] = (int32_t)i;
    qsort_r(scratch, (size_t)vocab, sizeof *scratch, by_logit, (void *)(uintptr_t)logits);
    double total = 0, kept = 0;
    for (int64_t i = 0; i < vocab; i++) total += weight(logits, scratch[i], scratch[0], s->temperature);
    int64_t n = 0;
    do kept += weight(logits, scratch[n++], scratch[0], s->temperature);
    while (n < vocab && kept < s->top_p * total);
    double at = espl_rng_uniform(rng) * kept;
    for (int64_t i = 0; i < n; i++) {
        at -= weight(logits, scratch[i], scratch[0], s->temperature);
        if (at < 0) return scratch[i];
    }
    return scratch[n - 1];
}
