/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: one decoder layer of the forward pass, and its parts that calibration shares. Layers are
 * counted from the first of this rank's slice. */
#ifndef ESPL_MODEL_LAYER_H
#define ESPL_MODEL_LAYER_H

#include "state.h"

/* Local. Runs the micro-batch x [T, hidden] through a layer, in place. Uses the model's buffers; positions [T] must be
 * set. */
void espl_model_layer_forward(espl_model *m, int64_t local_layer, const espl_batch *batch, float *x, int64_t T);

/* Local. x [T, hidden] = the embeddings of ids [T] by `table`, scaled as the family scales them. */
void espl_layer_embed(const espl_model *m, const espl_tensor_info *table, const int32_t *ids, int64_t T, float *x);
/* Local. Queries x [T, heads * head_dim] or keys (`keys`) [T, kv_heads * head_dim] of a layer, in place: their norm if
 * the model has one, then RoPE if the layer has it. */
void espl_layer_norm_rope(const espl_model *m, int64_t local_layer, bool keys, float *x, int64_t T,
                          const int64_t *positions);
/* Local. Back through espl_layer_norm_rope, in place on dx. raw: its input, read only if the model has norms. */
void espl_layer_norm_rope_backward(const espl_model *m, int64_t local_layer, bool keys, const float *raw, float *dx,
                                   int64_t T, const int64_t *positions);
/* Local. The norm of what o_proj or down_proj adds to the residual stream [hidden]; NULL: none. */
const float *espl_layer_out_norm(const espl_model *m, int64_t local_layer, espl_linear_kind kind);
/* Local. True if o_proj and down_proj add to the residual stream as they are: no norm, no scale. */
bool espl_layer_adds_plainly(const espl_model_config *c);
/* Local. x [T, hidden] += residual_scale * norm(raw) [T, hidden], what o_proj or an MLP has made. normed is scratch of
 * the same size and may be raw. */
void espl_layer_add_raw(const espl_model *m, int64_t local_layer, espl_linear_kind kind, const float *raw, int64_t T,
                        float *normed, float *x);
/* Local. x [rows, hidden] += residual_scale * norm(o_proj or down_proj of input [rows, in]). Unless layers add plainly,
 * raw [rows, hidden] becomes the linear's output and normed [rows, hidden], which may be raw, the norm of it. The rows
 * are some of the blocks of T tokens (espl_tensor_linear_blocks). */
void espl_layer_add_branch(const espl_model *m, int64_t local_layer, espl_linear_kind kind, const float *input,
                           int64_t rows, int64_t T, float *raw, float *normed, float *x);

#endif
