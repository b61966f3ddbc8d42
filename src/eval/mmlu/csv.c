/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CSV by RFC 4180, as hostile input (tests/fuzz/fuzz_knowledge.c). Cells are read as text, unlike by pandas, which
 * hendrycks/test uses and which turns "0.50" into 0.5 and "None" into nan.
 */
#include "mmlu/csv.h"

#include "note.h"

#include <inttypes.h>
#include <string.h>

#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"

/* MMLU's largest file, professional_law_test.csv, has 1.9 MB. */
enum { CSV_MAX_BYTES = 1 << 28 };

typedef struct csv_reader {
    const char *at, *end, *name;
    int64_t line;
    espl_str text; /* the cells so far */
    int64_t *cells, *lines;
    int64_t n_cells, cap_cells, rows, cap_rows, columns;
} csv_reader;

static espl_status csv_malformed(const csv_reader *r, int64_t line, const char *what) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: line %" PRId64 ": %s", r->name, line, what);
}

/* Appends to one of the arrays of 64-bit offsets. */
static espl_status csv_append(int64_t **array, int64_t *n, int64_t *cap, int64_t value) {
    if (*n == *cap) {
        int64_t grown = *cap ? *cap * 2 : 64;
        ESPL_TRY(espl_mem_resize(array, grown, sizeof **array, "CSV cells"));
        *cap = grown;
    }
    (*array)[(*n)++] = value;
    return ESPL_OK;
}

/* Length of the line break at the reader's position, 0 if there is none. A lone CR is text. */
static int64_t csv_line_break(const csv_reader *r) {
    if (r->at < r->end && *r->at == '\n') return 1;
    return r->end - r->at >= 2 && r->at[0] == '\r' && r->at[1] == '\n' ? 2 : 0;
}

/* Returns whether there was a line break to skip. */
static bool csv_skip_line_break(csv_reader *r) {
    int64_t n = csv_line_break(r);
    r->at += n;
    r->line += n > 0;
    return n > 0;
}

/* Copies a byte of a cell; line breaks inside quotes count for messages. */
static void csv_put_byte(csv_reader *r) {
    if (*r->at == '\n') r->line++;
    espl_str_put(&r->text, r->at++, 1);
}

/* Reads one field up to the comma, the line break or the end. A quote opens a quoted field only as its first byte;
 * elsewhere it stands for itself. */
static espl_status csv_read_field(csv_reader *r) {
    int64_t opened = r->line;
    if (r->at == r->end || *r->at != '"') {
        while (r->at < r->end && *r->at != ',' && !csv_line_break(r)) {
            if (*r->at == '\0') return csv_malformed(r, r->line, "a NUL byte");
            csv_put_byte(r);
        }
        return ESPL_OK;
    }
    for (r->at++; r->at < r->end; csv_put_byte(r)) {
        if (*r->at == '\0') return csv_malformed(r, r->line, "a NUL byte");
        if (*r->at != '"') continue;
        r->at++;
        if (r->at < r->end && *r->at == '"') continue; /* doubled: one quote */
        bool ends = r->at == r->end || *r->at == ',' || csv_line_break(r);
        return ends ? ESPL_OK : csv_malformed(r, r->line, "text after a closing quote");
    }
    return csv_malformed(r, opened, "a quote is opened and not closed");
}

/* Reads one row. The number of columns is checked at its end, so that the message can name what was found. */
static espl_status csv_read_row(csv_reader *r) {
    int64_t started = r->line, n = 0;
    ESPL_TRY(csv_append(&r->lines, &r->rows, &r->cap_rows, started));
    for (bool more = true; more; n++) {
        ESPL_TRY(csv_append(&r->cells, &r->n_cells, &r->cap_cells, r->text.len));
        ESPL_TRY(csv_read_field(r));
        espl_str_put(&r->text, "", 1); /* the NUL */
        more = r->at < r->end && *r->at == ',';
        if (more) r->at++;
    }
    csv_skip_line_break(r);
    if (n != r->columns)
        return ESPL_FAIL(ESPL_FORMAT, "%s: line %" PRId64 ": %" PRId64 " columns, expected %" PRId64, r->name, started,
                         n, r->columns);
    return espl_str_status(&r->text);
}

espl_status espl_csv_parse(const char *text, int64_t len, const char *name, int64_t columns, espl_csv *out) {
    csv_reader r = {.at = text, .end = text + len, .name = name, .line = 1, .columns = columns};
    espl_status st = ESPL_OK;
    if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) r.at += 3; /* byte order mark */
    while (st == ESPL_OK && r.at < r.end)
        if (!csv_skip_line_break(&r)) st = csv_read_row(&r);
    *out = (espl_csv){.text = r.text.data, .cells = r.cells, .lines = r.lines, .rows = r.rows, .columns = columns};
    if (st != ESPL_OK) espl_csv_free(out);
    return st;
}

espl_status espl_csv_read(const char *path, int64_t columns, espl_csv *out) {
    char *text;
    int64_t len;
    *out = (espl_csv){0};
    ESPL_TRY(espl_file_read(path, CSV_MAX_BYTES, &text, &len));
    espl_eval_note_invalid_bytes(path, text, len);
    espl_status st = espl_csv_parse(text, len, path, columns, out);
    espl_mem_free(&text);
    return st;
}

const char *espl_csv_cell(const espl_csv *c, int64_t row, int64_t column) {
    return c->text + c->cells[row * c->columns + column];
}

void espl_csv_free(espl_csv *c) {
    espl_mem_free(&c->text);
    espl_mem_free(&c->cells);
    espl_mem_free(&c->lines);
    c->rows = 0;
}
