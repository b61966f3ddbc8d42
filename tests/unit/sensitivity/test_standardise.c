/* SPDX-License-Identifier: Apache-2.0 */
/* z-scores against values worked out by hand, and what must never break them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "espalier/sensitivity.h"

static void near(double got, double want) {
    if (!(fabs(got - want) <= 1e-12 * fmax(1, fabs(want)))) fail_msg("%.17g, not %.17g", got, want);
}

static void z_scores_are_population_z_scores(void **state) {
    (void)state;
    espl_profile_row r[4] = {{.s = 1, .g = 5e-6}, {.s = 2, .g = 5e-6}, {.s = 3, .g = 1e-6}, {.s = 6, .g = 1e-6}};
    espl_sensitivity_standardise(r, 4);
    /* s: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5 */
    near(r[0].z_s, -2 / sqrt(3.5));
    near(r[2].z_s, 0);
    near(r[3].z_s, 3 / sqrt(3.5));
    /* g: mean 3e-6, deviation 2e-6: the 1e-12 shows */
    near(r[0].z_g, 2e-6 / (2e-6 + 1e-12));
    near(r[3].z_g, -2e-6 / (2e-6 + 1e-12));
}

static void rows_without_a_value_take_no_part(void **state) {
    (void)state;
    espl_profile_row r[4] = {{.s = NAN, .g = 2}, {.s = 1, .g = NAN}, {.s = 3, .g = INFINITY}, {.s = NAN, .g = 4}};
    espl_sensitivity_standardise(r, 4);
    near(r[1].z_s, -1 / (1 + 1e-12));
    near(r[2].z_s, 1 / (1 + 1e-12));
    near(r[0].z_g, -1 / (1 + 1e-12));
    near(r[3].z_g, 1 / (1 + 1e-12));
    assert_true(isnan(r[0].z_s) && isnan(r[3].z_s) && isnan(r[1].z_g) && isnan(r[2].z_g));
}

static void equal_values_give_zero(void **state) {
    (void)state;
    espl_profile_row r[3] = {{.s = 7, .g = 0}, {.s = 7, .g = 0}, {.s = 7, .g = 0}};
    espl_sensitivity_standardise(r, 3);
    for (int i = 0; i < 3; i++) assert_true(r[i].z_s == 0 && r[i].z_g == 0);
    r[0].s = NAN, r[1].s = NAN, r[2].s = NAN;
    espl_sensitivity_standardise(r, 3);
    for (int i = 0; i < 3; i++) assert_true(isnan(r[i].z_s) && r[i].z_g == 0);
    espl_sensitivity_standardise(r, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(z_scores_are_population_z_scores),
        cmocka_unit_test(rows_without_a_value_take_no_part),
        cmocka_unit_test(equal_values_give_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
