/*
 * weights: Hugging Face safetensors directories. Reading: headers are parsed and checked as hostile input, data stays
 * memory-mapped and untouched until used. Writing: one file laid out up front, filled by many ranks at disjoint
 * offsets. All functions are Local.
 *
 * Format: https://github.com/huggingface/safetensors (u64 little-endian header size, JSON header, data).
 */
#ifndef ESPALIER_WEIGHTS_H
#define ESPALIER_WEIGHTS_H

#include "espalier/tensor.h"

#define ESPL_WEIGHTS_MAX_DIMS 8

/* A tensor in a mapped file. Everything is borrowed from the espl_weights it came from. */
typedef struct espl_tensor_info {
    const char *name;
    const char *file; /* shard's path, for messages */
    int64_t shard;    /* its number */
    espl_dtype dtype;
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
    int64_t count;    /* number of elements */
    int64_t bytes;    /* count * dtype size */
    int64_t offset;   /* of the data from the start of the file */
    const void *data; /* in the mapping; alignment is not guaranteed beyond what the file has */
} espl_tensor_info;

typedef struct espl_weights espl_weights;

/* Opens dir/model.safetensors, or dir/model.safetensors.index.json with its shards; with both, the index wins only if
 * model.safetensors is absent. Every shard's header is checked: size, JSON, dtype, dims, count overflow, offsets inside
 * the file, no gap, no overlap, duplicate names over shards, index and shards name the same tensors.
 * ESPL_IO: missing or unreadable file. ESPL_FORMAT: anything malformed, naming file and tensor. ESPL_UNSUPPORTED: a
 * dtype of the format that espl_dtype lacks, or more than ESPL_WEIGHTS_MAX_DIMS dimensions.
 * The files must not shrink while they are open: a mapped page that is gone is a SIGBUS. Owned by the caller. */
espl_status espl_weights_open(const char *dir, espl_weights **out);
/* The same for a single safetensors file. */
espl_status espl_weights_open_file(const char *path, espl_weights **out);
/* The same for the bytes of one safetensors file in memory. `bytes` is borrowed and must outlive *out; `name` stands
 * for the file in messages. */
espl_status espl_weights_open_memory(const void *bytes, int64_t len, const char *name, espl_weights **out);
void espl_weights_close(espl_weights **w);

int64_t espl_weights_count(const espl_weights *w);
/* i-th tensor in name order (bytewise). */
const espl_tensor_info *espl_weights_at(const espl_weights *w, int64_t i);
/* NULL if there is none of that name. */
const espl_tensor_info *espl_weights_find(const espl_weights *w, const char *name);
/* The tensor of that name with exactly these dims and a float dtype (F32, F16, BF16); ESPL_FORMAT naming file, tensor,
 * what was found and what was expected otherwise. */
espl_status espl_weights_require(const espl_weights *w, const char *name, int n_dims, const int64_t *dims,
                                 const espl_tensor_info **out);
/* Total data bytes of the tensors, for reports. */
int64_t espl_weights_bytes(const espl_weights *w);
/* Files that hold the tensors, and the path of one of them: "DIR/model-00001-of-00003.safetensors". Borrowed. */
int64_t espl_weights_shards(const espl_weights *w);
const char *espl_weights_shard_path(const espl_weights *w, int64_t shard);

/* ---------------------------------------------------------------- writing
 *
 * One file, filled by many processes. Each creates the same plan; then, with the caller's barriers in between:
 *   one process: _start   (creates PATH.part at its full size, with its header)
 *   any process: _put     (writes byte ranges; the ranges of different processes are disjoint)
 *   any process that put: _flush
 *   one process: _finish  (renames PATH.part to PATH)
 * Until the rename PATH is untouched. All errors name the file; ENOSPC is seen at _start where the file system can
 * reserve space. */

/* A tensor to be written. */
typedef struct espl_tensor_spec {
    const char *name;
    espl_dtype dtype;
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
} espl_tensor_spec;

typedef struct espl_weights_writer espl_weights_writer;

/* Lays out n tensors as the `safetensors` library does: dtypes of larger alignment first, then by name; header padded
 * to 8 bytes, with __metadata__ {"format": "pt"}. The result depends on the specs only, not on their order. Nothing is
 * written. Specs are copied. ESPL_INTERNAL: a name twice, empty, reserved or not clean UTF-8, or a size overflow.
 * Owned by the caller. */
espl_status espl_weights_writer_create(const char *path, const espl_tensor_spec *specs, int64_t n,
                                       espl_weights_writer **out);
/* Lays out `path` as that shard of `like` is laid out: the same header to the byte, so the same order, metadata and
 * padding. specs[i] is espl_weights_at(like, i); a tensor of another shard has no bytes here. */
espl_status espl_weights_writer_create_like(const char *path, const espl_weights *like, int64_t shard,
                                            espl_weights_writer **out);
espl_status espl_weights_writer_start(espl_weights_writer *w);
/* Writes data[0..bytes) at byte `at` of the tensor specs[i]; beyond its end is ESPL_INTERNAL. Not for two threads with
 * one writer. */
espl_status espl_weights_writer_put(espl_weights_writer *w, int64_t i, int64_t at, const void *data, int64_t bytes);
/* Forces what this process wrote onto the disk and closes its handle. */
espl_status espl_weights_writer_flush(espl_weights_writer *w);
espl_status espl_weights_writer_finish(espl_weights_writer *w);
/* Bytes of the whole file, header included. */
int64_t espl_weights_writer_bytes(const espl_weights_writer *w);
/* Bytes of tensor specs[i]. */
int64_t espl_weights_writer_tensor_bytes(const espl_weights_writer *w, int64_t i);
/* In the process that started it, removes PATH.part unless finished. */
void espl_weights_writer_destroy(espl_weights_writer **w);

#endif
