/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Post-processors: of all that they do, only the tokens of a TemplateProcessing reach the ids of one text. Types of
 * segments and the template for pairs of texts have no meaning for a language model, and are not read.
 */
#include "template.h"

#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"

#include <cjson/cJSON.h>
#include <string.h>

/* Templates have a few items: growing one by one is fine. */
static espl_status template_add_item(espl_tok_template *t, int64_t id) {
    ESPL_TRY(espl_mem_resize(&t->items, t->n + 1, sizeof *t->items, "template"));
    t->items[t->n++] = (int32_t)id;
    return ESPL_OK;
}

/* piece: {"SpecialToken": {"id": "<s>", "type_id": 0}} or {"Sequence": {"id": "A", "type_id": 0}};
 * specials: {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}} */
static espl_status template_add_piece(espl_tok_template *t, const cJSON *piece, const cJSON *specials,
                                      const espl_where *where, const espl_where *specials_where) {
    const char *name = NULL;
    ESPL_TRY(espl_tok_check_keys(piece, where, "SpecialToken|Sequence"));
    const cJSON *special = espl_json_member(piece, "SpecialToken"), *sequence = espl_json_member(piece, "Sequence");
    if (!special == !sequence)
        return ESPL_FAIL(ESPL_FORMAT, "%s must be one of \"SpecialToken\" and \"Sequence\"", where->text);
    ESPL_TRY(espl_tok_check_keys(special ? special : sequence, where, "id|type_id"));
    ESPL_TRY(espl_json_get_str(special ? special : sequence, "id", where->text, true, &name));
    if (sequence) {
        if (strcmp(name, "A") == 0) return template_add_item(t, ESPL_TEMPLATE_TEXT);
        return ESPL_FAIL(ESPL_FORMAT, "%s: a template for one text names text \"%.64s\"", where->text, name);
    }
    const cJSON *entry = espl_json_member(specials, name), *ids;
    if (!entry)
        return ESPL_FAIL(ESPL_FORMAT, "%s has no \"%.64s\", which the template names", specials_where->text, name);
    ESPL_TRY(espl_tok_check_keys(entry, specials_where, "id|ids|tokens"));
    ESPL_TRY(espl_tok_get_array(entry, "ids", specials_where, &ids));
    for (const cJSON *i = ids->child; i; i = i->next) {
        int64_t id;
        if (!espl_tok_get_id(i, &id))
            return ESPL_FAIL(ESPL_FORMAT, "%s: the ids of \"%.64s\" must be integers from 0 to %d",
                             specials_where->text, name, ESPL_TOK_MAX_ID);
        ESPL_TRY(template_add_item(t, id));
    }
    return ESPL_OK;
}

/* A TemplateProcessing. Two of them would nest in a way that no known file needs. */
static espl_status template_add(void *target, const struct cJSON *node, const espl_where *where, int kind) {
    espl_tok_template *t = target;
    espl_where single_where = espl_tok_where(where->text, ".", "single");
    espl_where specials_where = espl_tok_where(where->text, ".", "special_tokens");
    const cJSON *single;
    int64_t index = 0;
    (void)kind;
    if (t->n > 0) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: a second TemplateProcessing is not supported", where->text);
    ESPL_TRY(espl_tok_get_array(node, "single", where, &single));
    if (!single->child) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: an empty template is not supported", single_where.text);
    for (const cJSON *i = single->child; i; i = i->next) {
        espl_where item = espl_tok_where_item(&single_where, index++);
        ESPL_TRY(template_add_piece(t, i, espl_json_member(node, "special_tokens"), &item, &specials_where));
    }
    return ESPL_OK;
}

espl_status espl_tok_template_parse(espl_tok_template *t, const struct cJSON *node, const char *file) {
    static const espl_component known[] = {
        {"TemplateProcessing", "type|single|pair|special_tokens", template_add, 0},
        {"ByteLevel", ESPL_TOK_BYTE_LEVEL_KEYS, NULL, 0}, /* changes offsets only, and ids have none */
    };
    static const espl_component_place place = {"post_processor", "processors", known, sizeof known / sizeof *known};
    ESPL_TRY(espl_tok_components_parse(&place, t, node, file));
    return t->n == 0 ? template_add_item(t, ESPL_TEMPLATE_TEXT) : ESPL_OK;
}

void espl_tok_template_free(espl_tok_template *t) { espl_mem_free(&t->items); }
