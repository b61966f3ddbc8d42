/*
 * Reads a configuration: JSON with comments, an object of objects of texts, numbers, true and false.
 */
#include "espalier/config/table.h"

#include <math.h>
#include <string.h>

enum { FILE_MAX = 1 << 20 };

/* A configuration being read. */
typedef struct config_text {
    espl_config *o;
    const char *section;                                           /* being read */
    int64_t line_of[ESPL_OPTIONS], line_of_section[ESPL_SECTIONS]; /* where it was given; 0: not yet */
} config_text;

/* -------------------------------------------------------------- messages */

espl_status espl_option_fail_unknown(const espl_reader *r, int64_t at, const char *section, const char *key) {
    espl_str s = {0};
    espl_reader_put_shown(&s, section, (int64_t)strlen(section));
    if (*key) espl_str_puts(&s, ".");
    espl_reader_put_shown(&s, key, (int64_t)strlen(key));
    espl_str_puts(&s, *key ? ": there is no such option; " : ": there is no such section; ");
    espl_option_suggest(&s, section, key);
    return espl_reader_fail(r, at, &s);
}

static espl_status fail_twice(const espl_reader *r, int64_t at, int64_t first, const char *section, const char *key) {
    espl_str s = {0};
    espl_str_printf(&s, "%s%s%s is given again, first in line %lld", section, *key ? "." : "", key, (long long)first);
    return espl_reader_fail(r, at, &s);
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
static espl_status store(const espl_option *row, const cJSON *v, espl_config *o) {
    void *field = espl_option_field(row, o);
    if (row->type == ESPL_OPTION_TEXT) return store_text(field, v->valuestring);
    if (row->type == ESPL_OPTION_INTEGER) *(int64_t *)field = (int64_t)v->valuedouble;
    if (row->type == ESPL_OPTION_REAL) *(double *)field = v->valuedouble;
    if (row->type == ESPL_OPTION_FLAG) *(bool *)field = cJSON_IsTrue(v);
    return ESPL_OK;
}

static espl_status fail_value(const espl_reader *r, const espl_option *row, int64_t at, int64_t end) {
    espl_str s = {0};
    espl_str_printf(&s, "%s.%s is ", row->section, row->key);
    espl_reader_put_shown(&s, r->text + at, end - at);
    espl_str_puts(&s, ", expected ");
    espl_option_put_expected(&s, row);
    return espl_reader_fail(r, at, &s);
}

espl_status espl_option_take(espl_reader *r, const espl_option *row, espl_config *o) {
    espl_str expected = {0};
    cJSON *v = NULL;
    ESPL_TRY(espl_reader_skip_blank(r));
    int64_t at = r->at;
    espl_option_put_expected(&expected, row);
    espl_str_printf(&expected, " for %s.%s", row->section, row->key);
    espl_status st = espl_str_status(&expected);
    if (st == ESPL_OK) st = espl_reader_scalar(r, expected.data, &v);
    if (st == ESPL_OK) st = fits(row, v) ? store(row, v, o) : fail_value(r, row, at, r->at);
    cJSON_Delete(v);
    espl_str_free(&expected);
    return st;
}

/* ----------------------------------------------------------------- frame */

static espl_status take_option(espl_reader *r, const char *key, int64_t at, void *ctx) {
    config_text *c = ctx;
    const espl_option *row = espl_option_find(c->section, key);
    if (!row) return espl_option_fail_unknown(r, at, c->section, key);
    int64_t *first = &c->line_of[row - espl_option_table];
    if (*first) return fail_twice(r, at, *first, c->section, key);
    *first = espl_reader_line(r, at);
    return espl_option_take(r, row, c->o);
}

static espl_status take_section(espl_reader *r, const char *name, int64_t at, void *ctx) {
    config_text *c = ctx;
    const espl_section *section = espl_section_find(name);
    if (!section) return espl_option_fail_unknown(r, at, name, "");
    int64_t *first = &c->line_of_section[section - espl_section_table];
    if (*first) return fail_twice(r, at, *first, name, "");
    *first = espl_reader_line(r, at);
    c->section = section->name;
    return espl_reader_members(r, "an object, { ... }, as a section", take_option, c);
}

espl_status espl_config_parse(const char *text, int64_t len, const char *name, espl_config *o) {
    espl_reader r = {.name = name, .text = text, .len = len, .lines = true};
    config_text c = {.o = o};
    return espl_reader_document(&r, take_section, &c);
}

espl_status espl_config_read(const char *path, espl_config *o) {
    char *text;
    int64_t len;
    ESPL_TRY(espl_file_read(path, FILE_MAX, &text, &len));
    espl_status st = espl_config_parse(text, len, strcmp(path, "-") == 0 ? "standard input" : path, o);
    espl_mem_free(&text);
    return st;
}

/* ----------------------------------------------------------------- --set */

/* A text may stand without quotes: all that follows the equals sign. */
static espl_status set_value(espl_reader *r, const espl_option *row, espl_config *o) {
    bool bare = row->type == ESPL_OPTION_TEXT && (r->len == 0 || r->text[0] != '"');
    if (!bare) {
        ESPL_TRY(espl_option_take(r, row, o));
        ESPL_TRY(espl_reader_skip_blank(r));
        return r->at == r->len ? ESPL_OK : espl_reader_fail_expected(r, "nothing more");
    }
    for (int64_t i = 0, n; i < r->len; i += n)
        if ((n = espl_utf8_length(r->text + i, r->len - i)) == 0)
            return espl_reader_fail_with(r, 0, "this text is not UTF-8");
    if (row->values && !is_value_of(r->text, row->values)) return fail_value(r, row, 0, r->len);
    return store_text(espl_option_field(row, o), r->text);
}

static espl_status fail_without_key(const espl_reader *r, const char *name) {
    espl_str s = {0};
    espl_reader_put_shown(&s, name, (int64_t)strlen(name));
    espl_str_puts(&s, ": expected section.key=value; ");
    espl_option_suggest(&s, name, "");
    return espl_reader_fail(r, 0, &s);
}

espl_status espl_config_set(const char *assignment, espl_config *o) {
    char name[256];
    const char *equals = strchr(assignment, '=');
    espl_reader r = {.name = "--set", .text = ""};
    if (!equals || equals - assignment >= (ptrdiff_t)sizeof name)
        return espl_reader_fail_with(&r, 0, "expected section.key=value, for example --set prune.target=0.5");
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
    char *dot = strchr(name, '.');
    if (!dot) return fail_without_key(&r, name);
    *dot = '\0';
    const espl_option *row = espl_option_find(name, dot + 1);
    if (!row) return espl_option_fail_unknown(&r, 0, name, dot + 1);
    r.text = equals + 1;
    r.len = (int64_t)strlen(r.text);
    return set_value(&r, row, o);
}
