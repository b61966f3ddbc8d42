/* From measures of blocks or linears to how much each linear loses. */
#include "espalier/methods/allocate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------ exact counts */

typedef struct wishes {
    const double *sparsity;
    const int64_t *weights;
    int64_t n;
    double cap;
} wishes;

static int64_t most_of(const wishes *w, int64_t i) { return (int64_t)floor(w->cap * (double)w->weights[i]); }

/* Weights that linear i loses, not rounded, when all wishes are shifted. */
static double shifted(const wishes *w, int64_t i, double shift) {
    double lost = (w->sparsity[i] + shift) * (double)w->weights[i];
    return fmin(fmax(lost, 0), (double)most_of(w, i));
}

static double total_shifted(const wishes *w, double shift) {
    double sum = 0;
    for (int64_t i = 0; i < w->n; i++) sum += shifted(w, i, shift);
    return sum;
}

/* The largest shift, to a double's precision, whose floors do not exceed the total. */
static double find_shift(const wishes *w, int64_t total) {
    double lo = -2, hi = 2;
    for (int i = 0; i < 100; i++) {
        double middle = (lo + hi) / 2;
        if (total_shifted(w, middle) <= (double)total)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

typedef struct remainder_of {
    double fraction;
    int64_t index;
} remainder_of;

/* Large fractions first, the lower index among equals. */
static int by_fraction(const void *a, const void *b) {
    const remainder_of *x = a, *y = b;
    if (x->fraction != y->fraction) return x->fraction > y->fraction ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void round_down(const wishes *w, double shift, int64_t *counts, remainder_of *rest) {
    for (int64_t i = 0; i < w->n; i++) {
        double lost = shifted(w, i, shift);
        counts[i] = (int64_t)floor(lost);
        rest[i] = (remainder_of){.fraction = lost - floor(lost), .index = i};
    }
    qsort(rest, (size_t)w->n, sizeof *rest, by_fraction);
}

espl_status espl_allocate_exact(const double *sparsity, const int64_t *weights, int64_t n, double target, double cap,
                                int64_t *counts) {
    wishes w = {.sparsity = sparsity, .weights = weights, .n = n, .cap = cap};
    int64_t all = 0, most = 0, total, left;
    remainder_of *rest;
    for (int64_t i = 0; i < n; i++) {
        all += weights[i], most += most_of(&w, i);
        if (!isfinite(sparsity[i]) || fabs(sparsity[i]) > 1e6)
            return ESPL_FAIL(ESPL_CONFIG, "sparsity %g of linear %lld", sparsity[i], (long long)i);
    }
    total = left = llround(target * (double)all);
    if (!(target >= 0 && target <= 1) || total > most)
        return ESPL_FAIL(ESPL_CONFIG, "sparsity %g overall cannot be reached with at most %g of each linear", target,
                         cap);
    ESPL_TRY(espl_mem_alloc(&rest, n, sizeof *rest, "fractions"));
    round_down(&w, find_shift(&w, total), counts, rest);
    for (int64_t i = 0; i < n; i++) left -= counts[i];
    for (int64_t i = 0; left > 0; i = (i + 1) % n) {
        if (counts[rest[i].index] >= most_of(&w, rest[i].index)) continue;
        counts[rest[i].index]++;
        left--;
    }
    espl_mem_free(&rest);
    return ESPL_OK;
}

/* -------------------------------------------------------------- OWL and LSA */

static void range(const double *x, int64_t n, double *least, double *most) {
    *least = *most = x[0];
    for (int64_t i = 1; i < n; i++) {
        *least = fmin(*least, x[i]);
        *most = fmax(*most, x[i]);
    }
}

/* x [n] scaled to [0, width], and its mean; all equal: 0. */
static double spread_out(const double *x, int64_t n, double width, double *d) {
    double least, most, sum = 0;
    range(x, n, &least, &most);
    for (int64_t i = 0; i < n; i++) {
        d[i] = most > least ? (x[i] - least) / (most - least) * width : 0;
        sum += d[i];
    }
    return sum / (double)n;
}

void espl_allocate_owl(const double *outliers, int64_t blocks, double target, double lambda, double *sparsity) {
    double mean = spread_out(outliers, blocks, 2 * lambda, sparsity);
    for (int64_t b = 0; b < blocks; b++) sparsity[b] = target + mean - sparsity[b];
}

void espl_allocate_lsa(const double *errors, const int64_t *weights, int64_t n, double target, double beta,
                       double *sparsity) {
    double size = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        size += weights ? (double)weights[i] / (double)n : 0;
        sum += errors[i];
    }
    for (int64_t i = 0; i < n; i++) sparsity[i] = sum < 0 ? errors[i] : -errors[i]; /* as 1 - E / sum(E) orders them */
    double mean = spread_out(sparsity, n, 2 * beta, sparsity);
    for (int64_t i = 0; i < n; i++)
        sparsity[i] = target + (mean - sparsity[i]) * (weights ? size / (double)weights[i] : 1);
}

double espl_lsa_beta(double target) {
    static const double published[] = {0.06, 0.02, 0.04, 0.02, 0.04, 0.1, 0.15, 0.12}; /* of 10 %, 20 %, ... 80 % */
    int tens = (int)(target * 10);
    return published[tens < 1 ? 0 : tens > 8 ? 7 : tens - 1];
}
