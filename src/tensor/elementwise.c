#include "internal.h"

#include <math.h>

/* Below this many floats a loop is done before threads have woken. */
enum { WORTH_THREADS = 1 << 15 };

static float inverse_rms(const float *x, int64_t C, float eps) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < C; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)C + eps);
}

void espl_tensor_rmsnorm(const float *x, const float *weight, int64_t T, int64_t C, float eps, float *y) {
#pragma omp parallel for schedule(static) if (T * C > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) {
        const float *in = x + t * C;
        float *out = y + t * C, r = inverse_rms(in, C, eps);
        for (int64_t i = 0; i < C; i++) out[i] = in[i] * r * weight[i];
    }
}

static void norm_head(float *h, const float *weight, int64_t d, float eps) {
    float r = inverse_rms(h, d, eps);
    for (int64_t i = 0; i < d; i++) h[i] = h[i] * r * weight[i];
}

static void rotate_head(float *h, const float *cosine, const float *sine, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float a = h[j], b = h[j + half];
        h[j] = a * cosine[j] - b * sine[j];
        h[j + half] = b * cosine[j] + a * sine[j];
    }
}

void espl_tensor_norm_rope(float *x, int64_t T, int64_t ld, int64_t heads, const float *norm, float eps,
                           const espl_rope *rope, const int64_t *pos) {
    int64_t d = rope->head_dim, half = d / 2;
#pragma omp parallel for schedule(static) if (T * heads * d > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) {
            float *head = x + t * ld + h * d;
            if (norm) norm_head(head, norm, d, eps);
            rotate_head(head, rope->cos + pos[t] * half, rope->sin + pos[t] * half, half);
        }
}

void espl_tensor_swiglu(float *gate, const float *up, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
    for (int64_t i = 0; i < n; i++) gate[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * up[i];
}

void espl_tensor_embed(const void *table, espl_dtype d, int64_t C, const int32_t *ids, int64_t T, float *x) {
    size_t row = (size_t)C * espl_dtype_size(d);
#pragma omp parallel for schedule(static) if (T * C > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++) espl_tensor_widen((const char *)table + (size_t)ids[t] * row, d, C, x + t * C);
}
