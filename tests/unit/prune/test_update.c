/* SPDX-License-Identifier: Apache-2.0 */
/* New weights of one linear for a given mask against NumPy in f64 (tests/golden/prune): the normal equations of each
 * row's surviving weights, and the optimal brain surgeon with an inverse for every column. */
#include <math.h>
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
#include "espalier/prune/sparsegpt.h"
#include "espalier/prune/update.h"
#include "espalier/weights/reader.h"

static const char *const names[] = {"bf16", "f32", "few", "tall", "dead"}; /* make_update.py */
static const double dampings[] = {1, 0.01};
enum { LINEARS = sizeof names / sizeof *names, IN_MAX = 100, OUT_MAX = 150 };
/* By norm: conjugate gradients end at a residual of 1e-5, whose error in weights is larger by the root of the
 * condition; the surgeon's factor is f32. Errors, as a share of the outputs' squares. */
static const double RECONSTRUCT_TOLERANCE = 5e-4, SURGEON_TOLERANCE = 1e-3, ERROR_TOLERANCE = 1e-5;

static espl_weights *golden;
static espl_workspace *ws;

static const espl_tensor_info *tensor(const char *linear, const char *part) {
    char name[192];
    snprintf(name, sizeof name, "%s.%s", linear, part);
    const espl_tensor_info *t = espl_weights_find(golden, name);
    if (!t) fail_msg("the golden has no %s", name);
    return t;
}

static double number(const char *linear, const char *part) {
    float f;
    memcpy(&f, tensor(linear, part)->data, sizeof f);
    return (double)f;
}

/* A linear of the golden; matrices are copied, since the file's are not aligned. */
typedef struct subject {
    const char *name;
    espl_linear l, prior;
    int64_t n;
    float gram[IN_MAX * IN_MAX], drift[IN_MAX * IN_MAX], factor[IN_MAX * IN_MAX];
    bool dead[IN_MAX];
    uint64_t mask[OUT_MAX * 2];
    float weight[OUT_MAX * IN_MAX];
    double amount; /* that a damping adds */
} subject;

static void open_subject(subject *s, const char *name) {
    const espl_tensor_info *w = tensor(name, "weight"), *gram = tensor(name, "gram"), *drift = tensor(name, "drift");
    memset(s, 0, sizeof *s);
    s->name = name;
    s->l = (espl_linear){.weight = w->data, .dtype = w->dtype, .out = w->dims[0], .in = w->dims[1], .mask = s->mask};
    s->prior = s->l;
    s->prior.weight = tensor(name, "prior")->data;
    s->n = s->l.out * s->l.in;
    memcpy(s->gram, gram->data, (size_t)gram->bytes);
    memcpy(s->drift, drift->data, (size_t)drift->bytes);
    assert_int_equal(tensor(name, "mask")->bytes, espl_mask_bytes(s->l.out, s->l.in));
    memcpy(s->mask, tensor(name, "mask")->data, (size_t)tensor(name, "mask")->bytes);
}

/* As the driver does: the factor from f64 sums, and the amount that the factorization adds to the diagonal. */
static void damp(subject *s, double damping) {
    static double hessian[IN_MAX * IN_MAX];
    int64_t in = s->l.in;
    double sum = 0;
    for (int64_t i = 0; i < in * in; i++) hessian[i] = (double)s->gram[i];
    for (int64_t i = 0; i < in; i++) sum += hessian[i * in + i] == 0 ? 1 : hessian[i * in + i];
    s->amount = damping * sum / (double)in;
    assert_int_equal(espl_prune_factor(hessian, in, 1, damping, s->factor, s->dead), ESPL_OK);
}

static void compare(const subject *s, const char *key, const espl_moments *of, double tolerance) {
    const espl_tensor_info *want = tensor(s->name, key);
    char part[96];
    double difference = 0, size = 0, rows[OUT_MAX], error;
    for (int64_t i = 0; i < s->n; i++) {
        float w;
        memcpy(&w, (const char *)want->data + (size_t)i * sizeof w, sizeof w);
        difference += ((double)s->weight[i] - (double)w) * ((double)s->weight[i] - (double)w);
        size += (double)w * (double)w;
        if (!espl_mask_row_get(s->mask + i / s->l.in * espl_mask_words(s->l.in), i % s->l.in))
            assert_true(s->weight[i] == 0);
    }
    if (!(sqrt(difference) <= tolerance * sqrt(size)))
        fail_msg("%s %s: weights differ by %g", s->name, key, sqrt(difference / size));
    snprintf(part, sizeof part, "%s.error", key);
    assert_int_equal(espl_update_error(&s->l, s->weight, of, rows, &error), ESPL_OK);
    if (!(fabs(error - number(s->name, part)) <= ERROR_TOLERANCE * number(s->name, "scale")))
        fail_msg("%s %s: error %.9g, expected %.9g", s->name, key, error, number(s->name, part));
}

static void weights_are_numpys(void **state) {
    static subject s;
    static const char *const targets[] = {"shift", "own"};
    (void)state;
    for (int i = 0; i < LINEARS; i++)
        for (size_t d = 0; d < sizeof dampings / sizeof *dampings; d++)
            for (int t = 0; t < 2; t++) {
                char key[64];
                double loss;
                open_subject(&s, names[i]);
                damp(&s, dampings[d]);
                espl_moments of = {.gram = s.gram, .drift = t == 0 ? s.drift : NULL};
                espl_sparsegpt_options by = {.factor = s.factor, .dead = s.dead, .given = true, .block = 32};
                assert_int_equal(espl_update_shift(&s.l, &of, s.factor, s.weight), ESPL_OK);
                assert_int_equal(espl_prune_sparsegpt(&s.l, &by, s.mask, s.weight, &loss, ws), ESPL_OK);
                assert_memory_equal(s.mask, tensor(s.name, "mask")->data, (size_t)tensor(s.name, "mask")->bytes);
                snprintf(key, sizeof key, "obs.%s.%g", targets[t], dampings[d]);
                compare(&s, key, &of, SURGEON_TOLERANCE);
                assert_int_equal(espl_update_reconstruct(&s.l, &s.prior, &of, s.amount, 1e-5, s.weight), ESPL_OK);
                snprintf(key, sizeof key, "reconstruct.%s.%g", targets[t], dampings[d]);
                compare(&s, key, &of, RECONSTRUCT_TOLERANCE);
            }
}

/* The reconstruction has the lowest error of all weights near the prior: what a guard relies on. */
static void a_reconstruction_lowers_the_error(void **state) {
    static subject s;
    (void)state;
    for (int i = 0; i < LINEARS; i++) {
        double before, surgeon, after, loss, rows[OUT_MAX];
        open_subject(&s, names[i]);
        damp(&s, 0.01);
        espl_moments of = {.gram = s.gram, .drift = s.drift};
        espl_sparsegpt_options by = {.factor = s.factor, .dead = s.dead, .given = true, .block = 32};
        espl_tensor_widen(s.l.weight, s.l.dtype, s.n, s.weight);
        assert_int_equal(espl_update_error(&s.l, s.weight, &of, rows, &before), ESPL_OK);
        assert_int_equal(espl_update_shift(&s.l, &of, s.factor, s.weight), ESPL_OK);
        assert_int_equal(espl_prune_sparsegpt(&s.l, &by, s.mask, s.weight, &loss, ws), ESPL_OK);
        assert_int_equal(espl_update_error(&s.l, s.weight, &of, rows, &surgeon), ESPL_OK);
        assert_int_equal(espl_update_reconstruct(&s.l, &s.l, &of, s.amount / 100, 1e-5, s.weight), ESPL_OK);
        assert_int_equal(espl_update_error(&s.l, s.weight, &of, rows, &after), ESPL_OK);
        assert_true(after < surgeon && surgeon < before);
    }
}

static void results_do_not_depend_on_threads(void **state) {
    static subject one, three;
    static double rows[OUT_MAX];
    (void)state;
    for (int i = 0; i < LINEARS; i++) {
        double errors[2];
        for (int k = 0; k < 2; k++) {
            subject *s = k == 0 ? &one : &three;
#ifdef _OPENMP
            omp_set_num_threads(k == 0 ? 1 : 3);
#endif
            open_subject(s, names[i]);
            damp(s, 0.01);
            espl_moments of = {.gram = s->gram, .drift = s->drift};
            assert_int_equal(espl_update_reconstruct(&s->l, &s->prior, &of, s->amount, 1e-5, s->weight), ESPL_OK);
            assert_int_equal(espl_update_error(&s->l, s->weight, &of, rows, &errors[k]), ESPL_OK);
        }
        assert_memory_equal(one.weight, three.weight, sizeof one.weight);
        assert_true(errors[0] == errors[1]);
    }
}

static int set_up(void **state) {
    char path[4096];
    (void)state;
    espl_tensor_blas_init();
    snprintf(path, sizeof path, "%s/golden/prune/update.safetensors", getenv("ESPL_TEST_ROOT"));
    if (espl_weights_open_file(path, &golden) != ESPL_OK) return fprintf(stderr, "%s\n", espl_base_error_text()), -1;
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    espl_weights_close(&golden);
    espl_workspace_destroy(&ws);
    return espl_mem_balance() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_numpys),
        cmocka_unit_test(a_reconstruction_lowers_the_error),
        cmocka_unit_test(results_do_not_depend_on_threads),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
