/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element types, and conversion between them and f32. Conversions from 16 bits are branch-free, so that they vectorise:
 * widening weights takes as long as reading them.
 */
#include "espalier/tensor/dtype.h"

#include <string.h>

static const struct {
    size_t size;
    const char *name;
} dtypes[ESPL_DTYPE_COUNT] = {
#define X(name, size, label) {size, label},
    ESPL_DTYPE_LIST(X)
#undef X
};

size_t espl_dtype_size(espl_dtype d) { return dtypes[d].size; }

const char *espl_dtype_name(espl_dtype d) { return dtypes[d].name; }

bool espl_dtype_parse(const char *name, espl_dtype *out) {
    for (int i = 0; i < ESPL_DTYPE_COUNT; i++)
        if (strcmp(dtypes[i].name, name) == 0) return *out = (espl_dtype)i, true;
    return false;
}

bool espl_dtype_is_float(espl_dtype d) { return d == ESPL_DTYPE_F32 || d == ESPL_DTYPE_F16 || d == ESPL_DTYPE_BF16; }

static float f32_of_bits(uint32_t u) {
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t bits_of_f32(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* IEEE binary16 without a case per class: a multiplication shifts the exponent, which also normalises subnormals;
 * infinities and NaNs get the f32 exponent put back. */
static inline float f16_to_f32(uint16_t h) {
    uint32_t magnitude = (uint32_t)(h & 0x7FFF) << 13;
    uint32_t bits = bits_of_f32(f32_of_bits(magnitude) * 0x1p112f);
    bits |= (h & 0x7C00) == 0x7C00 ? 0x7F800000u : 0;
    return f32_of_bits(bits | (uint32_t)(h & 0x8000) << 16);
}

static uint16_t f32_to_f16(float f) {
    uint32_t u = bits_of_f32(f), sign = (u >> 16) & 0x8000, a = u & 0x7FFFFFFF;
    if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00);  /* NaN */
    if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* rounds past 65504 */
    if (a < 0x38800000) {                                  /* subnormal: the addition makes the FPU round */
        uint32_t r = bits_of_f32(f32_of_bits(a) + 0.5f) - bits_of_f32(0.5f);
        return (uint16_t)(sign | r);
    }
    uint32_t r = a - 0x38000000 + 0xFFF + ((a >> 13) & 1); /* ties to even */
    return (uint16_t)(sign | r >> 13);
}

static uint16_t f32_to_bf16(float f) {
    uint32_t u = bits_of_f32(f);
    if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40); /* NaN stays NaN */
    return (uint16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}

void espl_tensor_widen(const void *src, espl_dtype d, int64_t n, float *dst) {
    const unsigned char *p = src;
    uint16_t h;
    if (d == ESPL_DTYPE_F32) {
        memcpy(dst, src, (size_t)n * 4);
    } else if (d == ESPL_DTYPE_BF16) {
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, p + 2 * i, 2);
            dst[i] = f32_of_bits((uint32_t)h << 16);
        }
    } else {
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, p + 2 * i, 2);
            dst[i] = f16_to_f32(h);
        }
    }
}

void espl_tensor_narrow(const float *src, int64_t n, espl_dtype d, void *dst) {
    unsigned char *p = dst;
    if (d == ESPL_DTYPE_F32) {
        memcpy(dst, src, (size_t)n * 4);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        uint16_t h = d == ESPL_DTYPE_BF16 ? f32_to_bf16(src[i]) : f32_to_f16(src[i]);
        memcpy(p + 2 * i, &h, 2);
    }
}
