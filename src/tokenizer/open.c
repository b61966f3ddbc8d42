/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a tokenizer.json, and what can be asked about its tokens. */
#include "tokenizer.h"

#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* The order matters: the pre-tokeniser decides on byte mode, which the model needs; added tokens need model and
 * normaliser. */
static espl_status tokenizer_parse_components(espl_tokenizer *t, const cJSON *doc, const char *name) {
    const char *version = "1.0";
    espl_where where;
    snprintf(where.text, sizeof where.text, "%s", name); /* the document itself is no component of it */
    ESPL_TRY(espl_tok_check_keys(doc, &where,
                                 "version|truncation|padding|added_tokens|normalizer|pre_tokenizer|post_processor|"
                                 "decoder|model"));
    ESPL_TRY(espl_json_get_str(doc, "version", where.text, false, &version));
    if (strcmp(version, "1.0") != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.version \"%.64s\" is not supported", where.text, version);
    const cJSON *model = espl_json_member(doc, "model"), *added = espl_json_member(doc, "added_tokens");
    if (!model) return ESPL_FAIL(ESPL_FORMAT, "%s: \"model\" is missing", where.text);

    ESPL_TRY(espl_normalizer_parse(&t->normalizer, espl_json_member(doc, "normalizer"), name));
    ESPL_TRY(espl_pretokenizer_parse(&t->pretokenizer, espl_json_member(doc, "pre_tokenizer"), name));
    ESPL_TRY(espl_tok_template_parse(&t->template, espl_json_member(doc, "post_processor"), name));
    ESPL_TRY(espl_tok_decoder_parse(&t->decoder, espl_json_member(doc, "decoder"), name));
    ESPL_TRY(espl_bpe_model_parse(&t->model, model, name));
    ESPL_TRY(espl_bpe_model_finish(&t->model, t->pretokenizer.byte_mode));
    ESPL_TRY(espl_added_parse(&t->added, added, name, &t->model, &t->normalizer));
    t->vocab_size = t->model.n_ids;
    for (int64_t i = 0; i < t->added.n; i++)
        t->vocab_size = espl_max_i64(t->vocab_size, (int64_t)t->added.tokens[i].id + 1);
    return ESPL_OK;
}

espl_status espl_tokenizer_parse(const char *json, int64_t len, const char *name, espl_tokenizer **out) {
    espl_tokenizer *t = NULL;
    cJSON *doc = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_tok_json_parse(json, len, name, &doc));
    ESPL_CHECK(st, done, espl_mem_alloc(&t, 1, sizeof *t, "tokenizer"));
    ESPL_CHECK(st, done, espl_str_dup(&t->name, name, "tokenizer"));
    ESPL_CHECK(st, done, tokenizer_parse_components(t, doc, name));
done:
    if (st != ESPL_OK) espl_tokenizer_close(&t);
    espl_json_free(&doc);
    *out = t;
    return st;
}

espl_status espl_tokenizer_open(const char *dir, espl_tokenizer **out) {
    espl_str path = {0};
    char *text = NULL;
    int64_t len;
    espl_status st;
    *out = NULL;
    espl_str_printf(&path, "%s/tokenizer.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&path));
    ESPL_CHECK(st, done, espl_file_read(path.data, ESPL_TOK_MAX_FILE, &text, &len));
    ESPL_CHECK(st, done, espl_tokenizer_parse(text, len, path.data, out));
done:
    espl_mem_free(&text);
    espl_str_free(&path);
    return st;
}

void espl_tokenizer_close(espl_tokenizer **p) {
    if (!p || !*p) return;
    espl_tokenizer *t = *p;
    espl_normalizer_free(&t->normalizer);
    espl_pretokenizer_free(&t->pretokenizer);
    espl_bpe_model_free(&t->model);
    espl_added_free(&t->added);
    espl_tok_template_free(&t->template);
    espl_tok_decoder_free(&t->decoder);
    espl_mem_free(&t->name);
    espl_mem_free(p);
}

int64_t espl_tokenizer_vocab_size(const espl_tokenizer *t) { return t->vocab_size; }

int32_t espl_tokenizer_token_id(const espl_tokenizer *t, const char *content) {
    int64_t i, len = (int64_t)strlen(content);
    if (espl_map_get(t->added.by_content, content, len, &i)) return t->added.tokens[i].id;
    return espl_bpe_model_find(&t->model, content, len);
}

bool espl_tokenizer_is_special(const espl_tokenizer *t, int32_t id) {
    const espl_added_token *a = espl_added_find(&t->added, id);
    return a && a->special;
}
