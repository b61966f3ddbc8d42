/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as a whole. What is to survive a crash is written to PATH.part, flushed, renamed, and the directory flushed:
 * skipping any of these can leave an empty or old file after a power loss (see fsync(2) and rename(2)).
 */
#include "espalier/base/file.h"

#include "espalier/base/absent.h"
#include "espalier/base/fault.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads in blocks instead of asking for the size, because a pipe or a file in /proc has none. max_bytes bounds what a
 * wrong path, such as a model file given as a text, can make this allocate. */
static espl_status file_read_stream(FILE *f, const char *name, int64_t max_bytes, char **out, int64_t *len) {
    enum { BLOCK = 65536 };
    char block[BLOCK];
    espl_str s = {0};
    espl_status st;
    size_t n;
    while ((n = fread(block, 1, sizeof block, f)) > 0) {
        if (s.len + (int64_t)n > max_bytes) {
            st = ESPL_FAIL(ESPL_IO, "%s: larger than the %" PRId64 " bytes allowed here", name, max_bytes);
            goto done;
        }
        espl_str_put(&s, block, (int64_t)n);
    }
    if (ferror(f)) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be read: %s", name, strerror(errno));
        goto done;
    }
    espl_str_put(&s, "", 0); /* a NUL even for an empty file */
    ESPL_CHECK(st, done, espl_str_status(&s));
    *out = s.data;
    *len = s.len;
    s = (espl_str){0};
done:
    espl_str_free(&s);
    return st;
}

espl_status espl_file_read(const char *path, int64_t max_bytes, char **out, int64_t *len) {
    *out = NULL;
    *len = 0;
    if (strcmp(path, "-") == 0) return file_read_stream(stdin, "standard input", max_bytes, out, len);
    FILE *f = fopen(path, "rbe");
    if (!f) return espl_file_fail_open(path);
    espl_status st = file_read_stream(f, path, max_bytes, out, len);
    fclose(f);
    return st;
}

espl_status espl_file_read_regular(const char *path, int64_t max_bytes, char **out, int64_t *len) {
    struct stat sb;
    *out = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* without O_NONBLOCK a FIFO waits for a writer */
    if (fd < 0) return espl_file_fail_open(path);
    FILE *f = fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode) ? fdopen(fd, "rb") : NULL;
    if (!f) {
        close(fd);
        return ESPL_FAIL(ESPL_IO, "%s: not a regular file", path);
    }
    espl_status st = file_read_stream(f, path, max_bytes, out, len);
    fclose(f);
    return st;
}

static espl_file_state file_state(const struct stat *s) {
    enum { NS = 1000000000 };
    return (espl_file_state){.bytes = s->st_size,
                             .inode = (int64_t)s->st_ino,
                             .modified_ns = (int64_t)s->st_mtim.tv_sec * NS + s->st_mtim.tv_nsec,
                             .changed_ns = (int64_t)s->st_ctim.tv_sec * NS + s->st_ctim.tv_nsec};
}

espl_status espl_file_state_of(const char *path, espl_file_state *out) {
    struct stat sb;
    *out = (espl_file_state){0};
    if (stat(path, &sb) != 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be reached: %s", path, strerror(errno));
    *out = file_state(&sb);
    return ESPL_OK;
}

bool espl_file_state_equals(const espl_file_state *a, const espl_file_state *b) {
    return a->bytes == b->bytes && a->inode == b->inode && a->modified_ns == b->modified_ns &&
           a->changed_ns == b->changed_ns;
}

/* ----------------------------------------------------------- mapped files */

/* The mapped files, for a signal handler: it may take no lock and allocate nothing. A slot is free if its data is NULL;
 * the data is set last and cleared first. A file beyond the last slot has no name in the message. */
enum { WATCHED_FILES = 1024, WATCHED_NAME = 512 };
static struct watched_file {
    const uint8_t *_Atomic data;
    int64_t len;
    char path[WATCHED_NAME];
} watched_files[WATCHED_FILES];

static void file_watch(const char *path, const espl_mapping *m) {
    for (int i = 0; i < WATCHED_FILES; i++) {
        struct watched_file *w = &watched_files[i];
        if (w->data) continue;
        w->len = m->len;
        snprintf(w->path, sizeof w->path, "%s", path);
        w->data = m->data;
        return;
    }
}

static void file_forget(const espl_mapping *m) {
    for (int i = 0; i < WATCHED_FILES; i++)
        if (watched_files[i].data == m->data) watched_files[i].data = NULL;
}

const char *espl_file_mapped_at(const void *address) {
    const uint8_t *at = address;
    for (int i = 0; i < WATCHED_FILES; i++) {
        const uint8_t *data = watched_files[i].data;
        if (data && at >= data && at < data + watched_files[i].len) return watched_files[i].path;
    }
    return NULL;
}

/* ------------------------------------------------------------------ mapping */

/* Read-only and shared: ranks on one node share the pages of a model. */
espl_status espl_file_map(const char *path, espl_mapping *out) {
    *out = (espl_mapping){0};
    espl_status st = ESPL_OK;
    struct stat sb = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* without O_NONBLOCK a FIFO waits for a writer */
    if (fd < 0) return espl_file_fail_open(path);
    if (fstat(fd, &sb) != 0) {
        st = ESPL_FAIL(ESPL_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(sb.st_mode)) {
        st = ESPL_FAIL(ESPL_IO, "%s: not a regular file", path);
    } else if (sb.st_size > 0) { /* mmap refuses length 0; the empty view is correct */
        void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        else
            *out = (espl_mapping){.data = p, .len = sb.st_size};
    }
    out->state = file_state(&sb);
    if (out->data) file_watch(path, out);
    close(fd); /* the mapping stays */
    return st;
}

void espl_file_unmap(espl_mapping *m) {
    if (m->data) file_forget(m);
    if (m->data) munmap((void *)(uintptr_t)m->data, (size_t)m->len);
    *m = (espl_mapping){0};
}

bool espl_file_exists(const char *path) { return access(path, F_OK) == 0; }

void espl_file_sync_directory(const char *path) {
    espl_str dir = {0};
    const char *slash = strrchr(path, '/');
    if (slash)
        espl_str_put(&dir, path, slash - path + 1);
    else
        espl_str_puts(&dir, ".");
    int fd = dir.failed ? -1 : open(dir.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)fsync(fd);
        close(fd);
    }
    espl_str_free(&dir);
}

bool espl_file_write_all(int fd, const char *bytes, int64_t len) {
    while (len > 0) { /* write(2) may write less than it was given */
        ssize_t n = write(fd, bytes, (size_t)len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        len -= n;
    }
    return true;
}

/* A fault on demand looks like a disk that fails. */
static bool file_fails(const char *site) {
    if (!espl_fault(site)) return false;
    errno = EIO;
    return true;
}

/* Writes and flushes the file, which must not exist. False with errno set. */
static bool file_write_new(const char *path, const char *bytes, int64_t len) {
    if (file_fails("file.create")) return false;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool ok =
        !file_fails("file.write") && espl_file_write_all(fd, bytes, len) && !file_fails("file.flush") && fsync(fd) == 0;
    int error = errno; /* close may replace it */
    bool closed = close(fd) == 0;
    if (!ok) errno = error;
    return ok && closed;
}

/* PATH.part of a killed process is removed, not opened: it might be a link by now, and its target would be written. */
espl_status espl_file_replace(const char *path, const char *bytes, int64_t len) {
    espl_str part = {0};
    espl_status st;
    espl_str_printf(&part, "%s.part", path);
    ESPL_CHECK(st, done, espl_str_status(&part));
    (void)unlink(part.data);
    if (!file_write_new(part.data, bytes, len) || file_fails("file.rename") || rename(part.data, path) != 0) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", path, strerror(errno));
        unlink(part.data);
        goto done;
    }
    (void)espl_fault("file.renamed");
    espl_file_sync_directory(path);
done:
    espl_str_free(&part);
    return st;
}

espl_status espl_file_make_directory(const char *path) {
    espl_str s = {0};
    espl_status st;
    struct stat info;
    espl_str_puts(&s, path);
    ESPL_CHECK(st, done, espl_str_status(&s));
    for (int64_t i = 1; i <= s.len; i++) { /* every prefix that ends before a '/', then the whole path */
        if (i < s.len && s.data[i] != '/') continue;
        char after = s.data[i];
        s.data[i] = '\0';
        if (mkdir(s.data, 0777) != 0 && errno != EEXIST) {
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be made: %s", s.data, strerror(errno));
            goto done;
        }
        s.data[i] = after;
    }
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) /* EEXIST may have been a file */
        st = ESPL_FAIL(ESPL_IO, "%s: is not a directory", path);
done:
    espl_str_free(&s);
    return st;
}
