/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/proportion: hits out of n questions, with a confidence interval.
 */
#ifndef ESPALIER_EVAL_PROPORTION_H
#define ESPALIER_EVAL_PROPORTION_H

#include <stdint.h>

/* The normal quantile of a two-sided 95 % interval. */
#define ESPL_PROPORTION_Z 1.96

typedef struct espl_proportion {
    int64_t hits, n;
    double rate, low, high; /* hits / n and its 95 % interval */
} espl_proportion;

/* Local. Wilson score interval (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212): unlike the normal interval it stays in
 * [0, 1] and is sound for few questions and rates near 0 or 1. n = 0: rate NAN, interval [0, 1]. */
espl_proportion espl_proportion_of(int64_t hits, int64_t n);

#endif
