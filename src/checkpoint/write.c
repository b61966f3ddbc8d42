/* Writing a checkpoint: phases of Local work, an agreement after each. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct writing {
    espl_comm *c;
    const espl_checkpoint_shape *shape;
    const espl_checkpoint *content;
    root top;
    espl_str path, part;
    slab_set sets[SLAB_KINDS]; /* this rank's; that of updates only with updates */
    int n_sets;
    uint64_t *checksums[SLAB_KINDS]; /* rank 0: of all linears */
    records r;                       /* rank 0 */
    bool started;                    /* rank 0: there is a part file */
    int fd;                          /* this rank's own handle of it, -1: none */
} writing;

/* ------------------------------------------------------------ preparing */

static espl_status add_set(writing *w, slab_kind kind, const void *const *items) {
    int64_t mine = espl_range_count(w->shape->slice) * ESPL_LINEAR_KINDS;
    int64_t all = espl_comm_rank(w->c) == 0 ? w->shape->layers * ESPL_LINEAR_KINDS : 0;
    slab_set *set = &w->sets[w->n_sets++];
    *set = (slab_set){.kind = kind, .dtype = w->top.update_dtype, .items = items};
    ESPL_TRY(espl_mem_alloc(&set->checksums, mine, sizeof *set->checksums, "checksums"));
    ESPL_TRY(espl_mem_alloc(&w->checksums[kind], all, sizeof **w->checksums, "checksums"));
    return espl_slab_checksum(w->shape, set);
}

static espl_status prepare(writing *w, const char *dir) {
    const espl_checkpoint *k = w->content;
    ESPL_TRY(espl_checkpoint_paths(dir, k->iteration, &w->path, &w->part));
    ESPL_TRY(add_set(w, SLAB_MASKS, (const void *const *)k->masks));
    if (w->top.has_updates) ESPL_TRY(add_set(w, SLAB_UPDATES, k->updates));
    return espl_comm_rank(w->c) == 0 ? espl_records_pack(k, w->shape, &w->r) : ESPL_OK;
}

/* What all ranks must hold alike: else they would part ways in a collective call. */
static espl_status same_everywhere(writing *w) {
    root first = w->top;
    espl_comm_broadcast(w->c, &first, sizeof first, 0);
    bool same = first.iteration == w->top.iteration && first.has_updates == w->top.has_updates &&
                first.update_dtype == w->top.update_dtype && first.layers == w->top.layers;
    espl_status st = ESPL_OK;
    if (!same) st = ESPL_FAIL(ESPL_INTERNAL, "checkpoint: the ranks disagree on iteration, layers or updates");
    return espl_comm_agree(w->c, st);
}

static espl_status gather(writing *w) {
    int64_t mine = espl_range_count(w->shape->slice) * ESPL_LINEAR_KINDS, all = w->shape->layers * ESPL_LINEAR_KINDS;
    for (int i = 0; i < w->n_sets; i++)
        ESPL_TRY(espl_comm_gather_records(w->c, w->sets[i].checksums, mine, 8, all, w->checksums[w->sets[i].kind]));
    return ESPL_OK;
}

/* ------------------------------------------------------------- the file */

static espl_status io_error(const writing *w, const char *verb) {
    return ESPL_FAIL(ESPL_IO, "%s: cannot be %s: %s", w->part.data, verb, strerror(errno));
}

/* The file at its full size, its space taken where the file system can promise it: a full disk then shows here, on one
 * rank. */
static espl_status reserve(const writing *w, off_t bytes) {
    bool able = !espl_fault("checkpoint.no_promise"); /* as where fallocate is not supported */
    bool full = able && fallocate(w->fd, 0, 0, bytes) != 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
    if (espl_fault("checkpoint.reserve")) {
        full = true;
        errno = ENOSPC;
    }
    return full || ftruncate(w->fd, bytes) != 0 ? io_error(w, "given its full size") : ESPL_OK;
}

static bool copy_range(int from, int to, off_t at, off_t end) {
    char buf[65536];
    while (at < end) {
        size_t want = end - at < (off_t)sizeof buf ? (size_t)(end - at) : sizeof buf;
        ssize_t n = pread(from, buf, want, at);
        for (ssize_t done = 0, put; done < n; done += put)
            if ((put = pwrite(to, buf + done, (size_t)(n - done), at + done)) <= 0) return false;
        if (n <= 0) return false;
        at += n;
    }
    return true;
}

/* All but the holes of a sparse file. */
static bool copy_data(int from, int to, off_t bytes) {
    for (off_t at = 0, end; (at = lseek(from, at, SEEK_DATA)) >= 0; at = end) {
        end = lseek(from, at, SEEK_HOLE);
        if (end < 0 || !copy_range(from, to, at, end < bytes ? end : bytes)) return false;
    }
    return errno == ENXIO; /* no more data */
}

static espl_status create(writing *w, int image) {
    off_t bytes = lseek(image, 0, SEEK_END);
    w->fd = open(w->part.data, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0 || bytes < 0) return io_error(w, "created");
    w->started = true;
    ESPL_TRY(reserve(w, bytes));
    if (espl_fault("checkpoint.skeleton"))
        return ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", w->part.data);
    errno = ENOSPC; /* what a short write means */
    return copy_data(image, w->fd, bytes) ? ESPL_OK : io_error(w, "written");
}

/* HDF5 makes the skeleton in memory, where masks are holes that take no space, and plain writes bring it to the disk:
 * HDF5 1.10 does not survive a file that it cannot close because the disk is full. */
static espl_status start(writing *w, const char *dir) {
    if (espl_comm_rank(w->c) != 0) return ESPL_OK;
    ESPL_TRY(espl_file_make_directory(dir));
    int image = memfd_create("skeleton", MFD_CLOEXEC);
    if (image < 0) return ESPL_FAIL(ESPL_IO, "%s: no file in memory: %s", w->part.data, strerror(errno));
    espl_status st = espl_skeleton_write(w->part.data, image, w->shape, &w->top, &w->r, w->checksums);
    if (st == ESPL_OK) st = create(w, image);
    close(image);
    return st;
}

/* A rank that does not see the file would be missed inside the collective open. */
static espl_status reach(writing *w) {
    if (w->fd < 0) w->fd = open(w->part.data, O_RDWR | O_CLOEXEC);
    bool fault = espl_fault("checkpoint.open");
    if (w->fd >= 0 && !fault) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be opened on rank %d: %s (is the directory on a shared file system?)",
                     w->part.data, espl_comm_rank(w->c), fault ? "fault on demand" : strerror(errno));
}

static espl_status fill(writing *w) {
    h5file f = {.path = w->part.data};
    espl_status st = espl_comm_agree(w->c, espl_h5_open(&f, H5_SHARE, w->c));
    for (int i = 0; st == ESPL_OK && i < w->n_sets; i++) st = espl_slab_write(w->c, &f, w->fd, w->shape, &w->sets[i]);
    espl_status closed = espl_comm_agree(w->c, espl_h5_close(&f));
    return st != ESPL_OK ? st : closed;
}

/* What came to lie in the file, read as a later run will read it, while the disk is still busy with it. */
static espl_status verify(const writing *w) {
    h5file f = {.path = w->part.data};
    ESPL_TRY(espl_h5_open(&f, H5_READ, NULL));
    espl_status st = ESPL_OK;
    for (int i = 0; st == ESPL_OK && i < w->n_sets; i++) st = espl_slab_verify(&f, w->shape, &w->sets[i]);
    if (st == ESPL_OK && espl_comm_rank(w->c) == 0) {
        espl_checkpoint k = {0};
        records r;
        st = espl_skeleton_read(&f, &r);
        if (st == ESPL_OK) st = espl_records_unpack(&r, w->shape, w->top.iteration, f.path, &k);
        espl_records_free(&r);
        espl_checkpoint_free(&k);
    }
    espl_h5_close(&f);
    if (st == ESPL_OK && espl_fault("checkpoint.verify"))
        st = ESPL_FAIL(ESPL_IO, "%s: is not as written: fault on demand", w->part.data);
    return st;
}

/* What this rank wrote: on cluster file systems only its own node can force it out. */
static espl_status flush(writing *w) {
    int fd = w->fd;
    w->fd = -1;
    bool synced = fsync(fd) == 0;
    int error = errno;
    bool closed = close(fd) == 0;
    if (!synced) errno = error;
    return synced && closed ? ESPL_OK : io_error(w, "flushed");
}

static espl_status finish(writing *w) {
    if (espl_comm_rank(w->c) != 0) return ESPL_OK;
    ESPL_TRY(espl_skeleton_seal(w->part.data));
    w->fd = open(w->part.data, O_RDWR | O_CLOEXEC);
    if (w->fd < 0) return io_error(w, "opened");
    ESPL_TRY(flush(w));
    if (espl_fault("checkpoint.rename") || rename(w->part.data, w->path.data) != 0) return io_error(w, "renamed");
    w->started = false;
    espl_file_sync_directory(w->path.data);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- whole */

static espl_status write_phases(writing *w, const char *dir) {
    ESPL_TRY(same_everywhere(w));
    ESPL_TRY(espl_comm_agree(w->c, prepare(w, dir)));
    ESPL_TRY(gather(w));
    ESPL_TRY(espl_comm_agree(w->c, start(w, dir)));
    ESPL_TRY(espl_comm_agree(w->c, reach(w)));
    ESPL_TRY(fill(w));
    ESPL_TRY(espl_comm_agree(w->c, verify(w)));
    ESPL_TRY(espl_comm_agree(w->c, flush(w)));
    return espl_comm_agree(w->c, finish(w));
}

espl_status espl_checkpoint_write(espl_comm *c, const char *dir, const espl_checkpoint_shape *shape,
                                  const espl_checkpoint *k) {
    writing w = {.c = c,
                 .shape = shape,
                 .content = k,
                 .fd = -1,
                 .top = {.iteration = k->iteration,
                         .revision = k->revision,
                         .layers = shape->layers,
                         .has_updates = k->updates && k->updates[0],
                         .update_dtype = k->update_dtype}};
    if (!w.top.has_updates) w.top.update_dtype = ESPL_DTYPE_F32;
    espl_status st = write_phases(&w, dir);
    if (w.fd >= 0) close(w.fd);
    if (w.started) unlink(w.part.data);
    if (st != ESPL_OK) st = espl_comm_agree(c, st); /* gone on return, for every rank */
    for (int i = 0; i < SLAB_KINDS; i++) {
        espl_mem_free(&w.sets[i].checksums);
        espl_mem_free(&w.checksums[i]);
    }
    espl_records_free(&w.r);
    espl_str_free(&w.path);
    espl_str_free(&w.part);
    return st;
}

int64_t espl_checkpoint_bytes(const espl_checkpoint_shape *shape) {
    int64_t bytes = 40000 + shape->layers * ESPL_LINEAR_KINDS * (int64_t)(sizeof(profile_record) + sizeof(uint64_t));
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        bytes += shape->layers * shape->out[k] * espl_mask_words(shape->in[k]) * 8;
    return bytes;
}
