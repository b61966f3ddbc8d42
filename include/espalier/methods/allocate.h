/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations: how many weights each linear loses, from measurements of the dense model. docs/methods.md has the
 * formulas and their sources.
 */
#ifndef ESPALIER_METHODS_ALLOCATE_H
#define ESPALIER_METHODS_ALLOCATE_H

#include "espalier/comm.h"
#include "espalier/methods/options.h"
#include "espalier/prune/linear.h"

/* Local. From the desired sparsities [n] of linears with weights [n] to counts [n] with sum(counts) = total exactly and
 * counts[i] <= max[i]: all sparsities are shifted by one number, clipped to what may be lost, and the remainders go to
 * the largest fractions first (the lower index among equals). ESPL_CONFIG: total is more than sum(max), or below 0. */
espl_status espl_allocate_exact(const double *sparsity, const int64_t *weights, const int64_t *max, int64_t n,
                                int64_t total, int64_t *counts);

/* Local. OWL (2310.05175): s_b = target + mean(d) - d_b, d = (D - min D) / (max D - min D) * 2 lambda, where D
 * [blocks] is the fraction of outliers. Uniform if all D are equal. */
void espl_allocate_owl(const double *outliers, int64_t blocks, double target, double lambda, double *sparsity);

/* Local. LSA: d = the importance 1 - E / sum E, min-max scaled to 2 beta; s = target + (mean(d) - d) * mean(weights) /
 * weights. errors [n]; weights [n], or NULL if all are equal (blocks). */
void espl_allocate_lsa(const double *errors, const int64_t *weights, int64_t n, double target, double beta,
                       double *sparsity);
/* Local. The published beta for a target. */
double espl_lsa_beta(double target);

/* A linear of this rank, its survivors so far, and what its weights are ordered by. Borrowed. */
typedef struct espl_scored_linear {
    const espl_linear *l;
    const uint64_t *mask; /* [out, words] */
    espl_scoring by;
} espl_scored_linear;

/* Collective. Selects the `wanted` lowest scores among the surviving weights of all linears of the model, at most
 * max[i] of linear i: counts[i] of them lie in linear i, the lowest of that linear, and sum(counts) = wanted exactly.
 * Where a linear is at its maximum, the others lose more. Among equal scores the lower linear goes first;
 * espl_prune_linear with the layer as group then takes the lower row and column. own [n]: linears first .. first + n -
 * 1, which are this rank's; the ranks' ranges follow each other. max and counts [linears of the model], on every rank.
 * Only counts of keys travel, and they are integers: the same result for any number of ranks and threads. Allocates
 * espl_allocate_global_bytes. ESPL_CONFIG: wanted is more than sum(max). max[i] must not exceed the survivors. */
espl_status espl_allocate_global(espl_comm *comm, const espl_scored_linear *own, int64_t first, int64_t n,
                                 const int64_t *max, int64_t linears, int64_t wanted, int64_t *counts,
                                 espl_workspace *ws);
/* Local. For n linears of this rank. The communicator's buffers are not counted. */
int64_t espl_allocate_global_bytes(int64_t n, int64_t linears);

/* Fitness, lower is better, of the allocation counts [n] on the data of a stage. Collective: the same on every rank. */
typedef espl_status (*espl_search_fitness)(void *context, const int64_t *counts, int64_t stage, double *fitness);

/* Local (Collective if the fitness is). Evolution of counts [n] (start and result) by level switches, until at least
 * `evaluations` calls of the fitness. sum(counts) is invariant. An offspring makes min(U{1..3}, U{1..3}) switches: one
 * linear loses a level, another gains it, within 0 .. max [n]. The parent competes in the last stage. *best: the
 * fitness of the result there. ESPL_CONFIG: invalid options. */
espl_status espl_allocate_search(const espl_search_options *o, int64_t evaluations, const int64_t *weights,
                                 const int64_t *max, int64_t n, espl_search_fitness fitness, void *context,
                                 int64_t *counts, double *best);
/* Local. Bytes that it allocates for n linears. */
int64_t espl_search_bytes(const espl_search_options *o, int64_t n);

#endif
