/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journals. A run that is killed may repeat an iteration; on opening, the lines beyond the last checkpoint's iteration
 * are cut off, so that the file reads as if the run had never stopped. One write(2) per line in append mode keeps lines
 * whole. What a power cut or a bad disk does to the lines before is found by the seals, and repaired.
 */
#include "espalier/base/journal.h"

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/hash.h"
#include "espalier/base/json.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char SEAL[] = "seal";

/* What a seal tells of the lines before it. */
typedef struct journal_extent {
    int64_t lines, bytes;
    uint64_t hash;
} journal_extent;

static void extent_add(journal_extent *e, const char *line, int64_t len) {
    e->lines++;
    e->bytes += len;
    e->hash = espl_hash64(line, len, e->hash);
}

static bool extent_equals(const journal_extent *a, const journal_extent *b) {
    return a->lines == b->lines && a->bytes == b->bytes && a->hash == b->hash;
}

struct espl_journal {
    int fd;     /* opened with O_APPEND */
    char *path; /* for messages */
    journal_extent extent;
};

/* ---------------------------------------------------------------- reading */

/* Parses text[0..len), a line with its line feed. `where` is for messages. The caller frees *doc. */
static espl_status journal_parse_line(const char *text, int64_t len, const char *where, cJSON **doc,
                                      int64_t *iteration) {
    ESPL_TRY(espl_json_parse(text, len, where, doc));
    return espl_json_get_i64(*doc, "iteration", where, true, 0, (int64_t)1 << 50, iteration);
}

espl_status espl_journal_read(const char *path, espl_line_reader reader, void *ctx) {
    char *text = NULL; /* of getline: freed with free */
    size_t cap = 0;
    espl_status st = ESPL_OK;
    FILE *f = fopen(path, "rbe");
    if (!f) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    for (int64_t number = 1; st == ESPL_OK; number++) {
        char where[512];
        cJSON *line = NULL;
        int64_t iteration = 0;
        ssize_t n = getline(&text, &cap, f);
        if (n <= 0 || text[n - 1] != '\n') break; /* a last line without its end was cut off by a kill */
        snprintf(where, sizeof where, "%s: line %" PRId64, path, number);
        st = journal_parse_line(text, n, where, &line, &iteration);
        if (st == ESPL_OK) st = reader(ctx, line, iteration);
        espl_json_free(&line);
    }
    if (st == ESPL_OK && ferror(f)) st = ESPL_FAIL(ESPL_IO, "%s: cannot be read: %s", path, strerror(errno));
    free(text);
    fclose(f);
    return st;
}

/* --------------------------------------------------------------- scanning */

/* A line of a journal that may be damaged. */
typedef struct journal_line {
    int64_t at, len;       /* bytes of the file, the line feed included */
    int64_t iteration;     /* -1: no record */
    bool seal, wanted;     /* wanted: of the type of the source */
    journal_extent sealed; /* of a seal */
} journal_line;

/* What is known of a journal when it is opened. */
typedef struct journal_scan {
    char *text; /* the file; owned */
    int64_t text_len;
    journal_line *lines; /* [n], the complete ones; owned */
    int64_t n;
    int64_t kept;                        /* lines that stay: up to the last one of an iteration that is kept */
    int64_t dropped, changed, last_seal; /* lines that are no records; seals that do not fit; iteration, -1: none */
    int64_t first_changed, last_changed; /* lines, counted from 1 */
    bool *present;                       /* [n of the source] the line is there; owned */
    int64_t missing;                     /* lines of the source that are not */
} journal_scan;

static void scan_free(journal_scan *s) {
    espl_mem_free(&s->text);
    espl_mem_free(&s->lines);
    espl_mem_free(&s->present);
}

static bool scan_read_seal(const cJSON *doc, journal_extent *out) {
    const char *hash = cJSON_GetStringValue(espl_json_member(doc, "xxh3_64"));
    char *end = NULL;
    if (!hash || strlen(hash) != 16) return false;
    out->hash = strtoull(hash, &end, 16);
    return *end == '\0' && espl_json_get_i64(doc, "lines", SEAL, true, 0, (int64_t)1 << 50, &out->lines) == ESPL_OK &&
           espl_json_get_i64(doc, "bytes", SEAL, true, 0, (int64_t)1 << 50, &out->bytes) == ESPL_OK;
}

/* Splits the text into lines and reads each. A line that is no record is no failure. */
static espl_status scan_split(journal_scan *s, const char *path, const espl_journal_source *source) {
    int64_t cap = 0;
    for (int64_t at = 0; at < s->text_len;) {
        const char *start = s->text + at, *feed = memchr(start, '\n', (size_t)(s->text_len - at));
        if (!feed) break;
        journal_line line = {.at = at, .len = feed + 1 - start, .iteration = -1};
        cJSON *doc = NULL;
        espl_status st = journal_parse_line(start, line.len, path, &doc, &line.iteration);
        const char *type = st == ESPL_OK ? cJSON_GetStringValue(espl_json_member(doc, "type")) : NULL;
        if (!type) line.iteration = -1;
        line.wanted = type && source && strcmp(type, source->type) == 0;
        line.seal = type && strcmp(type, SEAL) == 0 && scan_read_seal(doc, &line.sealed);
        espl_json_free(&doc);
        if (st == ESPL_NOMEM) return st; /* says nothing about the line */
        if (s->n == cap) {
            cap = cap ? 2 * cap : 256;
            ESPL_TRY(espl_mem_resize(&s->lines, cap, sizeof *s->lines, "journal"));
        }
        s->lines[s->n++] = line;
        at += line.len;
    }
    return ESPL_OK;
}

/* Compares the lines that stay with their seals, and with the source. A seal that does not fit is trusted for the lines
 * behind it: so damage is found once, and its place is known. */
static espl_status scan_compare(journal_scan *s, int64_t keep, const espl_journal_source *source) {
    journal_extent extent = {0};
    int64_t need = 0, after_seal = 1;
    s->last_seal = -1;
    for (s->kept = s->n; s->kept > 0; s->kept--) {
        int64_t iteration = s->lines[s->kept - 1].iteration;
        if (iteration >= 0 && iteration <= keep) break;
    }
    for (int64_t i = 0; i < s->kept; i++) {
        journal_line *line = &s->lines[i];
        if (line->iteration > keep) line->iteration = -1; /* a later line is of `keep`: this number was damaged */
        s->dropped += line->iteration < 0;
        if (line->iteration >= 0 && line->seal) {
            if (!extent_equals(&extent, &line->sealed)) {
                if (s->changed++ == 0) s->first_changed = after_seal;
                s->last_changed = i;
                extent = line->sealed;
            }
            s->last_seal = line->iteration;
            after_seal = i + 2;
        }
        extent_add(&extent, s->text + line->at, line->len);
    }
    if (!source) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&s->present, source->n, sizeof *s->present, "journal"));
    for (int64_t i = 0; i < s->kept; i++) {
        const journal_line *line = &s->lines[i];
        if (line->iteration < 0 || !line->wanted) continue;
        while (need < source->n && source->iteration(source->context, need) < line->iteration) need++;
        if (need < source->n && source->iteration(source->context, need) == line->iteration) s->present[need] = true;
    }
    for (int64_t i = 0; i < source->n; i++) s->missing += !s->present[i];
    return ESPL_OK;
}

/* ----------------------------------------------------------------- repair */

/* Describes the damage, "" if there is none. */
static espl_status repair_describe(const journal_scan *s, int64_t keep, const espl_journal_source *source,
                                   espl_str *out) {
    if (s->dropped > 0) espl_str_printf(out, "damaged lines left out: %" PRId64 ", ", s->dropped);
    if (s->changed > 0)
        espl_str_printf(out, "lines %" PRId64 " to %" PRId64 " are not as they were written, ", s->first_changed,
                        s->last_changed);
    if (s->last_seal >= 0 && s->last_seal < keep)
        espl_str_printf(out, "lines of iterations %" PRId64 " to %" PRId64 " are lost, ", s->last_seal + 1, keep);
    if (s->missing > 0)
        espl_str_printf(out, "lines \"%s\" written again from the checkpoint: %" PRId64 ", ", source->type, s->missing);
    if (out->len > 0) out->data[out->len -= 2] = '\0';
    return espl_str_status(out);
}

/* Appends the missing lines of the source from *next on, up to an iteration. */
static espl_status repair_put_missing(const journal_scan *s, const espl_journal_source *source, int64_t until,
                                      int64_t *next, espl_str *out) {
    for (; source && *next < source->n && source->iteration(source->context, *next) <= until; ++*next) {
        if (s->present[*next]) continue;
        espl_json_writer w = espl_journal_begin(out, source->iteration(source->context, *next), source->type);
        espl_json_put_bool(&w, "rebuilt", true);
        ESPL_TRY(source->put(source->context, *next, &w));
        espl_json_close(&w);
        espl_str_puts(out, "\n");
    }
    return ESPL_OK;
}

/* Replaces the file by what is left of it and what can be written again. Its seals go, as they count what is gone; the
 * caller seals the file anew. */
static espl_status repair_write(const char *path, const journal_scan *s, int64_t keep,
                                const espl_journal_source *source, const espl_str *what) {
    espl_str text = {0}, aside = {0};
    int64_t next = 0;
    espl_status st;
    for (int64_t i = 0; i < s->kept; i++) {
        const journal_line *line = &s->lines[i];
        if (line->iteration < 0 || line->seal) continue;
        ESPL_CHECK(st, done, repair_put_missing(s, source, line->iteration - 1, &next, &text));
        espl_str_put(&text, s->text + line->at, line->len);
    }
    ESPL_CHECK(st, done, repair_put_missing(s, source, keep, &next, &text));
    espl_json_writer w = espl_journal_begin(&text, keep, "repair");
    espl_json_put_bytes(&w, "text", what->data, what->len);
    espl_json_close(&w);
    espl_str_puts(&text, "\n");
    espl_str_printf(&aside, "%s.damaged", path);
    ESPL_CHECK(st, done, espl_str_status(&aside));
    ESPL_CHECK(st, done, espl_str_status(&text));
    if (s->text_len > 0) ESPL_CHECK(st, done, espl_file_replace(aside.data, s->text, s->text_len));
    ESPL_CHECK(st, done, espl_file_replace(path, text.data, text.len));
    ESPL_INFO("note: %s was damaged: %s%s%s", path, what->data, s->text_len > 0 ? "; the file as it was: " : "",
              s->text_len > 0 ? aside.data : "");
done:
    espl_str_free(&text);
    espl_str_free(&aside);
    return st;
}

/* ---------------------------------------------------------------- opening */

/* Reads the file, if it exists, and compares it with its seals and the source. It must be a file of its own: a link
 * that somebody has planted in a shared directory would have its target truncated and written. */
static espl_status journal_scan_file(const char *path, int64_t keep, const espl_journal_source *source,
                                     journal_scan *s) {
    struct stat info;
    bool exists = lstat(path, &info) == 0;
    if (exists && !S_ISREG(info.st_mode))
        return ESPL_FAIL(ESPL_IO, "%s: is a link or special file, expected a regular one", path);
    if (exists) ESPL_TRY(espl_file_read_regular(path, INT64_MAX, &s->text, &s->text_len));
    ESPL_TRY(scan_split(s, path, source));
    return scan_compare(s, keep, source);
}

/* Opens the file for appending, cut behind the lines that stay. */
static espl_status journal_open_file(espl_journal *j, const journal_scan *s) {
    for (int64_t i = 0; i < s->kept; i++) extent_add(&j->extent, s->text + s->lines[i].at, s->lines[i].len);
    j->fd = open(j->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (j->fd < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", j->path, strerror(errno));
    if (j->extent.bytes < s->text_len && ftruncate(j->fd, j->extent.bytes) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be truncated: %s", j->path, strerror(errno));
    espl_file_sync_directory(j->path);
    return ESPL_OK;
}

espl_status espl_journal_open(espl_journal **out, const char *path, int64_t keep, const espl_journal_source *source) {
    espl_journal *j = NULL;
    journal_scan scan = {0};
    espl_str damage = {0};
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_mem_alloc(&j, 1, sizeof *j, "journal"));
    j->fd = -1;
    ESPL_CHECK(st, done, espl_str_dup(&j->path, path, "journal"));
    ESPL_CHECK(st, done, journal_scan_file(path, keep, source, &scan));
    ESPL_CHECK(st, done, repair_describe(&scan, keep, source, &damage));
    if (damage.len > 0) {
        ESPL_CHECK(st, done, repair_write(path, &scan, keep, source, &damage));
        scan_free(&scan);
        scan = (journal_scan){0};
        ESPL_CHECK(st, done, journal_scan_file(path, keep, source, &scan));
    }
    ESPL_CHECK(st, done, journal_open_file(j, &scan));
    if (damage.len > 0) st = espl_journal_seal(j, keep);
done:
    scan_free(&scan);
    espl_str_free(&damage);
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
    if (st == ESPL_OK && j) extent_add(&j->extent, s->data, s->len);
    espl_str_free(s);
    return st;
}

espl_status espl_journal_seal(espl_journal *j, int64_t iteration) {
    espl_str line = {0};
    if (!j) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&line, iteration, SEAL);
    espl_json_put_i64(&w, "lines", j->extent.lines);
    espl_json_put_i64(&w, "bytes", j->extent.bytes);
    espl_json_put_printf(&w, "xxh3_64", "%016" PRIx64, j->extent.hash);
    ESPL_TRY(espl_journal_end(j, &w));
    if (espl_fault("journal.flush"))
        errno = EIO;
    else if (fsync(j->fd) == 0)
        return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be flushed to disk: %s", j->path, strerror(errno));
}
