/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads configurations: whole files, and the single assignments of --set. Later values replace earlier ones across
 * sources (defaults, file, --set), but within one file a name may stand only once.
 */
#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#include "espalier/base/json.h"
#include "espalier/config/table.h"

enum { CONFIG_FILE_BYTES_MAX = 1 << 20, MANIFEST_BYTES_MAX = 1 << 26 };

/* ---------------------------------------------------------------- errors */

espl_status espl_option_fail_unknown(const espl_jsonc *r, int64_t at, const char *section, const char *key) {
    espl_str s = {0};
    espl_jsonc_put_quoted(&s, section, (int64_t)strlen(section));
    if (*key) espl_str_puts(&s, ".");
    espl_jsonc_put_quoted(&s, key, (int64_t)strlen(key));
    espl_str_puts(&s, *key ? ": no such option; " : ": no such section; ");
    espl_option_put_suggestion(&s, section, key);
    return espl_jsonc_fail(r, at, &s);
}

/* The value r->text[at .. end) does not fit. */
static espl_status option_fail_value(const espl_jsonc *r, const espl_option *row, int64_t at, int64_t end) {
    espl_str s = {0};
    espl_str_printf(&s, "%s.%s is ", row->section, row->key);
    espl_jsonc_put_quoted(&s, r->text + at, end - at);
    espl_str_puts(&s, ", expected ");
    espl_option_put_expected(&s, row);
    char typed[64];
    bool quoted = r->text[at] == '"';
    snprintf(typed, sizeof typed, "%.*s", (int)(end - at) - 2 * quoted, r->text + at + quoted);
    espl_option_put_choice_suggestion(&s, row, typed);
    return espl_jsonc_fail(r, at, &s);
}

static espl_status config_fail_twice(const espl_jsonc *r, int64_t at, int64_t first_line, const char *section,
                                     const char *key) {
    espl_str s = {0};
    espl_str_printf(&s, "%s%s%s is given again, first on line %lld", section, *key ? "." : "", key,
                    (long long)first_line);
    return espl_jsonc_fail(r, at, &s);
}

/* ---------------------------------------------------------------- values */

static const espl_choice *option_find_choice(const espl_option *row, const char *name) {
    for (const espl_choice *c = row->choices; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return NULL;
}

static espl_status option_store_text(const espl_option *row, const char *text, espl_config *o) {
    char **field = (char **)(void *)((char *)o + row->offset);
    espl_mem_free(field);
    return espl_str_dup(field, text, "configuration");
}

/* cJSON numbers are doubles: an integer option must be whole, and its range lies below 2^53, where doubles are exact.
 * Stores v if it has the row's type and lies in its range; *fits tells whether it does. */
static espl_status option_store(const espl_option *row, const cJSON *v, espl_config *o, bool *fits) {
    void *field = (char *)o + row->offset;
    bool in_range = cJSON_IsNumber(v) && v->valuedouble >= row->lo && v->valuedouble <= row->hi;
    *fits = false;
    switch (row->type) {
    case ESPL_OPTION_TEXT:
        *fits = cJSON_IsString(v);
        return *fits ? option_store_text(row, v->valuestring, o) : ESPL_OK;
    case ESPL_OPTION_CHOICE: {
        const espl_choice *choice = cJSON_IsString(v) ? option_find_choice(row, v->valuestring) : NULL;
        *fits = choice != NULL;
        if (choice) *(int *)field = choice->value;
        return ESPL_OK;
    }
    case ESPL_OPTION_INTEGER:
        *fits = in_range && v->valuedouble == floor(v->valuedouble);
        if (*fits) *(int64_t *)field = (int64_t)v->valuedouble;
        return ESPL_OK;
    case ESPL_OPTION_REAL:
        *fits = in_range;
        if (*fits) *(double *)field = v->valuedouble;
        return ESPL_OK;
    case ESPL_OPTION_FLAG:
        *fits = cJSON_IsBool(v);
        if (*fits) *(bool *)field = cJSON_IsTrue(v);
        return ESPL_OK;
    case ESPL_OPTION_NUMBERS: /* option_take_numbers */
        return ESPL_OK;
    }
    return ESPL_OK;
}

/* A list of numbers at r->at. It is kept as a text, in a spelling of its own, so that equal lists are equal texts. */
static espl_status option_take_numbers(espl_jsonc *r, const espl_option *row, const char *expected, espl_config *o) {
    espl_str list = {0};
    bool more = true, done;
    espl_status st;
    ESPL_CHECK(st, done, espl_jsonc_take(r, '[', expected));
    ESPL_CHECK(st, done, espl_jsonc_take_if(r, ']', &done));
    while (!done) {
        cJSON *v = NULL;
        if (!more) {
            st = espl_jsonc_fail_expected(r, "a comma or ]");
            goto done;
        }
        ESPL_CHECK(st, done, espl_jsonc_skip_blank(r));
        int64_t at = r->at;
        ESPL_CHECK(st, done, espl_jsonc_scalar(r, expected, &v));
        bool fits = cJSON_IsNumber(v) && v->valuedouble >= row->lo && v->valuedouble <= row->hi;
        if (list.len > 0) espl_str_puts(&list, ", ");
        if (fits) espl_str_put_shortest(&list, v->valuedouble);
        cJSON_Delete(v);
        if (!fits) {
            st = option_fail_value(r, row, at, r->at);
            goto done;
        }
        ESPL_CHECK(st, done, espl_jsonc_take_if(r, ',', &more));
        ESPL_CHECK(st, done, espl_jsonc_take_if(r, ']', &done));
    }
    ESPL_CHECK(st, done, espl_str_status(&list));
    st = option_store_text(row, list.data ? list.data : "", o);
done:
    espl_str_free(&list);
    return st;
}

espl_status espl_option_take(espl_jsonc *r, const espl_option *row, espl_config *o) {
    espl_str expected = {0};
    cJSON *v = NULL;
    espl_status st;
    bool fits;
    ESPL_TRY(espl_jsonc_skip_blank(r));
    int64_t at = r->at;
    espl_option_put_expected(&expected, row);
    espl_str_printf(&expected, " for %s.%s", row->section, row->key);
    ESPL_CHECK(st, done, espl_str_status(&expected));
    if (row->type == ESPL_OPTION_NUMBERS) {
        st = option_take_numbers(r, row, expected.data, o);
        goto done;
    }
    ESPL_CHECK(st, done, espl_jsonc_scalar(r, expected.data, &v));
    ESPL_CHECK(st, done, option_store(row, v, o, &fits));
    if (!fits) st = option_fail_value(r, row, at, r->at);
done:
    cJSON_Delete(v);
    espl_str_free(&expected);
    return st;
}

/* ----------------------------------------------------------------- files */

/* A file being read: where each name was given, since one that is given twice hides a mistake. */
typedef struct config_file {
    espl_config *o;
    const char *section;                                           /* being read */
    int64_t line_of[ESPL_OPTIONS], line_of_section[ESPL_SECTIONS]; /* 0: not given so far */
} config_file;

static espl_status config_take_option(espl_jsonc *r, const char *key, int64_t at, void *context) {
    config_file *f = context;
    const espl_option *row = espl_option_find(f->section, key);
    if (!row) return espl_option_fail_unknown(r, at, f->section, key);
    int64_t *line = &f->line_of[row - espl_option_table];
    if (*line) return config_fail_twice(r, at, *line, f->section, key);
    *line = espl_jsonc_line(r, at);
    return espl_option_take(r, row, f->o);
}

static espl_status config_take_section(espl_jsonc *r, const char *name, int64_t at, void *context) {
    config_file *f = context;
    const espl_section *section = espl_section_find(name);
    if (!section) return espl_option_fail_unknown(r, at, name, "");
    int64_t *line = &f->line_of_section[section - espl_section_table];
    if (*line) return config_fail_twice(r, at, *line, name, "");
    *line = espl_jsonc_line(r, at);
    f->section = section->name;
    return espl_jsonc_members(r, "an object, { ... }, as a section", config_take_option, f);
}

espl_status espl_config_parse(const char *text, int64_t len, const char *name, espl_config *o) {
    espl_jsonc r = {.name = name, .text = text, .len = len, .lines = true};
    config_file f = {.o = o};
    return espl_jsonc_document(&r, config_take_section, &f);
}

espl_status espl_config_read(const char *path, espl_config *o) {
    char *text;
    int64_t len;
    ESPL_TRY(espl_file_read(path, CONFIG_FILE_BYTES_MAX, &text, &len));
    espl_status st = espl_config_parse(text, len, strcmp(path, "-") == 0 ? "standard input" : path, o);
    espl_mem_free(&text);
    return st;
}

espl_status espl_config_read_recorded(const char *path, espl_config *o) {
    cJSON *doc;
    ESPL_TRY(espl_json_read(path, MANIFEST_BYTES_MAX, &doc));
    const cJSON *config = espl_json_member(doc, "config");
    char *text = config ? cJSON_PrintUnformatted(config) : NULL;
    espl_status st = text ? espl_config_parse(text, (int64_t)strlen(text), path, o)
                          : ESPL_FAIL(ESPL_FORMAT, "%s: \"config\" is missing", path);
    cJSON_free(text);
    espl_json_free(&doc);
    return st;
}

espl_status espl_config_broadcast(espl_comm *c, espl_config *o) {
    espl_str text = {0};
    bool root = espl_comm_rank(c) == 0;
    espl_status st = espl_comm_agree(c, root ? espl_config_print(o, ESPL_CONFIG_PLAIN, &text) : ESPL_OK);
    if (st == ESPL_OK) st = espl_comm_broadcast_str(c, &text, 0);
    if (st == ESPL_OK && !root) st = espl_config_parse(text.data, text.len, "configuration of rank 0", o);
    espl_str_free(&text);
    return espl_comm_agree(c, st);
}

/* ----------------------------------------------------------------- --set */

/* On a command line, a text or a choice may stand without quotes: then it is all that follows the equals sign. */
static espl_status option_take_bare(espl_jsonc *r, const espl_option *row, espl_config *o) {
    for (int64_t i = 0, n; i < r->len; i += n)
        if ((n = espl_utf8_length(r->text + i, r->len - i)) == 0)
            return espl_jsonc_fail_with(r, 0, "this text is not UTF-8");
    if (row->type == ESPL_OPTION_TEXT) return option_store_text(row, r->text, o);
    const espl_choice *choice = option_find_choice(row, r->text);
    if (!choice) return option_fail_value(r, row, 0, r->len);
    *(int *)(void *)((char *)o + row->offset) = choice->value;
    return ESPL_OK;
}

/* The number as JSON writes it: shells and other programs also take ".45", "+1" and "5.". Anything else stays as it is,
 * for the message. */
static const char *option_spell_number(const char *text, char *buf, size_t size) {
    const char *p = text + (*text == '+' || *text == '-'), *digits = p;
    p += strspn(p, "0123456789");
    bool whole = p > digits, point = *p == '.';
    const char *fraction = p + point;
    p = fraction + strspn(fraction, "0123456789");
    if (!whole && p == fraction) return text; /* no digit at all */
    int n = snprintf(buf, size, "%s%s%.*s%s%s", *text == '-' ? "-" : "", whole ? "" : "0", (int)(p - digits), digits,
                     point && p == fraction ? "0" : "", p);
    return n >= 0 && (size_t)n < size ? buf : text;
}

espl_status espl_config_set(const char *assignment, espl_config *o) {
    char name[256], number[256];
    const char *equals = strchr(assignment, '=');
    espl_jsonc r = {.name = "--set", .text = ""};
    if (!equals || equals - assignment >= (ptrdiff_t)sizeof name)
        return espl_jsonc_fail_with(&r, 0, "expected section.key=value, for example --set prune.target=0.5");
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
    char *dot = strchr(name, '.');
    if (!dot) {
        espl_str s = {0};
        espl_jsonc_put_quoted(&s, name, (int64_t)strlen(name));
        espl_str_puts(&s, ": expected section.key=value; ");
        espl_option_put_suggestion(&s, name, "");
        return espl_jsonc_fail(&r, 0, &s);
    }
    *dot = '\0';
    const espl_option *row = espl_option_find(name, dot + 1);
    if (!row) return espl_option_fail_unknown(&r, 0, name, dot + 1);
    bool is_number = row->type == ESPL_OPTION_INTEGER || row->type == ESPL_OPTION_REAL;
    r.text = is_number ? option_spell_number(equals + 1, number, sizeof number) : equals + 1;
    r.len = (int64_t)strlen(r.text);
    bool words = row->type == ESPL_OPTION_TEXT || row->type == ESPL_OPTION_CHOICE;
    if (words && (r.len == 0 || r.text[0] != '"')) return option_take_bare(&r, row, o);
    ESPL_TRY(espl_option_take(&r, row, o));
    ESPL_TRY(espl_jsonc_skip_blank(&r));
    return r.at == r.len ? ESPL_OK : espl_jsonc_fail_expected(&r, "nothing more");
}
