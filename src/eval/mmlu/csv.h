/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the eval room: CSV files with a fixed number of columns. All functions are Local. */
#ifndef ESPL_EVAL_MMLU_CSV_H
#define ESPL_EVAL_MMLU_CSV_H

#include <stdint.h>

#include "espalier/base/status.h"

/* Zero-initialise; free with espl_csv_free. */
typedef struct espl_csv {
    char *text;     /* the cells, NUL-terminated */
    int64_t *cells; /* [rows * columns] offsets in text */
    int64_t *lines; /* [rows] line of the file on which a row starts, from 1 */
    int64_t rows, columns;
} espl_csv;

/* Parses text[0..len) as RFC 4180: quoted fields may hold doubled quotes, commas and line breaks; lines end with LF or
 * CRLF. Skips empty lines and a byte order mark. ESPL_FORMAT with `name` and the line: another number of columns, an
 * unclosed quote, text after a closing quote, or a NUL byte. On failure *out is empty. */
espl_status espl_csv_parse(const char *text, int64_t len, const char *name, int64_t columns, espl_csv *out);
/* The same for a file. ESPL_IO too. */
espl_status espl_csv_read(const char *path, int64_t columns, espl_csv *out);
/* Borrowed. */
const char *espl_csv_cell(const espl_csv *c, int64_t row, int64_t column);
void espl_csv_free(espl_csv *c);

#endif
