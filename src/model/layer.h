/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: one decoder layer of the forward pass. */
#ifndef ESPL_MODEL_LAYER_H
#define ESPL_MODEL_LAYER_H

#include "espalier/model/forward.h"

/* Local. Runs the micro-batch x [T, hidden] through a layer of this rank's slice (counted from 0), in place. Uses the
 * model's buffers; positions [T] must be set. */
void espl_model_layer_forward(espl_model *m, int64_t local_layer, const espl_batch *batch, float *x, int64_t T);

#endif
