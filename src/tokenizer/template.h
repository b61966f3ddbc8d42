/* SPDX-License-Identifier: Apache-2.0 */
/* The "post_processor" of tokenizer.json: the special tokens that a template puts around a text. */
#ifndef ESPL_TOKENIZER_TEMPLATE_H
#define ESPL_TOKENIZER_TEMPLATE_H

#include "component.h"
#include "espalier/base/status.h"

enum { ESPL_TEMPLATE_TEXT = -1 };

/* Zero-initialise. */
typedef struct espl_tok_template {
    int32_t *items; /* [n] ids of tokens; ESPL_TEMPLATE_TEXT: the text */
    int64_t n;      /* >= 1 once parsed */
} espl_tok_template;

/* node may be NULL: the text alone. */
espl_status espl_tok_template_parse(espl_tok_template *t, const struct cJSON *node, const char *file);
void espl_tok_template_free(espl_tok_template *t);

#endif
