/* SPDX-License-Identifier: Apache-2.0 */
/* JSON schemas as forms. */
#include "espalier/form/schema.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"

enum { DEFAULT_TEXT_BYTES = 4096, DEFAULT_DECIMALS = 6, PLACE_BYTES = 200 };

/* Where in the document: "reply.json: properties.plan.items". */
typedef struct schema_place {
    char text[PLACE_BYTES];
} schema_place;

static schema_place place_inside(const schema_place *outer, const char *key) {
    schema_place p;
    size_t n = strnlen(outer->text, sizeof p.text - 1);
    memcpy(p.text, outer->text, n + 1);
    snprintf(p.text + n, sizeof p.text - n, "%s%.64s", n > 0 && outer->text[n - 1] == ' ' ? "" : ".", key);
    return p;
}

static espl_status schema_new(espl_form_schema *s, void *out, int64_t n, size_t size) {
    ESPL_TRY(espl_mem_resize(&s->pieces, s->n + 1, sizeof *s->pieces, "schema"));
    ESPL_TRY(espl_mem_alloc(&s->pieces[s->n], n, size, "schema"));
    *(void **)out = s->pieces[s->n++];
    return ESPL_OK;
}

static espl_status schema_read(espl_form_schema *s, const cJSON *node, const schema_place *at, int depth,
                               const espl_form **out);

/* Members of `node` other than these are refused. `known` holds names between bars. */
static espl_status schema_check_keys(const cJSON *node, const schema_place *at, const char *known) {
    const cJSON *item;
    cJSON_ArrayForEach(item, node) {
        char key[PLACE_BYTES];
        snprintf(key, sizeof key, "|%.100s|", item->string);
        if (!strstr("|description|title|$schema|$id|type|", key) && !strstr(known, key))
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%.64s\" is not supported here", at->text, item->string);
    }
    return ESPL_OK;
}

/* "enum" of strings, or "const". */
static espl_status schema_read_choice(espl_form_schema *s, const cJSON *node, const schema_place *at, espl_form *f) {
    const cJSON *list = espl_json_member(node, "enum"), *one = espl_json_member(node, "const"), *item;
    const char **names;
    f->kind = ESPL_FORM_CHOICE;
    ESPL_TRY(schema_check_keys(node, at, "|enum|const|"));
    ESPL_TRY(schema_new(s, &names, list ? cJSON_GetArraySize(list) : 1, sizeof *names));
    f->names = names;
    if (one) names[f->n_names++] = cJSON_GetStringValue(one);
    if (one && !list) return names[0] ? ESPL_OK : ESPL_FAIL(ESPL_UNSUPPORTED, "%s.const is no string", at->text);
    f->n_names = 0;
    if (!cJSON_IsArray(list)) return ESPL_FAIL(ESPL_FORMAT, "%s.enum is no array", at->text);
    cJSON_ArrayForEach(item, list) {
        names[f->n_names] = cJSON_GetStringValue(item);
        if (!names[f->n_names++]) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.enum holds more than strings", at->text);
    }
    return ESPL_OK;
}

static espl_status schema_read_text(const cJSON *node, const schema_place *at, espl_form *f) {
    int64_t none = 0;
    f->kind = ESPL_FORM_TEXT;
    f->max = DEFAULT_TEXT_BYTES;
    ESPL_TRY(schema_check_keys(node, at, "|minLength|maxLength|"));
    ESPL_TRY(espl_json_get_i64(node, "minLength", at->text, false, 0, 0, &none));
    return espl_json_get_i64(node, "maxLength", at->text, false, 0, ESPL_FORM_BYTES, &f->max);
}

/* As many decimals as numbers of this size may have. */
static espl_status schema_read_number(const cJSON *node, const schema_place *at, bool integer, espl_form *f) {
    const double limit = 1e15;
    f->kind = ESPL_FORM_NUMBER;
    ESPL_TRY(schema_check_keys(node, at, "|minimum|maximum|"));
    ESPL_TRY(espl_json_get_f64(node, "minimum", at->text, true, -limit, limit, &f->lo));
    ESPL_TRY(espl_json_get_f64(node, "maximum", at->text, true, -limit, limit, &f->hi));
    double size = fmax(fabs(f->lo), fabs(f->hi));
    f->decimals = integer ? 0 : DEFAULT_DECIMALS;
    while (f->decimals > 0 && size * pow(10, f->decimals) > limit) f->decimals--;
    return ESPL_OK;
}

static espl_status schema_read_array(espl_form_schema *s, const cJSON *node, const schema_place *at, int depth,
                                     espl_form *f) {
    schema_place inside = place_inside(at, "items");
    f->kind = ESPL_FORM_ARRAY;
    ESPL_TRY(schema_check_keys(node, at, "|items|minItems|maxItems|"));
    ESPL_TRY(espl_json_get_i64(node, "minItems", at->text, false, 0, ESPL_FORM_NAMES, &f->min));
    ESPL_TRY(espl_json_get_i64(node, "maxItems", at->text, true, 0, ESPL_FORM_NAMES, &f->max));
    return schema_read(s, espl_json_member(node, "items"), &inside, depth + 1, &f->element);
}

static bool list_holds(const cJSON *list, const char *name) {
    const cJSON *item;
    cJSON_ArrayForEach(item, list) {
        if (cJSON_IsString(item) && strcmp(item->valuestring, name) == 0) return true;
    }
    return false;
}

/* An OBJECT if all properties are required, a MAP if none is. */
static espl_status schema_read_object(espl_form_schema *s, const cJSON *node, const schema_place *at, int depth,
                                      espl_form *f) {
    const cJSON *properties = espl_json_member(node, "properties"), *required = espl_json_member(node, "required"),
                *item;
    schema_place inside = place_inside(at, "properties");
    espl_form_member *members;
    int64_t n_required = 0;
    bool more = true;
    ESPL_TRY(schema_check_keys(node, at, "|properties|required|additionalProperties|minProperties|maxProperties|"));
    ESPL_TRY(espl_json_get_bool(node, "additionalProperties", at->text, true, &more));
    if (more || !cJSON_IsObject(properties))
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: an object needs \"properties\", and \"additionalProperties\": false",
                         at->text);
    ESPL_TRY(schema_new(s, &members, cJSON_GetArraySize(properties), sizeof *members));
    f->members = members;
    cJSON_ArrayForEach(item, properties) {
        schema_place member = place_inside(&inside, item->string);
        members[f->n_members].name = item->string;
        n_required += list_holds(required, item->string);
        ESPL_TRY(schema_read(s, item, &member, depth + 1, &members[f->n_members++].form));
    }
    f->kind = n_required > 0 ? ESPL_FORM_OBJECT : ESPL_FORM_MAP;
    if (n_required > 0 && n_required < f->n_members)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: either all properties are required, or none", at->text);
    f->max = espl_min_i64(f->n_members, ESPL_FORM_ENTRIES);
    ESPL_TRY(espl_json_get_i64(node, "minProperties", at->text, false, 0, f->n_members, &f->min));
    return espl_json_get_i64(node, "maxProperties", at->text, false, 0, f->n_members, &f->max);
}

/* VARIANTS if all are objects, else EITHER. */
static espl_status schema_read_alternatives(espl_form_schema *s, const cJSON *list, const schema_place *at, int depth,
                                            espl_form *f) {
    espl_form_member *members;
    const cJSON *item;
    bool objects = true;
    ESPL_TRY(schema_new(s, &members, cJSON_GetArraySize(list), sizeof *members));
    f->members = members;
    cJSON_ArrayForEach(item, list) {
        char index[32];
        snprintf(index, sizeof index, "%" PRId64, f->n_members);
        schema_place inside = place_inside(at, index);
        ESPL_TRY(schema_read(s, item, &inside, depth + 1, &members[f->n_members].form));
        objects = objects && members[f->n_members].form->kind == ESPL_FORM_OBJECT;
        f->n_members++;
    }
    f->kind = objects ? ESPL_FORM_VARIANTS : ESPL_FORM_EITHER;
    return ESPL_OK;
}

static espl_status schema_read(espl_form_schema *s, const cJSON *node, const schema_place *at, int depth,
                               const espl_form **out) {
    espl_form *f;
    const char *type = NULL;
    if (!cJSON_IsObject(node)) return ESPL_FAIL(ESPL_FORMAT, "%s: expected a schema, an object", at->text);
    if (depth > ESPL_FORM_DEPTH)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: nested deeper than %d", at->text, ESPL_FORM_DEPTH);
    ESPL_TRY(schema_new(s, &f, 1, sizeof *f));
    *out = f;
    ESPL_TRY(espl_json_get_str(node, "description", at->text, false, &f->about));
    const cJSON *any = espl_json_member(node, "anyOf"), *one = espl_json_member(node, "oneOf");
    if (any || one) {
        schema_place inside = place_inside(at, any ? "anyOf" : "oneOf");
        ESPL_TRY(schema_check_keys(node, at, any ? "|anyOf|" : "|oneOf|"));
        return schema_read_alternatives(s, any ? any : one, &inside, depth, f);
    }
    if (espl_json_member(node, "enum") || espl_json_member(node, "const")) return schema_read_choice(s, node, at, f);
    ESPL_TRY(espl_json_get_str(node, "type", at->text, true, &type));
    if (strcmp(type, "string") == 0) return schema_read_text(node, at, f);
    if (strcmp(type, "number") == 0) return schema_read_number(node, at, false, f);
    if (strcmp(type, "integer") == 0) return schema_read_number(node, at, true, f);
    if (strcmp(type, "array") == 0) return schema_read_array(s, node, at, depth, f);
    if (strcmp(type, "object") == 0) return schema_read_object(s, node, at, depth, f);
    if (strcmp(type, "boolean") != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.type is \"%.64s\", which is not supported", at->text, type);
    f->kind = ESPL_FORM_BOOLEAN;
    return schema_check_keys(node, at, "||");
}

espl_status espl_form_schema_parse(const char *json, int64_t len, const char *name, espl_form_schema *out) {
    schema_place at;
    *out = (espl_form_schema){0};
    ESPL_TRY(espl_json_parse(json, len, name, &out->document));
    snprintf(at.text, sizeof at.text, "%.100s: ", name);
    ESPL_TRY(schema_read(out, out->document, &at, 1, &out->form));
    if (espl_form_check(out->form) == ESPL_OK) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: %s", name, espl_base_error_text());
}

void espl_form_schema_free(espl_form_schema *s) {
    for (int64_t i = 0; i < s->n; i++) espl_mem_free(&s->pieces[i]);
    espl_mem_free(&s->pieces);
    espl_json_free(&s->document);
    *s = (espl_form_schema){0};
}
