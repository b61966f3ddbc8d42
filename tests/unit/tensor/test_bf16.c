/* SPDX-License-Identifier: Apache-2.0 */
/* bf16 arithmetic against sums in double of operands rounded to bf16, against PyTorch, and with itself: the same bits
 * on any number of threads. Passes without a check where there is no oneDNN or no bf16 instruction. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "../../normal.h"
#include "espalier/tensor/attention.h"
#include "espalier/tensor/linear.h"
#include "espalier/weights/reader.h"
#include "linear_tile.h"

static espl_rng rng;

static float *random_floats(int64_t n, float scale) {
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = scale * (float)test_normal(&rng);
    return p;
}

static double rounded(float f) {
    uint16_t h;
    espl_tensor_narrow(&f, 1, ESPL_DTYPE_BF16, &h);
    espl_tensor_widen(&h, ESPL_DTYPE_BF16, 1, &f);
    return (double)f;
}

/* A linear of any dtype; `dense` is what its weights are in bf16, masked. */
typedef struct made_linear {
    espl_linear l;
    char *weight;
    uint64_t *mask;
    float *bias;
    double *dense;
} made_linear;

static made_linear make_linear(int64_t out, int64_t in, espl_dtype d, bool masked, bool biased) {
    made_linear m = {.l = {.out = out, .in = in, .dtype = d}};
    float *w = random_floats(out * in, 0.1f);
    m.weight = malloc((size_t)(out * in) * espl_dtype_size(d) + 1); /* odd address: no alignment is promised */
    m.dense = malloc((size_t)(out * in) * sizeof *m.dense);
    if (masked) m.mask = calloc((size_t)(out * espl_mask_words(in)), sizeof *m.mask);
    for (int64_t i = 0; masked && i < out * espl_mask_words(in); i++) m.mask[i] = espl_rng_next(&rng);
    espl_tensor_narrow(w, out * in, d, m.weight + 1);
    espl_tensor_widen(m.weight + 1, d, out * in, w);
    for (int64_t i = 0; i < out * in; i++) {
        bool kept = !masked || espl_mask_row_get(m.mask + i / in * espl_mask_words(in), i % in);
        m.dense[i] = kept ? rounded(w[i]) : 0;
    }
    free(w);
    m.bias = biased ? random_floats(out, 1) : NULL;
    m.l.weight = m.weight + 1;
    m.l.mask = m.mask;
    m.l.bias = m.bias;
    return m;
}

static void free_linear(made_linear *m) {
    free(m->weight);
    free(m->mask);
    free(m->bias);
    free(m->dense);
}

static espl_workspace *make_workspace(void) {
    espl_workspace *ws;
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    assert_int_equal(espl_workspace_use(ws, ESPL_ARITHMETIC_BF16), ESPL_ARITHMETIC_F32);
    return ws;
}

/* Products of bf16 numbers are exact in f32, so only the order of f32 sums differs from `want`: k roundings of partial
 * sums, each of at most 2^-24 of the sum of absolute products. */
static void assert_within(double got, double want, double absolute, int64_t k) {
    double bound = ((double)k + 2) * 0x1p-24 * absolute + 1e-30;
    if (!(fabs(got - want) <= bound)) fail_msg("%.9g, expected %.9g within %g", got, want, bound);
}

static void check_linear(int64_t T, int64_t out, int64_t in, espl_dtype d, bool masked, bool biased, bool accumulate) {
    espl_workspace *ws = make_workspace();
    made_linear m = make_linear(out, in, d, masked, biased);
    float *x = random_floats(T * in, 1), *y = random_floats(T * out, 1), *before = malloc((size_t)(T * out) * 4);
    memcpy(before, y, (size_t)(T * out) * 4);
    espl_tensor_linear(&m.l, 1, x, T, &y, accumulate, ws);
    for (int64_t t = 0; t < T; t++)
        for (int64_t r = 0; r < out; r++) {
            double sum = (biased ? (double)m.bias[r] : 0) + (accumulate ? (double)before[t * out + r] : 0), size = 1;
            for (int64_t c = 0; c < in; c++) {
                double product = m.dense[r * in + c] * rounded(x[t * in + c]);
                sum += product;
                size += fabs(product);
            }
            assert_within((double)y[t * out + r], sum, size + fabs(sum), in);
        }
    free(x);
    free(y);
    free(before);
    free_linear(&m);
    espl_workspace_destroy(&ws);
}

static void linear_sums_rounded_operands(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{7, 100, 64},   {16, 16, 512},   {40, 130, 65}, {300, 70, 520},
                                       {530, 520, 40}, {17, 1025, 100}, {47, 33, 1030}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int v = 0; v < 12; v++)
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], (espl_dtype)(v % 3), v & 4, v & 8, v & 1);
}

static void check_backward(int64_t T, int64_t out, int64_t in, espl_dtype d) {
    espl_workspace *ws = make_workspace();
    made_linear m[2] = {make_linear(out, in, d, true, false), make_linear(out / 2 + 1, in, d, false, false)};
    espl_linear l[2] = {m[0].l, m[1].l};
    float *dy[2] = {random_floats(T * l[0].out, 1), random_floats(T * l[1].out, 1)}, *x = random_floats(T * in, 1);
    float *dx = malloc((size_t)(T * in) * 4), *gradient = calloc((size_t)(out * in), 4);
    espl_tensor_linear_backward(l, 2, (const float *const *)dy, T, dx, false, ws);
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < in; c++) {
            double sum = 0, size = 0;
            for (int i = 0; i < 2; i++)
                for (int64_t r = 0; r < l[i].out; r++) {
                    double product = m[i].dense[r * in + c] * rounded(dy[i][t * l[i].out + r]);
                    sum += product;
                    size += fabs(product);
                }
            assert_within((double)dx[t * in + c], sum, size, 2 * out);
        }
    espl_tensor_gradient_add(&l[0], x, dy[0], T, gradient, ws);
    double *partial = malloc((size_t)espl_gradient_partials(l, 2) * sizeof *partial), sums[2], want = 0;
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++) {
            double sum = 0, size = 0;
            for (int64_t t = 0; t < T; t++) {
                double product = rounded(dy[0][t * out + r]) * rounded(x[t * in + c]);
                sum += product;
                size += fabs(product);
            }
            assert_within((double)gradient[r * in + c], sum, size, T);
            if (espl_mask_row_get(m[0].mask + r * espl_mask_words(in), c)) want += fabs(sum);
        }
    espl_tensor_gradient_sums(l, 2, x, (const float *const *)dy, T, partial, sums, ws);
    assert_true(fabs(sums[0] - want) <= 1e-5 * want);
    free(partial);
    free(gradient);
    free(dx);
    free(x);
    for (int i = 0; i < 2; i++) {
        free(dy[i]);
        free_linear(&m[i]);
    }
    espl_workspace_destroy(&ws);
}

static void backward_sums_rounded_operands(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{7, 40, 64}, {33, 65, 24}, {300, 70, 40}, {530, 530, 16}, {40, 33, 1030}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int d = 0; d < 3; d++) check_backward(sizes[i][0], sizes[i][1], sizes[i][2], (espl_dtype)d);
}

static const float *golden_floats(const espl_weights *w, const char *name) {
    const espl_tensor_info *t = espl_weights_find(w, name);
    assert_true(t && t->dtype == ESPL_DTYPE_F32);
    return (const float *)(const void *)t->data;
}

static void assert_golden(const espl_weights *w, const char *what, const float *got, int64_t n, int64_t k) {
    char exact[32], size[32];
    snprintf(exact, sizeof exact, "%s_exact", what);
    snprintf(size, sizeof size, "%s_size", what);
    for (int64_t i = 0; i < n; i++)
        assert_within((double)got[i], (double)golden_floats(w, exact)[i],
                      (double)golden_floats(w, size)[i] + fabs((double)golden_floats(w, exact)[i]), k);
}

/* tests/golden/bf16: PyTorch rounds the operands, and multiplies in f64 and by its own bf16 kernel. The latter rounds
 * its result to bf16, so that ours may be its neighbour. */
static void products_match_pytorch(void **state) {
    (void)state;
    char path[4096];
    espl_weights *w;
    snprintf(path, sizeof path, "%s/golden/bf16/products.safetensors", getenv("ESPL_TEST_ROOT"));
    assert_int_equal(espl_weights_open_file(path, &w), ESPL_OK);
    const espl_tensor_info *weight = espl_weights_find(w, "w"), *theirs = espl_weights_find(w, "y_bf16");
    int64_t out = weight->dims[0], in = weight->dims[1], T = theirs->dims[0];
    espl_linear l = {.weight = weight->data, .dtype = weight->dtype, .out = out, .in = in};
    const float *x = golden_floats(w, "x"), *dy = golden_floats(w, "dy");
    float *y = malloc((size_t)(T * out) * 4), *dx = malloc((size_t)(T * in) * 4), *dw = calloc((size_t)(out * in), 4);
    float *rounded_theirs = malloc((size_t)(T * out) * 4);
    espl_workspace *ws = make_workspace();
    espl_tensor_linear(&l, 1, x, T, &y, false, ws);
    espl_tensor_linear_backward(&l, 1, &dy, T, dx, false, ws);
    espl_tensor_gradient_add(&l, x, dy, T, dw, ws);
    assert_golden(w, "y", y, T * out, in);
    assert_golden(w, "dx", dx, T * in, out);
    assert_golden(w, "dw", dw, out * in, T);
    espl_tensor_widen(theirs->data, theirs->dtype, T * out, rounded_theirs);
    for (int64_t i = 0; i < T * out; i++)
        assert_true(fabs(rounded(y[i]) - (double)rounded_theirs[i]) <= 0x1p-7 * fabs((double)rounded_theirs[i]));
    espl_workspace_destroy(&ws);
    espl_weights_close(&w);
    free(y);
    free(dx);
    free(dw);
    free(rounded_theirs);
}

/* A matrix of bf16 numbers that sum to a rounding error shows in which order sums run: any other kernel, or cut of the
 * work, gives other bits. */
static void bits_do_not_depend_on_threads(void **state) {
    (void)state;
    enum { T = 530, OUT = 1300, IN = 1040, MOST = 5 };
    made_linear m = make_linear(OUT, IN, ESPL_DTYPE_BF16, true, false);
    float *x = random_floats((int64_t)T * IN, 1), *dy = random_floats((int64_t)T * OUT, 1);
    float *y[MOST], *dx[MOST];
    double *partial = malloc((size_t)espl_gradient_partials(&m.l, 1) * sizeof *partial), sums[MOST];
    int before = omp_get_max_threads();
    for (int n = 1; n < MOST; n++) {
        omp_set_num_threads(n);
        espl_workspace *ws = make_workspace();
        y[n] = malloc((size_t)T * OUT * 4);
        dx[n] = malloc((size_t)T * IN * 4);
        espl_tensor_linear(&m.l, 1, x, T, &y[n], false, ws);
        espl_tensor_linear_backward(&m.l, 1, (const float *const[]){dy}, T, dx[n], false, ws);
        espl_tensor_gradient_sums(&m.l, 1, x, (const float *const[]){dy}, T, partial, &sums[n], ws);
        assert_memory_equal(y[n], y[1], (size_t)T * OUT * 4);
        assert_memory_equal(dx[n], dx[1], (size_t)T * IN * 4);
        assert_memory_equal(&sums[n], &sums[1], sizeof *sums);
        espl_workspace_destroy(&ws);
    }
    omp_set_num_threads(before);
    for (int n = 1; n < MOST; n++) {
        free(y[n]);
        free(dx[n]);
    }
    free(partial);
    free(x);
    free(dy);
    free_linear(&m);
}

/* Largest difference of a from b, as a part of the largest of b; b of 0: absolute. */
static double difference(const float *a, const float *b, int64_t n) {
    double most = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return most / fmax(size, 1e-6);
}

/* Against the f32 kernels, which are checked against plain loops: operands and probabilities are rounded to 8 bits, so
 * a weighted mean of values is off by at most a few 2^-9 of the largest. Passes that follow differ by as much again. */
static void check_attention(int64_t heads, int64_t kv, int64_t d, int64_t window, int64_t pos, int64_t T) {
    espl_attention_shape s = {.heads = heads, .kv_heads = kv, .head_dim = d, .window = window};
    int64_t keys = pos + T, q_n = T * heads * d, kv_n = keys * kv * d;
    float *q = random_floats(q_n, 1), *k = random_floats(kv_n, 1), *v = random_floats(kv_n, 1);
    float *out[2], *dq[2], *dk[2], *dv[2], *dout = random_floats(q_n, 1);
    float *lse = malloc((size_t)(T * heads) * 4), *delta = malloc((size_t)(T * heads) * 4);
    for (int i = 0; i < 2; i++) {
        espl_workspace *ws = make_workspace();
        if (i == 0) espl_workspace_use(ws, ESPL_ARITHMETIC_F32);
        out[i] = calloc((size_t)q_n, 4), dq[i] = calloc((size_t)q_n, 4);
        dk[i] = calloc((size_t)kv_n, 4), dv[i] = calloc((size_t)kv_n, 4);
        espl_attention a = {.q = q, .out = out[i], .k = k, .v = v, .T = T, .pos = pos, .capacity = keys, .lse = lse};
        espl_tensor_attention(&s, &a, 1, ws);
        if (pos == 0) {
            espl_attention_gradient g = {.q = q,
                                         .k = k,
                                         .v = v,
                                         .dout = dout,
                                         .lse = lse,
                                         .delta = delta,
                                         .dq = dq[i],
                                         .dk = dk[i],
                                         .dv = dv[i],
                                         .T = T,
                                         .capacity = keys};
            espl_tensor_attention_delta(&s, out[i], dout, T, delta);
            espl_tensor_attention_backward(&s, &g, ws);
        }
        espl_workspace_destroy(&ws);
    }
    assert_true(difference(out[1], out[0], q_n) < 0.01);
    assert_true(difference(dq[1], dq[0], q_n) < 0.02);
    assert_true(difference(dk[1], dk[0], kv_n) < 0.02);
    assert_true(difference(dv[1], dv[0], kv_n) < 0.02);
    assert_true(memcmp(out[1], out[0], (size_t)q_n * 4) != 0); /* it was bf16 */
    for (int i = 0; i < 2; i++) {
        free(out[i]);
        free(dq[i]);
        free(dk[i]);
        free(dv[i]);
    }
    float *const rest[] = {q, k, v, dout, lse, delta};
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) free(rest[i]);
}

static void attention_is_near_f32(void **state) {
    (void)state;
    check_attention(4, 2, 16, 0, 0, 40);
    check_attention(9, 3, 64, 0, 0, 600);
    check_attention(4, 1, 32, 7, 0, 300);
    check_attention(4, 2, 128, 600, 500, 200);
    check_attention(16, 2, 48, 0, 1000, 33);
    check_attention(2, 2, 256, 0, 0, 300);
    check_attention(6, 6, 24, 0, 0, 77); /* backward in f32: not whole steps of a head */
}

static void special_values_stay(void **state) {
    (void)state;
    enum { T = 8, N = 16 };
    espl_workspace *ws = make_workspace();
    float w[N * N] = {0}, x[T * N] = {0}, y[T * N], *out = y;
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = N, .in = N};
    for (int i = 0; i < N; i++) w[i * N + i] = 1;
    x[0] = NAN;
    x[N] = INFINITY;
    x[2 * N] = 3.4e38f;     /* rounds to infinity, as PyTorch's */
    x[3 * N] = 1.00390625f; /* half way between two numbers: to even */
    espl_tensor_linear(&l, 1, x, T, &out, false, ws);
    assert_true(isnan(y[0]) && isinf(y[N]) && isinf(y[2 * N]) && y[3 * N] == 1.0f);
    espl_workspace_destroy(&ws);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_sums_rounded_operands), cmocka_unit_test(backward_sums_rounded_operands),
        cmocka_unit_test(products_match_pytorch),       cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(attention_is_near_f32),        cmocka_unit_test(special_values_stay),
    };
    if (espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "bf16") != ESPL_OK) {
        print_message("skipped: %s\n", espl_base_error_text());
        return 0;
    }
    espl_rng_seed(&rng, 14, 0, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
