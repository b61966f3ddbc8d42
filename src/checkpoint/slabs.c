/* Masks and updates: one dataset per kind of linear, [layers, ...]; every rank owns the hyperslab of its layers. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

const char *espl_slab_group(slab_kind kind) { return kind == SLAB_MASKS ? "/masks" : "/updates"; }

static void describe_mask(const espl_checkpoint_shape *shape, espl_linear_kind linear, slab *s) {
    int64_t words = espl_mask_words(shape->in[linear]);
    s->bytes = shape->out[linear] * words * 8;
    s->spec.type = H5T_STD_U64LE;
    s->spec.dims[2] = (hsize_t)words;
    s->spec.description = "which weights of this linear survive, for every layer: 1 kept, 0 pruned";
    s->spec.axes = "[layers, out, words]";
    s->spec.units = "bits: column c is bit c % 64, counted from the lowest, of word c / 64; bits beyond `in` are 0";
}

static void describe_update(const espl_checkpoint_shape *shape, espl_dtype dtype, espl_linear_kind linear, slab *s) {
    s->bytes = shape->out[linear] * shape->in[linear] * (int64_t)espl_dtype_size(dtype);
    s->spec.type = dtype == ESPL_DTYPE_F32 ? H5T_IEEE_F32LE : H5T_STD_U16LE;
    s->spec.dims[2] = (hsize_t)shape->in[linear];
    s->spec.description = "weights that replace the source's, for every layer";
    s->spec.axes = "[layers, out, in]";
    s->spec.units = dtype == ESPL_DTYPE_F32    ? "F32"
                    : dtype == ESPL_DTYPE_BF16 ? "BF16, its bits as an integer"
                                               : "F16, its bits as an integer";
}

void espl_slab_describe(const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype, espl_linear_kind linear,
                        slab *s) {
    *s = (slab){.kind = kind, .in = shape->in[linear]};
    snprintf(s->path, sizeof s->path, "%s/%s", espl_slab_group(kind), espl_linear_path(linear));
    snprintf(s->checksums, sizeof s->checksums, "/checksums%s/%s", espl_slab_group(kind), espl_linear_path(linear));
    s->spec = (h5spec){.rank = 3, .dims = {(hsize_t)shape->layers, (hsize_t)shape->out[linear]}};
    if (kind == SLAB_MASKS)
        describe_mask(shape, linear, s);
    else
        describe_update(shape, dtype, linear, s);
}

/* Row of this linear in a rank's list. */
static int64_t local_index(const espl_checkpoint_shape *shape, int64_t layer, int linear) {
    return espl_linear_index(layer - shape->slice.first, (espl_linear_kind)linear);
}

/* ------------------------------------------------------------ in memory */

/* The row of the first mask bit beyond `in`, -1: there is none. */
static int64_t stray_bits(const uint64_t *mask, int64_t out, int64_t in) {
    int64_t words = espl_mask_words(in);
    for (int64_t r = 0; r < out; r++)
        if (mask[(r + 1) * words - 1] & ~espl_mask_columns(in, words - 1)) return r;
    return -1;
}

static espl_status checksum_one(const espl_checkpoint_shape *shape, slab_set *set, int64_t layer, int linear) {
    char name[NAME_BYTES];
    slab s;
    int64_t i = local_index(shape, layer, linear);
    espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
    espl_linear_name(espl_linear_index(layer, (espl_linear_kind)linear), name);
    if (!set->items[i])
        return ESPL_FAIL(ESPL_INTERNAL, "checkpoint: %s has no %s", name, espl_slab_group(set->kind) + 1);
    if (set->kind == SLAB_MASKS && stray_bits(set->items[i], shape->out[linear], s.in) >= 0)
        return ESPL_FAIL(ESPL_INTERNAL, "checkpoint: the mask of %s has bits beyond its %" PRId64 " columns", name,
                         s.in);
    set->checksums[i] = espl_hash64(set->items[i], s.bytes, 0);
    return ESPL_OK;
}

espl_status espl_slab_checksum(const espl_checkpoint_shape *shape, slab_set *set) {
    for (int64_t layer = shape->slice.first; layer < shape->slice.last; layer++)
        for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) ESPL_TRY(checksum_one(shape, set, layer, linear));
    return ESPL_OK;
}

/* -------------------------------------------------------------- writing */

/* Datasets of one set, open; < 0: not. */
typedef struct open_set {
    hid_t ids[ESPL_LINEAR_KINDS];
} open_set;

static espl_status open_all(const h5file *f, const slab_set *set, open_set *o) {
    espl_status st = ESPL_OK;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", espl_slab_group(set->kind), espl_linear_path((espl_linear_kind)k));
        o->ids[k] = H5Dopen2(f->id, path, H5P_DEFAULT);
        if (o->ids[k] < 0) st = espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    }
    return st;
}

static void close_all(open_set *o) {
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        if (o->ids[k] >= 0) H5Dclose(o->ids[k]);
}

/* Writes or reads (`to`) one layer of a dataset. */
static bool transfer_layer(const slab *s, hid_t dataset, hid_t dxpl, int64_t layer, const void *from, void *to) {
    hsize_t at[3] = {(hsize_t)layer}, count[3] = {1, s->spec.dims[1], s->spec.dims[2]};
    hid_t file = H5Screate_simple(3, s->spec.dims, NULL), memory = H5Screate_simple(3, count, NULL);
    bool ok = file >= 0 && memory >= 0 && H5Sselect_hyperslab(file, H5S_SELECT_SET, at, NULL, count, NULL) >= 0;
    if (ok && to) ok = H5Dread(dataset, s->spec.type, memory, file, dxpl, to) >= 0;
    if (ok && !to) ok = H5Dwrite(dataset, s->spec.type, memory, file, dxpl, from) >= 0;
    if (memory >= 0) H5Sclose(memory);
    if (file >= 0) H5Sclose(file);
    return ok;
}

/* MPI-IO says that fewer bytes were written, not why. Asked for the file's space, the system does. */
static espl_status write_error(const h5file *f, int fd) {
    off_t size = lseek(fd, 0, SEEK_END);
    int reason = size > 0 ? posix_fallocate(fd, 0, size) : 0;
    if (reason != ENOSPC && reason != EDQUOT && reason != EFBIG)
        return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    return ESPL_FAIL(ESPL_IO, "%s: cannot be written: %s", f->path, strerror(reason));
}

static espl_status write_kind(const h5file *f, int fd, const espl_checkpoint_shape *shape, const slab_set *set,
                              hid_t dxpl, hid_t dataset, int linear) {
    slab s;
    espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
    for (int64_t layer = shape->slice.first; layer < shape->slice.last; layer++) {
        const void *from = set->items[local_index(shape, layer, linear)];
        if (espl_fault("checkpoint.slab")) return ESPL_FAIL(ESPL_IO, "%s: cannot be written: fault on demand", f->path);
        if (!transfer_layer(&s, dataset, dxpl, layer, from, NULL)) return write_error(f, fd);
    }
    return ESPL_OK;
}

static espl_status write_all(const h5file *f, int fd, const espl_checkpoint_shape *shape, const slab_set *set,
                             hid_t dxpl, const open_set *o) {
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        ESPL_TRY(write_kind(f, fd, shape, set, dxpl, o->ids[linear], linear));
        (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint: the disk may begin */
    }
    return ESPL_OK;
}

/* Opening and closing are collective, the transfers are each rank's own: a layer is one contiguous piece of the file,
 * so there is nothing to gather, and a rank that fails keeps nobody waiting (docs/checkpoint-format.md has the times).
 */
static hid_t transfer_list(void) {
    hid_t dxpl = H5Pcreate(H5P_DATASET_XFER);
    if (dxpl < 0 || H5Pset_dxpl_mpio(dxpl, H5FD_MPIO_INDEPENDENT) >= 0) return dxpl;
    H5Pclose(dxpl);
    return -1;
}

espl_status espl_slab_write(espl_comm *c, const h5file *f, int fd, const espl_checkpoint_shape *shape,
                            const slab_set *set) {
    open_set o;
    espl_status st = open_all(f, set, &o);
    hid_t dxpl = transfer_list();
    if (dxpl < 0) st = espl_h5_fail(ESPL_INTERNAL, f->path, "cannot be written");
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = espl_comm_agree(c, write_all(f, fd, shape, set, dxpl, &o));
    if (dxpl >= 0) H5Pclose(dxpl);
    close_all(&o);
    return st;
}

/* ------------------------------------------------------------ verifying */

static espl_status damaged(const h5file *f, const slab *s, int64_t layer, uint64_t found, uint64_t expected) {
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: dataset \"%s\": layer %" PRId64 " is damaged: its checksum is %016" PRIx64
                     ", expected %016" PRIx64,
                     f->path, s->path + 1, layer, found, expected);
}

static espl_status verify_kind(const h5file *f, const espl_mapping *map, const espl_checkpoint_shape *shape,
                               const slab_set *set, int linear) {
    slab s;
    hid_t dataset;
    espl_slab_describe(shape, set->kind, set->dtype, (espl_linear_kind)linear, &s);
    s.spec.path = s.path;
    ESPL_TRY(espl_h5_require(f, &s.spec, &dataset));
    int64_t at = (int64_t)H5Dget_offset(dataset);
    H5Dclose(dataset);
    if (at > map->len - s.bytes * shape->layers) return ESPL_FAIL(ESPL_IO, "%s: is shorter than written", f->path);
    for (int64_t layer = shape->slice.first; layer < shape->slice.last; layer++) {
        uint64_t found = espl_hash64(map->data + at + layer * s.bytes, s.bytes, 0);
        uint64_t expected = set->checksums[local_index(shape, layer, linear)];
        if (found != expected) return damaged(f, &s, layer, found, expected);
    }
    return ESPL_OK;
}

/* Through a mapping: the pages just written are hashed where they are. */
espl_status espl_slab_verify(const h5file *f, const espl_checkpoint_shape *shape, const slab_set *set) {
    espl_mapping map;
    ESPL_TRY(espl_file_map(f->path, &map));
    espl_status st = ESPL_OK;
    for (int linear = 0; st == ESPL_OK && linear < ESPL_LINEAR_KINDS; linear++)
        st = verify_kind(f, &map, shape, set, linear);
    espl_file_unmap(&map);
    return st;
}

/* -------------------------------------------------------------- reading */

/* All checksums of one dataset, [layers], owned by the caller. */
static espl_status read_checksums(const h5file *f, const slab *s, int64_t layers, uint64_t **out) {
    h5spec spec = {.path = s->checksums, .type = H5T_STD_U64LE, .rank = 1, .dims = {(hsize_t)layers}};
    return espl_h5_read_checked(f, &spec, 8, (void **)out);
}

static espl_status read_layer(const h5file *f, const slab *s, hid_t dataset, int64_t layer, uint64_t expected,
                              void *to) {
    if (!transfer_layer(s, dataset, H5P_DEFAULT, layer, NULL, to)) return espl_h5_fail(ESPL_IO, f->path, s->path + 1);
    uint64_t found = espl_hash64(to, s->bytes, 0);
    if (found != expected) return damaged(f, s, layer, found, expected);
    int64_t row = s->kind == SLAB_MASKS ? stray_bits(to, (int64_t)s->spec.dims[1], s->in) : -1;
    if (row < 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: dataset \"%s\": layer %" PRId64 ", row %" PRId64 " has bits beyond its %" PRId64
                     " columns, expected none",
                     f->path, s->path + 1, layer, row, s->in);
}

static espl_status read_layers(const h5file *f, const espl_checkpoint_shape *shape, const slab *s, int linear,
                               hid_t dataset, void *const *items) {
    uint64_t *checksums;
    ESPL_TRY(read_checksums(f, s, shape->layers, &checksums));
    espl_status st = ESPL_OK;
    for (int64_t i = shape->slice.first; st == ESPL_OK && i < shape->slice.last; i++)
        st = read_layer(f, s, dataset, i, checksums[i], items[local_index(shape, i, linear)]);
    espl_mem_free(&checksums);
    return st;
}

espl_status espl_slab_read(const h5file *f, const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype,
                           void *const *items) {
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        hid_t dataset;
        espl_slab_describe(shape, kind, dtype, (espl_linear_kind)linear, &s);
        s.spec.path = s.path;
        ESPL_TRY(espl_h5_require(f, &s.spec, &dataset));
        espl_status st = read_layers(f, shape, &s, linear, dataset, items);
        H5Dclose(dataset);
        ESPL_TRY(st);
    }
    return ESPL_OK;
}
