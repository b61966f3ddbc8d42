/* SPDX-License-Identifier: Apache-2.0 */
/* Pages of docs/ that programs write from what the engine follows: written anew, or compared by a test. */
#ifndef ESPL_TESTS_PAGE_H
#define ESPL_TESTS_PAGE_H

#include <stdio.h>
#include <string.h>

#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"

/* Writes the page to standard output or, with a path, checks that the file is this text; if it is not, tells on stderr
 * that `command` writes it. Returns the exit code: 1 for another text, or what cannot be read or written. */
static inline int page_publish(const espl_str *text, const char *path, const char *command) {
    char *held;
    int64_t len;
    if (espl_str_status(text) != ESPL_OK) return 1;
    if (!path)
        return fwrite(text->data, 1, (size_t)text->len, stdout) == (size_t)text->len && fflush(stdout) == 0 ? 0 : 1;
    if (espl_file_read(path, 1 << 20, &held, &len) != ESPL_OK) {
        fprintf(stderr, "%s\n", espl_base_error_text());
        return 1;
    }
    bool same = len == text->len && memcmp(held, text->data, (size_t)len) == 0;
    if (!same) fprintf(stderr, "%s is out of date: run %s > %s\n", path, command, path);
    espl_mem_free(&held);
    return same ? 0 : 1;
}

#endif
