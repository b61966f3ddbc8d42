/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON: parsing with cJSON, and typed members with error messages that name file and key. Writing is
 * base/json_writer.h. All functions are Local.
 */
#ifndef ESPALIER_BASE_JSON_H
#define ESPALIER_BASE_JSON_H

#include "espalier/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct cJSON;

/* Parses text[0..len). `name` appears in messages. Anything but white space after the value is an error; cJSON refuses
 * nesting deeper than 1000, and more than eight million values are refused before it sees them. ESPL_FORMAT. Owned by
 * the caller: espl_json_free. */
espl_status espl_json_parse(const char *text, int64_t len, const char *name, struct cJSON **out);
/* Reads and parses a file of at most max_bytes. ESPL_IO, ESPL_FORMAT. */
espl_status espl_json_read(const char *path, int64_t max_bytes, struct cJSON **out);
void espl_json_free(struct cJSON **doc);

/* Typed members of object `obj`. `where` names file and position for messages ("config.json: rope_scaling").
 *
 * A member that is missing or null: ESPL_FORMAT naming the key if `required`, else ESPL_OK and *out keeps its value
 * (the default). A wrong type, a fraction where an integer is expected, or a value outside [lo, hi]: ESPL_FORMAT.
 * Strings are borrowed from the document. */
espl_status espl_json_get_i64(const struct cJSON *obj, const char *key, const char *where, bool required, int64_t lo,
                              int64_t hi, int64_t *out);
espl_status espl_json_get_f64(const struct cJSON *obj, const char *key, const char *where, bool required, double lo,
                              double hi, double *out);
espl_status espl_json_get_bool(const struct cJSON *obj, const char *key, const char *where, bool required, bool *out);
espl_status espl_json_get_str(const struct cJSON *obj, const char *key, const char *where, bool required,
                              const char **out);
/* The member of that name, or NULL if it is missing or null. Borrowed. */
const struct cJSON *espl_json_member(const struct cJSON *obj, const char *key);

#endif
