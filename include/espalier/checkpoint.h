/*
 * checkpoint: the only home of HDF5. What a pruned model is beyond its source - masks, profile, history, the agent's
 * memory - written collectively, verified, and read back on any number of ranks. docs/checkpoint-format.md describes
 * the file; it holds nothing that depends on the number of ranks or on time, so that equal runs write equal files.
 */
#ifndef ESPALIER_CHECKPOINT_H
#define ESPALIER_CHECKPOINT_H

#include "espalier/comm.h"
#include "espalier/loop/loop.h"
#include "espalier/loop/slices.h"
#include "espalier/tensor/dtype.h"

/* Local. Version of the HDF5 library in use, "1.10.8". Borrowed. */
const char *espl_checkpoint_library(void);

enum { ESPL_CHECKPOINT_SCHEMA = 2 };

/* The shape that the file and the model must agree on. Equal on every rank, but for `slice`. */
typedef struct espl_checkpoint_shape {
    int64_t layers;
    int64_t out[ESPL_LINEAR_KINDS], in[ESPL_LINEAR_KINDS];
    espl_range slice; /* this rank's layers: what it writes or reads */
} espl_checkpoint_shape;

/* A checkpoint's content. */
typedef struct espl_checkpoint {
    int64_t iteration; /* iterations done: the newest outcome's, 0 before the first */
    int64_t revision;  /* accepted changes of the masks so far */
    /* [slice linears], from espl_linear_index(slice.first, 0) on: each mask is [out, espl_mask_words(in)], bits beyond
     * `in` clear. Borrowed when writing; when reading, the caller's buffers are filled. */
    uint64_t *const *masks;
    /* [slice linears] or NULL: weights that replace the source's (an updating method), [out, in] of update_dtype. All
     * linears of a model have one or none has. */
    const void *const *updates;
    espl_dtype update_dtype;
    /* Rank 0 only from here on; ignored elsewhere when writing, empty there after reading. */
    espl_profile_row *rows; /* [layers * ESPL_LINEAR_KINDS] the profile behind the newest decision, or NULL */
    espl_outcome *history;  /* [n_history], oldest first */
    int64_t n_history;
    espl_probe dense, last; /* the unpruned model; the accepted state these masks are */
    /* JSON texts: the agent's memory; the effective configuration; what model and data are. */
    espl_str agent, config, identity;
} espl_checkpoint;

/* Collective. Writes dir/iteration-NNNNNN.h5 (creating dir): skeleton by rank 0 into ....h5.part, hyperslabs by all
 * ranks, checksums and tables verified from the file, fsync, rename, fsync of the directory. Nothing half-written ever
 * bears the final name; after a failure the part file is gone. ESPL_IO naming the file (a full disk included), on every
 * rank. */
espl_status espl_checkpoint_write(espl_comm *c, const char *dir, const espl_checkpoint_shape *shape,
                                  const espl_checkpoint *content);

/* Collective. Path of the newest complete checkpoint in dir of an iteration before *before (highest whose file opens,
 * is of this schema and complete); *path is empty if there is none, else *before becomes its iteration. Others are
 * passed over with a note in the log; if there are only such, ESPL_FORMAT. Checksums are left to espl_checkpoint_read.
 */
espl_status espl_checkpoint_newest(espl_comm *c, const char *dir, int64_t *before, espl_str *path);

/* Collective. The checkpoints of iterations beyond `after`, which a resuming run has passed over, are renamed to
 * ....h5.damaged: they are in nobody's way, and count for nothing. ESPL_IO. */
espl_status espl_checkpoint_set_aside(espl_comm *c, const char *dir, int64_t after);

/* Collective. Reads a checkpoint: hostile input. masks of *out must point to buffers for this rank's slice; the rest is
 * allocated: free with espl_checkpoint_free. Checksums are verified. `updates` are read by
 * espl_checkpoint_read_updates. ESPL_IO; ESPL_FORMAT naming file, dataset, what was found and what was expected;
 * ESPL_CONFIG: of another depth or width. */
espl_status espl_checkpoint_read(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                 espl_checkpoint *out);
/* Local. Frees what reading allocated (rows, history, texts), not the masks. */
void espl_checkpoint_free(espl_checkpoint *k);

/* Collective. Does the file hold updated weights, and of which dtype? */
espl_status espl_checkpoint_has_updates(espl_comm *c, const char *path, bool *has, espl_dtype *dtype);
/* Collective. Reads them into buffers [slice linears], each [out, in] of that dtype. */
espl_status espl_checkpoint_read_updates(espl_comm *c, const char *path, const espl_checkpoint_shape *shape,
                                         void *const *updates);

/* Collective. Deletes all but the newest `keep` checkpoints that can be resumed, and all part files. ESPL_IO. */
espl_status espl_checkpoint_retain(espl_comm *c, const char *dir, int64_t keep);

/* Local. Bytes of the file, within a few KiB plus the texts: for --dry-run. */
int64_t espl_checkpoint_bytes(const espl_checkpoint_shape *shape);

#endif
