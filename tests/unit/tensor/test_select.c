/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masks and selection: the layout of bits by hand, and the lowest keys against a sort.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "espalier/base/rng.h"
#include "espalier/tensor/select.h"

enum { ROWS = 37, COLUMNS = 150, KEYS = ROWS * COLUMNS };

static int ascending(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Scores with ties, zeros, infinities and NaN; some keys are those of pruned weights. */
static void fill_keys(int32_t *keys) {
    float scores[KEYS];
    espl_rng rng;
    espl_rng_seed(&rng, 3, 0, 0);
    for (int64_t i = 0; i < KEYS; i++) {
        double u = espl_rng_uniform(&rng);
        scores[i] = u < 0.1 ? 0.5f : u < 0.15 ? 0 : u < 0.2 ? INFINITY : u < 0.25 ? NAN : (float)exp(40 * u - 20);
    }
    espl_select_keys(scores, KEYS, keys);
    for (int64_t i = 0; i < KEYS; i += 11) keys[i] = ESPL_KEY_PRUNED;
}

static void column_c_is_bit_c_mod_64_of_word_c_div_64(void **state) {
    (void)state;
    uint64_t mask[3 * 2] = {0};
    assert_int_equal(espl_mask_words(70), 2);
    espl_mask_row_set(mask + 2, 65);
    espl_mask_row_set(mask + 2, 3);
    assert_true(mask[2] == 8 && mask[3] == 2);
    assert_true(espl_mask_row_get(mask + 2, 65) && !espl_mask_row_get(mask + 2, 64));
    assert_int_equal(espl_mask_row_bits(mask + 2, 0, 8), 8);
    assert_int_equal(espl_mask_row_bits(mask + 2, 64, 32), 2);
    assert_int_equal(espl_mask_count(mask, 3, 70), 2);
    espl_mask_row_clear(mask + 2, 65);
    assert_true(mask[3] == 0);
    espl_mask_fill(mask, 3, 70);
    assert_true(mask[4] == ~UINT64_C(0) && mask[5] == 63);
    assert_int_equal(espl_mask_count(mask, 3, 70), 210);
}

static void keys_order_as_scores_and_nan_comes_last(void **state) {
    (void)state;
    static const float scores[] = {0, 1e-40f, 1, 2, INFINITY, NAN};
    int32_t keys[6];
    espl_select_keys(scores, 6, keys);
    for (int i = 1; i < 6; i++) assert_true(keys[i - 1] < keys[i]);
    assert_true(keys[5] < ESPL_KEY_PRUNED && espl_select_score(keys[3]) == 2 && isnan(espl_select_score(ESPL_KEY_NAN)));
}

static void the_k_lowest_of_a_row_lose_their_bits(void **state) {
    (void)state;
    int32_t keys[KEYS], sorted[COLUMNS];
    fill_keys(keys);
    for (int64_t r = 0; r < ROWS; r++) {
        const int32_t *row = keys + r * COLUMNS;
        memcpy(sorted, row, sizeof sorted);
        qsort(sorted, COLUMNS, sizeof *sorted, ascending);
        for (int64_t k = 0; k <= 120; k += 7) {
            uint64_t mask[(COLUMNS + 63) / 64];
            int64_t equal = 0; /* of those that equal the k-th, the first columns go */
            espl_mask_fill(mask, 1, COLUMNS);
            espl_select_smallest(row, COLUMNS, k, mask);
            for (int64_t i = 0; i < k; i++) equal += sorted[i] == sorted[k - 1];
            for (int64_t c = 0; c < COLUMNS; c++) {
                bool goes = k > 0 && (row[c] < sorted[k - 1] || (row[c] == sorted[k - 1] && equal-- > 0));
                assert_int_equal(espl_mask_row_get(mask, c), !goes);
            }
        }
    }
}

static const int32_t *copied_row(const void *context, int64_t r, int32_t *scratch) {
    return memcpy(scratch, (const int32_t *)context + r * COLUMNS, COLUMNS * sizeof *scratch);
}

static const int32_t *own_row(const void *context, int64_t r, int32_t *scratch) {
    (void)scratch;
    return (const int32_t *)context + r * COLUMNS;
}

static void a_rank_among_all_rows_is_that_of_a_sort(void **state) {
    (void)state;
    int32_t keys[KEYS], sorted[KEYS];
    espl_workspace *ws;
#ifdef _OPENMP
    omp_set_num_threads(3);
#endif
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    fill_keys(keys);
    memcpy(sorted, keys, sizeof keys);
    qsort(sorted, KEYS, sizeof *sorted, ascending);
    for (int64_t k = 0; k < KEYS; k += 501) {
        espl_select_matrix m = {.rows = ROWS, .columns = COLUMNS, .row = k % 2 ? copied_row : own_row, .context = keys};
        int64_t below, want = 0;
        assert_int_equal(espl_select_rank(&m, k, &below, ws), sorted[k]);
        while (sorted[want] < sorted[k]) want++;
        assert_int_equal(below, want);
    }
    espl_workspace_destroy(&ws);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(column_c_is_bit_c_mod_64_of_word_c_div_64),
        cmocka_unit_test(keys_order_as_scores_and_nan_comes_last),
        cmocka_unit_test(the_k_lowest_of_a_row_lose_their_bits),
        cmocka_unit_test(a_rank_among_all_rows_is_that_of_a_sort),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
