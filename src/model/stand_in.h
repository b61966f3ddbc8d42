/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: weights for a model that is only to be timed. */
#ifndef ESPL_MODEL_STAND_IN_H
#define ESPL_MODEL_STAND_IN_H

#include "espalier/model/config.h"
#include "espalier/weights/reader.h"

/* Local. Narrows the config to what a stand-in has at most. */
void espl_stand_in_narrow(espl_model_config *c);
/* Local. Draws all tensors of a model of this config, as a safetensors file in memory: *bytes, owned by the caller, who
 * keeps it while *out is open. ESPL_NOMEM. */
espl_status espl_stand_in_draw(const espl_model_config *c, espl_dtype dtype, void **bytes, espl_weights **out);

#endif
