/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of texts. A text that is read as something else than it is gives a number that looks like a result: braces
 * and compressed bytes have a perplexity, too. So every guess about the content is either certain or ends in a message.
 */
#include "espalier/eval/documents.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "espalier/base/absent.h"
#include "espalier/base/file.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

/* A larger file is hardly a text: refuse it before it fills the memory of rank 0. Also bounds what a small packed file
 * may become. */
static const int64_t DOCUMENTS_BYTES_MAX = (int64_t)1 << 34;
enum { KEYS_SHOWN_MAX = 5 }; /* keys of an object without "text" that its message lists */

/* ------------------------------------------------------- what is no text */

/* Kinds of files that people have where a text is expected, by their first bytes. */
static const struct {
    const char *bytes;
    int64_t len;
    const char *what;
} foreign_kinds[] = {
    {"PAR1", 4, "a Parquet file: write its \"text\" column as JSON Lines"},
    {"ARROW1", 6, "an Arrow file: write its \"text\" column as JSON Lines"},
    {"\x28\xB5\x2F\xFD", 4, "packed by zstd: unpack it first (zstd -d)"},
    {"\xFD\x37zXZ\0", 6, "packed by xz: unpack it first (xz -d)"},
    {"BZh", 3, "packed by bzip2: unpack it first (bzip2 -d)"},
    {"PK\3\4", 4, "a ZIP archive: unpack it first (unzip)"},
    {"GGUF", 4, "a GGUF model, not a text"},
    {"\x89HDF", 4, "an HDF5 file, not a text"},
    {"\xFF\xFE", 2, "UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)"},
    {"\xFE\xFF", 2, "UTF-16: convert it first (iconv -f UTF-16 -t UTF-8)"},
};

/* The first bytes are UTF-8 without a NUL. */
static bool documents_begin_as_text(const char *bytes, int64_t len) {
    enum { SEEN = 64, CHARACTER_MAX = 4 };
    int64_t n = espl_min_i64(len, SEEN), step;
    for (int64_t i = 0; i < n; i += step) {
        step = espl_utf8_length(bytes + i, n - i);
        if (bytes[i] == '\0' || (step == 0 && i + CHARACTER_MAX <= n)) return false; /* the last one may be cut off */
        if (step == 0) break;
    }
    return true;
}

/* A NUL is the last check: no text has one, and nearly every other kind of file does. */
static espl_status documents_check_text(const char *bytes, int64_t len, const char *name) {
    if (espl_file_is_lfs_pointer(bytes, len)) return espl_file_fail_lfs_pointer(name);
    const char *nul = len > 0 ? memchr(bytes, 0, (size_t)len) : NULL;
    bool text = documents_begin_as_text(bytes, len) && !nul; /* "BZh" or "GGUF" may begin a text, too */
    for (size_t i = 0; !text && i < sizeof foreign_kinds / sizeof *foreign_kinds; i++)
        if (len >= foreign_kinds[i].len && memcmp(bytes, foreign_kinds[i].bytes, (size_t)foreign_kinds[i].len) == 0)
            return ESPL_FAIL(ESPL_FORMAT, "%s: is %s", name, foreign_kinds[i].what);
    if (nul)
        return ESPL_FAIL(ESPL_FORMAT, "%s: holds a NUL at byte %" PRId64 ", expected UTF-8 text or JSON Lines", name,
                         (int64_t)(nul - bytes));
    return ESPL_OK;
}

/* ------------------------------------------------------------------ gzip */

static bool documents_are_packed(const char *bytes, int64_t len) {
    return len >= 2 && memcmp(bytes, "\x1F\x8B", 2) == 0;
}

/* Appends what the gzip file holds; it may be several members one after another, as `cat a.gz b.gz` makes. */
static espl_status documents_unpack(const char *bytes, int64_t len, const char *name, espl_str *out) {
    enum { GZIP_WINDOW = 15 + 16, INPUT_MAX = 1 << 30, BLOCK = 1 << 18 }; /* z_stream counts input in unsigned int */
    z_stream z = {0};
    char *block;
    int64_t at = 0;
    int code = Z_OK;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&block, BLOCK, 1, "unpacked text"));
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK) {
        espl_mem_free(&block);
        return ESPL_FAIL(ESPL_NOMEM, "%s: no memory to unpack it", name);
    }
    st = ESPL_OK;
    while (st == ESPL_OK && (at < len || code != Z_STREAM_END)) {
        if (code == Z_STREAM_END) inflateReset(&z);
        z.next_in = (Bytef *)(uintptr_t)(bytes + at); /* zlib does not write to it */
        z.avail_in = (uInt)espl_min_i64(len - at, INPUT_MAX);
        z.next_out = (Bytef *)block;
        z.avail_out = BLOCK;
        uInt given = z.avail_in;
        code = inflate(&z, Z_NO_FLUSH);
        at += given - z.avail_in;
        int64_t n = BLOCK - (int64_t)z.avail_out;
        if (code == Z_BUF_ERROR || (code == Z_OK && n == 0 && at == len))
            st = ESPL_FAIL(ESPL_FORMAT, "%s: packed by gzip, and ends early (cut off?)", name);
        else if (code != Z_OK && code != Z_STREAM_END)
            st = ESPL_FAIL(ESPL_FORMAT, "%s: packed by gzip, and damaged at byte %" PRId64 " (%s)", name, at,
                           z.msg ? z.msg : "unknown reason");
        else if (out->len + n > DOCUMENTS_BYTES_MAX)
            st = ESPL_FAIL(ESPL_FORMAT, "%s: unpacked, larger than the %" PRId64 " bytes allowed here", name,
                           DOCUMENTS_BYTES_MAX);
        else
            espl_str_put(out, block, n);
        if (st == ESPL_OK) st = espl_str_status(out);
    }
    inflateEnd(&z);
    espl_mem_free(&block);
    return st;
}

/* ------------------------------------------------------------------ JSON */

static bool documents_is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static int64_t documents_skip_blank(const char *bytes, int64_t len, int64_t at) {
    while (at < len && documents_is_blank(bytes[at])) at++;
    return at;
}

/* The first two bytes that are not blank decide: a text may begin with a brace or bracket, but hardly with these. */
static bool documents_are_json(const char *bytes, int64_t len) {
    int64_t first = documents_skip_blank(bytes, len, 0);
    int64_t second = documents_skip_blank(bytes, len, first + 1);
    if (second >= len) return false;
    return (bytes[first] == '{' && bytes[second] == '"') ||
           (bytes[first] == '[' && (bytes[second] == '"' || bytes[second] == '{'));
}

/* The name promises JSON. Only used to refuse: a damaged first line must not turn the file into a plain text. */
static bool documents_name_says_json(const char *name) {
    static const char *const suffixes[] = {".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".ndjson.gz"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        size_t s = strlen(suffixes[i]);
        if (n > s && strcasecmp(name + n - s, suffixes[i]) == 0) return true;
    }
    return false;
}

/* cJSON ends a string at \u0000, so that a document would be cut short without a word. */
static bool documents_hold_escaped_nul(const char *p, const char *end) {
    while ((p = memchr(p, '\\', (size_t)(end - p)))) {
        if (end - p >= 6 && memcmp(p, "\\u0000", 6) == 0) return true;
        if (end - p < 2) return false;
        p += 2; /* "\\u0000" is an escaped backslash, and no NUL */
    }
    return false;
}

static espl_status documents_add(espl_documents *d, const char *text, int64_t len) {
    if (d->n == d->cap) {
        int64_t cap = d->cap ? d->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&d->items, cap, sizeof *d->items, "documents"));
        d->cap = cap;
    }
    if (d->text.len > 0) espl_str_puts(&d->text, "\n\n");
    d->items[d->n++] = (espl_document){.start = d->text.len, .len = len};
    espl_str_put(&d->text, text, len);
    return espl_str_status(&d->text);
}

/* "url", "timestamp" and so on: the user sees what the file has in place of "text". */
static espl_status documents_fail_no_text(const cJSON *object, const char *where) {
    espl_str keys = {0};
    int shown = 0;
    for (const cJSON *m = object->child; m && shown < KEYS_SHOWN_MAX; m = m->next, shown++) {
        if (shown > 0) espl_str_puts(&keys, ", ");
        espl_str_put_json(&keys, m->string, (int64_t)strlen(m->string));
    }
    espl_status st = espl_str_status(&keys);
    if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_FORMAT, "%s: no \"text\", expected JSON Lines with the \"text\" of a document each%s%.200s",
                       where, shown ? "; found " : "", shown ? keys.data : "");
    espl_str_free(&keys);
    return st;
}

/* One value of the file: a document, or a list of them. */
static espl_status documents_add_value(espl_documents *d, const cJSON *value, const char *where) {
    const cJSON *text = value, *item;
    if (cJSON_IsArray(value)) {
        cJSON_ArrayForEach(item, value) {
            if (cJSON_IsArray(item)) return ESPL_FAIL(ESPL_FORMAT, "%s: a list in a list, expected documents", where);
            ESPL_TRY(documents_add_value(d, item, where));
        }
        return ESPL_OK;
    }
    if (cJSON_IsObject(value)) {
        text = cJSON_GetObjectItemCaseSensitive(value, "text");
        if (!text || cJSON_IsNull(text)) return documents_fail_no_text(value, where);
    }
    if (!cJSON_IsString(text))
        return ESPL_FAIL(ESPL_FORMAT, "%s: %s, expected text in quotes", where,
                         text == value ? "a value that is no document" : "\"text\" is something else");
    return documents_add(d, text->valuestring, (int64_t)strlen(text->valuestring));
}

/* Values one after another. Lines do not matter for reading, only for messages: a value may cover several of them. */
static espl_status documents_parse_json(const char *bytes, int64_t len, const char *name, espl_documents *out) {
    char where[512];
    int64_t line = 1, counted = 0; /* line breaks before `counted` are in `line` */
    for (int64_t at = documents_skip_blank(bytes, len, 0); at < len; at = documents_skip_blank(bytes, len, at)) {
        for (; counted < at; counted++) line += bytes[counted] == '\n';
        snprintf(where, sizeof where, "%s: line %" PRId64, name, line);
        const char *end = NULL;
        cJSON *value = cJSON_ParseWithLengthOpts(bytes + at, (size_t)(len - at), &end, 0);
        if (!value) {
            int64_t fault = end ? end - bytes : at;
            for (; counted < fault; counted++) line += bytes[counted] == '\n';
            return ESPL_FAIL(ESPL_FORMAT, "%s: line %" PRId64 ": not valid JSON at byte %" PRId64 " of the file", name,
                             line, fault);
        }
        espl_status st = ESPL_OK;
        if (documents_hold_escaped_nul(bytes + at, end))
            st = ESPL_FAIL(ESPL_FORMAT, "%s: a text must not contain \\u0000", where);
        if (st == ESPL_OK) st = documents_add_value(out, value, where);
        cJSON_Delete(value);
        ESPL_TRY(st);
        at = end - bytes;
    }
    return ESPL_OK;
}

/* ------------------------------------------------------------------ read */

espl_status espl_documents_parse(const char *bytes, int64_t len, const char *name, espl_documents *out) {
    static const char byte_order_mark[] = "\xEF\xBB\xBF";
    enum { MARK_BYTES = sizeof byte_order_mark - 1 };
    espl_str unpacked = {0};
    espl_status st = ESPL_OK;
    if (documents_are_packed(bytes, len)) {
        ESPL_CHECK(st, done, documents_unpack(bytes, len, name, &unpacked));
        bytes = unpacked.data ? unpacked.data : "";
        len = unpacked.len;
    }
    ESPL_CHECK(st, done, documents_check_text(bytes, len, name));
    bool marked = len >= MARK_BYTES && memcmp(bytes, byte_order_mark, MARK_BYTES) == 0;
    int64_t skip = marked ? MARK_BYTES : 0; /* in JSON only: in a text it is a character, as for Python */
    if (documents_are_json(bytes + skip, len - skip))
        st = documents_parse_json(bytes + skip, len - skip, name, out);
    else if (documents_name_says_json(name) && documents_skip_blank(bytes, len, 0) < len)
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: line 1: not JSON, although the file's name says so: expected {\"text\": ...} (name a plain "
                       "text otherwise)",
                       name);
    else if (len > 0)
        st = documents_add(out, bytes, len);
done:
    espl_str_free(&unpacked);
    return st;
}

espl_status espl_documents_read(const char *path, espl_documents *out) {
    char *bytes;
    int64_t len;
    ESPL_TRY(espl_file_read(path, DOCUMENTS_BYTES_MAX, &bytes, &len));
    espl_status st = espl_documents_parse(bytes, len, strcmp(path, "-") == 0 ? "standard input" : path, out);
    espl_mem_free(&bytes);
    return st;
}

void espl_documents_free(espl_documents *d) {
    espl_str_free(&d->text);
    espl_mem_free(&d->items);
    *d = (espl_documents){0};
}
