/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the chat room: the tokens of a vocabulary as byte strings, sorted, so that all tokens that a text may go
 * on with are found in one walk. All functions are Local.
 */
#ifndef ESPL_CHAT_VOCABULARY_H
#define ESPL_CHAT_VOCABULARY_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/base/str.h"
#include "espalier/model/config.h"
#include "espalier/tokenizer.h"

typedef struct espl_vocabulary_token {
    int64_t at; /* of its bytes in espl_vocabulary.bytes */
    int32_t id, len;
    int32_t common; /* first bytes that it shares with the token before it in its list */
} espl_vocabulary_token;

typedef struct espl_vocabulary_list {
    espl_vocabulary_token *tokens; /* [n] sorted by bytes */
    int64_t n;
} espl_vocabulary_list;

/* Zero-initialise; free with espl_vocabulary_free. Special tokens, ends of sequence, and tokens without bytes are in
 * neither list. */
typedef struct espl_vocabulary {
    espl_str bytes;
    espl_vocabulary_list plain; /* whole characters, without control characters, quotes and backslashes: what a JSON
                                   string may hold as it is */
    espl_vocabulary_list other;
    int64_t vocab;    /* ids of the model */
    int32_t longest;  /* bytes of a token */
    bool single[256]; /* bytes that are a token by themselves */
} espl_vocabulary;

/* ESPL_NOMEM. */
espl_status espl_vocabulary_create(espl_vocabulary *v, const espl_tokenizer *t, const espl_model_config *c);
void espl_vocabulary_free(espl_vocabulary *v);

/* The bytes of a token of either list; no NUL follows. */
const char *espl_vocabulary_text(const espl_vocabulary *v, const espl_vocabulary_token *token);

#endif
