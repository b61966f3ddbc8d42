/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HDF5: errors, files, attributes.
 *
 * Equal runs must write equal bytes, so no object records times. Errors: HDF5's error stack is emptied by the next
 * call, even by one that only closes an object; therefore the reason of the first failed call is copied at once, by the
 * hook with which HDF5 would otherwise print its stack.
 */
#include "h5.h"

#include "espalier/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Superblock 2 and version-2 object headers: all metadata
 * carries checksums of its own, and h5py 2 reads it. */
static const H5F_libver_t VERSION_LOW = H5F_LIBVER_V18, VERSION_HIGH = H5F_LIBVER_V18;

const char *espl_checkpoint_library(void) {
    static char text[32];
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    snprintf(text, sizeof text, "%u.%u.%u", major, minor, release);
    return text;
}

/* --------------------------------------------------------------- errors */

static char h5_reason[256]; /* of the first call that failed since the last report; "": none */

/* Callback of H5Ewalk2. The innermost record says what happened; of a failed system call only the system's message is
 * of use to a reader. */
static herr_t h5_take_innermost(unsigned n, const H5E_error2_t *e, void *unused) {
    (void)unused;
    if (n != 0 || !e->desc) return 0;
    static const char mark[] = "error message = '";
    const char *system = strstr(e->desc, mark), *end;
    if (system && (end = strchr(system + sizeof mark - 1, '\'')) != NULL)
        snprintf(h5_reason, sizeof h5_reason, "%.*s", (int)(end - system - (int)sizeof mark + 1),
                 system + sizeof mark - 1);
    else
        snprintf(h5_reason, sizeof h5_reason, "HDF5: %s", e->desc);
    return 0;
}

/* Callback of H5Eset_auto2: called where HDF5 would print its error stack. */
static herr_t h5_keep_reason(hid_t stack, void *unused) {
    if (!h5_reason[0]) H5Ewalk2(stack, H5E_WALK_UPWARD, h5_take_innermost, unused);
    return 0;
}

void espl_h5_forget(void) { h5_reason[0] = '\0'; }

espl_status espl_h5_fail(espl_status code, const char *path, const char *what) {
    /* We ask for no locks; only this variable makes HDF5 take them. */
    const char *locks = getenv("HDF5_USE_FILE_LOCKING");
    bool hint = locks && strstr(h5_reason, "lock");
    espl_status st = ESPL_FAIL(code, "%s: %s: %s%s%s%s", path, what, h5_reason[0] ? h5_reason : "HDF5 gives no reason",
                               hint ? " (HDF5_USE_FILE_LOCKING is " : "", hint ? locks : "", hint ? ")" : "");
    espl_h5_forget();
    return st;
}

/* ---------------------------------------------------------------- files */

/* Accesses the file through MPI-IO, with the hints of f->io. */
static espl_status h5_set_mpio(hid_t fapl, MPI_Comm ranks, const h5_file *f) {
    const char *hints = f->io && f->io->hints ? f->io->hints : "";
    MPI_Info info = MPI_INFO_NULL;
    if (*hints) ESPL_TRY(espl_comm_hints_create(hints, &info));
    bool ok = fapl >= 0 && H5Pset_fapl_mpio(fapl, ranks, info) >= 0; /* copies both */
    if (*hints) espl_comm_hints_free(&info);
    return ok ? ESPL_OK : espl_h5_fail(ESPL_INTERNAL, f->path, "cannot be accessed through MPI-IO");
}

/* By the driver alone: HDF5 then has nothing to write when the file is closed, and nothing to lose on a full disk. */
espl_status espl_h5_make(const h5_file *f) {
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5FD_t *file = NULL;
    espl_status st = h5_set_mpio(fapl, MPI_COMM_SELF, f);
    if (st == ESPL_OK) {
        file = H5FDopen(f->path, H5F_ACC_RDWR | H5F_ACC_CREAT | H5F_ACC_TRUNC, fapl, HADDR_UNDEF);
        if (!file || H5FDclose(file) < 0) st = espl_h5_fail(ESPL_IO, f->path, "cannot be created");
    }
    H5_CLOSE(P, fapl);
    return st;
}

espl_status espl_h5_open(h5_file *f, h5_mode mode, const espl_comm *c) {
    espl_status st = ESPL_OK;
    hid_t fcpl = -1;
    f->id = -1;
    H5Eset_auto2(H5E_DEFAULT, h5_keep_reason, NULL);
    espl_h5_forget();
    if (mode == H5_READ || mode == H5_UPDATE) { /* plain messages for plain failures, before HDF5 sees the file */
        struct stat sb;
        if (stat(f->path, &sb) != 0 || access(f->path, mode == H5_READ ? R_OK : R_OK | W_OK) != 0)
            return ESPL_FAIL(ESPL_IO, "%s: cannot be opened: %s", f->path, strerror(errno));
        if (!S_ISREG(sb.st_mode)) return ESPL_FAIL(ESPL_IO, "%s: is not a regular file", f->path);
        f->bytes = sb.st_size;
    }
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    bool ok = fapl >= 0 && H5Pset_libver_bounds(fapl, VERSION_LOW, VERSION_HIGH) >= 0 &&
              H5Pset_file_locking(fapl, 0, 1) >= 0; /* cluster file systems often have no locks */
    if (ok && mode == H5_CREATE) {
        fcpl = H5Pcreate(H5P_FILE_CREATE);
        ok = H5Pset_fapl_stdio(fapl) >= 0 && /* the default driver refuses files in memory */
             fcpl >= 0 && H5Pset_obj_track_times(fcpl, 0) >= 0;
        hsize_t alignment = f->io ? (hsize_t)f->io->alignment : 0;
        if (ok && alignment > 0) ok = H5Pset_alignment(fapl, alignment, alignment) >= 0;
    }
    if (ok && mode == H5_SHARED) {
        MPI_Comm ranks;
        espl_comm_mpi(c, &ranks);
        st = h5_set_mpio(fapl, ranks, f);
        ok = st == ESPL_OK && H5Pset_all_coll_metadata_ops(fapl, 1) >= 0 && H5Pset_coll_metadata_write(fapl, 1) >= 0;
    }
    if (ok && mode == H5_CREATE)
        f->id = H5Fcreate(f->opened ? f->opened : f->path, H5F_ACC_TRUNC, fcpl, fapl);
    else if (ok)
        f->id = H5Fopen(f->path, mode == H5_READ ? H5F_ACC_RDONLY : H5F_ACC_RDWR, fapl);
    if (st == ESPL_OK && f->id < 0)
        st = mode == H5_READ ? espl_h5_fail(ESPL_FORMAT, f->path, "is not a checkpoint, or is damaged")
                             : espl_h5_fail(ESPL_IO, f->path, "cannot be opened");
    H5_CLOSE(P, fcpl);
    H5_CLOSE(P, fapl);
    return st;
}

espl_status espl_h5_close(h5_file *f) {
    if (f->id < 0) return ESPL_OK;
    herr_t closed = H5Fclose(f->id);
    f->id = -1;
    return closed < 0 ? espl_h5_fail(ESPL_IO, f->path, "cannot be closed") : ESPL_OK;
}

/* ----------------------------------------------------------- attributes */

hid_t espl_h5_text_type(int64_t bytes) {
    hid_t type = H5Tcopy(H5T_C_S1);
    bool ok = type >= 0 && H5Tset_size(type, bytes > 0 ? (size_t)bytes : 1) >= 0 &&
              H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    if (ok) return type;
    H5_CLOSE(T, type);
    return -1;
}

/* Serves texts too: a fixed string is a scalar of a string type. */
espl_status espl_h5_put_number(const h5_file *f, hid_t object, const char *key, hid_t type, const void *value) {
    hid_t space = H5Screate(H5S_SCALAR), attribute = -1;
    if (space >= 0) attribute = H5Acreate2(object, key, type, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) ok = H5Aclose(attribute) >= 0 && ok;
    H5_CLOSE(S, space);
    return ok ? ESPL_OK : espl_h5_fail(ESPL_IO, f->path, "cannot be written");
}

espl_status espl_h5_put_text(const h5_file *f, hid_t object, const char *key, const char *text) {
    hid_t type = espl_h5_text_type((int64_t)strlen(text));
    espl_status st = type >= 0 ? espl_h5_put_number(f, object, key, type, text)
                               : espl_h5_fail(ESPL_IO, f->path, "cannot be written");
    H5_CLOSE(T, type);
    return st;
}

/* The attribute must have exactly the expected type: HDF5 would silently convert others, and clip what overflows.
 */
static hid_t h5_open_attribute(hid_t object, const char *key) {
    return H5Aexists(object, key) > 0 ? H5Aopen(object, key, H5P_DEFAULT) : -1;
}

espl_status espl_h5_get_number(const h5_file *f, hid_t object, const char *name, const char *key, hid_t expected,
                               void *value) {
    hid_t attribute = h5_open_attribute(object, key), type = -1, space = -1;
    if (attribute >= 0) type = H5Aget_type(attribute);
    if (attribute >= 0) space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tequal(type, expected) > 0 &&
              H5Sget_simple_extent_type(space) == H5S_SCALAR && H5Aread(attribute, expected, value) >= 0;
    H5_CLOSE(S, space);
    H5_CLOSE(T, type);
    H5_CLOSE(A, attribute);
    espl_h5_forget();
    if (ok) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: %s: attribute \"%s\" is %s, expected one 64-bit integer", f->path, name, key,
                     attribute < 0 ? "missing" : "something else");
}

espl_status espl_h5_get_text(const h5_file *f, hid_t object, const char *name, const char *key, char *buf,
                             size_t size) {
    hid_t attribute = h5_open_attribute(object, key), type = -1, space = -1;
    if (attribute >= 0) type = H5Aget_type(attribute);
    if (attribute >= 0) space = H5Aget_space(attribute);
    bool ok = type >= 0 && space >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
              H5Tget_size(type) < size && H5Sget_simple_extent_type(space) == H5S_SCALAR;
    memset(buf, 0, size); /* the attribute has no NUL of its own */
    ok = ok && H5Aread(attribute, type, buf) >= 0;
    H5_CLOSE(S, space);
    H5_CLOSE(T, type);
    H5_CLOSE(A, attribute);
    espl_h5_forget();
    if (ok) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: %s: attribute \"%s\" is %s, expected a string of less than %zu bytes", f->path,
                     name, key, attribute < 0 ? "missing" : "something else", size);
}
