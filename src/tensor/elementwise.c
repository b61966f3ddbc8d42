/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element-wise kernels and their backward passes. One thread computes a row (or its share of independent elements), so
 * results do not depend on the number of threads.
 */
#include "espalier/tensor/elementwise.h"

#include <math.h>

#include "exp.h"

enum { WORTH_THREADS = 1 << 15 }; /* floats; fewer are done before threads have woken */

/* ---------------------------------------------------------------- RMSNorm */

/* y = x * r * w, r = (mean(x^2) + eps)^-1/2. y may be x: without the simd pragma the compiler would test for overlap
 * and take a scalar loop. */
static void rmsnorm_row(const float *x, const float *w, int64_t n, float eps, float *y) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    float r = 1.0f / sqrtf(sum / (float)n + eps);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * r * w[i];
}

void espl_tensor_rmsnorm(const float *x, const float *weight, int64_t T, int64_t C, float eps, float *y) {
#pragma omp parallel for schedule(static) if (T * C > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) rmsnorm_row(x + t * C, weight, C, eps, y + t * C);
}

/* dL/dx = r (w dy) - x r^3 mean(x w dy) = scale * w dy - shrink * x. */
static void rmsnorm_coefficients(const float *x, const float *w, const float *dy, int64_t n, float eps, float *scale,
                                 float *shrink) {
    float square = 0, product = 0;
#pragma omp simd reduction(+ : square, product)
    for (int64_t i = 0; i < n; i++) {
        square += x[i] * x[i];
        product += x[i] * w[i] * dy[i];
    }
    float r = 1.0f / sqrtf(square / (float)n + eps);
    *scale = r;
    *shrink = r * r * r * product / (float)n;
}

void espl_tensor_rmsnorm_backward(const float *x, const float *weight, const float *dy, int64_t T, int64_t C, float eps,
                                  float *dx) {
#pragma omp parallel for schedule(static) if (T * C > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) {
        const float *in = x + t * C, *dout = dy + t * C;
        float *din = dx + t * C, scale, shrink;
        rmsnorm_coefficients(in, weight, dout, C, eps, &scale, &shrink);
        for (int64_t i = 0; i < C; i++) din[i] += scale * weight[i] * dout[i] - shrink * in[i];
    }
}

/* ------------------------------------------------------- RMSNorm and RoPE */

void espl_tensor_norm_rope(float *x, int64_t T, int64_t ld, int64_t heads, const float *norm, float eps,
                           const espl_rope *rope, const int64_t *pos) {
    int64_t d = rope->head_dim, half = rope->rotary / 2;
#pragma omp parallel for schedule(static) if (T * heads * d > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) {
            float *head = x + t * ld + h * d;
            if (norm) rmsnorm_row(head, norm, d, eps, head);
            if (!rope->cos) continue;
            const float *cosine = rope->cos + pos[t] * half, *sine = rope->sin + pos[t] * half;
            for (int64_t j = 0; j < half; j++) {
                float a = head[j], b = head[j + half];
                head[j] = a * cosine[j] - b * sine[j];
                head[j + half] = b * cosine[j] + a * sine[j];
            }
        }
}

void espl_tensor_norm_rope_backward(const float *x, float *dx, int64_t T, int64_t heads, const float *norm, float eps,
                                    const espl_rope *rope, const int64_t *pos) {
    int64_t d = rope->head_dim, half = rope->rotary / 2;
#pragma omp parallel for schedule(static) if (T * heads * d > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t at = (t * heads + h) * d, pairs = rope->cos ? half : 0;
            const float *cosine = rope->cos + pos[t] * pairs, *sine = rope->sin + pos[t] * pairs;
            float *dy = dx + at, scale, shrink;
            for (int64_t j = 0; j < pairs; j++) { /* the rotation's transpose */
                float a = dy[j], b = dy[j + half];
                dy[j] = a * cosine[j] + b * sine[j];
                dy[j + half] = b * cosine[j] - a * sine[j];
            }
            if (!norm) continue;
            rmsnorm_coefficients(x + at, norm, dy, d, eps, &scale, &shrink);
            for (int64_t i = 0; i < d; i++) dy[i] = scale * norm[i] * dy[i] - shrink * x[at + i];
        }
}

/* ------------------------------------------------------ gated activations
 *
 * Both are g * sigmoid(v), with v = g for SiLU: tanh(u) = 2 sigmoid(2u) - 1. The activation is chosen outside the
 * loops, so that they vectorise. */

static const float GELU_SLOPE = 1.5957691216057308f; /* v = 2 sqrt(2 / pi) (g + 0.044715 g^3) */
static const float GELU_CUBE = 0.044715f;

static inline float gelu_argument(float g) { return GELU_SLOPE * (g + GELU_CUBE * g * g * g); }

void espl_tensor_glu(espl_activation a, float *gate, const float *up, int64_t n) {
    espl_tensor_glu_to(a, gate, up, n, gate);
}

void espl_tensor_glu_to(espl_activation a, const float *gate, const float *up, int64_t n, float *out) {
    if (a == ESPL_ACTIVATION_SILU) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
        for (int64_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * up[i];
    } else {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
        for (int64_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + fast_exp(-gelu_argument(gate[i]))) * up[i];
    }
}

void espl_tensor_glu_backward(espl_activation a, float *gate, float *up, const float *dy, int64_t n) {
    if (a == ESPL_ACTIVATION_SILU) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
        for (int64_t i = 0; i < n; i++) {
            float g = gate[i], sigmoid = 1.0f / (1.0f + fast_exp(-g));
            gate[i] = dy[i] * up[i] * sigmoid * (1.0f + g * (1.0f - sigmoid));
            up[i] = dy[i] * g * sigmoid;
        }
    } else {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
        for (int64_t i = 0; i < n; i++) {
            float g = gate[i], sigmoid = 1.0f / (1.0f + fast_exp(-gelu_argument(g)));
            float slope = GELU_SLOPE * (1.0f + 3.0f * GELU_CUBE * g * g); /* dv/dg */
            gate[i] = dy[i] * up[i] * sigmoid * (1.0f + g * slope * (1.0f - sigmoid));
            up[i] = dy[i] * g * sigmoid;
        }
    }
}

/* ----------------------------------------------------------------- sums */

void espl_tensor_add_scaled(float *x, const float *y, float scale, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
    for (int64_t i = 0; i < n; i++) x[i] += scale * y[i];
}

void espl_tensor_scale(float *x, float scale, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
    for (int64_t i = 0; i < n; i++) x[i] *= scale;
}

/* -------------------------------------------------------------- embedding */

void espl_tensor_embed(const void *table, espl_dtype d, int64_t C, const int32_t *ids, int64_t T, float *x) {
    size_t row = (size_t)C * espl_dtype_size(d);
#pragma omp parallel for schedule(static) if (T * C > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) espl_tensor_widen((const char *)table + (size_t)ids[t] * row, d, C, x + t * C);
}
