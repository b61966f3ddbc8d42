/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON writer. Every value passes json_writer_start, which is the only place that knows about commas, keys and line
 * breaks; a level remembers its layout and whether something was written into it.
 */
#include "espalier/base/json_writer.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

espl_json_writer espl_json_writer_on(espl_str *out) { return (espl_json_writer){.out = out}; }

/* The object counts as open at depth 1, so that espl_json_close writes its brace. */
espl_json_writer espl_json_writer_inside(espl_str *out, espl_json_layout layout, bool empty) {
    espl_json_writer w = {.out = out, .depth = 1};
    w.levels[0] = (struct espl_json_level){.layout = layout, .empty = empty};
    return w;
}

static void json_writer_break_line(espl_json_writer *w, int indent) {
    espl_str_puts(w->out, "\n");
    for (int i = 0; i < indent; i++) espl_str_puts(w->out, "  ");
}

/* What stands before a value: the comma behind the one before it, the line break of the layout, and the key. */
static void json_writer_start(espl_json_writer *w, const char *key) {
    if (w->depth == 0) return;
    struct espl_json_level *level = &w->levels[w->depth - 1];
    if (!level->empty) espl_str_puts(w->out, ",");
    if (level->layout == ESPL_JSON_LINES)
        json_writer_break_line(w, w->depth);
    else if (level->layout == ESPL_JSON_SPACED && !level->empty)
        espl_str_puts(w->out, " ");
    level->empty = false;
    if (level->array) return;
    espl_str_put_json(w->out, key, (int64_t)strlen(key));
    espl_str_puts(w->out, level->layout == ESPL_JSON_COMPACT ? ":" : ": ");
}

static void json_writer_open(espl_json_writer *w, const char *key, espl_json_layout layout, bool array) {
    json_writer_start(w, key);
    if (w->depth == ESPL_JSON_DEPTH) { /* a programming error: the file would be invalid, so it is not written */
        w->out->failed = true;
        return;
    }
    espl_str_puts(w->out, array ? "[" : "{");
    w->levels[w->depth++] = (struct espl_json_level){.layout = layout, .array = array, .empty = true};
}

void espl_json_open_object(espl_json_writer *w, const char *key, espl_json_layout layout) {
    json_writer_open(w, key, layout, false);
}

void espl_json_open_array(espl_json_writer *w, const char *key, espl_json_layout layout) {
    json_writer_open(w, key, layout, true);
}

/* An empty object is {} in every layout: no line break without members. */
void espl_json_close(espl_json_writer *w) {
    if (w->depth == 0) return;
    const struct espl_json_level *level = &w->levels[--w->depth];
    if (level->layout == ESPL_JSON_LINES && !level->empty) json_writer_break_line(w, w->depth);
    espl_str_puts(w->out, level->array ? "]" : "}");
}

void espl_json_put_text(espl_json_writer *w, const char *key, const char *text) {
    if (text)
        espl_json_put_bytes(w, key, text, (int64_t)strlen(text));
    else
        espl_json_put_raw(w, key, "null", 4);
}

void espl_json_put_bytes(espl_json_writer *w, const char *key, const char *bytes, int64_t len) {
    json_writer_start(w, key);
    espl_str_put_json(w->out, bytes, len);
}

void espl_json_put_i64(espl_json_writer *w, const char *key, int64_t value) {
    json_writer_start(w, key);
    espl_str_printf(w->out, "%" PRId64, value);
}

/* 17 significant digits identify every double (IEEE 754, 5.12.2). */
void espl_json_put_f64(espl_json_writer *w, const char *key, double value) { espl_json_put_rounded(w, key, value, 17); }

void espl_json_put_rounded(espl_json_writer *w, const char *key, double value, int digits) {
    json_writer_start(w, key);
    if (isfinite(value))
        espl_str_printf(w->out, "%.*g", digits, value);
    else
        espl_str_puts(w->out, "null");
}

void espl_json_put_fixed(espl_json_writer *w, const char *key, double value, int decimals) {
    json_writer_start(w, key);
    if (isfinite(value))
        espl_str_printf(w->out, "%.*f", decimals, value);
    else
        espl_str_puts(w->out, "null");
}

void espl_json_put_shortest(espl_json_writer *w, const char *key, double value) {
    json_writer_start(w, key);
    if (isfinite(value))
        espl_str_put_shortest(w->out, value);
    else
        espl_str_puts(w->out, "null");
}

void espl_json_put_bool(espl_json_writer *w, const char *key, bool value) {
    json_writer_start(w, key);
    espl_str_puts(w->out, value ? "true" : "false");
}

void espl_json_put_raw(espl_json_writer *w, const char *key, const char *json, int64_t len) {
    json_writer_start(w, key);
    espl_str_put(w->out, json, len);
}

void espl_json_put_printf(espl_json_writer *w, const char *key, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= (int)sizeof text) w->out->failed = true; /* cut text would be a wrong value */
    espl_json_put_text(w, key, text);
}

/* Every decimal of 15 digits survives the way through a double, and 17 digits identify every double: the loop ends with
 * the first number of digits that reads back. */
void espl_str_put_shortest(espl_str *s, double value) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    espl_str_puts(s, text);
}
