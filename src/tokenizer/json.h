/* SPDX-License-Identifier: Apache-2.0 */
/* Reading tokenizer.json: places for messages, strings that may hold NUL, and members checked by key. */
#ifndef ESPL_TOKENIZER_JSON_H
#define ESPL_TOKENIZER_JSON_H

#include "espalier/base/status.h"
#include "text.h"

struct cJSON;

enum {
    ESPL_TOK_MAX_FILE = 100 << 20,   /* bytes of tokenizer.json; the largest known ones have about 35 MB */
    ESPL_TOK_MAX_ID = (1 << 22) - 1, /* 16 times the largest known vocabulary; tables are indexed by id */
    ESPL_TOK_WHERE_BYTES = 384
};

/* Where in which file, for messages: "tokenizer.json: pre_tokenizer[2].pattern". */
typedef struct espl_where {
    char text[ESPL_TOK_WHERE_BYTES];
} espl_where;
/* ("tokenizer.json", ": ", "model") or ("tokenizer.json: model", ".", "vocab"). Of a very long path the end is lost,
 * not the component behind it. */
espl_where espl_tok_where(const char *parent, const char *separator, const char *name);
espl_where espl_tok_where_item(const espl_where *parent, int64_t index);

/* Parses a tokenizer.json. \u0000 inside strings, which cJSON cannot carry, arrives as the bytes C0 80; the three
 * functions below turn it back into NUL. Owned by the caller: espl_json_free. */
espl_status espl_tok_json_parse(const char *json, int64_t len, const char *name, struct cJSON **out);
/* Copies the bytes of a JSON string to dst, which has room for strlen(s); returns how many. */
int64_t espl_tok_text(const char *s, char *dst);
/* An owned copy of a JSON string. */
espl_status espl_tok_text_dup(const char *s, espl_bytes *out);
/* An owned copy of a required member. */
espl_status espl_tok_get_text(const struct cJSON *obj, const char *key, const espl_where *where, espl_bytes *out);

/* obj must be an object with no key but those in `keys` ("a|b|c"). ESPL_UNSUPPORTED names the first other one: an
 * option that this room does not know could change every id. */
espl_status espl_tok_check_keys(const struct cJSON *obj, const espl_where *where, const char *keys);
/* A required member that is an array. */
espl_status espl_tok_get_array(const struct cJSON *obj, const char *key, const espl_where *where,
                               const struct cJSON **out);
/* A token id: an integer from 0 to ESPL_TOK_MAX_ID. */
bool espl_tok_get_id(const struct cJSON *item, int64_t *out);

#endif
