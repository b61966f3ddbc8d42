/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a one-shot method costs, from the model's configuration alone: for --dry-run. All functions are Local.
 */
#ifndef ESPALIER_METHODS_COST_H
#define ESPALIER_METHODS_COST_H

#include "espalier/loop/slices.h"
#include "espalier/methods/options.h"
#include "espalier/model/config.h"

/* Peak bytes that rank `rank` of `ranks` in `replicas` replicas, which holds `slice`, allocates during espl_method_run
 * with the current number of threads, beyond the model, its masks and updated weights. Updated weights of a block count
 * as f32. Buffers of the communicator and of the fitness are not counted. */
int64_t espl_method_bytes(const espl_model_config *c, const espl_method_options *o, espl_range slice, int rank,
                          int ranks, int replicas);

/* FLOPs of espl_method_run on all ranks together, 2 per multiply-add. Matrix products, attention and factorizations
 * are counted; element-wise work and selection are not. With T = samples * window tokens, L layers, F_i the forward
 * pass of layer i per token, S_i the same up to the input of down_proj, G_i = S_i + twice its linears + 2.5 times its
 * attention (recomputation and backward), H the head:
 *
 *   pruning pass    T (sum of S_i if the method has statistics of the inputs + F_0 + ... + F_(L-2))
 *   SparseGPT       + T L sum over the four inputs of in (in + 1), + L sum over them of 2/3 in^3,
 *                   + L sum over the linears of espl_prune_sparsegpt_flops
 *   RGS             + T sum of (F_i + G_i)
 *   GBLM            + T (sum of (F_i + G_i) + 3 H)
 *   curvature       instead of the pruning pass, with SparseGPT besides it: T' sum of F_i of the T' tokens without
 *                   gradients, and (sum of (F_i + G_i) + 3 H) per token of the gradient samples
 *   survey          OWL, LSA, search: one more pass; LSA: + the Gram matrices as above and L sum over the linears of
 *                   espl_prune_lsa_flops
 *   search          + generations * tokens of their evaluations * (sum of F_i + H) */
double espl_method_flops(const espl_model_config *c, const espl_method_options *o);

#endif
