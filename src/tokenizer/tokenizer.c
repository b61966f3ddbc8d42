#include "espalier/tokenizer.h"

#include <cjson/cJSON.h>
#include <string.h>

#include "internal.h"

void espl_ids_free(espl_ids *ids) {
    espl_mem_free(&ids->data);
    ids->len = ids->cap = 0;
}

static espl_status check_top(const cJSON *doc, const char *name) {
    const char *version = "1.0";
    espl_where where;
    snprintf(where.text, sizeof where.text, "%s", name);
    ESPL_TRY(espl_tok_check_keys(doc, &where,
                                 "version|truncation|padding|added_tokens|normalizer|pre_tokenizer|post_processor|"
                                 "decoder|model"));
    ESPL_TRY(espl_json_get_str(doc, "version", where.text, false, &version));
    if (strcmp(version, "1.0") != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.version \"%.64s\" is not supported", where.text, version);
    if (!espl_json_member(doc, "model")) return ESPL_FAIL(ESPL_FORMAT, "%s: \"model\" is missing", where.text);
    return ESPL_OK;
}

static bool decodes_bytes(const espl_tokenizer *t) {
    for (int64_t i = 0; i < t->n_dec; i++)
        if (t->dec[i].kind == ESPL_DEC_BYTES) return true;
    return false;
}

static int64_t highest_id(const espl_tokenizer *t) {
    int64_t max = t->model.n_ids - 1;
    for (int64_t i = 0; i < t->added.n; i++)
        if (t->added.tokens[i].id > max) max = t->added.tokens[i].id;
    return max;
}

static espl_status parse_components(espl_tokenizer *t, const cJSON *doc, const char *name) {
    bool byte_mode;
    ESPL_TRY(check_top(doc, name));
    ESPL_TRY(espl_tok_norm_parse(t, espl_json_member(doc, "normalizer"), name));
    ESPL_TRY(espl_tok_pre_parse(t, espl_json_member(doc, "pre_tokenizer"), name, &byte_mode));
    ESPL_TRY(espl_tok_post_parse(t, espl_json_member(doc, "post_processor"), name));
    ESPL_TRY(espl_tok_dec_parse(t, espl_json_member(doc, "decoder"), name));
    ESPL_TRY(espl_tok_model_parse(&t->model, espl_json_member(doc, "model"), name));
    ESPL_TRY(espl_tok_model_finish(&t->model, byte_mode, decodes_bytes(t)));
    ESPL_TRY(espl_tok_added_parse(t, espl_json_member(doc, "added_tokens"), name));
    t->vocab_size = highest_id(t) + 1;
    return ESPL_OK;
}

static espl_status parse_document(const cJSON *doc, const char *name, espl_tokenizer **out) {
    espl_tokenizer *t;
    ESPL_TRY(espl_mem_alloc(&t, 1, sizeof *t, "tokenizer"));
    espl_status st = espl_mem_alloc(&t->name.p, (int64_t)strlen(name) + 1, 1, "tokenizer");
    if (st == ESPL_OK) {
        t->name.n = (int64_t)strlen(name);
        memcpy(t->name.p, name, strlen(name));
        st = parse_components(t, doc, name);
    }
    if (st != ESPL_OK) espl_tokenizer_close(&t);
    *out = t;
    return st;
}

espl_status espl_tokenizer_parse(const char *json, int64_t len, const char *name, espl_tokenizer **out) {
    cJSON *doc;
    *out = NULL;
    ESPL_TRY(espl_tok_json_parse(json, len, name, &doc));
    espl_status st = parse_document(doc, name, out);
    espl_json_free(&doc);
    return st;
}

espl_status espl_tokenizer_open(const char *dir, espl_tokenizer **out) {
    espl_str path = {0};
    char *text = NULL;
    int64_t len;
    *out = NULL;
    espl_str_printf(&path, "%s/tokenizer.json", dir);
    espl_status st = espl_str_status(&path);
    if (st == ESPL_OK) st = espl_file_read(path.data, ESPL_TOK_MAX_FILE, &text, &len);
    if (st == ESPL_OK) st = espl_tokenizer_parse(text, len, path.data, out);
    espl_mem_free(&text);
    espl_str_free(&path);
    return st;
}

void espl_tokenizer_close(espl_tokenizer **p) {
    if (!p || !*p) return;
    espl_tokenizer *t = *p;
    espl_tok_norm_free(t);
    espl_tok_pre_free(t);
    espl_tok_dec_free(t);
    espl_tok_added_free(&t->added);
    espl_tok_model_free(&t->model);
    espl_mem_free(&t->items);
    espl_tok_bytes_free(&t->name);
    espl_mem_free(p);
}

int64_t espl_tokenizer_vocab_size(const espl_tokenizer *t) { return t->vocab_size; }

int32_t espl_tokenizer_token_id(const espl_tokenizer *t, const char *content) {
    int64_t v, len = (int64_t)strlen(content);
    if (espl_map_get(t->added.by_content, content, len, &v)) return t->added.tokens[v].id;
    return espl_map_get(t->model.vocab, content, len, &v) ? (int32_t)v : -1;
}

bool espl_tokenizer_is_special(const espl_tokenizer *t, int32_t id) {
    const espl_added_token *a = espl_tok_added_by_id(t, id);
    return a && a->special;
}
