/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads JSON with comments character by character and leaves only the decoding of single values to cJSON.
 *
 * cJSON has no comments. Stripping them first (cJSON_Minify) would lose line numbers, and cJSON_Minify takes the
 * closing quote of "dir\\" for an escaped one.
 */
#include "espalier/config/jsonc.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

enum { QUOTED_MAX = 48 }; /* bytes of foreign text in a message: one line on a terminal */

/* ---------------------------------------------------------------- errors */

int64_t espl_jsonc_line(const espl_jsonc *r, int64_t at) {
    int64_t line = 1;
    for (int64_t i = 0; i < at && i < r->len; i++) line += r->text[i] == '\n';
    return line;
}

espl_status espl_jsonc_fail(const espl_jsonc *r, int64_t at, espl_str *message) {
    espl_status st = espl_str_status(message);
    if (st == ESPL_OK && r->lines)
        st = ESPL_FAIL(ESPL_CONFIG, "%s:%" PRId64 ": %s", r->name, espl_jsonc_line(r, at), message->data);
    else if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_CONFIG, "%s: %s", r->name, message->data);
    espl_str_free(message);
    return st;
}

espl_status espl_jsonc_fail_with(const espl_jsonc *r, int64_t at, const char *message) {
    espl_str s = {0};
    espl_str_puts(&s, message);
    return espl_jsonc_fail(r, at, &s);
}

/* A file may hold escape sequences that would rewrite the terminal: only printable text is repeated. */
void espl_jsonc_put_quoted(espl_str *s, const char *text, int64_t len) {
    for (int64_t i = 0, n; i < len && i < QUOTED_MAX; i += n) {
        n = espl_utf8_length(text + i, len - i);
        bool printable = n > 0 && (unsigned char)text[i] >= 0x20 && text[i] != 0x7F;
        if (!printable) n = 1;
        espl_str_put(s, printable ? text + i : "?", n);
    }
    if (len > QUOTED_MAX) espl_str_puts(s, "...");
}

static bool jsonc_is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

espl_status espl_jsonc_fail_expected(const espl_jsonc *r, const char *expected) {
    espl_str s = {0};
    espl_str_printf(&s, "expected %s, found ", expected);
    char next = r->at < r->len ? r->text[r->at] : '\0';
    if (r->at >= r->len) {
        espl_str_puts(&s, r->lines ? "the end of the file" : "nothing");
    } else if (next == '{' || next == '[') {
        espl_str_puts(&s, next == '{' ? "an object" : "a list");
    } else { /* the rest of the word or value, without the blanks behind it */
        int64_t end = r->at;
        while (end < r->len && !strchr(",:{}[]\r\n", r->text[end])) end++;
        while (end > r->at && jsonc_is_blank(r->text[end - 1])) end--;
        espl_jsonc_put_quoted(&s, r->text + r->at, espl_max_i64(end - r->at, 1));
    }
    return espl_jsonc_fail(r, r->at, &s);
}

/* ---------------------------------------------------------------- tokens */

bool espl_jsonc_at(const espl_jsonc *r, const char *word) {
    int64_t n = (int64_t)strlen(word);
    return r->len - r->at >= n && memcmp(r->text + r->at, word, (size_t)n) == 0;
}

espl_status espl_jsonc_skip_blank(espl_jsonc *r) {
    while (r->at < r->len) {
        if (jsonc_is_blank(r->text[r->at])) {
            r->at++;
        } else if (espl_jsonc_at(r, "//")) {
            while (r->at < r->len && r->text[r->at] != '\n') r->at++;
        } else if (espl_jsonc_at(r, "/*")) {
            int64_t start = r->at;
            for (r->at += 2; r->at < r->len && !espl_jsonc_at(r, "*/"); r->at++) {
            }
            if (r->at >= r->len) return espl_jsonc_fail_with(r, start, "the comment that begins here has no end");
            r->at += 2;
        } else {
            break;
        }
    }
    return ESPL_OK;
}

espl_status espl_jsonc_take_if(espl_jsonc *r, char c, bool *taken) {
    ESPL_TRY(espl_jsonc_skip_blank(r));
    *taken = r->at < r->len && r->text[r->at] == c;
    r->at += *taken;
    return ESPL_OK;
}

espl_status espl_jsonc_take(espl_jsonc *r, char c, const char *expected) {
    bool taken;
    ESPL_TRY(espl_jsonc_take_if(r, c, &taken));
    return taken ? ESPL_OK : espl_jsonc_fail_expected(r, expected);
}

/* Finds the end of the string at r->at, and refuses what cJSON would take: bytes that are not UTF-8, line breaks, and
 * NULs, which would cut a path short. */
static espl_status jsonc_find_quote(const espl_jsonc *r, int64_t *end) {
    for (int64_t i = r->at + 1, n; i < r->len; i += n) {
        n = espl_utf8_length(r->text + i, r->len - i);
        if (n == 0) return espl_jsonc_fail_with(r, i, "this text is not UTF-8");
        if (r->text[i] == '"') {
            *end = i + 1;
            return ESPL_OK;
        }
        if ((unsigned char)r->text[i] < 0x20) break;
        if (r->text[i] != '\\') continue;
        if (r->len - i >= 6 && memcmp(r->text + i, "\\u0000", 6) == 0)
            return espl_jsonc_fail_with(r, i, "a text must not contain \\u0000");
        n = i + 1 < r->len && (unsigned char)r->text[i + 1] >= 0x20 ? 2 : 1;
    }
    return espl_jsonc_fail_with(r, r->at, "the string that begins here does not end on its line");
}

espl_status espl_jsonc_scalar(espl_jsonc *r, const char *expected, cJSON **out) {
    const char *word = r->text + r->at, *parsed = NULL;
    int64_t end = r->at;
    *out = NULL;
    if (r->at < r->len && *word == '"')
        ESPL_TRY(jsonc_find_quote(r, &end));
    else
        while (end < r->len && !jsonc_is_blank(r->text[end]) && !strchr(",:{}[]\"/", r->text[end])) end++;
    if (end > r->at) *out = cJSON_ParseWithLengthOpts(word, (size_t)(end - r->at), &parsed, 0);
    if (*out && parsed == r->text + end) { /* all of it: cJSON stops at the first byte that it does not understand */
        r->at = end;
        return ESPL_OK;
    }
    cJSON_Delete(*out);
    *out = NULL;
    return espl_jsonc_fail_expected(r, expected);
}

/* --------------------------------------------------------------- objects */

espl_status espl_jsonc_members(espl_jsonc *r, const char *expected, espl_jsonc_member member, void *context) {
    bool more = true, done;
    ESPL_TRY(espl_jsonc_take(r, '{', expected));
    ESPL_TRY(espl_jsonc_take_if(r, '}', &done));
    while (!done) {
        cJSON *key = NULL;
        int64_t at = r->at;
        if (!more) return espl_jsonc_fail_expected(r, "a comma or }");
        if (r->at >= r->len || r->text[r->at] != '"') return espl_jsonc_fail_expected(r, "a name in quotes or }");
        ESPL_TRY(espl_jsonc_scalar(r, "a name in quotes", &key));
        espl_status st = espl_jsonc_take(r, ':', "a colon after the name");
        if (st == ESPL_OK && key) st = member(r, key->valuestring, at, context);
        cJSON_Delete(key);
        ESPL_TRY(st);
        ESPL_TRY(espl_jsonc_take_if(r, ',', &more));
        ESPL_TRY(espl_jsonc_take_if(r, '}', &done)); /* also after a comma: the next line may be commented out */
    }
    return ESPL_OK;
}

espl_status espl_jsonc_document(espl_jsonc *r, espl_jsonc_member member, void *context) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    if (espl_jsonc_at(r, byte_order_mark)) r->at = (int64_t)sizeof byte_order_mark - 1;
    ESPL_TRY(espl_jsonc_members(r, "an object, { ... }", member, context));
    ESPL_TRY(espl_jsonc_skip_blank(r));
    return r->at == r->len ? ESPL_OK : espl_jsonc_fail_expected(r, "the end of the file");
}
