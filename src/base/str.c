/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte strings. Every append goes through str_reserve, which makes failures sticky: `failed` stays set and later
 * appends change nothing, so a half-written text is never taken for a whole one.
 */
#include "espalier/base/str.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Makes room for n more bytes and a NUL. Grows by half, so that many small appends cost linear time. */
static bool str_reserve(espl_str *s, int64_t n) {
    int64_t need = s->len + n + 1;
    if (s->failed || n < 0 || need < s->len) return s->failed = true, false;
    if (need <= s->cap) return true;
    int64_t cap = espl_max_i64(need, s->cap < 32 ? 64 : s->cap + s->cap / 2);
    if (espl_mem_resize(&s->data, cap, 1, "byte string") != ESPL_OK) return s->failed = true, false;
    s->cap = cap;
    return true;
}

void espl_str_put(espl_str *s, const void *bytes, int64_t n) {
    if (!str_reserve(s, n)) return;
    if (n > 0) memcpy(s->data + s->len, bytes, (size_t)n);
    s->len += n;
    s->data[s->len] = '\0';
}

void espl_str_puts(espl_str *s, const char *cstr) { espl_str_put(s, cstr, (int64_t)strlen(cstr)); }

void espl_str_printf(espl_str *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || !str_reserve(s, n)) {
        s->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    s->len += n;
}

void espl_str_put_json(espl_str *s, const char *bytes, int64_t n) {
    espl_str_puts(s, "\"");
    for (int64_t i = 0; i < n;) {
        unsigned char c = (unsigned char)bytes[i];
        int len = espl_utf8_length(bytes + i, n - i);
        if (len == 0)
            espl_str_puts(s, "\xEF\xBF\xBD"); /* U+FFFD, REPLACEMENT CHARACTER */
        else if (c == '"' || c == '\\')
            espl_str_printf(s, "\\%c", c);
        else if (c == '\n')
            espl_str_puts(s, "\\n");
        else if (c < 0x20 || c == 0x7F) /* JSON allows a plain DEL, but terminals do not show it */
            espl_str_printf(s, "\\u%04x", c);
        else
            espl_str_put(s, bytes + i, len);
        i += len ? len : 1;
    }
    espl_str_puts(s, "\"");
}

espl_status espl_str_status(const espl_str *s) {
    if (!s->failed) return ESPL_OK;
    return ESPL_FAIL(ESPL_NOMEM, "no memory for a byte string of %" PRId64 " bytes", s->len);
}

void espl_str_free(espl_str *s) {
    espl_mem_free(&s->data);
    *s = (espl_str){0};
}

espl_status espl_str_dup(char **out, const char *text, const char *what) {
    return espl_str_ndup(out, text, (int64_t)strlen(text), what);
}

espl_status espl_str_ndup(char **out, const char *bytes, int64_t len, const char *what) {
    ESPL_TRY(espl_mem_alloc(out, len + 1, 1, what));
    if (len > 0) memcpy(*out, bytes, (size_t)len);
    return ESPL_OK;
}

int espl_utf8_length(const char *text, int64_t n) {
    const unsigned char *p = (const unsigned char *)text;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    int len = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (n < len) return 0;
    /* Only the second byte has a range that depends on the first: it excludes overlong forms (E0, F0), surrogates (ED)
     * and values above U+10FFFF (F4). */
    unsigned lo = p[0] == 0xE0 ? 0xA0 : p[0] == 0xF0 ? 0x90 : 0x80;
    unsigned hi = p[0] == 0xED ? 0x9F : p[0] == 0xF4 ? 0x8F : 0xBF;
    if (p[1] < lo || p[1] > hi) return 0;
    for (int i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    return len;
}
