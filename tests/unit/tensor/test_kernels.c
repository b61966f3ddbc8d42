/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels against plain double-precision loops written from the formulas. */
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
#include "espalier/tensor/attention.h"
#include "espalier/tensor/dtype.h"
#include "espalier/tensor/elementwise.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/mask.h"
#include "espalier/tensor/workspace.h"

static espl_rng rng;

static float *random_floats(int64_t n, float scale) {
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = scale * (float)test_normal(&rng);
    return p;
}

static void assert_close(const float *got, const double *want, int64_t n, double tolerance) {
    double size = 1e-6, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= diff)) diff = d;
        size = fmax(size, fabs(want[i]));
    }
    if (!(diff <= tolerance * size)) fail_msg("differs by %g of %g", diff, size);
}

typedef struct made_linear {
    espl_linear l;
    void *weight;
    uint64_t *mask;
    float *bias;
    float *dense; /* what the linear stands for: widened, masked */
} made_linear;

static bool kept(const made_linear *m, int64_t r, int64_t c) {
    return !m->mask || espl_mask_row_get(m->mask + r * espl_mask_words(m->l.in), c);
}

static made_linear make_linear(int64_t out, int64_t in, espl_dtype d, bool masked, bool biased) {
    made_linear m = {.l = {.out = out, .in = in, .dtype = d}};
    float *w = random_floats(out * in, 0.1f);
    char *raw = malloc((size_t)(out * in) * espl_dtype_size(d) + 1); /* odd address: no alignment is promised */
    m.weight = raw;
    m.dense = malloc((size_t)(out * in) * sizeof *m.dense);
    espl_tensor_narrow(w, out * in, d, raw + 1);
    espl_tensor_widen(raw + 1, d, out * in, m.dense);
    free(w);
    if (masked) {
        int64_t words = out * espl_mask_words(in);
        m.mask = calloc((size_t)words, sizeof *m.mask);
        for (int64_t i = 0; i < words; i++) m.mask[i] = espl_rng_next(&rng);
        for (int64_t i = 0; i < out * in; i++)
            if (!kept(&m, i / in, i % in)) m.dense[i] = 0;
    }
    m.bias = biased ? random_floats(out, 1) : NULL;
    m.l.weight = raw + 1;
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

static void naive_linear(const made_linear *m, const float *x, int64_t T, const float *before, double *y) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t r = 0; r < m->l.out; r++) {
            double s = m->bias ? m->bias[r] : 0;
            for (int64_t c = 0; c < m->l.in; c++) s += (double)m->dense[r * m->l.in + c] * x[t * m->l.in + c];
            y[t * m->l.out + r] = s + (before ? before[t * m->l.out + r] : 0);
        }
}

static void check_linear(int64_t T, int64_t out, int64_t in, espl_dtype d, bool masked, bool biased, bool accumulate) {
    espl_workspace *ws;
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    made_linear m = make_linear(out, in, d, masked, biased);
    float *x = random_floats(T * in, 1), *y = random_floats(T * out, 1), *before = random_floats(T * out, 1);
    double *want = malloc((size_t)(T * out) * sizeof *want);
    memcpy(y, before, (size_t)(T * out) * sizeof *y);
    naive_linear(&m, x, T, accumulate ? before : NULL, want);
    espl_tensor_linear(&m.l, 1, x, T, &y, accumulate, ws);
    assert_close(y, want, T * out, 1e-5);
    free(x);
    free(y);
    free(before);
    free(want);
    free_linear(&m);
    espl_workspace_destroy(&ws);
}

static void linear_matches_plain_loops(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 5, 3},     {2, 33, 70},    {6, 16, 513},   {7, 100, 64},
                                       {40, 130, 65}, {300, 70, 520}, {530, 520, 40}, {17, 1025, 100}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int v = 0; v < 12; v++)
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], (espl_dtype)(v % 3), v & 4, v & 8, v & 1);
}

/* q, k and v in one call equal three calls, bit for bit. */
static void linears_together_equal_linears_alone(void **state) {
    (void)state;
    espl_workspace *ws;
    enum { T = 130, IN = 96 };
    static const int64_t outs[3] = {160, 32, 48};
    made_linear m[3];
    espl_linear l[3];
    float *together[3], *alone[3], *x = random_floats(T * IN, 1);
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    for (int i = 0; i < 3; i++) {
        m[i] = make_linear(outs[i], IN, ESPL_DTYPE_BF16, i == 1, i == 2);
        l[i] = m[i].l;
        together[i] = random_floats(T * outs[i], 1);
        alone[i] = random_floats(T * outs[i], 1);
        espl_tensor_linear(&l[i], 1, x, T, &alone[i], false, ws);
    }
    espl_tensor_linear(l, 3, x, T, together, false, ws);
    for (int i = 0; i < 3; i++) {
        assert_memory_equal(together[i], alone[i], (size_t)(T * outs[i]) * sizeof(float));
        free(together[i]);
        free(alone[i]);
        free_linear(&m[i]);
    }
    free(x);
    espl_workspace_destroy(&ws);
}

static void logprob_matches_plain_softmax(void **state) {
    (void)state;
    espl_workspace *ws;
    enum { T = 70, IN = 48, V = 1300 };
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    made_linear m = make_linear(V, IN, ESPL_DTYPE_F32, false, false);
    float *x = random_floats(T * IN, 5), *partial = malloc((size_t)espl_head_partial_floats(&m.l, T) * 4), got[T];
    double logits[T * V], logprob[T], want[T];
    int32_t target[T];
    naive_linear(&m, x, T, NULL, logits);
    for (int t = 0; t < T; t++) {
        double max = -INFINITY, sum = 0;
        target[t] = t % 7 == 3 ? -1 : (int32_t)espl_rng_below(&rng, V);
        for (int v = 0; v < V; v++) max = fmax(max, logits[t * V + v]);
        for (int v = 0; v < V; v++) sum += exp(logits[t * V + v] - max);
        want[t] = target[t] < 0 ? 0 : logits[t * V + target[t]] - max - log(sum);
    }
    espl_tensor_logprob(&m.l, x, T, target, logprob, partial, ws);
    for (int t = 0; t < T; t++) got[t] = (float)logprob[t];
    assert_close(got, want, T, 2e-6);
    free(x);
    free(partial);
    free_linear(&m);
    espl_workspace_destroy(&ws);
}

/* Attention of one query row, in double. */
static void naive_attention(const espl_attention_shape *s, const espl_attention *a, int64_t t, int64_t h, double *out) {
    int64_t d = s->head_dim, kv = h / (s->heads / s->kv_heads), at = a->pos + t;
    int64_t lo = s->window > 0 && at + 1 > s->window ? at + 1 - s->window : 0;
    const float *q = a->q + (t * s->heads + h) * d;
    double sum = 0, *p = malloc((size_t)(at + 1) * sizeof *p);
    memset(out, 0, (size_t)d * sizeof *out);
    for (int64_t j = lo; j <= at; j++) {
        double dot = 0;
        for (int64_t i = 0; i < d; i++) dot += (double)q[i] * a->k[(kv * a->capacity + j) * d + i];
        p[j] = exp(dot / sqrt((double)d));
        sum += p[j];
    }
    for (int64_t j = lo; j <= at; j++)
        for (int64_t i = 0; i < d; i++) out[i] += p[j] / sum * a->v[(kv * a->capacity + j) * d + i];
    free(p);
}

static void check_attention(int64_t heads, int64_t kv, int64_t d, int64_t window, int64_t pos, int64_t T) {
    espl_workspace *ws;
    espl_attention_shape s = {.heads = heads, .kv_heads = kv, .head_dim = d, .window = window};
    int64_t capacity = pos + T + 3;
    float *q = random_floats(T * heads * d, 1), *k = random_floats(kv * capacity * d, 1),
          *v = random_floats(kv * capacity * d, 1), *out = random_floats(T * heads * d, 1);
    double *want = malloc((size_t)(T * heads * d) * sizeof *want);
    espl_attention a = {.q = q, .out = out, .k = k, .v = v, .T = T, .pos = pos, .capacity = capacity};
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    espl_tensor_attention(&s, &a, 1, ws);
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) naive_attention(&s, &a, t, h, want + (t * heads + h) * d);
    assert_close(out, want, T * heads * d, 1e-5);
    espl_workspace_destroy(&ws);
    free(q);
    free(k);
    free(v);
    free(out);
    free(want);
}

/* Positions 0 .. prefix - 1 of `shared` and then the rows of `own` as one cache [kv, capacity, d]. */
static float *joined(const float *shared, const float *own, int64_t kv, int64_t capacity, int64_t d, int64_t prefix) {
    float *all = malloc((size_t)(kv * capacity * d) * sizeof *all);
    for (int64_t h = 0; h < kv; h++) {
        memcpy(all + h * capacity * d, shared + h * capacity * d, (size_t)(prefix * d) * sizeof *all);
        memcpy(all + (h * capacity + prefix) * d, own + h * capacity * d,
               (size_t)((capacity - prefix) * d) * sizeof *all);
    }
    return all;
}

static void check_behind(const espl_attention_shape *s, const espl_attention *a) {
    espl_attention whole = *a;
    int64_t d = s->head_dim, n = a->T * s->heads * d;
    float *k = joined(a->prefix_k, a->k, s->kv_heads, a->capacity, d, a->prefix);
    float *v = joined(a->prefix_v, a->v, s->kv_heads, a->capacity, d, a->prefix);
    double *want = calloc((size_t)n, sizeof *want);
    whole.k = k;
    whole.v = v;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t h = 0; h < s->heads; h++) naive_attention(s, &whole, t, h, want + (t * s->heads + h) * d);
    assert_close(a->out, want, n, 1e-5);
    free(k);
    free(v);
    free(want);
}

enum { SEQUENCES = 75 };

/* Decoding: n sequences of one new token each, every seventh of three, behind one prefix or (`two`) one of two. */
static void check_prefix(int64_t heads, int64_t kv, int64_t d, int64_t window, int64_t prefix, int64_t n, bool two) {
    espl_workspace *ws;
    espl_attention seqs[SEQUENCES];
    espl_attention_shape s = {.heads = heads, .kv_heads = kv, .head_dim = d, .window = window};
    int64_t capacity = prefix + 20, cache = kv * capacity * d;
    float *shared_k[2] = {random_floats(cache, 1), random_floats(cache, 1)};
    float *shared_v[2] = {random_floats(cache, 1), random_floats(cache, 1)};
    float *q = random_floats(n * 3 * heads * d, 1), *out = random_floats(n * 3 * heads * d, 1);
    float *k = random_floats(n * cache, 1), *v = random_floats(n * cache, 1);
    assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
    for (int64_t i = 0; i < n; i++) {
        int which = two && i > n / 2;
        seqs[i] = (espl_attention){.T = i % 7 == 6 ? 3 : 1, .pos = prefix + i % 9, .capacity = capacity};
        seqs[i].q = q + i * 3 * heads * d;
        seqs[i].out = out + i * 3 * heads * d;
        seqs[i].k = k + i * cache;
        seqs[i].v = v + i * cache;
        seqs[i].prefix = prefix;
        seqs[i].prefix_k = shared_k[which];
        seqs[i].prefix_v = shared_v[which];
    }
    espl_tensor_attention(&s, seqs, n, ws);
    for (int64_t i = 0; i < n; i++) check_behind(&s, &seqs[i]);
    float *all[] = {shared_k[0], shared_k[1], shared_v[0], shared_v[1], q, out, k, v};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    espl_workspace_destroy(&ws);
}

static void attention_behind_a_prefix(void **state) {
    (void)state;
    check_prefix(4, 2, 16, 0, 90, SEQUENCES, false);
    check_prefix(4, 2, 16, 0, 600, SEQUENCES, true);
    check_prefix(9, 3, 8, 0, 513, 5, false);
    check_prefix(8, 1, 6, 0, 1, 40, true);
    check_prefix(3, 3, 4, 0, 30, 2, false);
    check_prefix(4, 2, 16, 40, 90, 20, false);
}

static void attention_matches_plain_loops(void **state) {
    (void)state;
    check_attention(4, 2, 16, 0, 0, 40);
    check_attention(9, 3, 8, 0, 0, 300);
    check_attention(2, 2, 32, 0, 700, 9);
    check_attention(4, 1, 8, 7, 0, 300);
    check_attention(4, 2, 8, 600, 500, 200);
    check_attention(4, 4, 4, 1, 3, 5);
    check_attention(8, 1, 6, 0, 1023, 1);
}

static void rmsnorm_and_activations_match_formulas(void **state) {
    (void)state;
    enum { T = 9, C = 37 };
    float *x = random_floats(T * C, 3), *w = random_floats(C, 1), y[T * C];
    double want[T * C];
    for (int t = 0; t < T; t++) {
        double ss = 0;
        for (int i = 0; i < C; i++) ss += (double)x[t * C + i] * x[t * C + i];
        for (int i = 0; i < C; i++) want[t * C + i] = x[t * C + i] / sqrt(ss / C + 1e-5) * w[i];
    }
    espl_tensor_rmsnorm(x, w, T, C, 1e-5f, y);
    assert_close(y, want, T * C, 1e-6);
    float gate[7] = {-100, -20, -1, 0, 1, 20, 100}, up[7] = {1, 2, 3, 4, 5, 6, 7}, gelu[7];
    double silu[7];
    for (int i = 0; i < 7; i++) silu[i] = gate[i] / (1 + exp(-(double)gate[i])) * up[i];
    espl_tensor_glu_to(ESPL_ACTIVATION_GELU_TANH, gate, up, 7, gelu);
    for (int i = 0; i < 7; i++) {
        double g = gate[i], v = g * (1 + tanh(sqrt(2 / 3.14159265358979) * (g + 0.044715 * g * g * g))) / 2 * up[i];
        assert_true(fabs(gelu[i] - v) <= 1e-6 * fmax(1, fabs(v)));
    }
    espl_tensor_glu(ESPL_ACTIVATION_SILU, gate, up, 7);
    for (int i = 0; i < 7; i++) assert_true(fabs(gate[i] - silu[i]) <= 1e-6 * fmax(1, fabs(silu[i])));
    free(x);
    free(w);
}

#ifdef _OPENMP
/* One, two and five threads: the same bits. */
static void threads_do_not_change_bits(void **state) {
    (void)state;
    enum { T = 200, IN = 300, OUT = 700 };
    made_linear m = make_linear(OUT, IN, ESPL_DTYPE_BF16, true, true);
    float *x = random_floats(T * IN, 1), *first = random_floats(T * OUT, 1), *y = random_floats(T * OUT, 1);
    int before = omp_get_max_threads();
    static const int counts[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        espl_workspace *ws;
        omp_set_num_threads(counts[i]);
        assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
        espl_tensor_linear(&m.l, 1, x, T, i ? &y : &first, false, ws);
        if (i) assert_memory_equal(y, first, T * OUT * sizeof *y);
        espl_workspace_destroy(&ws);
    }
    omp_set_num_threads(before);
    free(x);
    free(y);
    free(first);
    free_linear(&m);
}
#endif

int main(void) {
    espl_rng_seed(&rng, 20260109, 0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_matches_plain_loops),    cmocka_unit_test(linears_together_equal_linears_alone),
        cmocka_unit_test(logprob_matches_plain_softmax), cmocka_unit_test(attention_matches_plain_loops),
        cmocka_unit_test(attention_behind_a_prefix),     cmocka_unit_test(rmsnorm_and_activations_match_formulas),
#ifdef _OPENMP
        cmocka_unit_test(threads_do_not_change_bits),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
