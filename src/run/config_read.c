/*
 * Reads a configuration: JSON with comments, an object of objects of texts, numbers, true and false. The frame is read
 * here, so that every message can name its line; cJSON decodes single values. (cJSON_Minify would lose the lines, and
 * takes "dir\\" for a text that goes on.)
 */
#include "config.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

enum { FILE_MAX = 1 << 20, SHOWN = 48 };

typedef struct reader {
    const char *name, *text; /* text [len] */
    int64_t len, at;
    bool lines; /* messages name lines: a file, not --set */
    espl_run_config *o;
    int64_t line_of[ESPL_OPTIONS], line_of_section[ESPL_SECTIONS]; /* where it was given; 0: not yet */
} reader;

/* -------------------------------------------------------------- messages */

static int64_t line_at(const reader *r, int64_t at) {
    int64_t line = 1;
    for (int64_t i = 0; i < at && i < r->len; i++) line += r->text[i] == '\n';
    return line;
}

/* Fails with "name:line: " and the message, which is freed. */
static espl_status fail_at(const reader *r, int64_t at, espl_str *message) {
    espl_status st = espl_str_status(message);
    if (st == ESPL_OK && r->lines)
        st = ESPL_FAIL(ESPL_CONFIG, "%s:%lld: %s", r->name, (long long)line_at(r, at), message->data);
    else if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_CONFIG, "%s: %s", r->name, message->data);
    espl_str_free(message);
    return st;
}

static espl_status fail_with(const reader *r, int64_t at, const char *text) {
    espl_str s = {0};
    espl_str_puts(&s, text);
    return fail_at(r, at, &s);
}

/* Foreign text for a message: bounded, without control characters. */
static void put_shown(espl_str *s, const char *text, int64_t len) {
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
static void put_found(espl_str *s, const reader *r) {
    char c = r->at < r->len ? r->text[r->at] : '\0';
    if (r->at >= r->len) {
        espl_str_puts(s, r->lines ? "the end of the file" : "nothing");
    } else if (c == '{' || c == '[') {
        espl_str_puts(s, c == '{' ? "an object" : "a list");
    } else {
        int64_t end = r->at;
        while (end < r->len && !strchr(",:{}[]\r\n", r->text[end])) end++;
        while (end > r->at && is_blank(r->text[end - 1])) end--;
        put_shown(s, r->text + r->at, end > r->at ? end - r->at : 1);
    }
}

static espl_status fail_expected(const reader *r, const char *expected) {
    espl_str s = {0};
    espl_str_printf(&s, "expected %s, found ", expected);
    put_found(&s, r);
    return fail_at(r, r->at, &s);
}

static espl_status fail_unknown(const reader *r, int64_t at, const char *section, const char *key) {
    espl_str s = {0};
    put_shown(&s, section, (int64_t)strlen(section));
    if (*key) espl_str_puts(&s, ".");
    put_shown(&s, key, (int64_t)strlen(key));
    espl_str_puts(&s, *key ? ": there is no such option; " : ": there is no such section; ");
    espl_option_suggest(&s, section, key);
    return fail_at(r, at, &s);
}

static espl_status fail_twice(const reader *r, int64_t at, int64_t first, const char *section, const char *key) {
    espl_str s = {0};
    espl_str_printf(&s, "%s%s%s is given again, first in line %lld", section, *key ? "." : "", key, (long long)first);
    return fail_at(r, at, &s);
}

/* ---------------------------------------------------------------- tokens */

static bool comes(const reader *r, const char *word) {
    int64_t n = (int64_t)strlen(word);
    return r->len - r->at >= n && memcmp(r->text + r->at, word, (size_t)n) == 0;
}

static espl_status skip_block_comment(reader *r) {
    int64_t start = r->at;
    for (r->at += 2; r->at < r->len; r->at++)
        if (comes(r, "*/")) return r->at += 2, ESPL_OK;
    return fail_with(r, start, "a comment that begins here does not end");
}

/* White space and comments. */
static espl_status skip_blank(reader *r) {
    while (r->at < r->len) {
        if (is_blank(r->text[r->at]))
            r->at++;
        else if (comes(r, "//"))
            while (r->at < r->len && r->text[r->at] != '\n') r->at++;
        else if (comes(r, "/*"))
            ESPL_TRY(skip_block_comment(r));
        else
            return ESPL_OK;
    }
    return ESPL_OK;
}

/* Skips blanks, and takes the character c, if it comes. */
static espl_status take_if(reader *r, char c, bool *taken) {
    ESPL_TRY(skip_blank(r));
    *taken = r->at < r->len && r->text[r->at] == c;
    r->at += *taken;
    return ESPL_OK;
}

static espl_status take(reader *r, char c, const char *expected) {
    bool taken;
    ESPL_TRY(take_if(r, c, &taken));
    return taken ? ESPL_OK : fail_expected(r, expected);
}

/* The end of the text in quotes that begins at r->at. Its bytes are UTF-8 without control characters or NULs. */
static espl_status find_quote(const reader *r, int64_t *end) {
    for (int64_t i = r->at + 1, n; i < r->len; i += n) {
        n = espl_utf8_length(r->text + i, r->len - i);
        if (n == 0) return fail_with(r, i, "this text is not UTF-8");
        if (r->text[i] == '"') return *end = i + 1, ESPL_OK;
        if ((unsigned char)r->text[i] < 0x20) break;
        if (r->text[i] != '\\') continue;
        if (r->len - i >= 6 && memcmp(r->text + i, "\\u0000", 6) == 0)
            return fail_with(r, i, "a text must not contain \\u0000");
        n = i + 1 < r->len && (unsigned char)r->text[i + 1] >= 0x20 ? 2 : 1;
    }
    return fail_with(r, r->at, "the text in quotes that begins here does not end in its line");
}

/* The single value at r->at, decoded; owned by the caller: cJSON_Delete. `expected` words the error. */
static espl_status take_scalar(reader *r, const char *expected, cJSON **out) {
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
    return fail_expected(r, expected);
}

/* ---------------------------------------------------------------- values */

static bool is_value_of(const char *text, const char *values) {
    int64_t n = (int64_t)strlen(text);
    if (strchr(text, '|')) return false;
    for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, text, (size_t)n) == 0 && (p[n] == '|' || p[n] == '\0')) return true;
    return false;
}

static bool fits(const espl_option *row, const cJSON *v) {
    switch (row->type) {
    case ESPL_OPTION_TEXT:
        return cJSON_IsString(v) && (!row->values || is_value_of(v->valuestring, row->values));
    case ESPL_OPTION_FLAG:
        return cJSON_IsBool(v);
    case ESPL_OPTION_INTEGER:
        if (!cJSON_IsNumber(v) || v->valuedouble != floor(v->valuedouble)) return false;
        break;
    case ESPL_OPTION_REAL:
        if (!cJSON_IsNumber(v)) return false;
        break;
    }
    return v->valuedouble >= row->lo && v->valuedouble <= row->hi;
}

static espl_status store_text(char **field, const char *text) {
    int64_t n = (int64_t)strlen(text) + 1;
    ESPL_TRY(espl_mem_resize(field, n, 1, "configuration"));
    memcpy(*field, text, (size_t)n);
    return ESPL_OK;
}

/* v fits. */
static espl_status store(const espl_option *row, const cJSON *v, espl_run_config *o) {
    void *field = espl_option_field(row, o);
    if (row->type == ESPL_OPTION_TEXT) return store_text(field, v->valuestring);
    if (row->type == ESPL_OPTION_INTEGER) *(int64_t *)field = (int64_t)v->valuedouble;
    if (row->type == ESPL_OPTION_REAL) *(double *)field = v->valuedouble;
    if (row->type == ESPL_OPTION_FLAG) *(bool *)field = cJSON_IsTrue(v);
    return ESPL_OK;
}

static espl_status fail_value(const reader *r, const espl_option *row, int64_t at, int64_t end) {
    espl_str s = {0};
    espl_str_printf(&s, "%s.%s is ", row->section, row->key);
    put_shown(&s, r->text + at, end - at);
    espl_str_puts(&s, ", expected ");
    espl_option_put_expected(&s, row);
    return fail_at(r, at, &s);
}

static espl_status take_value(reader *r, const espl_option *row) {
    espl_str expected = {0};
    cJSON *v = NULL;
    ESPL_TRY(skip_blank(r));
    int64_t at = r->at;
    espl_option_put_expected(&expected, row);
    espl_str_printf(&expected, " for %s.%s", row->section, row->key);
    espl_status st = espl_str_status(&expected);
    if (st == ESPL_OK) st = take_scalar(r, expected.data, &v);
    if (st == ESPL_OK) st = fits(row, v) ? store(row, v, r->o) : fail_value(r, row, at, r->at);
    cJSON_Delete(v);
    espl_str_free(&expected);
    return st;
}

/* ----------------------------------------------------------------- frame */

/* A key in quotes and its colon; *key is owned by the caller: cJSON_Delete. */
static espl_status take_key(reader *r, cJSON **key, int64_t *at) {
    *key = NULL;
    *at = r->at;
    if (r->at >= r->len || r->text[r->at] != '"') return fail_expected(r, "a name in quotes or }");
    ESPL_TRY(take_scalar(r, "a name in quotes", key));
    espl_status st = take(r, ':', "a colon after the name");
    if (st == ESPL_OK) return ESPL_OK;
    cJSON_Delete(*key);
    *key = NULL;
    return st;
}

static espl_status take_option(reader *r, const char *section, const char *key, int64_t at) {
    const espl_option *row = espl_option_find(section, key);
    if (!row) return fail_unknown(r, at, section, key);
    int64_t *first = &r->line_of[row - espl_option_table];
    if (*first) return fail_twice(r, at, *first, section, key);
    *first = line_at(r, at);
    return take_value(r, row);
}

/* The members of an object: of the file (section NULL: they are sections) or of a section. */
static espl_status take_members(reader *r, const char *section);

static espl_status take_section(reader *r, const char *name, int64_t at) {
    const espl_section *section = espl_section_find(name);
    if (!section) return fail_unknown(r, at, name, "");
    int64_t *first = &r->line_of_section[section - espl_section_table];
    if (*first) return fail_twice(r, at, *first, name, "");
    *first = line_at(r, at);
    return take_members(r, name);
}

static espl_status take_members(reader *r, const char *section) {
    bool more = true, done;
    cJSON *key;
    int64_t at;
    ESPL_TRY(take(r, '{', section ? "an object, { ... }, as a section" : "an object, { ... }"));
    ESPL_TRY(take_if(r, '}', &done));
    while (!done) {
        if (!more) return fail_expected(r, "a comma or }");
        ESPL_TRY(take_key(r, &key, &at));
        espl_status st =
            section ? take_option(r, section, key->valuestring, at) : take_section(r, key->valuestring, at);
        cJSON_Delete(key);
        ESPL_TRY(st);
        ESPL_TRY(take_if(r, ',', &more));
        ESPL_TRY(take_if(r, '}', &done)); /* after a comma too: the next line may be commented out */
    }
    return ESPL_OK;
}

espl_status espl_run_config_parse(const char *text, int64_t len, const char *name, espl_run_config *o) {
    reader r = {.name = name, .text = text, .len = len, .lines = true, .o = o};
    if (comes(&r, "\xEF\xBB\xBF")) r.at = 3; /* a byte order mark */
    ESPL_TRY(take_members(&r, NULL));
    ESPL_TRY(skip_blank(&r));
    return r.at == r.len ? ESPL_OK : fail_expected(&r, "the end of the file");
}

espl_status espl_run_config_read(const char *path, espl_run_config *o) {
    char *text;
    int64_t len;
    ESPL_TRY(espl_file_read(path, FILE_MAX, &text, &len));
    espl_status st = espl_run_config_parse(text, len, strcmp(path, "-") == 0 ? "standard input" : path, o);
    espl_mem_free(&text);
    return st;
}

/* ----------------------------------------------------------------- --set */

/* A text may stand without quotes: all that follows the equals sign. */
static espl_status set_value(reader *r, const espl_option *row) {
    bool bare = row->type == ESPL_OPTION_TEXT && (r->len == 0 || r->text[0] != '"');
    if (!bare) {
        ESPL_TRY(take_value(r, row));
        ESPL_TRY(skip_blank(r));
        return r->at == r->len ? ESPL_OK : fail_expected(r, "nothing more");
    }
    for (int64_t i = 0, n; i < r->len; i += n)
        if ((n = espl_utf8_length(r->text + i, r->len - i)) == 0) return fail_with(r, 0, "this text is not UTF-8");
    if (row->values && !is_value_of(r->text, row->values)) return fail_value(r, row, 0, r->len);
    return store_text(espl_option_field(row, r->o), r->text);
}

static espl_status fail_without_key(const reader *r, const char *name) {
    espl_str s = {0};
    put_shown(&s, name, (int64_t)strlen(name));
    espl_str_puts(&s, ": expected section.key=value; ");
    espl_option_suggest(&s, name, "");
    return fail_at(r, 0, &s);
}

espl_status espl_run_config_set(const char *assignment, espl_run_config *o) {
    char name[256];
    const char *equals = strchr(assignment, '=');
    reader r = {.name = "--set", .text = "", .o = o};
    if (!equals || equals - assignment >= (ptrdiff_t)sizeof name)
        return fail_with(&r, 0, "expected section.key=value, for example --set prune.target=0.5");
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
    char *dot = strchr(name, '.');
    if (!dot) return fail_without_key(&r, name);
    *dot = '\0';
    const espl_option *row = espl_option_find(name, dot + 1);
    if (!row) return fail_unknown(&r, 0, name, dot + 1);
    r.text = equals + 1;
    r.len = (int64_t)strlen(r.text);
    return set_value(&r, row);
}
