/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection sampling (Knuth, The Art of Computer Programming, volume 2, section 3.4.2, algorithm S): one pass, every
 * subset of the wanted size equally likely, and the sample comes out in ascending order.
 */
#include "sample.h"

#include "espalier/base/rng.h"

/* Keeps this stream of random numbers apart from the others that use the same seed. */
enum { SAMPLE_PURPOSE = 0xE7, PART_PURPOSE = 0xE8, SHUFFLE_PURPOSE = 0xE9 };
static const double PROFILE_SHARE = 1.0 / 3;

int64_t espl_sample_questions(int64_t n, int64_t want, uint64_t seed, int64_t *chosen) {
    espl_rng rng;
    int64_t taken = 0, size = want > 0 && want < n ? want : n;
    espl_rng_seed(&rng, seed, 0, SAMPLE_PURPOSE);
    for (int64_t i = 0; i < n && taken < size; i++)
        if (size == n || espl_rng_below(&rng, n - i) < size - taken) chosen[taken++] = i;
    return taken;
}

/* Each question is drawn by itself, so that a question's part does not depend on the other questions of its file. */
static bool sample_is_for_profile(int64_t question, uint64_t seed) {
    espl_rng rng;
    espl_rng_seed(&rng, seed, (uint64_t)question, PART_PURPOSE);
    return espl_rng_uniform(&rng) < PROFILE_SHARE;
}

int64_t espl_sample_part(int64_t n, espl_question_part part, int64_t want, uint64_t seed, int64_t *chosen) {
    int64_t members = 0, taken = 0;
    if (part == ESPL_PART_ALL) return espl_sample_questions(n, want, seed, chosen);
    for (int64_t i = 0; i < n; i++) members += sample_is_for_profile(i, seed) == (part == ESPL_PART_PROFILE);
    int64_t size = espl_sample_questions(members, want, seed, chosen);
    /* chosen has ranks among the members, in ascending order; the question of a rank is never below it, so that they
     * are replaced from the last one back. */
    for (int64_t i = n - 1, rank = members - 1, k = size - 1; i >= 0 && k >= 0; i--) {
        if (sample_is_for_profile(i, seed) != (part == ESPL_PART_PROFILE)) continue;
        if (chosen[k] == rank--) {
            chosen[k--] = i;
            taken++;
        }
    }
    return taken;
}

void espl_sample_shuffle(int64_t *indices, int64_t n, uint64_t seed, uint64_t stream) {
    espl_rng rng;
    espl_rng_seed(&rng, seed, stream, SHUFFLE_PURPOSE);
    espl_rng_shuffle(&rng, indices, n);
}
