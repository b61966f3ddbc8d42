/* Private to the tensor room. */
#ifndef ESPL_TENSOR_INTERNAL_H
#define ESPL_TENSOR_INTERNAL_H

#include "espalier/tensor/attention.h"
#include "espalier/tensor/dtype.h"
#include "espalier/tensor/elementwise.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/mask.h"
#include "espalier/tensor/statistics.h"
#include "espalier/tensor/workspace.h"

/* Largest tile of a linear: tokens x outputs, and inputs per widened panel. Measured on 2 cores (docs/performance.md):
 * 512 x 512 x 512 keeps sgemm within a few percent of its rate on whole matrices, while the panel (1 MiB of f32)
 * is still in L2/L3 when sgemm packs it. */
enum { TILE_T = 512, TILE_OUT = 512, TILE_IN = 512 };

/* Attention blocks: query rows (of all heads of a group together) x keys. */
enum { BLOCK_Q = 256, BLOCK_K = 512, MAX_HEAD_DIM = 512, STACK_ROWS = 64 };

typedef struct scratch {
    float *panel; /* [TILE_OUT, TILE_IN] widened weights; attention: scores [BLOCK_Q, BLOCK_K] */
    float *tile;  /* [TILE_T, TILE_OUT] logits of the head; attention: queries and outputs */
} scratch;

/* The calling OpenMP thread's scratch. */
scratch espl_workspace_mine(espl_workspace *ws);

/* Clears those of n floats of a mask row, from column c0 (a multiple of 8) on, whose bit is 0. */
void espl_mask_apply(float *p, const uint64_t *row, int64_t c0, int64_t n);
/* Weights [r, c0 .. c0 + n) of the linear as f32, masked. c0 is a multiple of 8. */
void espl_linear_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *dst);

/* e^x to about 1 ulp for x <= 0 and moderately positive x; branch-free so that loops vectorise. Cephes' expf: x = n ln
 * 2
 * + r, a degree-5 polynomial in r, 2^n by exponent bits. Below -87.3 it returns 0. */
static inline float fast_exp(float x) {
    float c = x < -87.3f ? -87.3f : x > 88.0f ? 88.0f : x;
    float z = c * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to nearest integer */
    float n = z - 12582912.0f;
    float r = c - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        int32_t i;
        float f;
    } two_n = {.i = ((int32_t)n + 127) << 23};
    return x < -87.3f ? 0.0f : p * two_n.f;
}

#endif
