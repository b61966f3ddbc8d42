/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection sampling (Knuth, The Art of Computer Programming, volume 2, section 3.4.2, algorithm S): one pass, every
 * subset of the wanted size equally likely, and the sample comes out in ascending order.
 */
#include "sample.h"

#include "espalier/base/rng.h"

/* Keeps this stream of random numbers apart from the others that use the same seed. */
enum { SAMPLE_PURPOSE = 0xE7 };

int64_t espl_sample_questions(int64_t n, int64_t want, uint64_t seed, int64_t *chosen) {
    espl_rng rng;
    int64_t taken = 0, size = want > 0 && want < n ? want : n;
    espl_rng_seed(&rng, seed, 0, SAMPLE_PURPOSE);
    for (int64_t i = 0; i < n && taken < size; i++)
        if (size == n || espl_rng_below(&rng, n - i) < size - taken) chosen[taken++] = i;
    return taken;
}
