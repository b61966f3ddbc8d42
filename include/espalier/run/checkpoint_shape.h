/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shape of a model as the checkpoint room sees it. Rooms model and checkpoint do not know each other; they meet
 * here.
 */
#ifndef ESPALIER_RUN_CHECKPOINT_SHAPE_H
#define ESPALIER_RUN_CHECKPOINT_SHAPE_H

#include "espalier/checkpoint.h"
#include "espalier/model/config.h"

/* Local. The shape of a model of this configuration. slice: this rank's layers; {0, 0} where no data is transferred. */
espl_checkpoint_shape espl_run_checkpoint_shape(const espl_model_config *c, espl_range slice);

#endif
