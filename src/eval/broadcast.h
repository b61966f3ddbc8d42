/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: question sets are read on rank 0 and then sent to all ranks. */
#ifndef ESPL_EVAL_BROADCAST_H
#define ESPL_EVAL_BROADCAST_H

#include "espalier/eval/prompts.h"

/* Collective. Sends the array *inout (T **) of rank 0, n elements of `size` bytes, to all ranks; the other ranks
 * allocate theirs. n must already be the same on every rank. Every rank returns the same status: ESPL_NOMEM names
 * `what`. */
espl_status espl_eval_broadcast_array(espl_comm *c, void *inout, int64_t n, size_t size, const char *what);

/* Collective. Sends the prompts of rank 0 to all ranks. */
espl_status espl_prompts_broadcast(espl_comm *c, espl_prompts *p);

#endif
