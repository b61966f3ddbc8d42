/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growable byte strings, copies of C strings, and UTF-8. All functions are Local.
 */
#ifndef ESPALIER_BASE_STR_H
#define ESPALIER_BASE_STR_H

#include "espalier/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* A growable byte string, NUL-terminated once anything was appended (data is NULL before). Zero-initialise it; free it
 * with espl_str_free. Errors are sticky: after a failed allocation `failed` is set and appends do nothing, so callers
 * append freely and check espl_str_status once at the end. */
typedef struct espl_str {
    char *data;
    int64_t len, cap; /* bytes, the NUL not counted in len */
    bool failed;
} espl_str;

void espl_str_put(espl_str *s, const void *bytes, int64_t n);
void espl_str_puts(espl_str *s, const char *cstr);
void espl_str_printf(espl_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Appends a JSON string with its quotes. Any bytes are allowed: those that are not UTF-8 become U+FFFD. */
void espl_str_put_json(espl_str *s, const char *bytes, int64_t n);
/* ESPL_NOMEM if an append failed. */
espl_status espl_str_status(const espl_str *s);
/* Frees the bytes and makes *s empty and usable again. */
void espl_str_free(espl_str *s);

/* Sets *out to a copy of a C string. ESPL_NOMEM naming `what`; *out is then NULL. Owned by the caller: espl_mem_free.
 */
espl_status espl_str_dup(char **out, const char *text, const char *what);
/* The same for `len` bytes, to which a NUL is appended. */
espl_status espl_str_ndup(char **out, const char *bytes, int64_t len, const char *what);

/* Length (1..4) of the well-formed UTF-8 sequence that starts at p[0..n), or 0 if it is ill-formed or cut off.
 * Surrogates, overlong forms and values above U+10FFFF are ill-formed (Unicode 15, table 3-7). n >= 1. */
int espl_utf8_length(const char *p, int64_t n);

#endif
