/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: one tile of a linear's output. */
#ifndef ESPL_TENSOR_LINEAR_TILE_H
#define ESPL_TENSOR_LINEAR_TILE_H

#include "espalier/tensor/linear.h"
#include "scratch.h"
#include "tiles.h"

/* y [at->rn, at->cn] with row stride ldy = tokens at->r0 .. and outputs at->c0 .. of x W^T + bias; with `accumulate`
 * the product is added. `step` tokens are multiplied at a time: it decides the bits, and is the same however many of
 * them a thread takes together. mine: the panel and the tail are used. */
void espl_linear_tile(const espl_linear *l, const float *x, const tile *at, int64_t step, float *y, int64_t ldy,
                      bool accumulate, const scratch *mine);

/* What espl_tensor_linear, espl_tensor_linear_backward and the weight gradients of n linears hand to `threads` threads:
 * units of work, each a whole number of tiles. `rows` of the tokens, which are cut as all T of them are. */
tile_list espl_linear_units(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads);
tile_list espl_linear_backward_units(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads);
tile_list espl_gradient_units(const espl_linear *linears, int n);

#endif
