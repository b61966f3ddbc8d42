/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linear layers of a model: their kinds, numbers and names. All functions are Local.
 */
#ifndef ESPALIER_LOOP_LINEAR_H
#define ESPALIER_LOOP_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

/* The linears of a decoder layer, in the order of Hugging Face's modules. Files and numbers of linears depend on the
 * order. X(name, path inside the layer) */
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

/* One number for a linear of the whole model: layer * ESPL_LINEAR_KINDS + kind. */
static inline int64_t espl_linear_index(int64_t layer, espl_linear_kind kind) {
    return layer * ESPL_LINEAR_KINDS + kind;
}
static inline int64_t espl_linear_layer(int64_t index) { return index / ESPL_LINEAR_KINDS; }
static inline espl_linear_kind espl_linear_kind_of(int64_t index) {
    return (espl_linear_kind)(index % ESPL_LINEAR_KINDS);
}

/* Buffer for espl_linear_name: fits any index. */
enum { ESPL_LINEAR_NAME_MAX = 64 };
/* "layers.3.mlp.up_proj" into buf [ESPL_LINEAR_NAME_MAX]; returns buf. Agents read and write these names. */
const char *espl_linear_name(int64_t index, char *buf);
/* The index of a name in a model of `layers` layers, -1 if no linear has that name. A leading "model." is accepted. */
int64_t espl_linear_parse(const char *name, int64_t layers);
/* Whether the name of a linear matches a pattern, in which each '*' stands for any characters: "layers.3.*",
 * "*.up_proj". A leading "model." is accepted. Time is at most the product of the lengths. */
bool espl_linear_matches(int64_t index, const char *pattern);

#endif
