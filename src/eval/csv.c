/* CSV as hostile input. */
#include "internal.h"

#include <string.h>

enum { CSV_BYTES = 1 << 28 };

typedef struct reader {
    const char *at, *end, *name;
    int64_t line;
    espl_str text; /* the cells so far */
    int64_t *cells, *lines;
    int64_t n_cells, cap_cells, rows, cap_rows, columns;
} reader;

static espl_status malformed(const reader *r, int64_t line, const char *what) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: line %lld: %s", r->name, (long long)line, what);
}

static espl_status append(int64_t **array, int64_t *n, int64_t *cap, int64_t value) {
    if (*n == *cap) {
        int64_t grown = *cap ? *cap * 2 : 64;
        ESPL_TRY(espl_mem_resize(array, grown, sizeof **array, "CSV cells"));
        *cap = grown;
    }
    (*array)[(*n)++] = value;
    return ESPL_OK;
}

/* A line break at the reader's place: its length, 0 if there is none. */
static int64_t line_break(const reader *r) {
    if (r->at < r->end && *r->at == '\n') return 1;
    return r->end - r->at >= 2 && r->at[0] == '\r' && r->at[1] == '\n' ? 2 : 0;
}

static void put_byte(reader *r) {
    if (*r->at == '\n') r->line++;
    espl_str_put(&r->text, r->at++, 1);
}

static espl_status quoted_field(reader *r) {
    int64_t opened = r->line;
    for (r->at++; r->at < r->end; put_byte(r)) {
        if (*r->at == '\0') return malformed(r, r->line, "a NUL byte");
        if (*r->at != '"') continue;
        r->at++;
        if (r->at == r->end || *r->at != '"') {
            bool ends = r->at == r->end || *r->at == ',' || line_break(r);
            return ends ? ESPL_OK : malformed(r, r->line, "text after a closing quote");
        }
    }
    return malformed(r, opened, "a quote is opened and not closed");
}

static espl_status plain_field(reader *r) {
    while (r->at < r->end && *r->at != ',' && !line_break(r)) {
        if (*r->at == '\0') return malformed(r, r->line, "a NUL byte");
        put_byte(r);
    }
    return ESPL_OK;
}

static espl_status record(reader *r) {
    int64_t started = r->line, n = 0;
    ESPL_TRY(append(&r->lines, &r->rows, &r->cap_rows, started));
    for (bool more = true; more; n++) {
        ESPL_TRY(append(&r->cells, &r->n_cells, &r->cap_cells, r->text.len));
        ESPL_TRY(r->at < r->end && *r->at == '"' ? quoted_field(r) : plain_field(r));
        espl_str_put(&r->text, "", 1);
        more = r->at < r->end && *r->at == ',';
        if (more) r->at++;
    }
    int64_t skip = line_break(r);
    r->at += skip;
    r->line += skip > 0;
    if (n == r->columns) return espl_str_status(&r->text);
    return ESPL_FAIL(ESPL_FORMAT, "%s: line %lld: %lld columns, expected %lld", r->name, (long long)started,
                     (long long)n, (long long)r->columns);
}

static espl_status all_records(reader *r) {
    if (r->end - r->at >= 3 && memcmp(r->at, "\xEF\xBB\xBF", 3) == 0) r->at += 3;
    while (r->at < r->end) {
        int64_t skip = line_break(r);
        r->at += skip;
        r->line += skip > 0;
        if (!skip) ESPL_TRY(record(r));
    }
    return ESPL_OK;
}

espl_status csv_parse(const char *text, int64_t len, const char *name, int64_t columns, csv *out) {
    reader r = {.at = text, .end = text + len, .name = name, .line = 1, .columns = columns};
    espl_status st = all_records(&r);
    *out = (csv){.text = r.text.data, .cells = r.cells, .lines = r.lines, .rows = r.rows, .columns = columns};
    if (st != ESPL_OK) csv_free(out);
    return st;
}

espl_status csv_read(const char *path, int64_t columns, csv *out) {
    char *text;
    int64_t len;
    *out = (csv){0};
    ESPL_TRY(espl_file_read(path, CSV_BYTES, &text, &len));
    espl_status st = csv_parse(text, len, path, columns, out);
    espl_mem_free(&text);
    return st;
}

const char *csv_cell(const csv *c, int64_t row, int64_t column) {
    return c->text + c->cells[row * c->columns + column];
}

void csv_free(csv *c) {
    espl_mem_free(&c->text);
    espl_mem_free(&c->cells);
    espl_mem_free(&c->lines);
    c->rows = 0;
}
