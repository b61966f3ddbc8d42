/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes, counts and costs: what follows from a config alone.
 */
#include "espalier/model/shape.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void espl_model_layer_norms(const espl_model_config *c, espl_layer_norm norms[ESPL_LAYER_NORMS]) {
    int64_t q_heads = c->family->qk_norm == ESPL_QK_NORM_ALL ? c->heads : 1;
    int64_t k_heads = c->family->qk_norm == ESPL_QK_NORM_ALL ? c->kv_heads : 1;
    memset(norms, 0, ESPL_LAYER_NORMS * sizeof *norms);
    for (int p = 0; p < ESPL_NORM_PLACES; p++)
        if (c->family->norms[p]) norms[p] = (espl_layer_norm){c->family->norms[p], c->hidden};
    if (c->family->qk_norm == ESPL_QK_NORM_NONE) return;
    norms[ESPL_LAYER_NORM_Q] = (espl_layer_norm){"self_attn.q_norm", q_heads * c->head_dim};
    norms[ESPL_LAYER_NORM_K] = (espl_layer_norm){"self_attn.k_norm", k_heads * c->head_dim};
}

/* ------------------------------------------------------- tensors of linears */

static const char *linear_tensor_path(const espl_model_config *c, int kind) {
    const char *path = c->family->linears[kind];
    return path ? path : espl_linear_path((espl_linear_kind)kind);
}

espl_linear_place espl_model_linear_place(const espl_model_config *c, int64_t index) {
    espl_layout l = espl_model_layout(c);
    espl_linear_kind kind = espl_linear_kind_of(l, index);
    const char *path = linear_tensor_path(c, kind);
    espl_linear_place place = {0};
    int64_t out, in;
    if (espl_linear_expert(l, index) >= 0) {
        char name[ESPL_LINEAR_NAME_MAX];
        espl_model_linear_shape(c, kind, &place.rows, &in);
        snprintf(place.name, sizeof place.name, "model.%s.weight", espl_linear_name(l, index, name));
        return place;
    }
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        if (strcmp(linear_tensor_path(c, k), path) != 0) continue;
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        if (k < (int)kind) place.first += out;
        place.rows += out;
    }
    snprintf(place.name, sizeof place.name, "model.layers.%" PRId64 ".%s.weight", espl_linear_layer(l, index), path);
    return place;
}

int64_t espl_model_tensor_linear(const espl_model_config *c, const char *name) {
    static const char prefix[] = "model.layers.", suffix[] = ".weight";
    espl_layout l = espl_model_layout(c);
    char path[ESPL_LINEAR_NAME_MAX];
    size_t n = strlen(name), tail = sizeof suffix - 1;
    if (strncmp(name, prefix, sizeof prefix - 1) != 0 || strcmp(name + n - tail, suffix) != 0) return -1;
    if (snprintf(path, sizeof path, "%.*s", (int)(n - tail), name) >= (int)sizeof path) return -1;
    int64_t own = espl_linear_parse(l, path); /* a tensor of its own, unless the family stores several as one */
    if (own >= 0 && (c->experts > 0 || strcmp(espl_model_linear_place(c, own).name, name) == 0)) return own;
    char *end;
    int64_t layer = strtoll(path + sizeof prefix - 1, &end, 10);
    if (path[sizeof prefix - 1] < '0' || path[sizeof prefix - 1] > '9' || *end != '.' || layer >= c->layers) return -1;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        if (c->family->linears[k] && strcmp(end + 1, c->family->linears[k]) == 0) return espl_linear_index(l, layer, k);
    return -1;
}

/* ------------------------------------------------------------- parameters */

int64_t espl_model_layer_linear_weights(const espl_model_config *c) {
    int64_t sum = 0, out, in;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        sum += out * in * espl_layout_kind_linears(espl_model_layout(c), (espl_linear_kind)k);
    }
    return sum;
}

int64_t espl_model_layer_active_weights(const espl_model_config *c) {
    int64_t idle = c->experts - c->experts_per_token; /* both 0 without experts */
    return espl_model_layer_linear_weights(c) - idle * ESPL_MLP_LINEARS * c->hidden * c->ffn + c->experts * c->hidden;
}

int64_t espl_model_layer_parameters(const espl_model_config *c) {
    espl_layer_norm norms[ESPL_LAYER_NORMS];
    int64_t vectors = 0, out, in; /* norms and biases */
    espl_model_layer_norms(c, norms);
    for (int k = 0; k < ESPL_LAYER_NORMS; k++) vectors += norms[k].n;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        if (espl_model_linear_bias(c, (espl_linear_kind)k)) vectors += out;
    }
    return espl_model_layer_linear_weights(c) + vectors + c->experts * c->hidden; /* the last: the router */
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
    return 2 * (double)espl_model_layer_active_weights(c) + 4 * (double)(c->heads * c->head_dim) * keys;
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
