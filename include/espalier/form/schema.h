/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms from a file: the JSON schemas that espl_form_put_schema writes, read back, and a little more. All functions are
 * Local.
 *
 * Read are: type (one of them), enum and const of strings, minLength 0, maxLength (4096 if it is missing), minimum and
 * maximum (required; numbers have up to 6 decimals), properties with required (all of them, or none and then
 * minProperties and maxProperties), additionalProperties: false, items with minItems and maxItems (required), anyOf and
 * oneOf. description is kept; title, $schema and $id are passed over. Everything else is refused by name, because a
 * reply could then break it.
 */
#ifndef ESPALIER_FORM_SCHEMA_H
#define ESPALIER_FORM_SCHEMA_H

#include "espalier/form/form.h"

struct cJSON;

/* A form and what it points to. Zero-initialise; free with espl_form_schema_free, also after a failure. */
typedef struct espl_form_schema {
    const espl_form *form;
    struct cJSON *document; /* strings are borrowed from it */
    void **pieces;          /* [n] allocations */
    int64_t n;
} espl_form_schema;

/* `name` stands for the file in messages. ESPL_FORMAT, ESPL_UNSUPPORTED and errors of espl_form_check as ESPL_FORMAT,
 * naming the place; ESPL_NOMEM. */
espl_status espl_form_schema_parse(const char *json, int64_t len, const char *name, espl_form_schema *out);
void espl_form_schema_free(espl_form_schema *s);

#endif
