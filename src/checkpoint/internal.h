/* Private to the checkpoint room. */
#ifndef ESPALIER_CHECKPOINT_INTERNAL_H
#define ESPALIER_CHECKPOINT_INTERNAL_H

#include "espalier/checkpoint.h"
#include "espalier/tensor/mask.h"

#include <hdf5.h>

/* A file that HDF5 holds open. */
typedef struct h5file {
    hid_t id;           /* < 0: closed */
    const char *path;   /* for messages; borrowed */
    const char *opened; /* what is opened, NULL: path */
    int64_t bytes;      /* size of the file, when read */
} h5file;

/* ------------------------------------------------------------- hdf5.c: the library as this room uses it */

/* Records a failure "PATH: WHAT: REASON", the reason taken from HDF5's error stack. */
espl_status espl_h5_fail(espl_status code, const char *path, const char *what);

typedef enum h5mode { H5_CREATE, H5_READ, H5_CHANGE, H5_SHARE } h5mode;
/* Opens f->path. H5_SHARE is Collective: all ranks write one file through MPI-IO; the other modes are Local. ESPL_IO
 * naming the file, or, where it can be read but is no HDF5 file, ESPL_FORMAT. */
espl_status espl_h5_open(h5file *f, h5mode mode, const espl_comm *c);
/* Closes, if open. A disk may say only here that it is full. */
espl_status espl_h5_close(h5file *f);

/* Attributes of an object that is open. `name` of the object serves messages. */
espl_status espl_h5_put_text(const h5file *f, hid_t object, const char *key, const char *text);
espl_status espl_h5_put_number(const h5file *f, hid_t object, const char *key, hid_t type, const void *value);
espl_status espl_h5_get_text(const h5file *f, hid_t object, const char *name, const char *key, char *buf, size_t size);
espl_status espl_h5_get_number(const h5file *f, hid_t object, const char *name, const char *key, hid_t type,
                               void *value);

enum { H5_MAX_RANK = 3 };
/* A dataset: what is written, or what must be found. All are contiguous. */
typedef struct h5spec {
    const char *path; /* "/masks/self_attn.q_proj" */
    hid_t type;       /* of a file's elements */
    int rank;         /* 0: one element */
    hsize_t dims[H5_MAX_RANK];
    const char *description, *axes, *units; /* attributes; written, not read */
} h5spec;

/* UTF-8 of this many bytes (at least 1). < 0: failed. H5Tclose. */
hid_t espl_h5_text_type(int64_t bytes);
/* Creates the dataset with its space reserved and its describing attributes; groups on the way must be there. *out is
 * open: H5Dclose. */
espl_status espl_h5_create(const h5file *f, const h5spec *s, hid_t *out);
/* Opens a dataset and holds it against *s: a dimension of ANY_DIM may be anything and is filled in. Type, rank,
 * dimensions, layout, storage inside the file. ESPL_FORMAT naming file, dataset, what was found and expected. */
#define ANY_DIM ((hsize_t)-1)
espl_status espl_h5_require(const h5file *f, h5spec *s, hid_t *out);
/* The same for a dataset of elements of `element` bytes, which is read into *out (owned by the caller) and held against
 * the checksum that it bears. */
espl_status espl_h5_read_checked(const h5file *f, h5spec *s, int64_t element, void **out);
/* Does the path lead to a dataset (or group), by hard links alone? */
bool espl_h5_exists(const h5file *f, const char *path);
/* Elements of a dataset of these dimensions. */
int64_t espl_h5_count(const h5spec *s);

/* ------------------------------------------------------------- records.c: tables of the file */

enum { NAME_BYTES = 64 };

/* X(field, kind): I integer, F float, N name. All members are 8 bytes or NAME_BYTES: no padding, equal in the file. */
#define PROFILE_FIELDS(X) X(layer, I) X(name, N) X(weights, I) X(pruned, I) X(s, F) X(g, F) X(z_s, F) X(z_g, F)
#define PROBE_COLUMNS(X, when)                                                                                         \
    X(when##perplexity, F)                                                                                             \
    X(when##nll, F)                                                                                                    \
    X(when##nll_stderr, F)                                                                                             \
    X(when##freebaseqa_right, I)                                                                                       \
    X(when##freebaseqa_total, I)                                                                                       \
    X(when##mmlu_right, I)                                                                                             \
    X(when##mmlu_total, I)
#define PROBE_FIELDS(X) PROBE_COLUMNS(X, )
/* n of m: the pattern that the linear became, 0 of 0: unstructured. */
#define ITEM_FIELDS(X) X(iteration, I) X(linear, I) X(step, F) X(n, I) X(m, I)
#define OUTCOME_FIELDS(X)                                                                                              \
    X(iteration, I)                                                                                                    \
    X(accepted, I)                                                                                                     \
    X(stop, I)                                                                                                         \
    X(items, I)                                                                                                        \
    X(sparsity_before, F)                                                                                              \
    X(sparsity_after, F)                                                                                               \
    PROBE_COLUMNS(X, before_)                                                                                          \
    PROBE_COLUMNS(X, after_)                                                                                           \
    X(reason_at, I)                                                                                                    \
    X(reason_bytes, I)                                                                                                 \
    X(reflection_at, I)                                                                                                \
    X(reflection_bytes, I)

#define MEMBER_I(field) int64_t field;
#define MEMBER_F(field) double field;
#define MEMBER_N(field) char field[NAME_BYTES];
#define MEMBER(field, kind) MEMBER_##kind(field)
typedef struct profile_record {
    PROFILE_FIELDS(MEMBER)
} profile_record;
typedef struct probe_record {
    PROBE_FIELDS(MEMBER)
} probe_record;
typedef struct item_record {
    ITEM_FIELDS(MEMBER)
} item_record;
typedef struct outcome_record {
    OUTCOME_FIELDS(MEMBER)
} outcome_record;

/* What rank 0 stores beside masks and updates, in the file's form. Everything is owned: espl_records_free. */
typedef struct records {
    profile_record *profile; /* [n_profile]: all linears, or 0 */
    outcome_record *history; /* [n_history] */
    item_record *items;      /* [n_items], in the order of history */
    int64_t n_profile, n_history, n_items;
    espl_str history_text; /* reasons and reflections, end to end */
    probe_record dense, last;
    espl_str agent, config, identity;
} records;

/* The tables and texts of the file, X(path, member of records, record type, rows, description, axes). */
typedef struct table_entry {
    const char *path, *description, *axes;
    hid_t type; /* owned by the list */
    int rank;
    void **rows; /* where a table of rank 1 has its rows, */
    int64_t *n;  /* and their number */
    void *row;   /* where one of rank 0 has its only row */
    size_t row_bytes;
} table_entry;
enum { TABLES = 5, TEXTS = 4 };
/* Binds the tables to r; close with espl_records_close_tables. */
espl_status espl_records_tables(records *r, table_entry tables[TABLES]);
void espl_records_close_tables(table_entry tables[TABLES]);
typedef struct text_entry {
    const char *path, *description;
    espl_str *s;
} text_entry;
void espl_records_texts(records *r, text_entry texts[TEXTS]);

/* Takes in what rank 0 has. */
espl_status espl_records_pack(const espl_checkpoint *k, const espl_checkpoint_shape *shape, records *r);
/* Checks every value as hostile input and hands the content out to *k (owned there). ESPL_FORMAT naming dataset, row,
 * what was found and what was expected. */
espl_status espl_records_unpack(const records *r, const espl_checkpoint_shape *shape, int64_t iteration,
                                const char *path, espl_checkpoint *k);
void espl_records_free(records *r);

/* ------------------------------------------------------------- slabs.c: masks and updates */

/* The two kinds of data that all ranks hold. */
typedef enum slab_kind { SLAB_MASKS, SLAB_UPDATES, SLAB_KINDS } slab_kind;
typedef struct slab {
    slab_kind kind;
    char path[64], checksums[64]; /* datasets */
    h5spec spec;
    int64_t bytes; /* of one linear */
    int64_t in;    /* input features */
} slab;
/* Describes dataset `kind` of the linears `linear`. */
void espl_slab_describe(const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype, espl_linear_kind linear,
                        slab *out);
/* The group that holds them: "/masks", "/updates". */
const char *espl_slab_group(slab_kind kind);

/* What one rank has of one kind: items[local linear], in the order of espl_linear_index. */
typedef struct slab_set {
    slab_kind kind;
    espl_dtype dtype;
    const void *const *items;
    uint64_t *checksums; /* [slice linears] */
} slab_set;

/* Local. Fills set->checksums from memory; ESPL_INTERNAL where an item is missing or a mask has bits beyond `in`. */
espl_status espl_slab_checksum(const espl_checkpoint_shape *shape, slab_set *set);
/* Collective. Writes this rank's hyperslabs into f (H5_SHARE). fd: this rank's own handle of the file, to have the disk
 * begin early. */
espl_status espl_slab_write(espl_comm *c, const h5file *f, int fd, const espl_checkpoint_shape *shape,
                            const slab_set *set);
/* Local. Compares the file's bytes with set->checksums. */
espl_status espl_slab_verify(const h5file *f, const espl_checkpoint_shape *shape, const slab_set *set);
/* Local. Reads this rank's hyperslabs into `items`, checks the stored checksums and, of masks, the bits beyond `in`. */
espl_status espl_slab_read(const h5file *f, const espl_checkpoint_shape *shape, slab_kind kind, espl_dtype dtype,
                           void *const *items);

/* ------------------------------------------------------------- skeleton.c, read.c: the whole file */

/* What the root's attributes say. */
typedef struct root {
    int64_t iteration, revision, layers;
    bool has_updates, complete;
    espl_dtype update_dtype;
} root;

/* Local, on rank 0. Writes everything but masks and updates into the file `image`, which stays open; their space is
 * holes. `part` is named in messages. checksums[kind] [layers * ESPL_LINEAR_KINDS]; that of updates is NULL without
 * them. */
espl_status espl_skeleton_write(const char *part, int image, const espl_checkpoint_shape *shape, const root *top,
                                records *r, uint64_t *const checksums[SLAB_KINDS]);
/* Local. Marks the verified file as complete. */
espl_status espl_skeleton_seal(const char *part);
/* Local. Reads and checks the root's attributes. */
espl_status espl_skeleton_read_root(const h5file *f, root *out);
/* Local. Reads all tables and texts, their checksums verified. */
espl_status espl_skeleton_read(const h5file *f, records *r);

/* ------------------------------------------------------------- directory.c */

/* "dir/iteration-000012.h5" and the same with ".part" into *path, *part (both owned by the caller). */
espl_status espl_checkpoint_paths(const char *dir, int64_t iteration, espl_str *path, espl_str *part);

#endif
