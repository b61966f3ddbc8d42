/* SPDX-License-Identifier: Apache-2.0 */
/* Forms with all kinds of values, and a checker of whole replies that shares no code with the automaton. */
#ifndef ESPL_TEST_SAMPLE_FORMS_H
#define ESPL_TEST_SAMPLE_FORMS_H

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/form/form.h"

#define COUNT(array) ((int64_t)(sizeof(array) / sizeof *(array)))

static const espl_form form_share = {.kind = ESPL_FORM_NUMBER, .lo = 0.01, .hi = 0.25, .decimals = 3};
static const espl_form form_signed = {.kind = ESPL_FORM_NUMBER, .lo = -12.5, .hi = 107.25, .decimals = 2};
static const espl_form form_far = {.kind = ESPL_FORM_NUMBER, .lo = 995, .hi = 20040};
static const espl_form form_negative = {.kind = ESPL_FORM_NUMBER, .lo = -0.75, .hi = -0.5, .decimals = 1};
static const espl_form form_why = {.kind = ESPL_FORM_TEXT, .max = 12, .about = "the reason"};
static const espl_form form_flag = {.kind = ESPL_FORM_BOOLEAN};

static const char *const pattern_names[] = {"2:4", "4:8", "unstructured"};
static const espl_form form_pattern = {.kind = ESPL_FORM_CHOICE, .names = pattern_names, .n_names = 3};
static const espl_form_member step_ways[] = {{NULL, &form_share}, {NULL, &form_pattern}};
static const espl_form form_step = {.kind = ESPL_FORM_EITHER, .members = step_ways, .n_members = 2};

/* Names that begin alike, one with a quote and one with two bytes to a character. */
static const espl_form_member plan_entries[] = {{"layers.1", &form_step},   {"layers.11", &form_share},
                                                {"layers.10", &form_share}, {"l", &form_pattern},
                                                {"\"\xC3\xA9", &form_step}, {"other", &form_signed}};
static const espl_form form_plan = {.kind = ESPL_FORM_MAP, .members = plan_entries, .n_members = 6, .min = 2, .max = 4};
static const espl_form form_any = {.kind = ESPL_FORM_MAP, .members = plan_entries, .n_members = 3, .max = 3};

static const espl_form form_lessons = {.kind = ESPL_FORM_ARRAY, .element = &form_why, .max = 3};
static const espl_form form_numbers = {.kind = ESPL_FORM_ARRAY, .element = &form_far, .min = 2, .max = 5};
static const espl_form form_plans = {.kind = ESPL_FORM_ARRAY, .element = &form_any, .min = 1, .max = 2};

static const char *const predict_name[] = {"predict"}, *const propose_name[] = {"propose"}, *const stop_name[] = {"st"};
static const espl_form form_predict_tag = {.kind = ESPL_FORM_CHOICE, .names = predict_name, .n_names = 1};
static const espl_form form_propose_tag = {.kind = ESPL_FORM_CHOICE, .names = propose_name, .n_names = 1};
static const espl_form form_stop_tag = {.kind = ESPL_FORM_CHOICE, .names = stop_name, .n_names = 1};
static const espl_form_member predict_parts[] = {{"action", &form_predict_tag}, {"plan", &form_plan}};
static const espl_form_member propose_parts[] = {
    {"action", &form_propose_tag}, {"why", &form_why}, {"plan", &form_any}, {"final", &form_flag}};
static const espl_form_member stop_parts[] = {{"action", &form_stop_tag}};
static const espl_form form_predict = {.kind = ESPL_FORM_OBJECT, .members = predict_parts, .n_members = 2};
static const espl_form form_propose = {.kind = ESPL_FORM_OBJECT, .members = propose_parts, .n_members = 4};
static const espl_form form_stop = {.kind = ESPL_FORM_OBJECT, .members = stop_parts, .n_members = 1};
static const espl_form_member action_forms[] = {{NULL, &form_predict}, {NULL, &form_propose}, {NULL, &form_stop}};
static const espl_form form_action = {
    .kind = ESPL_FORM_VARIANTS, .members = action_forms, .n_members = 3, .about = "what to do next"};

static const espl_form_member reply_parts[] = {{"lessons", &form_lessons}, {"debt", &form_negative},
                                               {"at", &form_numbers},      {"plans", &form_plans},
                                               {"next", &form_action},     {"sure", &form_flag}};
static const espl_form form_reply = {.kind = ESPL_FORM_OBJECT, .members = reply_parts, .n_members = 6};

static const espl_form *const sample_forms[] = {&form_reply, &form_action, &form_plan,   &form_plans,
                                                &form_why,   &form_flag,   &form_pattern};
enum { SAMPLE_FORMS = sizeof sample_forms / sizeof *sample_forms };

/* ------------------------------------------------------------- the checker
 *
 * Each function reads one value at *p and leaves *p behind it; NULL in *p after a failure. */

static inline void checker_value(const espl_form *f, const char **p);

static inline void checker_take(const char **p, char c) { *p = *p && **p == c ? *p + 1 : NULL; }

static inline void checker_space(const char **p) {
    if (*p && **p == ' ') ++*p;
}

/* Reads a string into value [size]; without \u escapes. */
static inline void checker_string(const char **p, char *value, int64_t size, int64_t *len) {
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    *len = 0;
    checker_take(p, '"');
    while (*p && **p != '"') {
        const char *escape = **p == '\\' && (*p)[1] ? strchr(escapes, (*p)[1]) : NULL;
        int n = escape || **p == '\\' ? 1 : espl_utf8_length(*p, (int64_t)strlen(*p) + 1);
        if ((**p == '\\' && !escape) || (uint8_t) * *p < 0x20 || n == 0 || *len + n >= size) {
            *p = NULL;
            return;
        }
        if (escape)
            value[*len] = meant[escape - escapes];
        else
            memcpy(value + *len, *p, (size_t)n);
        *len += n;
        *p += escape ? 2 : n;
    }
    if (*p) value[*len] = '\0';
    checker_take(p, '"');
}

static inline bool checker_is(const char **p, const char *name) {
    char value[256];
    int64_t len;
    const char *at = *p;
    checker_string(&at, value, sizeof value, &len);
    if (!at || strcmp(value, name) != 0) return false;
    *p = at;
    return true;
}

static inline void checker_number(const espl_form *f, const char **p) {
    const char *at = *p;
    int decimals = 0;
    if (*at == '-') at++;
    if (*at == '0' && at[1] >= '0' && at[1] <= '9') at = "";
    int digits = (int)strspn(at, "0123456789");
    at += digits;
    if (digits > 0 && *at == '.') {
        decimals = (int)strspn(at + 1, "0123456789");
        digits = decimals; /* at least one */
        at += 1 + decimals;
    }
    double v = strtod(*p, NULL);
    bool good = digits > 0 && decimals <= f->decimals && v >= f->lo - 1e-9 && v <= f->hi + 1e-9;
    *p = good ? at : NULL;
}

static inline void checker_object(const espl_form *f, const char **p) {
    bool seen[64] = {0}, map = f->kind == ESPL_FORM_MAP;
    int64_t n = 0;
    checker_take(p, '{');
    while (*p && **p != '}') {
        int64_t i = 0;
        if (n > 0) {
            checker_take(p, ',');
            checker_space(p);
        }
        if (!*p) return;
        while (i < f->n_members && !checker_is(p, f->members[i].name)) i++;
        if (i == f->n_members || seen[i] || (!map && i != n)) *p = NULL;
        if (!*p) return;
        seen[i] = true;
        n++;
        checker_take(p, ':');
        checker_space(p);
        checker_value(f->members[i].form, p);
    }
    checker_take(p, '}');
    if (map ? n < f->min || n > f->max : n != f->n_members) *p = NULL;
}

static inline void checker_value(const espl_form *f, const char **p) {
    char value[4096];
    int64_t n = 0;
    if (!*p) return;
    switch (f->kind) {
    case ESPL_FORM_TEXT:
        checker_string(p, value, sizeof value, &n);
        if (n > f->max) *p = NULL;
        return;
    case ESPL_FORM_CHOICE:
        while (n < f->n_names && !checker_is(p, f->names[n])) n++;
        if (n == f->n_names) *p = NULL;
        return;
    case ESPL_FORM_NUMBER:
        checker_number(f, p);
        return;
    case ESPL_FORM_BOOLEAN:
        *p = strncmp(*p, "true", 4) == 0 ? *p + 4 : strncmp(*p, "false", 5) == 0 ? *p + 5 : NULL;
        return;
    case ESPL_FORM_ARRAY:
        checker_take(p, '[');
        for (; *p && **p != ']'; n++) {
            if (n > 0) {
                checker_take(p, ',');
                checker_space(p);
            }
            checker_value(f->element, p);
        }
        checker_take(p, ']');
        if (n < f->min || n > f->max) *p = NULL;
        return;
    case ESPL_FORM_OBJECT:
    case ESPL_FORM_MAP:
        checker_object(f, p);
        return;
    case ESPL_FORM_VARIANTS:
    case ESPL_FORM_EITHER:
        for (int64_t i = 0; i < f->n_members; i++) {
            const char *at = *p;
            checker_value(f->members[i].form, &at);
            if (!at && i + 1 < f->n_members) continue;
            *p = at;
            return;
        }
    }
}

/* Is text, without NUL inside, a reply of the form and nothing else? */
static inline bool checker_accepts(const espl_form *f, const char *text) {
    checker_value(f, &text);
    return text && *text == '\0';
}

#endif
