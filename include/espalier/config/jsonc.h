/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON with comments: reads objects member by member, so that every message can name its line. Comments run from // to
 * the end of the line or between the C marks; a comma may stand before a closing brace. All functions are Local; those
 * that fail return ESPL_CONFIG unless they say otherwise.
 */
#ifndef ESPALIER_CONFIG_JSONC_H
#define ESPALIER_CONFIG_JSONC_H

#include "espalier/base.h"

/* A text being read. `at` is the next byte; all of it is borrowed. */
typedef struct espl_jsonc {
    const char *name; /* for messages: "config.json", "--set" */
    const char *text; /* [len] */
    int64_t len, at;
    bool lines; /* messages name lines: true for files, false for a --set argument */
} espl_jsonc;

/* ---------------------------------------------------------------- errors */

/* The line of byte `at`, from 1. */
int64_t espl_jsonc_line(const espl_jsonc *r, int64_t at);
/* Fails with "name:line: message". Frees *message. */
espl_status espl_jsonc_fail(const espl_jsonc *r, int64_t at, espl_str *message);
/* The same for a fixed message. */
espl_status espl_jsonc_fail_with(const espl_jsonc *r, int64_t at, const char *message);
/* Fails with "expected ..., found ...", where `found` describes the text at r->at. */
espl_status espl_jsonc_fail_expected(const espl_jsonc *r, const char *expected);
/* Appends a piece of the text for a message: shortened, without control characters. */
void espl_jsonc_put_quoted(espl_str *s, const char *text, int64_t len);

/* ---------------------------------------------------------------- tokens */

/* Does `word` stand at r->at? */
bool espl_jsonc_at(const espl_jsonc *r, const char *word);
/* Skips white space and comments. */
espl_status espl_jsonc_skip_blank(espl_jsonc *r);
/* Skips blanks, then the character c if it is next; *taken tells whether it was. */
espl_status espl_jsonc_take_if(espl_jsonc *r, char c, bool *taken);
/* Skips blanks, then the character c; fails with `expected` if it is not next. */
espl_status espl_jsonc_take(espl_jsonc *r, char c, const char *expected);
/* Decodes the string, number, true, false or null at r->at. `expected` words the error if there is something else.
 * *out is owned by the caller: cJSON_Delete. */
espl_status espl_jsonc_scalar(espl_jsonc *r, const char *expected, struct cJSON **out);

/* --------------------------------------------------------------- objects */

/* Reads the value of a member. `at` is where its key begins. */
typedef espl_status (*espl_jsonc_member)(espl_jsonc *r, const char *key, int64_t at, void *context);
/* Calls `member` for each member of the object at r->at. `expected` words the error if there is no object. */
espl_status espl_jsonc_members(espl_jsonc *r, const char *expected, espl_jsonc_member member, void *context);
/* The same for a whole text: one object, with blanks and perhaps a byte order mark around it. */
espl_status espl_jsonc_document(espl_jsonc *r, espl_jsonc_member member, void *context);

#endif
