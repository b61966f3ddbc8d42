/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint: the only home of HDF5. What a pruned model is beyond its source: masks, updated weights, profile,
 * history, the agent's memory. Written by all ranks, verified, and read on any number of ranks.
 * docs/checkpoint-format.md describes the file. Nothing in it depends on the number of ranks, on time, or on the way in
 * which it was written: equal runs write equal files.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/comm.h"
#include "espalier/loop/loop.h"
#include "espalier/loop/slices.h"
#include "espalier/tensor/dtype.h"

/* Local. Version of the HDF5 library in use, "1.10.8". Static storage. */
const char *espl_checkpoint_library(void);

/* Version of the file format; other versions are refused. */
enum { ESPL_CHECKPOINT_SCHEMA = 5 };

/* The shape on which file and model must agree. Equal on every rank, except for `slice`. */
typedef struct espl_checkpoint_shape {
    int64_t layers, experts;                               /* experts of a layer; 0: a layer has one MLP */
    int64_t out[ESPL_LINEAR_KINDS], in[ESPL_LINEAR_KINDS]; /* features */
    espl_range slice;                                      /* this rank's layers: what it writes or reads */
} espl_checkpoint_shape;

static inline espl_layout espl_checkpoint_layout(const espl_checkpoint_shape *s) {
    return (espl_layout){s->layers, s->experts};
}

/* The content of a checkpoint. */
typedef struct espl_checkpoint {
    int64_t iteration; /* iterations done: the newest outcome's, 0 before the first */
    int64_t revision;  /* accepted changes of the masks so far */
    /* [slice linears], from the first of layer slice.first on: each mask is [out, espl_mask_words(in)], bits beyond
     * `in` clear. Borrowed when writing; when reading, the caller's buffers are filled. */
    uint64_t *const *masks;
    /* [slice linears] or NULL: weights that replace the source's (of a method that updates), [out, in] of update_dtype.
     * Either all linears of a model have them or none. Borrowed when writing; not read by espl_checkpoint_read. */
    const void *const *updates;
    espl_dtype update_dtype; /* BF16, F16 or F32 */
    /* The rest is rank 0's: ignored on other ranks when writing, empty there after reading. */
    espl_profile_row *rows; /* [linears]: the profile behind the newest decision; or NULL */
    espl_outcome *history;  /* [n_history], oldest first */
    int64_t n_history;
    espl_quality dense, last; /* of the unpruned model; of the accepted state that the masks describe */
    /* JSON texts: the agent's memory, the effective configuration, what model and data are; what was measured at
     * milestones, a list. */
    espl_str agent, config, identity, milestones;
} espl_checkpoint;

/* How a checkpoint is written. The bytes of the file are the same for any of it but `alignment`. Equal on every rank.
 */
typedef struct espl_checkpoint_io {
    bool collective;   /* masks and updates by collective MPI-IO calls; else every rank writes its layers on its own */
    int64_t alignment; /* datasets of at least so many bytes begin at a multiple of it; 0: where they come to lie */
    const char *hints; /* for MPI-IO, see espl_comm_hints_create; NULL: none */
} espl_checkpoint_io;

/* Collective. Writes dir/iteration-NNNNNN.h5 and creates dir: rank 0 writes the skeleton into ....h5.part, all ranks
 * write their layers, the file is verified, flushed, renamed, and the directory flushed. A file with the final name is
 * always whole; after a failure the part file is removed. io may be NULL: independent writes, nothing aligned. ESPL_IO
 * naming the file and the reason (a full disk included) on every rank; ESPL_INTERNAL for invalid content. */
espl_status espl_checkpoint_write(espl_comm *c, const char *dir, const espl_checkpoint_shape *shape,
                                  const espl_checkpoint *content, const espl_checkpoint_io *io);

/* Collective. Finds the newest checkpoint in dir of an iteration less than *before that can be resumed: it opens, has
 * this schema and is complete; checksums are left to espl_checkpoint_read. Sets *before to its iteration and *path
 * (owned by the caller) to its name; *path stays empty if dir has no checkpoints. Unusable ones are skipped with a line
 * in the log. ESPL_FORMAT if there are only unusable ones; ESPL_CONFIG if the newest is of another schema. */
espl_status espl_checkpoint_newest(espl_comm *c, const char *dir, int64_t *before, espl_str *path);

/* Collective. Renames the checkpoints of iterations beyond `after`, which a resuming run has skipped, to
 * ....h5.damaged; no function of this room looks at them again. ESPL_IO. */
espl_status espl_checkpoint_set_aside(espl_comm *c, const char *dir, int64_t after);

/* Collective. Reads a checkpoint, which is hostile input, and verifies its checksums. out->masks must point to buffers
 * for this rank's slice; everything else in *out is overwritten and allocated: free with espl_checkpoint_free. Updated
 * weights are read by espl_checkpoint_read_updates. ESPL_IO; ESPL_FORMAT naming file, dataset, found and expected;
 * ESPL_CONFIG for a valid checkpoint of another depth or width. */
espl_status espl_checkpoint_read(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                 espl_checkpoint *out);
/* Collective. The shape of the model that a checkpoint is of, from its file alone; the slice is empty. With it, whoever
 * has no model reads a checkpoint. ESPL_IO, ESPL_FORMAT, ESPL_CONFIG as of espl_checkpoint_read. */
espl_status espl_checkpoint_read_shape(espl_comm *c, const char *path, espl_checkpoint_shape *out);
/* Local. Frees what reading allocated (rows, history, texts), not the masks. */
void espl_checkpoint_free(espl_checkpoint *k);

/* Collective. Whether the file holds updated weights, and their dtype. ESPL_IO, ESPL_FORMAT. */
espl_status espl_checkpoint_has_updates(espl_comm *c, const char *path, bool *has, espl_dtype *dtype);
/* Collective. Reads the updated weights into updates [slice linears], each [out, in] of that dtype. Errors as of
 * espl_checkpoint_read; ESPL_FORMAT if the file holds none. */
espl_status espl_checkpoint_read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                         void *const *updates);

/* Collective. Deletes all but the newest `keep` checkpoints that can be resumed, and all part files. ESPL_IO. */
espl_status espl_checkpoint_retain(espl_comm *c, const char *dir, int64_t keep);

/* Local. Bytes of a file without updates, within a few KiB plus the texts; at most, where datasets are aligned: for
 * --dry-run. */
int64_t espl_checkpoint_bytes(const espl_checkpoint_shape *shape, int64_t alignment);

#endif
