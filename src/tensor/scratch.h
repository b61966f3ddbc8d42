/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the tensor room: the scratch memory of one thread, and the tile sizes that it is made for. */
#ifndef ESPL_TENSOR_SCRATCH_H
#define ESPL_TENSOR_SCRATCH_H

#include "espalier/tensor/workspace.h"

/* Largest tile of a linear: tokens x outputs, and inputs per widened panel. Measured on 2 cores (docs/performance.md):
 * 512 x 512 x 512 keeps sgemm within a few percent of its rate on whole matrices, while the panel (1 MiB of f32) is
 * still in L2 or L3 when sgemm packs it. */
enum { TILE_T = 512, TILE_OUT = 512, TILE_IN = 512 };
enum { PANEL_FLOATS = TILE_OUT * TILE_IN, TILE_FLOATS = TILE_T * TILE_OUT };

/* 64-byte aligned, contents undefined. Each kernel says what it keeps where. */
typedef struct scratch {
    float *panel; /* [PANEL_FLOATS], for instance widened weights */
    float *tile;  /* [TILE_FLOATS], for instance a tile of a result */
} scratch;

/* The calling OpenMP thread's scratch. */
scratch espl_workspace_mine(espl_workspace *ws);

#endif
