/*
 * model: config.json of the supported families, the cut into slices, the forward pass through the ranks, KV cache.
 *
 * Every rank opens the same directory and keeps its own slice of decoder layers; the first rank also embeds, the last
 * also holds the head. Micro-batches of tokens flow from rank to rank; a rank computes one while the next arrives.
 */
#ifndef ESPALIER_MODEL_H
#define ESPALIER_MODEL_H

#include "espalier/comm.h"
#include "espalier/loop/loop.h"
#include "espalier/loop/slices.h"
#include "espalier/tensor.h"
#include "espalier/weights.h"

/* -------------------------------------------------------------- config */

#define ESPL_FAMILY_LIST(X)                                                                                            \
    X(QWEN3, "qwen3", "Qwen3ForCausalLM")                                                                              \
    X(QWEN2, "qwen2", "Qwen2ForCausalLM")                                                                              \
    X(LLAMA, "llama", "LlamaForCausalLM")                                                                              \
    X(MISTRAL, "mistral", "MistralForCausalLM")

typedef enum espl_family {
#define X(name, type, architecture) ESPL_FAMILY_##name,
    ESPL_FAMILY_LIST(X)
#undef X
        ESPL_FAMILY_COUNT
} espl_family;

typedef enum espl_rope_type { ESPL_ROPE_DEFAULT, ESPL_ROPE_LINEAR, ESPL_ROPE_LLAMA3 } espl_rope_type;

enum { ESPL_MAX_EOS = 8 };

/* What config.json says, defaults filled in as Hugging Face does (tests/golden/README.md has the table). */
typedef struct espl_model_config {
    espl_family family;
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim, max_positions;
    double rms_eps;
    bool tied;                       /* tie_word_embeddings */
    bool qkv_bias, o_bias, mlp_bias; /* linears with a bias */
    bool qk_norm;                    /* RMSNorm of each query and key head, before RoPE */
    int64_t window;                  /* sliding window, 0: none */
    bool *slides;                    /* [layers]: the window applies to this layer; owned */
    espl_rope_type rope_type;
    double rope_theta, rope_factor, rope_low, rope_high;
    int64_t rope_original; /* original_max_position_embeddings of llama3 scaling */
    int64_t bos;           /* -1: none */
    int64_t eos[ESPL_MAX_EOS];
    int n_eos;
} espl_model_config;

/* Local. Reads dir/config.json (and eos/bos of dir/generation_config.json when it is there). ESPL_IO, ESPL_FORMAT;
 * ESPL_UNSUPPORTED naming the architecture or field. Free with espl_model_config_free. */
espl_status espl_model_config_read(const char *dir, espl_model_config *out);
/* Local. The same from the text of a config.json; `name` is used in messages. */
espl_status espl_model_config_parse(const char *json, int64_t len, const char *name, espl_model_config *out);
void espl_model_config_free(espl_model_config *c);
const char *espl_family_name(espl_family f); /* "qwen3" */

/* Local. Output and input features of a linear of this model. */
void espl_model_linear_shape(const espl_model_config *c, espl_linear_kind kind, int64_t *out, int64_t *in);
/* Local. Does this linear have a bias? */
bool espl_model_linear_bias(const espl_model_config *c, espl_linear_kind kind);
/* Local. Parameters of one decoder layer / of the embedding table / all (a tied head counted once). */
int64_t espl_model_layer_parameters(const espl_model_config *c);
int64_t espl_model_embedding_parameters(const espl_model_config *c);
int64_t espl_model_parameters(const espl_model_config *c);
/* Local. Weights of the linears of one decoder layer: what can be pruned. */
int64_t espl_model_layer_linear_weights(const espl_model_config *c);

/* Local. FLOPs per token (2 per multiply-add) of a decoder layer with `context` tokens in a window: linears, and causal
 * attention averaged over the window; and of the head. The cost model of the cut. */
double espl_model_layer_flops(const espl_model_config *c, int64_t layer, int64_t context);
double espl_model_head_flops(const espl_model_config *c);
/* Local. Which layers each of `ranks` ranks holds. slices [ranks]. ESPL_CONFIG: more ranks than layers. */
espl_status espl_model_partition(const espl_model_config *c, int64_t context, int ranks, espl_range *slices);

/* -------------------------------------------------------------- opening */

typedef struct espl_model_options {
    int64_t context;      /* positions a sequence may have: the size of the KV cache */
    int64_t batch_tokens; /* most tokens in one micro-batch */
    int64_t slots;        /* sequences in the KV cache */
    int64_t logits_rows;  /* most rows of logits, or greedy ids, in one micro-batch; 0: only log-probabilities */
} espl_model_options;

/* Bytes of one rank: what `inspect` prints. Peak resident memory of an evaluation stays below their sum. */
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

typedef struct espl_model espl_model;

/* Collective. Opens dir on all ranks. Each checks the tensor names and shapes of the whole model (headers only) and
 * maps its own slice. Same status everywhere. Owned by the caller. comm is borrowed for the model's life. */
espl_status espl_model_open(espl_comm *comm, const char *dir, const espl_model_options *o, espl_model **out);
/* Local. */
void espl_model_close(espl_model **m);
/* Local. Borrowed. */
const espl_model_config *espl_model_config_of(const espl_model *m);
/* Local. The source's tensors, all of the model's. Borrowed. */
const espl_weights *espl_model_weights(const espl_model *m);
/* Local. Most tokens in one micro-batch. */
int64_t espl_model_batch_tokens(const espl_model *m);
/* Local. This rank's slice and memory. */
espl_range espl_model_slice(const espl_model *m);
espl_model_memory espl_model_memory_used(const espl_model *m);

/* -------------------------------------------------------------- forward */

/* New tokens of one sequence. ids [n] are the same on every rank; results are written on the last rank only. */
typedef struct espl_segment {
    int64_t slot; /* its place in the KV cache, 0 .. slots - 1 */
    int64_t pos;  /* position of ids[0]: tokens 0 .. pos - 1 of this slot came in earlier micro-batches */
    int64_t n;
    const int32_t *ids;
    const int32_t *targets; /* [n] token to score at each position, -1: none; or NULL */
    double *logprob;        /* [n] natural log, written if targets */
    float *logits;          /* [vocab] of the last token, written if not NULL */
    /* Cache rows. Position prefix_n + i of the sequence lives in row `row` + i of its slot, so that several short
     * sequences can share a slot; positions 0 .. prefix_n - 1 are those in rows prefix_row .. of prefix_slot, which any
     * number of sequences may read. They came in earlier micro-batches or come in this one. All 0: the sequence has
     * the slot for itself. */
    int64_t row, prefix_slot, prefix_row, prefix_n;
    const int32_t *selected; /* [n_selected] ids whose logits after the last token are wanted, or NULL */
    int64_t n_selected;
    float *selected_logits; /* [n_selected], written if selected */
    int32_t *greedy; /* the most likely id after the last token, the lowest among equals, -1 if logits are NaN; written
                        if not NULL */
} espl_segment;

typedef struct espl_batch {
    const espl_segment *segments;
    int64_t n;
} espl_batch;

/* Called after each micro-batch on this rank: done of n. */
typedef void (*espl_model_progress)(void *context, int64_t done, int64_t n);

/* Collective. Runs n micro-batches, in order, through the pipeline. Results do not depend on the number of ranks or
 * threads. ESPL_USAGE: a segment outside the context, slots, batch or vocabulary. */
espl_status espl_model_run(espl_model *m, const espl_batch *batches, int64_t n, espl_model_progress progress,
                           void *context);

/* Micro-batches that are made as they are needed, for instance from the results of earlier ones. */
typedef struct espl_stream {
    /* Sets *batch to micro-batch i, or to no segments (n = 0) for a turn in which nothing is computed, or *end. Called
     * with i = 0, 1, ... on every rank, which must all decide alike; on ranks but the first, one turn ahead: next(i +
     * 1) comes before done(i). *batch is borrowed until done(i). */
    espl_status (*next)(void *context, int64_t i, espl_batch *batch, bool *end);
    /* This rank has computed micro-batch i; on the last rank its results are there. */
    espl_status (*done)(void *context, int64_t i);
    void *context;
} espl_stream;

/* Collective. Runs the stream through the pipeline, as espl_model_run does. */
espl_status espl_model_stream(espl_model *m, const espl_stream *stream);
/* Local. As the model was opened. Borrowed. */
const espl_model_options *espl_model_options_of(const espl_model *m);

/* Local. Observes the residual stream: called with layer -1 for the embeddings, layer i after decoder layer i of this
 * rank's slice, and `layers` for the final norm's output; x [T, hidden], borrowed. NULL ends it. */
typedef void (*espl_model_tap)(void *context, int64_t layer, const float *x, int64_t T);
void espl_model_set_tap(espl_model *m, espl_model_tap tap, void *context);

/* --------------------------------------------------------------- masks */

/* Local. A linear of the whole model (espl_linear_index) with its weights and mask, or NULL if it is not this rank's.
 * Borrowed, valid until the model is closed. */
const espl_linear *espl_model_linear(const espl_model *m, int64_t index);
/* Local. From now on the linear is masked so; NULL: dense. The mask is borrowed: it must outlive its use, and its bits
 * may be changed in place between passes. Swapping masks is how pruning and rollback work. ESPL_INTERNAL: the linear is
 * not this rank's. */
espl_status espl_model_set_mask(espl_model *m, int64_t index, const uint64_t *mask);

/* Local. From now on the linear has these weights [out, in], of the dtype of its source (an updating method); NULL: the
 * source's. Borrowed, as a mask is. ESPL_INTERNAL: the linear is not this rank's. */
espl_status espl_model_set_weight(espl_model *m, int64_t index, const void *weight);

/* Collective. A hash of the weights of all linears as the source has them, on rank 0 (elsewhere 0): "weights" in a
 * checkpoint's identity. The model must not have been given other weights. */
espl_status espl_model_hash_weights(espl_comm *c, const espl_model *m, uint64_t *hash);

/* Local. The scratch of the model's kernels, for other kernels between its passes. Borrowed. */
espl_workspace *espl_model_workspace(const espl_model *m);

/* ---------------------------------------------------------- calibration */

typedef struct espl_calibration_options {
    int64_t window;   /* tokens of a window, 2 .. context */
    int64_t forward;  /* windows 0 .. forward - 1 give activation statistics */
    int64_t backward; /* windows 0 .. backward - 1 are the samples L_i whose gradients are taken */
    /* [slice linears] of [out, in], or NULL: += sum over the samples of (dL_i/dW)^2, for scores that need each weight's
     * gradient. Then espl_calibration_gradient is not measured (0). */
    float *const *gradient_squares;
} espl_calibration_options;

/* What calibration found out about the linears of this rank's slice. */
typedef struct espl_calibration {
    espl_range slice;
    int64_t window, forward_tokens, samples;
    double *loss;     /* [samples] mean cross entropy of each window (window - 1 predictions), on every rank; owned */
    double *gradient; /* [slice linears]; owned, see espl_calibration_gradient */
    double *squares;  /* [slice layers, stride]; owned, see espl_calibration_squares */
    int64_t stride, at[ESPL_LINEAR_KINDS];
    double *output_squares; /* [slice layers, output_stride]; owned, see espl_calibration_output_squares */
    int64_t output_stride, output_at[ESPL_LINEAR_KINDS];
} espl_calibration;

/* Collective. Runs windows ids [max(forward, backward), window], the same on every rank, through the current, masked
 * model. Results do not depend on the number of ranks or threads. Extra memory is taken for the call only:
 * espl_model_calibration_bytes. ESPL_USAGE, ESPL_NOMEM. Free *out with espl_calibration_free. */
espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out);
void espl_calibration_free(espl_calibration *c);

/* Local. ||X_j||^2 per input feature [in] of a linear: sum of x_tj^2 over the forward tokens. NULL if not this rank's.
 * Borrowed. */
const double *espl_calibration_squares(const espl_calibration *c, int64_t index);
/* Local. ||X_j||_2 of the first `in` input features, as float: the square roots of those sums. */
void espl_calibration_norms(const espl_calibration *c, int64_t index, int64_t in, float *norm);
/* Local. (1/M) sum over samples i of the mean over surviving weights of |dL_i/dW| (arXiv 2601.09694, G reduced by its
 * mean: our reading). A weight that is masked away has no part in it. NAN: no samples, nothing survives, or the linear
 * is not this rank's. */
double espl_calibration_gradient(const espl_calibration *c, int64_t index);

/* Local. Sum over the samples i and their tokens t of (dL_i/dy_to)^2 per output feature [out] of a linear, y being its
 * output. NULL if not this rank's; zeros without samples or where gradient_squares were asked for. Borrowed. */
const double *espl_calibration_output_squares(const espl_calibration *c, int64_t index);

/* Local. Bytes that rank `rank` of `ranks` takes while calibrating. */
int64_t espl_model_calibration_bytes(const espl_model_config *c, const espl_calibration_options *o, espl_range slice,
                                     int rank, int ranks);

/* Local. Observes the backward pass: called, sample after sample, with layer i and dL/d(residual stream after decoder
 * layer i) [T, hidden] for i = this rank's layers minus one, down to -1 for the embeddings on the first rank, and on
 * the last rank also for the last layer. NULL ends it. */
void espl_model_set_gradient_tap(espl_model *m, espl_model_tap tap, void *context);

/* ---------------------------------------------------------- layer by layer */

/* One decoder layer at a time, any layer on any rank, on whole windows of T tokens: for methods that go through the
 * model layer by layer with their samples spread over the ranks. Weights come from the mapped source, dense: what
 * espl_model_set_mask and _set_weight did to the model has no part in it. All functions are Local; they use the model's
 * workspace, so none of its passes may be under way. */
typedef struct espl_block espl_block;

/* For windows of T tokens, 2 .. context; `backward`: espl_block_backward will be called. m is borrowed. ESPL_USAGE: T;
 * ESPL_UNSUPPORTED: no backward pass for such heads. Owned by the caller. */
espl_status espl_block_create(const espl_model *m, int64_t T, bool backward, espl_block **out);
void espl_block_destroy(espl_block **b);
/* Bytes that it takes besides the mapped weights. */
int64_t espl_block_bytes(const espl_model_config *c, int64_t T, bool backward);
/* Turns to layer `layer` of the whole model. */
espl_status espl_block_load(espl_block *b, int64_t layer);
/* A linear of the layer. Its mask and its weight may be set (they are borrowed) until the next load. */
espl_linear *espl_block_linear(espl_block *b, espl_linear_kind kind);
/* x [T, hidden] = embeddings of ids [T]. ESPL_USAGE: an id outside the vocabulary. */
espl_status espl_block_embed(espl_block *b, const int32_t *ids, float *x);
/* x [T, hidden] through the layer, in place. */
void espl_block_forward(espl_block *b, float *x);
/* What each linear sees when x [T, hidden] comes in: inputs[kind] [T, in]. down_proj itself is not computed. Valid
 * until the next call. */
void espl_block_inputs(espl_block *b, const float *x, const float *inputs[ESPL_LINEAR_KINDS]);
/* x: the layer's input. dy [T, hidden], the gradient of its output, becomes that of its input;
 * squares[kind] [out, in] += (dL/dW)^2. */
void espl_block_backward(espl_block *b, const float *x, float *dy, float *const squares[ESPL_LINEAR_KINDS]);

/* -------------------------------------------------------------- sampling */

typedef struct espl_sampling {
    double temperature; /* 0: greedy, the lowest id among equals */
    double top_p;       /* nucleus (Holtzman et al. 2020); 1: all */
} espl_sampling;

/* Local. Picks a token from logits [vocab]. scratch [vocab] int32. */
int32_t espl_model_sample(const float *logits, int64_t vocab, const espl_sampling *s, espl_rng *rng, int32_t *scratch);

#endif
