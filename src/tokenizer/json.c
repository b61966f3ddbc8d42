#include "internal.h"

#include <cjson/cJSON.h>
#include <string.h>

static espl_where where_format(const char *a, const char *b, const char *c) {
    espl_where w;
    /* A very long path loses its end, not its component. */
    snprintf(w.text, sizeof w.text, "%.*s%s%s", (int)(ESPL_TOK_WHERE - strlen(b) - strlen(c) - 1), a, b, c);
    return w;
}

espl_where espl_tok_where(const char *file, const char *component) { return where_format(file, ": ", component); }

espl_where espl_tok_where_item(const espl_where *parent, int64_t index) {
    char item[32];
    snprintf(item, sizeof item, "[%lld]", (long long)index);
    return where_format(parent->text, "", item);
}

espl_where espl_tok_where_key(const espl_where *parent, const char *key) {
    return where_format(parent->text, ".", key);
}

/* Copies JSON text, "\u0000" rewritten as the two bytes C0 80, which no valid UTF-8 text holds. */
static void put_without_nul_escapes(espl_str *out, const char *json, int64_t len) {
    int64_t from = 0;
    for (int64_t i = 0; i + 1 < len;) {
        if (json[i] != '\\') {
            i++;
        } else if (i + 6 <= len && memcmp(json + i, "\\u0000", 6) == 0) {
            espl_str_put(out, json + from, i - from);
            espl_str_put(out, "\xC0\x80", 2);
            from = i += 6;
        } else {
            i += 2;
        }
    }
    espl_str_put(out, json + from, len - from);
}

espl_status espl_tok_json_parse(const char *json, int64_t len, const char *name, struct cJSON **out) {
    *out = NULL;
    if (memchr(json, 0, (size_t)len)) return ESPL_FAIL(ESPL_FORMAT, "%s: holds a NUL byte, not JSON text", name);
    int64_t valid = espl_tok_valid_prefix(json, len);
    if (valid < len) return ESPL_FAIL(ESPL_FORMAT, "%s: not valid UTF-8 at byte %lld", name, (long long)valid);
    if (!memmem(json, (size_t)len, "\\u0000", 6)) return espl_json_parse(json, len, name, out);
    espl_str s = {0};
    put_without_nul_escapes(&s, json, len);
    espl_status st = espl_str_status(&s);
    if (st == ESPL_OK) st = espl_json_parse(s.data, s.len, name, out);
    espl_str_free(&s);
    return st;
}

int64_t espl_tok_text(const char *s, char *dst) {
    size_t n = strlen(s);
    if (!strchr(s, 0xC0)) {
        memcpy(dst, s, n);
        return (int64_t)n;
    }
    int64_t out = 0;
    for (size_t i = 0; i < n; i++) {
        bool nul = (unsigned char)s[i] == 0xC0;
        dst[out++] = nul ? '\0' : s[i];
        i += nul;
    }
    return out;
}

espl_status espl_tok_text_dup(const char *s, espl_bytes *out) {
    *out = (espl_bytes){0};
    ESPL_TRY(espl_mem_alloc(&out->p, (int64_t)strlen(s) + 1, 1, "tokenizer text"));
    out->n = espl_tok_text(s, out->p);
    return ESPL_OK;
}

void espl_tok_bytes_free(espl_bytes *b) {
    espl_mem_free(&b->p);
    b->n = 0;
}

static bool key_listed(const char *keys, const char *key) {
    size_t n = strlen(key);
    for (const char *k = keys; n > 0 && (k = strstr(k, key)); k++)
        if ((k == keys || k[-1] == '|') && (k[n] == '|' || k[n] == '\0')) return true;
    return false;
}

espl_status espl_tok_check_keys(const struct cJSON *obj, const espl_where *where, const char *keys) {
    if (!cJSON_IsObject(obj)) return ESPL_FAIL(ESPL_FORMAT, "%s must be an object", where->text);
    for (const cJSON *i = obj->child; i; i = i->next)
        if (!key_listed(keys, i->string))
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s.%.64s is not supported", where->text, i->string);
    return ESPL_OK;
}

espl_status espl_tok_get_array(const struct cJSON *obj, const char *key, const espl_where *where, bool required,
                               const struct cJSON **out) {
    *out = espl_json_member(obj, key);
    if (!*out && !required) return ESPL_OK;
    if (!cJSON_IsArray(*out)) return ESPL_FAIL(ESPL_FORMAT, "%s.%s must be an array", where->text, key);
    return ESPL_OK;
}

espl_status espl_tok_get_text(const struct cJSON *obj, const char *key, const espl_where *where, espl_bytes *out) {
    const char *s = NULL;
    ESPL_TRY(espl_json_get_str(obj, key, where->text, true, &s));
    return espl_tok_text_dup(s, out);
}
