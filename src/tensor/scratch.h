/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: the scratch memory of one thread, and the tile sizes that it is made for. */
#ifndef ESPL_TENSOR_SCRATCH_H
#define ESPL_TENSOR_SCRATCH_H

#include "bf16.h"
#include "espalier/tensor/workspace.h"

/* Largest tile of a linear: tokens x outputs, and inputs per widened panel. Measured on 2 cores (docs/performance.md):
 * 512 x 512 x 512 keeps sgemm within a few percent of its rate on whole matrices, while the panel (1 MiB of f32) is
 * still in L2 or L3 when sgemm packs it. */
enum { TILE_T = 512, TILE_OUT = 512, TILE_IN = 512 };
enum { PANEL_FLOATS = TILE_OUT * TILE_IN, TILE_FLOATS = TILE_T * TILE_OUT };
/* The rows of a product that fill no whole step of bf16, times the columns of a tile; or one row of a panel. */
enum { TAIL_FLOATS = BF16_STEP * TILE_OUT };

/* 64-byte aligned, contents undefined. Each kernel says what it keeps where. */
typedef struct scratch {
    float *panel;      /* [PANEL_FLOATS], for instance widened weights */
    float *tile;       /* [TILE_FLOATS], for instance a tile of a result */
    float *tail;       /* [TAIL_FLOATS], of pack.h */
    bf16_engine *bf16; /* NULL: the arithmetic is f32 */
} scratch;

/* The calling OpenMP thread's scratch. */
scratch espl_workspace_mine(espl_workspace *ws);

/* In bf16 the panel holds both operands of a product: the left one in its first half, the right one in its second. */
static inline uint16_t *scratch_left(const scratch *s) { return (uint16_t *)s->panel; }
static inline uint16_t *scratch_right(const scratch *s) { return (uint16_t *)s->panel + PANEL_FLOATS; }

#endif
