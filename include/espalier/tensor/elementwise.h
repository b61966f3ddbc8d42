/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element-wise kernels: RMSNorm, rotary embedding, gated activations, embedding rows, and their backward passes. All
 * functions are Local and use OpenMP inside. Matrices are row-major; [T, C] means T rows (tokens) of C features. dx
 * stands for dL/dx.
 */
#ifndef ESPALIER_TENSOR_ELEMENTWISE_H
#define ESPALIER_TENSOR_ELEMENTWISE_H

#include <stdint.h>

#include "espalier/tensor/dtype.h"

/* y[t] = x[t] * rsqrt(mean(x[t]^2) + eps) * weight (Zhang & Sennrich 2019; HF LlamaRMSNorm). x, y [T, C]; y may be x.
 */
void espl_tensor_rmsnorm(const float *x, const float *weight, int64_t T, int64_t C, float eps, float *y);
/* dx += the gradient of espl_tensor_rmsnorm's x, given its input x [T, C] and dy [T, C]. */
void espl_tensor_rmsnorm_backward(const float *x, const float *weight, const float *dy, int64_t T, int64_t C, float eps,
                                  float *dx);

/* Rotary embedding tables. */
typedef struct espl_rope {
    float *cos, *sin; /* [positions, rotary / 2]; NULL: nothing is rotated */
    int64_t head_dim;
    int64_t rotary; /* features of a head that are rotated, from the first on: even, at most head_dim */
} espl_rope;

/* In place on x [T, ld], the first heads * head_dim columns of each row: optional RMSNorm of each head with
 * norm [head_dim] (Qwen3's QK-norm, before RoPE; NULL for none), then RoPE in HF's half-split pairing
 * (j, j + rotary/2) at position pos[t]. */
void espl_tensor_norm_rope(float *x, int64_t T, int64_t ld, int64_t heads, const float *norm, float eps,
                           const espl_rope *rope, const int64_t *pos);
/* In place on dx [T, heads * head_dim]: back through espl_tensor_norm_rope. x: its input, read only with `norm`. */
void espl_tensor_norm_rope_backward(const float *x, float *dx, int64_t T, int64_t heads, const float *norm, float eps,
                                    const espl_rope *rope, const int64_t *pos);

/* Activations of a gate g: SiLU, g / (1 + exp(-g)), and GELU in its tanh form, g (1 + tanh(sqrt(2 / pi) (g + 0.044715
 * g^3))) / 2 (Hendrycks & Gimpel 2016; HF gelu_pytorch_tanh). */
typedef enum espl_activation { ESPL_ACTIVATION_SILU, ESPL_ACTIVATION_GELU_TANH } espl_activation;

/* gate = activation(gate) * up, n floats each (Shazeer 2020). */
void espl_tensor_glu(espl_activation a, float *gate, const float *up, int64_t n);
/* out = activation(gate) * up, which leaves gate as it is for the backward pass. n floats each. */
void espl_tensor_glu_to(espl_activation a, const float *gate, const float *up, int64_t n, float *out);
/* gate and up become their gradients, given dy of activation(gate) * up. */
void espl_tensor_glu_backward(espl_activation a, float *gate, float *up, const float *dy, int64_t n);

/* x += scale * y, n floats each. */
void espl_tensor_add_scaled(float *x, const float *y, float scale, int64_t n);
/* x *= scale, n floats. */
void espl_tensor_scale(float *x, float scale, int64_t n);

/* x[t] = row ids[t] of the table, widened; table [rows, C] of dtype d, ids in range. */
void espl_tensor_embed(const void *table, espl_dtype d, int64_t C, const int32_t *ids, int64_t T, float *x);

#endif
