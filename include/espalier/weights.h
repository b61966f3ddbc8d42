/*
 * weights: Hugging Face safetensors directories. Reading: headers are parsed and checked as hostile input, data stays
 * memory-mapped and untouched until used. Writing: one file laid out up front, filled by many ranks at disjoint offsets.
 * All functions are Local.
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
 * ESPL_IO: missing or unreadable file. ESPL_FORMAT: anything malformed, naming file and tensor.
 * Owned by the caller. */
espl_status espl_weights_open(const char *dir, espl_weights **out);
/* The same for a single safetensors file. */
espl_status espl_weights_open_file(const char *path, espl_weights **out);
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

#endif
