/* SPDX-License-Identifier: Apache-2.0 */
/* Score curvature on one linear: masks against those of a plain NumPy implementation in f64 (tests/golden/prune). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "espalier/base/memory.h"
#include "espalier/prune/linear.h"
#include "espalier/tensor/select.h"
#include "espalier/tensor/statistics.h"
#include "espalier/weights/reader.h"

enum { LINEARS = 7 };
static const double UNIT = 0.25, SPARSITY = 0.45; /* make_curvature.py */
static const double powers[] = {0, 0.5, 1};

static espl_weights *golden;
static espl_workspace *ws;

static const espl_tensor_info *tensor(int linear, const char *part) {
    char name[64];
    snprintf(name, sizeof name, "%d.%s", linear, part);
    return espl_weights_find(golden, name);
}

/* Squares widened to f64: what a calibration adds up. */
static float *row_factors(int linear, double power) {
    const espl_tensor_info *t = tensor(linear, "squares");
    int64_t n = t->dims[0];
    double *squares = malloc((size_t)n * sizeof *squares);
    float *rows = malloc((size_t)n * sizeof *rows);
    for (int64_t i = 0; i < n; i++) {
        float f;
        memcpy(&f, (const char *)t->data + (size_t)i * sizeof f, sizeof f);
        squares[i] = (double)f;
    }
    espl_tensor_row_factors(squares, n, UNIT, power, rows);
    free(squares);
    return rows;
}

static void masks_are_numpys(void **state) {
    static const char *const groups[] = {"layer", "row", "2:4"};
    int compared = 0;
    (void)state;
    for (int i = 0; i < LINEARS; i++)
        for (size_t p = 0; p < sizeof powers / sizeof *powers; p++)
            for (size_t g = 0; g < sizeof groups / sizeof *groups; g++) {
                const espl_tensor_info *w = tensor(i, "weight"), *norm = tensor(i, "norm");
                espl_linear l = {.weight = w->data, .dtype = w->dtype, .out = w->dims[0], .in = w->dims[1]};
                float *rows = row_factors(i, powers[p]), *norms = malloc((size_t)norm->bytes);
                uint64_t *mask = malloc((size_t)espl_mask_bytes(l.out, l.in));
                espl_pattern pattern;
                char part[32];
                memcpy(norms, norm->data, (size_t)norm->bytes);
                espl_mask_fill(mask, l.out, l.in);
                assert_true(espl_prune_pattern_parse(groups[g], ESPL_SCORE_CURVATURE, ESPL_UPDATE_NONE, &pattern));
                espl_scoring by = {.score = ESPL_SCORE_CURVATURE, .norm = norms, .rows = rows};
                int64_t count = (int64_t)(SPARSITY * (double)(l.out * l.in));
                assert_int_equal(espl_prune_linear(&l, &by, &pattern, count, mask, ws), ESPL_OK);
                snprintf(part, sizeof part, "%s.%g", groups[g], powers[p]);
                const espl_tensor_info *want = tensor(i, part);
                assert_int_equal(want->bytes, espl_mask_bytes(l.out, l.in));
                if (memcmp(mask, want->data, (size_t)want->bytes) != 0)
                    fail_msg("linear %d, %s: another mask than NumPy's", i, part);
                compared++;
                free(mask);
                free(norms);
                free(rows);
            }
    assert_int_equal(compared, LINEARS * 9);
}

static void counted_keys_are_all_weights(void **state) {
    (void)state;
    const espl_tensor_info *w = tensor(2, "weight"), *norm = tensor(2, "norm");
    espl_linear l = {.weight = w->data, .dtype = w->dtype, .out = w->dims[0], .in = w->dims[1]};
    float *rows = row_factors(2, 1), *norms = malloc((size_t)norm->bytes);
    int64_t *upper = malloc(ESPL_SELECT_BINS * sizeof *upper), *lower = malloc(ESPL_SELECT_BINS * sizeof *lower);
    uint64_t *mask = malloc((size_t)espl_mask_bytes(l.out, l.in));
    int64_t all = 0;
    memcpy(norms, norm->data, (size_t)norm->bytes);
    espl_mask_fill(mask, l.out, l.in);
    espl_scoring by = {.score = ESPL_SCORE_CURVATURE, .norm = norms, .rows = rows};
    assert_int_equal(espl_prune_count_keys(&l, &by, mask, ESPL_SELECT_ANY, upper, ws), ESPL_OK);
    for (int32_t b = 0; b < ESPL_SELECT_BINS; b++) {
        int64_t inside = 0;
        all += upper[b];
        if (upper[b] == 0) continue;
        assert_int_equal(espl_prune_count_keys(&l, &by, mask, b, lower, ws), ESPL_OK);
        for (int64_t k = 0; k < ESPL_SELECT_BINS; k++) inside += lower[k];
        assert_int_equal(inside, upper[b]);
    }
    assert_int_equal(all, l.out * l.in);
    free(mask);
    free(lower);
    free(upper);
    free(norms);
    free(rows);
}

static void row_factors_are_required(void **state) {
    float w[4] = {1, 2, 3, 4}, norm[4] = {1, 1, 1, 1};
    uint64_t mask = 15;
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = 1, .in = 4};
    espl_scoring by = {.score = ESPL_SCORE_CURVATURE, .norm = norm};
    espl_pattern layer = {.group = ESPL_GROUP_LAYER};
    (void)state;
    assert_int_equal(espl_prune_linear(&l, &by, &layer, 1, &mask, ws), ESPL_USAGE);
    assert_int_equal(mask, 15);
}

/* A row without a gradient counts as any other where the gradients are left out, and goes first elsewhere. */
static void dead_rows_go_first_unless_the_power_is_0(void **state) {
    double squares[2] = {0, 4};
    float rows[2];
    (void)state;
    espl_tensor_row_factors(squares, 2, 0.25, 0, rows);
    assert_true(rows[0] == 1 && rows[1] == 1);
    espl_tensor_row_factors(squares, 2, 4, 1, rows);
    assert_true(rows[0] == 0 && rows[1] == 4);
    espl_tensor_row_factors(squares, 2, 4, 0.5, rows);
    assert_true(rows[0] == 0 && rows[1] == 2);
}

static int set_up(void **state) {
    char path[4096];
    (void)state;
    snprintf(path, sizeof path, "%s/golden/prune/curvature.safetensors", getenv("ESPL_TEST_ROOT"));
    if (espl_weights_open_file(path, &golden) != ESPL_OK) return fprintf(stderr, "%s\n", espl_base_error_text()), -1;
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    espl_weights_close(&golden);
    espl_workspace_destroy(&ws);
    return (int)espl_mem_balance();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_numpys),
        cmocka_unit_test(counted_keys_are_all_weights),
        cmocka_unit_test(row_factors_are_required),
        cmocka_unit_test(dead_rows_go_first_unless_the_power_is_0),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
