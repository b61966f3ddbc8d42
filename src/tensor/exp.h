/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: e^x that vectorises. */
#ifndef ESPL_TENSOR_EXP_H
#define ESPL_TENSOR_EXP_H

#include <stdint.h>

/* e^x to about 1 ulp for x <= 0 and moderately positive x; branch-free, since libm's expf does not vectorise. Cephes'
 * expf: x = n ln 2 + r, a polynomial of degree 5 in r, 2^n by exponent bits. Below -87.3, where e^x leaves the range of
 * normal floats, it returns 0; above 88 it saturates. */
static inline float fast_exp(float x) {
    float c = x < -87.3f ? -87.3f : x > 88.0f ? 88.0f : x;
    float z = c * 1.44269504088896341f + 12582912.0f; /* 1.5 * 2^23: rounds to the nearest integer */
    float n = z - 12582912.0f;
    float r = c - n * 0.693359375f + n * 2.12194440e-4f; /* ln 2 in two parts, so that n ln 2 is exact enough */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    union {
        uint32_t u; /* unsigned: for NaN, n is any number, and a negative one must not be shifted */
        float f;
    } two_n = {.u = (uint32_t)((int32_t)n + 127) << 23};
    return x < -87.3f ? 0.0f : p * two_n.f;
}

#endif
