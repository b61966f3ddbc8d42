/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer at a time, any layer on any rank, on whole windows of T tokens: for methods that go through the
 * model layer by layer with their samples spread over the ranks. Weights come from the mapped source, dense:
 * espl_model_set_mask and espl_model_set_weight have no effect here. All functions are Local. They use the model's
 * workspace, so no pass of the model may be under way.
 */
#ifndef ESPALIER_MODEL_BLOCK_H
#define ESPALIER_MODEL_BLOCK_H

#include "espalier/loop/loop.h"
#include "espalier/model/model.h"

typedef struct espl_block espl_block;

/* For windows of T tokens, 2 .. context; `backward`: espl_block_backward will be called. m is borrowed. ESPL_USAGE: T;
 * ESPL_UNSUPPORTED: no backward pass for such heads; ESPL_NOMEM. Owned by the caller. */
espl_status espl_block_create(const espl_model *m, int64_t T, bool backward, espl_block **out);
void espl_block_destroy(espl_block **b);
/* Bytes that it takes besides the mapped weights. */
int64_t espl_block_bytes(const espl_model_config *c, int64_t T, bool backward);
/* Loads layer `layer` of the whole model in place of the previous one. ESPL_USAGE: no such layer. */
espl_status espl_block_load(espl_block *b, int64_t layer);
/* A linear of the layer by its place in it (espl_linear_at). The caller may set its mask and its weight (borrowed)
 * until the next load. */
espl_linear *espl_block_linear(espl_block *b, int64_t at);
/* x [T, hidden] = embeddings of ids [T]. ESPL_USAGE: an id outside the vocabulary. */
espl_status espl_block_embed(espl_block *b, const int32_t *ids, float *x);
/* Runs x [T, hidden] through the layer, in place. */
void espl_block_forward(espl_block *b, float *x);
/* What a linear sees: x [rows, in], all tokens or those that were routed to its expert. */
typedef struct espl_block_input {
    const float *x;
    int64_t rows;
} espl_block_input;
/* The input of each linear when x [T, hidden] comes in, by the linear's place: inputs [linears of a layer]. down_proj
 * itself is not computed. Valid until the next call. */
void espl_block_inputs(espl_block *b, const float *x, espl_block_input *inputs);

/* The layer in four stages, by the linears whose input a stage makes, so that these may change between stages. */
typedef enum espl_block_stage {
    ESPL_BLOCK_QKV,
    ESPL_BLOCK_O,
    ESPL_BLOCK_GATE_UP,
    ESPL_BLOCK_DOWN,
    ESPL_BLOCK_STAGES
} espl_block_stage;
/* Computes the inputs of a stage's linears; the other elements of inputs are undefined. x [T, hidden]: the layer's
 * input for QKV and O, for the others the residual stream between attention and MLP. Valid until the next call. */
void espl_block_trace(espl_block *b, espl_block_stage stage, const float *x, espl_block_input *inputs);
/* After espl_block_trace of stage O: x, the layer's input, becomes the stream between attention and MLP. After stage
 * DOWN: that stream becomes the layer's output. */
void espl_block_add(espl_block *b, espl_block_stage stage, float *x);

/* x: the layer's input. dy [T, hidden], the gradient of its output, becomes that of its input;
 * squares[linear's place] [out, in] += (dL/dW)^2. */
void espl_block_backward(espl_block *b, const float *x, float *dy, float *const *squares);

#endif
