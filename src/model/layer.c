/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer, forward (HF modeling_qwen3.py / modeling_llama.py):
 *     x += o_proj(attention(rope(norm(q_proj n)), rope(norm(k_proj n)), v_proj n)),  n = rmsnorm(x)
 *     x += down_proj(silu(gate_proj n) * up_proj n),                                 n = rmsnorm(x)
 */
#include "layer.h"

#include "espalier/base/region.h"
#include "state.h"

/* Keys (which = 0) or values (1) of a slot: [kv_heads, context, head_dim]. */
static float *layer_cache(const espl_model *m, int64_t local_layer, int64_t slot, int which) {
    int64_t one = m->config.kv_heads * m->options.context * m->config.head_dim;
    return m->kv + ((slot * espl_range_count(m->slice) + local_layer) * 2 + which) * one;
}

/* Caches the new keys and values of every segment and lists the attention to be computed. */
static void layer_cache_segments(espl_model *m, int64_t local_layer, const espl_batch *batch) {
    int64_t d = m->config.head_dim, heads = m->config.kv_heads, kv = heads * d, q = m->config.heads * d, row = 0;
    for (int64_t i = 0; i < batch->n; i++) {
        const espl_segment *s = &batch->segments[i];
        /* Row 0 of the cache holds position prefix_n; positions before it are read from the prefix's rows. */
        int64_t own = s->row * d, shared = s->prefix_row * d, at = (s->pos - s->prefix_n) * d;
        float *k = layer_cache(m, local_layer, s->slot, 0) + own;
        float *v = layer_cache(m, local_layer, s->slot, 1) + own;
        espl_tensor_cache_store(m->b.k + row * kv, s->n, heads, d, k + at, m->options.context);
        espl_tensor_cache_store(m->b.v + row * kv, s->n, heads, d, v + at, m->options.context);
        m->b.sequences[i] = (espl_attention){.q = m->b.q + row * q,
                                             .out = m->b.attended + row * q,
                                             .k = k,
                                             .v = v,
                                             .T = s->n,
                                             .pos = s->pos,
                                             .capacity = m->options.context,
                                             .prefix_k = layer_cache(m, local_layer, s->prefix_slot, 0) + shared,
                                             .prefix_v = layer_cache(m, local_layer, s->prefix_slot, 1) + shared,
                                             .prefix = s->prefix_n};
        row += s->n;
    }
}

void espl_model_layer_forward(espl_model *m, int64_t local_layer, const espl_batch *batch, float *x, int64_t T) {
    const espl_model_config *c = &m->config;
    const model_layer *l = &m->layers[local_layer];
    model_buffers *b = &m->b;
    espl_attention_shape shape = espl_model_attention_shape(m, local_layer);
    float eps = (float)c->rms_eps, *qkv[3] = {b->q, b->k, b->v}, *gate_up[2] = {b->gate, b->up};
    double t = espl_clock_now();
    espl_tensor_rmsnorm(x, l->input_norm, T, c->hidden, eps, b->normed);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    /* q, k and v share their input and one parallel loop. */
    espl_tensor_linear(&l->linears[ESPL_Q_PROJ], 3, b->normed, T, qkv, false, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_norm_rope(b->q, T, c->heads * c->head_dim, c->heads, l->q_norm, eps, &m->rope, b->positions);
    espl_tensor_norm_rope(b->k, T, c->kv_heads * c->head_dim, c->kv_heads, l->k_norm, eps, &m->rope, b->positions);
    layer_cache_segments(m, local_layer, batch);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_attention(&shape, b->sequences, batch->n, m->workspace);
    t = espl_region_lap(ESPL_REGION_ATTENTION, t);
    /* Accumulating into x is the residual connection. */
    espl_tensor_linear(&l->linears[ESPL_O_PROJ], 1, b->attended, T, &x, true, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);

    espl_tensor_rmsnorm(x, l->post_norm, T, c->hidden, eps, b->normed);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear(&l->linears[ESPL_GATE_PROJ], 2, b->normed, T, gate_up, false, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_swiglu(b->gate, b->up, T * c->ffn);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear(&l->linears[ESPL_DOWN_PROJ], 1, b->gate, T, &x, true, m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
    if (m->tap) m->tap(m->tap_context, m->slice.first + local_layer, x, T);
}
