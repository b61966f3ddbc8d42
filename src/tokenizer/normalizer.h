/* SPDX-License-Identifier: Apache-2.0 */
/* The "normalizer" of tokenizer.json: steps that rewrite a text before it is split. */
#ifndef ESPL_TOKENIZER_NORMALIZER_H
#define ESPL_TOKENIZER_NORMALIZER_H

#include "component.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"
#include "matcher.h"

typedef enum espl_norm_kind {
    ESPL_NORM_NFC,
    ESPL_NORM_NFD,
    ESPL_NORM_NFKC,
    ESPL_NORM_NFKD,
    ESPL_NORM_LOWERCASE,
    ESPL_NORM_PREPEND,
    ESPL_NORM_REPLACE
} espl_norm_kind;

typedef struct espl_norm_step {
    espl_norm_kind kind;
    espl_matcher pattern; /* REPLACE */
    espl_bytes content;   /* REPLACE, PREPEND */
} espl_norm_step;

/* Zero-initialise. */
typedef struct espl_normalizer {
    espl_norm_step steps[ESPL_TOK_MAX_STEPS];
    int64_t n;
} espl_normalizer;

/* node may be NULL: no steps. */
espl_status espl_normalizer_parse(espl_normalizer *z, const struct cJSON *node, const char *file);
void espl_normalizer_free(espl_normalizer *z);
/* *piece becomes its normalised form: unchanged, or a view of one of the buffers, which the caller owns. */
espl_status espl_normalizer_apply(const espl_normalizer *z, const espl_match_state *match, espl_str buffers[2],
                                  espl_piece *piece);

#endif
