/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms: whether they make sense, and their JSON schema. Layers of the room, each using those before it: numbers;
 * form; compile; automaton, distance.
 */
#include "espalier/form/form.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "numbers.h"

/* ------------------------------------------------------------------ checks */

/* JSON could spell any bytes, but a name that is not UTF-8 would read back as another one. */
static espl_status name_check(espl_map *known, const char *name) {
    int64_t len = name ? (int64_t)strlen(name) : 0;
    if (!name) return ESPL_FAIL(ESPL_INTERNAL, "form: a name is missing");
    for (int64_t i = 0; i < len;) {
        int n = espl_utf8_length(name + i, len - i);
        if (n == 0 || (uint8_t)name[i] < 0x20)
            return ESPL_FAIL(ESPL_INTERNAL, "form: the name \"%.64s\" is not printable UTF-8", name);
        i += n;
    }
    if (espl_map_get(known, name, len, NULL)) return ESPL_FAIL(ESPL_INTERNAL, "form: \"%.64s\" appears twice", name);
    return espl_map_put(known, name, len, 0);
}

/* The names of a CHOICE, or of the members of an OBJECT or MAP. */
static espl_status names_check(const espl_form *f) {
    bool choice = f->kind == ESPL_FORM_CHOICE;
    int64_t n = choice ? f->n_names : f->n_members;
    espl_map *known;
    if (n < 1 || n > ESPL_FORM_NAMES)
        return ESPL_FAIL(ESPL_INTERNAL, "form: %" PRId64 " names, expected 1 to %d", n, ESPL_FORM_NAMES);
    ESPL_TRY(espl_map_create(&known, n));
    espl_status st = ESPL_OK;
    for (int64_t i = 0; st == ESPL_OK && i < n; i++) st = name_check(known, choice ? f->names[i] : f->members[i].name);
    espl_map_destroy(&known);
    return st;
}

static espl_status count_check(const espl_form *f, int64_t limit) {
    if (f->min >= 0 && f->min <= f->max && f->max <= limit) return ESPL_OK;
    return ESPL_FAIL(ESPL_INTERNAL, "form: %" PRId64 " to %" PRId64 " entries, expected a range within 0 to %" PRId64,
                     f->min, f->max, limit);
}

/* What a value of this form begins with: a string, a number, true or false, an object, an array. 0: several. */
static char first_byte(const espl_form *f) {
    switch (f->kind) {
    case ESPL_FORM_TEXT:
    case ESPL_FORM_CHOICE:
        return '"';
    case ESPL_FORM_NUMBER:
        return '0';
    case ESPL_FORM_BOOLEAN:
        return 't';
    case ESPL_FORM_OBJECT:
    case ESPL_FORM_MAP:
    case ESPL_FORM_VARIANTS:
        return '{';
    case ESPL_FORM_ARRAY:
        return '[';
    case ESPL_FORM_EITHER:
        break;
    }
    return 0;
}

static espl_status either_check(const espl_form *f) {
    char seen[8] = {0};
    if (f->n_members < 1) return ESPL_FAIL(ESPL_INTERNAL, "form: a choice between no values");
    for (int64_t i = 0; i < f->n_members; i++) {
        char first = first_byte(f->members[i].form);
        if (!first || strchr(seen, first))
            return ESPL_FAIL(ESPL_INTERNAL, "form: two alternatives cannot be told apart by their first byte");
        seen[strlen(seen)] = first; /* there are five */
    }
    return ESPL_OK;
}

static espl_status variants_check(const espl_form *f) {
    const char *key = NULL;
    espl_map *known;
    espl_status st = ESPL_OK;
    if (f->n_members < 1 || f->n_members > ESPL_FORM_NAMES)
        return ESPL_FAIL(ESPL_INTERNAL, "form: %" PRId64 " variants, expected 1 to %d", f->n_members, ESPL_FORM_NAMES);
    ESPL_TRY(espl_map_create(&known, f->n_members));
    for (int64_t i = 0; st == ESPL_OK && i < f->n_members; i++) {
        const espl_form *object = f->members[i].form;
        const espl_form_member *tag = object->kind == ESPL_FORM_OBJECT && object->n_members ? object->members : NULL;
        if (!tag || !tag->name || tag->form->kind != ESPL_FORM_CHOICE || tag->form->n_names != 1)
            st = ESPL_FAIL(ESPL_INTERNAL, "form: a variant must be an object that begins with a string of its own");
        else if (key && strcmp(key, tag->name) != 0)
            st = ESPL_FAIL(ESPL_INTERNAL, "form: variants begin with \"%.64s\" and \"%.64s\", expected the same", key,
                           tag->name);
        else
            st = name_check(known, tag->form->names[0]);
        if (st == ESPL_OK) key = tag->name;
    }
    espl_map_destroy(&known);
    return st;
}

static espl_status form_check_at(const espl_form *f, int depth, int64_t entries) {
    bool members = f && f->kind >= ESPL_FORM_OBJECT && f->kind != ESPL_FORM_ARRAY;
    espl_number_range range;
    if (!f) return ESPL_FAIL(ESPL_INTERNAL, "form: a value has no form");
    if (depth > ESPL_FORM_DEPTH) return ESPL_FAIL(ESPL_INTERNAL, "form: nested deeper than %d", ESPL_FORM_DEPTH);
    /* From the bottom up: what is checked here reads the members of members. */
    if (f->kind == ESPL_FORM_MAP) entries += f->max;
    if (entries > ESPL_FORM_ENTRIES)
        return ESPL_FAIL(ESPL_INTERNAL, "form: %" PRId64 " entries of maps, at most %d", entries, ESPL_FORM_ENTRIES);
    for (int64_t i = 0; members && i < f->n_members; i++)
        if (i == 0 || f->members[i].form != f->members[i - 1].form) /* a thousand linears share one form */
            ESPL_TRY(form_check_at(f->members[i].form, depth + 1, entries));
    switch (f->kind) {
    case ESPL_FORM_TEXT:
        return count_check(&(espl_form){.max = f->max}, ESPL_FORM_BYTES);
    case ESPL_FORM_NUMBER:
        return espl_number_range_of(f, &range);
    case ESPL_FORM_BOOLEAN:
        return ESPL_OK;
    case ESPL_FORM_CHOICE:
    case ESPL_FORM_OBJECT:
        return names_check(f);
    case ESPL_FORM_MAP:
        ESPL_TRY(names_check(f));
        return count_check(f, f->n_members);
    case ESPL_FORM_ARRAY:
        ESPL_TRY(count_check(f, ESPL_FORM_NAMES));
        return form_check_at(f->element, depth + 1, entries);
    case ESPL_FORM_VARIANTS:
        return variants_check(f);
    case ESPL_FORM_EITHER:
        return either_check(f);
    }
    return ESPL_FAIL(ESPL_INTERNAL, "form: unknown kind %d", (int)f->kind);
}

espl_status espl_form_check(const espl_form *f) { return form_check_at(f, 1, 0); }

/* ------------------------------------------------------------------ schema */

static const char *schema_type(const espl_form *f) {
    switch (first_byte(f)) {
    case '"':
        return "string";
    case '0':
        return f->decimals > 0 ? "number" : "integer";
    case 't':
        return "boolean";
    case '[':
        return "array";
    default:
        return "object";
    }
}

static void schema_put_members(espl_json_writer *w, const espl_form *f) {
    espl_json_open_object(w, "properties", ESPL_JSON_COMPACT);
    for (int64_t i = 0; i < f->n_members; i++) espl_form_put_schema(w, f->members[i].name, f->members[i].form);
    espl_json_close(w);
    if (f->kind == ESPL_FORM_OBJECT) {
        espl_json_open_array(w, "required", ESPL_JSON_COMPACT);
        for (int64_t i = 0; i < f->n_members; i++) espl_json_put_text(w, NULL, f->members[i].name);
        espl_json_close(w);
    } else {
        espl_json_put_i64(w, "minProperties", f->min);
        espl_json_put_i64(w, "maxProperties", f->max);
    }
    espl_json_put_bool(w, "additionalProperties", false);
}

void espl_form_put_schema(espl_json_writer *w, const char *key, const espl_form *f) {
    bool alternatives = f->kind == ESPL_FORM_VARIANTS || f->kind == ESPL_FORM_EITHER;
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    if (f->about) espl_json_put_text(w, "description", f->about);
    if (!alternatives) espl_json_put_text(w, "type", schema_type(f));
    switch (f->kind) {
    case ESPL_FORM_TEXT:
        espl_json_put_i64(w, "maxLength", f->max);
        break;
    case ESPL_FORM_CHOICE:
        espl_json_open_array(w, "enum", ESPL_JSON_COMPACT);
        for (int64_t i = 0; i < f->n_names; i++) espl_json_put_text(w, NULL, f->names[i]);
        espl_json_close(w);
        break;
    case ESPL_FORM_NUMBER:
        espl_json_put_shortest(w, "minimum", f->lo);
        espl_json_put_shortest(w, "maximum", f->hi);
        break;
    case ESPL_FORM_BOOLEAN:
        break;
    case ESPL_FORM_OBJECT:
    case ESPL_FORM_MAP:
        schema_put_members(w, f);
        break;
    case ESPL_FORM_ARRAY:
        espl_form_put_schema(w, "items", f->element);
        espl_json_put_i64(w, "minItems", f->min);
        espl_json_put_i64(w, "maxItems", f->max);
        break;
    case ESPL_FORM_VARIANTS:
    case ESPL_FORM_EITHER:
        espl_json_open_array(w, "anyOf", ESPL_JSON_COMPACT);
        for (int64_t i = 0; i < f->n_members; i++) espl_form_put_schema(w, NULL, f->members[i].form);
        espl_json_close(w);
        break;
    }
    espl_json_close(w);
}
