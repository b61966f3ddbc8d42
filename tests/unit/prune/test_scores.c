/* SPDX-License-Identifier: Apache-2.0 */
/* Pruning by row: masks against those of a plain NumPy implementation (tests/golden/prune), and properties of any mask.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "../../normal.h"
#include "espalier/base/memory.h"
#include "espalier/prune/linear.h"
#include "espalier/tensor/statistics.h"
#include "espalier/weights/reader.h"

enum { PLAIN = ESPL_SCORE_GBLM }; /* scores without gradients come first */

static espl_workspace *ws;
static espl_rng rng;

static int64_t survivors(const uint64_t *mask, const espl_linear *l) { return espl_mask_count(mask, l->out, l->in); }

static int64_t mask_bytes(const espl_linear *l) { return espl_mask_bytes(l->out, l->in); }

/* All bits that stand for a weight. */
static uint64_t *full_mask(const espl_linear *l) {
    uint64_t *mask = malloc((size_t)mask_bytes(l));
    espl_mask_fill(mask, l->out, l->in);
    return mask;
}

static espl_status prune_rows(const espl_linear *l, espl_score score, const float *norm, int64_t count,
                              uint64_t *mask) {
    espl_scoring by = {.score = score, .norm = norm};
    espl_pattern row = {.group = ESPL_GROUP_ROW};
    return espl_prune_linear(l, &by, &row, count, mask, ws);
}

/* --------------------------------------------------------------- goldens */

static espl_weights *golden;

static const espl_tensor_info *tensor(const char *name, const char *part, int step) {
    char full[128];
    snprintf(full, sizeof full, step < 0 ? "%s.%s" : "%s.%s.%d", name, part, step);
    return espl_weights_find(golden, full);
}

/* Prunes step after step to the golden counts; every mask must be the golden one to the bit. */
static int check_score(const char *name, const espl_linear *l, const uint64_t *start, const float *norm,
                       espl_score score) {
    uint64_t *mask = malloc((size_t)mask_bytes(l));
    int step = 0;
    memcpy(mask, start, (size_t)mask_bytes(l));
    for (const espl_tensor_info *want; (want = tensor(name, espl_score_name(score), step)); step++) {
        assert_int_equal(want->bytes, mask_bytes(l));
        uint64_t *expected = malloc((size_t)want->bytes);
        memcpy(expected, want->data, (size_t)want->bytes);
        int64_t count = survivors(mask, l) - survivors(expected, l);
        assert_int_equal(prune_rows(l, score, norm, count, mask), ESPL_OK);
        if (memcmp(mask, expected, (size_t)want->bytes) != 0)
            fail_msg("%s by %s, step %d: another mask than NumPy's", name, espl_score_name(score), step);
        free(expected);
    }
    free(mask);
    return step;
}

static void check_case(const char *name, const espl_tensor_info *weight) {
    espl_linear l = {.weight = weight->data, .dtype = weight->dtype, .out = weight->dims[0], .in = weight->dims[1]};
    const espl_tensor_info *start = tensor(name, "start", -1), *n = tensor(name, "norm", -1);
    uint64_t *from = full_mask(&l);
    float *norm = malloc((size_t)n->bytes);
    memcpy(norm, n->data, (size_t)n->bytes);
    if (start) memcpy(from, start->data, (size_t)start->bytes);
    for (int s = 0; s < ESPL_SCORE_COUNT; s++) {
        if (espl_score_needs_gradients((espl_score)s)) continue; /* their goldens are whole models: mpi/oneshot */
        if (espl_score_needs_outputs((espl_score)s)) continue;   /* test_curvature.c */
        if (check_score(name, &l, from, norm, (espl_score)s) == 0)
            fail_msg("%s: no golden mask of score %s in scores.safetensors", name, espl_score_name((espl_score)s));
    }
    free(norm);
    free(from);
}

static void masks_are_numpys(void **state) {
    (void)state;
    static const char *const names[] = {"bf16", "f16", "f32", "ties", "one"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_case(names[i], tensor(names[i], "weight", -1));
}

static void masks_of_a_trained_model_are_numpys(void **state) {
    (void)state;
    char path[4096];
    espl_weights *sapling;
    snprintf(path, sizeof path, "%s/sapling/model", getenv("ESPL_TEST_ROOT"));
    assert_int_equal(espl_weights_open(path, &sapling), ESPL_OK);
    check_case("sapling", espl_weights_find(sapling, "model.layers.3.mlp.down_proj.weight"));
    espl_weights_close(&sapling);
}

/* ------------------------------------------------------------ properties */

typedef struct made {
    espl_linear l;
    float *weight, *norm;
    uint64_t *mask;
} made;

/* levels > 0: only so many different magnitudes, so that most scores tie. */
static made make(int64_t out, int64_t in, int levels) {
    made m = {.l = {.dtype = ESPL_DTYPE_F32, .out = out, .in = in}};
    m.weight = malloc((size_t)(out * in) * sizeof(float));
    m.norm = malloc((size_t)in * sizeof(float));
    for (int64_t i = 0; i < out * in; i++)
        m.weight[i] = levels ? (float)espl_rng_below(&rng, levels) : (float)test_normal(&rng);
    for (int64_t i = 0; i < in; i++) m.norm[i] = levels ? 1 : (float)espl_rng_uniform(&rng);
    m.l.weight = m.weight;
    m.mask = full_mask(&m.l);
    return m;
}

static void unmake(made *m) {
    free(m->weight);
    free(m->norm);
    free(m->mask);
}

static int64_t row_pruned(const made *m, int64_t r) {
    return m->l.in - espl_mask_row_count(m->mask + r * espl_mask_words(m->l.in), m->l.in);
}

static void counts_are_exact_and_rows_level(void **state) {
    (void)state;
    for (int trial = 0; trial < 60; trial++) {
        made m = make(1 + espl_rng_below(&rng, 40), 1 + espl_rng_below(&rng, 300), trial % 3 ? 0 : 3);
        for (int64_t left = m.l.out * m.l.in; left > 0;) {
            int64_t count = 1 + espl_rng_below(&rng, left), pruned;
            assert_int_equal(prune_rows(&m.l, (espl_score)(trial % PLAIN), m.norm, count, m.mask), ESPL_OK);
            left -= count;
            assert_int_equal(survivors(m.mask, &m.l), left);
            pruned = m.l.out * m.l.in - left;
            for (int64_t r = 0; r < m.l.out; r++)
                assert_int_equal(row_pruned(&m, r), pruned / m.l.out + (r < pruned % m.l.out));
        }
        unmake(&m);
    }
}

static void equal_scores_go_by_column(void **state) {
    (void)state;
    made m = make(2, 200, 1);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, 260, m.mask), ESPL_OK);
    for (int64_t r = 0; r < 2; r++)
        for (int64_t c = 0; c < 200; c++) assert_int_equal(espl_mask_row_get(m.mask + r * 4, c), c >= 130);
    unmake(&m);
}

static void nan_goes_last(void **state) {
    (void)state;
    made m = make(1, 100, 0);
    m.weight[7] = -__builtin_nanf("");
    m.norm[50] = __builtin_inff();
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, 98, m.mask), ESPL_OK);
    assert_true(m.mask[0] == (UINT64_C(1) << 7 | UINT64_C(1) << 50) && m.mask[1] == 0);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, 1, m.mask), ESPL_OK);
    assert_true(m.mask[0] == UINT64_C(1) << 7);
    unmake(&m);
}

static void rows_above_the_level_lose_nothing(void **state) {
    (void)state;
    made m = make(4, 64, 0);
    m.mask[1] = 0xFF; /* 56 pruned */
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_MAGNITUDE, NULL, 31, m.mask), ESPL_OK);
    assert_true(m.mask[1] == 0xFF);
    assert_int_equal(row_pruned(&m, 0), 11);
    assert_int_equal(row_pruned(&m, 2), 10);
    assert_int_equal(row_pruned(&m, 3), 10);
    unmake(&m);
}

static void impossible_counts_are_refused(void **state) {
    (void)state;
    made m = make(3, 70, 0);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, 211, m.mask), ESPL_USAGE);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, -1, m.mask), ESPL_USAGE);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, NULL, 1, m.mask), ESPL_USAGE);
    assert_int_equal(survivors(m.mask, &m.l), 210);
    assert_int_equal(prune_rows(&m.l, ESPL_SCORE_WANDA, m.norm, 0, m.mask), ESPL_OK);
    assert_int_equal(survivors(m.mask, &m.l), 210);
    unmake(&m);
}

static void masks_do_not_depend_on_threads(void **state) {
    (void)state;
#ifdef _OPENMP
    for (int s = 0; s < PLAIN; s++) {
        made m = make(61, 777, 0);
        uint64_t *two = malloc((size_t)mask_bytes(&m.l));
        memcpy(two, m.mask, (size_t)mask_bytes(&m.l));
        assert_int_equal(prune_rows(&m.l, (espl_score)s, m.norm, 20001, two), ESPL_OK);
        omp_set_num_threads(1);
        assert_int_equal(prune_rows(&m.l, (espl_score)s, m.norm, 20001, m.mask), ESPL_OK);
        omp_set_num_threads(2);
        assert_memory_equal(two, m.mask, (size_t)mask_bytes(&m.l));
        free(two);
        unmake(&m);
    }
#else
    skip();
#endif
}

static void names_are_read_back(void **state) {
    (void)state;
    espl_score s;
    for (int i = 0; i < ESPL_SCORE_COUNT; i++) {
        assert_true(espl_score_parse(espl_score_name((espl_score)i), &s));
        assert_int_equal(s, i);
    }
    assert_false(espl_score_parse("Wanda", &s));
}

static int set_up(void **state) {
    char path[4096];
    (void)state;
    espl_rng_seed(&rng, 11, 0, 0);
    snprintf(path, sizeof path, "%s/golden/prune/scores.safetensors", getenv("ESPL_TEST_ROOT"));
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
        cmocka_unit_test(masks_of_a_trained_model_are_numpys),
        cmocka_unit_test(counts_are_exact_and_rows_level),
        cmocka_unit_test(equal_scores_go_by_column),
        cmocka_unit_test(nan_goes_last),
        cmocka_unit_test(rows_above_the_level_lose_nothing),
        cmocka_unit_test(impossible_counts_are_refused),
        cmocka_unit_test(masks_do_not_depend_on_threads),
        cmocka_unit_test(names_are_read_back),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
