/* Writing a safetensors file: part file, byte ranges, flush, rename. */
#include "writer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static espl_status io_error(const espl_weights_writer *w, const char *verb) {
    return ESPL_FAIL(ESPL_IO, "%s: cannot be %s: %s", w->part, verb, strerror(errno));
}

static espl_status make_paths(espl_weights_writer *w, const char *path) {
    espl_str name = {0}, part = {0};
    espl_str_puts(&name, path);
    espl_str_printf(&part, "%s.part", path);
    w->path = name.data;
    w->part = part.data;
    ESPL_TRY(espl_str_status(&name));
    return espl_str_status(&part);
}

static espl_status begin(const char *path, espl_weights_writer **w) {
    *w = NULL;
    ESPL_TRY(espl_mem_alloc(w, 1, sizeof **w, "weights writer"));
    (*w)->fd = -1;
    return make_paths(*w, path);
}

espl_status espl_weights_writer_create(const char *path, const espl_tensor_spec *specs, int64_t n,
                                       espl_weights_writer **out) {
    espl_status st = begin(path, out);
    if (st == ESPL_OK) st = espl_weights_plan(*out, specs, n);
    if (st != ESPL_OK) espl_weights_writer_destroy(out);
    return st;
}

espl_status espl_weights_writer_create_like(const char *path, const espl_weights *like, int64_t number,
                                            espl_weights_writer **out) {
    espl_status st = begin(path, out);
    if (st == ESPL_OK) st = espl_weights_plan_like(*out, like, number);
    if (st != ESPL_OK) espl_weights_writer_destroy(out);
    return st;
}

/* write(2) may write less than asked for, and takes at most 2 GiB at once. */
static espl_status write_at(const espl_weights_writer *w, const char *data, int64_t bytes, int64_t at) {
    while (bytes > 0) {
        size_t chunk = bytes > 1 << 30 ? 1 << 30 : (size_t)bytes;
        ssize_t n = pwrite(w->fd, data, chunk, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return io_error(w, "written");
        data += n;
        bytes -= n;
        at += n;
    }
    return ESPL_OK;
}

/* The file at its full size, its space reserved where the file system can. */
static espl_status set_size(const espl_weights_writer *w) {
    bool able = !espl_fault("weights.no_promise"); /* as where fallocate is not supported */
    if (able && fallocate(w->fd, 0, 0, (off_t)w->file_bytes) == 0) return ESPL_OK;
    if (able && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) return io_error(w, "given its full size");
    if (ftruncate(w->fd, (off_t)w->file_bytes) != 0) return io_error(w, "given its full size");
    return ESPL_OK;
}

espl_status espl_weights_writer_start(espl_weights_writer *w) {
    if (w->fd >= 0) return ESPL_FAIL(ESPL_INTERNAL, "%s: started twice", w->part);
    w->fd = open(w->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) return io_error(w, "created");
    w->started = true;
    ESPL_TRY(write_at(w, w->header.data, w->header.len, 0));
    return set_size(w);
}

espl_status espl_weights_writer_put(espl_weights_writer *w, int64_t i, int64_t at, const void *data, int64_t bytes) {
    if (i < 0 || i >= w->n) return ESPL_FAIL(ESPL_INTERNAL, "%s: there is no tensor %" PRId64, w->part, i);
    const planned *p = &w->tensors[w->place[i]];
    if (at < 0 || bytes < 0 || at > p->bytes || bytes > p->bytes - at)
        return ESPL_FAIL(ESPL_INTERNAL,
                         "%s: bytes %" PRId64 " + %" PRId64 " lie outside the %" PRId64 " of tensor \"%s\"", w->part,
                         at, bytes, p->bytes, p->name);
    if (w->fd < 0) w->fd = open(w->part, O_WRONLY | O_CLOEXEC);
    if (w->fd < 0) return io_error(w, "opened");
    return write_at(w, data, bytes, w->header.len + p->offset + at);
}

espl_status espl_weights_writer_flush(espl_weights_writer *w) {
    if (w->fd < 0) return ESPL_OK;
    int fd = w->fd;
    w->fd = -1;
    bool synced = fsync(fd) == 0;
    int error = errno;
    bool closed = close(fd) == 0; /* NFS reports a full disk here */
    if (!synced) errno = error;
    return synced && closed ? ESPL_OK : io_error(w, "flushed");
}

espl_status espl_weights_writer_finish(espl_weights_writer *w) {
    ESPL_TRY(espl_weights_writer_flush(w));
    if (rename(w->part, w->path) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", w->part, w->path, strerror(errno));
    w->started = false;
    espl_file_sync_directory(w->path);
    return ESPL_OK;
}

int64_t espl_weights_writer_bytes(const espl_weights_writer *w) { return w->file_bytes; }

int64_t espl_weights_writer_tensor_bytes(const espl_weights_writer *w, int64_t i) {
    return w->tensors[w->place[i]].bytes;
}

void espl_weights_writer_destroy(espl_weights_writer **wp) {
    if (!wp || !*wp) return;
    espl_weights_writer *w = *wp;
    if (w->fd >= 0) close(w->fd);
    if (w->started) unlink(w->part);
    for (int64_t k = 0; w->tensors && k < w->n; k++) espl_mem_free(&w->tensors[k].name);
    espl_mem_free(&w->tensors);
    espl_mem_free(&w->place);
    espl_str_free(&w->header);
    espl_mem_free(&w->part);
    espl_mem_free(&w->path);
    espl_mem_free(wp);
}
