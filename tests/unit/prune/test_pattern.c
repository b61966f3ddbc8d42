/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns against sorting, on scores of which many tie. */
#include <inttypes.h>
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

#include "espalier/base/memory.h"
#include "espalier/base/rng.h"
#include "espalier/prune/linear.h"
#include "espalier/tensor/statistics.h"

static espl_workspace *ws;
static espl_rng rng;

enum { WEIGHTS_MAX = 64 * 300 }; /* weights of a test's linear */

typedef struct made {
    espl_linear l;
    float weight[WEIGHTS_MAX], norm[300];
    uint64_t mask[64 * 5], want[64 * 5];
} made;

static made m;

static int64_t words(void) { return espl_mask_words(m.l.in); }

static bool kept(const uint64_t *mask, int64_t r, int64_t c) { return espl_mask_row_get(mask + r * words(), c); }

static void drop(uint64_t *mask, int64_t r, int64_t c) { espl_mask_row_clear(mask + r * words(), c); }

/* Scores are small integers: exact, and often equal. */
static void make(int64_t out, int64_t in, double pruned) {
    m.l = (espl_linear){.weight = m.weight, .dtype = ESPL_DTYPE_F32, .out = out, .in = in};
    for (int64_t i = 0; i < out * in; i++) m.weight[i] = (float)espl_rng_below(&rng, 9) - 4;
    for (int64_t i = 0; i < in; i++) m.norm[i] = (float)(1 + espl_rng_below(&rng, 3));
    espl_mask_fill(m.mask, out, in);
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++)
            if (espl_rng_uniform(&rng) < pruned) drop(m.mask, r, c);
    memcpy(m.want, m.mask, sizeof m.mask);
}

static float score(int64_t r, int64_t c) {
    float w = m.weight[r * m.l.in + c];
    return (w < 0 ? -w : w) * m.norm[c];
}

/* Clears in `want` the survivor with the lowest score among rows r0 .. r1 - 1 and columns c0 .. c1 - 1, the first among
 * equals. */
static void drop_lowest(int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    int64_t row = -1, column = -1;
    for (int64_t r = r0; r < r1; r++)
        for (int64_t c = c0; c < c1; c++)
            if (kept(m.want, r, c) && (row < 0 || score(r, c) < score(row, column))) row = r, column = c;
    assert_true(row >= 0);
    drop(m.want, row, column);
}

static int64_t lost(const uint64_t *mask) {
    espl_linear l = m.l;
    l.mask = mask;
    return l.out * l.in - espl_linear_survivors(&l);
}

static void prune(const char *pattern, int64_t count) {
    espl_pattern p;
    espl_scoring s = {.score = ESPL_SCORE_WANDA, .norm = m.norm};
    assert_true(espl_prune_pattern_parse(pattern, s.score, ESPL_UPDATE_NONE, &p));
    assert_int_equal(espl_prune_linear(&m.l, &s, &p, count, m.mask, ws), ESPL_OK);
    assert_memory_equal(m.mask, m.want, (size_t)(m.l.out * words()) * 8);
}

static void layer_prunes_the_lowest_scores(void **state) {
    (void)state;
    for (int trial = 0; trial < 40; trial++) {
        make(1 + espl_rng_below(&rng, 16), 1 + espl_rng_below(&rng, 140), trial % 2 ? 0.3 : 0);
        int64_t count = espl_rng_below(&rng, m.l.out * m.l.in - lost(m.mask) + 1);
        for (int64_t i = 0; i < count; i++) drop_lowest(0, m.l.out, 0, m.l.in);
        prune("layer", count);
    }
}

static void every_group_keeps_n_of_m(void **state) {
    static const int64_t of[][2] = {{2, 4}, {4, 8}, {1, 2}, {3, 7}, {1, 64}, {33, 64}, {5, 9}};
    (void)state;
    for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
        int64_t keep = of[k][0], group = of[k][1];
        char name[ESPL_PATTERN_NAME_MAX];
        make(1 + espl_rng_below(&rng, 40), 1 + espl_rng_below(&rng, 299), 0);
        for (int64_t r = 0; r < m.l.out; r++)
            for (int64_t c = 0; c < m.l.in; c += group) {
                int64_t width = group < m.l.in - c ? group : m.l.in - c;
                for (int64_t i = 0; i < width * (group - keep) / group; i++) drop_lowest(r, r + 1, c, c + width);
            }
        espl_pattern p = {.group = ESPL_GROUP_N_M, .n = keep, .m = group};
        snprintf(name, sizeof name, "%" PRId64 ":%" PRId64, keep, group);
        assert_int_equal(espl_prune_pattern_count(&p, m.l.out, m.l.in), lost(m.want));
        prune(name, 0);
    }
}

/* A mask that an N:M pattern made passes the check; with any bit flipped, those of a remainder included, it does not.
 */
static void n_m_check_sees_a_single_bit(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{2, 4}, {4, 8}, {3, 7}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        espl_pattern p = {.group = ESPL_GROUP_N_M, .n = shapes[i][0], .m = shapes[i][1]};
        espl_scoring by = {.score = ESPL_SCORE_WANDA, .norm = m.norm};
        make(6, 131, 0);
        assert_false(espl_mask_is_n_m(m.mask, m.l.out, m.l.in, p.n, p.m));
        assert_int_equal(espl_prune_linear(&m.l, &by, &p, 0, m.mask, ws), ESPL_OK);
        assert_true(espl_mask_is_n_m(m.mask, m.l.out, m.l.in, p.n, p.m));
        for (int64_t c = 0; c < m.l.in; c++) {
            uint64_t *row = m.mask + 3 * espl_mask_words(m.l.in);
            bool set = espl_mask_row_get(row, c);
            if (set)
                espl_mask_row_clear(row, c);
            else
                espl_mask_row_set(row, c);
            assert_false(espl_mask_is_n_m(m.mask, m.l.out, m.l.in, p.n, p.m));
            if (set)
                espl_mask_row_set(row, c);
            else
                espl_mask_row_clear(row, c);
        }
    }
}

/* Weights that are already pruned stay pruned and count as pruned. */
static void n_m_counts_weights_that_are_already_pruned(void **state) {
    (void)state;
    make(8, 256, 0.6);
    for (int64_t r = 0; r < m.l.out; r++)
        for (int64_t c = 0; c < m.l.in; c += 4) {
            int64_t alive = 0;
            for (int i = 0; i < 4; i++) alive += kept(m.want, r, c + i);
            for (; alive > 2; alive--) drop_lowest(r, r + 1, c, c + 4);
        }
    prune("2:4", 0);
}

static void masks_do_not_depend_on_threads(void **state) {
    (void)state;
#ifdef _OPENMP
    make(30, 150, 0);
    int threads = omp_get_max_threads();
    for (int i = 0; i < 1777; i++) drop_lowest(0, 30, 0, 150);
    omp_set_num_threads(1);
    prune("layer", 1777);
    omp_set_num_threads(4);
    espl_mask_fill(m.mask, m.l.out, m.l.in);
    espl_workspace_destroy(&ws);
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    prune("layer", 1777);
    omp_set_num_threads(threads);
#endif
}

static void pattern_names_are_parsed(void **state) {
    static const char *const bad[] = {"", "4:2", "4:4", "0:4", "2:", ":4", "2:65", "-1:4", "2:4x", "rows", "2:4:8"};
    espl_pattern p;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(espl_prune_pattern_parse(bad[i], ESPL_SCORE_WANDA, ESPL_UPDATE_NONE, &p));
    assert_true(espl_prune_pattern_parse("4:8", ESPL_SCORE_WANDA, ESPL_UPDATE_NONE, &p));
    assert_true(p.group == ESPL_GROUP_N_M && p.n == 4 && p.m == 8);
    static const espl_group own[ESPL_SCORE_COUNT] = {
        [ESPL_SCORE_MAGNITUDE] = ESPL_GROUP_LAYER, [ESPL_SCORE_WANDA] = ESPL_GROUP_ROW,
        [ESPL_SCORE_RIA] = ESPL_GROUP_LAYER,       [ESPL_SCORE_GBLM] = ESPL_GROUP_ROW,
        [ESPL_SCORE_RGS] = ESPL_GROUP_ROW,         [ESPL_SCORE_CURVATURE] = ESPL_GROUP_LAYER,
    };
    for (int s = 0; s < ESPL_SCORE_COUNT; s++) {
        assert_true(espl_prune_pattern_parse("unstructured", (espl_score)s, ESPL_UPDATE_NONE, &p));
        assert_int_equal(p.group, own[s]);
        assert_true(espl_prune_pattern_parse("unstructured", (espl_score)s, ESPL_UPDATE_SPARSEGPT, &p));
        assert_int_equal(p.group, ESPL_GROUP_LAYER);
    }
}

static void invalid_requests_are_refused(void **state) {
    espl_pattern layer = {.group = ESPL_GROUP_LAYER};
    espl_scoring s = {.score = ESPL_SCORE_GBLM, .norm = m.norm};
    (void)state;
    make(3, 10, 0);
    assert_int_equal(espl_prune_linear(&m.l, &s, &layer, 3, m.mask, ws), ESPL_USAGE); /* no gradient */
    s.score = ESPL_SCORE_WANDA;
    assert_int_equal(espl_prune_linear(&m.l, &s, &layer, 31, m.mask, ws), ESPL_USAGE);
    assert_int_equal(espl_prune_linear(&m.l, &s, &layer, -1, m.mask, ws), ESPL_USAGE);
    assert_int_equal(lost(m.mask), 0);
}

/* |W| (norm + gradient), by hand. */
static void gradients_are_added_to_the_norm(void **state) {
    float gradient[] = {0, 5, 0, 0};
    espl_pattern row = {.group = ESPL_GROUP_ROW};
    espl_scoring s = {.score = ESPL_SCORE_GBLM, .norm = m.norm, .gradient = gradient};
    (void)state;
    make(1, 4, 0);
    for (int c = 0; c < 4; c++) m.weight[c] = (float)(c == 1 ? -1 : 2), m.norm[c] = 1; /* scores 2, 6, 2, 2 */
    assert_int_equal(espl_prune_linear(&m.l, &s, &row, 3, m.mask, ws), ESPL_OK);
    assert_int_equal(m.mask[0], 2);
}

static int setup(void **state) {
    (void)state;
    espl_rng_seed(&rng, 11, 0, 0);
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    espl_workspace_destroy(&ws);
    return espl_mem_balance() == 0 ? 0 : 1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_prunes_the_lowest_scores), cmocka_unit_test(every_group_keeps_n_of_m),
        cmocka_unit_test(n_m_check_sees_a_single_bit),    cmocka_unit_test(n_m_counts_weights_that_are_already_pruned),
        cmocka_unit_test(masks_do_not_depend_on_threads), cmocka_unit_test(pattern_names_are_parsed),
        cmocka_unit_test(invalid_requests_are_refused),   cmocka_unit_test(gradients_are_added_to_the_norm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
