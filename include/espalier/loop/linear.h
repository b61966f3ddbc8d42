/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linear layers of a model: their kinds, numbers and names. All functions are Local.
 */
#ifndef ESPALIER_LOOP_LINEAR_H
#define ESPALIER_LOOP_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

/* The kinds of linears of a decoder layer, in the order of Hugging Face's modules. Files and numbers of linears depend
 * on the order. X(name, path inside the layer) */
#define ESPL_LINEAR_LIST(X)                                                                                            \
    X(Q_PROJ, "self_attn.q_proj")                                                                                      \
    X(K_PROJ, "self_attn.k_proj")                                                                                      \
    X(V_PROJ, "self_attn.v_proj")                                                                                      \
    X(O_PROJ, "self_attn.o_proj")                                                                                      \
    X(GATE_PROJ, "mlp.gate_proj")                                                                                      \
    X(UP_PROJ, "mlp.up_proj")                                                                                          \
    X(DOWN_PROJ, "mlp.down_proj")

typedef enum espl_linear_kind {
#define X(name, path) ESPL_##name,
    ESPL_LINEAR_LIST(X)
#undef X
        ESPL_LINEAR_KINDS
} espl_linear_kind;

/* "self_attn.q_proj". Static storage. */
const char *espl_linear_path(espl_linear_kind kind);

/* How the linears of a model are numbered: layer after layer; within a layer those of attention, then gate, up and down
 * projection of the MLP, or in their place those of expert 0, of expert 1 and so on. */
typedef struct espl_layout {
    int64_t layers;
    int64_t experts; /* of each layer; 0: a layer has one MLP */
} espl_layout;

enum { ESPL_MLP_LINEARS = ESPL_LINEAR_KINDS - ESPL_GATE_PROJ };

/* MLPs of a layer: its experts, or 1. */
static inline int64_t espl_layout_mlps(espl_layout l) { return l.experts > 0 ? l.experts : 1; }
/* Linears of a layer, and of the model. */
static inline int64_t espl_layout_layer_linears(espl_layout l) {
    return ESPL_GATE_PROJ + ESPL_MLP_LINEARS * espl_layout_mlps(l);
}
static inline int64_t espl_layout_linears(espl_layout l) { return l.layers * espl_layout_layer_linears(l); }
/* Linears of this kind in a layer. */
static inline int64_t espl_layout_kind_linears(espl_layout l, espl_linear_kind kind) {
    return kind < ESPL_GATE_PROJ ? 1 : espl_layout_mlps(l);
}

/* The place of a linear within its layer; without experts it is the kind. */
static inline int64_t espl_linear_at(espl_linear_kind kind, int64_t expert) {
    return kind < ESPL_GATE_PROJ ? kind : kind + ESPL_MLP_LINEARS * expert;
}
/* One number for a linear of the whole model, from its layer and its place in it. */
static inline int64_t espl_linear_index(espl_layout l, int64_t layer, int64_t at) {
    return layer * espl_layout_layer_linears(l) + at;
}
static inline int64_t espl_linear_layer(espl_layout l, int64_t index) { return index / espl_layout_layer_linears(l); }
static inline int64_t espl_linear_place_of(espl_layout l, int64_t index) {
    return index % espl_layout_layer_linears(l);
}
static inline espl_linear_kind espl_linear_kind_at(int64_t at) {
    return (espl_linear_kind)(at < ESPL_GATE_PROJ ? at : ESPL_GATE_PROJ + (at - ESPL_GATE_PROJ) % ESPL_MLP_LINEARS);
}
static inline espl_linear_kind espl_linear_kind_of(espl_layout l, int64_t index) {
    return espl_linear_kind_at(espl_linear_place_of(l, index));
}
/* The expert that a linear belongs to; -1: none. */
static inline int64_t espl_linear_expert(espl_layout l, int64_t index) {
    int64_t at = espl_linear_place_of(l, index);
    return l.experts == 0 || at < ESPL_GATE_PROJ ? -1 : (at - ESPL_GATE_PROJ) / ESPL_MLP_LINEARS;
}

/* Buffer for espl_linear_name: fits the linears of any model. */
enum { ESPL_LINEAR_NAME_MAX = 64 };
/* "layers.3.mlp.up_proj", "layers.3.mlp.experts.17.up_proj" into buf [ESPL_LINEAR_NAME_MAX]; returns buf. Agents read
 * and write these names. */
const char *espl_linear_name(espl_layout l, int64_t index, char *buf);
/* What the linears of a kind are called within any layer: "self_attn.q_proj", "mlp.up_proj" or
 * "mlp.experts.*.up_proj". Static storage. */
const char *espl_linear_pattern(espl_layout l, espl_linear_kind kind);
/* The index of a name in a model of this layout, -1 if no linear has that name. A leading "model." is accepted. */
int64_t espl_linear_parse(espl_layout l, const char *name);
/* Whether the name of a linear matches a pattern, in which each '*' stands for any characters: "layers.3.*",
 * "*.up_proj". A leading "model." is accepted. Time is at most the product of the lengths. */
bool espl_linear_matches(espl_layout l, int64_t index, const char *pattern);

#endif
