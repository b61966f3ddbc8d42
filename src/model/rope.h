/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: the RoPE tables of a model. */
#ifndef ESPL_MODEL_ROPE_H
#define ESPL_MODEL_ROPE_H

#include "espalier/base/memory.h"
#include "espalier/model/config.h"
#include "espalier/tensor/elementwise.h"

/* Local. Bytes of the tables of `context` positions. */
int64_t espl_model_rope_bytes(const espl_model_config *c, int64_t context);
/* Local. Fills ropes [ESPL_LAYER_ROPES + 1], one for each espl_layer_rope, with tables of `context` positions for those
 * that a layer has. False if the arena is too small. */
bool espl_model_fill_ropes(const espl_model_config *c, int64_t context, espl_arena *arena, espl_rope *ropes);

#endif
