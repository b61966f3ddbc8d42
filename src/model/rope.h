/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: the RoPE tables of a model. */
#ifndef ESPL_MODEL_ROPE_H
#define ESPL_MODEL_ROPE_H

#include "espalier/model/config.h"
#include "espalier/tensor/elementwise.h"

/* Local. Fills cos and sin [context, head_dim / 2] by the config's RoPE type. */
void espl_model_fill_rope(const espl_model_config *c, int64_t context, espl_rope *r);

#endif
