/* SPDX-License-Identifier: Apache-2.0 */
/* base: which name a mistyped one was meant to be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base/typo.h"

static const char *nearest(const char *typed) {
    static const char *const names[] = {"prune", "eval", "score", "dry-run", "window", "details", "mmlu-split"};
    const char *found = "";
    int best = ESPL_TYPO_NONE;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (espl_typo_nearer(typed, names[i], &best)) found = names[i];
    return found;
}

static void typing_errors_are_recognised(void **state) {
    (void)state;
    assert_string_equal(nearest("pruen"), "prune"); /* swapped */
    assert_string_equal(nearest("dryrun"), "dry-run");
    assert_string_equal(nearest("windw"), "window");
    assert_string_equal(nearest("DETAILS"), "details");
    assert_string_equal(nearest("mmlu_split"), "mmlu-split");
}

static void another_word_is_not_a_typing_error(void **state) {
    (void)state;
    assert_string_equal(nearest(""), "");
    assert_string_equal(nearest("xyzzy"), "");
    assert_string_equal(nearest("a-word-that-is-longer-than-any-name-that-the-program-knows"), "");
}

static void swaps_cost_one_error_and_a_wrong_first_letter_more(void **state) {
    (void)state;
    assert_int_equal(espl_typo_cost("prune", "prune"), 0);
    assert_int_equal(espl_typo_cost("pruen", "prune"), 2);
    assert_int_equal(espl_typo_cost("brune", "prune"), 3);
    assert_int_equal(espl_typo_cost("prunes", "prune"), 2);
    assert_int_equal(espl_typo_cost("brans", "prune"), ESPL_TYPO_NONE); /* three errors in five letters */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(typing_errors_are_recognised),
        cmocka_unit_test(another_word_is_not_a_typing_error),
        cmocka_unit_test(swaps_cost_one_error_and_a_wrong_first_letter_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
