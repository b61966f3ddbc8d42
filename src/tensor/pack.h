/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: matrices as bf16, for bf16.h. Rows and columns of padding are written as zeros. */
#ifndef ESPL_TENSOR_PACK_H
#define ESPL_TENSOR_PACK_H

#include "bf16.h"
#include "espalier/tensor/linear.h"
#include "scratch.h"

/* x [rows, n] with row stride ldx, times `factor`, rounded into to [padded_rows, ld]; n <= ld, rows <= padded_rows. */
void espl_pack_rows(const float *x, int64_t ldx, int64_t rows, int64_t n, float factor, uint16_t *to, int64_t ld,
                    int64_t padded_rows);
/* Weights [r0 .. r0 + rows) of inputs [c0 .. c0 + n), masked; as above. c0 is a multiple of 8. bf16 weights are copied,
 * not widened. piece: scratch of n floats for weights of other dtypes. */
void espl_pack_weights(const espl_linear *l, int64_t r0, int64_t rows, int64_t c0, int64_t n, uint16_t *to, int64_t ld,
                       int64_t padded_rows, float *piece);

/* The product of any number of rows m: a [bf16_padded(m), k] is not transposed and padded with zeros. The rows beyond
 * the last whole BF16_STEP go through the thread's tail. n <= TILE_OUT. */
void espl_pack_product(const scratch *mine, bf16_shape s, const uint16_t *a, const uint16_t *b, float *c);

#endif
