/* SPDX-License-Identifier: Apache-2.0 */
/* What can be asked about the tokens of a tokenizer. */
#include "tokenizer.h"

#include "espalier/base/hash.h"

#include <string.h>

int64_t espl_tokenizer_vocab_size(const espl_tokenizer *t) { return t->vocab_size; }

/* Added tokens first: one may have the content of a vocabulary entry, and then has its id too. */
int32_t espl_tokenizer_token_id(const espl_tokenizer *t, const char *content) {
    int64_t i, len = (int64_t)strlen(content);
    if (espl_map_get(t->added.by_content, content, len, &i)) return t->added.tokens[i].id;
    return espl_bpe_model_find(&t->model, content, len);
}

bool espl_tokenizer_is_special(const espl_tokenizer *t, int32_t id) {
    const espl_added_token *a = espl_added_find(&t->added, id);
    return a && a->special;
}
