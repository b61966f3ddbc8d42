/* SPDX-License-Identifier: Apache-2.0 */
/* What a rank of a job takes of memory, by the rooms that allocate it. Local. */
#ifndef ESPL_RUN_PLAN_MEMORY_H
#define ESPL_RUN_PLAN_MEMORY_H

#include "plan.h"

/* How a slice of the model is held. */
typedef struct espl_plan_place {
    espl_range slice;
    int64_t replicas, stage, stages;
    int threads;
    int64_t bytes_per_weight;
} espl_plan_place;

/* Bytes. Weights are mapped: ranks of a node that hold the same slice share them. */
typedef struct espl_plan_memory {
    int64_t weights, masks, activations, pruning, kv_cache, other;
} espl_plan_memory;

espl_plan_memory espl_plan_memory_of(const espl_plan_work *w, const espl_model_options *o, espl_plan_place at);
/* All but the mapped weights. */
int64_t espl_plan_memory_private(const espl_plan_memory *m);

#endif
