/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: one tile of a linear's output. */
#ifndef ESPL_TENSOR_LINEAR_TILE_H
#define ESPL_TENSOR_LINEAR_TILE_H

#include "espalier/tensor/linear.h"
#include "tiles.h"

/* y [at->rn, at->cn] with row stride ldy = tokens at->r0 .. and outputs at->c0 .. of x W^T + bias; with `accumulate`
 * the product is added. panel: the thread's, for widened weights. */
void espl_linear_tile(const espl_linear *l, const float *x, const tile *at, float *y, int64_t ldy, bool accumulate,
                      float *panel);

#endif
