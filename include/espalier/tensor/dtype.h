/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element types of stored tensors, and conversion from and to f32, in which all kernels compute. All functions are
 * Local.
 */
#ifndef ESPALIER_TENSOR_DTYPE_H
#define ESPALIER_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, bytes per element, name in safetensors headers) */
#define ESPL_DTYPE_LIST(X)                                                                                             \
    X(F32, 4, "F32")                                                                                                   \
    X(F16, 2, "F16")                                                                                                   \
    X(BF16, 2, "BF16")                                                                                                 \
    X(I32, 4, "I32")                                                                                                   \
    X(I64, 8, "I64")                                                                                                   \
    X(U8, 1, "U8")

typedef enum espl_dtype {
#define X(name, size, label) ESPL_DTYPE_##name,
    ESPL_DTYPE_LIST(X)
#undef X
        ESPL_DTYPE_COUNT
} espl_dtype;

size_t espl_dtype_size(espl_dtype d);      /* bytes per element */
const char *espl_dtype_name(espl_dtype d); /* "BF16"; static storage */
/* False if no dtype has that name; *out is then unchanged. */
bool espl_dtype_parse(const char *name, espl_dtype *out);
bool espl_dtype_is_float(espl_dtype d); /* F32, F16 or BF16 */

/* Widens n elements of float dtype d at src to f32. src may be unaligned. */
void espl_tensor_widen(const void *src, espl_dtype d, int64_t n, float *dst);
/* Rounds n f32 elements to nearest even into float dtype d at dst. dst may be unaligned. */
void espl_tensor_narrow(const float *src, int64_t n, espl_dtype d, void *dst);

#endif
