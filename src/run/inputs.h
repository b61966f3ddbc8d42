/* SPDX-License-Identifier: Apache-2.0 */
/* What a job reads before it computes anything. */
#ifndef ESPL_RUN_INPUTS_H
#define ESPL_RUN_INPUTS_H

#include "state.h"

/* Collective. Reads config.json, the tokenizer, all texts and all questions into the job. */
espl_status espl_inputs_read(espl_job *j);
/* Local. Frees j->inputs, the tokenizer and the model's configuration. */
void espl_inputs_free(espl_job *j);

/* Local. Options of a model, on that many ranks, that can do all that the job asks of it: the longest window, and the
 * prompts of every question. */
espl_model_options espl_inputs_model_options(const espl_job *j);

#endif
