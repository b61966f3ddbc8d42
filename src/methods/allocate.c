/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From measures of blocks or linears to how many weights each linear loses.
 */
#include "espalier/methods/allocate.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ------------------------------------------------------------ exact counts */

typedef struct wishes {
    const double *sparsity;
    const int64_t *weights, *max;
} wishes;

/* Weights that linear i loses, not rounded, when all sparsities are shifted. */
static double wish_shifted(const wishes *w, int64_t i, double shift) {
    double lost = (w->sparsity[i] + shift) * (double)w->weights[i];
    return fmin(fmax(lost, 0), (double)w->max[i]);
}

typedef struct remainder_of {
    double fraction;
    int64_t index;
} remainder_of;

/* qsort: large fractions first, the lower index among equals. */
static int by_fraction(const void *a, const void *b) {
    const remainder_of *x = a, *y = b;
    if (x->fraction != y->fraction) return x->fraction > y->fraction ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

espl_status espl_allocate_exact(const double *sparsity, const int64_t *weights, const int64_t *max, int64_t n,
                                int64_t total, int64_t *counts) {
    /* Sparsities beyond this are a caller's bug; shifts only cover -2 .. 2. */
    const double sane = 1e6;
    enum { BISECTIONS = 100 }; /* exhausts a double */
    wishes w = {.sparsity = sparsity, .weights = weights, .max = max};
    int64_t possible = 0, left = total;
    double low = -2, high = 2; /* the total at `low` does not exceed the target */
    remainder_of *rest;
    for (int64_t i = 0; i < n; i++) {
        possible += max[i];
        if (!isfinite(sparsity[i]) || fabs(sparsity[i]) > sane)
            return ESPL_FAIL(ESPL_CONFIG, "sparsity %g of linear %" PRId64 " is not a finite fraction", sparsity[i], i);
    }
    if (total < 0 || total > possible)
        return ESPL_FAIL(ESPL_CONFIG,
                         "%" PRId64 " weights cannot be pruned: under their caps the linears may lose %" PRId64
                         " of them in all",
                         total, possible);
    /* The largest shift whose total, not rounded, does not exceed the target. */
    for (int k = 0; k < BISECTIONS; k++) {
        double middle = (low + high) / 2, sum = 0;
        for (int64_t i = 0; i < n; i++) sum += wish_shifted(&w, i, middle);
        if (sum <= (double)total)
            low = middle;
        else
            high = middle;
    }
    /* Rounded down; what is missing goes one weight each to the largest fractions, as far as the cap lets. */
    ESPL_TRY(espl_mem_alloc(&rest, n, sizeof *rest, "fractions"));
    for (int64_t i = 0; i < n; i++) {
        double lost = wish_shifted(&w, i, low);
        counts[i] = (int64_t)floor(lost);
        rest[i] = (remainder_of){.fraction = lost - floor(lost), .index = i};
        left -= counts[i];
    }
    qsort(rest, (size_t)n, sizeof *rest, by_fraction);
    for (int64_t i = 0; left > 0; i = (i + 1) % n) {
        if (counts[rest[i].index] >= max[rest[i].index]) continue;
        counts[rest[i].index]++;
        left--;
    }
    espl_mem_free(&rest);
    return ESPL_OK;
}

/* -------------------------------------------------------------- OWL and LSA */

/* d [n] = x scaled to [0, width], 0 if all x are equal; returns the mean of d. d may be x. */
static double min_max_scale(const double *x, int64_t n, double width, double *d) {
    double min = x[0], max = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++) {
        min = fmin(min, x[i]);
        max = fmax(max, x[i]);
    }
    for (int64_t i = 0; i < n; i++) {
        d[i] = max > min ? (x[i] - min) / (max - min) * width : 0;
        sum += d[i];
    }
    return sum / (double)n;
}

void espl_allocate_owl(const double *outliers, int64_t blocks, double target, double lambda, double *sparsity) {
    double mean = min_max_scale(outliers, blocks, 2 * lambda, sparsity);
    for (int64_t b = 0; b < blocks; b++) sparsity[b] = target + mean - sparsity[b];
}

void espl_allocate_lsa(const double *errors, const int64_t *weights, int64_t n, double target, double beta,
                       double *sparsity) {
    double size = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        size += weights ? (double)weights[i] / (double)n : 0;
        sum += errors[i];
    }
    /* The importance 1 - E / sum E is linear in E, so -E scales to the same d (E if the sum is negative). */
    for (int64_t i = 0; i < n; i++) sparsity[i] = sum < 0 ? errors[i] : -errors[i];
    double mean = min_max_scale(sparsity, n, 2 * beta, sparsity);
    for (int64_t i = 0; i < n; i++)
        sparsity[i] = target + (mean - sparsity[i]) * (weights ? size / (double)weights[i] : 1);
}

double espl_lsa_beta(double target) {
    static const double published[] = {0.06, 0.02, 0.04, 0.02, 0.04, 0.1, 0.15, 0.12}; /* for 10 %, 20 %, ... 80 % */
    int tens = (int)(target * 10);
    return published[tens < 1 ? 0 : tens > 8 ? 7 : tens - 1];
}
