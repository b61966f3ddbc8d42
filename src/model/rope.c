/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoPE tables: HF modeling_rope_utils.py (default, linear, llama3). Frequencies and angles are rounded to f32 where
 * transformers holds them in f32, since at position 2000 the rounding of an angle is visible in the logits.
 */
#include "rope.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925287;

/* Radians per position of feature pair j. */
static float rope_frequency(const espl_model_config *c, int64_t j) {
    double f = (float)(1.0 / pow(c->rope_theta, (double)(2 * j) / (double)c->head_dim));
    if (c->rope_type == ESPL_ROPE_LINEAR) f /= c->rope_factor;
    if (c->rope_type != ESPL_ROPE_LLAMA3) return (float)f;
    /* Llama 3.1: long waves are slowed down by `factor`, short ones kept, those between blended. */
    double original = (double)c->rope_original, wavelength = TWO_PI / f;
    if (wavelength < original / c->rope_high) return (float)f;
    if (wavelength > original / c->rope_low) return (float)(f / c->rope_factor);
    double smooth = (original / wavelength - c->rope_low) / (c->rope_high - c->rope_low);
    return (float)((1 - smooth) * f / c->rope_factor + smooth * f);
}

void espl_model_fill_rope(const espl_model_config *c, int64_t context, espl_rope *r) {
    int64_t half = c->head_dim / 2;
    r->head_dim = c->head_dim;
    for (int64_t j = 0; j < half; j++) {
        float f = rope_frequency(c, j);
        for (int64_t p = 0; p < context; p++) {
            double angle = (double)((float)p * f); /* the product in f32, cos and sin in double */
            r->cos[p * half + j] = (float)cos(angle);
            r->sin[p * half + j] = (float)sin(angle);
        }
    }
}
