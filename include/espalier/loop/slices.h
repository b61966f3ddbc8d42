/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of decoder layers, and the cut of a model into one range per rank. All functions are Local.
 */
#ifndef ESPALIER_LOOP_SLICES_H
#define ESPALIER_LOOP_SLICES_H

#include "espalier/base.h"

/* Decoder layers, or linears (espl_linear_index), first .. last - 1. */
typedef struct espl_range {
    int64_t first, last;
} espl_range;

static inline int64_t espl_range_count(espl_range r) { return r.last - r.first; }

/* Cuts n layers of the given costs (any unit, > 0) into `ranks` consecutive, non-empty slices such that the largest
 * cost of a slice is minimal. The last slice also carries tail_cost (the head). Of several optimal cuts, the one with
 * the earliest boundaries is taken, so that all ranks find the same. slices [ranks]. ESPL_CONFIG if ranks > n. */
espl_status espl_slices_cut(const double *cost, int64_t n, double tail_cost, int ranks, espl_range *slices);

/* How many replicas of a pipeline of stages `ranks` ranks make, for a model of `layers` layers. */
typedef struct espl_grid_request {
    int ranks;
    int64_t layers;
    int64_t replicas; /* 0: chosen */
    int min_stages;   /* so that a stage fits its memory; >= 1 */
} espl_grid_request;

/* Chooses replicas and stages, of which the product is at most the number of ranks: the grid that leaves the fewest
 * ranks over, then that of the most replicas, which wait for each other less than stages do.
 * ESPL_CONFIG: more replicas than ranks. */
espl_status espl_grid_choose(const espl_grid_request *r, int *replicas, int *stages);

#endif
