/* SPDX-License-Identifier: Apache-2.0 */
/* Allocations: exact budgets, OWL and LSA by hand, LSA's error against its definition, the search on problems whose
 * answer is known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../normal.h"
#include "espalier/methods/allocate.h"
#include "espalier/prune/lsa.h"

static espl_workspace *ws;
static espl_rng rng;

static int64_t sum_of(const int64_t *x, int64_t n) {
    int64_t sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* ------------------------------------------------------------ exact budget */

/* One shift explains all counts, except those at a bound. */
static void check_shift(const double *s, const int64_t *weights, const int64_t *counts, int64_t n, double cap) {
    double low = -INFINITY, high = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        double w = (double)weights[i], most = floor(cap * w);
        assert_true(counts[i] >= 0 && (double)counts[i] <= most);
        if ((double)counts[i] < most) high = fmin(high, ((double)counts[i] + 1) / w - s[i]);
        if (counts[i] > 0) low = fmax(low, ((double)counts[i] - 1) / w - s[i]);
    }
    assert_true(low <= high + 1e-9); /* one shift explains every count to within a weight */
}

/* With one target and one cap for all. */
static espl_status allocate(const double *s, const int64_t *weights, int64_t n, double target, double cap,
                            int64_t *counts) {
    int64_t max[40];
    for (int64_t i = 0; i < n; i++) max[i] = (int64_t)floor(cap * (double)weights[i]);
    return espl_allocate_exact(s, weights, max, n, llround(target * (double)sum_of(weights, n)), counts);
}

static void budgets_are_exact(void **state) {
    (void)state;
    for (int trial = 0; trial < 500; trial++) {
        int64_t n = 1 + espl_rng_below(&rng, 40), weights[40], counts[40];
        double s[40], target = 0.9 * espl_rng_uniform(&rng), spread = trial % 3 ? 0.3 : 3;
        for (int64_t i = 0; i < n; i++) {
            weights[i] = 1000 + espl_rng_below(&rng, 1000000);
            s[i] = target + spread * (espl_rng_uniform(&rng) - 0.5);
        }
        assert_int_equal(allocate(s, weights, n, target, 0.95, counts), ESPL_OK);
        assert_int_equal(sum_of(counts, n), llround(target * (double)sum_of(weights, n)));
        check_shift(s, weights, counts, n, 0.95);
    }
}

static void reachable_sparsities_are_kept(void **state) {
    const double s[] = {0.25, 0.75, 0.5};
    const int64_t weights[] = {400, 400, 1000};
    int64_t counts[3];
    (void)state;
    assert_int_equal(allocate(s, weights, 3, 0.5, 0.95, counts), ESPL_OK);
    assert_true(counts[0] == 100 && counts[1] == 300 && counts[2] == 500);
}

static void impossible_budgets_are_refused(void **state) {
    const double s[] = {0.5, 0.5}, bad[] = {0.5, NAN};
    const int64_t weights[] = {100, 100};
    int64_t counts[2];
    (void)state;
    assert_int_equal(allocate(s, weights, 2, 0.6, 0.5, counts), ESPL_CONFIG);
    assert_int_equal(allocate(s, weights, 2, -0.1, 0.5, counts), ESPL_CONFIG);
    assert_int_equal(allocate(bad, weights, 2, 0.5, 0.9, counts), ESPL_CONFIG);
    assert_int_equal(allocate(s, weights, 2, 0.5, 0.5, counts), ESPL_OK); /* just so */
    assert_true(counts[0] == 50 && counts[1] == 50);
}

/* ------------------------------------------------------------ OWL and LSA */

static void check_near(const double *got, const double *want, int n) {
    for (int i = 0; i < n; i++) assert_true(fabs(got[i] - want[i]) < 1e-12);
}

static void owl_by_hand(void **state) {
    double s[3];
    (void)state;
    espl_allocate_owl((double[]){1, 3, 2}, 3, 0.5, 0.08, s);
    check_near(s, (double[]){0.58, 0.42, 0.5}, 3);
    espl_allocate_owl((double[]){2, 2, 2}, 3, 0.45, 0.08, s);
    check_near(s, (double[]){0.45, 0.45, 0.45}, 3);
}

static void lsa_by_hand(void **state) {
    const int64_t weights[] = {10, 20, 30};
    double s[3];
    (void)state;
    espl_allocate_lsa((double[]){1, 3, 2}, NULL, 3, 0.5, 0.04, s); /* the largest error is the least important */
    check_near(s, (double[]){0.46, 0.54, 0.5}, 3);
    espl_allocate_lsa((double[]){1, 3, 2}, weights, 3, 0.5, 0.04, s);
    check_near(s, (double[]){0.42, 0.54, 0.5}, 3);
    check_near(
        (double[]){espl_lsa_beta(0.1), espl_lsa_beta(0.45), espl_lsa_beta(0.5), espl_lsa_beta(0.7), espl_lsa_beta(0.9)},
        (double[]){0.06, 0.02, 0.04, 0.15, 0.12}, 5);
}

enum { OUT = 5, IN = 150, GROUP = 128 };

/* One row. score [IN] = w^2 H_jj; half of each group is pruned, the lowest score first; each pruned weight adds 2 w_j
 * w_i H_ij to the others. */
static double greedy_row(const float *w, const float *h) {
    double score[IN], error = 0;
    bool gone[IN] = {false};
    for (int c = 0; c < IN; c++) score[c] = (double)w[c] * (double)w[c] * (double)h[c * IN + c];
    for (int first = 0; first < IN; first += GROUP) {
        int last = first + GROUP < IN ? first + GROUP : IN;
        for (int k = 0; k < (last - first) / 2; k++) {
            int best = -1;
            for (int c = first; c < last; c++)
                if (!gone[c] && (best < 0 || score[c] < score[best])) best = c;
            error += score[best];
            gone[best] = true;
            for (int c = first; c < IN; c++) score[c] += 2 * (double)w[c] * (double)w[best] * (double)h[best * IN + c];
        }
    }
    return error;
}

static void lsa_error_matches_the_definition(void **state) {
    static float w[OUT * IN], h[IN * IN], x[IN];
    double want = 0, got;
    (void)state;
    for (int i = 0; i < OUT * IN; i++) w[i] = (float)test_normal(&rng);
    for (int t = 0; t < 200; t++) {
        float common = (float)test_normal(&rng);
        for (int i = 0; i < IN; i++) x[i] = common + (float)test_normal(&rng);
        for (int i = 0; i < IN * IN; i++) h[i] += x[i / IN] * x[i % IN] / 100;
    }
    for (int r = 0; r < OUT; r++) want += greedy_row(w + (ptrdiff_t)r * IN, h);
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = OUT, .in = IN};
    assert_int_equal(espl_prune_lsa_error(&l, h, &got, ws), ESPL_OK);
    assert_true(fabs(got - want) < 1e-4 * fabs(want));
}

/* ------------------------------------------------------------------ search */

enum { N = 6 };
static const int64_t weights[N] = {1000, 2000, 1000, 3000, 1000, 2000};

typedef struct problem {
    int64_t most[N], wish[N]; /* the fitness is the squared distance to the wish */
    int64_t calls, last_stage, sum;
    bool fail, nan;
} problem;

static espl_status distance(void *context, const int64_t *counts, int64_t stage, double *fitness) {
    problem *p = context;
    p->calls++;
    p->last_stage = stage > p->last_stage ? stage : p->last_stage;
    if (p->fail && p->calls == 5) return ESPL_FAIL(ESPL_FAILED, "as asked");
    assert_int_equal(sum_of(counts, N), p->sum);
    *fitness = 0;
    for (int i = 0; i < N; i++) {
        double d = (double)(counts[i] - p->wish[i]);
        assert_true(counts[i] >= 0 && counts[i] <= p->most[i]);
        *fitness += d * d;
    }
    if (p->nan && counts[0] > 500) *fitness = NAN;
    return ESPL_OK;
}

static espl_search_options options(void) {
    return (espl_search_options){.offspring = 8, .stages = 2, .survivors = {2, 1}, .step = 0.1, .seed = 4};
}

static espl_status search(problem *p, const espl_search_options *o, int64_t evaluations, int64_t *counts,
                          double *best) {
    for (int i = 0; i < N; i++) {
        counts[i] = weights[i] / 2;
        p->most[i] = weights[i] * 9 / 10;
    }
    p->calls = 0;
    p->sum = sum_of(counts, N);
    return espl_allocate_search(o, evaluations, weights, p->most, N, distance, p, counts, best);
}

static void search_finds_the_optimum(void **state) {
    problem p = {.wish = {900, 600, 300, 1200, 700, 1300}}; /* reached in levels of 100 */
    espl_search_options o = options();
    int64_t counts[N], again[N];
    double best;
    (void)state;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_OK);
    assert_memory_equal(counts, p.wish, sizeof counts);
    assert_true(best == 0 && p.calls >= 600 && p.calls < 600 + 8 + 3 && p.last_stage == 1);
    assert_int_equal(search(&p, &o, 600, again, &best), ESPL_OK);
    assert_memory_equal(counts, again, sizeof counts);
    assert_int_equal(search(&p, &o, 20, counts, &best), ESPL_OK);
    o.seed = 5;
    assert_int_equal(search(&p, &o, 20, again, &best), ESPL_OK);
    assert_memory_not_equal(counts, again, sizeof counts);
}

static void nan_fitness_never_wins(void **state) {
    problem p = {.wish = {900, 600, 300, 1200, 700, 1300}, .nan = true};
    espl_search_options o = options();
    int64_t counts[N];
    double best;
    (void)state;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_OK);
    assert_true(isfinite(best) && counts[0] <= 500);
}

static void search_passes_failures_on(void **state) {
    problem p = {.fail = true};
    espl_search_options o = options();
    int64_t counts[N];
    double best;
    (void)state;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_FAILED);
    p.fail = false;
    o.stages = ESPL_SEARCH_STAGES + 1;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_CONFIG);
    o = options();
    o.survivors[1] = 2;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_CONFIG);
    o = options();
    o.survivors[0] = 0;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_CONFIG);
    o = options();
    o.step = 0;
    assert_int_equal(search(&p, &o, 600, counts, &best), ESPL_CONFIG);
}

static void names_are_parsed(void **state) {
    espl_allocation a;
    espl_update u;
    (void)state;
    for (int i = 0; i < ESPL_ALLOCATION_COUNT; i++)
        assert_true(espl_allocation_parse(espl_allocation_name((espl_allocation)i), &a) && a == (espl_allocation)i);
    for (int i = 0; i < ESPL_UPDATE_COUNT; i++)
        assert_true(espl_update_parse(espl_update_name((espl_update)i), &u) && u == (espl_update)i);
    assert_false(espl_allocation_parse("OWL", &a));
    assert_false(espl_update_parse("", &u));
}

static int setup(void **state) {
    (void)state;
    espl_tensor_blas_init();
    espl_rng_seed(&rng, 13, 0, 0);
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    espl_workspace_destroy(&ws);
    return espl_mem_balance() == 0 ? 0 : 1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(budgets_are_exact),
        cmocka_unit_test(reachable_sparsities_are_kept),
        cmocka_unit_test(impossible_budgets_are_refused),
        cmocka_unit_test(owl_by_hand),
        cmocka_unit_test(lsa_by_hand),
        cmocka_unit_test(lsa_error_matches_the_definition),
        cmocka_unit_test(search_finds_the_optimum),
        cmocka_unit_test(nan_fitness_never_wins),
        cmocka_unit_test(search_passes_failures_on),
        cmocka_unit_test(names_are_parsed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
