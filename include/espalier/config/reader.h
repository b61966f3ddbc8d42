/* Private to the room: reading JSON with comments and trailing commas, with messages that name lines. All Local. */
#ifndef ESPALIER_CONFIG_READER_H
#define ESPALIER_CONFIG_READER_H

#include <cjson/cJSON.h>

#include "espalier/base.h"

typedef struct espl_reader {
    const char *name, *text; /* text [len] */
    int64_t len, at;
    bool lines; /* messages name lines: a file, not --set */
} espl_reader;

/* -------------------------------------------------------------- messages */

/* The line of byte `at`, from 1. */
int64_t espl_reader_line(const espl_reader *r, int64_t at);
/* ESPL_CONFIG with "name:line: " and the message, which is freed. */
espl_status espl_reader_fail(const espl_reader *r, int64_t at, espl_str *message);
espl_status espl_reader_fail_with(const espl_reader *r, int64_t at, const char *text);
/* "expected ..., found ..." with what stands at r->at. */
espl_status espl_reader_fail_expected(const espl_reader *r, const char *expected);
/* Foreign text for a message: bounded, without control characters. */
void espl_reader_put_shown(espl_str *s, const char *text, int64_t len);

/* ---------------------------------------------------------------- tokens */

/* Does the word stand at r->at? */
bool espl_reader_comes(const espl_reader *r, const char *word);
/* White space and comments. */
espl_status espl_reader_skip_blank(espl_reader *r);
/* Skips blanks, and takes the character c, if it comes. */
espl_status espl_reader_take_if(espl_reader *r, char c, bool *taken);
espl_status espl_reader_take(espl_reader *r, char c, const char *expected);
/* The single value at r->at, decoded; owned by the caller: cJSON_Delete. `expected` words the error. */
espl_status espl_reader_scalar(espl_reader *r, const char *expected, cJSON **out);

/* ----------------------------------------------------------------- frame */

/* Takes the value of a member, whose key began at `at`. */
typedef espl_status (*espl_member_reader)(espl_reader *r, const char *key, int64_t at, void *ctx);
/* The members of an object, { ... }, in turn. `expected` words the error where there is no object. */
espl_status espl_reader_members(espl_reader *r, const char *expected, espl_member_reader member, void *ctx);
/* A whole text: an object, perhaps behind a byte order mark, and blanks. */
espl_status espl_reader_document(espl_reader *r, espl_member_reader member, void *ctx);

#endif
