/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The status table, and the current error. The error is per thread: a failure inside a parallel region belongs to the
 * thread that met it, and whoever merges the threads' codes has to carry the text over.
 */
#include "espalier/base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char error_text[ESPL_ERROR_TEXT_MAX];
static _Thread_local char error_place[128];

static const struct {
    const char *name;
    int exit_code;
    const char *text;
} status_table[ESPL_STATUS_COUNT] = {
#define X(name, exit_code, text) {#name, exit_code, text},
    ESPL_STATUS_LIST(X)
#undef X
};

/* A status may arrive from another rank as an int. */
static bool status_is_known(espl_status st) { return (int)st >= 0 && st < ESPL_STATUS_COUNT; }

const char *espl_status_name(espl_status st) { return status_is_known(st) ? status_table[st].name : "?"; }

const char *espl_status_text(espl_status st) { return status_is_known(st) ? status_table[st].text : "unknown status"; }

int espl_status_exit_code(espl_status st) { return status_is_known(st) ? status_table[st].exit_code : 1; }

espl_status espl_base_fail(espl_status code, const char *file, int line, const char *fmt, ...) {
    char text[ESPL_ERROR_TEXT_MAX]; /* an argument may point into error_text: format aside first */
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    memcpy(error_text, text, sizeof text);
    /* __FILE__ is whatever path the compiler was given: name the file relative to the repository. */
    const char *src = strstr(file, "/src/");
    snprintf(error_place, sizeof error_place, "%s:%d", src ? src + 1 : file, line);
    return code;
}

const char *espl_base_error_text(void) { return error_text; }

const char *espl_base_error_place(void) { return error_place; }

void espl_base_error_set(const char *place, const char *text) {
    snprintf(error_place, sizeof error_place, "%s", place);
    snprintf(error_text, sizeof error_text, "%s", text);
}

void espl_base_error_clear(void) { error_text[0] = error_place[0] = '\0'; }
