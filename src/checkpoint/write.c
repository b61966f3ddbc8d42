/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a checkpoint, in phases of Local work with an agreement after each, so that no rank waits in a collective for
 * one that has failed. The final name appears only when the file is whole, verified, marked complete and on disk;
 * whatever fails before, on whichever rank, only the part file is lost.
 *
 * HDF5 makes the skeleton in a file in memory, where masks and updates are holes that take no space, and plain writes
 * copy it to disk: HDF5 1.10 does not survive a file that it cannot close because the disk is full. The file on disk is
 * made by rank 0 through MPI-IO, so that hints about stripes count, and by rank 0 alone, so that a rank that cannot see
 * it is found before all of them open it together.
 */
#include "directory.h"
#include "skeleton.h"

#include "espalier/tensor/mask.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct checkpoint_writer {
    espl_comm *c;
    const espl_checkpoint_shape *shape;
    const espl_checkpoint *content;
    const espl_checkpoint_io *io;
    skeleton_root root;
    espl_str path, part;
    slab_set sets[SLAB_KINDS]; /* of this rank; updates only if there are any */
    int n_sets;
    uint64_t *checksums[SLAB_KINDS]; /* rank 0: of all linears */
    checkpoint_records records;      /* rank 0 */
    bool has_part;                   /* rank 0: the part file exists */
    int fd;                          /* this rank's own handle of the part file, -1: closed */
} checkpoint_writer;

static espl_status writer_io_error(const checkpoint_writer *w, const char *verb) {
    return ESPL_FAIL(ESPL_IO, "%s: cannot be %s: %s", w->part.data, verb, strerror(errno));
}

/* ------------------------------------------------------------ preparing */

/* Collective. The ranks must hold the same values here, or they would call different collectives later. */
static espl_status writer_compare_ranks(checkpoint_writer *w) {
    const skeleton_root *mine = &w->root;
    skeleton_root first = w->root;
    espl_comm_broadcast(w->c, &first, sizeof first, 0);
    bool same = first.iteration == mine->iteration && first.has_updates == mine->has_updates &&
                first.update_dtype == mine->update_dtype && first.layers == mine->layers;
    espl_status st = ESPL_OK;
    if (!same) st = ESPL_FAIL(ESPL_INTERNAL, "checkpoint: the ranks disagree on iteration, layers or updates");
    return espl_comm_agree(w->c, st);
}

static espl_status writer_add_set(checkpoint_writer *w, slab_kind kind, const void *const *items) {
    espl_layout layout = espl_checkpoint_layout(w->shape);
    int64_t mine = espl_range_count(w->shape->slice) * espl_layout_layer_linears(layout);
    int64_t all = espl_comm_rank(w->c) == 0 ? espl_layout_linears(layout) : 0;
    slab_set *set = &w->sets[w->n_sets++];
    *set = (slab_set){.kind = kind, .dtype = w->root.update_dtype, .items = items};
    ESPL_TRY(espl_mem_alloc(&set->checksums, mine, sizeof *set->checksums, "checksums"));
    ESPL_TRY(espl_mem_alloc(&w->checksums[kind], all, sizeof **w->checksums, "checksums"));
    return espl_slab_checksum(w->shape, set);
}

static espl_status writer_prepare(checkpoint_writer *w, const char *dir) {
    const espl_checkpoint *k = w->content;
    espl_checkpoint_put_path(&w->path, dir, k->iteration, CHECKPOINT_WHOLE);
    espl_checkpoint_put_path(&w->part, dir, k->iteration, CHECKPOINT_PART);
    ESPL_TRY(espl_str_status(&w->path));
    ESPL_TRY(espl_str_status(&w->part));
    ESPL_TRY(writer_add_set(w, SLAB_MASKS, (const void *const *)k->masks));
    if (w->root.has_updates) ESPL_TRY(writer_add_set(w, SLAB_UPDATES, k->updates));
    return espl_comm_rank(w->c) == 0 ? espl_records_pack(k, w->shape, &w->records) : ESPL_OK;
}

/* ------------------------------------------------------------- the file */

/* Copies a sparse file, holes excepted. False with errno set. */
static bool writer_copy_data(int from, int to) {
    char block[65536];
    off_t at = 0;
    errno = ENOSPC; /* what a short write means */
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE);
        if (end < 0 || lseek(to, at, SEEK_SET) < 0) return false;
        while (at < end) {
            ssize_t n = pread(from, block, (size_t)espl_min_i64(end - at, sizeof block), at);
            if (n <= 0 || !espl_file_write_all(to, block, n)) return false;
            at += n;
        }
    }
    return errno == ENXIO; /* no more data */
}

/* Local, on rank 0. Gives the part file its full size. Where the file system can promise the space (fallocate), a full
 * disk shows here, on one rank, and not in the middle of a collective write. */
static espl_status writer_reserve(const checkpoint_writer *w, off_t bytes) {
    bool supported = !espl_fault("checkpoint.no_promise"); /* the fault: a file system without fallocate */
    bool full = supported && fallocate(w->fd, 0, 0, bytes) != 0 &&
                (errno == ENOSPC || errno == EDQUOT || errno == EFBIG); /* other reasons: not supported */
    if (espl_fault("checkpoint.reserve")) {
        full = true;
        errno = ENOSPC;
    }
    if (full || ftruncate(w->fd, bytes) != 0) return writer_io_error(w, "given its full size");
    return ESPL_OK;
}

/* About the size that the file will have; never less by more than a few KiB. */
static espl_status writer_bytes(checkpoint_writer *w, int64_t *bytes) {
    record_table tables[RECORD_TABLES];
    record_text texts[RECORD_TEXTS];
    *bytes = espl_checkpoint_bytes(w->shape, 0);
    ESPL_TRY(espl_records_tables(&w->records, tables));
    for (int i = 0; i < RECORD_TABLES; i++)
        *bytes += (int64_t)tables[i].row_bytes * (tables[i].rank ? *tables[i].n : 1);
    espl_records_close_tables(tables);
    espl_records_texts(&w->records, texts);
    for (int i = 0; i < RECORD_TEXTS; i++) *bytes += texts[i].s->len;
    for (int linear = 0; w->root.has_updates && linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(w->shape, SLAB_UPDATES, w->root.update_dtype, (espl_linear_kind)linear, &s);
        *bytes += s.bytes * s.pieces;
    }
    return ESPL_OK;
}

/* Local, on rank 0. The limit on file sizes (ulimit -f) also holds for files in memory, and HDF5 1.10 crashes when it
 * cannot close a file. So a checkpoint that would exceed the limit fails before HDF5 begins. */
static espl_status writer_check_limit(checkpoint_writer *w) {
    struct rlimit limit;
    int64_t bytes;
    ESPL_TRY(writer_bytes(w, &bytes));
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || bytes <= (int64_t)limit.rlim_cur)
        return ESPL_OK;
    return ESPL_FAIL(ESPL_IO,
                     "%s: needs about %" PRId64 " bytes, but the limit on the size of a file (ulimit -f) is %" PRId64,
                     w->part.data, bytes, (int64_t)limit.rlim_cur);
}

/* Local, on rank 0. Creates the empty part file, and opens this rank's own handle. MPI-IO says that it failed, not why:
 * the system says it when asked for the same. */
static espl_status writer_make_part(checkpoint_writer *w) {
    const h5_file f = {.path = w->part.data, .io = w->io};
    const int mode = O_RDWR | O_NOFOLLOW | O_CLOEXEC;
    (void)unlink(w->part.data); /* of a killed run; or a link, whose target must not be written */
    bool made = espl_h5_make(&f) == ESPL_OK;
    w->fd = open(w->part.data, made ? mode : mode | O_CREAT | O_EXCL, 0666);
    w->has_part = w->fd >= 0;
    if (w->fd < 0) return writer_io_error(w, "created");
    return made ? ESPL_OK : ESPL_FAIL(ESPL_IO, "%s: cannot be created through MPI-IO", w->part.data);
}

/* Local, on rank 0. Creates the part file at its full size with the skeleton in it. */
static espl_status writer_create_part(checkpoint_writer *w, const char *dir) {
    espl_status st;
    ESPL_TRY(espl_file_make_directory(dir));
    ESPL_TRY(writer_check_limit(w));
    int image = memfd_create("skeleton", MFD_CLOEXEC);
    if (image < 0) return ESPL_FAIL(ESPL_IO, "%s: no file in memory: %s", w->part.data, strerror(errno));
    ESPL_CHECK(st, done,
               espl_skeleton_write(w->part.data, image, w->shape, &w->root, w->io, &w->records, w->checksums));
    off_t bytes = lseek(image, 0, SEEK_END);
    if (bytes < 0) {
        st = ESPL_FAIL(ESPL_IO, "%s: no file in memory: %s", w->part.data, strerror(errno));
        goto done;
    }
    ESPL_CHECK(st, done, writer_make_part(w));
    ESPL_CHECK(st, done, writer_reserve(w, bytes));
    if (espl_fault("checkpoint.skeleton"))
        st = ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", w->part.data);
    else if (!writer_copy_data(image, w->fd))
        st = writer_io_error(w, "written");
done:
    close(image);
    return st;
}

/* Local. A rank that cannot see the file must fail here: the collective open would wait for it forever. */
static espl_status writer_open_part(checkpoint_writer *w) {
    if (w->fd < 0) w->fd = open(w->part.data, O_RDWR | O_CLOEXEC);
    bool fault = espl_fault("checkpoint.open");
    if (w->fd >= 0 && !fault) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be opened on rank %d: %s (is the directory on a shared file system?)",
                     w->part.data, espl_comm_rank(w->c), fault ? "fault on demand" : strerror(errno));
}

/* Collective. */
static espl_status writer_write_slabs(checkpoint_writer *w) {
    h5_file f = {.path = w->part.data, .io = w->io};
    espl_status st = espl_comm_agree(w->c, espl_h5_open(&f, H5_SHARED, w->c));
    for (int i = 0; st == ESPL_OK && i < w->n_sets; i++) st = espl_slab_write(w->c, &f, w->fd, w->shape, &w->sets[i]);
    espl_status closed = espl_comm_agree(w->c, espl_h5_close(&f));
    return st != ESPL_OK ? st : closed;
}

/* Local. Reads the file as a later run will, while the disk is still busy with it. */
static espl_status writer_verify(const checkpoint_writer *w) {
    h5_file f = {.path = w->part.data, .io = w->io};
    checkpoint_records r = {0};
    espl_checkpoint k = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_h5_open(&f, H5_READ, NULL));
    for (int i = 0; i < w->n_sets; i++) ESPL_CHECK(st, done, espl_slab_verify(&f, w->fd, w->shape, &w->sets[i]));
    if (espl_comm_rank(w->c) == 0) {
        ESPL_CHECK(st, done, espl_skeleton_read(&f, &r));
        ESPL_CHECK(st, done, espl_records_unpack(&r, w->shape, w->root.iteration, f.path, &k));
    }
    if (espl_fault("checkpoint.verify"))
        st = ESPL_FAIL(ESPL_IO, "%s: is not as written: fault on demand", w->part.data);
done:
    espl_records_free(&r);
    espl_checkpoint_free(&k);
    espl_h5_close(&f);
    return st;
}

/* Local. Flushes what this rank wrote: on cluster file systems only its own node can do that. Closes w->fd. */
static espl_status writer_flush(checkpoint_writer *w) {
    int fd = w->fd;
    w->fd = -1;
    bool synced = fsync(fd) == 0;
    int error = errno;
    bool closed = close(fd) == 0;
    if (!synced) errno = error;
    return synced && closed ? ESPL_OK : writer_io_error(w, "flushed");
}

/* Local, on rank 0. Marks the file as complete and gives it its final name. */
static espl_status writer_publish(checkpoint_writer *w) {
    if (espl_fault("checkpoint.seal"))
        return ESPL_FAIL(ESPL_IO, "%s: cannot be completed: fault on demand", w->part.data);
    ESPL_TRY(espl_skeleton_seal(w->part.data));
    w->fd = open(w->part.data, O_RDWR | O_CLOEXEC);
    if (w->fd < 0) return writer_io_error(w, "opened");
    ESPL_TRY(writer_flush(w));
    if (espl_fault("checkpoint.rename") || rename(w->part.data, w->path.data) != 0)
        return writer_io_error(w, "renamed");
    w->has_part = false;
    (void)espl_fault("checkpoint.renamed");
    espl_file_sync_directory(w->path.data);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- whole */

espl_status espl_checkpoint_write(espl_comm *c, const char *dir, const espl_checkpoint_shape *shape,
                                  const espl_checkpoint *k, const espl_checkpoint_io *io) {
    checkpoint_writer w = {.c = c,
                           .io = io,
                           .shape = shape,
                           .content = k,
                           .fd = -1,
                           .root = {.iteration = k->iteration,
                                    .revision = k->revision,
                                    .layers = shape->layers,
                                    .has_updates = k->updates && k->updates[0],
                                    .update_dtype = ESPL_DTYPE_F32}};
    bool on_root = espl_comm_rank(c) == 0;
    espl_layout layout = espl_checkpoint_layout(shape);
    int64_t mine = espl_range_count(shape->slice) * espl_layout_layer_linears(layout);
    int64_t all = espl_layout_linears(layout);
    espl_status st;
    if (w.root.has_updates) w.root.update_dtype = k->update_dtype;
    ESPL_CHECK(st, done, writer_compare_ranks(&w));
    ESPL_CHECK(st, done, espl_comm_agree(c, writer_prepare(&w, dir)));
    for (int i = 0; i < w.n_sets; i++)
        ESPL_CHECK(
            st, done,
            espl_comm_gather_records(c, w.sets[i].checksums, mine, sizeof(uint64_t), all, w.checksums[w.sets[i].kind]));
    ESPL_CHECK(st, done, espl_comm_agree(c, on_root ? writer_create_part(&w, dir) : ESPL_OK));
    ESPL_CHECK(st, done, espl_comm_agree(c, writer_open_part(&w)));
    ESPL_CHECK(st, done, writer_write_slabs(&w));
    ESPL_CHECK(st, done, espl_comm_agree(c, writer_verify(&w)));
    ESPL_CHECK(st, done, espl_comm_agree(c, writer_flush(&w)));
    ESPL_CHECK(st, done, espl_comm_agree(c, on_root ? writer_publish(&w) : ESPL_OK));
done:
    if (w.fd >= 0) close(w.fd);
    if (w.has_part) unlink(w.part.data);
    if (st != ESPL_OK) st = espl_comm_agree(c, st); /* the part file is gone when any rank returns */
    for (int i = 0; i < SLAB_KINDS; i++) {
        espl_mem_free(&w.sets[i].checksums);
        espl_mem_free(&w.checksums[i]);
    }
    espl_records_free(&w.records);
    espl_str_free(&w.path);
    espl_str_free(&w.part);
    return st;
}

int64_t espl_checkpoint_bytes(const espl_checkpoint_shape *shape, int64_t alignment) {
    const int64_t metadata = 40000; /* HDF5's object headers and attributes, measured */
    espl_layout layout = espl_checkpoint_layout(shape);
    int64_t bytes = metadata + espl_layout_linears(layout) * (int64_t)(sizeof(profile_record) + sizeof(uint64_t));
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t masks = shape->layers * espl_layout_kind_linears(layout, (espl_linear_kind)k) * shape->out[k] *
                        espl_mask_words(shape->in[k]) * 8;
        bytes += masks + (masks >= alignment ? alignment : 0);
    }
    return bytes;
}
