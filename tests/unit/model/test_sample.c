/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling: greedy, the nucleus, and logits of a damaged model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "espalier/model/sampling.h"

enum { VOCAB = 5, DRAWS = 20000 };

static int32_t draw(const float *logits, double temperature, double top_p, espl_rng *rng) {
    int32_t scratch[VOCAB];
    espl_sampling s = {.temperature = temperature, .top_p = top_p};
    return espl_model_sample(logits, VOCAB, &s, rng, scratch);
}

static void greedy_takes_the_first_of_the_largest(void **state) {
    (void)state;
    espl_rng rng;
    espl_rng_seed(&rng, 1, 0, 0);
    const float logits[VOCAB] = {1, 3, 2, 3, 0};
    assert_int_equal(draw(logits, 0, 1, &rng), 1);
    assert_int_equal(draw(logits, 1, 1e-9, &rng), 1);
}

static void frequencies_follow_the_softmax(void **state) {
    (void)state;
    espl_rng rng;
    espl_rng_seed(&rng, 2, 0, 0);
    const float logits[VOCAB] = {0, 1, -1, 2, -30};
    int count[VOCAB] = {0}, nucleus[VOCAB] = {0};
    double total = 0;
    for (int i = 0; i < VOCAB; i++) total += exp(logits[i] / 0.7);
    for (int i = 0; i < DRAWS; i++) {
        count[draw(logits, 0.7, 1, &rng)]++;
        nucleus[draw(logits, 0.7, 0.9, &rng)]++;
    }
    for (int i = 0; i < VOCAB; i++) {
        double p = exp(logits[i] / 0.7) / total;
        assert_true(fabs(count[i] / (double)DRAWS - p) < 5 * sqrt(p * (1 - p) / DRAWS) + 1e-9);
    }
    assert_int_equal(nucleus[0] + nucleus[2] + nucleus[4], 0); /* the two likeliest have 0.94 */
    assert_true(nucleus[1] > 0 && nucleus[3] > nucleus[1]);
}

static void nan_is_never_preferred(void **state) {
    (void)state;
    espl_rng rng;
    espl_rng_seed(&rng, 3, 0, 0);
    const float some[VOCAB] = {NAN, 1, NAN, 2, NAN}, none[VOCAB] = {NAN, NAN, NAN, NAN, NAN};
    assert_int_equal(draw(some, 0, 1, &rng), 3);
    assert_int_equal(draw(some, 1, 1e-9, &rng), 3);
    for (int i = 0; i < 100; i++) {
        int32_t id = draw(none, 1, 0.9, &rng);
        assert_true(id >= 0 && id < VOCAB);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_largest),
        cmocka_unit_test(frequencies_follow_the_softmax),
        cmocka_unit_test(nan_is_never_preferred),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
