/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON writer over an espl_str: it places commas, colons and line breaks, escapes texts, and prints numbers that read
 * back exactly. Callers name members; they never write punctuation. All functions are Local.
 *
 *     espl_json_writer w = espl_json_writer_on(&text);
 *     espl_json_open_object(&w, NULL, ESPL_JSON_LINES);
 *     espl_json_put_i64(&w, "iterations", n);
 *     espl_json_open_array(&w, "rates", ESPL_JSON_SPACED);
 *     espl_json_put_f64(&w, NULL, rate);
 *     espl_json_close(&w);
 *     espl_json_close(&w);
 *
 * Failures (out of memory, nesting deeper than ESPL_JSON_DEPTH) are kept in the espl_str: check espl_str_status at the
 * end. Key rules: members of an object have a key; elements of an array and the outermost value have key NULL.
 */
#ifndef ESPALIER_BASE_JSON_WRITER_H
#define ESPALIER_BASE_JSON_WRITER_H

#include "espalier/base/str.h"

/* How the members of one object or array are laid out. */
typedef enum espl_json_layout {
    ESPL_JSON_COMPACT, /* {"a":1,"b":2}: records, one per line */
    ESPL_JSON_SPACED,  /* {"a": 1, "b": 2}: short objects inside a file for people */
    ESPL_JSON_LINES    /* one member per line, indented by two spaces per level: files for people */
} espl_json_layout;

enum { ESPL_JSON_DEPTH = 32 };

typedef struct espl_json_writer {
    espl_str *out; /* borrowed */
    int depth;     /* open objects and arrays */
    struct espl_json_level {
        espl_json_layout layout;
        bool array, empty;
    } levels[ESPL_JSON_DEPTH];
} espl_json_writer;

/* A writer that appends to *out, which may already hold text. */
espl_json_writer espl_json_writer_on(espl_str *out);
/* A writer that appends members to an object whose opening brace, and perhaps some members, are already in *out.
 * espl_json_close then closes that object. */
espl_json_writer espl_json_writer_inside(espl_str *out, espl_json_layout layout, bool empty);

void espl_json_open_object(espl_json_writer *w, const char *key, espl_json_layout layout);
void espl_json_open_array(espl_json_writer *w, const char *key, espl_json_layout layout);
/* Closes the innermost open object or array. */
void espl_json_close(espl_json_writer *w);

/* A string; NULL becomes null. Bytes that are not UTF-8 become U+FFFD. */
void espl_json_put_text(espl_json_writer *w, const char *key, const char *text);
void espl_json_put_bytes(espl_json_writer *w, const char *key, const char *bytes, int64_t len);
void espl_json_put_i64(espl_json_writer *w, const char *key, int64_t value);
/* 17 significant digits, which read back as the same double; null if the value is not finite. */
void espl_json_put_f64(espl_json_writer *w, const char *key, double value);
/* `digits` significant digits, for people; null if the value is not finite. */
void espl_json_put_rounded(espl_json_writer *w, const char *key, double value, int digits);
/* `decimals` digits behind the point, as clocks are shown; null if the value is not finite. */
void espl_json_put_fixed(espl_json_writer *w, const char *key, double value, int decimals);
/* The fewest digits, 15 to 17, that read back as the same double; null if the value is not finite. */
void espl_json_put_shortest(espl_json_writer *w, const char *key, double value);
void espl_json_put_bool(espl_json_writer *w, const char *key, bool value);
/* JSON text that is already valid, copied as it is. */
void espl_json_put_raw(espl_json_writer *w, const char *key, const char *json, int64_t len);
/* printf text as a string value. */
void espl_json_put_printf(espl_json_writer *w, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends the fewest digits, 15 to 17, that read back as the same finite double. */
void espl_str_put_shortest(espl_str *s, double value);

#endif
