#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/plan.h"

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
            assert_int_equal(espl_plan_partition(cost, N, tail, ranks, got), ESPL_OK);
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
    assert_int_equal(espl_plan_partition(cost, 28, 311, 2, s), ESPL_OK);
    assert_int_equal(s[0].last, 18);
}

static void more_ranks_than_layers_is_a_clear_error(void **state) {
    (void)state;
    static const double cost[2] = {1, 1};
    espl_range s[3];
    assert_int_equal(espl_plan_partition(cost, 2, 0, 3, s), ESPL_CONFIG);
    assert_non_null(strstr(espl_base_error_text(), "3 ranks for 2 layers"));
}

static void linear_paths_are_hugging_faces(void **state) {
    (void)state;
    assert_string_equal(espl_linear_path(ESPL_Q_PROJ), "self_attn.q_proj");
    assert_string_equal(espl_linear_path(ESPL_DOWN_PROJ), "mlp.down_proj");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(partition_is_optimal),
        cmocka_unit_test(head_counts_like_layers),
        cmocka_unit_test(more_ranks_than_layers_is_a_clear_error),
        cmocka_unit_test(linear_paths_are_hugging_faces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
