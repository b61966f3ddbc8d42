/* JSON lines, each written at once, so that a killed run leaves whole lines. */
#include "espalier/base.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct espl_journal {
    int fd;
    char *path;
};

/* ------------------------------------------------------------------ reading */

static espl_status read_line(const char *path, int64_t number, const char *text, int64_t len, int64_t offset,
                             espl_line_reader reader, void *ctx) {
    char where[512];
    cJSON *line;
    int64_t iteration = 0;
    snprintf(where, sizeof where, "%s: line %lld", path, (long long)number);
    ESPL_TRY(espl_json_parse(text, len, where, &line));
    espl_status st = espl_json_get_i64(line, "iteration", where, true, 0, (int64_t)1 << 50, &iteration);
    if (st == ESPL_OK) st = reader(ctx, line, iteration, offset);
    espl_json_free(&line);
    return st;
}

static espl_status read_lines(FILE *f, const char *path, espl_line_reader reader, void *ctx, int64_t *end) {
    char *line = NULL;
    size_t cap = 0;
    int64_t offset = 0;
    espl_status st = ESPL_OK;
    for (int64_t number = 1; st == ESPL_OK; number++) {
        ssize_t n = getline(&line, &cap, f);
        if (n <= 0 || line[n - 1] != '\n') break; /* a last line without its end was cut off by a kill */
        st = read_line(path, number, line, n, offset, reader, ctx);
        offset += n;
    }
    free(line);
    *end = offset;
    if (st == ESPL_OK && ferror(f)) st = ESPL_FAIL(ESPL_IO, "%s: cannot be read: %s", path, strerror(errno));
    return st;
}

espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx, int64_t *end) {
    FILE *f = fopen(path, "rbe");
    if (!f) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    espl_status st = read_lines(f, path, reader, ctx, end);
    fclose(f);
    return st;
}

/* ------------------------------------------------------------------ opening */

typedef struct cut {
    int64_t keep, at; /* at < 0: nothing to cut */
} cut;

static espl_status look_for_cut(void *ctx, const struct cJSON *line, int64_t iteration, int64_t offset) {
    cut *c = ctx;
    (void)line;
    if (c->at < 0 && iteration > c->keep) c->at = offset;
    return ESPL_OK;
}

static espl_status cut_file(const char *path, int64_t keep) {
    cut c = {keep, -1};
    int64_t end = 0;
    if (!espl_file_exists(path)) return ESPL_OK;
    ESPL_TRY(espl_journal_read(path, look_for_cut, &c, &end));
    if (truncate(path, c.at >= 0 ? c.at : end) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be cut: %s", path, strerror(errno));
    return ESPL_OK;
}

static espl_status copy_path(espl_journal *j, const char *path) {
    ESPL_TRY(espl_mem_alloc(&j->path, (int64_t)strlen(path) + 1, 1, "path"));
    memcpy(j->path, path, strlen(path) + 1);
    return ESPL_OK;
}

espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep) {
    espl_journal *j;
    ESPL_TRY(cut_file(path, keep));
    ESPL_TRY(espl_mem_alloc(&j, 1, sizeof *j, "journal"));
    j->fd = -1;
    espl_status st = copy_path(j, path);
    if (st == ESPL_OK) {
        j->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
        if (j->fd < 0) st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
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

/* ------------------------------------------------------------------ writing */

void espl_journal_begin(espl_str *s, int64_t iteration, const char *type) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    espl_str_printf(s, "{\"iteration\":%lld,\"type\":\"%s\",\"time\":%lld.%03ld", (long long)iteration, type,
                    (long long)now.tv_sec, now.tv_nsec / 1000000);
}

void espl_journal_put_text(espl_str *s, const char *key, const char *text, int64_t len) {
    espl_str_printf(s, ",\"%s\":", key);
    espl_str_put_json(s, text ? text : "", text ? len : 0);
}

static espl_status write_all(const espl_journal *j, const char *p, int64_t len) {
    while (len > 0) {
        ssize_t n = write(j->fd, p, (size_t)len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", j->path, strerror(errno));
        p += n;
        len -= n;
    }
    return ESPL_OK;
}

espl_status espl_journal_end(espl_journal *j, espl_str *s) {
    espl_str_puts(s, "}\n");
    espl_status st = espl_str_status(s);
    if (st == ESPL_OK && j) st = write_all(j, s->data, s->len);
    espl_str_free(s);
    return st;
}
