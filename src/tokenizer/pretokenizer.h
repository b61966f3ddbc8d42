/* SPDX-License-Identifier: Apache-2.0 */
/* The "pre_tokenizer" of tokenizer.json: steps that split a normalised text into words. */
#ifndef ESPL_TOKENIZER_PRETOKENIZER_H
#define ESPL_TOKENIZER_PRETOKENIZER_H

#include "component.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "matcher.h"

/* What becomes of the matches of a SPLIT: words of their own, nothing, part of the word before or behind, or one word
 * with neighbouring matches. */
typedef enum espl_split_behavior {
    ESPL_SPLIT_ISOLATED,
    ESPL_SPLIT_REMOVED,
    ESPL_SPLIT_PREVIOUS,
    ESPL_SPLIT_NEXT,
    ESPL_SPLIT_CONTIGUOUS
} espl_split_behavior;
typedef enum espl_prepend { ESPL_PREPEND_ALWAYS, ESPL_PREPEND_NEVER, ESPL_PREPEND_FIRST } espl_prepend;
typedef enum espl_pre_kind {
    ESPL_PRE_SPLIT,
    ESPL_PRE_PREFIX_SPACE, /* a space before a text without one */
    ESPL_PRE_METASPACE,    /* spaces become another character */
    ESPL_PRE_BYTES         /* bytes are spelt in GPT-2's byte alphabet */
} espl_pre_kind;

typedef struct espl_pre_step {
    espl_pre_kind kind;
    espl_matcher matcher; /* SPLIT */
    espl_split_behavior behavior;
    bool invert;            /* the text between matches counts as the matches */
    espl_bytes replacement; /* METASPACE */
    espl_prepend prepend;
} espl_pre_step;

/* Zero-initialise. */
typedef struct espl_pretokenizer {
    espl_pre_step steps[ESPL_TOK_MAX_STEPS];
    int64_t n;
    bool byte_mode; /* words are raw bytes that the vocabulary spells in the byte alphabet: see bpe.h */
} espl_pretokenizer;

/* node may be NULL: no steps. */
espl_status espl_pretokenizer_parse(espl_pretokenizer *z, const struct cJSON *node, const char *file);
void espl_pretokenizer_free(espl_pretokenizer *z);

/* Receives the words of a text, one after the other. */
typedef espl_status (*espl_word_fn)(void *ctx, const espl_piece *word);

/* One run of the steps; zero-initialise what is not set. Never shared between threads. */
typedef struct espl_pretokenizing {
    const espl_pretokenizer *z;
    const espl_match_state *match;
    espl_word_fn word;
    void *ctx;
    espl_str rewritten[ESPL_TOK_MAX_STEPS]; /* text as rewritten by each step; freed by espl_pretokenizing_free */
} espl_pretokenizing;
/* run: an espl_pretokenizing; void, so that the function itself receives the texts between added tokens (added.h). */
espl_status espl_pretokenizer_run(void *run, const espl_piece *piece);
void espl_pretokenizing_free(espl_pretokenizing *r);

#endif
