/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer as a whole. Layers of the room, bottom to top; each uses only those above it in this list:
 *
 *   text.c, ids.c                    bytes, UTF-8, GPT-2's byte alphabet; lists of ids
 *   unicode.c                        classes and cases of code points (unicode_tables.h is generated)
 *   json.c, component.c              reading tokenizer.json; the walker over its components
 *   regex.c, matcher.c               patterns and their matches
 *   normalizer.c pretokenizer.c decoder.c template.c bpe_model.c bpe.c
 *                                    one component each; they do not know each other
 *   added.c                          added tokens, whose forms are normalised
 *   tokens.c encode.c decode.c       public functions
 *   beside.c                         notes on the files beside tokenizer.json
 *   open.c                           public functions: opening
 *
 * Data flow of encode():
 *
 *   text --> added (raw) --+--> ids
 *                          +--> normalizer --> added (normal) --+--> ids
 *                                                               +--> pretokenizer --> words --> bpe --> ids
 */
#ifndef ESPL_TOKENIZER_H
#define ESPL_TOKENIZER_H

#include "added.h"
#include "decoder.h"
#include "pretokenizer.h"
#include "template.h"

/* Read-only once opened (but for the cache in espl_bpe_model): threads share it. */
struct espl_tokenizer {
    char *name; /* of the file, for messages */
    espl_normalizer normalizer;
    espl_pretokenizer pretokenizer;
    espl_bpe_model model;
    espl_added_tokens added;
    espl_tok_template template;
    espl_tok_decoder decoder;
    int64_t vocab_size;
};

#endif
