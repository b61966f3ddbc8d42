/* SPDX-License-Identifier: Apache-2.0 */
/*
 * weights: Hugging Face safetensors directories. Reading: headers are parsed and checked as hostile input; the data
 * stays memory-mapped and is not touched until used. Writing: one file, laid out up front and filled by many processes
 * at disjoint offsets. All functions are Local.
 *
 * Format: https://github.com/huggingface/safetensors (u64 little-endian header size, JSON header, data).
 */
#ifndef ESPALIER_WEIGHTS_H
#define ESPALIER_WEIGHTS_H

#include "espalier/tensor/dtype.h"

#define ESPL_WEIGHTS_MAX_DIMS 8

/* A tensor in a mapped file. Everything is borrowed from the espl_weights it came from. */
typedef struct espl_tensor_info {
    const char *name;
    const char *file; /* path of the shard, for messages */
    int64_t shard;    /* number of the shard, from 0 */
    espl_dtype dtype;
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
    int64_t count;    /* number of elements */
    int64_t bytes;    /* count * dtype size */
    int64_t offset;   /* of the data from the start of the file */
    const void *data; /* in the mapping; aligned only as the file aligns it */
} espl_tensor_info;

typedef struct espl_weights espl_weights;

/* Opens dir/model.safetensors, or dir/model.safetensors.index.json with its shards if there is no model.safetensors.
 * Checks the header of every shard: size, JSON, dtype, shape and its overflow, offsets inside the file, no gap and no
 * overlap, no name twice; index and shards must name the same tensors.
 * ESPL_IO: missing or unreadable file. ESPL_FORMAT: anything malformed; the message names file and tensor.
 * ESPL_UNSUPPORTED: a dtype of the format that espl_dtype lacks, or more than ESPL_WEIGHTS_MAX_DIMS dimensions.
 * The files must not shrink while they are open: reading a page that is gone raises SIGBUS.
 * Owned by the caller: espl_weights_close. On failure *out is NULL. */
espl_status espl_weights_open(const char *dir, espl_weights **out);
/* The same for a single safetensors file. */
espl_status espl_weights_open_file(const char *path, espl_weights **out);
/* The same for the bytes of one safetensors file in memory. `bytes` is borrowed until *out is closed; `name` stands for
 * the file in messages. */
espl_status espl_weights_open_memory(const void *bytes, int64_t len, const char *name, espl_weights **out);
/* NULL-safe; sets *w to NULL. */
void espl_weights_close(espl_weights **w);

int64_t espl_weights_count(const espl_weights *w);
/* The i-th tensor in name order (bytewise). */
const espl_tensor_info *espl_weights_at(const espl_weights *w, int64_t i);
/* NULL if no tensor has this name. */
const espl_tensor_info *espl_weights_find(const espl_weights *w, const char *name);
/* The tensor of that name with exactly these dims and a float dtype (F32, F16, BF16). Otherwise ESPL_FORMAT naming
 * file, tensor, what was found and what was expected, and *out is NULL. */
espl_status espl_weights_require(const espl_weights *w, const char *name, int n_dims, const int64_t *dims,
                                 const espl_tensor_info **out);
/* Data bytes of all tensors. */
int64_t espl_weights_bytes(const espl_weights *w);
/* Number of files that hold the tensors. */
int64_t espl_weights_shards(const espl_weights *w);
/* Path of one of them: "DIR/model-00001-of-00003.safetensors". Borrowed. */
const char *espl_weights_shard_path(const espl_weights *w, int64_t shard);

/* ---------------------------------------------------------------- writing
 *
 * One file, filled by many processes. Each process creates the same writer; then, with barriers of the caller between
 * the steps:
 *   one process:     _start   creates PATH.part at its full size, with its header
 *   any process:     _put     writes byte ranges; ranges of different processes must be disjoint
 *   processes that put: _flush
 *   one process:     _finish  renames PATH.part to PATH
 * PATH is untouched until the rename. Errors are ESPL_IO and name the file; a full disk is reported by _start where the
 * file system can reserve space. A writer is not for two threads at once. */

/* A tensor to be written. */
typedef struct espl_tensor_spec {
    const char *name;
    espl_dtype dtype;
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
} espl_tensor_spec;

typedef struct espl_weights_writer espl_weights_writer;

/* A writer for n new tensors, laid out as the `safetensors` library does: dtypes of larger alignment first, then by
 * name; header padded to 8 bytes, with __metadata__ {"format": "pt"}. The layout depends on the set of specs only, not
 * on their order. Writes nothing yet. Specs are copied. ESPL_INTERNAL: a name that is empty, reserved, not clean UTF-8
 * or given twice, or a size that overflows. Owned by the caller: espl_weights_writer_destroy. On failure *out is NULL.
 * Nothing in the program makes models from nothing; the tools of tests/ that do need this. */
espl_status espl_weights_writer_create(const char *path, const espl_tensor_spec *specs, int64_t n,
                                       espl_weights_writer **out);
/* A writer for a file laid out as shard number `shard` of `like`: the same header to the byte, so the same order,
 * metadata and padding. Tensor i is espl_weights_at(like, i); a tensor of another shard has no bytes here. */
espl_status espl_weights_writer_create_like(const char *path, const espl_weights *like, int64_t shard,
                                            espl_weights_writer **out);
espl_status espl_weights_writer_start(espl_weights_writer *w);
/* Writes data[0..bytes) at byte `at` of tensor i (specs[i]). ESPL_INTERNAL: beyond the end of the tensor. */
espl_status espl_weights_writer_put(espl_weights_writer *w, int64_t i, int64_t at, const void *data, int64_t bytes);
/* Forces what this process wrote onto the disk and closes its handle. */
espl_status espl_weights_writer_flush(espl_weights_writer *w);
/* Also flushes. */
espl_status espl_weights_writer_finish(espl_weights_writer *w);
/* Bytes of tensor i. */
int64_t espl_weights_writer_tensor_bytes(const espl_weights_writer *w, int64_t i);
/* NULL-safe. In the process that started the file, removes PATH.part unless finished. */
void espl_weights_writer_destroy(espl_weights_writer **w);

#endif
