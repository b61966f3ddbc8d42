/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masks and updates. The layers of a rank are one contiguous piece of each dataset. They are written in one of two ways
 * (docs/checkpoint-format.md says which one when, docs/performance.md has the times):
 *
 * - independent: every rank writes its layers one by one, straight from where they are. Nobody waits for anybody.
 * - collective: every rank takes part in each write, with as many layers as fit into a buffer, or with none. MPI-IO may
 *   then gather the pieces on a few ranks and write them in stripes. A rank that has failed goes on taking part, with
 *   nothing, until the ranks agree.
 *
 * Each layer has a checksum, computed from memory before writing, compared with the file after writing, and stored for
 * readers.
 */
#include "slabs.h"

#include "espalier/tensor/mask.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static const char *const espl_slab_expert_paths[ESPL_MLP_LINEARS] = {"mlp.experts.gate_proj", "mlp.experts.up_proj",
                                                                     "mlp.experts.down_proj"};

const char *espl_slab_group(slab_kind kind) { return kind == SLAB_MASKS ? "/masks" : "/updates"; }

/* Descriptions, axes and units are stored in the file: changing one changes the bytes of every checkpoint. */
void espl_slab_describe(const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype, espl_linear_kind linear,
                        slab *s) {
    int64_t out = shape->out[linear], in = shape->in[linear], words = espl_mask_words(in);
    const char *path = espl_linear_path(linear);
    bool experts = shape->experts > 0 && linear >= ESPL_GATE_PROJ;
    *s = (slab){.kind = kind, .in = in};
    s->pieces = shape->layers * espl_layout_kind_linears(espl_checkpoint_layout(shape), linear);
    if (experts) path = espl_slab_expert_paths[linear - ESPL_GATE_PROJ];
    snprintf(s->path, sizeof s->path, "%s/%s", espl_slab_group(kind), path);
    snprintf(s->checksums, sizeof s->checksums, "/checksums%s/%s", espl_slab_group(kind), path);
    s->spec = (dataset_spec){.path = s->path, .rank = 3, .dims = {(hsize_t)s->pieces, (hsize_t)out}};
    if (kind == SLAB_MASKS) {
        s->bytes = out * words * 8;
        s->spec.type = H5T_STD_U64LE;
        s->spec.dims[2] = (hsize_t)words;
        s->spec.description = "which weights of this linear survive, for every layer: 1 kept, 0 pruned";
        s->spec.axes = experts ? "[layers * experts, out, words]" : "[layers, out, words]";
        s->spec.units = "bits: column c is bit c % 64, counted from the lowest, of word c / 64; bits beyond `in` are 0";
    } else {
        s->bytes = out * in * (int64_t)espl_dtype_size(dtype);
        s->spec.type =
            dtype == ESPL_DTYPE_F32 ? H5T_IEEE_F32LE : H5T_STD_U16LE; /* HDF5 1.10 predefines no 16-bit float */
        s->spec.dims[2] = (hsize_t)in;
        s->spec.description = "weights that replace the source's, for every layer";
        s->spec.axes = experts ? "[layers * experts, out, in]" : "[layers, out, in]";
        s->spec.units = dtype == ESPL_DTYPE_F32    ? "F32"
                        : dtype == ESPL_DTYPE_BF16 ? "BF16, its bits as an integer"
                                                   : "F16, its bits as an integer";
    }
}

/* The pieces of this rank's layers. */
static espl_range slab_pieces(const espl_checkpoint_shape *shape, int linear) {
    int64_t each = espl_layout_kind_linears(espl_checkpoint_layout(shape), (espl_linear_kind)linear);
    return (espl_range){shape->slice.first * each, shape->slice.last * each};
}

int64_t espl_slab_linear(const espl_checkpoint_shape *shape, espl_linear_kind linear, int64_t piece) {
    espl_layout l = espl_checkpoint_layout(shape);
    int64_t each = espl_layout_kind_linears(l, linear);
    return espl_linear_index(l, piece / each, espl_linear_at(linear, piece % each));
}

/* Position of a piece in the list of a rank. */
static int64_t slab_local_index(const espl_checkpoint_shape *shape, int64_t piece, int linear) {
    return espl_slab_linear(shape, (espl_linear_kind)linear, piece) -
           espl_linear_index(espl_checkpoint_layout(shape), shape->slice.first, 0);
}

/* The first row of a mask with bits beyond `in`, -1 if all rows are clean. Kept weights are counted by whole words:
 * such bits would count as weights that do not exist. */
static int64_t slab_find_stray_bits(const uint64_t *mask, int64_t out, int64_t in) {
    int64_t words = espl_mask_words(in);
    for (int64_t r = 0; r < out; r++)
        if (mask[(r + 1) * words - 1] & ~espl_mask_columns(in, words - 1)) return r;
    return -1;
}

espl_status espl_slab_checksum(const espl_checkpoint_shape *shape, slab_set *set) {
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
        espl_range mine = slab_pieces(shape, linear);
        for (int64_t piece = mine.first; piece < mine.last; piece++) {
            char name[ESPL_LINEAR_NAME_MAX];
            int64_t i = slab_local_index(shape, piece, linear);
            espl_linear_name(espl_checkpoint_layout(shape), espl_slab_linear(shape, (espl_linear_kind)linear, piece),
                             name);
            if (!set->items[i])
                return ESPL_FAIL(ESPL_INTERNAL, "checkpoint: %s has no %s", name, espl_slab_group(set->kind) + 1);
            if (set->kind == SLAB_MASKS && slab_find_stray_bits(set->items[i], shape->out[linear], s.in) >= 0)
                return ESPL_FAIL(ESPL_INTERNAL, "checkpoint: the mask of %s has bits beyond its %" PRId64 " columns",
                                 name, s.in);
            set->checksums[i] = espl_hash64(set->items[i], s.bytes, 0);
        }
    }
    return ESPL_OK;
}

/* Writes n pieces of a dataset from `from`, or reads them into `to` if that is not NULL. n may be 0. */
static bool slab_transfer_pieces(const slab *s, hid_t dataset, hid_t dxpl, int64_t first, int64_t n, const void *from,
                                 void *to) {
    hsize_t at[3] = {(hsize_t)first}, count[3] = {(hsize_t)n, s->spec.dims[1], s->spec.dims[2]};
    hid_t file = H5Screate_simple(3, s->spec.dims, NULL), memory = H5Screate_simple(3, count, NULL);
    bool ok = file >= 0 && memory >= 0;
    if (ok && n > 0) ok = H5Sselect_hyperslab(file, H5S_SELECT_SET, at, NULL, count, NULL) >= 0;
    if (ok && n == 0) ok = H5Sselect_none(file) >= 0 && H5Sselect_none(memory) >= 0;
    if (ok && to) ok = H5Dread(dataset, s->spec.type, memory, file, dxpl, to) >= 0;
    if (ok && !to) ok = H5Dwrite(dataset, s->spec.type, memory, file, dxpl, from) >= 0;
    H5_CLOSE(S, memory);
    H5_CLOSE(S, file);
    return ok;
}

/* -------------------------------------------------------------- writing */

/* MPI-IO reports that fewer bytes were written, not why. The system gives the reason when asked to allocate the file's
 * space once more. */
static espl_status slab_write_error(const h5_file *f, int fd) {
    off_t size = lseek(fd, 0, SEEK_END);
    int reason = size > 0 ? posix_fallocate(fd, 0, size) : 0;
    if (reason != ENOSPC && reason != EDQUOT && reason != EFBIG)
        return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    return ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", f->path, strerror(reason));
}

static espl_status slab_fault(const h5_file *f) {
    if (!espl_fault("checkpoint.slab")) return ESPL_OK;
    return ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", f->path);
}

static void slab_start_disk(int fd) {
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint: the disk may start now */
}

/* Local. Writes all layers of this rank into the open datasets. */
static espl_status slab_write_layers(const h5_file *f, int fd, const espl_checkpoint_shape *shape, const slab_set *set,
                                     hid_t dxpl, const hid_t datasets[ESPL_LINEAR_KINDS]) {
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
        espl_range mine = slab_pieces(shape, linear);
        for (int64_t piece = mine.first; piece < mine.last; piece++) {
            const void *from = set->items[slab_local_index(shape, piece, linear)];
            ESPL_TRY(slab_fault(f));
            if (!slab_transfer_pieces(&s, datasets[linear], dxpl, piece, 1, from, NULL)) return slab_write_error(f, fd);
        }
        slab_start_disk(fd);
    }
    return ESPL_OK;
}

/* Bytes that a rank gathers for one collective write. A piece that is larger is written from where it is. Small beside
 * what a model takes: no plan of memory counts it. */
enum { SLAB_ROUND_BYTES = 16 << 20 };

/* Pieces of a rank in one collective write: the same number on every rank. */
static int64_t slab_round_pieces(const slab *s) { return espl_max_i64(1, SLAB_ROUND_BYTES / s->bytes); }

/* The buffer of a rank that holds more than one piece in a round. */
static espl_status slab_round_buffer(const espl_checkpoint_shape *shape, const slab_set *set, char **buffer) {
    int64_t bytes = 0;
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
        int64_t n = espl_min_i64(slab_round_pieces(&s), espl_range_count(slab_pieces(shape, linear)));
        if (n > 1) bytes = espl_max_i64(bytes, n * s.bytes);
    }
    return espl_mem_alloc(buffer, bytes, 1, "pieces of a checkpoint");
}

/* Local. Copies pieces first..first+n of a linear into the buffer; a single one stays where it is. Returns where they
 * are. */
static const void *slab_gather(const espl_checkpoint_shape *shape, const slab_set *set, const slab *s, int linear,
                               int64_t first, int64_t n, char *buffer) {
    if (n == 0) return buffer;
    if (n == 1) return set->items[slab_local_index(shape, first, linear)];
    for (int64_t i = 0; i < n; i++)
        memcpy(buffer + i * s->bytes, set->items[slab_local_index(shape, first + i, linear)], (size_t)s->bytes);
    return buffer;
}

/* Collective, without an agreement at its end. Writes the layers of all ranks, round by round. */
static espl_status slab_write_rounds(espl_comm *c, const h5_file *f, int fd, const espl_checkpoint_shape *shape,
                                     const slab_set *set, hid_t dxpl, const hid_t datasets[ESPL_LINEAR_KINDS]) {
    char *buffer = NULL;
    espl_status st;
    int64_t most = espl_comm_max(c, (int)espl_range_count(shape->slice));
    ESPL_CHECK(st, done, espl_comm_agree(c, slab_round_buffer(shape, set, &buffer)));
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
        espl_range mine = slab_pieces(shape, linear);
        int64_t each = espl_layout_kind_linears(espl_checkpoint_layout(shape), (espl_linear_kind)linear);
        for (int64_t start = 0, per = slab_round_pieces(&s); start < most * each; start += per) {
            int64_t first = espl_min_i64(mine.first + start, mine.last);
            int64_t n = espl_min_i64(per, mine.last - first);
            for (int64_t i = 0; st == ESPL_OK && i < n; i++) st = slab_fault(f);
            if (st != ESPL_OK) n = 0; /* the others count on this rank's part in each write */
            const void *from = slab_gather(shape, set, &s, linear, first, n, buffer);
            bool ok = slab_transfer_pieces(&s, datasets[linear], dxpl, first, n, from, NULL);
            if (!ok && st == ESPL_OK) st = slab_write_error(f, fd);
        }
        slab_start_disk(fd);
    }
done:
    espl_mem_free(&buffer);
    return st;
}

espl_status espl_slab_write(espl_comm *c, const h5_file *f, int fd, const espl_checkpoint_shape *shape,
                            const slab_set *set) {
    hid_t datasets[ESPL_LINEAR_KINDS];
    espl_status st = ESPL_OK;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) { /* to the end in any case: opening is collective */
        slab s;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)k, &s);
        datasets[k] = H5Dopen2(f->id, s.path, H5P_DEFAULT);
        if (datasets[k] < 0) st = espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    }
    hid_t dxpl = H5Pcreate(H5P_DATASET_XFER);
    bool collective = f->io && f->io->collective;
    if (dxpl < 0 || H5Pset_dxpl_mpio(dxpl, collective ? H5FD_MPIO_COLLECTIVE : H5FD_MPIO_INDEPENDENT) < 0)
        st = espl_h5_fail(ESPL_INTERNAL, f->path, "cannot be written");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    st = espl_comm_agree(c, collective ? slab_write_rounds(c, f, fd, shape, set, dxpl, datasets)
                                       : slab_write_layers(f, fd, shape, set, dxpl, datasets));
done:
    H5_CLOSE(P, dxpl);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) H5_CLOSE(D, datasets[k]);
    return st;
}

/* ------------------------------------------------- verifying and reading */

/* A piece by the name that its axis has. */
static const char *slab_axis(const slab *s) { return strstr(s->path, ".experts.") ? "row of experts" : "layer"; }

static espl_status slab_damaged(const h5_file *f, const slab *s, int64_t piece, uint64_t found, uint64_t expected) {
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: dataset \"%s\": %s %" PRId64 " is damaged: its checksum is %016" PRIx64
                     ", expected %016" PRIx64,
                     f->path, s->path + 1, slab_axis(s), piece, found, expected);
}

/* Whether n bytes of the file are those at `wanted`. False also if they cannot be read. */
static bool slab_same_bytes(int fd, int64_t at, const char *wanted, int64_t n) {
    char block[65536];
    while (n > 0) {
        ssize_t got = pread(fd, block, (size_t)espl_min_i64(n, sizeof block), (off_t)at);
        if (got <= 0 || memcmp(block, wanted, (size_t)got) != 0) return false;
        at += got;
        wanted += got;
        n -= got;
    }
    return true;
}

/* Independent writes: through a mapping, where the pages just written are still in memory and are hashed in place.
 * Collective ones: Open MPI reports that they succeeded also on a full disk (tests/fault), and touching a page that the
 * disk has no room for would kill the process. So these bytes are read. */
espl_status espl_slab_verify(const h5_file *f, int fd, const espl_checkpoint_shape *shape, const slab_set *set) {
    espl_mapping map;
    bool collective = f->io && f->io->collective;
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_file_map(f->path, &map));
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        hid_t dataset;
        espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
        ESPL_CHECK(st, done, espl_dataset_open(f, &s.spec, &dataset));
        int64_t at = (int64_t)H5Dget_offset(dataset);
        H5Dclose(dataset);
        if (at > map.len - s.bytes * s.pieces) {
            st = ESPL_FAIL(ESPL_IO, "%s: is shorter than written", f->path);
            goto done;
        }
        espl_range mine = slab_pieces(shape, linear);
        for (int64_t piece = mine.first; piece < mine.last; piece++) {
            int64_t i = slab_local_index(shape, piece, linear), start = at + piece * s.bytes;
            uint64_t found = collective ? 0 : espl_hash64(map.data + start, s.bytes, 0);
            if (collective && !slab_same_bytes(fd, start, set->items[i], s.bytes))
                st = slab_write_error(f, fd);
            else if (!collective && found != set->checksums[i])
                st = slab_damaged(f, &s, piece, found, set->checksums[i]);
            if (st != ESPL_OK) goto done;
        }
    }
done:
    espl_file_unmap(&map);
    return st;
}

static espl_status slab_read_piece(const h5_file *f, const slab *s, hid_t dataset, int64_t piece, uint64_t expected,
                                   void *to) {
    if (!slab_transfer_pieces(s, dataset, H5P_DEFAULT, piece, 1, NULL, to))
        return espl_h5_fail(ESPL_IO, f->path, s->path + 1);
    uint64_t found = espl_hash64(to, s->bytes, 0);
    if (found != expected) return slab_damaged(f, s, piece, found, expected);
    int64_t row = s->kind == SLAB_MASKS ? slab_find_stray_bits(to, (int64_t)s->spec.dims[1], s->in) : -1;
    if (row < 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: dataset \"%s\": %s %" PRId64 ", row %" PRId64 " has bits beyond its %" PRId64
                     " columns, expected none",
                     f->path, s->path + 1, slab_axis(s), piece, row, s->in);
}

espl_status espl_slab_read(const h5_file *f, const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype,
                           void *const *items) {
    espl_status st = ESPL_OK;
    for (int linear = 0; st == ESPL_OK && linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        hid_t dataset;
        void *bytes = NULL;
        espl_slab_describe(shape, kind, dtype, (espl_linear_kind)linear, &s);
        dataset_spec sums = {.path = s.checksums, .type = H5T_STD_U64LE, .rank = 1, .dims = {(hsize_t)s.pieces}};
        ESPL_TRY(espl_dataset_open(f, &s.spec, &dataset));
        ESPL_CHECK(st, close, espl_dataset_read(f, &sums, sizeof(uint64_t), &bytes));
        const uint64_t *checksums = bytes; /* [pieces] */
        espl_range mine = slab_pieces(shape, linear);
        for (int64_t i = mine.first; i < mine.last; i++)
            ESPL_CHECK(st, close,
                       slab_read_piece(f, &s, dataset, i, checksums[i], items[slab_local_index(shape, i, linear)]));
    close:
        espl_mem_free(&bytes);
        H5Dclose(dataset);
    }
    return st;
}
