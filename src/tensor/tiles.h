/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the tensor room: how kernels cut a matrix into tiles.
 *
 * Only the shape decides, never the number of threads or ranks. A tile is computed by one thread in a fixed order, so
 * the result has the same bits whoever computes it.
 */
#ifndef ESPL_TENSOR_TILES_H
#define ESPL_TENSOR_TILES_H

#include <stdbool.h>

#include "espalier/base/integer.h"

static inline int64_t tile_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

enum { TILE_STEP = 16 }; /* tile sizes are multiples of it: the width of sgemm's micro-kernels */

/* The size of equal tiles of at most `max` (a multiple of TILE_STEP) over n rows or columns. */
static inline int64_t tile_even(int64_t n, int64_t max) {
    return tile_ceil(tile_ceil(n, tile_ceil(n, max)), TILE_STEP) * TILE_STEP;
}

/* A matrix [rows, columns] in tiles [rn, cn]; tiles are counted down the rows first. */
typedef struct tile_grid {
    int64_t rows, columns, rn, cn;
    int64_t r_tiles, count; /* tiles down, and in all */
} tile_grid;

static inline tile_grid tile_grid_of(int64_t rows, int64_t columns, int64_t rn, int64_t cn) {
    int64_t r_tiles = tile_ceil(rows, rn);
    return (tile_grid){rows, columns, rn, cn, r_tiles, r_tiles * tile_ceil(columns, cn)};
}

/* The same tiles of the first `rows` rows alone. */
static inline tile_grid tile_first_rows(tile_grid g, int64_t rows) { return tile_grid_of(rows, g.columns, g.rn, g.cn); }

/* Tiles of at most `max` each way; smaller ones, down to `min`, while there are fewer than `enough` for the threads. */
static inline tile_grid tile_cut(int64_t rows, int64_t columns, int64_t max, int64_t min, int64_t enough) {
    int64_t rn = tile_even(rows, max), cn = tile_even(columns, max);
    while (tile_ceil(rows, rn) * tile_ceil(columns, cn) < enough && (rn > min || cn > min)) {
        if (cn >= rn)
            cn = tile_ceil(cn / 2, TILE_STEP) * TILE_STEP;
        else
            rn = tile_ceil(rn / 2, TILE_STEP) * TILE_STEP;
    }
    return tile_grid_of(rows, columns, rn, cn);
}

/* A tile of a linear decides bits, so its size follows from the shape alone; how many of them a thread takes together
 * does not, and follows the number of threads. Tiles have at most LINEAR_ROWS tokens and LINEAR_COLUMNS features: sgemm
 * and oneDNN then keep within 2 % of their rate on 512 x 512 (measured). The matrices of wide models, whose layers are
 * worth a whole node or two, are cut until there are NODE_TILES, but no further than 256 x 128, which costs 5 %; then
 * until there are twice as many, but no further than 256 x 256, which costs nothing (measured). */
enum { LINEAR_ROWS = 256, LINEAR_COLUMNS = 512, WIDE = 4096, NODE_TILES = 64, FEW_TILES = 4 };

static inline bool tile_is_wide(int64_t rows, int64_t columns) { return rows >= WIDE || columns >= WIDE; }

/* Should tiles of `size` elements, of which there are `count`, be cut once more? */
static inline bool tile_is_too_large(bool wide, int64_t count, int64_t size) {
    if (!wide) return count < FEW_TILES && size > 128 * 128;
    return (count < NODE_TILES && size > 256 * 128) || (count < 2 * NODE_TILES && size > 256 * 256);
}

/* The tiles of [rows, columns]: `inner` is the dimension that products sum over. Rows are halved only where the halves
 * are whole steps: so the tiles of all matrices with as many rows lie within the same blocks of rows
 * (espl_tensor_block). */
static inline tile_grid tile_cut_linear(int64_t rows, int64_t columns, int64_t inner) {
    bool wide = tile_is_wide(inner, columns);
    int64_t rn = tile_even(rows, LINEAR_ROWS), cn = tile_even(columns, LINEAR_COLUMNS);
    while (tile_is_too_large(wide, tile_ceil(rows, rn) * tile_ceil(columns, cn), rn * cn)) {
        if (cn >= rn || rn % (2 * TILE_STEP) != 0)
            cn = tile_ceil(cn / 2, TILE_STEP) * TILE_STEP;
        else
            rn /= 2;
    }
    return tile_grid_of(rows, columns, rn, cn);
}

/* Rows r0 .. r0 + rn - 1 of columns c0 .. c0 + cn - 1. */
typedef struct tile {
    int64_t r0, c0, rn, cn;
} tile;

static inline tile tile_at(const tile_grid *g, int64_t index) {
    int64_t r0 = index % g->r_tiles * g->rn, c0 = index / g->r_tiles * g->cn;
    return (tile){r0, c0, espl_min_i64(g->rn, g->rows - r0), espl_min_i64(g->cn, g->columns - c0)};
}

/* The tiles of several matrices as one list, so that small matrices share a parallel loop. */
enum { TILE_LIST_MAX = 8 };
typedef struct tile_list {
    tile_grid grids[TILE_LIST_MAX];
    int64_t steps[TILE_LIST_MAX]; /* rows of a tile, if the list is one of units */
    int64_t count;
} tile_list;

/* Makes a list of n grids of tiles one of units, the work that a thread takes at a time: two tiles, one below the
 * other, that share a packed panel of weights, or single ones where the threads would have too few. */
static inline void tile_list_group(tile_list *l, int n, int64_t threads) {
    enum { TOGETHER = 2, UNITS_PER_THREAD = 4 };
    int64_t units = 0, group = 1;
    for (int i = 0; i < n; i++)
        units += tile_ceil(l->grids[i].r_tiles, TOGETHER) * tile_ceil(l->grids[i].columns, l->grids[i].cn);
    if (units >= UNITS_PER_THREAD * threads) group = TOGETHER;
    l->count = 0;
    for (int i = 0; i < n; i++) {
        tile_grid *g = &l->grids[i];
        l->steps[i] = g->rn;
        *g = tile_grid_of(g->rows, g->columns, g->rn * group, g->cn);
        l->count += g->count;
    }
}

/* The matrix of tile *index of the list; *index becomes the tile's number in that matrix. */
static inline int tile_list_find(const tile_list *l, int64_t *index) {
    int i = 0;
    while (*index >= l->grids[i].count) *index -= l->grids[i++].count;
    return i;
}

#endif
