/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random numbers: xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018). All
 * functions are Local.
 */
#ifndef ESPALIER_BASE_RNG_H
#define ESPALIER_BASE_RNG_H

#include <stdint.h>

typedef struct espl_rng {
    uint64_t s[4];
} espl_rng;

/* Seeds r from three words: the user's seed, a stream (say, a layer) and a purpose (which algorithm draws). Never
 * derive a word from a rank or thread: results must not depend on their number. */
void espl_rng_seed(espl_rng *r, uint64_t seed, uint64_t stream, uint64_t purpose);
uint64_t espl_rng_next(espl_rng *r);
/* Uniform in [0, 1), 53 bits. */
double espl_rng_uniform(espl_rng *r);
/* Uniform in [0, n) without modulo bias; n >= 1. */
int64_t espl_rng_below(espl_rng *r, int64_t n);
/* Puts n numbers into a random order, every order equally likely (Fisher and Yates). */
void espl_rng_shuffle(espl_rng *r, int64_t *numbers, int64_t n);

#endif
