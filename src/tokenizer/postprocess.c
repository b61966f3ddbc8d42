/* Post-processors: of all that they do, only the tokens of a TemplateProcessing reach the ids of one sequence. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

static espl_status add_item(espl_tokenizer *t, int64_t id) {
    ESPL_TRY(espl_mem_resize(&t->items, t->n_items + 1, sizeof *t->items, "template"));
    t->items[t->n_items++].id = (int32_t)id;
    return ESPL_OK;
}

/* special_tokens: {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}} */
static espl_status add_special(espl_tokenizer *t, const cJSON *specials, const char *name, const espl_where *where) {
    espl_where w = espl_tok_where_key(where, "special_tokens");
    const cJSON *special = espl_json_member(specials, name), *ids;
    if (!special) return ESPL_FAIL(ESPL_FORMAT, "%s has no \"%.64s\", which the template names", w.text, name);
    ESPL_TRY(espl_tok_check_keys(special, &w, "id|ids|tokens"));
    ESPL_TRY(espl_tok_get_array(special, "ids", &w, true, &ids));
    for (const cJSON *i = ids->child; i; i = i->next) {
        double id = i->valuedouble;
        if (!cJSON_IsNumber(i) || !(id >= 0 && id <= ESPL_TOK_MAX_ID) || id != (double)(int64_t)id)
            return ESPL_FAIL(ESPL_FORMAT, "%s: the ids of \"%.64s\" must be integers from 0 to %d", w.text, name,
                             ESPL_TOK_MAX_ID);
        ESPL_TRY(add_item(t, (int64_t)id));
    }
    return ESPL_OK;
}

/* {"SpecialToken": {"id": "<s>", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}} */
static espl_status add_piece(espl_tokenizer *t, const cJSON *piece, const cJSON *specials, const espl_where *where) {
    const char *name = NULL;
    ESPL_TRY(espl_tok_check_keys(piece, where, "SpecialToken|Sequence"));
    const cJSON *special = espl_json_member(piece, "SpecialToken"), *sequence = espl_json_member(piece, "Sequence");
    if (!special == !sequence)
        return ESPL_FAIL(ESPL_FORMAT, "%s must be one of \"SpecialToken\" and \"Sequence\"", where->text);
    ESPL_TRY(espl_tok_check_keys(special ? special : sequence, where, "id|type_id"));
    ESPL_TRY(espl_json_get_str(special ? special : sequence, "id", where->text, true, &name));
    if (special) return add_special(t, specials, name, where);
    if (strcmp(name, "A") != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: a template for one text names text \"%.64s\"", where->text, name);
    return add_item(t, -1);
}

static espl_status parse_template(espl_tokenizer *t, const cJSON *node, const espl_where *where) {
    espl_where w = espl_tok_where_key(where, "single");
    const cJSON *single;
    int64_t index = 0;
    if (t->n_items > 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: a second TemplateProcessing is not supported", where->text);
    ESPL_TRY(espl_tok_check_keys(node, where, "type|single|pair|special_tokens"));
    ESPL_TRY(espl_tok_get_array(node, "single", where, true, &single));
    if (!single->child) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: an empty template is not supported", w.text);
    for (const cJSON *i = single->child; i; i = i->next) {
        espl_where item = espl_tok_where_item(&w, index++);
        ESPL_TRY(add_piece(t, i, espl_json_member(node, "special_tokens"), &item));
    }
    return ESPL_OK;
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth);

static espl_status parse_sequence(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const cJSON *items;
    int64_t index = 0;
    if (depth == ESPL_TOK_MAX_NESTING) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested too deep", where->text);
    ESPL_TRY(espl_tok_check_keys(node, where, "type|processors"));
    ESPL_TRY(espl_tok_get_array(node, "processors", where, true, &items));
    for (const cJSON *i = items->child; i; i = i->next) {
        espl_where w = espl_tok_where_item(where, index++);
        ESPL_TRY(parse_node(t, i, &w, depth + 1));
    }
    return ESPL_OK;
}

static espl_status parse_node(espl_tokenizer *t, const cJSON *node, const espl_where *where, int depth) {
    const char *type = NULL;
    if (!cJSON_IsObject(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    ESPL_TRY(espl_json_get_str(node, "type", where->text, true, &type));
    if (strcmp(type, "Sequence") == 0) return parse_sequence(t, node, where, depth);
    if (strcmp(type, "TemplateProcessing") == 0) return parse_template(t, node, where);
    if (strcmp(type, "ByteLevel") == 0) /* offsets only, and ids have none */
        return espl_tok_check_keys(node, where, "type|add_prefix_space|trim_offsets|use_regex");
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
}

espl_status espl_tok_post_parse(espl_tokenizer *t, const struct cJSON *node, const char *file) {
    espl_where where = espl_tok_where(file, "post_processor");
    return node ? parse_node(t, node, &where, 0) : ESPL_OK;
}
