/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/prompts: prompts as token ids, grouped in families that share a prefix.
 *
 * Few-shot benchmarks repeat the same examples before every question. The common prefix of a family is stored, and
 * computed, once: the full prompt i is the prefix of its family followed by its own ids. Plain data, the same on every
 * rank.
 */
#ifndef ESPALIER_EVAL_PROMPTS_H
#define ESPALIER_EVAL_PROMPTS_H

#include "espalier/model/model.h"

typedef struct espl_prompt_family {
    int64_t at, n;        /* the prefix: ids[at .. at + n), n >= 0 */
    int64_t first, count; /* its prompts: first .. first + count - 1 */
} espl_prompt_family;

typedef struct espl_prompt {
    int64_t at, n; /* its own ids: ids[at .. at + n), n >= 1 */
} espl_prompt;

/* Zero-initialise; free with espl_prompts_free. */
typedef struct espl_prompts {
    int32_t *ids;                 /* [n_ids], owned */
    espl_prompt_family *families; /* [n_families], owned */
    espl_prompt *prompts;         /* [n], owned */
    int64_t n_ids, n_families, n;
} espl_prompts;

/* Local. */
void espl_prompts_free(espl_prompts *p);

/* Local. Raises o->context and o->slots so that a model opened with *o can evaluate these prompts in packed
 * micro-batches. The caller sets o->batch_tokens first; it is not changed. Call once per set to serve several sets with
 * one model. */
void espl_prompts_need(const espl_prompts *p, espl_model_options *o);

#endif
