/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading tokenizer.json with cJSON, which ends every string at its first NUL. Vocabularies may have NUL as a token, so
 * it travels through cJSON in disguise.
 */
#include "json.h"

#include "espalier/base/json.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

espl_where espl_tok_where(const char *parent, const char *separator, const char *name) {
    espl_where w;
    int room = (int)(sizeof w.text - strlen(separator) - strlen(name) - 1);
    snprintf(w.text, sizeof w.text, "%.*s%s%s", room, parent, separator, name);
    return w;
}

espl_where espl_tok_where_item(const espl_where *parent, int64_t index) {
    char item[32];
    snprintf(item, sizeof item, "[%" PRId64 "]", index);
    return espl_tok_where(parent->text, "", item);
}

/* cJSON takes any bytes; a text that is not UTF-8 is refused here, and later code need not check strings again. */
espl_status espl_tok_json_parse(const char *json, int64_t len, const char *name, struct cJSON **out) {
    *out = NULL;
    if (memchr(json, 0, (size_t)len)) return ESPL_FAIL(ESPL_FORMAT, "%s: holds a NUL byte, not JSON text", name);
    int64_t valid = espl_tok_valid_prefix(json, len);
    if (valid < len) return ESPL_FAIL(ESPL_FORMAT, "%s: not valid UTF-8 at byte %" PRId64, name, valid);
    if (!memmem(json, (size_t)len, "\\u0000", 6)) return espl_json_parse(json, len, name, out);

    /* Rewrite \u0000 as C0 80. No valid UTF-8 holds these bytes, so they cannot be mistaken for anything else. Other
     * escapes are skipped whole: in "\\u0000" the backslash is escaped, and no NUL follows. */
    espl_str s = {0};
    int64_t from = 0;
    for (int64_t i = 0; i + 1 < len;) {
        if (json[i] != '\\') {
            i++;
        } else if (i + 6 <= len && memcmp(json + i, "\\u0000", 6) == 0) {
            espl_str_put(&s, json + from, i - from);
            espl_str_puts(&s, "\xC0\x80");
            from = i += 6;
        } else {
            i += 2;
        }
    }
    espl_str_put(&s, json + from, len - from);
    espl_status st = espl_str_status(&s);
    if (st == ESPL_OK) st = espl_json_parse(s.data, s.len, name, out);
    espl_str_free(&s);
    return st;
}

/* Decoded text is never longer than the JSON string: two bytes become one. */
int64_t espl_tok_text(const char *s, char *dst) {
    int64_t out = 0;
    if (!strchr(s, 0xC0)) { /* nearly always: a file has 100,000s of strings */
        out = (int64_t)strlen(s);
        memcpy(dst, s, (size_t)out);
        return out;
    }
    for (; *s; s++) {
        bool nul = (unsigned char)*s == 0xC0;
        dst[out++] = nul ? '\0' : *s;
        s += nul; /* the 80 behind it */
    }
    return out;
}

espl_status espl_tok_text_dup(const char *s, espl_bytes *out) {
    *out = (espl_bytes){0};
    ESPL_TRY(espl_mem_alloc(&out->p, (int64_t)strlen(s) + 1, 1, "tokenizer text"));
    out->n = espl_tok_text(s, out->p);
    return ESPL_OK;
}

espl_status espl_tok_get_text(const struct cJSON *obj, const char *key, const espl_where *where, espl_bytes *out) {
    const char *s = NULL;
    ESPL_TRY(espl_json_get_str(obj, key, where->text, true, &s));
    return espl_tok_text_dup(s, out);
}

/* `keys` is one string, because the tables of components are easier to read so; files have few keys outside vocab. */
espl_status espl_tok_check_keys(const struct cJSON *obj, const espl_where *where, const char *keys) {
    if (!cJSON_IsObject(obj)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    for (const cJSON *i = obj->child; i; i = i->next) {
        size_t n = strlen(i->string);
        bool listed = false;
        /* A hit inside a longer key ("id" in "type_id") does not count, hence the look at both sides. */
        for (const char *k = keys; !listed && n > 0 && (k = strstr(k, i->string)); k++)
            listed = (k == keys || k[-1] == '|') && (k[n] == '|' || k[n] == '\0');
        if (!listed) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.%.64s is not supported", where->text, i->string);
    }
    return ESPL_OK;
}

espl_status espl_tok_get_array(const struct cJSON *obj, const char *key, const espl_where *where,
                               const struct cJSON **out) {
    *out = espl_json_member(obj, key);
    if (!cJSON_IsArray(*out)) return ESPL_FAIL(ESPL_FORMAT, "%s.%s must be an array", where->text, key);
    return ESPL_OK;
}

/* Ids index tables, so their size is bounded before any is allocated. */
bool espl_tok_get_id(const struct cJSON *item, int64_t *out) {
    double id = item->valuedouble;
    if (!cJSON_IsNumber(item) || !(id >= 0 && id <= ESPL_TOK_MAX_ID)) return false; /* NaN included */
    *out = (int64_t)id;
    return (double)*out == id;
}
