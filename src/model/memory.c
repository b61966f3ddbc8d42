/* The size table of a rank. */
#include "internal.h"

/* Measured with Open MPI 4.1 and OpenBLAS 0.3.21: 17 MiB with one thread, 19 with two. */
enum { LIBRARY_BYTES = 16 << 20, LIBRARY_THREAD_BYTES = 2 << 20 };

slice_dims espl_model_dims(const espl_model_config *c, const espl_model_options *o, espl_range slice) {
    slice_dims d = {.M = o->batch_tokens,
                    .C = c->hidden,
                    .Q = c->heads * c->head_dim,
                    .KV = c->kv_heads * c->head_dim,
                    .F = c->ffn,
                    .V = c->vocab,
                    .rows = o->logits_rows,
                    .last = slice.last == c->layers,
                    .ranks_differ = espl_range_count(slice) != c->layers};
    espl_linear head = {.out = c->vocab, .in = c->hidden};
    d.partial = espl_head_partial_floats(&head, d.M);
    return d;
}

int64_t espl_model_activation_bytes(const slice_dims *dp) {
    slice_dims d = *dp;
    size_t sum = 0;
#define X(name, type, n) sum += espl_arena_piece((size_t)(n) * sizeof(type));
    ACTIVATION_LIST(X)
#undef X
    return (int64_t)sum;
}

bool espl_model_carve(espl_arena *a, const slice_dims *dp, buffers *b) {
    slice_dims d = *dp;
#define X(name, type, n)                                                                                               \
    b->name = espl_arena_take(a, (size_t)(n) * sizeof(type));                                                          \
    if (!b->name) return false;
    ACTIVATION_LIST(X)
#undef X
    return true;
}

static int64_t cache_bytes(const espl_model_config *c, const espl_model_options *o, espl_range slice) {
    return 2 * 4 * o->slots * espl_range_count(slice) * c->kv_heads * o->context * c->head_dim;
}

int64_t espl_model_layer_tables(const espl_model_config *c) {
    int64_t vectors = espl_model_layer_parameters(c) - espl_model_layer_linear_weights(c);
    return 4 * vectors + 64 * (4 + ESPL_LINEAR_KINDS);
}

/* Norms, biases and RoPE tables, as f32. */
static int64_t table_bytes(const espl_model_config *c, const espl_model_options *o, espl_range slice) {
    return espl_range_count(slice) * espl_model_layer_tables(c) + 4 * (c->hidden + o->context * c->head_dim) + 256;
}

espl_model_memory espl_model_memory_of(const espl_model_config *c, const espl_model_options *o, espl_range slice,
                                       int threads, int64_t bytes_per_weight) {
    slice_dims d = espl_model_dims(c, o, slice);
    int64_t weights = espl_range_count(slice) * espl_model_layer_parameters(c);
    bool first = slice.first == 0, one_table = first && d.last && c->tied;
    if (first) weights += espl_model_embedding_parameters(c);
    if (d.last) weights += (one_table ? 0 : espl_model_embedding_parameters(c)) + c->hidden;
    return (espl_model_memory){.weights = weights * bytes_per_weight,
                               .activations = espl_model_activation_bytes(&d),
                               .kv_cache = cache_bytes(c, o, slice),
                               .workspace = espl_workspace_bytes(threads),
                               .tables = table_bytes(c, o, slice),
                               .libraries = LIBRARY_BYTES + threads * LIBRARY_THREAD_BYTES};
}
