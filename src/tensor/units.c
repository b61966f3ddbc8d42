/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long units of work keep threads busy, counted in multiplications. Threads take units in order, as OpenMP's
 * dynamic schedule hands them out.
 */
#include "linear_tile.h"

enum { UNITS_THREADS = 4096 };

/* The thread that will be free first takes the next unit, of `cost`. */
static void units_take(double *busy, int64_t threads, double cost) {
    int64_t first = 0;
    for (int64_t t = 1; t < threads; t++) first = busy[t] < busy[first] ? t : first;
    busy[first] += cost;
}

/* The units of a list, or those of them whose tiles lie in the blocks of their linears. */
static double units_elapsed(const tile_list *list, const espl_weight_block *blocks, int64_t inner, int64_t threads) {
    double busy[UNITS_THREADS] = {0}, last = 0;
    if (threads > UNITS_THREADS) threads = UNITS_THREADS;
    for (int64_t unit = 0; unit < list->count; unit++) {
        int64_t index = unit;
        int i = tile_list_find(list, &index);
        tile at = tile_at(&list->grids[i], index);
        const espl_weight_block *b = blocks ? &blocks[i] : NULL;
        bool mine = !b || (at.r0 >= b->r0 && at.r0 < b->r0 + b->rows && at.c0 >= b->c0 && at.c0 < b->c0 + b->columns);
        if (mine) units_take(busy, threads, (double)(at.rn * at.cn * inner));
    }
    for (int64_t t = 0; t < threads; t++) last = busy[t] > last ? busy[t] : last;
    return last;
}

double espl_linear_elapsed(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads) {
    tile_list list = espl_linear_units(linears, n, rows, T, threads);
    return units_elapsed(&list, NULL, linears[0].in, threads);
}

double espl_linear_backward_elapsed(const espl_linear *linears, int n, int64_t rows, int64_t T, int64_t threads) {
    tile_list list = espl_linear_backward_units(linears, n, rows, T, threads);
    int64_t outputs = 0;
    for (int i = 0; i < n; i++) outputs += linears[i].out;
    return units_elapsed(&list, NULL, outputs, threads);
}

double espl_gradient_elapsed(const espl_linear *linears, int n, const espl_weight_block *blocks, int64_t T,
                             int64_t threads) {
    tile_list list = espl_gradient_units(linears, n);
    return units_elapsed(&list, blocks, T, threads);
}
