/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing one safetensors file, laid out up front and filled by many processes at disjoint offsets. All functions are
 * Local. Each process creates the same writer; then, with barriers of the caller between the steps:
 *
 *   one process          _start    creates PATH.part at its full size, with its header
 *   any process          _put      writes byte ranges; ranges of different processes must be disjoint
 *   processes that put   _flush
 *   one process          _finish   renames PATH.part to PATH
 *
 * PATH is untouched until the rename. Errors are ESPL_IO and name the file; a full disk is reported by _start where the
 * file system can reserve space. A writer is not for two threads at once.
 */
#ifndef ESPALIER_WEIGHTS_WRITER_H
#define ESPALIER_WEIGHTS_WRITER_H

#include "espalier/weights/reader.h"

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
