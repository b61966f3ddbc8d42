/* SPDX-License-Identifier: Apache-2.0 */
/* SparseGPT against the definition of the optimal brain surgeon, which inverts the remaining Hessian again for every
 * column. */
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

#include "../../normal.h"
#include "espalier/base/memory.h"
#include "espalier/prune/linear.h"
#include "espalier/prune/sparsegpt.h"

enum { OUT = 7, IN = 45, WORDS = 1, LARGE = 300 };
static const double DAMPING = 0.01, SCALE = 2.0 / 3;

static espl_workspace *ws;
static espl_rng rng;

/* gram [n, n]: sum of x x^T over tokens of correlated features; feature `dead` is 0 everywhere. */
static void make_gram(int64_t n, int64_t dead, double *gram) {
    double *x = malloc((size_t)n * sizeof *x);
    memset(gram, 0, (size_t)(n * n) * sizeof *gram);
    for (int64_t t = 0; t < 2 * n; t++) {
        double common = test_normal(&rng);
        for (int64_t i = 0; i < n; i++) x[i] = i == dead ? 0 : (test_normal(&rng) + 2 * common) * (1 + (double)(i % 5));
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++) gram[i * n + j] += x[i] * x[j];
    }
    free(x);
}

/* h [n, n]: the matrix that espl_prune_factor inverts. */
static void condition(const double *gram, int64_t n, double *h) {
    double mean = 0;
    for (int64_t i = 0; i < n * n; i++) h[i] = SCALE * gram[i];
    for (int64_t i = 0; i < n; i++) {
        if (h[i * n + i] == 0) h[i * n + i] = 1;
        mean += h[i * n + i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) h[i * n + i] += DAMPING * mean;
}

static void check_factor(int64_t n, int64_t dead_feature) {
    double *gram = malloc((size_t)(n * n) * sizeof *gram), *h = malloc((size_t)(n * n) * sizeof *h), worst = 0;
    float *u = calloc((size_t)(n * n), sizeof *u);
    bool *dead = calloc((size_t)n, 1);
    make_gram(n, dead_feature, gram);
    condition(gram, n, h);
    assert_int_equal(espl_prune_factor(gram, n, SCALE, DAMPING, u, dead), ESPL_OK);
    for (int64_t i = 0; i < n; i++) assert_int_equal(dead[i], i == dead_feature);
    for (int64_t i = 0; i < n; i++) /* U H U^T = I */
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t k = i; k < n; k++) {
                double hu = 0;
                for (int64_t l = j; l < n; l++) hu += h[k * n + l] * (double)u[j * n + l];
                sum += (double)u[i * n + k] * hu;
            }
            worst = fmax(worst, fabs(sum - (i == j)));
        }
    assert_true(worst < 1e-4);
    free(gram);
    free(h);
    free(u);
    free(dead);
}

static void factor_inverts_the_hessian(void **state) {
    (void)state;
    check_factor(1, -1);
    check_factor(6, 2);
    check_factor(128, -1);
    check_factor(131, 130);
}

static void indefinite_hessian_is_refused(void **state) {
    double gram[4] = {1, 0, 2, 1};
    float u[4];
    bool dead[2];
    (void)state;
    assert_int_equal(espl_prune_factor(gram, 2, 1, 0.01, u, dead), ESPL_FAILED);
}

/* ------------------------------------------------------------- reference */

/* inverse [n, n] of h, by Gauss-Jordan. */
static void invert(const double *h, int64_t n, double *inverse) {
    double a[IN * 2 * IN] = {0};
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < 2 * n; j++) a[i * 2 * n + j] = j < n ? h[i * n + j] : i == j - n;
    for (int64_t k = 0; k < n; k++) {
        double pivot = a[k * 2 * n + k];
        for (int64_t j = 0; j < 2 * n; j++) a[k * 2 * n + j] /= pivot;
        for (int64_t i = 0; i < n; i++) {
            double f = a[i * 2 * n + k];
            for (int64_t j = 0; i != k && j < 2 * n; j++) a[i * 2 * n + j] -= f * a[k * 2 * n + j];
        }
    }
    for (int64_t i = 0; i < n; i++) memcpy(inverse + i * n, a + i * 2 * n + n, (size_t)n * sizeof *a);
}

typedef struct reference {
    double h[IN * IN], w[OUT * IN], loss;
    double first[IN][IN]; /* row 0 of the inverse of h[i:, i:] */
    bool gone[OUT * IN];
} reference;

static void prepare(reference *f, const double *gram, const float *w) {
    double part[IN * IN], inverse[IN * IN];
    condition(gram, IN, f->h);
    for (int64_t i = 0; i < IN; i++) {
        int64_t n = IN - i;
        for (int64_t a = 0; a < n; a++)
            for (int64_t b = 0; b < n; b++) part[a * n + b] = f->h[(a + i) * IN + b + i];
        invert(part, n, inverse);
        memcpy(f->first[i], inverse, (size_t)n * sizeof *inverse);
    }
    for (int64_t i = 0; i < OUT * IN; i++) f->w[i] = gram[(i % IN) * IN + i % IN] == 0 ? 0 : (double)w[i];
    memset(f->gone, 0, sizeof f->gone);
    f->loss = 0;
}

/* Prunes the k cheapest weights of rows r0 .. r1 - 1, columns c0 .. c1 - 1. */
static void choose(reference *f, int64_t r0, int64_t r1, int64_t c0, int64_t c1, int64_t k) {
    for (; k > 0; k--) {
        int64_t best = -1;
        double least = INFINITY;
        for (int64_t r = r0; r < r1; r++)
            for (int64_t c = c0; c < c1; c++) {
                double cost = f->w[r * IN + c] * f->w[r * IN + c] / f->first[c][0];
                if (!f->gone[r * IN + c] && cost < least) least = cost, best = r * IN + c;
            }
        f->gone[best] = true;
    }
}

static int64_t share(int64_t count, int64_t c) { return count * c / IN; }

static void choose_block(reference *f, const espl_sparsegpt_options *o, int64_t c0, int64_t c1) {
    if (o->pattern.group == ESPL_GROUP_LAYER) choose(f, 0, OUT, c0, c1, share(o->count, c1) - share(o->count, c0));
    for (int64_t r = 0; o->pattern.group == ESPL_GROUP_ROW && r < OUT; r++) {
        int64_t mine = o->count / OUT + (r < o->count % OUT);
        choose(f, r, r + 1, c0, c1, share(mine, c1) - share(mine, c0));
    }
}

static void remove_column(reference *f, int64_t c) {
    for (int64_t r = 0; r < OUT; r++) {
        double *w = f->w + r * IN, e = w[c] / f->first[c][0];
        if (!f->gone[r * IN + c]) continue;
        f->loss += w[c] * e / 2;
        for (int64_t j = c; j < IN; j++) w[j] -= e * f->first[c][j - c];
        w[c] = 0;
    }
}

static void run_reference(reference *f, const espl_sparsegpt_options *o) {
    const espl_pattern *p = &o->pattern;
    for (int64_t c = 0; c < IN; c++) {
        if (c % o->block == 0) choose_block(f, o, c, c + o->block < IN ? c + o->block : IN);
        for (int64_t r = 0; p->group == ESPL_GROUP_N_M && c % p->m == 0 && r < OUT; r++) {
            int64_t width = p->m < IN - c ? p->m : IN - c;
            choose(f, r, r + 1, c, c + width, width * (p->m - p->n) / p->m);
        }
        remove_column(f, c);
    }
}

/* ----------------------------------------------------------------- tests */

static void compare(const reference *f, const uint64_t *mask, const float *weight, double loss, int64_t count) {
    int64_t lost = 0;
    for (int64_t i = 0; i < OUT * IN; i++) {
        bool gone = !espl_mask_row_get(mask + i / IN * WORDS, i % IN);
        lost += gone;
        assert_int_equal(gone, f->gone[i]);
        if (gone) assert_true(weight[i] == 0);
        assert_true(fabs((double)weight[i] - f->w[i]) < 1e-4);
    }
    assert_int_equal(lost, count);
    assert_true(fabs(loss - f->loss) <= 1e-4 * f->loss);
}

static void check(espl_sparsegpt_options o, int64_t dead_feature) {
    static reference f;
    double gram[IN * IN], loss;
    float w[OUT * IN], u[IN * IN], weight[OUT * IN];
    uint64_t mask[OUT * WORDS];
    bool dead[IN];
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = OUT, .in = IN};
    for (int64_t i = 0; i < OUT * IN; i++) w[i] = (float)test_normal(&rng);
    make_gram(IN, dead_feature, gram);
    prepare(&f, gram, w);
    assert_int_equal(espl_prune_factor(gram, IN, SCALE, DAMPING, u, dead), ESPL_OK);
    o.factor = u;
    o.dead = dead;
    espl_mask_fill(mask, OUT, IN);
    assert_int_equal(espl_prune_sparsegpt(&l, &o, mask, weight, &loss, ws), ESPL_OK);
    run_reference(&f, &o);
    compare(&f, mask, weight, loss,
            o.pattern.group == ESPL_GROUP_N_M ? espl_prune_pattern_count(&o.pattern, OUT, IN) : o.count);
}

static void masks_and_weights_match_the_definition(void **state) {
    espl_pattern layer = {.group = ESPL_GROUP_LAYER}, row = {.group = ESPL_GROUP_ROW};
    espl_pattern two = {.group = ESPL_GROUP_N_M, .n = 2, .m = 4}, odd = {.group = ESPL_GROUP_N_M, .n = 2, .m = 7};
    (void)state;
    check((espl_sparsegpt_options){.pattern = layer, .count = 157, .block = 16}, -1);
    check((espl_sparsegpt_options){.pattern = layer, .count = 100, .block = 128}, 3);
    check((espl_sparsegpt_options){.pattern = row, .count = 140, .block = 10}, -1);
    check((espl_sparsegpt_options){.pattern = row, .count = 203, .block = 45}, 44);
    check((espl_sparsegpt_options){.pattern = two, .block = 16}, -1);
    check((espl_sparsegpt_options){.pattern = odd, .block = 21}, 20);
    check((espl_sparsegpt_options){.pattern = layer, .count = 0, .block = 16}, -1);
    check((espl_sparsegpt_options){.pattern = layer, .count = OUT * IN, .block = 16}, -1);
}

typedef struct result {
    float u[LARGE * LARGE], weight[LARGE * LARGE];
    uint64_t mask[LARGE * 5];
    double loss;
} result;

static void prune_large(const double *gram, const float *w, int threads, result *r) {
    static double copy[LARGE * LARGE];
    static bool dead[LARGE];
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = LARGE, .in = LARGE};
    espl_sparsegpt_options o = {
        .factor = r->u, .dead = dead, .pattern = {.group = ESPL_GROUP_LAYER}, .count = 41234, .block = 128};
    espl_workspace *own;
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
    memset(r, 0, sizeof *r);
    memcpy(copy, gram, sizeof copy);
    espl_mask_fill(r->mask, LARGE, LARGE);
    assert_int_equal(espl_workspace_create(&own), ESPL_OK);
    assert_int_equal(espl_prune_factor(copy, LARGE, SCALE, DAMPING, r->u, dead), ESPL_OK);
    assert_int_equal(espl_prune_sparsegpt(&l, &o, r->mask, r->weight, &r->loss, own), ESPL_OK);
    espl_workspace_destroy(&own);
}

static void results_do_not_depend_on_threads(void **state) {
    static double gram[LARGE * LARGE];
    static float w[LARGE * LARGE];
    static result one, three;
    (void)state;
    make_gram(LARGE, 7, gram);
    for (int64_t i = 0; i < LARGE * LARGE; i++) w[i] = (float)test_normal(&rng);
    prune_large(gram, w, 1, &one);
    prune_large(gram, w, 3, &three);
    assert_true(one.loss > 0);
    assert_memory_equal(&one, &three, sizeof one);
}

static void invalid_requests_are_refused(void **state) {
    float w[8] = {0}, weight[8];
    uint64_t mask = 0;
    double loss;
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = 1, .in = 8};
    const espl_sparsegpt_options bad[] = {
        {.pattern = {.group = ESPL_GROUP_LAYER}, .count = 9, .block = 128},
        {.pattern = {.group = ESPL_GROUP_LAYER}, .count = -1, .block = 128},
        {.pattern = {.group = ESPL_GROUP_LAYER}, .count = 1, .block = 2048},
        {.pattern = {.group = ESPL_GROUP_N_M, .n = 2, .m = 3}, .block = 128},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(espl_prune_sparsegpt(&l, &bad[i], &mask, weight, &loss, ws), ESPL_USAGE);
}

static int setup(void **state) {
    (void)state;
    espl_tensor_blas_init();
    espl_rng_seed(&rng, 12, 0, 0);
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : 1;
}

static int teardown(void **state) {
    (void)state;
    espl_workspace_destroy(&ws);
    return espl_mem_balance() == 0 ? 0 : 1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor_inverts_the_hessian),
        cmocka_unit_test(indefinite_hessian_is_refused),
        cmocka_unit_test(masks_and_weights_match_the_definition),
        cmocka_unit_test(invalid_requests_are_refused),
        cmocka_unit_test(results_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
