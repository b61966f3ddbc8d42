/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datasets. All are contiguous: the place of every byte in the file is then known, so that ranks write their parts
 * independently, a written file can be verified through a mapping, and a size that a damaged or hostile file claims is
 * compared with the size of the file before memory is allocated for it.
 */
#include "dataset.h"

#include <inttypes.h>
#include <string.h>

static const char DATASET_CHECKSUM[] = "xxh3_64"; /* attribute: hash of a small dataset's bytes */

int64_t espl_dataset_count(const dataset_spec *s) {
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++)
        if (!espl_mul_i64(n, (int64_t)s->dims[d], &n)) return -1;
    return n;
}

espl_status espl_dataset_create(const h5_file *f, const dataset_spec *s, hid_t *out) {
    *out = -1;
    /* All space is reserved at once and not filled: masks and updates are written later, by other ranks. */
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = s->rank > 0 ? H5Screate_simple(s->rank, s->dims, NULL) : H5Screate(H5S_SCALAR);
    if (dcpl >= 0 && space >= 0 && H5Pset_obj_track_times(dcpl, 0) >= 0 && H5Pset_layout(dcpl, H5D_CONTIGUOUS) >= 0 &&
        H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0)
        *out = H5Dcreate2(f->id, s->path, s->type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    H5_CLOSE(S, space);
    H5_CLOSE(P, dcpl);
    if (*out < 0) return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    ESPL_TRY(espl_h5_put_text(f, *out, "description", s->description));
    if (s->axes) ESPL_TRY(espl_h5_put_text(f, *out, "dims", s->axes));
    if (s->units) ESPL_TRY(espl_h5_put_text(f, *out, "units", s->units));
    return ESPL_OK;
}

/* ------------------------------------------------------ checks of a dataset */

/* s->path + 1: users know paths without the leading '/'. */
static espl_status dataset_mismatch(const h5_file *f, const dataset_spec *s, const char *found, const char *expected) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\" is %s, expected %s", f->path, s->path + 1, found, expected);
}

/* Whether the path exists and every link on it is a hard one: soft and external links could lead into another file. */
static bool dataset_is_hard_linked(const h5_file *f, const char *path) {
    char prefix[256];
    H5L_info_t info;
    for (const char *p = strchr(path + 1, '/');; p = p ? strchr(p + 1, '/') : NULL) {
        snprintf(prefix, sizeof prefix, "%.*s", p ? (int)(p - path) : (int)strlen(path), path);
        bool hard = H5Lexists(f->id, prefix, H5P_DEFAULT) > 0 && H5Lget_info(f->id, prefix, &info, H5P_DEFAULT) >= 0 &&
                    info.type == H5L_TYPE_HARD;
        espl_h5_forget();
        if (!hard) return false;
        if (!p) return true;
    }
}

static const char *dataset_describe_type(hid_t type, char *buf, size_t size) {
    static const char *const classes[] = {"integer", "float",     "time", "string",       "bit field", "opaque",
                                          "table",   "reference", "enum", "ragged array", "array"};
    int class = (int)H5Tget_class(type);
    bool known = class >= 0 && class < (int)(sizeof classes / sizeof *classes);
    snprintf(buf, size, "%s of %zu bytes", known ? classes[class] : "something", H5Tget_size(type));
    return buf;
}

/* A fixed string may have any size, because the caller reads the size from the file; all other types must be equal. */
static espl_status dataset_check_type(const h5_file *f, const dataset_spec *s, hid_t type) {
    char found[64], expected[64];
    bool string = H5Tget_class(s->type) == H5T_STRING;
    if (string ? H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 : H5Tequal(type, s->type) > 0)
        return ESPL_OK;
    dataset_describe_type(type, found, sizeof found);
    if (string) return dataset_mismatch(f, s, found, "a string of fixed length");
    dataset_describe_type(s->type, expected, sizeof expected);
    if (strcmp(found, expected) == 0) return dataset_mismatch(f, s, found, "other members or byte order");
    return dataset_mismatch(f, s, found, expected);
}

static const char *dataset_describe_dims(int rank, const hsize_t *dims, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "of dimensions [");
    for (int d = 0; d < rank && at < size; d++) {
        const char *comma = d ? ", " : "";
        if (dims[d] == DATASET_ANY_DIM)
            at += (size_t)snprintf(buf + at, size - at, "%s*", comma);
        else
            at += (size_t)snprintf(buf + at, size - at, "%s%" PRIu64, comma, (uint64_t)dims[d]);
    }
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

/* Fills in the dimensions that may be anything. Fewer or more dimensions than expected never pass, so s->dims holds. */
static espl_status dataset_check_dims(const h5_file *f, dataset_spec *s, hid_t space) {
    char found[256], expected[256];
    hsize_t dims[H5S_MAX_RANK] = {0};
    int rank = H5Sget_simple_extent_type(space) == H5S_NULL ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank > 0) H5Sget_simple_extent_dims(space, dims, NULL);
    bool ok = rank == s->rank;
    for (int d = 0; ok && d < rank; d++) ok = s->dims[d] == DATASET_ANY_DIM || s->dims[d] == dims[d];
    if (!ok)
        return dataset_mismatch(f, s, rank < 0 ? "empty" : dataset_describe_dims(rank, dims, found, sizeof found),
                                dataset_describe_dims(s->rank, s->dims, expected, sizeof expected));
    memcpy(s->dims, dims, (size_t)rank * sizeof *dims);
    return ESPL_OK;
}

/* The dataset lies in this file, in one piece, whole: no size is trusted that the file does not have. */
static espl_status dataset_check_storage(const h5_file *f, const dataset_spec *s, hid_t dataset, hid_t type) {
    hid_t dcpl = H5Dget_create_plist(dataset);
    bool contiguous = dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0;
    H5_CLOSE(P, dcpl);
    if (!contiguous) return dataset_mismatch(f, s, "stored otherwise", "one contiguous piece of this file");
    int64_t count = espl_dataset_count(s), bytes;
    if (count < 0 || !espl_mul_i64(count, (int64_t)H5Tget_size(type), &bytes) || bytes > f->bytes)
        return dataset_mismatch(f, s, "larger than the file", "to lie inside it");
    haddr_t at = bytes > 0 ? H5Dget_offset(dataset) : 0; /* an empty dataset has no storage */
    if (at == HADDR_UNDEF || (int64_t)at > f->bytes - bytes ||
        (bytes > 0 && (int64_t)H5Dget_storage_size(dataset) != bytes))
        return dataset_mismatch(f, s, "not stored, or beyond the end of the file", "to lie inside it");
    return ESPL_OK;
}

espl_status espl_dataset_open(const h5_file *f, dataset_spec *s, hid_t *out) {
    hid_t type = -1, space = -1;
    espl_status st;
    *out = -1;
    if (!dataset_is_hard_linked(f, s->path)) return dataset_mismatch(f, s, "missing", "to be there");
    hid_t object = H5Oopen(f->id, s->path, H5P_DEFAULT);
    if (object < 0) return espl_h5_fail(ESPL_FORMAT, f->path, s->path + 1);
    if (H5Iget_type(object) != H5I_DATASET) {
        st = dataset_mismatch(f, s, "a group or a named type", "a dataset");
        goto done;
    }
    type = H5Dget_type(object);
    space = H5Dget_space(object);
    if (type < 0 || space < 0) {
        st = espl_h5_fail(ESPL_FORMAT, f->path, s->path + 1);
        goto done;
    }
    ESPL_CHECK(st, done, dataset_check_type(f, s, type));
    ESPL_CHECK(st, done, dataset_check_dims(f, s, space));
    ESPL_CHECK(st, done, dataset_check_storage(f, s, object, type));
    *out = object;
    object = -1;
done:
    H5_CLOSE(S, space);
    H5_CLOSE(T, type);
    H5_CLOSE(O, object);
    espl_h5_forget();
    return st;
}

/* ------------------------------------------------------------ whole datasets */

espl_status espl_dataset_write(const h5_file *f, const dataset_spec *s, const void *data, int64_t bytes) {
    hid_t dataset;
    uint64_t checksum = espl_hash64(data, bytes, 0); /* from memory: what was meant, not what reached the file */
    espl_status st;
    ESPL_CHECK(st, done, espl_dataset_create(f, s, &dataset));
    ESPL_CHECK(st, done, espl_h5_put_number(f, dataset, DATASET_CHECKSUM, H5T_STD_U64LE, &checksum));
    if (bytes > 0 && H5Dwrite(dataset, s->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        st = espl_h5_fail(ESPL_IO, f->path, "cannot be written");
done:
    H5_CLOSE(D, dataset);
    return st;
}

espl_status espl_dataset_read(const h5_file *f, dataset_spec *s, int64_t element, void **out) {
    hid_t dataset;
    uint64_t expected = 0, found;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_dataset_open(f, s, &dataset));
    int64_t n = espl_dataset_count(s); /* its storage lies in the file: this allocates no more than the file has */
    ESPL_CHECK(st, done, espl_mem_alloc(out, n, (size_t)element, s->path));
    ESPL_CHECK(st, done, espl_h5_get_number(f, dataset, s->path + 1, DATASET_CHECKSUM, H5T_STD_U64LE, &expected));
    if (n > 0 && H5Dread(dataset, s->type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *out) < 0) {
        st = espl_h5_fail(ESPL_IO, f->path, s->path + 1);
        goto done;
    }
    found = espl_hash64(*out, n * element, 0);
    if (found != expected)
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: dataset \"%s\" is damaged: its checksum is %016" PRIx64 ", expected %016" PRIx64, f->path,
                       s->path + 1, found, expected);
done:
    H5Dclose(dataset);
    if (st != ESPL_OK) espl_mem_free(out);
    return st;
}
