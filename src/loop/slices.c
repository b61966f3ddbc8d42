/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linear partition problem, by dynamic programming: O(ranks * layers^2), which takes milliseconds for any model.
 */
#include "espalier/loop/slices.h"

#include <inttypes.h>
#include <math.h>

/* Fills best[r * (n + 1) + i]: the minimal largest cost when layers i .. n - 1 go to ranks r .. ranks - 1. INFINITY if
 * some rank would get no layer. */
static void slices_fill_table(const double *cost, int64_t n, double tail_cost, int ranks, double *best) {
    for (int r = ranks - 1; r >= 0; r--)
        for (int64_t i = n; i >= 0; i--) {
            double slice = r == ranks - 1 ? tail_cost : 0, smallest = INFINITY;
            for (int64_t j = i + 1; j <= n; j++) { /* rank r takes i .. j - 1 */
                slice += cost[j - 1];
                double rest = r == ranks - 1 ? (j == n ? 0 : INFINITY) : best[(r + 1) * (n + 1) + j];
                smallest = fmin(smallest, fmax(slice, rest));
            }
            best[r * (n + 1) + i] = smallest;
        }
}

espl_status espl_slices_cut(const double *cost, int64_t n, double tail_cost, int ranks, espl_range *slices) {
    if (ranks < 1 || ranks > n)
        return ESPL_FAIL(ESPL_CONFIG,
                         "%d ranks for %" PRId64 " layers: every rank needs at least one layer, use at most %" PRId64,
                         ranks, n, n);
    double *best;
    ESPL_TRY(espl_mem_alloc(&best, (int64_t)ranks * (n + 1), sizeof *best, "partition table"));
    slices_fill_table(cost, n, tail_cost, ranks, best);
    int64_t i = 0;
    double optimum = best[0];
    for (int r = 0; r < ranks - 1;
         r++) { /* each rank takes the fewest layers with which the optimum is still reached */
        double slice = 0;
        int64_t j = i;
        do slice += cost[j++];
        while (j < n && (slice > optimum || best[(r + 1) * (n + 1) + j] > optimum));
        slices[r] = (espl_range){i, j};
        i = j;
    }
    slices[ranks - 1] = (espl_range){i, n};
    espl_mem_free(&best);
    return ESPL_OK;
}

/* ------------------------------------------------------------------- grid */

espl_status espl_grid_choose(const espl_grid_request *r, int *replicas, int *stages) {
    int max = (int)espl_min_i64(r->ranks, r->layers), best = -1;
    if (r->replicas > r->ranks)
        return ESPL_FAIL(ESPL_CONFIG, "%" PRId64 " replicas of the model, but %d rank%s", r->replicas, r->ranks,
                         r->ranks == 1 ? "" : "s");
    if (r->replicas > 0) {
        *replicas = (int)r->replicas;
        *stages = (int)espl_min_i64(r->ranks / r->replicas, r->layers);
        return ESPL_OK;
    }
    for (int s = (int)espl_min_i64(r->min_stages, max); s <= max; s++) {
        int used = r->ranks / s * s;
        if (used <= best) continue;
        best = used;
        *stages = s;
    }
    *replicas = r->ranks / *stages;
    return ESPL_OK;
}
