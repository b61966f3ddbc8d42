/* SPDX-License-Identifier: Apache-2.0 */
/* FLOPs of every method against a count by hand on a tiny model. Bytes are compared with what a run allocates in
 * tests/mpi/test_oneshot.c. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "espalier/methods/cost.h"
#include "espalier/methods/update.h"
#include "espalier/prune/update.h"

/* Linears [out, in]: q 8x8, k and v 4x8, o 8x8, gate and up 16x8, down 8x16: 576 weights. Inputs 8, 8, 8 and 16. */
static bool slides[2];
static espl_model_config tiny = {/* a Llama */
                                 .vocab = 32, .hidden = 8,   .ffn = 16,     .layers = 2,
                                 .heads = 2,  .kv_heads = 1, .head_dim = 4, .slides = slides};

/* Per token of a window of 4: linears 2 * 576; attention 4 * 8 * 2.5 keys on average; without down_proj 2 * 8 * 16
 * less. The gradient recomputes that, and takes twice the linears and 2.5 times the attention. */
enum { FORWARD = 1152 + 80, TRACE = FORWARD - 256, GRADIENT = TRACE + 2 * 1152 + 200, HEAD = 2 * 32 * 8 };
enum { TOKENS = 3 * 4 };
enum { ADVANCE = TOKENS * FORWARD };                 /* inputs of the second block */
enum { STATISTICS = 2 * TOKENS * TRACE };            /* both blocks */
enum { GRAMS = 2 * TOKENS * (3 * 8 * 9 + 16 * 17) }; /* lower triangles of three inputs of 8 and one of 16 */

static espl_method_options method(espl_score score, espl_allocation allocation) {
    espl_method_options o = espl_method_defaults();
    o.score = score;
    o.allocation = allocation;
    o.samples = 3;
    o.window = 4;
    o.target = 0.5;
    return o;
}

static void check_flops(espl_method_options o, double want) {
    double got = espl_method_flops(&tiny, &o);
    if (fabs(got - want) > 1e-6 * want) fail_msg("%.17g FLOPs, not %.17g", got, want);
}

static void scores_cost_their_statistics(void **state) {
    (void)state;
    check_flops(method(ESPL_SCORE_MAGNITUDE, ESPL_ALLOCATION_UNIFORM), ADVANCE);
    check_flops(method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_UNIFORM), ADVANCE + STATISTICS);
    check_flops(method(ESPL_SCORE_RIA, ESPL_ALLOCATION_UNIFORM), ADVANCE + STATISTICS);
    check_flops(method(ESPL_SCORE_RGS, ESPL_ALLOCATION_UNIFORM),
                ADVANCE + STATISTICS + 2 * TOKENS * (FORWARD + GRADIENT));
    check_flops(method(ESPL_SCORE_GBLM, ESPL_ALLOCATION_UNIFORM),
                ADVANCE + STATISTICS + TOKENS * (2 * (FORWARD + GRADIENT) + 3 * HEAD));
}

/* Its gradient needs down_proj's output, 256 FLOPs per token: 2 * 8 * 16. */
static void a_norm_behind_the_mlp_costs_its_input(void **state) {
    const espl_family *llama = tiny.family;
    (void)state;
    tiny.family = espl_family_find("olmo2");
    check_flops(method(ESPL_SCORE_GBLM, ESPL_ALLOCATION_UNIFORM),
                ADVANCE + STATISTICS + TOKENS * (2 * (FORWARD + GRADIENT + 256) + 3 * HEAD));
    tiny.family = llama;
}

static void curvature_costs_a_calibration_instead_of_a_pass(void **state) {
    espl_method_options o = method(ESPL_SCORE_CURVATURE, ESPL_ALLOCATION_UNIFORM);
    enum { SAMPLE = 4 * (2 * (FORWARD + GRADIENT) + 3 * HEAD) }; /* with gradients; without, two forward layers */
    (void)state;
    o.gradient_samples = 1;
    check_flops(o, SAMPLE + 2 * 4 * 2 * FORWARD);
    o.allocation = ESPL_ALLOCATION_GLOBAL;
    check_flops(o, SAMPLE + 2 * 4 * 2 * FORWARD);
    o.gradient_samples = 5; /* more than the windows of the norms */
    check_flops(o, 5 * SAMPLE);
    o.allocation = ESPL_ALLOCATION_OWL;
    check_flops(o, 5 * SAMPLE + ADVANCE + STATISTICS);
}

static void sparsegpt_costs_factors_and_updates(void **state) {
    espl_method_options o = method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_UNIFORM);
    double factors = 2 * 2.0 / 3 * (3 * 8 * 8 * 8 + 16 * 16 * 16);
    (void)state;
    o.update = ESPL_UPDATE_SPARSEGPT;
    /* One block of columns: half of 448 weights update 7 others at most, 3.5 on average; half of down's 128, 7.5. */
    double inside = 2 * 2 * (224 * 3.5 + 64 * 7.5);
    check_flops(o, ADVANCE + STATISTICS + GRAMS + factors + inside);
    /* Blocks of 4 columns: 1.5 on average inside; to the right, 4 columns update 4 in 56 rows, and 12, 8 and 4 in 8. */
    o.block = 4;
    inside = 2 * 2 * (224 + 64) * 1.5;
    double right = 2 * 2 * (56 * 4 * 4 + 8 * 4 * (12 + 8 + 4));
    check_flops(o, ADVANCE + STATISTICS + GRAMS + factors + inside + right);
    /* 1:4 prunes three quarters. */
    o.pattern = (espl_pattern){.group = ESPL_GROUP_N_M, .n = 1, .m = 4};
    inside = 2 * 2 * (336 + 96) * 1.5;
    check_flops(o, ADVANCE + STATISTICS + GRAMS + factors + inside + right);
}

/* With all five dampings: 6 solutions, and 6 errors of held-out windows. */
static void updates_cost_two_states_and_five_dampings(void **state) {
    espl_method_options o = method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_UNIFORM);
    double pass = ADVANCE + STATISTICS + GRAMS, linears = 448 * 8 + 128 * 16; /* weights times inputs */
    double dense = 2 * TOKENS * FORWARD, drifts = 2 * TOKENS * 2 * (3 * 64 + 256);
    double factors = 2 * 2.0 / 3 * (3 * 512 + 4096), inside = 2 * 2 * (224 * 3.5 + 64 * 7.5);
    (void)state;
    o.update = ESPL_UPDATE_SPARSEGPT;
    assert_true(fabs(espl_method_update_flops(&tiny, &o) - (pass + factors + inside)) < 1);
    o.update = ESPL_UPDATE_OBS;
    double solve = factors + inside + 2 * 4 * linears, error = 2 * 2 * linears;
    assert_true(fabs(espl_method_update_flops(&tiny, &o) - (pass + dense + drifts + 6 * solve + 6 * 2 * error)) < 1);
    o.shift = false;
    assert_true(fabs(espl_method_update_flops(&tiny, &o) - (pass + 6 * (factors + inside) + 6 * error)) < 1);
    o.update = ESPL_UPDATE_RECONSTRUCT;
    solve = 2 * 2 * linears * (ESPL_UPDATE_STEPS + 1);
    assert_true(fabs(espl_method_update_flops(&tiny, &o) - (pass + 6 * solve + 6 * error)) < 1);
    /* The method itself is that without an update. */
    double without = espl_method_flops(&tiny, &o);
    o.update = ESPL_UPDATE_NONE;
    assert_true(without == espl_method_flops(&tiny, &o));
}

static void surveys_cost_a_pass(void **state) {
    double pass = ADVANCE + STATISTICS, greedy = 2 * (448 * 8 + 128 * 16);
    (void)state;
    check_flops(method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_OWL), 2 * pass);
    check_flops(method(ESPL_SCORE_MAGNITUDE, ESPL_ALLOCATION_OWL), ADVANCE + pass);
    check_flops(method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_LSA), 2 * pass + GRAMS + greedy);
    check_flops(method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_LSA_LINEAR), 2 * pass + GRAMS + greedy);
    check_flops(method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_GIVEN), pass);
}

static void a_search_costs_whole_generations(void **state) {
    espl_method_options o = method(ESPL_SCORE_MAGNITUDE, ESPL_ALLOCATION_SEARCH);
    (void)state;
    o.samples = 8;
    o.search = (espl_search_options){.offspring = 3, .stages = 2, .survivors = {2, 1}, .step = 0.25};
    o.search_evaluations = 10; /* a generation: 3 on 2 windows, then 2 and the parent on 8 */
    check_flops(o, 8 * 4 * (2 * FORWARD + 2 * TRACE) + 2 * (3 * 2 + 3 * 8) * 4 * (2 * FORWARD + HEAD));
    assert_int_equal(espl_method_search_windows(&o, 0), 2);
    assert_int_equal(espl_method_search_windows(&o, 1), 8);
}

static void bytes_grow_with_what_a_rank_holds(void **state) {
    espl_method_options o = method(ESPL_SCORE_WANDA, ESPL_ALLOCATION_UNIFORM);
    espl_range all = {0, 2}, first = {0, 1};
    int64_t bytes = espl_method_bytes(&tiny, &o, all, 0, 1, 1);
    (void)state;
    assert_true(espl_method_bytes(&tiny, &o, first, 0, 2, 1) < bytes); /* fewer samples */
    o.update = ESPL_UPDATE_SPARSEGPT;
    assert_true(espl_method_bytes(&tiny, &o, all, 0, 1, 1) > bytes);
}

int main(void) {
    tiny.family = espl_family_find("llama");
    tiny.residual_scale = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_cost_their_statistics),
        cmocka_unit_test(a_norm_behind_the_mlp_costs_its_input),
        cmocka_unit_test(curvature_costs_a_calibration_instead_of_a_pass),
        cmocka_unit_test(sparsegpt_costs_factors_and_updates),
        cmocka_unit_test(updates_cost_two_states_and_five_dampings),
        cmocka_unit_test(surveys_cost_a_pass),
        cmocka_unit_test(a_search_costs_whole_generations),
        cmocka_unit_test(bytes_grow_with_what_a_rank_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
