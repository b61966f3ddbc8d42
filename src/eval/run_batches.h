/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: running micro-batches with a progress line. */
#ifndef ESPL_EVAL_RUN_BATCHES_H
#define ESPL_EVAL_RUN_BATCHES_H

#include "espalier/model/forward.h"
#include "espalier/model/model.h"

/* Collective. Runs all micro-batches through the model. `what` labels the progress line. Every rank returns the same
 * status. */
espl_status espl_eval_run_batches(espl_comm *c, espl_model *m, const espl_batch *batches, int64_t n, const char *what);

#endif
