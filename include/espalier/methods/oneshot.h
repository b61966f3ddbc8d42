/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning a whole model in one step, block by block.
 */
#ifndef ESPALIER_METHODS_ONESHOT_H
#define ESPALIER_METHODS_ONESHOT_H

#include "espalier/methods/options.h"
#include "espalier/model/masks.h"
#include "espalier/model/model.h"

/* Collective. Prunes the dense model in one step, block by block as published: the statistics of a block come from
 * inputs that went through the pruned blocks before it. The samples ids [samples, window], the same on every rank, are
 * distributed over the ranks; sums over them are formed in groups of fixed size and added in order, so the result is
 * the same for any number of ranks and threads. Writes the masks and, with an updating method, the updated weights of
 * `masks`, and applies them to its model. counts [linears of the model] or NULL: weights that each linear lost. Extra
 * memory: espl_method_bytes. ESPL_CONFIG: incompatible options; ESPL_USAGE: invalid ids, or no room for updated
 * weights; ESPL_FAILED naming the linear: a Hessian that cannot be factored. */
espl_status espl_method_run(espl_comm *comm, const espl_method_options *o, const int32_t *ids, espl_masks *masks,
                            int64_t *counts);

#endif
