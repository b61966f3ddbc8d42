/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: running micro-batches with a progress line. */
#ifndef ESPL_EVAL_RUN_BATCHES_H
#define ESPL_EVAL_RUN_BATCHES_H

#include "espalier/model/forward.h"
#include "espalier/model/model.h"

/* Collective. Runs this replica's micro-batches through the model; all replicas together have `tokens` tokens. `what`
 * labels the progress line. Every rank returns the same status. */
espl_status espl_eval_run_batches(espl_comm *c, espl_model *m, const espl_batch *batches, int64_t n, int64_t tokens,
                                  const char *what);
/* Collective. The last stage of each replica has elements begin[replica] .. begin[replica + 1] - 1, of `size` bytes, of
 * an array; afterwards every rank has all. begin [replicas + 1]; NULL: parts of n elements (espl_part_begin). */
void espl_eval_share_results(espl_comm *c, void *array, const int64_t *begin, int64_t n, size_t size);

#endif
