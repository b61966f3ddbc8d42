/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chat/generate: continues one prompt token by token, freely or within a choice of tokens. eval/decode.h continues many
 * prompts at once.
 */
#ifndef ESPALIER_CHAT_GENERATE_H
#define ESPALIER_CHAT_GENERATE_H

#include "espalier/model/model.h"
#include "espalier/model/sampling.h"
#include "espalier/tokenizer.h"

typedef struct espl_generation {
    const int32_t *prompt; /* [n_prompt], n_prompt >= 1; the same on every rank */
    int64_t n_prompt;
    int64_t cached; /* so many tokens of it are in slot 0 of the KV cache already; less than n_prompt */
    int64_t max_tokens;
    espl_sampling sampling; /* the choice of tokens, from here on, is rank 0's: other ranks may leave it out */
    uint64_t seed;
    int64_t end; /* an id that ends the reply as those of the model's config do; -1: none */

    /* Called on rank 0 only, with `context`. Each may be NULL. */
    void *context;
    /* Before each token: writes the ids that it may be, ascending, to allowed [vocab], and returns how many. 0 is a
     * failure. NULL: all. */
    int64_t (*allow)(void *context, int32_t *allowed);
    /* After each token, with all ids so far. False ends the generation. */
    bool (*on_token)(void *context, const int32_t *ids, int64_t n);
    /* Between tokens, and between parts of a long prompt. True ends the generation with ESPL_STOPPED. */
    bool (*cancelled)(void *context);
} espl_generation;

typedef struct espl_generated {
    int64_t n;                            /* tokens */
    bool ended;                           /* by an end-of-sequence token, not by max_tokens or on_token */
    double prompt_seconds, reply_seconds; /* until the first token could be chosen; after that. Rank 0's clock */
} espl_generated;

/* Collective. Continues a prompt by up to max_tokens tokens with a KV cache. Ends early at an end-of-sequence token of
 * the model, which is not part of the output. out [max_tokens] and *result but its times are the same on every rank,
 * and the same bits on any number of ranks. The model must have been opened with logits_rows >= 1 and context >=
 * n_prompt + max_tokens. The prompt passes the pipeline in micro-batches that are cut at multiples of the model's
 * batch_tokens, `cached` tokens included. ESPL_FORMAT: logits that are not numbers. ESPL_STOPPED: cancelled.
 * ESPL_NOMEM, or a status of espl_model_run. */
espl_status espl_chat_generate(espl_comm *c, espl_model *m, const espl_generation *g, int32_t *out,
                               espl_generated *result);

/* Local. Replaces *text by the text of generated ids, without special tokens. A model's vocabulary may be padded past
 * its tokenizer's: ids without a token are skipped, as by Hugging Face's decode(). ESPL_NOMEM. */
espl_status espl_chat_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, espl_str *text);

#endif
