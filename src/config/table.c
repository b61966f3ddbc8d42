/* The options as rows, made from the tables of run.h and agent.h. */
#include "espalier/config/table.h"

#include <stdlib.h>
#include <string.h>

#define ROW_TEXT(value_, lo_, hi_) .text = (value_), .values = (lo_)
#define ROW_INTEGER(value_, lo_, hi_) .value = (double)(value_), .lo = (double)(lo_), .hi = (double)(hi_)
#define ROW_REAL(value_, lo_, hi_) .value = (value_), .lo = (lo_), .hi = (hi_)
#define ROW_FLAG(value_, lo_, hi_) .value = (value_), .lo = 0, .hi = 1
#define POLICY_TYPE_double ESPL_OPTION_REAL

const espl_option espl_option_table[ESPL_OPTIONS] = {
#define X(type_, section_, key_, value_, lo_, hi_, meaning_)                                                           \
    {.section = #section_,                                                                                             \
     .key = #key_,                                                                                                     \
     .meaning = (meaning_),                                                                                            \
     .type = ESPL_OPTION_##type_,                                                                                      \
     .at = offsetof(espl_config, section_##_##key_),                                                                   \
     ROW_##type_(value_, lo_, hi_)},
    ESPL_CONFIG_OPTIONS(X)
#undef X
#define X(type_, key_, value_, lo_, hi_, meaning_)                                                                     \
    {.section = "policy",                                                                                              \
     .key = #key_,                                                                                                     \
     .meaning = (meaning_),                                                                                            \
     .type = POLICY_TYPE_##type_,                                                                                      \
     .at = offsetof(espl_config, policy) + offsetof(espl_policy_options, key_),                                        \
     ROW_REAL(value_, lo_, hi_)},
        ESPL_POLICY_LIST(X)
#undef X
};

const espl_section espl_section_table[ESPL_SECTIONS] = {
#define X(name_, meaning_) {.name = #name_, .meaning = (meaning_)},
    ESPL_CONFIG_SECTIONS(X)
#undef X
};

static espl_status set_default(const espl_option *row, espl_config *o) {
    void *field = espl_option_field(row, o);
    switch (row->type) {
    case ESPL_OPTION_TEXT: {
        int64_t n = (int64_t)strlen(row->text) + 1;
        ESPL_TRY(espl_mem_alloc(field, n, 1, "configuration"));
        memcpy(*(char **)field, row->text, (size_t)n);
        return ESPL_OK;
    }
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

espl_status espl_config_init(espl_config *o) {
    espl_status st = ESPL_OK;
    memset(o, 0, sizeof *o);
    for (int i = 0; st == ESPL_OK && i < ESPL_OPTIONS; i++) st = set_default(&espl_option_table[i], o);
    if (st != ESPL_OK) espl_config_free(o);
    return st;
}

void espl_config_free(espl_config *o) {
    for (int i = 0; i < ESPL_OPTIONS; i++)
        if (espl_option_table[i].type == ESPL_OPTION_TEXT) espl_mem_free(espl_option_field(&espl_option_table[i], o));
}

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

/* -------------------------------------------------------------- in words */

void espl_option_put_real(espl_str *s, double v) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    espl_str_puts(s, text);
}

static void put_values(espl_str *s, const char *values) {
    espl_str_puts(s, "one of \"");
    for (const char *p = values; *p; p++)
        if (*p == '|')
            espl_str_puts(s, "\", \"");
        else
            espl_str_put(s, p, 1);
    espl_str_puts(s, "\"");
}

void espl_option_put_expected(espl_str *s, const espl_option *row) {
    switch (row->type) {
    case ESPL_OPTION_TEXT:
        if (row->values)
            put_values(s, row->values);
        else
            espl_str_puts(s, "a text in quotes");
        return;
    case ESPL_OPTION_FLAG:
        espl_str_puts(s, "true or false");
        return;
    case ESPL_OPTION_INTEGER:
    case ESPL_OPTION_REAL:
        espl_str_puts(s, row->type == ESPL_OPTION_INTEGER ? "an integer from " : "a number from ");
        espl_option_put_real(s, row->lo);
        espl_str_puts(s, " to ");
        espl_option_put_real(s, row->hi);
        return;
    }
}
