/* SPDX-License-Identifier: Apache-2.0 */
/* The removal curve of a whole linear against a sort of all its scores. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "../../normal.h"
#include "espalier/tensor/statistics.h"

enum { OUT = 61, IN = 333, WEIGHTS = OUT * IN, LEVELS = 16 };
static const double TOLERANCE = 1e-2; /* relative: inside a bin, weights go in proportion, not by their score */

typedef struct scored {
    double score, damage;
} scored;

static int by_score(const void *a, const void *b) {
    double x = ((const scored *)a)->score, y = ((const scored *)b)->score;
    return (x > y) - (x < y);
}

static float weight[WEIGHTS], norm[IN], factors[OUT];
static double importance[OUT];

static void make(void) {
    espl_rng rng;
    espl_rng_seed(&rng, 17, 0, 0);
    for (int i = 0; i < WEIGHTS; i++) weight[i] = (float)test_normal(&rng);
    for (int i = 0; i < IN; i++) norm[i] = (float)exp(test_normal(&rng));
    for (int i = 0; i < OUT; i++) importance[i] = exp(2 * test_normal(&rng));
    importance[5] = 0;
    espl_tensor_row_factors(importance, OUT, 1, 0.5, factors);
}

static void a_layers_curve_is_that_of_a_sort(void **state) {
    static scored all[WEIGHTS];
    espl_linear l = {.weight = weight, .dtype = ESPL_DTYPE_F32, .out = OUT, .in = IN};
    espl_workspace *ws;
    double curve[LEVELS], sum = 0;
    (void)state;
    make();
    for (int i = 0; i < WEIGHTS; i++) {
        double x = (double)weight[i] * (double)norm[i % IN];
        all[i] = (scored){fabs(x) * (double)factors[i / IN], importance[i / IN] * x * x};
    }
    qsort(all, WEIGHTS, sizeof *all, by_score);
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    assert_int_equal(espl_tensor_removal_curve_of_layer(&l, norm, factors, importance, LEVELS, curve, ws), ESPL_OK);
    for (int k = 0, i = 0; k < LEVELS; k++) {
        for (; i < (k + 1) * WEIGHTS / LEVELS; i++) sum += all[i].damage;
        if (!(fabs(curve[k] - sum) <= TOLERANCE * sum)) fail_msg("level %d: %g, not %g", k, curve[k], sum);
    }
#ifdef _OPENMP
    double one[LEVELS];
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    assert_int_equal(espl_tensor_removal_curve_of_layer(&l, norm, factors, importance, LEVELS, one, ws), ESPL_OK);
    omp_set_num_threads(threads);
    assert_memory_equal(one, curve, sizeof one);
#endif
    espl_workspace_destroy(&ws);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_layers_curve_is_that_of_a_sort)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
