/* SPDX-License-Identifier: Apache-2.0 */
/* Removal curves against sorts of all scores. */
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
#include "espalier/prune/removal.h"
#include "espalier/tensor/statistics.h"

enum { OUT = 61, IN = 333, WEIGHTS = OUT * IN, LEVELS = 16 };
/* Relative, of a whole linear: inside a bin, weights go in proportion, not by their score. More for a score that says
 * little about the damage. */
static const double TOLERANCE = 1e-2;

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

/* The curve of n sorted weights: sums of damage up to each level. */
static void add_curve(scored *all, int n, double *curve) {
    double sum = 0;
    qsort(all, (size_t)n, sizeof *all, by_score);
    for (int k = 0, i = 0; k < LEVELS; k++) {
        for (; i < (k + 1) * n / LEVELS; i++) sum += all[i].damage;
        curve[k] += sum;
    }
}

/* Two importances at once, of which the first one orders the weights; on all threads, and on one. */
static void check_curves(espl_score score, espl_group group) {
    static scored all[WEIGHTS];
    static double other[OUT];
    const double *importances[] = {importance, other};
    espl_linear l = {.weight = weight, .dtype = ESPL_DTYPE_F32, .out = OUT, .in = IN};
    espl_scoring by = {.score = score, .norm = norm, .rows = factors};
    espl_workspace *ws;
    double curves[2][LEVELS], tolerance = 1e-5;
    if (group == ESPL_GROUP_LAYER) tolerance = score == ESPL_SCORE_CURVATURE ? TOLERANCE : 3 * TOLERANCE;
    make();
    for (int r = 0; r < OUT; r++) other[r] = 1 + r % 7;
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    assert_int_equal(espl_prune_removal_curves(&l, &by, group, norm, importances, 2, LEVELS, curves[0], ws), ESPL_OK);
    for (int q = 0; q < 2; q++) {
        double wanted[LEVELS] = {0};
        for (int i = 0; i < WEIGHTS; i++) {
            double x = (double)weight[i] * (double)norm[i % IN], size = fabs((double)weight[i]);
            double scores[] = {[ESPL_SCORE_MAGNITUDE] = size,
                               [ESPL_SCORE_WANDA] = fabs(x),
                               [ESPL_SCORE_CURVATURE] = fabs(x) * (double)factors[i / IN]};
            all[i] = (scored){scores[score], importances[q][i / IN] * x * x};
        }
        for (int r = 0; r < OUT && group == ESPL_GROUP_ROW; r++) add_curve(all + r * IN, IN, wanted);
        if (group == ESPL_GROUP_LAYER) add_curve(all, WEIGHTS, wanted);
        for (int k = 0; k < LEVELS; k++)
            if (!(fabs(curves[q][k] - wanted[k]) <= tolerance * wanted[k]))
                fail_msg("importance %d, level %d: %g, not %g", q, k, curves[q][k], wanted[k]);
    }
#ifdef _OPENMP
    double one[2][LEVELS];
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    assert_int_equal(espl_prune_removal_curves(&l, &by, group, norm, importances, 2, LEVELS, one[0], ws), ESPL_OK);
    omp_set_num_threads(threads);
    assert_memory_equal(one, curves, sizeof one);
#endif
    espl_workspace_destroy(&ws);
}

static void a_linears_curves_are_those_of_a_sort(void **state) {
    (void)state;
    check_curves(ESPL_SCORE_CURVATURE, ESPL_GROUP_LAYER);
    check_curves(ESPL_SCORE_MAGNITUDE, ESPL_GROUP_LAYER);
}

static void rows_curves_are_those_of_sorts(void **state) {
    (void)state;
    check_curves(ESPL_SCORE_WANDA, ESPL_GROUP_ROW);
    check_curves(ESPL_SCORE_MAGNITUDE, ESPL_GROUP_ROW);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_linears_curves_are_those_of_a_sort),
                                       cmocka_unit_test(rows_curves_are_those_of_sorts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
