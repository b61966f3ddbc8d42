/* Private to the model room. */
#ifndef ESPL_MODEL_INTERNAL_H
#define ESPL_MODEL_INTERNAL_H

#include "espalier/model/block.h"
#include "espalier/model/calibration.h"
#include "espalier/model/config.h"
#include "espalier/model/forward.h"
#include "espalier/model/model.h"
#include "espalier/model/shape.h"
#include "espalier/tensor/attention.h"
#include "espalier/tensor/dtype.h"
#include "espalier/tensor/elementwise.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/statistics.h"
#include "espalier/tensor/workspace.h"

typedef struct layer {
    espl_linear linears[ESPL_LINEAR_KINDS];
    const void *source[ESPL_LINEAR_KINDS]; /* their weights in the mapped file */
    float *input_norm, *post_norm;         /* [hidden] */
    float *q_norm, *k_norm;                /* [head_dim] or NULL */
} layer;

/* Micro-batches on their way through this rank: one being received, one computed, one being sent. */
enum { STREAMS = 3 };

/* The size table of a rank: one entry per buffer, X(name, element type, elements). It carves the arena and is what
 * `inspect` prints. M tokens, C hidden, Q query and KV key/value features, F ffn, V vocab. `last`: holds the head. */
#define ACTIVATION_LIST(X)                                                                                             \
    X(stream0, float, d.M *d.C)                                                                                        \
    X(stream1, float, d.ranks_differ ? d.M *d.C : 0)                                                                   \
    X(stream2, float, d.ranks_differ ? d.M *d.C : 0)                                                                   \
    X(normed, float, d.M *d.C)                                                                                         \
    X(q, float, d.M *d.Q)                                                                                              \
    X(k, float, d.M *d.KV)                                                                                             \
    X(v, float, d.M *d.KV)                                                                                             \
    X(attended, float, d.M *d.Q)                                                                                       \
    X(gate, float, d.M *d.F)                                                                                           \
    X(up, float, d.M *d.F)                                                                                             \
    X(ids, int32_t, d.M)                                                                                               \
    X(targets, int32_t, d.M)                                                                                           \
    X(positions, int64_t, d.M)                                                                                         \
    X(sequences, espl_attention, d.M)                                                                                  \
    X(logprob, double, d.last ? d.M : 0)                                                                               \
    X(partial, float, d.last ? d.partial : 0)                                                                          \
    X(logits, float, d.last ? d.rows *d.V : 0)

typedef struct slice_dims {
    int64_t M, C, Q, KV, F, V, rows, partial;
    bool last, ranks_differ; /* holds the head; there is more than one rank */
} slice_dims;

typedef struct buffers {
#define X(name, type, n) type *name;
    ACTIVATION_LIST(X)
#undef X
} buffers;

struct espl_model {
    espl_comm *comm; /* borrowed */
    espl_model_config config;
    espl_model_options options;
    espl_range slice;
    bool first, last;
    espl_weights *weights;
    const espl_tensor_info *embed; /* first rank */
    espl_linear head;              /* last rank */
    float *final_norm;
    layer *layers; /* [slice] */
    espl_rope rope;
    float *kv; /* [slots][slice][2][kv_heads][context][head_dim] */
    buffers b;
    espl_workspace *workspace;
    espl_arena *activations, *tables, *cache;
    int64_t mapped_bytes;
    espl_transfer sends[STREAMS], receives[STREAMS];
    espl_model_tap tap, gradient_tap;
    void *tap_context, *gradient_context;
};

slice_dims espl_model_dims(const espl_model_config *c, const espl_model_options *o, espl_range slice);
int64_t espl_model_activation_bytes(const slice_dims *d);
/* Carves `b` out of the arena; false if it does not fit. */
bool espl_model_carve(espl_arena *a, const slice_dims *d, buffers *b);
/* Fills cos and sin [context, head_dim / 2] by the config's RoPE type. */
void espl_model_fill_rope(const espl_model_config *c, int64_t context, espl_rope *r);
/* Keys (which = 0) or values (1) of a local layer and slot: [kv_heads, context, head_dim]. */
float *espl_model_cache(const espl_model *m, int64_t local_layer, int64_t slot, int which);
/* Binds layer i of the model to *l with its vectors taken from `tables`; l NULL: only checks it. */
espl_status espl_model_bind_layer(const espl_model *m, int64_t i, espl_arena *tables, layer *l);
/* Bytes of the tables that binding a layer takes. */
int64_t espl_model_layer_tables(const espl_model_config *c);
/* One decoder layer over the micro-batch in x [T, hidden], in place. */
void espl_model_layer_forward(espl_model *m, int64_t local_layer, const espl_batch *batch, float *x, int64_t T);

#endif
