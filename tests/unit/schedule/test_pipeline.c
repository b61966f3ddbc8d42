/* SPDX-License-Identifier: Apache-2.0 */
/* The order of passes, and simulations whose result can be written down. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "espalier/schedule/pipeline.h"

enum { MOST = 64 };

static void assert_near(double value, double expected) { assert_true(fabs(value - expected) < 1e-9 * (1 + expected)); }

/* Every window passes once in each direction that it has, forward first; windows without a backward pass come first;
 * never more than ahead + 1 are under way. */
static void test_order(void **state) {
    (void)state;
    for (int64_t forward = 0; forward < 6; forward++)
        for (int64_t backward = 0; backward < 6; backward++)
            for (int64_t ahead = 0; ahead < 4; ahead++) {
                espl_pass passes[MOST];
                int64_t begun[MOST] = {0}, ended[MOST] = {0}, turns[2] = {0}, open = 0;
                int64_t windows = forward > backward ? forward : backward;
                int64_t n = espl_pass_order(forward, backward, ahead, passes);
                assert_int_equal(n, windows + backward);
                for (int64_t i = 0; i < n; i++) {
                    int64_t w = passes[i].window;
                    assert_int_equal(passes[i].turn, turns[passes[i].backward]++);
                    if (passes[i].backward) {
                        assert_int_equal(begun[w], 1);
                        assert_int_equal(ended[w]++, 0);
                        open--;
                    } else {
                        assert_int_equal(begun[w]++, 0);
                        if (w < backward) open++;
                        if (w >= backward) assert_int_equal(i, w - backward);
                    }
                    assert_true(open <= ahead + 1);
                }
                for (int64_t w = 0; w < windows; w++) {
                    assert_int_equal(begun[w], 1);
                    assert_int_equal(ended[w], w < backward);
                }
            }
}

static void test_ahead(void **state) {
    (void)state;
    assert_int_equal(espl_pass_ahead(8, 0, 4), 3);
    assert_int_equal(espl_pass_ahead(8, 3, 4), 0);
    assert_int_equal(espl_pass_ahead(2, 0, 4), 1); /* no more than there are windows */
    assert_int_equal(espl_pass_ahead(0, 0, 4), 0);
}

/* n equal windows through S equal stages: the first result after S passes, then one a pass. */
static void test_forward(void **state) {
    (void)state;
    const double cost[] = {2, 2, 2, 2};
    espl_timeline t;
    for (int64_t stages = 1; stages <= 4; stages++)
        for (int64_t n = 1; n < 8; n++) {
            espl_pipeline p = {.stages = stages, .forward = cost, .handoff = 0.5};
            assert_int_equal(espl_pipeline_simulate(&p, n, 0, &t), ESPL_OK);
            assert_near(t.seconds, 2.0 * (double)(n + stages - 1) + 0.5 * (double)(stages - 1));
            assert_near(t.busy, 2.0 * (double)n);
            assert_near(t.mean, t.busy);
        }
}

/* The slowest stage sets the pace: what lies before and behind it is passed once. */
static void test_bottleneck(void **state) {
    (void)state;
    const double cost[] = {1, 5, 2};
    espl_pipeline p = {.stages = 3, .forward = cost, .handoff = 0.25};
    espl_timeline t;
    assert_int_equal(espl_pipeline_simulate(&p, 10, 0, &t), ESPL_OK);
    assert_near(t.seconds, 1 + 0.25 + 10 * 5 + 0.25 + 2);
    assert_int_equal(t.busiest, 1);
    assert_near(t.mean, 10 * (1 + 5 + 2) / 3.0);
}

/* 1F1B with equal stages: n forward and backward passes, and a bubble of S - 1 of each (Narayanan et al. 2021). */
static void test_backward(void **state) {
    (void)state;
    const double forward[] = {1, 1, 1, 1}, backward[] = {2, 2, 2, 2};
    espl_timeline t;
    for (int64_t stages = 1; stages <= 4; stages++)
        for (int64_t n = stages; n < 12; n++) {
            espl_pipeline p = {.stages = stages, .forward = forward, .sample = forward, .backward = backward};
            assert_int_equal(espl_pipeline_simulate(&p, 0, n, &t), ESPL_OK);
            assert_near(t.seconds, 3.0 * (double)(n + stages - 1));
        }
}

/* Windows without a backward pass fill the pipeline, at the price of a forward pass each. */
static void test_mixed(void **state) {
    (void)state;
    const double forward[] = {1, 1}, sample[] = {1.5, 1.5}, backward[] = {3, 3};
    espl_pipeline p = {.stages = 2, .forward = forward, .sample = sample, .backward = backward};
    espl_timeline t;
    assert_int_equal(espl_pipeline_simulate(&p, 6, 2, &t), ESPL_OK);
    assert_near(t.busy, 4 * 1 + 2 * (1.5 + 3));
    /* Stage 1 has the samples' inputs at 5.5 and 7: F0 ends at 7, B0 at 10, F1 at 11.5, B1 at 14.5; stage 0's B1 at
     * 17.5. */
    assert_near(t.seconds, 17.5);
}

static void test_nothing(void **state) {
    (void)state;
    espl_pipeline p = {.stages = 3};
    espl_timeline t;
    assert_int_equal(espl_pipeline_simulate(&p, 0, 0, &t), ESPL_OK);
    assert_near(t.seconds, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_order),    cmocka_unit_test(test_ahead),
                                       cmocka_unit_test(test_forward),  cmocka_unit_test(test_bottleneck),
                                       cmocka_unit_test(test_backward), cmocka_unit_test(test_mixed),
                                       cmocka_unit_test(test_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
