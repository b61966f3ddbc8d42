/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a one-shot method costs, from the model's configuration alone: for --dry-run. All functions are Local.
 */
#ifndef ESPALIER_METHODS_COST_H
#define ESPALIER_METHODS_COST_H

#include "espalier/methods/options.h"
#include "espalier/model/config.h"

/* Peak bytes that rank `rank` of `ranks` allocates during espl_method_run with the current number of threads, beyond
 * the model, masks and updates. */
int64_t espl_method_bytes(const espl_model_config *c, const espl_method_options *o, int rank, int ranks);

/* FLOPs of espl_method_run on all ranks together, 2 per multiply-add. Matrix products, attention and factorizations
 * are counted, element-wise work is not. */
double espl_method_flops(const espl_model_config *c, const espl_method_options *o);

#endif
