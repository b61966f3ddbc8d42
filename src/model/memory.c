/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a rank: the buffers of a micro-batch, and the estimate that `inspect` and --dry-run print.
 */
#include "bind.h"
#include "buffers.h"
#include "rope.h"

/* Resident before a model is open. Measured with Open MPI 4.1 and OpenBLAS 0.3.21: 17 MiB with one thread, 19 with two;
 * oneDNN 2.6 adds 3. */
enum { LIBRARY_BYTES = 20 << 20, LIBRARY_THREAD_BYTES = 2 << 20 };

model_dims espl_model_dims(const espl_model_config *c, const espl_model_options *o, espl_range slice) {
    espl_linear head = {.out = c->vocab, .in = c->hidden};
    return (model_dims){.M = o->batch_tokens,
                        .C = c->hidden,
                        .Q = c->heads * c->head_dim,
                        .KV = c->kv_heads * c->head_dim,
                        .F = c->ffn,
                        .V = c->vocab,
                        .E = c->experts,
                        .K = c->experts_per_token,
                        .rows = o->logits_rows,
                        .partial = espl_head_partial_floats(&head, o->batch_tokens),
                        .last = slice.last == c->layers,
                        .several = espl_range_count(slice) != c->layers};
}

int64_t espl_model_activation_bytes(const model_dims *dims) {
    model_dims d = *dims;
    size_t sum = 0;
#define X(name, type, n) sum += espl_arena_piece((size_t)(n) * sizeof(type));
    ACTIVATION_LIST(X)
#undef X
    return (int64_t)sum;
}

bool espl_model_carve(espl_arena *a, const model_dims *dims, model_buffers *b) {
    model_dims d = *dims;
#define X(name, type, n)                                                                                               \
    b->name = espl_arena_take(a, (size_t)(n) * sizeof(type));                                                          \
    if (!b->name) return false;
    ACTIVATION_LIST(X)
#undef X
    return true;
}

espl_model_memory espl_model_memory_of(const espl_model_config *c, const espl_model_options *o, espl_range slice,
                                       int threads, int64_t bytes_per_weight) {
    enum { ARENA_PADDING = 256, KEYS_AND_VALUES = 2, F32 = 4 };
    model_dims d = espl_model_dims(c, o, slice);
    int64_t layers = espl_range_count(slice), table = espl_model_embedding_parameters(c);
    int64_t weights = layers * espl_model_layer_parameters(c);
    bool first = slice.first == 0, shared = first && d.last && c->tied; /* one table embeds and is the head */
    if (first) weights += table;
    if (d.last) weights += (shared ? 0 : table) + c->hidden;
    return (espl_model_memory){.weights = weights * bytes_per_weight,
                               .activations = espl_model_activation_bytes(&d),
                               .kv_cache =
                                   KEYS_AND_VALUES * F32 * o->slots * layers * c->kv_heads * o->context * c->head_dim,
                               .workspace = espl_workspace_bytes(threads),
                               .tables = layers * espl_bind_layer_bytes(c) + F32 * c->hidden +
                                         espl_model_rope_bytes(c, o->context) + ARENA_PADDING,
                               .libraries = LIBRARY_BYTES + threads * LIBRARY_THREAD_BYTES};
}
