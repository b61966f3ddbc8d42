/* SPDX-License-Identifier: Apache-2.0 */
/* The backward kernels against plain double-precision loops and central differences; the statistics against sorting. */
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
#include "espalier/base/hash.h"
#include "espalier/base/memory.h"
#include "espalier/tensor/attention.h"
#include "espalier/tensor/dtype.h"
#include "espalier/tensor/elementwise.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/mask.h"
#include "espalier/tensor/route.h"
#include "espalier/tensor/statistics.h"
#include "espalier/tensor/workspace.h"

static espl_rng rng;
static espl_workspace *ws;

static float *random_floats(int64_t n, float scale) {
    float *p = malloc((size_t)n * sizeof *p + 1);
    for (int64_t i = 0; i < n; i++) p[i] = scale * (float)test_normal(&rng);
    return p;
}

static double *doubles(const float *x, int64_t n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    for (int64_t i = 0; x && i < n; i++) p[i] = x[i];
    return p;
}

static void assert_close(const char *what, const float *got, const double *want, int64_t n, double tolerance) {
    double size = 1e-6, diff = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= diff)) diff = d;
        size = fmax(size, fabs(want[i]));
    }
    if (!(diff <= tolerance * size)) fail_msg("%s differs by %g of %g", what, diff, size);
}

static void assert_near(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * fmax(fabs(want), 1e-9))) fail_msg("%s: %.12g, not %.12g", what, got, want);
}

/* dL/dx[at] by central differences of a scalar function. */
static double slope(double (*f)(void *), void *context, double *x) {
    const double h = 1e-5, kept = *x;
    *x = kept + h;
    double above = f(context);
    *x = kept - h;
    double below = f(context);
    *x = kept;
    return (above - below) / (2 * h);
}

/* A number of entries of a computed gradient against differences. */
static void check_slopes(const char *what, double (*f)(void *), void *context, double *x, const float *got, int64_t n) {
    enum { MOST = 24 };
    double want[MOST], size = 1e-6;
    float have[MOST];
    int64_t tried = n < MOST ? n : MOST;
    for (int64_t i = 0; i < tried; i++) {
        int64_t at = n <= MOST ? i : espl_rng_below(&rng, n);
        want[i] = slope(f, context, x + at);
        have[i] = got[at];
    }
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs((double)got[i]));
    for (int64_t i = 0; i < tried; i++)
        if (!(fabs((double)have[i] - want[i]) <= 1e-4 * size))
            fail_msg("%s: %g, not %g", what, (double)have[i], want[i]);
}

/* ---------------------------------------------------------------- linear */

typedef struct made_linear {
    espl_linear l;
    void *weight;
    uint64_t *mask;
    float *dense; /* widened, masked */
} made_linear;

static bool kept(const made_linear *m, int64_t r, int64_t c) {
    return !m->mask || espl_mask_row_get(m->mask + r * espl_mask_words(m->l.in), c);
}

static made_linear make_linear(int64_t out, int64_t in, espl_dtype d, bool masked) {
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
        for (int64_t i = 0; i < words; i++) m.mask[i] = espl_rng_next(&rng); /* padding bits too */
        for (int64_t i = 0; i < out * in; i++)
            if (!kept(&m, i / in, i % in)) m.dense[i] = 0;
    }
    m.l.weight = raw + 1;
    m.l.mask = m.mask;
    return m;
}

static void free_linear(made_linear *m) {
    free(m->weight);
    free(m->mask);
    free(m->dense);
}

static void add_naive_input_gradient(const made_linear *m, const float *dy, int64_t T, double *dx) {
    for (int64_t t = 0; t < T; t++)
        for (int64_t r = 0; r < m->l.out; r++)
            for (int64_t c = 0; c < m->l.in; c++)
                dx[t * m->l.in + c] += (double)dy[t * m->l.out + r] * m->dense[r * m->l.in + c];
}

static double naive_gradient_sum(const made_linear *m, const float *x, const float *dy, int64_t T) {
    double sum = 0;
    for (int64_t r = 0; r < m->l.out; r++)
        for (int64_t c = 0; c < m->l.in; c++) {
            double g = 0;
            for (int64_t t = 0; t < T; t++) g += (double)dy[t * m->l.out + r] * x[t * m->l.in + c];
            sum += kept(m, r, c) ? fabs(g) : 0;
        }
    return sum;
}

/* Two linears with one input. */
static void check_linear(int64_t T, int64_t out, int64_t in, espl_dtype d, bool masked, bool accumulate) {
    made_linear m[2] = {make_linear(out, in, d, masked), make_linear(out / 2 + 1, in, d, masked)};
    espl_linear l[2] = {m[0].l, m[1].l};
    float *x = random_floats(T * in, 1), *dx = random_floats(T * in, 1);
    float *dy[2] = {random_floats(T * out, 1), random_floats(T * m[1].l.out, 1)};
    double *want = doubles(accumulate ? dx : NULL, T * in), sums[2];
    double *partial = malloc((size_t)espl_gradient_partials(l, 2) * sizeof *partial);
    for (int i = 0; i < 2; i++) add_naive_input_gradient(&m[i], dy[i], T, want);
    espl_tensor_linear_backward(l, 2, (const float *const *)dy, T, dx, accumulate, ws);
    assert_close("dx", dx, want, T * in, 1e-5);
    espl_tensor_gradient_sums(l, 2, x, (const float *const *)dy, T, partial, sums, ws);
    for (int i = 0; i < 2; i++) assert_near("sum of |dW|", sums[i], naive_gradient_sum(&m[i], x, dy[i], T), 1e-5);
    for (int i = 0; i < 2; i++) free_linear(&m[i]), free(dy[i]);
    free(x);
    free(dx);
    free(want);
    free(partial);
}

static void linear_gradients_match_plain_loops(void **state) {
    (void)state;
    static const int64_t sizes[][3] = {{1, 5, 3},     {2, 33, 70},    {7, 100, 64},
                                       {40, 130, 65}, {300, 70, 520}, {530, 520, 40}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int v = 0; v < 6; v++)
            check_linear(sizes[i][0], sizes[i][1], sizes[i][2], (espl_dtype)(v % 3), v & 1, v >= 3);
}

/* ------------------------------------------------------------- attention */

typedef struct attention_case {
    espl_attention_shape s;
    int64_t T;
    double *q, *k, *v, *dout; /* [T, heads * d], [T, kv_heads * d] */
} attention_case;

/* Output of one query and head; returns the log-sum-exp. */
static double naive_attend(const attention_case *a, int64_t t, int64_t h, double *out) {
    int64_t d = a->s.head_dim, kv = h / (a->s.heads / a->s.kv_heads), ld = a->s.kv_heads * d;
    int64_t lo = a->s.window > 0 && t + 1 > a->s.window ? t + 1 - a->s.window : 0;
    double sum = 0;
    memset(out, 0, (size_t)d * sizeof *out);
    for (int64_t j = lo; j <= t; j++) {
        double score = 0;
        for (int64_t i = 0; i < d; i++) score += a->q[(t * a->s.heads + h) * d + i] * a->k[j * ld + kv * d + i];
        double p = exp(score / sqrt((double)d));
        sum += p;
        for (int64_t i = 0; i < d; i++) out[i] += p * a->v[j * ld + kv * d + i];
    }
    for (int64_t i = 0; i < d; i++) out[i] /= sum;
    return log(sum);
}

static double naive_attention_loss(void *context) {
    attention_case *a = context;
    double out[64], loss = 0;
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t h = 0; h < a->s.heads; h++) {
            naive_attend(a, t, h, out);
            for (int64_t i = 0; i < a->s.head_dim; i++)
                loss += out[i] * a->dout[(t * a->s.heads + h) * a->s.head_dim + i];
        }
    return loss;
}

static void check_lse(attention_case *a, const float *lse) {
    double out[64];
    for (int64_t t = 0; t < a->T; t++)
        for (int64_t h = 0; h < a->s.heads; h++)
            if (fabs(naive_attend(a, t, h, out) - (double)lse[t * a->s.heads + h]) > 1e-5) fail_msg("log-sum-exp");
}

static void check_attention(int64_t T, int64_t heads, int64_t kv_heads, int64_t d, int64_t window) {
    espl_attention_shape s = {.heads = heads, .kv_heads = kv_heads, .head_dim = d, .window = window};
    int64_t nq = T * heads * d, nk = T * kv_heads * d, capacity = T + 3;
    float *q = random_floats(nq, 1), *k = random_floats(nk, 1), *v = random_floats(nk, 1), *dout = random_floats(nq, 1);
    float *kc = random_floats(kv_heads * capacity * d, 1), *vc = random_floats(kv_heads * capacity * d, 1);
    float *out = random_floats(nq, 1), *dq = random_floats(nq, 1), *dk = random_floats(nk, 1),
          *dv = random_floats(nk, 1);
    float *lse = random_floats(T * heads, 1), *delta = random_floats(T * heads, 1);
    assert_true(espl_attention_backward_fits(&s));
    espl_tensor_cache_store(k, T, kv_heads, d, kc, capacity);
    espl_tensor_cache_store(v, T, kv_heads, d, vc, capacity);
    espl_attention forward = {.q = q, .out = out, .k = kc, .v = vc, .T = T, .capacity = capacity, .lse = lse};
    espl_tensor_attention(&s, &forward, 1, ws);
    espl_attention_gradient g = {.q = q,
                                 .dout = dout,
                                 .k = kc,
                                 .v = vc,
                                 .lse = lse,
                                 .delta = delta,
                                 .dq = dq,
                                 .dk = dk,
                                 .dv = dv,
                                 .T = T,
                                 .capacity = capacity};
    espl_tensor_attention_delta(&s, out, dout, T, delta);
    espl_tensor_attention_backward(&s, &g, ws);
    attention_case a = {s, T, doubles(q, nq), doubles(k, nk), doubles(v, nk), doubles(dout, nq)};
    check_lse(&a, lse);
    check_slopes("dq", naive_attention_loss, &a, a.q, dq, nq);
    check_slopes("dk", naive_attention_loss, &a, a.k, dk, nk);
    check_slopes("dv", naive_attention_loss, &a, a.v, dv, nk);
    float *const mine[] = {q, k, v, dout, kc, vc, out, dq, dk, dv, lse, delta};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
    free(a.q), free(a.k), free(a.v), free(a.dout);
}

static void attention_gradients_match_differences(void **state) {
    (void)state;
    static const int64_t cases[][5] = {{1, 2, 1, 4, 0},   {5, 4, 2, 8, 0},   {40, 6, 2, 12, 7},   {257, 3, 3, 8, 0},
                                       {300, 6, 2, 8, 0}, {530, 4, 1, 8, 9}, {540, 2, 1, 8, 300}, {70, 48, 1, 8, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_attention(cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4]);
}

/* ----------------------------------------------------------- element-wise */

enum { ROWS = 3, HEADS = 2, WIDTH = 12 };

typedef struct row_case {
    double x[ROWS * HEADS * WIDTH], y[ROWS * HEADS * WIDTH], dy[ROWS * HEADS * WIDTH];
    const float *weight;
    const espl_rope *rope;
    const int64_t *pos;
    int64_t width;
    espl_activation activation;
} row_case;

static double naive_norm_loss(void *context) {
    row_case *r = context;
    double loss = 0;
    for (int64_t t = 0; t < ROWS * HEADS * WIDTH / r->width; t++) {
        double square = 0, *x = r->x + t * r->width, *dy = r->dy + t * r->width;
        for (int64_t i = 0; i < r->width; i++) square += x[i] * x[i];
        double s = 1 / sqrt(square / (double)r->width + (double)1e-2f);
        for (int64_t i = 0; i < r->width; i++) loss += x[i] * s * r->weight[i] * dy[i];
    }
    return loss;
}

static double naive_norm_rope_loss(void *context) {
    row_case *r = context;
    double loss = 0;
    for (int64_t row = 0; row < ROWS * HEADS; row++) {
        double square = 0, *x = r->x + row * WIDTH, *dy = r->dy + row * WIDTH, n[WIDTH];
        for (int i = 0; i < WIDTH; i++) square += x[i] * x[i];
        double s = 1 / sqrt(square / WIDTH + (double)1e-2f);
        for (int i = 0; i < WIDTH; i++) n[i] = r->weight ? x[i] * s * r->weight[i] : x[i];
        int64_t half = r->rope->cos ? r->rope->rotary / 2 : 0;
        for (int64_t j = 0; j < half; j++) {
            double c = r->rope->cos[r->pos[row / HEADS] * half + j], e = r->rope->sin[r->pos[row / HEADS] * half + j];
            loss += dy[j] * (n[j] * c - n[j + half] * e) + dy[j + half] * (n[j + half] * c + n[j] * e);
        }
        for (int64_t j = 2 * half; j < WIDTH; j++) loss += dy[j] * n[j];
    }
    return loss;
}

static double naive_activation(espl_activation a, double g) {
    if (a == ESPL_ACTIVATION_SILU) return g / (1 + exp(-g));
    return g * (1 + tanh(sqrt(2 / 3.14159265358979) * (g + 0.044715 * g * g * g))) / 2;
}

static double naive_glu_loss(void *context) {
    row_case *r = context;
    double loss = 0;
    for (int i = 0; i < ROWS * HEADS * WIDTH; i++)
        loss += r->dy[i] * naive_activation(r->activation, r->x[i]) * r->y[i];
    return loss;
}

static void fill_case(row_case *r, const float *x, const float *y, const float *dy) {
    for (int i = 0; i < ROWS * HEADS * WIDTH; i++) {
        r->x[i] = x[i];
        r->y[i] = y[i];
        r->dy[i] = dy[i];
    }
}

static void elementwise_gradients_match_differences(void **state) {
    (void)state;
    enum { N = ROWS * HEADS * WIDTH };
    float *x = random_floats(N, 1), *y = random_floats(N, 1), *dy = random_floats(N, 1),
          *w = random_floats(WIDTH * 2, 1);
    float *dx = calloc(N, sizeof *dx), tables[2][8 * WIDTH / 2];
    row_case r = {.weight = w, .width = HEADS * WIDTH};
    fill_case(&r, x, y, dy);
    espl_tensor_rmsnorm_backward(x, w, dy, ROWS, HEADS * WIDTH, 1e-2f, dx);
    check_slopes("rmsnorm", naive_norm_loss, &r, r.x, dx, N);
    float kept_dx = dx[5];
    espl_tensor_rmsnorm_backward(x, w, dy, ROWS, HEADS * WIDTH, 1e-2f, dx);
    assert_near("adds to dx", (double)dx[5], 2 * (double)kept_dx, 1e-6);

    for (int i = 0; i < 8 * WIDTH / 2; i++) tables[0][i] = cosf((float)i), tables[1][i] = sinf((float)i);
    /* Rotation of all features, of some, of none. */
    const espl_rope ropes[] = {
        {tables[0], tables[1], WIDTH, WIDTH}, {tables[0], tables[1], WIDTH, 8}, {.head_dim = WIDTH}};
    r.pos = (const int64_t[ROWS]){4, 1, 7};
    for (int k = 0; k < 6; k++) {
        r.rope = &ropes[k / 2];
        memcpy(dx, dy, N * sizeof *dx);
        r.weight = k % 2 ? w : NULL;
        espl_tensor_norm_rope_backward(x, dx, ROWS, HEADS, r.weight, 1e-2f, r.rope, r.pos);
        check_slopes("norm and rope", naive_norm_rope_loss, &r, r.x, dx, N);
    }
    for (int a = 0; a < 2; a++) {
        float gate[N], up[N];
        r.activation = (espl_activation)a;
        memcpy(gate, x, sizeof gate);
        memcpy(up, y, sizeof up);
        espl_tensor_glu_to(r.activation, x, y, N, dx);
        for (int i = 0; i < N; i++)
            assert_true(fabs((double)dx[i] - naive_activation(r.activation, r.x[i]) * r.y[i]) < 1e-6);
        espl_tensor_glu_backward(r.activation, gate, up, dy, N);
        check_slopes("gate", naive_glu_loss, &r, r.x, gate, N);
        check_slopes("up", naive_glu_loss, &r, r.y, up, N);
    }
    free(x), free(y), free(dy), free(w), free(dx);
}

/* ------------------------------------------------------------------ head */

static void naive_head(const made_linear *m, const float *x, int64_t t, int32_t target, double scale, double *logprob,
                       double *dx) {
    int64_t V = m->l.out, C = m->l.in;
    double *logits = calloc((size_t)V, sizeof *logits), sum = 0;
    for (int64_t v = 0; v < V; v++) {
        for (int64_t c = 0; c < C; c++) logits[v] += (double)m->dense[v * C + c] * x[t * C + c];
        sum += exp(logits[v]);
    }
    *logprob = target >= 0 ? logits[target] - log(sum) : 0;
    memset(dx, 0, (size_t)C * sizeof *dx);
    for (int64_t v = 0; target >= 0 && v < V; v++)
        for (int64_t c = 0; c < C; c++)
            dx[c] += scale * (exp(logits[v]) / sum - (v == target)) * (double)m->dense[v * C + c];
    free(logits);
}

static void check_head(int64_t T, int64_t V, int64_t C, espl_dtype d) {
    made_linear m = make_linear(V, C, d, false);
    float *x = random_floats(T * C, 2), *dx = random_floats(T * C, 1);
    float *buffer = malloc((size_t)espl_head_backward_floats(&m.l, T) * sizeof *buffer);
    int32_t *target = malloc((size_t)T * sizeof *target);
    double *got = malloc((size_t)T * sizeof *got), *want = doubles(NULL, T * C);
    for (int64_t t = 0; t < T; t++) target[t] = t % 5 == 4 ? -1 : (int32_t)espl_rng_below(&rng, V);
    espl_tensor_head_backward(&m.l, x, T, target, 0.25f, got, dx, buffer, ws);
    for (int64_t t = 0; t < T; t++) {
        double logprob;
        naive_head(&m, x, t, target[t], 0.25, &logprob, want + t * C);
        assert_true(fabs(logprob - got[t]) < 1e-4);
    }
    assert_close("dx of the head", dx, want, T * C, 2e-5);
    free(x), free(dx), free(buffer), free(target), free(got), free(want);
    free_linear(&m);
}

static void head_gradient_matches_plain_loops(void **state) {
    (void)state;
    check_head(3, 50, 20, ESPL_DTYPE_F32);
    check_head(40, 2048, 33, ESPL_DTYPE_BF16);
    check_head(21, 4500, 24, ESPL_DTYPE_F16);
}

/* ------------------------------------------------------------ statistics */

static void square_sums_match_plain_loops(void **state) {
    (void)state;
    enum { T = 37, C = 150 };
    float *x = random_floats(T * C, 3);
    double got[C], want[C];
    for (int c = 0; c < C; c++) got[c] = want[c] = c;
    espl_tensor_square_sums(x, T, C, got);
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) want[c] += (double)x[t * C + c] * x[t * C + c];
    for (int c = 0; c < C; c++) assert_near("sum of squares", got[c], want[c], 1e-14);
    free(x);
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void check_quantile(int64_t out, int64_t in, espl_dtype d, bool masked, bool dead, double fraction) {
    made_linear m = make_linear(out, in, d, masked);
    float *norm = random_floats(in, 1), *scores = malloc((size_t)(out * in) * sizeof *scores);
    int64_t n = 0;
    for (int64_t c = 0; c < in; c++) norm[c] = dead && c % 3 ? 0 : fabsf(norm[c]); /* dead inputs: many equal scores */
    for (int64_t i = 0; i < out * in; i++)
        if (kept(&m, i / in, i % in)) scores[n++] = fabsf(m.dense[i]) * norm[i % in];
    qsort(scores, (size_t)n, sizeof *scores, ascending);
    double got;
    assert_int_equal(espl_tensor_score_quantile(&m.l, norm, fraction, &got, ws), ESPL_OK);
    assert_int_equal(espl_linear_survivors(&m.l), n);
    assert_true(got == (double)scores[(int64_t)floor(fraction * (double)(n - 1))]);
    free(norm), free(scores);
    free_linear(&m);
}

static void quantile_is_that_of_a_sort(void **state) {
    (void)state;
    static const double fractions[] = {0, 0.1, 0.5, 1};
    for (int v = 0; v < 24; v++)
        for (int i = 0; i < 4; i++)
            check_quantile(1 + v * 9, 3 + v * 31, (espl_dtype)(v % 3), v & 1, v & 2, fractions[i]);
}

static void quantile_of_nothing_is_nan(void **state) {
    (void)state;
    made_linear m = make_linear(4, 70, ESPL_DTYPE_BF16, true);
    float *norm = random_floats(70, 1);
    double got = 0;
    memset(m.mask, 0, 4 * 2 * sizeof *m.mask);
    for (int r = 0; r < 4; r++) m.mask[r * 2 + 1] = ~UINT64_C(0) << 6; /* bits past column 69 mean nothing */
    assert_int_equal(espl_tensor_score_quantile(&m.l, norm, 0.1, &got, ws), ESPL_OK);
    assert_true(isnan(got));
    assert_int_equal(espl_linear_survivors(&m.l), 0);
    free(norm);
    free_linear(&m);
}

/* --------------------------------------------------------------- threads */

#ifdef _OPENMP
static void hash_backward(int threads, uint64_t *hash) {
    enum { T = 600, HEADS_ = 4, D = 16, IN = HEADS_ * D };
    espl_workspace *mine;
    omp_set_num_threads(threads);
    espl_rng_seed(&rng, 7, 0, 0);
    assert_int_equal(espl_workspace_create(&mine), ESPL_OK);
    made_linear m = make_linear(700, IN, ESPL_DTYPE_BF16, true);
    float *x = random_floats(T * IN, 1), *dy = random_floats(T * 700, 1), *dx = random_floats(T * IN, 1);
    float *kv = random_floats(T * D * 2, 1), *lse = random_floats(T * HEADS_, 1), *delta = random_floats(T * HEADS_, 1);
    float *dq = random_floats(T * IN, 1), *dkv = random_floats(T * D * 2, 1);
    double partial[64], sum, squares[IN] = {0}, quantile;
    const float *const dys[] = {dy};
    espl_tensor_linear_backward(&m.l, 1, dys, T, dx, false, mine);
    assert_true(espl_gradient_partials(&m.l, 1) <= 64);
    espl_tensor_gradient_sums(&m.l, 1, x, dys, T, partial, &sum, mine);
    espl_attention_shape s = {.heads = HEADS_, .kv_heads = 1, .head_dim = D};
    espl_attention_gradient g = {.q = x,
                                 .dout = dx,
                                 .k = kv,
                                 .v = kv + T * D,
                                 .lse = lse,
                                 .delta = delta,
                                 .dq = dq,
                                 .dk = dkv,
                                 .dv = dkv + T * D,
                                 .T = T,
                                 .capacity = T};
    for (int i = 0; i < T * HEADS_; i++) lse[i] = 8;
    espl_tensor_attention_delta(&s, dy, dx, T, delta);
    espl_tensor_attention_backward(&s, &g, mine);
    espl_tensor_square_sums(x, T, IN, squares);
    assert_int_equal(espl_tensor_score_quantile(&m.l, lse, 0.1, &quantile, mine), ESPL_OK);
    uint64_t h = espl_hash64(dx, T * IN * 4, 0);
    h = espl_hash64(&sum, sizeof sum, h);
    h = espl_hash64(dq, T * IN * 4, h);
    h = espl_hash64(dkv, T * D * 2 * 4, h);
    h = espl_hash64(squares, sizeof squares, h);
    *hash = espl_hash64(&quantile, sizeof quantile, h);
    float *const mine_too[] = {x, dy, dx, kv, lse, delta, dq, dkv};
    for (size_t i = 0; i < sizeof mine_too / sizeof *mine_too; i++) free(mine_too[i]);
    free_linear(&m);
    espl_workspace_destroy(&mine);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    uint64_t one, other;
    hash_backward(1, &one);
    for (int threads = 2; threads <= 4; threads++) {
        hash_backward(threads, &other);
        assert_true(one == other);
    }
    omp_set_num_threads(before);
}
#endif

/* ---------------------------------------------------------------- router */

enum { ROUTED = 3, EXPERTS = 7, CHOSEN = 3 };

/* A loss that is linear in the weights of the chosen experts. */
typedef struct routed {
    espl_route_shape shape;
    double logits[ROUTED * EXPERTS], factors[ROUTED * CHOSEN];
    const int32_t *chosen;
} routed;

static double routed_loss(void *context) {
    const routed *r = context;
    double loss = 0;
    for (int t = 0; t < ROUTED; t++) {
        double p[EXPERTS], sum = 0, kept_sum = 0;
        for (int e = 0; e < EXPERTS; e++) sum += p[e] = exp(r->logits[t * EXPERTS + e]);
        for (int k = 0; k < CHOSEN; k++) kept_sum += p[r->chosen[t * CHOSEN + k]];
        for (int k = 0; k < CHOSEN; k++)
            loss += r->factors[t * CHOSEN + k] * p[r->chosen[t * CHOSEN + k]] / (r->shape.normed ? kept_sum : sum);
    }
    return loss;
}

static void routing_matches_formulas(void **state) {
    (void)state;
    for (int normed = 0; normed <= 1; normed++) {
        routed r = {.shape = {.experts = EXPERTS, .per_token = CHOSEN, .normed = normed}};
        float *probs = random_floats(ROUTED * EXPERTS, 1), *factors = random_floats(ROUTED * CHOSEN, 1);
        float weights[ROUTED * CHOSEN], d_logits[ROUTED * EXPERTS];
        int32_t chosen[ROUTED * CHOSEN];
        double loss = 0;
        probs[EXPERTS + 1] = probs[EXPERTS + 4] = 4; /* of equals the lower comes first */
        for (int i = 0; i < ROUTED * EXPERTS; i++) r.logits[i] = probs[i];
        for (int i = 0; i < ROUTED * CHOSEN; i++) r.factors[i] = factors[i];
        espl_tensor_route(&r.shape, probs, ROUTED, chosen, weights);
        assert_true(chosen[CHOSEN] == 1 && chosen[CHOSEN + 1] == 4);
        for (int i = 0; i < ROUTED * CHOSEN; i++) {
            const double *logits = r.logits + i / CHOSEN * EXPERTS;
            int place = 0; /* among the logits, by size */
            for (int e = 0; e < EXPERTS; e++)
                place += logits[e] > logits[chosen[i]] || (logits[e] == logits[chosen[i]] && e < chosen[i]);
            assert_int_equal(place, i % CHOSEN);
            loss += r.factors[i] * (double)weights[i];
        }
        r.chosen = chosen;
        assert_near("weights of experts", loss, routed_loss(&r), 1e-5);
        espl_tensor_route_backward(&r.shape, probs, chosen, factors, ROUTED, d_logits);
        check_slopes("d logits", routed_loss, &r, r.logits, d_logits, ROUTED * EXPERTS);
        free(probs);
        free(factors);
    }
}

/* A router that overflows must still choose: what follows reports the NaN. */
static void routing_of_nan_chooses(void **state) {
    (void)state;
    const espl_route_shape shape = {.experts = 4, .per_token = 2};
    float probs[4] = {NAN, INFINITY, 1, NAN}, weights[2];
    int32_t chosen[2];
    espl_tensor_route(&shape, probs, 1, chosen, weights);
    assert_true(chosen[0] >= 0 && chosen[0] < 4 && chosen[1] >= 0 && chosen[1] < 4 && chosen[0] != chosen[1]);
}

int main(void) {
    espl_tensor_blas_init();
    espl_rng_seed(&rng, 20240613, 0, 0);
    if (espl_workspace_create(&ws) != ESPL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_gradients_match_plain_loops),
        cmocka_unit_test(attention_gradients_match_differences),
        cmocka_unit_test(elementwise_gradients_match_differences),
        cmocka_unit_test(head_gradient_matches_plain_loops),
        cmocka_unit_test(square_sums_match_plain_loops),
        cmocka_unit_test(quantile_is_that_of_a_sort),
        cmocka_unit_test(quantile_of_nothing_is_nan),
        cmocka_unit_test(routing_matches_formulas),
        cmocka_unit_test(routing_of_nan_chooses),
#ifdef _OPENMP
        cmocka_unit_test(threads_do_not_change_a_bit),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    espl_workspace_destroy(&ws);
    return failed || espl_mem_balance() != 0;
}
