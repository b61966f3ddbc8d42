/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer, forward (HF modeling_qwen3.py / modeling_llama.py):
 *     x += o_proj(attention(rope(norm(q_proj n)), rope(norm(k_proj n)), v_proj n)),  n = rmsnorm(x)
 *     x += down_proj(silu(gate_proj n) * up_proj n),                                 n = rmsnorm(x)
 * Other families have the norms before or behind the branches or both, norms of other width, layers without RoPE,
 * another activation, or scales: as their descriptions say (espalier/model/family.h).
 */
#include "layer.h"

#include <string.h>

#include "espalier/base/region.h"
#include "experts.h"

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

/* ------------------------------------------------------ parts of a layer */

void espl_layer_embed(const espl_model *m, const espl_tensor_info *table, const int32_t *ids, int64_t T, float *x) {
    espl_tensor_embed(table->data, table->dtype, m->config.hidden, ids, T, x);
    if (m->config.embedding_scale != 1) espl_tensor_scale(x, (float)m->config.embedding_scale, T * m->config.hidden);
}

static const espl_rope *layer_rope(const espl_model *m, int64_t local_layer) {
    return &m->ropes[m->config.layer_ropes[m->slice.first + local_layer]];
}

void espl_layer_norm_rope(const espl_model *m, int64_t local_layer, bool keys, float *x, int64_t T,
                          const int64_t *positions) {
    const espl_model_config *c = &m->config;
    int64_t heads = keys ? c->kv_heads : c->heads, width = heads * c->head_dim;
    const float *norm = m->layers[local_layer].norms[keys ? ESPL_LAYER_NORM_K : ESPL_LAYER_NORM_Q];
    if (c->family->qk_norm == ESPL_QK_NORM_ALL) {
        espl_tensor_rmsnorm(x, norm, T, width, (float)c->rms_eps, x);
        norm = NULL;
    }
    espl_tensor_norm_rope(x, T, width, heads, norm, (float)c->rms_eps, layer_rope(m, local_layer), positions);
}

void espl_layer_norm_rope_backward(const espl_model *m, int64_t local_layer, bool keys, const float *raw, float *dx,
                                   int64_t T, const int64_t *positions) {
    const espl_model_config *c = &m->config;
    int64_t heads = keys ? c->kv_heads : c->heads;
    const float *norm = m->layers[local_layer].norms[keys ? ESPL_LAYER_NORM_K : ESPL_LAYER_NORM_Q];
    bool all = c->family->qk_norm == ESPL_QK_NORM_ALL;
    espl_tensor_norm_rope_backward(raw, dx, T, heads, all ? NULL : norm, (float)c->rms_eps, layer_rope(m, local_layer),
                                   positions);
    if (!all) return;
    const espl_rope one_head = {.head_dim = heads * c->head_dim}; /* the norm of a head as wide as all, no rotation */
    espl_tensor_norm_rope_backward(raw, dx, T, 1, norm, (float)c->rms_eps, &one_head, positions);
}

const float *espl_layer_out_norm(const espl_model *m, int64_t local_layer, espl_linear_kind kind) {
    return m->layers[local_layer].norms[kind == ESPL_O_PROJ ? ESPL_NORM_ATTENTION_OUT : ESPL_NORM_MLP_OUT];
}

bool espl_layer_adds_plainly(const espl_model_config *c) {
    return !c->family->norms[ESPL_NORM_ATTENTION_OUT] && !c->family->norms[ESPL_NORM_MLP_OUT] && c->residual_scale == 1;
}

void espl_layer_add_raw(const espl_model *m, int64_t local_layer, espl_linear_kind kind, const float *raw, int64_t T,
                        float *normed, float *x) {
    const espl_model_config *c = &m->config;
    const float *norm = espl_layer_out_norm(m, local_layer, kind);
    double t = espl_clock_now();
    if (norm) espl_tensor_rmsnorm(raw, norm, T, c->hidden, (float)c->rms_eps, normed);
    espl_tensor_add_scaled(x, norm ? normed : raw, (float)c->residual_scale, T * c->hidden);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_layer_add_branch(const espl_model *m, int64_t local_layer, espl_linear_kind kind, const float *input,
                           int64_t rows, int64_t T, float *raw, float *normed, float *x) {
    const espl_linear *l = &m->layers[local_layer].linears[kind];
    bool plain = espl_layer_adds_plainly(&m->config);
    double t = espl_clock_now();
    /* Accumulating into x is the residual connection. */
    espl_tensor_linear_blocks(l, 1, input, rows, T, plain ? &x : &raw, plain, m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
    if (!plain) espl_layer_add_raw(m, local_layer, kind, raw, rows, normed, x);
}

/* The experts of a layer in place of its MLP, expert after expert: b->normed [T, hidden] is their input. */
static void layer_add_experts(espl_model *m, int64_t local_layer, float *x, int64_t T) {
    const espl_model_config *c = &m->config;
    model_buffers *b = &m->b;
    const expert_routing r = {.probs = b->route_probs,
                              .chosen = b->route_chosen,
                              .weights = b->route_weights,
                              .slots = b->route_slots,
                              .first = b->route_first};
    float *gate_up[2] = {b->gate, b->up};
    espl_experts_route(m, local_layer, b->normed, T, &r);
    memset(b->expert_sum, 0, (size_t)(T * c->hidden) * sizeof *b->expert_sum);
    for (int64_t e = 0; e < c->experts; e++) {
        const espl_linear *l = &m->layers[local_layer].linears[espl_linear_at(ESPL_GATE_PROJ, e)];
        int64_t n = espl_experts_count(&r, e);
        if (n == 0) continue;
        double t = espl_clock_now();
        espl_experts_gather(m, &r, e, false, b->normed, b->expert_in);
        t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        espl_tensor_linear(l, 2, b->expert_in, n, gate_up, false, m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_tensor_glu(c->activation, b->gate, b->up, n * c->ffn);
        t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        espl_tensor_linear(l + 2, 1, b->gate, n, &b->expert_out, false, m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_experts_scatter(m, &r, e, true, b->expert_out, b->expert_sum);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    }
    espl_layer_add_raw(m, local_layer, ESPL_DOWN_PROJ, b->expert_sum, T, b->expert_sum, x);
}

/* ------------------------------------------------------------ the layer */

void espl_model_layer_forward(espl_model *m, int64_t local_layer, const espl_batch *batch, float *x, int64_t T) {
    const espl_model_config *c = &m->config;
    const model_layer *l = &m->layers[local_layer];
    model_buffers *b = &m->b;
    espl_attention_shape shape = espl_model_attention_shape(m, local_layer);
    const float *before_attention = l->norms[ESPL_NORM_ATTENTION_IN], *before_mlp = l->norms[ESPL_NORM_MLP_IN];
    float eps = (float)c->rms_eps, *qkv[3] = {b->q, b->k, b->v}, *gate_up[2] = {b->gate, b->up};
    double t = espl_clock_now();
    if (before_attention) espl_tensor_rmsnorm(x, before_attention, T, c->hidden, eps, b->normed);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    /* q, k and v share their input and one parallel loop. */
    espl_tensor_linear(&l->linears[ESPL_Q_PROJ], 3, before_attention ? b->normed : x, T, qkv, false, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_layer_norm_rope(m, local_layer, false, b->q, T, b->positions);
    espl_layer_norm_rope(m, local_layer, true, b->k, T, b->positions);
    layer_cache_segments(m, local_layer, batch);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_attention(&shape, b->sequences, batch->n, m->workspace);
    espl_region_lap(ESPL_REGION_ATTENTION, t);
    espl_layer_add_branch(m, local_layer, ESPL_O_PROJ, b->attended, T, T, b->normed, b->normed, x);

    t = espl_clock_now();
    if (before_mlp) espl_tensor_rmsnorm(x, before_mlp, T, c->hidden, eps, b->normed);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    if (c->experts > 0) {
        if (!before_mlp) memcpy(b->normed, x, (size_t)(T * c->hidden) * sizeof *x);
        layer_add_experts(m, local_layer, x, T);
        if (m->tap) m->tap(m->tap_context, m->slice.first + local_layer, x, T);
        return;
    }
    espl_tensor_linear(&l->linears[ESPL_GATE_PROJ], 2, before_mlp ? b->normed : x, T, gate_up, false, m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_glu(c->activation, b->gate, b->up, T * c->ffn);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_layer_add_branch(m, local_layer, ESPL_DOWN_PROJ, b->gate, T, T, b->normed, b->normed, x);
    if (m->tap) m->tap(m->tap_context, m->slice.first + local_layer, x, T);
}
