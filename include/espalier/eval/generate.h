/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/generate: continues one prompt token by token. decode.h continues many prompts at once.
 */
#ifndef ESPALIER_EVAL_GENERATE_H
#define ESPALIER_EVAL_GENERATE_H

#include "espalier/eval/corpus.h"
#include "espalier/model/model.h"
#include "espalier/model/sampling.h"

/* Called on rank 0 after each token with all ids generated so far. Returning false ends the generation on every
 * rank. */
typedef bool (*espl_on_token)(void *context, const int32_t *ids, int64_t n);

/* Collective. Continues `prompt` (n >= 1) by up to max_tokens tokens, greedy or sampled, with a KV cache. Ends early at
 * an end-of-sequence token of the model, which is not part of the output. on_token may be NULL. out [max_tokens] and
 * *n_out are the same on every rank. The model must have been opened with logits_rows >= 1 and context >= prompt->n +
 * max_tokens. ESPL_NOMEM, or a status of espl_model_run. */
espl_status espl_eval_generate(espl_comm *c, espl_model *m, const espl_corpus *prompt, int64_t max_tokens,
                               const espl_sampling *s, uint64_t seed, espl_on_token on_token, void *context,
                               int32_t *out, int64_t *n_out);

#endif
