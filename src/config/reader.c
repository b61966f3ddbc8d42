/*
 * Reads JSON with comments to the letter, so that every message can name its line; cJSON decodes single values.
 * (cJSON_Minify would lose the lines, and takes "dir\\" for a text that goes on.)
 */
#include "espalier/config/reader.h"

#include <string.h>

enum { SHOWN = 48 };

/* -------------------------------------------------------------- messages */

int64_t espl_reader_line(const espl_reader *r, int64_t at) {
    int64_t line = 1;
    for (int64_t i = 0; i < at && i < r->len; i++) line += r->text[i] == '\n';
    return line;
}

espl_status espl_reader_fail(const espl_reader *r, int64_t at, espl_str *message) {
    espl_status st = espl_str_status(message);
    if (st == ESPL_OK && r->lines)
        st = ESPL_FAIL(ESPL_CONFIG, "%s:%lld: %s", r->name, (long long)espl_reader_line(r, at), message->data);
    else if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_CONFIG, "%s: %s", r->name, message->data);
    espl_str_free(message);
    return st;
}

espl_status espl_reader_fail_with(const espl_reader *r, int64_t at, const char *text) {
    espl_str s = {0};
    espl_str_puts(&s, text);
    return espl_reader_fail(r, at, &s);
}

void espl_reader_put_shown(espl_str *s, const char *text, int64_t len) {
    for (int64_t i = 0, n; i < len && i < SHOWN; i += n) {
        n = espl_utf8_length(text + i, len - i);
        bool plain = n > 0 && (unsigned char)text[i] >= 0x20 && text[i] != 0x7F;
        if (!plain) n = 1;
        espl_str_put(s, plain ? text + i : "?", n);
    }
    if (len > SHOWN) espl_str_puts(s, "...");
}

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* What stands at r->at, in words. */
static void put_found(espl_str *s, const espl_reader *r) {
    char c = r->at < r->len ? r->text[r->at] : '\0';
    if (r->at >= r->len) {
        espl_str_puts(s, r->lines ? "the end of the file" : "nothing");
    } else if (c == '{' || c == '[') {
        espl_str_puts(s, c == '{' ? "an object" : "a list");
    } else {
        int64_t end = r->at;
        while (end < r->len && !strchr(",:{}[]\r\n", r->text[end])) end++;
        while (end > r->at && is_blank(r->text[end - 1])) end--;
        espl_reader_put_shown(s, r->text + r->at, end > r->at ? end - r->at : 1);
    }
}

espl_status espl_reader_fail_expected(const espl_reader *r, const char *expected) {
    espl_str s = {0};
    espl_str_printf(&s, "expected %s, found ", expected);
    put_found(&s, r);
    return espl_reader_fail(r, r->at, &s);
}

/* ---------------------------------------------------------------- tokens */

bool espl_reader_comes(const espl_reader *r, const char *word) {
    int64_t n = (int64_t)strlen(word);
    return r->len - r->at >= n && memcmp(r->text + r->at, word, (size_t)n) == 0;
}

static espl_status skip_block_comment(espl_reader *r) {
    int64_t start = r->at;
    for (r->at += 2; r->at < r->len; r->at++)
        if (espl_reader_comes(r, "*/")) return r->at += 2, ESPL_OK;
    return espl_reader_fail_with(r, start, "a comment that begins here does not end");
}

espl_status espl_reader_skip_blank(espl_reader *r) {
    while (r->at < r->len) {
        if (is_blank(r->text[r->at]))
            r->at++;
        else if (espl_reader_comes(r, "//"))
            while (r->at < r->len && r->text[r->at] != '\n') r->at++;
        else if (espl_reader_comes(r, "/*"))
            ESPL_TRY(skip_block_comment(r));
        else
            return ESPL_OK;
    }
    return ESPL_OK;
}

espl_status espl_reader_take_if(espl_reader *r, char c, bool *taken) {
    ESPL_TRY(espl_reader_skip_blank(r));
    *taken = r->at < r->len && r->text[r->at] == c;
    r->at += *taken;
    return ESPL_OK;
}

espl_status espl_reader_take(espl_reader *r, char c, const char *expected) {
    bool taken;
    ESPL_TRY(espl_reader_take_if(r, c, &taken));
    return taken ? ESPL_OK : espl_reader_fail_expected(r, expected);
}

/* The end of the text in quotes that begins at r->at. Its bytes are UTF-8 without control characters or NULs. */
static espl_status find_quote(const espl_reader *r, int64_t *end) {
    for (int64_t i = r->at + 1, n; i < r->len; i += n) {
        n = espl_utf8_length(r->text + i, r->len - i);
        if (n == 0) return espl_reader_fail_with(r, i, "this text is not UTF-8");
        if (r->text[i] == '"') return *end = i + 1, ESPL_OK;
        if ((unsigned char)r->text[i] < 0x20) break;
        if (r->text[i] != '\\') continue;
        if (r->len - i >= 6 && memcmp(r->text + i, "\\u0000", 6) == 0)
            return espl_reader_fail_with(r, i, "a text must not contain \\u0000");
        n = i + 1 < r->len && (unsigned char)r->text[i + 1] >= 0x20 ? 2 : 1;
    }
    return espl_reader_fail_with(r, r->at, "the text in quotes that begins here does not end in its line");
}

espl_status espl_reader_scalar(espl_reader *r, const char *expected, cJSON **out) {
    const char *word = r->text + r->at, *parsed = NULL;
    int64_t end = r->at;
    *out = NULL;
    if (r->at < r->len && *word == '"') {
        ESPL_TRY(find_quote(r, &end));
    } else {
        while (end < r->len && !is_blank(r->text[end]) && !strchr(",:{}[]\"/", r->text[end])) end++;
    }
    if (end > r->at) *out = cJSON_ParseWithLengthOpts(word, (size_t)(end - r->at), &parsed, 0);
    if (*out && parsed == r->text + end) return r->at = end, ESPL_OK;
    cJSON_Delete(*out);
    *out = NULL;
    return espl_reader_fail_expected(r, expected);
}

/* ----------------------------------------------------------------- frame */

/* A key in quotes and its colon; *key is owned by the caller: cJSON_Delete. */
static espl_status take_key(espl_reader *r, cJSON **key, int64_t *at) {
    *key = NULL;
    *at = r->at;
    if (r->at >= r->len || r->text[r->at] != '"') return espl_reader_fail_expected(r, "a name in quotes or }");
    ESPL_TRY(espl_reader_scalar(r, "a name in quotes", key));
    espl_status st = espl_reader_take(r, ':', "a colon after the name");
    if (st == ESPL_OK) return ESPL_OK;
    cJSON_Delete(*key);
    *key = NULL;
    return st;
}

espl_status espl_reader_members(espl_reader *r, const char *expected, espl_member_reader member, void *ctx) {
    bool more = true, done;
    cJSON *key;
    int64_t at;
    ESPL_TRY(espl_reader_take(r, '{', expected));
    ESPL_TRY(espl_reader_take_if(r, '}', &done));
    while (!done) {
        if (!more) return espl_reader_fail_expected(r, "a comma or }");
        ESPL_TRY(take_key(r, &key, &at));
        espl_status st = member(r, key->valuestring, at, ctx);
        cJSON_Delete(key);
        ESPL_TRY(st);
        ESPL_TRY(espl_reader_take_if(r, ',', &more));
        ESPL_TRY(espl_reader_take_if(r, '}', &done)); /* after a comma too: the next line may be commented out */
    }
    return ESPL_OK;
}

espl_status espl_reader_document(espl_reader *r, espl_member_reader member, void *ctx) {
    if (espl_reader_comes(r, "\xEF\xBB\xBF")) r->at = 3; /* a byte order mark */
    ESPL_TRY(espl_reader_members(r, "an object, { ... }", member, ctx));
    ESPL_TRY(espl_reader_skip_blank(r));
    return r->at == r->len ? ESPL_OK : espl_reader_fail_expected(r, "the end of the file");
}
