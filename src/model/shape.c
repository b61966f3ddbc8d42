/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes, counts and costs: what follows from a config alone.
 */
#include "espalier/model/shape.h"

#include "espalier/base/memory.h"

void espl_model_linear_shape(const espl_model_config *c, espl_linear_kind kind, int64_t *out, int64_t *in) {
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const int64_t shapes[ESPL_LINEAR_KINDS][2] = {
        [ESPL_Q_PROJ] = {q, c->hidden},         [ESPL_K_PROJ] = {kv, c->hidden},
        [ESPL_V_PROJ] = {kv, c->hidden},        [ESPL_O_PROJ] = {c->hidden, q},
        [ESPL_GATE_PROJ] = {c->ffn, c->hidden}, [ESPL_UP_PROJ] = {c->ffn, c->hidden},
        [ESPL_DOWN_PROJ] = {c->hidden, c->ffn}};
    *out = shapes[kind][0];
    *in = shapes[kind][1];
}

bool espl_model_linear_bias(const espl_model_config *c, espl_linear_kind kind) {
    if (kind <= ESPL_V_PROJ) return c->qkv_bias;
    return kind == ESPL_O_PROJ ? c->o_bias : c->mlp_bias;
}

/* ------------------------------------------------------------- parameters */

int64_t espl_model_layer_linear_weights(const espl_model_config *c) {
    int64_t sum = 0, out, in;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        sum += out * in;
    }
    return sum;
}

int64_t espl_model_layer_parameters(const espl_model_config *c) {
    int64_t norms = 2 * c->hidden + (c->qk_norm ? 2 * c->head_dim : 0), biases = 0, out, in;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        if (espl_model_linear_bias(c, (espl_linear_kind)k)) biases += out;
    }
    return espl_model_layer_linear_weights(c) + norms + biases;
}

int64_t espl_model_embedding_parameters(const espl_model_config *c) { return c->vocab * c->hidden; }

int64_t espl_model_parameters(const espl_model_config *c) {
    int64_t tables = espl_model_embedding_parameters(c) * (c->tied ? 1 : 2), final_norm = c->hidden;
    return tables + final_norm + c->layers * espl_model_layer_parameters(c);
}

/* ---------------------------------------------------------------- the cut
 *
 * Layers are cut by FLOPs rather than by number: with a large vocabulary the head weighs as much as several layers. */

double espl_model_layer_flops(const espl_model_config *c, int64_t layer, int64_t context) {
    /* Keys that a query sees, on average over a causal window; a sliding window cuts off the long rows. */
    double keys = ((double)context + 1) / 2, window = (double)c->window;
    if (c->slides[layer] && window < (double)context) keys = window - window * (window - 1) / (2 * (double)context);
    /* 2 FLOPs per weight; 2 per key and feature for the scores and again for the values. */
    return 2 * (double)espl_model_layer_linear_weights(c) + 4 * (double)(c->heads * c->head_dim) * keys;
}

double espl_model_head_flops(const espl_model_config *c) { return 2 * (double)c->vocab * (double)c->hidden; }

espl_status espl_model_partition(const espl_model_config *c, int64_t context, int ranks, espl_range *slices) {
    double *cost;
    ESPL_TRY(espl_mem_alloc(&cost, c->layers, sizeof *cost, "layer costs"));
    for (int64_t i = 0; i < c->layers; i++) cost[i] = espl_model_layer_flops(c, i, context);
    espl_status st = espl_slices_cut(cost, c->layers, espl_model_head_flops(c), ranks, slices);
    espl_mem_free(&cost);
    return st;
}
