/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open model. Every rank opens the same directory and keeps its own slice of decoder layers; the first stage also
 * embeds, the last stage also holds the head. Replicas (espl_grid) hold the same. Weights stay in the mapped file, in
 * their source dtype; a linear may be given a mask, or other weights, for the passes that follow.
 */
#ifndef ESPALIER_MODEL_H
#define ESPALIER_MODEL_H

#include "espalier/comm.h"
#include "espalier/loop/slices.h"
#include "espalier/model/config.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/workspace.h"
#include "espalier/weights/reader.h"

typedef struct espl_model espl_model;

/* Called on each rank after each unit of a long pass: done of n. */
typedef void (*espl_model_progress)(void *context, int64_t done, int64_t n);

typedef struct espl_model_options {
    int64_t context;      /* positions of a sequence: the size of the KV cache */
    int64_t batch_tokens; /* maximum number of tokens in one micro-batch */
    int64_t slots;        /* sequences in the KV cache */
    int64_t logits_rows;  /* maximum number of rows of logits, or greedy ids, in one micro-batch; 0: only
                             log-probabilities */
} espl_model_options;

/* Bytes of one rank, as `inspect` prints them. The peak resident memory of an evaluation stays below their sum. */
typedef struct espl_model_memory {
    int64_t weights;     /* mapped, in their source dtype */
    int64_t activations; /* buffers of a micro-batch */
    int64_t kv_cache;
    int64_t workspace; /* scratch of the kernels */
    int64_t tables;    /* RoPE tables, norms and biases as f32 */
    int64_t libraries; /* allowance for code and buffers of MPI and OpenBLAS (docs/performance.md) */
} espl_model_memory;

/* Local. Estimate for the rank that holds `slice`, without opening the weights. bytes_per_weight: 2 or 4. */
espl_model_memory espl_model_memory_of(const espl_model_config *c, const espl_model_options *o, espl_range slice,
                                       int threads, int64_t bytes_per_weight);

/* Local. Checks the names and shapes of all tensors against the config, from headers only, and gives tensors without
 * the prefix "model." their names; adds notes to *c. Errors as espl_model_open. */
espl_status espl_model_check_weights(espl_model_config *c, espl_weights *w);

/* Collective. Opens dir on all ranks, and logs the notes of its config. Each rank checks the tensor names and shapes of
 * the whole model (headers only) and maps its own slice. Same status everywhere: the errors of espl_model_config_read
 * and espl_weights_open, ESPL_FORMAT for a missing, misshapen or unexpected tensor, ESPL_CONFIG for more stages than
 * layers, ESPL_NOMEM. Owned by the caller. comm is borrowed for the model's life. */
espl_status espl_model_open(espl_comm *comm, const char *dir, const espl_model_options *o, espl_model **out);
/* Local. Opens a stand-in of the model of dir/config.json on this rank alone: its first `layers` decoder layers with
 * drawn weights of `dtype`, narrowed to ESPL_STAND_IN_HIDDEN features, ESPL_STAND_IN_FFN of the MLP and
 * ESPL_STAND_IN_VOCAB tokens where it is wider, and with twice as many experts as a token has. A FLOP of it takes about
 * as long as one of the model, and no weights are needed, so that a plan can be made where only the config is. `alone`:
 * of espl_comm_create_alone. Errors as espl_model_open. */
enum { ESPL_STAND_IN_HIDDEN = 1024, ESPL_STAND_IN_FFN = 3072, ESPL_STAND_IN_VOCAB = 8192 };
espl_status espl_model_open_stand_in(espl_comm *alone, const char *dir, int64_t layers, espl_dtype dtype,
                                     const espl_model_options *o, espl_model **out);
/* Local. NULL-safe. */
void espl_model_close(espl_model **m);

/* Local. The model's config, and the options it was opened with. Borrowed. */
const espl_model_config *espl_model_config_of(const espl_model *m);
const espl_model_options *espl_model_options_of(const espl_model *m);
/* Local. The source's tensors, those of the whole model. Borrowed. */
const espl_weights *espl_model_weights(const espl_model *m);
/* Local. This rank's layers and memory. */
espl_range espl_model_slice(const espl_model *m);
espl_model_memory espl_model_memory_used(const espl_model *m);
/* Local. The scratch of the model's kernels, for other kernels between its passes. Borrowed. */
espl_workspace *espl_model_workspace(const espl_model *m);

/* Local. This rank's linears: indices first .. last - 1 of espl_linear_index. */
espl_range espl_model_linears(const espl_model *m);
/* Local. A linear of the whole model (espl_linear_index) with its weights and mask, or NULL if another rank has it.
 * Borrowed, valid until the model is closed. */
const espl_linear *espl_model_linear(const espl_model *m, int64_t index);
/* Local. Masks the linear in the passes that follow; NULL: dense. The mask is borrowed and must outlive its use; its
 * bits may be changed in place between passes. ESPL_INTERNAL: the linear is not this rank's. */
espl_status espl_model_set_mask(espl_model *m, int64_t index, const uint64_t *mask);
/* Local. Gives the linear other weights [out, in], of the dtype of its source; NULL: the source's. Borrowed, as a mask
 * is. ESPL_INTERNAL: the linear is not this rank's. */
espl_status espl_model_set_weight(espl_model *m, int64_t index, const void *weight);

/* Local. Is the tensor of this name part of this rank's slice? Layers go with the slice, the embedding with the first
 * rank, and norm, head and whatever else the source has with the last: every tensor is one rank's. */
bool espl_model_owns_tensor(const espl_model *m, const char *name);
/* Collective. The hashes of all tensors of the source, in the order of espl_weights_at, into hashes
 * [espl_weights_count] on rank 0 (NULL elsewhere). Each rank reads the tensors that it owns. ESPL_NOMEM. */
espl_status espl_model_hash_tensors(espl_comm *c, const espl_model *m, uint64_t *hashes);

#endif
