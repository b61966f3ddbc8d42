#include "espalier/loop/slices.h"

#include <math.h>

/* best[r * (n + 1) + i]: smallest possible largest slice when layers i .. n - 1 go to ranks r .. ranks - 1. */
static void fill_best(const double *cost, int64_t n, double tail_cost, int ranks, double *best) {
    for (int r = ranks - 1; r >= 0; r--)
        for (int64_t i = n; i >= 0; i--) {
            double slice = r == ranks - 1 ? tail_cost : 0, least = INFINITY;
            for (int64_t j = i + 1; j <= n; j++) { /* rank r takes i .. j - 1 */
                slice += cost[j - 1];
                double rest = r == ranks - 1 ? (j == n ? 0 : INFINITY) : best[(r + 1) * (n + 1) + j];
                least = fmin(least, fmax(slice, rest));
            }
            best[r * (n + 1) + i] = least;
        }
}

/* Walks the table: each rank takes the fewest layers that still reach the optimum. */
static void read_slices(const double *cost, int64_t n, int ranks, const double *best, espl_range *slices) {
    int64_t i = 0;
    double optimum = best[0];
    for (int r = 0; r < ranks - 1; r++) {
        double slice = 0;
        int64_t j = i;
        do slice += cost[j++];
        while (j < n && (slice > optimum || best[(r + 1) * (n + 1) + j] > optimum));
        slices[r] = (espl_range){i, j};
        i = j;
    }
    slices[ranks - 1] = (espl_range){i, n};
}

espl_status espl_slices_cut(const double *cost, int64_t n, double tail_cost, int ranks, espl_range *slices) {
    if (ranks < 1 || ranks > n)
        return ESPL_FAIL(ESPL_CONFIG, "%d ranks for %lld layers: every rank needs at least one layer, use at most %lld",
                         ranks, (long long)n, (long long)n);
    double *best;
    ESPL_TRY(espl_mem_alloc(&best, (int64_t)ranks * (n + 1), sizeof *best, "partition table"));
    fill_best(cost, n, tail_cost, ranks, best);
    read_slices(cost, n, ranks, best, slices);
    espl_mem_free(&best);
    return ESPL_OK;
}
