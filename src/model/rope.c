/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoPE tables: HF modeling_rope_utils.py (default, linear, llama3; longrope and yarn as divisors). Frequencies and
 * angles are rounded to f32 where transformers holds them in f32, since at position 2000 the rounding of an angle is
 * visible in the logits.
 */
#include "rope.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925287;

/* Radians per position of feature pair j. */
static float rope_frequency(const espl_rope_config *r, int64_t rotary, int64_t j) {
    double f = (float)(1.0 / pow(r->theta, (double)(2 * j) / (double)rotary));
    if (r->divisors) f = (float)(1.0 / (r->divisors[j] * pow(r->theta, (double)(2 * j) / (double)rotary)));
    if (r->type == ESPL_ROPE_LINEAR) f /= r->factor;
    if (r->type != ESPL_ROPE_LLAMA3) return (float)f;
    /* Llama 3.1: long waves are slowed down by `factor`, short ones kept, those between blended. */
    double original = (double)r->original, wavelength = TWO_PI / f;
    if (wavelength < original / r->high) return (float)f;
    if (wavelength > original / r->low) return (float)(f / r->factor);
    double smooth = (original / wavelength - r->low) / (r->high - r->low);
    return (float)((1 - smooth) * f / r->factor + smooth * f);
}

static bool rope_is_used(const espl_model_config *c, int which) {
    for (int64_t i = 0; i < c->layers; i++)
        if (c->layer_ropes[i] == which) return true;
    return false;
}

int64_t espl_model_rope_bytes(const espl_model_config *c, int64_t context) {
    size_t table = espl_arena_piece((size_t)(context * c->rotary / 2) * sizeof(float));
    int64_t bytes = 0;
    for (int k = 0; k < ESPL_LAYER_ROPES; k++)
        if (rope_is_used(c, k)) bytes += 2 * (int64_t)table;
    return bytes;
}

bool espl_model_fill_ropes(const espl_model_config *c, int64_t context, espl_arena *arena, espl_rope *ropes) {
    int64_t half = c->rotary / 2;
    size_t table = (size_t)(context * half) * sizeof(float);
    for (int k = 0; k <= ESPL_LAYER_ROPES; k++) {
        ropes[k] = (espl_rope){.head_dim = c->head_dim, .rotary = c->rotary};
        if (k == ESPL_LAYER_ROPE_NONE || !rope_is_used(c, k)) continue;
        float *cosine = espl_arena_take(arena, table), *sine = espl_arena_take(arena, table);
        if (!cosine || !sine) return false;
        float attention = c->rope[k].attention > 0 ? (float)c->rope[k].attention : 1;
        for (int64_t j = 0; j < half; j++) {
            float f = rope_frequency(&c->rope[k], c->rotary, j);
            for (int64_t p = 0; p < context; p++) {
                double angle = (double)((float)p * f); /* the product in f32, cos and sin in double */
                cosine[p * half + j] = (float)cos(angle) * attention;
                sine[p * half + j] = (float)sin(angle) * attention;
            }
        }
        ropes[k].cos = cosine;
        ropes[k].sin = sine;
    }
    return true;
}
