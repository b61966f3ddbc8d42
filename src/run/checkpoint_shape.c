/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint's shape from a model's configuration.
 */
#include "espalier/run/checkpoint_shape.h"

#include "espalier/model/shape.h"

espl_checkpoint_shape espl_run_checkpoint_shape(const espl_model_config *c, espl_range slice) {
    espl_checkpoint_shape s = {.layers = c->layers, .experts = c->experts, .slice = slice};
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) espl_model_linear_shape(c, (espl_linear_kind)k, &s.out[k], &s.in[k]);
    return s;
}
