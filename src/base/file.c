#include "espalier/base.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads until the end; the size may be unknown (a pipe). */
static espl_status read_all(FILE *f, const char *path, int64_t max_bytes, espl_str *s) {
    char buf[65536];
    size_t n;
    while ((n = fread(buf, 1, sizeof buf, f)) > 0) {
        if (s->len + (int64_t)n > max_bytes)
            return ESPL_FAIL(ESPL_IO, "%s: larger than the %lld bytes allowed here", path, (long long)max_bytes);
        espl_str_put(s, buf, (int64_t)n);
    }
    if (ferror(f)) return ESPL_FAIL(ESPL_IO, "%s: cannot be read: %s", path, strerror(errno));
    espl_str_put(s, "", 0); /* a NUL even for an empty file */
    return espl_str_status(s);
}

espl_status espl_file_read(const char *path, int64_t max_bytes, char **out, int64_t *len) {
    *out = NULL;
    *len = 0;
    bool in = strcmp(path, "-") == 0;
    FILE *f = in ? stdin : fopen(path, "rb");
    if (!f) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    espl_str s = {0};
    espl_status st = read_all(f, in ? "standard input" : path, max_bytes, &s);
    if (!in) fclose(f);
    if (st != ESPL_OK) {
        espl_str_free(&s);
        return st;
    }
    *out = s.data;
    *len = s.len;
    return ESPL_OK;
}

static espl_status map_fd(int fd, const char *path, espl_mapping *out) {
    struct stat sb;
    if (fstat(fd, &sb) != 0) return ESPL_FAIL(ESPL_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(sb.st_mode)) return ESPL_FAIL(ESPL_IO, "%s: not a regular file", path);
    if (sb.st_size == 0) return ESPL_OK; /* mmap refuses length 0; an empty view says it all */
    void *p = mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return ESPL_FAIL(ESPL_IO, "%s: cannot be mapped: %s", path, strerror(errno));
    out->data = p;
    out->len = sb.st_size;
    return ESPL_OK;
}

espl_status espl_file_map(const char *path, espl_mapping *out) {
    *out = (espl_mapping){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make it wait for a writer */
    if (fd < 0) return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", path, strerror(errno));
    espl_status st = map_fd(fd, path, out);
    close(fd);
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

/* write(2) may write less than asked for. */
static bool write_all(int fd, const char *bytes, int64_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, (size_t)len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes += n;
        len -= n;
    }
    return true;
}

static bool write_file(const char *path, const char *bytes, int64_t len) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return false;
    bool written = write_all(fd, bytes, len) && fsync(fd) == 0;
    int error = errno;
    bool closed = close(fd) == 0;
    if (!written) errno = error;
    return written && closed;
}

espl_status espl_file_replace(const char *path, const char *bytes, int64_t len) {
    espl_str part = {0};
    espl_str_printf(&part, "%s.part", path);
    espl_status st = espl_str_status(&part);
    if (st == ESPL_OK && !(write_file(part.data, bytes, len) && rename(part.data, path) == 0)) {
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", path, strerror(errno));
        unlink(part.data);
    }
    if (st == ESPL_OK) espl_file_sync_directory(path);
    espl_str_free(&part);
    return st;
}

espl_status espl_file_make_directory(const char *path) {
    espl_str s = {0};
    espl_str_puts(&s, path);
    espl_status st = espl_str_status(&s);
    for (int64_t i = 1; st == ESPL_OK && i <= s.len; i++) {
        if (i < s.len && s.data[i] != '/') continue;
        char after = s.data[i];
        s.data[i] = '\0';
        if (mkdir(s.data, 0777) != 0 && errno != EEXIST)
            st = ESPL_FAIL(ESPL_IO, "%s: cannot be made: %s", s.data, strerror(errno));
        s.data[i] = after;
    }
    struct stat info;
    if (st == ESPL_OK && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)))
        st = ESPL_FAIL(ESPL_IO, "%s: is not a directory", path);
    espl_str_free(&s);
    return st;
}
