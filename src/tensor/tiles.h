/* Private to the tensor room: how the backward kernels cut their work. By shape alone. */
#ifndef ESPL_TENSOR_TILES_H
#define ESPL_TENSOR_TILES_H

#include <stdint.h>

static inline int64_t tile_min(int64_t a, int64_t b) { return a < b ? a : b; }

static inline int64_t tile_ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Equal tiles of at most `most` (a multiple of 16), each a multiple of 16 but the last. */
static inline int64_t tile_even(int64_t n, int64_t most) {
    int64_t tile = tile_ceil(n, tile_ceil(n, most));
    return tile_ceil(tile, 16) * 16;
}

/* Tiles of at most `most` each way over a matrix [rows, columns], smaller ones (down to `least`) if there would be
 * fewer than `enough`. */
typedef struct tile_grid {
    int64_t rn, cn;         /* tile size */
    int64_t r_tiles, count; /* down; all */
} tile_grid;

static inline tile_grid tile_cut(int64_t rows, int64_t columns, int64_t most, int64_t least, int64_t enough) {
    tile_grid g = {.rn = tile_even(rows, most), .cn = tile_even(columns, most)};
    while (tile_ceil(rows, g.rn) * tile_ceil(columns, g.cn) < enough && (g.rn > least || g.cn > least)) {
        if (g.cn >= g.rn)
            g.cn = tile_ceil(g.cn / 2, 16) * 16;
        else
            g.rn = tile_ceil(g.rn / 2, 16) * 16;
    }
    g.r_tiles = tile_ceil(rows, g.rn);
    g.count = g.r_tiles * tile_ceil(columns, g.cn);
    return g;
}

#endif
