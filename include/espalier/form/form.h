/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms: a description of the JSON that a language model's reply must be. One description gives the JSON schema for
 * servers that constrain their decoding, and the automaton (form/automaton.h) that constrains ours. All functions are
 * Local.
 *
 * A form is plain data that the caller builds from the bottom up; everything it points to is borrowed. Several places
 * may share one form.
 *
 *     const espl_form step = {.kind = ESPL_FORM_NUMBER, .hi = 0.1, .decimals = 3};
 *     const espl_form_member linears[] = {{"layers.0.mlp.up_proj", &step}, {"layers.1.mlp.up_proj", &step}};
 *     const espl_form plan = {.kind = ESPL_FORM_MAP, .members = linears, .n_members = 2, .min = 1, .max = 2};
 *     const espl_form text = {.kind = ESPL_FORM_TEXT, .max = 200, .about = "why these linears"};
 *     const espl_form_member parts[] = {{"rationale", &text}, {"prune", &plan}};
 *     const espl_form reply = {.kind = ESPL_FORM_OBJECT, .members = parts, .n_members = 2};
 */
#ifndef ESPALIER_FORM_H
#define ESPALIER_FORM_H

#include "espalier/base/json_writer.h"

#include <stdint.h>

typedef enum espl_form_kind {
    ESPL_FORM_TEXT,     /* a string of at most `max` bytes of UTF-8 */
    ESPL_FORM_CHOICE,   /* one of the strings `names` */
    ESPL_FORM_NUMBER,   /* from lo to hi, with at most `decimals` digits behind the point; 0: an integer */
    ESPL_FORM_BOOLEAN,  /* true or false */
    ESPL_FORM_OBJECT,   /* all of `members`, in this order */
    ESPL_FORM_MAP,      /* min to max of `members`, in any order, each at most once */
    ESPL_FORM_ARRAY,    /* min to max times `element` */
    ESPL_FORM_VARIANTS, /* one of the objects in `members`. The first member of each has the same name, and is a CHOICE
                           of one string, by which it is told from the others */
    ESPL_FORM_EITHER    /* one of the values in `members`, which begin with different bytes: a number or a string */
} espl_form_kind;

typedef struct espl_form espl_form;

typedef struct espl_form_member {
    const char *name; /* unused in VARIANTS and EITHER */
    const espl_form *form;
} espl_form_member;

struct espl_form {
    espl_form_kind kind;
    int decimals;
    const char *about; /* for whoever fills it in, NULL: none; the schema's "description" */
    const char *const *names;
    int64_t n_names;
    const espl_form_member *members;
    int64_t n_members;
    const espl_form *element;
    int64_t min, max;
    double lo, hi;
};

/* Bounds of a form; espl_form_check refuses what exceeds them. */
enum {
    ESPL_FORM_DEPTH = 8,       /* values inside values */
    ESPL_FORM_NAMES = 60000,   /* strings of a CHOICE, members of an OBJECT or MAP, elements of an ARRAY */
    ESPL_FORM_ENTRIES = 256,   /* entries of the MAPs that may be open at once */
    ESPL_FORM_BYTES = 1 << 20, /* of a TEXT */
    ESPL_FORM_DECIMALS = 9     /* of a NUMBER; |lo| and |hi| are at most 1e15 / 10^decimals */
};

/* Can a reply be of this form, and told apart byte by byte? ESPL_INTERNAL saying what is wrong with it: a member
 * without a form, names that are equal or not UTF-8, bounds that no value meets, alternatives that begin alike, or a
 * bound above. */
espl_status espl_form_check(const espl_form *f);

/* Writes the form, which must pass espl_form_check, as a JSON schema (draft 2020-12) with the keywords that servers
 * commonly support: type, enum, properties, required, additionalProperties, items, anyOf, and the bounds minimum,
 * maximum, maxLength, minItems, maxItems, minProperties and maxProperties. Every reply that the automaton accepts is
 * valid for it; it accepts more: JSON Schema has no order of members, counts characters instead of bytes, and
 * "multipleOf" is left out because servers refuse it or compute it in binary, where 0.07 is no multiple of 0.01.
 * `key` as in the JSON writer. A form nested d deep opens at most 2 d + 2 of the writer's levels. */
void espl_form_put_schema(espl_json_writer *w, const char *key, const espl_form *f);

#endif
