/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of options, and what can be done with one row: print, compare, reset. Values live in espl_config; a row
 * knows their offset. Enumerations are stored as their C types, which are int-sized (asserted below), so that code
 * elsewhere switches on them instead of comparing strings.
 */
#include "espalier/config/table.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/base/json_writer.h"

/* --------------------------------------------------------------- choices */

#define LIST_END                                                                                                       \
    { NULL, 0 }
#define CHOICE(prefix, name, text) {text, prefix##name},

static const espl_choice choices_of_sample[] = {
#define X(name, text) CHOICE(ESPL_SAMPLE_, name, text)
    ESPL_SAMPLE_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_arithmetic[] = {
#define X(name, text) CHOICE(ESPL_ARITHMETIC_, name, text)
    ESPL_ARITHMETIC_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_documents[] = {
#define X(name, text) CHOICE(ESPL_DOCUMENTS_, name, text)
    ESPL_DOCUMENTS_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_io[] = {
#define X(name, text) CHOICE(ESPL_IO_, name, text)
    ESPL_IO_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_mmlu_split[] = {
#define X(name, text) CHOICE(ESPL_MMLU_SPLIT_, name, text)
    ESPL_MMLU_SPLIT_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_mmlu_style[] = {
#define X(name, text) CHOICE(ESPL_MMLU_, name, text)
    ESPL_MMLU_STYLE_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_score[] = {
#define X(name, text, activations, gradients, outputs) CHOICE(ESPL_SCORE_, name, text)
    ESPL_SCORE_LIST(X)
#undef X
        LIST_END};
/* Written out rather than generated: "agent" stands first in messages and documents because it is the default. */
static const espl_choice choices_of_allocation[] = {{"agent", ESPL_ALLOCATION_AGENT},
                                                    {"uniform", ESPL_ALLOCATION_UNIFORM},
                                                    {"owl", ESPL_ALLOCATION_OWL},
                                                    {"lsa", ESPL_ALLOCATION_LSA},
                                                    {"lsa-linear", ESPL_ALLOCATION_LSA_LINEAR},
                                                    {"search", ESPL_ALLOCATION_SEARCH},
                                                    {"global", ESPL_ALLOCATION_GLOBAL},
                                                    {"file", ESPL_ALLOCATION_GIVEN},
                                                    LIST_END};
static const espl_choice choices_of_update[] = {
#define X(name, text) CHOICE(ESPL_UPDATE_, name, text)
    ESPL_UPDATE_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_update_when[] = {
#define X(name, text) CHOICE(ESPL_UPDATE_WHEN_, name, text)
    ESPL_UPDATE_WHEN_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_backend[] = {
#define X(name, text) CHOICE(ESPL_BACKEND_, name, text)
    ESPL_BACKEND_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_view[] = {
#define X(name, text) CHOICE(ESPL_VIEW_, name, text)
    ESPL_VIEW_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_table[] = {
#define X(name, text) CHOICE(ESPL_TABLE_, name, text)
    ESPL_TABLE_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_tools[] = {
#define X(name, text) CHOICE(ESPL_TOOLS_, name, text)
    ESPL_TOOLS_LIST(X)
#undef X
        LIST_END};
static const espl_choice choices_of_fallback[] = {
#define X(name, text) CHOICE(ESPL_FALLBACK_, name, text)
    ESPL_FALLBACK_LIST(X)
#undef X
        LIST_END};

static const char *choice_name(const espl_choice *choices, int value) {
    while (choices->name && choices->value != value) choices++;
    return choices->name ? choices->name : "?";
}

const char *espl_sample_name(espl_sample s) { return choice_name(choices_of_sample, (int)s); }

/* ------------------------------------------------------------------ rows */

#define SIZE_CHECK_TEXT(type_)
#define SIZE_CHECK_CHOICE(type_) _Static_assert(sizeof(type_) == sizeof(int), "a choice is read and written as an int");
#define SIZE_CHECK_INTEGER(type_)
#define SIZE_CHECK_REAL(type_)
#define SIZE_CHECK_FLAG(type_)
#define SIZE_CHECK_NUMBERS(type_)
#define X(type, section, key, value, lo, hi, resume, meaning) SIZE_CHECK_##type(hi)
ESPL_CONFIG_OPTIONS(X)
#undef X

#define ROW_TEXT(value_, lo_, hi_) .text = (value_)
#define ROW_CHOICE(value_, lo_, hi_) .value = (double)(value_), .choices = choices_of_##lo_
#define ROW_INTEGER(value_, lo_, hi_) .value = (double)(value_), .lo = (double)(lo_), .hi = (double)(hi_)
#define ROW_REAL(value_, lo_, hi_) .value = (value_), .lo = (lo_), .hi = (hi_)
#define ROW_FLAG(value_, lo_, hi_) .value = (value_), .lo = 0, .hi = 1
#define ROW_NUMBERS(value_, lo_, hi_) .text = (value_), .lo = (lo_), .hi = (hi_)
#define POLICY_TYPE_double ESPL_OPTION_REAL

const espl_option espl_option_table[ESPL_OPTIONS] = {
#define X(type_, section_, key_, value_, lo_, hi_, resume_, meaning_)                                                  \
    {.section = #section_,                                                                                             \
     .key = #key_,                                                                                                     \
     .meaning = (meaning_),                                                                                            \
     .type = ESPL_OPTION_##type_,                                                                                      \
     .resume = ESPL_RESUME_##resume_,                                                                                  \
     .offset = offsetof(espl_config, section_##_##key_),                                                               \
     ROW_##type_(value_, lo_, hi_)},
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type_, key_, value_, lo_, hi_, meaning_)                                                                     \
    {.section = "policy",                                                                                              \
     .key = #key_,                                                                                                     \
     .meaning = (meaning_),                                                                                            \
     .type = POLICY_TYPE_##type_,                                                                                      \
     .resume = ESPL_RESUME_FREE,                                                                                       \
     .offset = offsetof(espl_config, policy) + offsetof(espl_policy_options, key_),                                    \
     ROW_REAL(value_, lo_, hi_)},
        ESPL_POLICY_LIST(X)
#undef X
};

const espl_section espl_section_table[ESPL_SECTIONS] = {
#define X(name_, meaning_) {.name = #name_, .meaning = (meaning_)},
    ESPL_CONFIG_SECTIONS(X)
#undef X
};

const espl_option *espl_option_find(const char *section, const char *key) {
    for (int i = 0; i < ESPL_OPTIONS; i++)
        if (strcmp(espl_option_table[i].section, section) == 0 && strcmp(espl_option_table[i].key, key) == 0)
            return &espl_option_table[i];
    return NULL;
}

const espl_section *espl_section_find(const char *name) {
    for (int i = 0; i < ESPL_SECTIONS; i++)
        if (strcmp(espl_section_table[i].name, name) == 0) return &espl_section_table[i];
    return NULL;
}

/* ---------------------------------------------------------------- values */

static const void *option_field(const espl_option *row, const espl_config *o) { return (const char *)o + row->offset; }

void espl_option_put_plain(espl_str *s, const espl_option *row, const espl_config *o) {
    const void *field = option_field(row, o);
    switch (row->type) {
    case ESPL_OPTION_TEXT:
    case ESPL_OPTION_NUMBERS:
        espl_str_puts(s, *(char *const *)field);
        return;
    case ESPL_OPTION_CHOICE:
        espl_str_puts(s, choice_name(row->choices, *(const int *)field));
        return;
    case ESPL_OPTION_INTEGER:
        espl_str_printf(s, "%" PRId64, *(const int64_t *)field);
        return;
    case ESPL_OPTION_REAL:
        espl_str_put_shortest(s, *(const double *)field);
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, *(const bool *)field ? "true" : "false");
        return;
    }
}

void espl_option_put_value(espl_str *s, const espl_option *row, const espl_config *o) {
    espl_str plain = {0};
    espl_option_put_plain(&plain, row, o);
    if (plain.failed)
        s->failed = true;
    else if (row->type == ESPL_OPTION_TEXT || row->type == ESPL_OPTION_CHOICE)
        espl_str_put_json(s, plain.data ? plain.data : "", plain.len);
    else if (row->type == ESPL_OPTION_NUMBERS)
        espl_str_printf(s, "[%s]", plain.data ? plain.data : "");
    else
        espl_str_put(s, plain.data, plain.len);
    espl_str_free(&plain);
}

/* From the row, not from a fresh espl_config, so that it cannot fail. */
void espl_option_put_default(espl_str *s, const espl_option *row) {
    switch (row->type) {
    case ESPL_OPTION_TEXT:
        espl_str_put_json(s, row->text, (int64_t)strlen(row->text));
        return;
    case ESPL_OPTION_NUMBERS:
        espl_str_printf(s, "[%s]", row->text);
        return;
    case ESPL_OPTION_CHOICE:
        espl_str_printf(s, "\"%s\"", choice_name(row->choices, (int)row->value));
        return;
    case ESPL_OPTION_INTEGER:
    case ESPL_OPTION_REAL:
        espl_str_put_shortest(s, row->value);
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, row->value != 0 ? "true" : "false");
        return;
    }
}

void espl_option_put_expected(espl_str *s, const espl_option *row) {
    switch (row->type) {
    case ESPL_OPTION_TEXT:
        espl_str_puts(s, "a text in quotes");
        return;
    case ESPL_OPTION_CHOICE:
        espl_str_puts(s, "one of ");
        for (const espl_choice *c = row->choices; c->name; c++)
            espl_str_printf(s, "%s\"%s\"", c == row->choices ? "" : ", ", c->name);
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, "true or false");
        return;
    case ESPL_OPTION_INTEGER:
    case ESPL_OPTION_REAL:
    case ESPL_OPTION_NUMBERS:
        espl_str_puts(s, row->type == ESPL_OPTION_INTEGER ? "an integer from "
                         : row->type == ESPL_OPTION_REAL  ? "a number from "
                                                          : "a list, [ ... ], of numbers from ");
        espl_str_put_shortest(s, row->lo);
        espl_str_puts(s, " to ");
        espl_str_put_shortest(s, row->hi);
        return;
    }
}

bool espl_option_equal(const espl_option *row, const espl_config *a, const espl_config *b) {
    const void *x = option_field(row, a), *y = option_field(row, b);
    switch (row->type) {
    case ESPL_OPTION_TEXT:
    case ESPL_OPTION_NUMBERS:
        return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case ESPL_OPTION_CHOICE:
        return *(const int *)x == *(const int *)y;
    case ESPL_OPTION_INTEGER:
        return *(const int64_t *)x == *(const int64_t *)y;
    case ESPL_OPTION_REAL:
        return *(const double *)x == *(const double *)y;
    case ESPL_OPTION_FLAG:
        return *(const bool *)x == *(const bool *)y;
    }
    return false;
}

/* A text is resized in place: the field is NULL before the first call. */
espl_status espl_option_reset(const espl_option *row, espl_config *o) {
    void *field = (char *)o + row->offset;
    switch (row->type) {
    case ESPL_OPTION_TEXT:
    case ESPL_OPTION_NUMBERS:
        espl_mem_free(field);
        return espl_str_dup(field, row->text, "configuration");
    case ESPL_OPTION_CHOICE:
        *(int *)field = (int)row->value;
        return ESPL_OK;
    case ESPL_OPTION_INTEGER:
        *(int64_t *)field = (int64_t)row->value;
        return ESPL_OK;
    case ESPL_OPTION_REAL:
        *(double *)field = row->value;
        return ESPL_OK;
    case ESPL_OPTION_FLAG:
        *(bool *)field = row->value != 0;
        return ESPL_OK;
    }
    return ESPL_OK;
}

/* ---------------------------------------------------- whole configurations */

espl_status espl_config_init(espl_config *o) {
    espl_status st = ESPL_OK;
    memset(o, 0, sizeof *o);
    for (int i = 0; i < ESPL_OPTIONS; i++) ESPL_CHECK(st, failed, espl_option_reset(&espl_option_table[i], o));
    return ESPL_OK;
failed:
    espl_config_free(o);
    return st;
}

void espl_config_free(espl_config *o) {
    for (const espl_option *row = espl_option_table; row < espl_option_table + ESPL_OPTIONS; row++)
        if (row->type == ESPL_OPTION_TEXT || row->type == ESPL_OPTION_NUMBERS) espl_mem_free((char *)o + row->offset);
}

espl_status espl_config_differences(const espl_config *then, const espl_config *now, unsigned classes, int64_t max,
                                    espl_str *out) {
    int64_t found = 0;
    for (int i = 0; i < ESPL_OPTIONS && found < max; i++) {
        const espl_option *row = &espl_option_table[i];
        if (!(classes >> row->resume & 1) || espl_option_equal(row, then, now)) continue;
        espl_str_printf(out, "%s%s.%s", found++ ? ", " : "", row->section, row->key);
    }
    return espl_str_status(out);
}
