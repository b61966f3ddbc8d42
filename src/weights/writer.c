/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a safetensors file that appears under its name only when complete: PATH.part is given its full size, filled at
 * disjoint byte ranges by any number of processes, flushed, and renamed. A process opens PATH.part at its first _put,
 * so that one without tensors in the file needs no descriptor.
 */
#include "layout.h"

#include "espalier/base/fault.h"
#include "espalier/base/file.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ESPL_IO with errno's text. */
static espl_status writer_fail(const espl_weights_writer *w, const char *verb) {
    return ESPL_FAIL(ESPL_IO, "%s: cannot be %s: %s", w->part, verb, strerror(errno));
}

static espl_status writer_allocate(const char *path, espl_weights_writer **w) {
    espl_str part = {0};
    *w = NULL;
    ESPL_TRY(espl_mem_alloc(w, 1, sizeof **w, "weights writer"));
    (*w)->fd = -1;
    ESPL_TRY(espl_str_dup(&(*w)->path, path, "weights writer"));
    espl_str_printf(&part, "%s.part", path);
    (*w)->part = part.data;
    return espl_str_status(&part);
}

espl_status espl_weights_writer_create(const char *path, const espl_tensor_spec *specs, int64_t n,
                                       espl_weights_writer **out) {
    espl_status st = writer_allocate(path, out);
    if (st == ESPL_OK) st = espl_weights_lay_out(*out, specs, n);
    if (st != ESPL_OK) espl_weights_writer_destroy(out);
    return st;
}

espl_status espl_weights_writer_create_like(const char *path, const espl_weights *like, int64_t shard,
                                            espl_weights_writer **out) {
    espl_status st = writer_allocate(path, out);
    if (st == ESPL_OK) st = espl_weights_lay_out_like(*out, like, shard);
    if (st != ESPL_OK) espl_weights_writer_destroy(out);
    return st;
}

/* pwrite may write less than asked for, and takes at most 2 GiB at once. */
static espl_status writer_write_at(const espl_weights_writer *w, const char *data, int64_t bytes, int64_t at) {
    while (bytes > 0) {
        size_t chunk = bytes > 1 << 30 ? 1 << 30 : (size_t)bytes;
        ssize_t n = pwrite(w->fd, data, chunk, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC; /* some file systems report a full disk so */
        if (n <= 0) return writer_fail(w, "written");
        data += n;
        bytes -= n;
        at += n;
    }
    return ESPL_OK;
}

/* One process does this before any other may put: it makes the file anew. */
espl_status espl_weights_writer_start(espl_weights_writer *w) {
    if (w->fd >= 0) return ESPL_FAIL(ESPL_INTERNAL, "%s: started twice", w->part);
    (void)unlink(w->part); /* of a killed process; or a link, whose target must not be written */
    w->fd = open(w->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (w->fd < 0) return writer_fail(w, "created");
    w->started = true;
    ESPL_TRY(writer_write_at(w, w->header.data, w->header.len, 0));
    /* Reserve the space, so that a full disk is known before hours of work; a file system that cannot reserve only sets
     * the size. The fault site acts like such a file system. */
    if (!espl_fault("weights.no_promise")) {
        if (fallocate(w->fd, 0, 0, (off_t)w->file_bytes) == 0) return ESPL_OK;
        if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return writer_fail(w, "given its full size");
    }
    return ftruncate(w->fd, (off_t)w->file_bytes) == 0 ? ESPL_OK : writer_fail(w, "given its full size");
}

/* Ranges are checked against the tensor, so that a bug of one rank cannot damage what another writes. */
espl_status espl_weights_writer_put(espl_weights_writer *w, int64_t i, int64_t at, const void *data, int64_t bytes) {
    if (i < 0 || i >= w->n) return ESPL_FAIL(ESPL_INTERNAL, "%s: there is no tensor %" PRId64, w->part, i);
    const espl_weights_place *p = &w->tensors[i];
    if (at < 0 || bytes < 0 || at > p->bytes || bytes > p->bytes - at)
        return ESPL_FAIL(ESPL_INTERNAL,
                         "%s: bytes %" PRId64 " + %" PRId64 " lie outside the %" PRId64 " of tensor \"%s\"", w->part,
                         at, bytes, p->bytes, p->name);
    if (w->fd < 0) w->fd = open(w->part, O_WRONLY | O_CLOEXEC);
    if (w->fd < 0) return writer_fail(w, "opened");
    return writer_write_at(w, data, bytes, w->header.len + p->offset + at);
}

/* The handle is closed in any case: a failed fsync must not be tried again, the kernel may have dropped the pages. */
espl_status espl_weights_writer_flush(espl_weights_writer *w) {
    if (w->fd < 0) return ESPL_OK;
    int fd = w->fd;
    w->fd = -1;
    bool synced = fsync(fd) == 0;
    int error = errno;
    bool closed = close(fd) == 0; /* NFS reports a full disk here */
    if (!synced) errno = error;
    return synced && closed ? ESPL_OK : writer_fail(w, "flushed");
}

/* The rename makes the file appear at once; syncing the directory keeps it there after a crash. */
espl_status espl_weights_writer_finish(espl_weights_writer *w) {
    ESPL_TRY(espl_weights_writer_flush(w));
    bool fault = espl_fault("weights.rename");
    if (fault || rename(w->part, w->path) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be renamed to %s: %s", w->part, w->path,
                         fault ? "fault on demand" : strerror(errno));
    w->started = false;
    (void)espl_fault("weights.renamed");
    espl_file_sync_directory(w->path);
    return ESPL_OK;
}

int64_t espl_weights_writer_tensor_bytes(const espl_weights_writer *w, int64_t i) { return w->tensors[i].bytes; }

void espl_weights_writer_destroy(espl_weights_writer **wp) {
    if (!wp || !*wp) return;
    espl_weights_writer *w = *wp;
    if (w->fd >= 0) close(w->fd);
    if (w->started) unlink(w->part); /* only one process may: others still have it open */
    for (int64_t i = 0; i < w->n; i++) espl_mem_free(&w->tensors[i].name);
    espl_mem_free(&w->tensors);
    espl_str_free(&w->header);
    espl_mem_free(&w->part);
    espl_mem_free(&w->path);
    espl_mem_free(wp);
}
