/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Picking the next token from logits. Local.
 */
#ifndef ESPALIER_MODEL_SAMPLING_H
#define ESPALIER_MODEL_SAMPLING_H

#include <stdint.h>

#include "espalier/base/rng.h"

typedef struct espl_sampling {
    double temperature; /* 0: greedy, the lowest id among equals */
    double top_p;       /* nucleus (Holtzman et al. 2020); 1: all tokens */
} espl_sampling;

/* Picks a token from logits [vocab]. Draws one number from rng unless greedy. scratch [vocab]. */
int32_t espl_model_sample(const float *logits, int64_t vocab, const espl_sampling *s, espl_rng *rng, int32_t *scratch);

#endif
