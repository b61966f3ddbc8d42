/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journals. A run that is killed may repeat an iteration; on opening, the lines beyond the last checkpoint's iteration
 * are cut off, so that the file reads as if the run had never stopped. One write(2) per line in append mode keeps lines
 * whole.
 */
#include "espalier/base/journal.h"

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct espl_journal {
    int fd;     /* opened with O_APPEND */
    char *path; /* for messages */
};

espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx, int64_t *end) {
    char *text = NULL; /* of getline: freed with free */
    size_t cap = 0;
    espl_status st = ESPL_OK;
    FILE *f = fopen(path, "rbe");
    if (!f) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    *end = 0;
    for (int64_t number = 1; st == ESPL_OK; number++) {
        char where[512];
        struct cJSON *line;
        int64_t iteration = 0;
        ssize_t n = getline(&text, &cap, f);
        if (n <= 0 || text[n - 1] != '\n') break; /* a last line without its end was cut off by a kill */
        snprintf(where, sizeof where, "%s: line %" PRId64, path, number);
        st = espl_json_parse(text, n, where, &line);
        if (st == ESPL_OK) st = espl_json_get_i64(line, "iteration", where, true, 0, (int64_t)1 << 50, &iteration);
        if (st == ESPL_OK) st = reader(ctx, line, iteration, *end);
        espl_json_free(&line);
        *end += n;
    }
    if (st == ESPL_OK && ferror(f)) st = ESPL_FAIL(ESPL_IO, "%s: cannot be read: %s", path, strerror(errno));
    free(text);
    fclose(f);
    return st;
}

typedef struct journal_cut {
    int64_t keep; /* last iteration that stays */
    int64_t at;   /* offset of the first line beyond it, < 0: no such line */
} journal_cut;

static espl_status journal_find_cut(void *ctx, const struct cJSON *line, int64_t iteration, int64_t offset) {
    journal_cut *cut = ctx;
    (void)line;
    if (cut->at < 0 && iteration > cut->keep) cut->at = offset;
    return ESPL_OK;
}

/* Opens a journal of the run directory, which must be a file of its own: a link that somebody has planted in a shared
 * directory would have its target truncated and written. */
static espl_status journal_open_file(espl_journal *j, int64_t keep) {
    journal_cut cut = {keep, -1};
    int64_t end = 0;
    struct stat info;
    bool exists = lstat(j->path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode))
        return ESPL_FAIL(ESPL_IO, "%s: is a link or special file, expected a regular one", j->path);
    /* Read before it is opened for writing: a file of another kind is refused unchanged. */
    if (exists) ESPL_TRY(espl_journal_read(j->path, journal_find_cut, &cut, &end));
    j->fd = open(j->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (j->fd < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", j->path, strerror(errno));
    if (exists && ftruncate(j->fd, cut.at >= 0 ? cut.at : end) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be truncated: %s", j->path, strerror(errno));
    return ESPL_OK;
}

espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep) {
    espl_journal *j = NULL;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_mem_alloc(&j, 1, sizeof *j, "journal"));
    j->fd = -1;
    st = espl_str_dup(&j->path, path, "journal");
    if (st == ESPL_OK) st = journal_open_file(j, keep);
    if (st != ESPL_OK) espl_journal_close(&j);
    *out = j;
    return st;
}

void espl_journal_close(espl_journal **j) {
    if (!*j) return;
    if ((*j)->fd >= 0) close((*j)->fd);
    espl_mem_free(&(*j)->path);
    espl_mem_free(j);
}

espl_json_writer espl_journal_begin(espl_str *s, int64_t iteration, const char *type) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t milliseconds = now.tv_nsec / 1000000; /* cut, not rounded: a line is never from the future */
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_i64(&w, "iteration", iteration);
    espl_json_put_text(&w, "type", type);
    espl_json_put_fixed(&w, "time", (double)now.tv_sec + (double)milliseconds / 1000, 3);
    return w;
}

espl_status espl_journal_end(espl_journal *j, espl_json_writer *line) {
    espl_str *s = line->out;
    espl_json_close(line);
    espl_str_puts(s, "\n");
    espl_status st = espl_str_status(s);
    if (st == ESPL_OK && line->depth != 0)
        st = ESPL_FAIL(ESPL_INTERNAL, "journal: a line ends inside an array or object");
    if (j) (void)espl_fault("journal.line");
    if (st == ESPL_OK && j && !espl_file_write_all(j->fd, s->data, s->len))
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", j->path, strerror(errno));
    espl_str_free(s);
    return st;
}
