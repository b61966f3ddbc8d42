/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: weights of a linear as f32, masked. */
#ifndef ESPL_TENSOR_WIDEN_H
#define ESPL_TENSOR_WIDEN_H

#include "espalier/tensor/linear.h"

/* Sets those of n floats to 0 whose bit in a mask's row, from column c0 (a multiple of 8) on, is clear. */
void espl_mask_apply(float *p, const uint64_t *row, int64_t c0, int64_t n);
/* Weights [r, c0 .. c0 + n) of the linear as f32, masked. c0 is a multiple of 8. */
void espl_linear_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *dst);

#endif
