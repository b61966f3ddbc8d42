/* SPDX-License-Identifier: Apache-2.0 */
/* loop: names of linears and patterns, the cut into slices, patterns of a history. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/loop/loop.h"
#include "espalier/loop/slices.h"

static double largest(const double *cost, double tail, int ranks, const espl_range *s) {
    double most = 0;
    for (int r = 0; r < ranks; r++) {
        double sum = r == ranks - 1 ? tail : 0;
        for (int64_t i = s[r].first; i < s[r].last; i++) sum += cost[i];
        most = fmax(most, sum);
    }
    return most;
}

/* Every way to cut 9 layers into 1 to 5 slices: none is better than ours, ours is contiguous and covers all. */
static void partition_is_optimal(void **state) {
    (void)state;
    enum { N = 9 };
    static const double cost[N] = {3, 1, 4, 1, 5, 9, 2, 6, 5};
    for (int ranks = 1; ranks <= 5; ranks++)
        for (int k = 0; k <= 2; k++) {
            double tail = 10 * k;
            espl_range got[5], try[5];
            assert_int_equal(espl_slices_cut(cost, N, tail, ranks, got), ESPL_OK);
            assert_int_equal(got[0].first, 0);
            assert_int_equal(got[ranks - 1].last, N);
            for (int r = 0; r < ranks; r++) {
                assert_true(got[r].last > got[r].first);
                if (r) assert_int_equal(got[r].first, got[r - 1].last);
            }
            double best = INFINITY;
            for (unsigned cuts = 0; cuts < 1u << (N - 1); cuts++) {
                if (__builtin_popcount(cuts) != ranks - 1) continue;
                int r = 0;
                try[0].first = 0;
                for (int i = 0; i < N - 1; i++)
                    if (cuts >> i & 1) {
                        try[r++].last = i + 1;
                        try[r].first = i + 1;
                    }
                try[r].last = N;
                best = fmin(best, largest(cost, tail, ranks, try));
            }
            assert_true(largest(cost, tail, ranks, got) == best);
        }
}

static void head_counts_like_layers(void **state) {
    (void)state;
    double cost[28];
    espl_range s[2];
    for (int i = 0; i < 28; i++) cost[i] = 40;
    assert_int_equal(espl_slices_cut(cost, 28, 311, 2, s), ESPL_OK);
    assert_int_equal(s[0].last, 18);
}

static void more_ranks_than_layers_is_a_clear_error(void **state) {
    (void)state;
    static const double cost[2] = {1, 1};
    espl_range s[3];
    assert_int_equal(espl_slices_cut(cost, 2, 0, 3, s), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "3 ranks for 2 layers"));
}

static void linear_paths_are_hugging_faces(void **state) {
    (void)state;
    assert_string_equal(espl_linear_path(ESPL_Q_PROJ), "self_attn.q_proj");
    assert_string_equal(espl_linear_path(ESPL_DOWN_PROJ), "mlp.down_proj");
}

static void linear_names_round_trip(void **state) {
    (void)state;
    const espl_layout five = {.layers = 5};
    char buf[ESPL_LINEAR_NAME_MAX];
    for (int64_t i = 0; i < 5 * ESPL_LINEAR_KINDS; i++)
        assert_int_equal(espl_linear_parse(five, espl_linear_name(five, i, buf)), i);
    assert_string_equal(espl_linear_name(five, espl_linear_index(five, 3, ESPL_UP_PROJ), buf), "layers.3.mlp.up_proj");
    assert_int_equal(espl_linear_parse(five, "model.layers.1.self_attn.k_proj"), ESPL_LINEAR_KINDS + ESPL_K_PROJ);
    static const char *const wrong[] = {"layers.5.mlp.up_proj",
                                        "layers.-1.mlp.up_proj",
                                        "layers.1.mlp.up",
                                        "layers..mlp.up_proj",
                                        "mlp.up_proj",
                                        "",
                                        "layers.1.mlp.up_proj.weight",
                                        "layers.1.mlp.experts.0.up_proj",
                                        "layers.99999999999999999999.mlp.up_proj"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_int_equal(espl_linear_parse(five, wrong[i]), -1);
}

static void experts_are_numbered_and_named(void **state) {
    (void)state;
    const espl_layout l = {.layers = 3, .experts = 12};
    char buf[ESPL_LINEAR_NAME_MAX];
    assert_int_equal(espl_layout_layer_linears(l), 4 + 3 * 12);
    assert_int_equal(espl_layout_linears(l), 3 * (4 + 3 * 12));
    for (int64_t i = 0; i < espl_layout_linears(l); i++) {
        int64_t expert = espl_linear_expert(l, i);
        espl_linear_kind kind = espl_linear_kind_of(l, i);
        assert_int_equal(espl_linear_parse(l, espl_linear_name(l, i, buf)), i);
        assert_int_equal(espl_linear_index(l, espl_linear_layer(l, i), espl_linear_at(kind, expert < 0 ? 0 : expert)),
                         i);
        assert_true((expert >= 0) == (kind >= ESPL_GATE_PROJ));
    }
    int64_t up = espl_linear_index(l, 2, espl_linear_at(ESPL_UP_PROJ, 11));
    assert_string_equal(espl_linear_name(l, up, buf), "layers.2.mlp.experts.11.up_proj");
    assert_true(espl_linear_matches(l, up, "layers.*.mlp.experts.*.up_proj") &&
                espl_linear_matches(l, up, "*.up_proj"));
    assert_true(espl_linear_matches(l, up, "model.layers.2.mlp.experts.11.*"));
    assert_false(espl_linear_matches(l, up, "layers.2.mlp.experts.1.*"));
    assert_string_equal(espl_linear_pattern(l, ESPL_UP_PROJ), "mlp.experts.*.up_proj");
    assert_string_equal(espl_linear_pattern(l, ESPL_Q_PROJ), "self_attn.q_proj");
    static const char *const wrong[] = {
        "layers.2.mlp.up_proj",          "layers.2.mlp.experts.12.up_proj",
        "layers.2.mlp.experts..up_proj", "layers.2.mlp.experts.-1.up_proj",
        "layers.2.mlp.experts.1.q_proj", "layers.2.mlp.experts.1.mlp.up_proj",
        "layers.2.mlp.experts.1",        "layers.2.mlp.experts.99999999999999999999.up_proj"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_int_equal(espl_linear_parse(l, wrong[i]), -1);
}

#define TWO                                                                                                            \
    { ESPL_GROUP_N_M, 2, 4 }
#define FOUR                                                                                                           \
    { ESPL_GROUP_N_M, 4, 8 }

static void pattern_names_round_trip(void **state) {
    (void)state;
    char name[ESPL_PATTERN_NAME_MAX];
    espl_pattern p = {0};
    assert_string_equal(espl_pattern_name(p, name), "unstructured");
    assert_true(espl_pattern_choice(p) == -1 && espl_pattern_sparsity(p) == 0);
    for (int64_t k = 0; k < ESPL_PATTERN_CHOICES; k++) {
        assert_true(espl_pattern_parse(espl_pattern_name(espl_pattern_choices[k], name), &p));
        assert_int_equal(espl_pattern_choice(p), k);
        assert_true(espl_pattern_sparsity(p) == ESPL_PATTERN_CHOICE_SPARSITY);
    }
    assert_string_equal(espl_pattern_name(espl_pattern_choices[ESPL_PATTERN_CHOICE_2_4], name), "2:4");
    assert_true(espl_pattern_parse("1:64", &p) && espl_pattern_choice(p) == -1 && p.n == 1 && p.m == 64);
    static const char *const wrong[] = {"",    "unstructured", "2:4 ", " 2:4", "+2:4", "02:4", "2:04",
                                        "4:2", "4:4",          "0:4",  "-1:4", "2:65", "2",    "2:"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(espl_pattern_parse(wrong[i], &p));
    assert_int_equal(p.m, 64); /* unchanged */
}

/* Only what was accepted counts, and names beyond the model do not. */
/* As few ranks as possible without work, then as many replicas as possible. */
static void grids_use_all_ranks(void **state) {
    (void)state;
    static const struct {
        espl_grid_request request;
        int replicas, stages;
    } cases[] = {
        {{.ranks = 1, .layers = 3, .min_stages = 1}, 1, 1},
        {{.ranks = 12, .layers = 3, .min_stages = 1}, 12, 1},
        {{.ranks = 12, .layers = 36, .min_stages = 3}, 4, 3},
        {{.ranks = 12, .layers = 36, .min_stages = 5}, 2, 6},
        {{.ranks = 7, .layers = 3, .min_stages = 2}, 3, 2}, /* 2 x 3 leaves one, too */
        {{.ranks = 5, .layers = 36, .min_stages = 2}, 1, 5},
        {{.ranks = 4, .layers = 3, .min_stages = 8}, 1, 3}, /* not enough memory: as little as possible */
        {{.ranks = 5, .layers = 3, .replicas = 2, .min_stages = 1}, 2, 2},
        {{.ranks = 8, .layers = 3, .replicas = 2, .min_stages = 1}, 2, 3},
        {{.ranks = 4, .layers = 3, .replicas = 4, .min_stages = 3}, 4, 1},
    };
    int replicas, stages;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(espl_grid_choose(&cases[i].request, &replicas, &stages), ESPL_OK);
        assert_int_equal(replicas, cases[i].replicas);
        assert_int_equal(stages, cases[i].stages);
    }
    espl_grid_request many = {.ranks = 2, .layers = 3, .replicas = 3, .min_stages = 1};
    assert_int_equal(espl_grid_choose(&many, &replicas, &stages), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "3 replicas of the model, but 2 ranks"));
}

static void patterns_come_from_accepted_outcomes(void **state) {
    (void)state;
    espl_decision_item one[] = {{1, 0.5, TWO}, {2, 0.1, {0}}}, two[] = {{3, 0.5, FOUR}},
                       three[] = {{0, 0.5, FOUR}, {2, 0.1, {0}}, {4, 0.5, TWO}};
    espl_outcome history[] = {{.accepted = true, .decision = {.items = one, .n = 2}},
                              {.accepted = false, .decision = {.items = two, .n = 1}},
                              {.accepted = true, .decision = {.items = three, .n = 3}}};
    espl_pattern patterns[4] = {{7, 7, 7}, {7, 7, 7}, {7, 7, 7}, {7, 7, 7}};
    static const espl_pattern expected[4] = {FOUR, TWO, {0}, {0}};
    espl_outcome_patterns(history, 3, patterns, 4);
    assert_memory_equal(patterns, expected, sizeof patterns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_is_optimal),
        cmocka_unit_test(head_counts_like_layers),
        cmocka_unit_test(more_ranks_than_layers_is_a_clear_error),
        cmocka_unit_test(grids_use_all_ranks),
        cmocka_unit_test(linear_paths_are_hugging_faces),
        cmocka_unit_test(linear_names_round_trip),
        cmocka_unit_test(experts_are_numbered_and_named),
        cmocka_unit_test(pattern_names_round_trip),
        cmocka_unit_test(patterns_come_from_accepted_outcomes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
