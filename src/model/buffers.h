/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: the buffers of a micro-batch on one rank. */
#ifndef ESPL_MODEL_BUFFERS_H
#define ESPL_MODEL_BUFFERS_H

#include "espalier/base/memory.h"
#include "espalier/model/model.h"
#include "espalier/tensor/attention.h"

/* Micro-batches on their way through this rank: one being received, one computed, one being sent. */
enum { STREAMS = 3 };

/* The size table of a rank: X(name, element type, elements). It carves the arena and is what `inspect` prints, so the
 * two cannot disagree. d.M tokens, d.C hidden, d.Q query and d.KV key/value features, d.F ffn, d.V vocab, d.E experts,
 * d.K of them for a token. */
#define ACTIVATION_LIST(X)                                                                                             \
    X(stream0, float, d.M *d.C)                                                                                        \
    X(stream1, float, d.several ? d.M *d.C : 0)                                                                        \
    X(stream2, float, d.several ? d.M *d.C : 0)                                                                        \
    X(normed, float, d.M *d.C)                                                                                         \
    X(q, float, d.M *d.Q)                                                                                              \
    X(k, float, d.M *d.KV)                                                                                             \
    X(v, float, d.M *d.KV)                                                                                             \
    X(attended, float, d.M *d.Q)                                                                                       \
    X(gate, float, d.M *d.F)                                                                                           \
    X(up, float, d.M *d.F)                                                                                             \
    X(expert_in, float, d.E ? d.M *d.C : 0)                                                                            \
    X(expert_out, float, d.E ? d.M *d.C : 0)                                                                           \
    X(expert_sum, float, d.E ? d.M *d.C : 0)                                                                           \
    X(route_probs, float, d.M *d.E)                                                                                    \
    X(route_chosen, int32_t, d.M *d.K)                                                                                 \
    X(route_weights, float, d.M *d.K)                                                                                  \
    X(route_slots, int64_t, d.M *d.K)                                                                                  \
    X(route_first, int64_t, d.E ? d.E + 1 : 0)                                                                         \
    X(ids, int32_t, d.M)                                                                                               \
    X(targets, int32_t, d.M)                                                                                           \
    X(positions, int64_t, d.M)                                                                                         \
    X(sequences, espl_attention, d.M)                                                                                  \
    X(logprob, double, d.last ? d.M : 0)                                                                               \
    X(partial, float, d.last ? d.partial : 0)                                                                          \
    X(logits, float, d.last ? d.rows *d.V : 0)

typedef struct model_dims {
    int64_t M, C, Q, KV, F, V, E, K;
    int64_t rows, partial; /* rows of logits; scratch of the head */
    bool last, several;    /* this rank holds the head; there are several ranks */
} model_dims;

typedef struct model_buffers {
#define X(name, type, n) type *name;
    ACTIVATION_LIST(X)
#undef X
} model_buffers;

/* Local. */
model_dims espl_model_dims(const espl_model_config *c, const espl_model_options *o, espl_range slice);
int64_t espl_model_activation_bytes(const model_dims *d);
/* Local. Carves `b` out of the arena; false if it does not fit. */
bool espl_model_carve(espl_arena *a, const model_dims *d, model_buffers *b);

#endif
