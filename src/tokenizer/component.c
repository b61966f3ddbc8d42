/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The walker over the components of tokenizer.json. It refuses what it does not know by name, never ignores it: a
 * skipped component would change ids without a word.
 */
#include "component.h"

#include "espalier/base/json.h"
#include "espalier/base/status.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

/* Sequences inside sequences. Real files have one level; without a limit a file of brackets would exhaust the stack. */
enum { MAX_NESTING = 8 };

/* One component or, by recursion, a Sequence of them. */
static espl_status component_parse(const espl_component_place *place, void *target, const cJSON *node,
                                   const espl_where *where, int depth) {
    const char *type = NULL;
    if (!cJSON_IsObject(node)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    ESPL_TRY(espl_json_get_str(node, "type", where->text, true, &type));
    if (strcmp(type, "Sequence") == 0) {
        char keys[64];
        const cJSON *items;
        int64_t index = 0;
        if (depth == MAX_NESTING) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested too deep", where->text);
        snprintf(keys, sizeof keys, "type|%s", place->sequence);
        ESPL_TRY(espl_tok_check_keys(node, where, keys));
        ESPL_TRY(espl_tok_get_array(node, place->sequence, where, &items));
        for (const cJSON *i = items->child; i; i = i->next) {
            espl_where item = espl_tok_where_item(where, index++);
            ESPL_TRY(component_parse(place, target, i, &item, depth + 1));
        }
        return ESPL_OK;
    }
    /* Keys are checked here for all types, so that no `add` can forget to. */
    for (int64_t i = 0; i < place->n_known; i++) {
        const espl_component *c = &place->known[i];
        if (strcmp(type, c->type) != 0) continue;
        ESPL_TRY(espl_tok_check_keys(node, where, c->keys));
        return c->add ? c->add(target, node, where, c->kind) : ESPL_OK;
    }
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type \"%.64s\" is not supported", where->text, type);
}

espl_status espl_tok_components_parse(const espl_component_place *place, void *target, const struct cJSON *node,
                                      const char *file) {
    espl_where where = espl_tok_where(file, ": ", place->key);
    return node ? component_parse(place, target, node, &where, 0) : ESPL_OK;
}
