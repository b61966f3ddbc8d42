/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New weights for a whole model whose masks are given, block by block.
 *
 * Each linear learns from the inputs that it has behind the blocks that were updated before it (prune/update.h), from
 * the calibration windows alone. How strongly is chosen by linear: a quarter of the windows is held out, and of five
 * dampings the one with the lowest error there counts, then all windows are used with it. If no damping lowers that
 * error, the linear keeps the weights that it had: with few tokens for many inputs, errors of the blocks before are
 * learned by heart, and the model gets worse with every block.
 */
#ifndef ESPALIER_METHODS_UPDATE_H
#define ESPALIER_METHODS_UPDATE_H

#include "espalier/loop/slices.h"
#include "espalier/methods/options.h"
#include "espalier/model/masks.h"

/* The dampings that obs and reconstruct try, in units of prune.damping times the mean of the Gram matrix's diagonal. */
enum { ESPL_UPDATE_DAMPINGS = 5 };
extern const double espl_update_dampings[ESPL_UPDATE_DAMPINGS]; /* 100 .. 0.01 */

typedef struct espl_update_result {
    int64_t linears, kept;                /* with pruned weights; of these, those that kept their weights */
    int64_t chosen[ESPL_UPDATE_DAMPINGS]; /* how many of the others chose each damping */
    bool taken_back;                      /* for the caller, who may judge the model; false */
} espl_update_result;

/* Collective. Updates all linears of the model that have pruned weights, from ids [samples, window], which are spread
 * over the ranks as in espl_method_run. o->update:
 *
 *   sparsegpt    SparseGPT's solver for the given masks, from the source's weights, with o->damping and all windows
 *   obs          the same from weights that are shifted towards the dense outputs (o->shift)
 *   reconstruct  least squares to the dense outputs, close to the weights as they are now
 *
 * Masks do not change; a weight that is 0 in the source stays 0. masks->updated must be set (espl_masks_keep_updates):
 * its weights are those that a linear keeps. Where the mask prunes, the updated weights are the source's. The same bits
 * for any number of ranks and threads. Extra memory: espl_method_update_bytes. ESPL_FAILED: a
 * Hessian that cannot be factored; ESPL_USAGE: invalid ids; ESPL_NOMEM. After a failure some blocks are updated. */
espl_status espl_method_update(espl_comm *comm, const espl_method_options *o, const int32_t *ids, espl_masks *masks,
                               espl_update_result *out);

/* Local. Bytes that rank `rank` of `ranks` allocates for it, beyond the model, its masks and updated weights. */
int64_t espl_method_update_bytes(const espl_model_config *c, const espl_method_options *o, int rank, int ranks);
/* Local. FLOPs of it on all ranks together, as espl_method_flops counts, with all five dampings. In its terms:
 *
 *   the pass      T (sum of S_i + F_0 + ... + F_(L-2)) + T L sum over the inputs of in (in + 1); with shift + T sum of
 *                 F_i + T L sum over the inputs of 2 in^2. (o_proj is computed once less than that.)
 *   solving       six times L (sum over the inputs of 2/3 in^3, not for reconstruct, + sum over the linears of
 *                 espl_update_shift_flops and espl_prune_sparsegpt_flops, or of espl_update_reconstruct_flops)
 *   the choice    six times L sum over the linears of espl_update_error_flops
 *
 * sparsegpt solves once and chooses nothing. */
double espl_method_update_flops(const espl_model_config *c, const espl_method_options *o);

#endif
