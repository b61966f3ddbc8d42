#include "internal.h"

#include <math.h>

/* Below this many floats a loop is done before threads have woken. */
enum { WORTH_THREADS = 1 << 15 };

/* y = x r w with r = (mean(x^2) + eps)^-1/2, so dL/dx = r (w dy) - x r^3 mean(x w dy). Coefficients of one row:
 * dx = scale * w dy - shrink * x. */
static void rmsnorm_coefficients(const float *x, const float *w, const float *dy, int64_t C, float eps, float *scale,
                                 float *shrink) {
    float square = 0, product = 0;
#pragma omp simd reduction(+ : square, product)
    for (int64_t i = 0; i < C; i++) {
        square += x[i] * x[i];
        product += x[i] * w[i] * dy[i];
    }
    float r = 1.0f / sqrtf(square / (float)C + eps);
    *scale = r;
    *shrink = r * r * r * product / (float)C;
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

/* The rotation's transpose. */
static void rotate_back(float *h, const float *cosine, const float *sine, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float a = h[j], b = h[j + half];
        h[j] = a * cosine[j] + b * sine[j];
        h[j + half] = b * cosine[j] - a * sine[j];
    }
}

static void norm_head_backward(const float *x, const float *weight, float *dy, int64_t d, float eps) {
    float scale, shrink;
    rmsnorm_coefficients(x, weight, dy, d, eps, &scale, &shrink);
    for (int64_t i = 0; i < d; i++) dy[i] = scale * weight[i] * dy[i] - shrink * x[i];
}

void espl_tensor_norm_rope_backward(const float *x, float *dx, int64_t T, int64_t heads, const float *norm, float eps,
                                    const espl_rope *rope, const int64_t *pos) {
    int64_t d = rope->head_dim, half = d / 2;
#pragma omp parallel for schedule(static) if (T * heads * d > WORTH_THREADS)
    for (int64_t t = 0; t < T; t++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t at = (t * heads + h) * d;
            rotate_back(dx + at, rope->cos + pos[t] * half, rope->sin + pos[t] * half, half);
            if (norm) norm_head_backward(x + at, norm, dx + at, d, eps);
        }
}

void espl_tensor_swiglu_to(const float *gate, const float *up, int64_t n, float *out) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
    for (int64_t i = 0; i < n; i++) out[i] = gate[i] / (1.0f + fast_exp(-gate[i])) * up[i];
}

void espl_tensor_swiglu_backward(float *gate, float *up, const float *dy, int64_t n) {
#pragma omp parallel for simd schedule(static) if (n > WORTH_THREADS)
    for (int64_t i = 0; i < n; i++) {
        float g = gate[i], sigmoid = 1.0f / (1.0f + fast_exp(-g));
        gate[i] = dy[i] * up[i] * sigmoid * (1.0f + g * (1.0f - sigmoid));
        up[i] = dy[i] * g * sigmoid;
    }
}
