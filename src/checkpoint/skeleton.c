/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The skeleton of a checkpoint. The order in which objects are created decides where they lie in the file: keep it, or
 * the bytes of every checkpoint change. So do names and descriptions, which docs/checkpoint-format.md documents.
 */
#include "skeleton.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of one text. Far beyond any run's; it bounds what a hostile file can make this allocate. */
enum { TEXT_BYTES_MAX = 1 << 30 };

static espl_status skeleton_put_integer(const h5_file *f, hid_t object, const char *key, int64_t value) {
    return espl_h5_put_number(f, object, key, H5T_STD_I64LE, &value);
}

/* Groups are created one by one, not on the way to a dataset, so that none records times. */
static espl_status skeleton_make_group(const h5_file *f, const char *path, const char *description) {
    hid_t gcpl = H5Pcreate(H5P_GROUP_CREATE), group = -1;
    if (gcpl >= 0 && H5Pset_obj_track_times(gcpl, 0) >= 0)
        group = H5Gcreate2(f->id, path, H5P_DEFAULT, gcpl, H5P_DEFAULT);
    H5_CLOSE(P, gcpl);
    if (group < 0) return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    espl_status st = espl_h5_put_text(f, group, "description", description);
    H5Gclose(group);
    return st;
}

/* The dataset of a table: as it is to be written, or, with the number of rows replaced, as it must be found. */
static dataset_spec skeleton_table_spec(const record_table *t) {
    dataset_spec s = {
        .path = t->path, .type = t->type, .rank = t->rank, .description = t->description, .axes = t->axes};
    if (t->rank == 1) s.dims[0] = (hsize_t)*t->n;
    return s;
}

/* -------------------------------------------------------------- writing */

/* `complete` is 0 until espl_skeleton_seal: a file that was cut short by a crash says so. `espalier` is for people;
 * only `schema` decides whether a file is read. */
static espl_status skeleton_write_root(const h5_file *f, const skeleton_root *root) {
    const char *updates = root->has_updates ? espl_dtype_name(root->update_dtype) : "none";
    ESPL_TRY(espl_h5_put_text(f, f->id, "description", "espalier checkpoint: a pruned model as masks over its source"));
    ESPL_TRY(espl_h5_put_text(f, f->id, "espalier", ESPL_VERSION));
    ESPL_TRY(skeleton_put_integer(f, f->id, "schema", ESPL_CHECKPOINT_SCHEMA));
    ESPL_TRY(skeleton_put_integer(f, f->id, "iteration", root->iteration));
    ESPL_TRY(skeleton_put_integer(f, f->id, "revision", root->revision));
    ESPL_TRY(skeleton_put_integer(f, f->id, "layers", root->layers));
    ESPL_TRY(espl_h5_put_text(f, f->id, "updates", updates));
    return skeleton_put_integer(f, f->id, "complete", 0);
}

static espl_status skeleton_write_tables(const h5_file *f, checkpoint_records *r) {
    record_table tables[RECORD_TABLES];
    ESPL_TRY(espl_records_tables(r, tables));
    espl_status st = ESPL_OK;
    for (int i = 0; st == ESPL_OK && i < RECORD_TABLES; i++) {
        const record_table *t = &tables[i];
        dataset_spec s = skeleton_table_spec(t);
        st = espl_dataset_write(f, &s, t->rank ? *t->rows : t->row, (int64_t)t->row_bytes * espl_dataset_count(&s));
    }
    espl_records_close_tables(tables);
    return st;
}

/* An HDF5 string has at least one byte: an empty text is stored as one NUL. */
static espl_status skeleton_write_text(const h5_file *f, const record_text *t) {
    if (t->s->len > TEXT_BYTES_MAX)
        return ESPL_FAIL(ESPL_INTERNAL, "%s: %s has %" PRId64 " bytes, at most %d allowed", f->path, t->path, t->s->len,
                         TEXT_BYTES_MAX);
    dataset_spec s = {.path = t->path, .type = espl_h5_text_type(t->s->len), .description = t->description};
    if (s.type < 0) return espl_h5_fail(ESPL_INTERNAL, f->path, t->path);
    bool empty = t->s->len == 0;
    espl_status st = espl_dataset_write(f, &s, empty ? "" : t->s->data, empty ? 1 : t->s->len);
    H5_CLOSE(T, s.type);
    return st;
}

/* Reserves the datasets of one kind of slab, and writes their checksums [linears], those of a kind to a
 * dataset. */
static espl_status skeleton_write_slabs(const h5_file *f, const espl_checkpoint_shape *shape, slab_kind kind,
                                        espl_dtype dtype, const uint64_t *checksums) {
    char group[64];
    uint64_t *column = NULL;
    espl_status st;
    snprintf(group, sizeof group, "/checksums%s", espl_slab_group(kind));
    ESPL_TRY(skeleton_make_group(f, espl_slab_group(kind),
                                 kind == SLAB_MASKS ? "the pruned model: bit masks, by kind of linear"
                                                    : "updated weights, by kind of linear"));
    ESPL_TRY(skeleton_make_group(f, group, "checksums, by kind of linear"));
    ESPL_TRY(espl_mem_alloc(&column, espl_layout_linears(espl_checkpoint_layout(shape)), sizeof *column, "checksums"));
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        hid_t dataset;
        espl_slab_describe(shape, kind, dtype, (espl_linear_kind)linear, &s);
        st = espl_dataset_create(f, &s.spec, &dataset);
        if (st == ESPL_OK) st = skeleton_put_integer(f, dataset, "in", s.in);
        H5_CLOSE(D, dataset);
        if (st != ESPL_OK) goto done;
        dataset_spec sums = {.path = s.checksums,
                             .type = H5T_STD_U64LE,
                             .rank = 1,
                             .dims = {(hsize_t)s.pieces},
                             .description = "XXH3 (64 bit, seed 0) of the bytes of each layer",
                             .axes = "[layers]"};
        if (s.pieces > shape->layers) {
            sums.description = "XXH3 (64 bit, seed 0) of the bytes of each expert of each layer";
            sums.axes = "[layers * experts]";
        }
        for (int64_t i = 0; i < s.pieces; i++)
            column[i] = checksums[espl_slab_linear(shape, (espl_linear_kind)linear, i)];
        ESPL_CHECK(st, done, espl_dataset_write(f, &sums, column, s.pieces * (int64_t)sizeof *column));
    }
done:
    espl_mem_free(&column);
    return st;
}

espl_status espl_skeleton_write(const char *part, int image, const espl_checkpoint_shape *shape,
                                const skeleton_root *root, const espl_checkpoint_io *io, checkpoint_records *r,
                                uint64_t *const checksums[SLAB_KINDS]) {
    char name[32];
    record_text texts[RECORD_TEXTS];
    espl_status st, closed;
    snprintf(name, sizeof name, "/proc/self/fd/%d", image); /* HDF5 takes names only, and a memfd has no other */
    h5_file f = {.path = part, .opened = name, .io = io};
    espl_records_texts(r, texts);
    ESPL_TRY(espl_h5_open(&f, H5_CREATE, NULL));
    ESPL_CHECK(st, close, skeleton_write_root(&f, root));
    ESPL_CHECK(st, close, skeleton_make_group(&f, "/checksums", "checksums of masks and updates"));
    ESPL_CHECK(st, close,
               skeleton_make_group(&f, "/probes", "measures of the unpruned model and of the state these masks are"));
    ESPL_CHECK(st, close, skeleton_write_tables(&f, r));
    for (int i = 0; i < RECORD_TEXTS; i++) ESPL_CHECK(st, close, skeleton_write_text(&f, &texts[i]));
    ESPL_CHECK(st, close, skeleton_write_slabs(&f, shape, SLAB_MASKS, ESPL_DTYPE_U8, checksums[SLAB_MASKS]));
    if (root->has_updates)
        st = skeleton_write_slabs(&f, shape, SLAB_UPDATES, root->update_dtype, checksums[SLAB_UPDATES]);
close:
    closed = espl_h5_close(&f);
    return st != ESPL_OK ? st : closed;
}

espl_status espl_skeleton_seal(const char *part) {
    int64_t yes = 1;
    h5_file f = {.path = part};
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_h5_open(&f, H5_UPDATE, NULL));
    hid_t complete = H5Aopen(f.id, "complete", H5P_DEFAULT);
    if (complete < 0 || H5Awrite(complete, H5T_STD_I64LE, &yes) < 0)
        st = espl_h5_fail(ESPL_IO, part, "cannot be written");
    H5_CLOSE(A, complete);
    espl_status closed = espl_h5_close(&f);
    return st != ESPL_OK ? st : closed;
}

/* -------------------------------------------------------------- reading */

/* An integer of the root, within a range that keeps later arithmetic from overflowing. */
static espl_status skeleton_get_integer(const h5_file *f, const char *key, int64_t lo, int64_t hi, int64_t *out) {
    ESPL_TRY(espl_h5_get_number(f, f->id, "/", key, H5T_STD_I64LE, out));
    if (*out >= lo && *out <= hi) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: attribute \"%s\" is %" PRId64 ", expected %" PRId64 " to %" PRId64, f->path, key,
                     *out, lo, hi);
}

espl_status espl_skeleton_read_root(const h5_file *f, skeleton_root *out) {
    char updates[8]; /* fits the name of any dtype */
    int64_t schema = 0, complete = 0;
    *out = (skeleton_root){.update_dtype = ESPL_DTYPE_F32};
    ESPL_TRY(espl_h5_get_number(f, f->id, "/", "schema", H5T_STD_I64LE, &schema));
    if (schema != ESPL_CHECKPOINT_SCHEMA)
        return ESPL_FAIL(ESPL_CONFIG,
                         "%s was written by another version of espalier (schema %" PRId64
                         "; this one reads %d): continue with that version, or choose another run.dir",
                         f->path, schema, ESPL_CHECKPOINT_SCHEMA);
    ESPL_TRY(skeleton_get_integer(f, "iteration", 0, INT64_MAX / 2, &out->iteration));
    ESPL_TRY(skeleton_get_integer(f, "revision", 0, INT64_MAX / 2, &out->revision));
    ESPL_TRY(skeleton_get_integer(f, "layers", 1, INT32_MAX, &out->layers));
    ESPL_TRY(skeleton_get_integer(f, "complete", 0, 1, &complete));
    ESPL_TRY(espl_h5_get_text(f, f->id, "/", "updates", updates, sizeof updates));
    out->complete = complete != 0;
    out->has_updates = strcmp(updates, "none") != 0;
    if (!out->has_updates || (espl_dtype_parse(updates, &out->update_dtype) && espl_dtype_is_float(out->update_dtype)))
        return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: attribute \"updates\" is \"%s\", expected none, BF16, F16 or F32", f->path,
                     updates);
}

/* The number of rows is the file's: espl_dataset_read has compared it with the size of the file, and
 * espl_records_unpack compares it with the model. */
static espl_status skeleton_read_table(const h5_file *f, const record_table *t) {
    dataset_spec s = skeleton_table_spec(t);
    if (t->rank == 1) {
        s.dims[0] = DATASET_ANY_DIM;
        ESPL_TRY(espl_dataset_read(f, &s, (int64_t)t->row_bytes, t->rows));
        *t->n = espl_dataset_count(&s);
        return ESPL_OK;
    }
    void *row;
    ESPL_TRY(espl_dataset_read(f, &s, (int64_t)t->row_bytes, &row));
    memcpy(t->row, row, t->row_bytes);
    espl_mem_free(&row);
    return ESPL_OK;
}

/* The length of a text is the size of its dataset's type, so the type is read before the text. */
static espl_status skeleton_read_text(const h5_file *f, const record_text *t) {
    dataset_spec s = {.path = t->path, .type = H5T_C_S1};
    hid_t dataset;
    void *bytes;
    ESPL_TRY(espl_dataset_open(f, &s, &dataset)); /* any length: see dataset_check_type */
    hid_t type = H5Dget_type(dataset);
    int64_t n = type >= 0 ? (int64_t)H5Tget_size(type) : 0;
    H5_CLOSE(T, type);
    H5Dclose(dataset);
    if (n < 1 || n > TEXT_BYTES_MAX)
        return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\" is a string of %" PRId64 " bytes, expected at most %d",
                         f->path, t->path + 1, n, TEXT_BYTES_MAX);
    s.type = espl_h5_text_type(n);
    if (s.type < 0) return espl_h5_fail(ESPL_INTERNAL, f->path, t->path);
    espl_status st = espl_dataset_read(f, &s, n, &bytes);
    H5_CLOSE(T, s.type);
    ESPL_TRY(st);
    bool empty = n == 1 && ((char *)bytes)[0] == '\0'; /* see skeleton_write_text */
    espl_str_put(t->s, bytes, empty ? 0 : n);
    espl_mem_free(&bytes);
    return espl_str_status(t->s);
}

espl_status espl_skeleton_read(const h5_file *f, checkpoint_records *r) {
    record_table tables[RECORD_TABLES];
    record_text texts[RECORD_TEXTS];
    *r = (checkpoint_records){0};
    ESPL_TRY(espl_records_tables(r, tables));
    espl_status st = ESPL_OK;
    for (int i = 0; st == ESPL_OK && i < RECORD_TABLES; i++) st = skeleton_read_table(f, &tables[i]);
    espl_records_close_tables(tables);
    ESPL_TRY(st);
    espl_records_texts(r, texts);
    for (int i = 0; i < RECORD_TEXTS; i++) ESPL_TRY(skeleton_read_text(f, &texts[i]));
    return ESPL_OK;
}
