/* HDF5 as this room uses it: no text of its own on the terminal, every failure a message, every dataset contiguous. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Superblock 2 and version-2 object headers: all metadata carries checksums of its own, and h5py 2 reads it. */
static const H5F_libver_t VERSION_LOW = H5F_LIBVER_V18, VERSION_HIGH = H5F_LIBVER_V18;

/* --------------------------------------------------------------- errors */

static char reason[256]; /* of the first failed call since the last report; "": none */

/* The innermost record says what happened; of a failed system call only its error message is of use to a reader. */
static herr_t take_innermost(unsigned n, const H5E_error2_t *e, void *unused) {
    (void)unused;
    if (n != 0 || !e->desc) return 0;
    static const char mark[] = "error message = '";
    const char *system = strstr(e->desc, mark), *end;
    if (system && (end = strchr(system + sizeof mark - 1, '\'')) != NULL)
        snprintf(reason, sizeof reason, "%.*s", (int)(end - system - (int)sizeof mark + 1), system + sizeof mark - 1);
    else
        snprintf(reason, sizeof reason, "HDF5: %s", e->desc);
    return 0;
}

/* HDF5 calls this where it would print its error stack, which the next call, if only one that closes, empties. */
static herr_t remember(hid_t stack, void *unused) {
    if (!reason[0]) H5Ewalk2(stack, H5E_WALK_UPWARD, take_innermost, unused);
    return 0;
}

/* For calls that may fail: what they said is not what a later failure means. */
static void forget(void) { reason[0] = '\0'; }

espl_status espl_h5_fail(espl_status code, const char *path, const char *what) {
    espl_status st = ESPL_FAIL(code, "%s: %s: %s", path, what, reason[0] ? reason : "HDF5 gives no reason");
    forget();
    return st;
}

/* ---------------------------------------------------------------- files */

static hid_t access_list(h5mode mode, const espl_comm *c) {
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    bool ok = fapl >= 0 && H5Pset_libver_bounds(fapl, VERSION_LOW, VERSION_HIGH) >= 0 &&
              H5Pset_file_locking(fapl, 0, 1) >= 0;                 /* cluster file systems often have no locks */
    if (ok && mode == H5_CREATE) ok = H5Pset_fapl_stdio(fapl) >= 0; /* the default one refuses files in memory */
    if (ok && mode == H5_SHARE) {
        MPI_Comm world;
        espl_comm_mpi(c, &world);
        ok = H5Pset_fapl_mpio(fapl, world, MPI_INFO_NULL) >= 0 && H5Pset_all_coll_metadata_ops(fapl, 1) >= 0;
    }
    if (ok || fapl < 0) return fapl;
    H5Pclose(fapl);
    return -1;
}

/* No times anywhere: equal contents, equal bytes. */
static hid_t create_file(const char *path, hid_t fapl) {
    hid_t fcpl = H5Pcreate(H5P_FILE_CREATE), file = -1;
    if (fcpl >= 0 && H5Pset_obj_track_times(fcpl, 0) >= 0) file = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl);
    if (fcpl >= 0) H5Pclose(fcpl);
    return file;
}

/* Plain messages for plain troubles, before HDF5 sees the file. */
static espl_status look_at(h5file *f, h5mode mode) {
    struct stat sb;
    if (mode == H5_CREATE) return ESPL_OK;
    if (stat(f->path, &sb) != 0 || access(f->path, mode == H5_READ ? R_OK : R_OK | W_OK) != 0)
        return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", f->path, strerror(errno));
    if (!S_ISREG(sb.st_mode)) return ESPL_FAIL(ESPL_IO, "%s: is not a regular file", f->path);
    f->bytes = sb.st_size;
    return ESPL_OK;
}

static hid_t open_with(const h5file *f, h5mode mode, hid_t fapl) {
    if (mode == H5_CREATE) return create_file(f->opened ? f->opened : f->path, fapl);
    return H5Fopen(f->path, mode == H5_READ ? H5F_ACC_RDONLY : H5F_ACC_RDWR, fapl);
}

espl_status espl_h5_open(h5file *f, h5mode mode, const espl_comm *c) {
    f->id = -1;
    H5Eset_auto2(H5E_DEFAULT, remember, NULL);
    forget();
    if (mode != H5_SHARE) ESPL_TRY(look_at(f, mode)); /* else the caller looked, and all ranks agreed */
    hid_t fapl = access_list(mode, c);
    if (fapl >= 0) f->id = open_with(f, mode, fapl);
    espl_status st = ESPL_OK;
    if (f->id < 0 && mode == H5_READ)
        st = espl_h5_fail(ESPL_FORMAT, f->path, "is no checkpoint, or damaged");
    else if (f->id < 0)
        st = espl_h5_fail(ESPL_IO, f->path, "cannot be opened");
    if (fapl >= 0) H5Pclose(fapl);
    return st;
}

espl_status espl_h5_close(h5file *f) {
    if (f->id < 0) return ESPL_OK;
    herr_t closed = H5Fclose(f->id);
    f->id = -1;
    return closed < 0 ? espl_h5_fail(ESPL_IO, f->path, "cannot be closed") : ESPL_OK;
}

/* ----------------------------------------------------------- attributes */

static bool put(hid_t object, const char *key, hid_t type, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR), attribute = -1;
    if (space >= 0) attribute = H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) ok = H5Aclose(attribute) >= 0 && ok;
    if (space >= 0) H5Sclose(space);
    return ok;
}

/* UTF-8 of exactly `bytes` bytes (at least 1). */
hid_t espl_h5_text_type(int64_t bytes) {
    hid_t type = H5Tcopy(H5T_C_S1);
    bool ok = type >= 0 && H5Tset_size(type, bytes > 0 ? (size_t)bytes : 1) >= 0 &&
              H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    if (ok || type < 0) return type;
    H5Tclose(type);
    return -1;
}

espl_status espl_h5_put_text(const h5file *f, hid_t object, const char *key, const char *text) {
    hid_t type = espl_h5_text_type((int64_t)strlen(text));
    bool ok = type >= 0 && put(object, key, type, text);
    if (type >= 0) H5Tclose(type);
    return ok ? ESPL_OK : espl_h5_fail(ESPL_IO, f->path, "cannot be written");
}

espl_status espl_h5_put_number(const h5file *f, hid_t object, const char *key, hid_t type, const void *value) {
    return put(object, key, type, value) ? ESPL_OK : espl_h5_fail(ESPL_IO, f->path, "cannot be written");
}

/* The one number a scalar attribute of that very type holds. */
static bool get_number(hid_t attribute, hid_t expected, void *value) {
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tequal(type, expected) > 0 &&
              H5Sget_simple_extent_type(space) == H5S_SCALAR && H5Aread(attribute, expected, value) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return ok;
}

/* A fixed string shorter than size, into buf with a NUL. */
static bool get_text(hid_t attribute, char *buf, size_t size) {
    hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
              H5Tget_size(type) < size && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    memset(buf, 0, size);
    ok = ok && H5Aread(attribute, type, buf) >= 0;
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return ok;
}

static hid_t open_attribute(hid_t object, const char *key) {
    return H5Aexists(object, key) > 0 ? H5Aopen(object, key, H5P_DEFAULT) : -1;
}

espl_status espl_h5_get_number(const h5file *f, hid_t object, const char *name, const char *key, hid_t type,
                               void *value) {
    hid_t attribute = open_attribute(object, key);
    bool ok = attribute >= 0 && get_number(attribute, type, value);
    if (attribute >= 0) H5Aclose(attribute);
    forget();
    if (ok) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: %s: attribute \"%s\" is %s, expected one 64-bit integer", f->path, name, key,
                     attribute < 0 ? "missing" : "something else");
}

espl_status espl_h5_get_text(const h5file *f, hid_t object, const char *name, const char *key, char *buf, size_t size) {
    hid_t attribute = open_attribute(object, key);
    bool ok = attribute >= 0 && get_text(attribute, buf, size);
    if (attribute >= 0) H5Aclose(attribute);
    forget();
    if (ok) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: %s: attribute \"%s\" is %s, expected a string of less than %zu bytes", f->path,
                     name, key, attribute < 0 ? "missing" : "something else", size);
}

/* ------------------------------------------------------------- datasets */

int64_t espl_h5_count(const h5spec *s) {
    int64_t n = 1;
    for (int d = 0; d < s->rank; d++)
        if (!espl_mul_i64(n, (int64_t)s->dims[d], &n)) return -1;
    return n;
}

/* All space reserved at once, nothing filled in. */
static hid_t creation_list(void) {
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
    bool ok = dcpl >= 0 && H5Pset_obj_track_times(dcpl, 0) >= 0 && H5Pset_layout(dcpl, H5D_CONTIGUOUS) >= 0 &&
              H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0 && H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0;
    if (ok || dcpl < 0) return dcpl;
    H5Pclose(dcpl);
    return -1;
}

espl_status espl_h5_create(const h5file *f, const h5spec *s, hid_t *out) {
    hid_t dcpl = creation_list();
    hid_t space = s->rank > 0 ? H5Screate_simple(s->rank, s->dims, NULL) : H5Screate(H5S_SCALAR);
    *out = -1;
    if (dcpl >= 0 && space >= 0) *out = H5Dcreate2(f->id, s->path, s->type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    if (space >= 0) H5Sclose(space);
    if (dcpl >= 0) H5Pclose(dcpl);
    if (*out < 0) return espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    espl_status st = espl_h5_put_text(f, *out, "description", s->description);
    if (st == ESPL_OK && s->axes) st = espl_h5_put_text(f, *out, "dims", s->axes);
    if (st == ESPL_OK && s->units) st = espl_h5_put_text(f, *out, "units", s->units);
    return st;
}

/* Every link on the way is a hard one: soft and external links could lead to another file. */
bool espl_h5_exists(const h5file *f, const char *path) {
    char prefix[256];
    H5L_info_t info;
    for (const char *p = strchr(path + 1, '/');; p = p ? strchr(p + 1, '/') : NULL) {
        snprintf(prefix, sizeof prefix, "%.*s", p ? (int)(p - path) : (int)strlen(path), path);
        bool hard = H5Lexists(f->id, prefix, H5P_DEFAULT) > 0 && H5Lget_info(f->id, prefix, &info, H5P_DEFAULT) >= 0 &&
                    info.type == H5L_TYPE_HARD;
        forget();
        if (!hard) return false;
        if (!p) return true;
    }
}

static espl_status wrong(const h5file *f, const h5spec *s, const char *found, const char *expected) {
    return ESPL_FAIL(ESPL_FORMAT, "%s: dataset \"%s\" is %s, expected %s", f->path, s->path + 1, found, expected);
}

static const char *type_text(hid_t type, char *buf, size_t size) {
    static const char *const classes[] = {"integer", "float",     "time", "string",       "bit field", "opaque",
                                          "table",   "reference", "enum", "ragged array", "array"};
    int class = (int)H5Tget_class(type);
    bool known = class >= 0 && class < (int)(sizeof classes / sizeof *classes);
    snprintf(buf, size, "%s of %zu bytes", known ? classes[class] : "something", H5Tget_size(type));
    return buf;
}

/* A fixed string takes any size (the caller's limit comes with the file's size), all else must be equal. */
static espl_status require_type(const h5file *f, h5spec *s, hid_t type) {
    char found[64], expected[64];
    bool string = H5Tget_class(s->type) == H5T_STRING;
    bool ok = string ? H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 : H5Tequal(type, s->type) > 0;
    if (ok) return ESPL_OK;
    type_text(type, found, sizeof found);
    type_text(s->type, expected, sizeof expected);
    if (strcmp(found, expected) == 0) snprintf(expected, sizeof expected, "other members or byte order");
    return wrong(f, s, found, string ? "a string of fixed length" : expected);
}

static const char *dims_text(int rank, const hsize_t *dims, char *buf, size_t size) {
    size_t at = (size_t)snprintf(buf, size, "of dimensions [");
    for (int d = 0; d < rank && at < size; d++) {
        const char *comma = d ? ", " : "";
        at +=
            (size_t)(dims[d] == ANY_DIM ? snprintf(buf + at, size - at, "%s*", comma)
                                        : snprintf(buf + at, size - at, "%s%llu", comma, (unsigned long long)dims[d]));
    }
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

static espl_status require_dims(const h5file *f, h5spec *s, hid_t space) {
    char found[256], expected[256];
    hsize_t dims[H5S_MAX_RANK] = {0};
    int rank = H5Sget_simple_extent_type(space) == H5S_NULL ? -1 : H5Sget_simple_extent_ndims(space);
    if (rank > 0) H5Sget_simple_extent_dims(space, dims, NULL);
    bool ok = rank == s->rank;
    for (int d = 0; ok && d < rank; d++) ok = s->dims[d] == ANY_DIM || s->dims[d] == dims[d];
    if (!ok)
        return wrong(f, s, rank < 0 ? "empty" : dims_text(rank, dims, found, sizeof found),
                     dims_text(s->rank, s->dims, expected, sizeof expected));
    memcpy(s->dims, dims, (size_t)rank * sizeof *dims);
    return ESPL_OK;
}

/* The whole of it lies in this file, in one piece: so no size is taken on trust that the file does not have. */
static espl_status require_storage(const h5file *f, const h5spec *s, hid_t dataset, hid_t type) {
    hid_t dcpl = H5Dget_create_plist(dataset);
    bool plain = dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CONTIGUOUS && H5Pget_external_count(dcpl) == 0;
    if (dcpl >= 0) H5Pclose(dcpl);
    if (!plain) return wrong(f, s, "stored otherwise", "one contiguous piece of this file");
    int64_t count = espl_h5_count(s), bytes;
    if (count < 0 || !espl_mul_i64(count, (int64_t)H5Tget_size(type), &bytes) || bytes > f->bytes)
        return wrong(f, s, "larger than the file", "to lie inside it");
    haddr_t at = bytes > 0 ? H5Dget_offset(dataset) : 0;
    if (at == HADDR_UNDEF || (int64_t)at > f->bytes - bytes ||
        (bytes > 0 && (int64_t)H5Dget_storage_size(dataset) != bytes))
        return wrong(f, s, "not stored, or beyond the end of the file", "to lie inside it");
    return ESPL_OK;
}

static espl_status hold_against(const h5file *f, h5spec *s, hid_t dataset) {
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset);
    espl_status st = ESPL_OK;
    if (type < 0 || space < 0) st = espl_h5_fail(ESPL_FORMAT, f->path, s->path + 1);
    if (st == ESPL_OK) st = require_type(f, s, type);
    if (st == ESPL_OK) st = require_dims(f, s, space);
    if (st == ESPL_OK) st = require_storage(f, s, dataset, type);
    if (space >= 0) H5Sclose(space);
    if (type >= 0) H5Tclose(type);
    return st;
}

static espl_status open_object(const h5file *f, const h5spec *s, hid_t *out) {
    if (!espl_h5_exists(f, s->path)) return wrong(f, s, "missing", "to be there");
    *out = H5Oopen(f->id, s->path, H5P_DEFAULT);
    if (*out < 0) return espl_h5_fail(ESPL_FORMAT, f->path, s->path + 1);
    if (H5Iget_type(*out) == H5I_DATASET) return ESPL_OK;
    H5Oclose(*out);
    *out = -1;
    return wrong(f, s, "a group or a named type", "a dataset");
}

espl_status espl_h5_require(const h5file *f, h5spec *s, hid_t *out) {
    *out = -1;
    ESPL_TRY(open_object(f, s, out));
    espl_status st = hold_against(f, s, *out);
    forget();
    if (st == ESPL_OK) return ESPL_OK;
    H5Oclose(*out);
    *out = -1;
    return st;
}
