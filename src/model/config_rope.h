/* SPDX-License-Identifier: Apache-2.0 */
/* Private to the model room: RoPE in config.json. */
#ifndef ESPL_MODEL_CONFIG_ROPE_H
#define ESPL_MODEL_CONFIG_ROPE_H

#include "config_keys.h"

/* Local. Reads c->rope and c->rotary; the sizes must be known. ESPL_FORMAT, ESPL_UNSUPPORTED. */
espl_status espl_config_read_rope(const cJSON *doc, const char *name, espl_model_config *c);

#endif
