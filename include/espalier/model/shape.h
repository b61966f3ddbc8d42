/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shapes, parameter counts and costs that follow from a config alone, and the cut of the decoder layers into one slice
 * per rank. All functions are Local.
 */
#ifndef ESPALIER_MODEL_SHAPE_H
#define ESPALIER_MODEL_SHAPE_H

#include "espalier/loop/loop.h"
#include "espalier/loop/slices.h"
#include "espalier/model/config.h"

/* How the linears of the model are numbered, and how many it has. */
static inline espl_layout espl_model_layout(const espl_model_config *c) { return (espl_layout){c->layers, c->experts}; }
static inline int64_t espl_model_linears_of(const espl_model_config *c) {
    return espl_layout_linears(espl_model_layout(c));
}

/* Output and input features of a linear. */
void espl_model_linear_shape(const espl_model_config *c, espl_linear_kind kind, int64_t *out, int64_t *in);
/* Whether this linear has a bias. */
bool espl_model_linear_bias(const espl_model_config *c, espl_linear_kind kind);

/* A norm of a decoder layer: its tensor below "model.layers.N.", and how many weights it has; name NULL: no such norm.
 */
typedef struct espl_layer_norm {
    const char *name;
    int64_t n;
} espl_layer_norm;

/* The norms at the espl_norm_places, then those of queries and keys. */
enum { ESPL_LAYER_NORM_Q = ESPL_NORM_PLACES, ESPL_LAYER_NORM_K, ESPL_LAYER_NORMS };
void espl_model_layer_norms(const espl_model_config *c, espl_layer_norm norms[ESPL_LAYER_NORMS]);

enum { ESPL_TENSOR_NAME_MAX = 128 };
/* Where the file has the weight of a linear (espl_linear_index): rows first .. first + out - 1 of the tensor `name`,
 * which has `rows` rows. Most linears have a tensor of their own; some families store several as one. */
typedef struct espl_linear_place {
    char name[ESPL_TENSOR_NAME_MAX]; /* "model.layers.3.mlp.up_proj.weight" */
    int64_t first, rows;
} espl_linear_place;
espl_linear_place espl_model_linear_place(const espl_model_config *c, int64_t index);
/* The linear whose weight is the tensor of this name, or its first rows; -1: none. */
int64_t espl_model_tensor_linear(const espl_model_config *c, const char *name);

/* Parameters of one decoder layer, of the embedding table, and of the model (a tied head counts once). */
int64_t espl_model_layer_parameters(const espl_model_config *c);
int64_t espl_model_embedding_parameters(const espl_model_config *c);
int64_t espl_model_parameters(const espl_model_config *c);
/* Weights of the linears of one decoder layer: those that can be pruned. */
int64_t espl_model_layer_linear_weights(const espl_model_config *c);
/* Those of them that a token is multiplied with, and the router's: of the experts, only the chosen ones. */
int64_t espl_model_layer_active_weights(const espl_model_config *c);

/* FLOPs per token (2 per multiply-add) of a decoder layer in a window of `context` tokens: linears, and causal
 * attention averaged over the window; and of the head. */
double espl_model_layer_flops(const espl_model_config *c, int64_t layer, int64_t context);
double espl_model_head_flops(const espl_model_config *c);
/* Which layers each of `ranks` ranks holds, so that the largest cost in FLOPs is smallest. slices [ranks]. ESPL_CONFIG:
 * more ranks than layers. */
espl_status espl_model_partition(const espl_model_config *c, int64_t context, int ranks, espl_range *slices);

#endif
