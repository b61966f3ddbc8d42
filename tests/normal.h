/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Normally distributed numbers for test data. Golden files and the models of the tools were made with this sequence.
 */
#ifndef ESPL_TESTS_NORMAL_H
#define ESPL_TESTS_NORMAL_H

#include "espalier/base/rng.h"

#include <math.h>

/* N(0, 1) by Box and Muller; two uniform numbers each, of which only the cosine is used. */
static inline double test_normal(espl_rng *r) {
    double u = 1.0 - espl_rng_uniform(r), v = espl_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925287 * v);
}

#endif
