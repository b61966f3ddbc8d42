/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading Hugging Face safetensors directories. Headers are parsed and checked as hostile input; the data stays
 * memory-mapped and is not touched until used. All functions are Local.
 *
 * Format: https://github.com/huggingface/safetensors (u64 little-endian header size, JSON header, data).
 */
#ifndef ESPALIER_WEIGHTS_READER_H
#define ESPALIER_WEIGHTS_READER_H

#include "espalier/base/file.h"
#include "espalier/base/status.h"
#include "espalier/tensor/dtype.h"

#include <stdint.h>

#define ESPL_WEIGHTS_MAX_DIMS 8

/* A tensor in a mapped file. Everything is borrowed from the espl_weights it came from. */
typedef struct espl_tensor_info {
    const char *name; /* in the file, or as espl_weights_add_prefix made it */
    const char *file; /* path of the shard, for messages */
    int64_t shard;    /* number of the shard, from 0 */
    espl_dtype dtype;
    const char *foreign; /* "F64": a dtype of the format that espl_dtype lacks, and `dtype` means nothing; else NULL */
    int n_dims;
    int64_t dims[ESPL_WEIGHTS_MAX_DIMS];
    int64_t count;    /* number of elements */
    int64_t bytes;    /* of all elements */
    int64_t offset;   /* of the data from the start of the file */
    const void *data; /* in the mapping; aligned only as the file aligns it */
} espl_tensor_info;

typedef struct espl_weights espl_weights;

/* Opens dir/model.safetensors, or dir/model.safetensors.index.json with its shards if there is no model.safetensors.
 * Checks the header of every shard: size, JSON, dtype, shape and its overflow, offsets inside the file, no gap and no
 * overlap, no name twice; index and shards must name the same tensors.
 * ESPL_IO: missing or unreadable file. ESPL_FORMAT: anything malformed; the message names file and tensor.
 * ESPL_UNSUPPORTED: more than ESPL_WEIGHTS_MAX_DIMS dimensions.
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
/* Puts `prefix` before the names of all tensors but `except`. Names of files and what a writer makes of them stay as
 * they are. ESPL_NOMEM: close w. */
espl_status espl_weights_add_prefix(espl_weights *w, const char *prefix, const char *except);
/* The tensor of that name with exactly these dims and a float dtype (F32, F16, BF16). Otherwise ESPL_FORMAT, or
 * ESPL_UNSUPPORTED for a dtype that espl_dtype lacks, naming file, tensor, what was found and what was expected, and
 * *out is NULL. */
espl_status espl_weights_require(const espl_weights *w, const char *name, int n_dims, const int64_t *dims,
                                 const espl_tensor_info **out);
/* Data bytes of all tensors. */
int64_t espl_weights_bytes(const espl_weights *w);
/* Number of files that hold the tensors. */
int64_t espl_weights_shards(const espl_weights *w);
/* Path of one of them: "DIR/model-00001-of-00003.safetensors". Borrowed. */
const char *espl_weights_shard_path(const espl_weights *w, int64_t shard);
/* The state of that file when it was opened. Borrowed. */
const espl_file_state *espl_weights_shard_state(const espl_weights *w, int64_t shard);
/* Is every file still as it was when it was opened? ESPL_IO naming one that is not: what was computed with it since may
 * be of another model. */
espl_status espl_weights_check_unchanged(const espl_weights *w);

#endif
