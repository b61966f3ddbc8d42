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

/* Cuts n layers of the given costs (any unit, > 0) into `ranks` consecutive, non-empty slices whose largest cost is
 * smallest; the last slice also carries tail_cost (the head). Among equally good cuts the earliest boundaries win, so
 * the answer is the same everywhere. slices [ranks]. ESPL_CONFIG if there are more ranks than layers. */
espl_status espl_slices_cut(const double *cost, int64_t n, double tail_cost, int ranks, espl_range *slices);

#endif
