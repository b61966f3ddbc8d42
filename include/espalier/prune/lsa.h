/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LSA's error of one linear (BeiYazi0/LSA). All functions are Local.
 */
#ifndef ESPALIER_PRUNE_LSA_H
#define ESPALIER_PRUNE_LSA_H

#include "espalier/tensor/linear.h"

/* Error of a dense linear after a greedy pruning of half of every 128 inputs, row by row: the weight whose loss adds
 * least to the output's error goes first. hessian [in, in]: f32, symmetric, full, (2 / samples) * sum of x x^T. The
 * same bits for any number of threads. ESPL_NOMEM. */
espl_status espl_prune_lsa_error(const espl_linear *l, const float *hessian, double *error, espl_workspace *ws);
/* Bytes that it allocates for a linear [out, in]. */
int64_t espl_prune_lsa_bytes(int64_t out, int64_t in);
/* Its FLOPs: n / 2 steps of 2 FLOPs for each of the n weights of a group, and a product per group for the columns to
 * its right. */
double espl_prune_lsa_flops(int64_t out, int64_t in);

#endif
