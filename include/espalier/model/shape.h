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

/* Output and input features of a linear. */
void espl_model_linear_shape(const espl_model_config *c, espl_linear_kind kind, int64_t *out, int64_t *in);
/* Whether this linear has a bias. */
bool espl_model_linear_bias(const espl_model_config *c, espl_linear_kind kind);

/* Parameters of one decoder layer, of the embedding table, and of the model (a tied head counts once). */
int64_t espl_model_layer_parameters(const espl_model_config *c);
int64_t espl_model_embedding_parameters(const espl_model_config *c);
int64_t espl_model_parameters(const espl_model_config *c);
/* Weights of the linears of one decoder layer: those that can be pruned. */
int64_t espl_model_layer_linear_weights(const espl_model_config *c);

/* FLOPs per token (2 per multiply-add) of a decoder layer in a window of `context` tokens: linears, and causal
 * attention averaged over the window; and of the head. */
double espl_model_layer_flops(const espl_model_config *c, int64_t layer, int64_t context);
double espl_model_head_flops(const espl_model_config *c);
/* Which layers each of `ranks` ranks holds, so that the largest cost in FLOPs is smallest. slices [ranks]. ESPL_CONFIG:
 * more ranks than layers. */
espl_status espl_model_partition(const espl_model_config *c, int64_t context, int ranks, espl_range *slices);

#endif
