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
/* One replica's part of a packing. */
typedef struct espl_packing_part {
    espl_batch *batches; /* [n], owned; they point into the packing's segments */
    int64_t n, tokens;   /* tokens: of the whole packing */
    int64_t *prompts;    /* [replicas + 1]: replica r ends prompts prompts[r] .. prompts[r + 1] - 1; owned */
} espl_packing_part;

/* Local. Shares the micro-batches among replicas, so that each gives the bits that it gives when all are run in order:
 * before its own, a replica runs earlier ones that hold a prefix of its prompts. Their other results are not valid.
 * ESPL_NOMEM. On failure *out is empty. Free with espl_packing_part_free, before the packing. */
espl_status espl_packing_share(const espl_packing *k, const espl_prompts *p, int replicas, int replica,
                               espl_packing_part *out);
void espl_packing_part_free(espl_packing_part *part);
/* Local. True for the last segment of a prompt, the one after which the answer is read. */
bool espl_packing_ends_prompt(const espl_packing *k, const espl_prompts *p, int64_t segment);

#endif
