/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: products of bf16 matrices with f32 sums, by one thread. */
#ifndef ESPL_TENSOR_BF16_H
#define ESPL_TENSOR_BF16_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/base/status.h"

/* c [m, n] = a b, or += if `add`; a is [m, k] and b [k, n], or stored as their transposes. ld*: elements between rows
 * as stored. A program meets few shapes, since each is compiled once: so m and k should be multiples of BF16_STEP, with
 * zeros in the padding. */
typedef struct bf16_shape {
    int64_t m, n, k, lda, ldb, ldc;
    bool a_transposed, b_transposed, add;
} bf16_shape;
enum { BF16_STEP = 16 };

static inline int64_t bf16_padded(int64_t n) { return (n + BF16_STEP - 1) / BF16_STEP * BF16_STEP; }

/* Is there oneDNN, and a processor with bf16 instructions? */
bool espl_bf16_is_available(void);

/* One thread's compiled products and their scratch. */
typedef struct bf16_engine bf16_engine;
/* ESPL_NOMEM. Owned by the caller. */
espl_status espl_bf16_engine_create(bf16_engine **out);
void espl_bf16_engine_destroy(bf16_engine **e);
/* Bytes that an engine comes to use for products of tiles. */
int64_t espl_bf16_engine_bytes(void);

/* The product, by the calling thread alone: its bits depend on the shape and the operands. If oneDNN fails, which
 * means that memory has run out, an error is logged and c is NaN, so that no result can come of it. */
void espl_bf16_product(bf16_engine *e, const bf16_shape *s, const uint16_t *a, const uint16_t *b, float *c);

#endif
