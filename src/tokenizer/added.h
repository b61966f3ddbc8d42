/* SPDX-License-Identifier: Apache-2.0 */
/* The "added_tokens" of tokenizer.json, which are searched in the text before anything else happens to it. */
#ifndef ESPL_TOKENIZER_ADDED_H
#define ESPL_TOKENIZER_ADDED_H

#include "bpe.h"
#include "espalier/base/hash.h"
#include "espalier/base/status.h"
#include "normalizer.h"

typedef struct espl_added_token {
    espl_bytes content;
    espl_bytes form; /* what is searched for: the normalised content when `normalized`, else a view of content */
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} espl_added_token;

/* Tokens sorted by the bytes of their form, for longest-match search. */
typedef struct espl_added_index {
    const espl_added_token **sorted; /* [n] */
    int64_t n;
    int32_t first[257]; /* sorted[first[b]..first[b + 1]) start with byte b */
} espl_added_index;

/* Zero-initialise. */
typedef struct espl_added_tokens {
    espl_added_token *tokens; /* [n] */
    int64_t n;
    espl_map *by_content;         /* content -> index */
    espl_map *by_id;              /* id (its 4 bytes) -> index */
    espl_map *special;            /* contents of special tokens */
    espl_added_index raw, normal; /* searched in the text as given, and in normalised text */
} espl_added_tokens;

/* node may be NULL: no tokens. The model's vocabulary decides on ids, the normaliser on the forms. */
espl_status espl_added_parse(espl_added_tokens *a, const struct cJSON *node, const char *file,
                             const espl_bpe_model *model, const espl_normalizer *normalizer);
void espl_added_free(espl_added_tokens *a);

/* Receives the text between tokens. */
typedef espl_status (*espl_added_text_fn)(void *ctx, const espl_piece *text);
/* Splits the piece at the tokens of `index`, from left to right: pushes their ids, hands the text between to `text`. */
espl_status espl_added_split(const espl_added_index *index, const espl_piece *piece, espl_ids *ids,
                             espl_added_text_fn text, void *ctx);
/* NULL: no added token has this id. */
const espl_added_token *espl_added_find(const espl_added_tokens *a, int32_t id);

#endif
