/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: prompts as segments of full micro-batches. */
#ifndef ESPL_EVAL_PACKING_H
#define ESPL_EVAL_PACKING_H

#include "espalier/eval/prompts.h"
#include "espalier/model/forward.h"

typedef struct espl_packing {
    espl_segment *segments; /* [n] in the order of the micro-batches, owned */
    int64_t *owner;         /* [n] prompt of each segment, -1: the prefix of a family; owned */
    espl_batch *batches;    /* [n_batches], owned; they point into segments */
    int64_t n, cap, n_batches, cap_batches;
} espl_packing;

/* Local. Plans the micro-batches for a model opened with *o. The caller sets what the segments compute, then runs the
 * micro-batches. ESPL_CONFIG: a prompt does not fit the context, or the model has a single slot. On failure *out is
 * empty. Free with espl_packing_free. */
espl_status espl_packing_create(const espl_prompts *p, const espl_model_options *o, espl_packing *out);
/* Local. */
void espl_packing_free(espl_packing *k);
/* Local. True for the last segment of a prompt, the one after which the answer is read. */
bool espl_packing_ends_prompt(const espl_packing *k, const espl_prompts *p, int64_t segment);

#endif
