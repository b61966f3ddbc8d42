/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xoshiro256**, seeded through splitmix64, as its authors recommend (https://prng.di.unimi.it/). Masks, samples and
 * goldens depend on these sequences: a change here changes every result that draws at random.
 */
#include "espalier/base/rng.h"

#include "espalier/base/hash.h"

void espl_rng_seed(espl_rng *r, uint64_t seed, uint64_t stream, uint64_t purpose) {
    uint64_t key[3] = {seed, stream, purpose};
    uint64_t x = espl_hash64(key, sizeof key, 0);
    for (int i = 0; i < 4; i++) { /* splitmix64: the state is never all zeros, which xoshiro could not leave */
        uint64_t z = (x += 0x9E3779B97F4A7C15u);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        r->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rng_rotate_left(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t espl_rng_next(espl_rng *r) {
    uint64_t *s = r->s, result = rng_rotate_left(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rng_rotate_left(s[3], 45);
    return result;
}

double espl_rng_uniform(espl_rng *r) { return (double)(espl_rng_next(r) >> 11) * 0x1p-53; }

int64_t espl_rng_below(espl_rng *r, int64_t n) {
    /* The 2^64 mod n smallest numbers are rejected, so that every remainder is equally likely. */
    uint64_t bound = (uint64_t)n, threshold = (0 - bound) % bound, x;
    do x = espl_rng_next(r);
    while (x < threshold);
    return (int64_t)(x % bound);
}

void espl_rng_shuffle(espl_rng *r, int64_t *numbers, int64_t n) {
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = espl_rng_below(r, i + 1), keep = numbers[i];
        numbers[i] = numbers[j];
        numbers[j] = keep;
    }
}
