/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: collects full prompts and factors out their common prefixes. */
#ifndef ESPL_EVAL_PROMPT_BUILDER_H
#define ESPL_EVAL_PROMPT_BUILDER_H

#include "espalier/eval/prompts.h"
#include "espalier/tokenizer.h"

/* A prompt with all its ids. */
typedef struct espl_full_prompt {
    int64_t at, n;  /* ids[at .. at + n) of the builder */
    int64_t scored; /* its last `scored` positions produce results: they must not become part of a shared prefix */
    int64_t group;  /* adjacent prompts of equal group form a family */
} espl_full_prompt;

/* Zero-initialise; free with espl_prompt_builder_free, which also makes it ready for reuse. */
typedef struct espl_prompt_builder {
    espl_ids ids;
    espl_full_prompt *prompts;
    int64_t n, cap;
} espl_prompt_builder;

/* Local. Adds a copy of ids[0..n), n >= scored >= 1. ESPL_NOMEM. */
espl_status espl_prompt_builder_add(espl_prompt_builder *b, const int32_t *ids, int64_t n, int64_t scored,
                                    int64_t group);
/* Local. Finds the longest common prefix of each family. *out is owned by the caller; empty on failure. ESPL_NOMEM. */
espl_status espl_prompt_builder_finish(const espl_prompt_builder *b, espl_prompts *out);
/* Local. */
void espl_prompt_builder_free(espl_prompt_builder *b);

#endif
