/* Everything of the file but masks and updates: groups, attributes, tables, texts, checksums. One process writes it. */
#include "internal.h"

#include <inttypes.h>
#include <string.h>

static const char CHECKSUM[] = "xxh3_64"; /* attribute: hash of a small dataset's bytes */
enum { MAX_TEXT = 1 << 30 };              /* bytes of one text: far beyond any run's */

/* ---------------------------------------------------------------- pieces */

static espl_status put_integer(const h5file *f, hid_t object, const char *key, int64_t value) {
    return espl_h5_put_number(f, object, key, H5T_STD_I64LE, &value);
}

/* A small dataset with its content and checksum. */
static espl_status write_small(const h5file *f, const h5spec *s, const void *data, int64_t bytes) {
    hid_t dataset;
    espl_status st = espl_h5_create(f, s, &dataset);
    uint64_t sum = espl_hash64(data, bytes, 0);
    if (st == ESPL_OK) st = espl_h5_put_number(f, dataset, CHECKSUM, H5T_STD_U64LE, &sum);
    if (st == ESPL_OK && bytes > 0 && H5Dwrite(dataset, s->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        st = espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    if (dataset >= 0) H5Dclose(dataset);
    return st;
}

espl_status espl_h5_read_checked(const h5file *f, h5spec *s, int64_t element, void **out) {
    hid_t dataset;
    uint64_t expected = 0;
    *out = NULL;
    ESPL_TRY(espl_h5_require(f, s, &dataset));
    int64_t n = espl_h5_count(s); /* its storage lies in the file: no more memory than the file has bytes */
    espl_status st = espl_mem_alloc(out, n, (size_t)element, s->path);
    if (st == ESPL_OK) st = espl_h5_get_number(f, dataset, s->path + 1, CHECKSUM, H5T_STD_U64LE, &expected);
    if (st == ESPL_OK && n > 0 && H5Dread(dataset, s->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) < 0)
        st = espl_h5_fail(ESPL_IO, f->path, s->path + 1);
    H5Dclose(dataset);
    uint64_t found = st == ESPL_OK ? espl_hash64(*out, n * element, 0) : 0;
    if (st == ESPL_OK && found != expected)
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: dataset \"%s\" is damaged: its checksum is %016" PRIx64 ", expected %016" PRIx64, f->path,
                       s->path + 1, found, expected);
    if (st != ESPL_OK) espl_mem_free(out);
    return st;
}

static espl_status make_group(const h5file *f, const char *path, const char *description) {
    hid_t gcpl = H5Pcreate(H5P_GROUP_CREATE), group = -1;
    if (gcpl >= 0 && H5Pset_obj_track_times(gcpl, 0) >= 0)
        group = H5Gcreate2(f->id, path, H5P_DEFAULT, gcpl, H5P_DEFAULT);
    if (gcpl >= 0) H5Pclose(gcpl);
    if (group < 0) return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    espl_status st = espl_h5_put_text(f, group, "description", description);
    H5Gclose(group);
    return st;
}

/* ---------------------------------------------------------------- tables */

static h5spec table_spec(const table_entry *t) {
    h5spec s = {.path = t->path, .type = t->type, .rank = t->rank, .description = t->description, .axes = t->axes};
    if (t->rank == 1) s.dims[0] = (hsize_t)*t->n;
    return s;
}

static espl_status write_tables(const h5file *f, records *r) {
    table_entry tables[TABLES];
    espl_status st = espl_records_tables(r, tables);
    if (st != ESPL_OK) return st;
    for (int i = 0; st == ESPL_OK && i < TABLES; i++) {
        const table_entry *t = &tables[i];
        h5spec s = table_spec(t);
        st = write_small(f, &s, t->rank ? *t->rows : t->row, (int64_t)t->row_bytes * espl_h5_count(&s));
    }
    espl_records_close_tables(tables);
    return st;
}

static espl_status read_table(const h5file *f, const table_entry *t) {
    h5spec s = table_spec(t);
    void *row;
    s.dims[0] = ANY_DIM;
    if (t->rank == 1) {
        ESPL_TRY(espl_h5_read_checked(f, &s, (int64_t)t->row_bytes, t->rows));
        *t->n = espl_h5_count(&s);
        return ESPL_OK;
    }
    ESPL_TRY(espl_h5_read_checked(f, &s, (int64_t)t->row_bytes, &row));
    memcpy(t->row, row, t->row_bytes);
    espl_mem_free(&row);
    return ESPL_OK;
}

static espl_status read_tables(const h5file *f, records *r) {
    table_entry tables[TABLES];
    espl_status st = espl_records_tables(r, tables);
    if (st != ESPL_OK) return st;
    for (int i = 0; st == ESPL_OK && i < TABLES; i++) st = read_table(f, &tables[i]);
    espl_records_close_tables(tables);
    return st;
}

/* ----------------------------------------------------------------- texts */

static espl_status write_text(const h5file *f, const text_entry *t) {
    if (t->s->len > MAX_TEXT)
        return ESPL_FAIL(ESPL_INTERNAL, "%s: %s has %" PRId64 " bytes, at most %d allowed", f->path, t->path, t->s->len,
                         MAX_TEXT);
    h5spec s = {.path = t->path, .type = espl_h5_text_type(t->s->len), .description = t->description};
    if (s.type < 0) return espl_h5_fail(ESPL_INTERNAL, f->path, t->path);
    bool empty = t->s->len == 0;
    espl_status st = write_small(f, &s, empty ? "" : t->s->data, empty ? 1 : t->s->len);
    H5Tclose(s.type);
    return st;
}

/* Length of a text dataset: its type's size. */
static espl_status text_bytes(const h5file *f, const h5spec *s, int64_t *out) {
    h5spec any = *s;
    hid_t dataset;
    ESPL_TRY(espl_h5_require(f, &any, &dataset));
    hid_t type = H5Dget_type(dataset);
    *out = type >= 0 ? (int64_t)H5Tget_size(type) : 0;
    if (type >= 0) H5Tclose(type);
    H5Dclose(dataset);
    if (*out > 0 && *out <= MAX_TEXT) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\" is a string of %" PRId64 " bytes, expected at most %d", f->path,
                     s->path + 1, *out, MAX_TEXT);
}

static espl_status read_text(const h5file *f, const text_entry *t) {
    void *bytes = NULL;
    int64_t n = 0;
    h5spec s = {.path = t->path, .type = H5T_C_S1};
    ESPL_TRY(text_bytes(f, &s, &n));
    s.type = espl_h5_text_type(n);
    if (s.type < 0) return espl_h5_fail(ESPL_INTERNAL, f->path, t->path);
    espl_status st = espl_h5_read_checked(f, &s, n, &bytes);
    H5Tclose(s.type);
    ESPL_TRY(st);
    bool empty = n == 1 && ((char *)bytes)[0] == '\0';
    espl_str_put(t->s, bytes, empty ? 0 : n);
    espl_mem_free(&bytes);
    return espl_str_status(t->s);
}

/* ------------------------------------------------------ masks and updates */

/* Column `linear` of checksums [layers, ESPL_LINEAR_KINDS]. */
static espl_status write_checksums(const h5file *f, const slab *s, int64_t layers, const uint64_t *checksums,
                                   int linear) {
    h5spec spec = {.path = s->checksums,
                   .type = H5T_STD_U64LE,
                   .rank = 1,
                   .dims = {(hsize_t)layers},
                   .description = "XXH3 (64 bit, seed 0) of the bytes of each layer",
                   .axes = "[layers]"};
    uint64_t *column;
    ESPL_TRY(espl_mem_alloc(&column, layers, sizeof *column, "checksums"));
    for (int64_t i = 0; i < layers; i++) column[i] = checksums[i * ESPL_LINEAR_KINDS + linear];
    espl_status st = write_small(f, &spec, column, layers * 8);
    espl_mem_free(&column);
    return st;
}

static espl_status reserve_slab(const h5file *f, slab *s) {
    hid_t dataset;
    s->spec.path = s->path;
    espl_status st = espl_h5_create(f, &s->spec, &dataset);
    if (st == ESPL_OK) st = put_integer(f, dataset, "in", s->in);
    if (dataset >= 0) H5Dclose(dataset);
    return st;
}

static espl_status write_slabs(const h5file *f, const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype,
                               const uint64_t *checksums) {
    char group[64];
    snprintf(group, sizeof group, "/checksums%s", espl_slab_group(kind));
    ESPL_TRY(make_group(f, espl_slab_group(kind),
                        kind == SLAB_MASKS ? "the pruned model: bit masks, by kind of linear"
                                           : "updated weights, by kind of linear"));
    ESPL_TRY(make_group(f, group, "checksums, by kind of linear"));
    for (int linear = 0; linear < ESPL_LINEAR_KINDS; linear++) {
        slab s;
        espl_slab_describe(shape, kind, dtype, (espl_linear_kind)linear, &s);
        ESPL_TRY(reserve_slab(f, &s));
        ESPL_TRY(write_checksums(f, &s, shape->layers, checksums, linear));
    }
    return ESPL_OK;
}

/* ------------------------------------------------------------------ root */

static espl_status write_root(const h5file *f, const root *top) {
    ESPL_TRY(espl_h5_put_text(f, f->id, "description", "espalier checkpoint: a pruned model as masks over its source"));
    ESPL_TRY(espl_h5_put_text(f, f->id, "espalier", ESPL_VERSION));
    ESPL_TRY(put_integer(f, f->id, "schema", ESPL_CHECKPOINT_SCHEMA));
    ESPL_TRY(put_integer(f, f->id, "iteration", top->iteration));
    ESPL_TRY(put_integer(f, f->id, "revision", top->revision));
    ESPL_TRY(put_integer(f, f->id, "layers", top->layers));
    ESPL_TRY(espl_h5_put_text(f, f->id, "updates", top->has_updates ? espl_dtype_name(top->update_dtype) : "none"));
    return put_integer(f, f->id, "complete", 0);
}

static espl_status get_count(const h5file *f, const char *key, int64_t lo, int64_t hi, int64_t *out) {
    ESPL_TRY(espl_h5_get_number(f, f->id, "/", key, H5T_STD_I64LE, out));
    if (*out >= lo && *out <= hi) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: attribute \"%s\" is %" PRId64 ", expected %" PRId64 " to %" PRId64, f->path, key,
                     *out, lo, hi);
}

espl_status espl_skeleton_read_root(const h5file *f, root *out) {
    char updates[8];
    int64_t schema = 0, complete = 0;
    *out = (root){0};
    ESPL_TRY(espl_h5_get_number(f, f->id, "/", "schema", H5T_STD_I64LE, &schema));
    if (schema != ESPL_CHECKPOINT_SCHEMA)
        return ESPL_FAIL(ESPL_FORMAT, "%s: schema %" PRId64 ", this version of espalier reads schema %d", f->path,
                         schema, ESPL_CHECKPOINT_SCHEMA);
    ESPL_TRY(get_count(f, "iteration", 0, INT64_MAX / 2, &out->iteration));
    ESPL_TRY(get_count(f, "revision", 0, INT64_MAX / 2, &out->revision));
    ESPL_TRY(get_count(f, "layers", 1, INT32_MAX, &out->layers));
    ESPL_TRY(get_count(f, "complete", 0, 1, &complete));
    ESPL_TRY(espl_h5_get_text(f, f->id, "/", "updates", updates, sizeof updates));
    out->complete = complete != 0;
    out->has_updates = strcmp(updates, "none") != 0;
    if (!out->has_updates || (espl_dtype_parse(updates, &out->update_dtype) && espl_dtype_is_float(out->update_dtype)))
        return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: attribute \"updates\" is none of none, BF16, F16 and F32", f->path);
}

/* ----------------------------------------------------------------- whole */

static espl_status write_all(const h5file *f, const espl_checkpoint_shape *shape, const root *top, records *r,
                             uint64_t *const checksums[SLAB_KINDS]) {
    text_entry texts[TEXTS];
    espl_records_texts(r, texts);
    ESPL_TRY(write_root(f, top));
    ESPL_TRY(make_group(f, "/checksums", "checksums of masks and updates"));
    ESPL_TRY(make_group(f, "/probes", "measures of the unpruned model and of the state these masks are"));
    ESPL_TRY(write_tables(f, r));
    for (int i = 0; i < TEXTS; i++) ESPL_TRY(write_text(f, &texts[i]));
    ESPL_TRY(write_slabs(f, shape, SLAB_MASKS, ESPL_DTYPE_U8, checksums[SLAB_MASKS]));
    if (!top->has_updates) return ESPL_OK;
    return write_slabs(f, shape, SLAB_UPDATES, top->update_dtype, checksums[SLAB_UPDATES]);
}

espl_status espl_skeleton_write(const char *part, int image, const espl_checkpoint_shape *shape, const root *top,
                                records *r, uint64_t *const checksums[SLAB_KINDS]) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", image);
    h5file f = {.path = part, .opened = name};
    ESPL_TRY(espl_h5_open(&f, H5_CREATE, NULL));
    espl_status st = write_all(&f, shape, top, r, checksums), closed = espl_h5_close(&f);
    return st != ESPL_OK ? st : closed;
}

espl_status espl_skeleton_seal(const char *part) {
    int64_t yes = 1;
    h5file f = {.path = part};
    ESPL_TRY(espl_h5_open(&f, H5_CHANGE, NULL));
    hid_t complete = H5Aopen(f.id, "complete", H5P_DEFAULT);
    espl_status st = ESPL_OK;
    if (complete < 0 || H5Awrite(complete, H5T_STD_I64LE, &yes) < 0)
        st = espl_h5_fail(ESPL_IO, part, "cannot be written");
    if (complete >= 0) H5Aclose(complete);
    espl_status closed = espl_h5_close(&f);
    return st != ESPL_OK ? st : closed;
}

espl_status espl_skeleton_read(const h5file *f, records *r) {
    text_entry texts[TEXTS];
    *r = (records){0};
    espl_records_texts(r, texts);
    ESPL_TRY(read_tables(f, r));
    for (int i = 0; i < TEXTS; i++) ESPL_TRY(read_text(f, &texts[i]));
    return ESPL_OK;
}
