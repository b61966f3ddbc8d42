/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files as a whole. What is to survive a crash is written to PATH.part, flushed, renamed, and the directory flushed:
 * skipping any of these can leave an empty or old file after a power loss (see fsync(2) and rename(2)).
 */
#include "espalier/base/file.h"

#include "espalier/base/absent.h"
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
espl_status espl_file_read(const char *path, int64_t max_bytes, char **out, int64_t *len) {
    enum { BLOCK = 65536 };
    char block[BLOCK];
    espl_str s = {0};
    espl_status st;
    size_t n;
    *out = NULL;
    *len = 0;
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *f = from_stdin ? stdin : fopen(path, "rb");
    const char *name = from_stdin ? "standard input" : path;
    if (!f) return espl_file_fail_open(path);
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
    if (!from_stdin) fclose(f);
    espl_str_free(&s);
    return st;
}

/* Read-only and shared: ranks on one node share the pages of a model. */
espl_status espl_file_map(const char *path, espl_mapping *out) {
    *out = (espl_mapping){0};
    espl_status st = ESPL_OK;
    struct stat sb;
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
    close(fd); /* the mapping stays */
    return st;
}

void espl_file_unmap(espl_mapping *m) {
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

espl_status espl_file_replace(const char *path, const char *bytes, int64_t len) {
    espl_str part = {0};
    espl_status st;
    espl_str_printf(&part, "%s.part", path);
    ESPL_CHECK(st, done, espl_str_status(&part));
    int fd = open(part.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), error;
    bool ok = fd >= 0 && espl_file_write_all(fd, bytes, len) && fsync(fd) == 0;
    error = errno; /* close may replace it */
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && rename(part.data, path) != 0) {
        ok = false;
        error = errno;
    }
    if (!ok) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", path, strerror(error));
        unlink(part.data);
        goto done;
    }
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
