/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading JSON. Documents are hostile input (downloads, replies of a language model): every typed access checks the
 * type and the range, and its message names the file and the key.
 */
#include "espalier/base/json.h"

#include "espalier/base/absent.h"
#include "espalier/base/file.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

/* cJSON takes 64 bytes for a value, so two bytes of a file take 32 times as much memory, and minutes. The largest known
 * documents, tokenizers with 500,000 merges, have two million values. */
enum { JSON_VALUES_MAX = 1 << 23 };

/* At most so many values, beside the first, are in the text: each follows a comma or opens an array or object, which
 * may be nested only so deep. Commas inside of strings count, too. */
static int64_t json_count_commas(const char *text, int64_t len) {
    int64_t n = 0;
    for (const char *p = text, *end = text + len; p < end && (p = memchr(p, ',', (size_t)(end - p))) != NULL; p++) n++;
    return n;
}

espl_status espl_json_parse(const char *text, int64_t len, const char *name, struct cJSON **out) {
    const char *end = NULL;
    *out = NULL;
    if (len > JSON_VALUES_MAX && json_count_commas(text, len) > JSON_VALUES_MAX)
        return ESPL_FAIL(ESPL_FORMAT, "%s: more than %d values, which no model or data set needs", name,
                         JSON_VALUES_MAX);
    cJSON *doc = cJSON_ParseWithLengthOpts(text, (size_t)len, &end, 0);
    if (!doc && espl_file_is_lfs_pointer(text, len)) return espl_file_fail_lfs_pointer(name);
    if (!doc)
        return ESPL_FAIL(ESPL_FORMAT, "%s: not valid JSON at byte %" PRId64, name, end ? (int64_t)(end - text) : 0);
    /* cJSON stops after the first value; JSON's white space is these four. */
    while (end < text + len && (*end == ' ' || *end == '\t' || *end == '\n' || *end == '\r')) end++;
    if (end < text + len) {
        cJSON_Delete(doc);
        return ESPL_FAIL(ESPL_FORMAT, "%s: unexpected text after the JSON value at byte %" PRId64, name,
                         (int64_t)(end - text));
    }
    *out = doc;
    return ESPL_OK;
}

espl_status espl_json_read(const char *path, int64_t max_bytes, struct cJSON **out) {
    char *text;
    int64_t len;
    *out = NULL;
    ESPL_TRY(espl_file_read_regular(path, max_bytes, &text, &len));
    espl_status st = espl_json_parse(text, len, path, out);
    espl_mem_free(&text);
    return st;
}

void espl_json_free(struct cJSON **doc) {
    if (!doc) return;
    cJSON_Delete(*doc);
    *doc = NULL;
}

/* null counts as missing: writers of config.json use both for "not set". */
const struct cJSON *espl_json_member(const struct cJSON *obj, const char *key) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(obj, key);
    return item && !cJSON_IsNull(item) ? item : NULL;
}

/* *item = the member, or NULL if it is absent and optional. */
static espl_status json_find(const cJSON *obj, const char *key, const char *where, bool required, const cJSON **item) {
    *item = espl_json_member(obj, key);
    if (!*item && required) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is missing", where, key);
    return ESPL_OK;
}

espl_status espl_json_get_i64(const struct cJSON *obj, const char *key, const char *where, bool required, int64_t lo,
                              int64_t hi, int64_t *out) {
    const cJSON *item;
    ESPL_TRY(json_find(obj, key, where, required, &item));
    if (!item) return ESPL_OK;
    double v = item->valuedouble; /* cJSON stores doubles: integers are exact up to 2^53 */
    if (!cJSON_IsNumber(item) || v != floor(v) || fabs(v) > 0x1p53)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be an integer", where, key);
    if (v < (double)lo || v > (double)hi)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is %.0f, expected %" PRId64 " to %" PRId64, where, key, v, lo, hi);
    *out = (int64_t)v;
    return ESPL_OK;
}

espl_status espl_json_get_f64(const struct cJSON *obj, const char *key, const char *where, bool required, double lo,
                              double hi, double *out) {
    const cJSON *item;
    ESPL_TRY(json_find(obj, key, where, required, &item));
    if (!item) return ESPL_OK;
    if (!cJSON_IsNumber(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be a number", where, key);
    if (!(item->valuedouble >= lo && item->valuedouble <= hi)) /* negated: NaN is refused too */
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is %g, expected %g to %g", where, key, item->valuedouble, lo, hi);
    *out = item->valuedouble;
    return ESPL_OK;
}

espl_status espl_json_get_bool(const struct cJSON *obj, const char *key, const char *where, bool required, bool *out) {
    const cJSON *item;
    ESPL_TRY(json_find(obj, key, where, required, &item));
    if (!item) return ESPL_OK;
    if (!cJSON_IsBool(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be true or false", where, key);
    *out = cJSON_IsTrue(item);
    return ESPL_OK;
}

espl_status espl_json_get_str(const struct cJSON *obj, const char *key, const char *where, bool required,
                              const char **out) {
    const cJSON *item;
    ESPL_TRY(json_find(obj, key, where, required, &item));
    if (!item) return ESPL_OK;
    if (!cJSON_IsString(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be a string", where, key);
    *out = item->valuestring;
    return ESPL_OK;
}
