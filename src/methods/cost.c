/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and FLOPs of a one-shot method.
 */
#include "espalier/methods/cost.h"
#include "espalier/model/block.h"
#include "espalier/model/shape.h"

int64_t espl_method_bytes(const espl_model_config *c, const espl_method_options *o, int rank, int ranks) {
    int64_t group = (o->samples + 31) / 32, groups = (o->samples + group - 1) / group, local = 0;
    for (int64_t g = rank; g < groups; g += ranks) local += espl_min_i64(group, o->samples - g * group);
    bool updating = o->update == ESPL_UPDATE_SPARSEGPT, rgs = !updating && o->score == ESPL_SCORE_RGS;
    bool grams = updating || o->allocation == ESPL_ALLOCATION_LSA || o->allocation == ESPL_ALLOCATION_LSA_LINEAR;
    int64_t q = c->heads * c->head_dim, layer = espl_model_layer_linear_weights(c), most = c->ffn * c->hidden;
    int64_t hessians = 2 * c->hidden * c->hidden + q * q + c->ffn * c->ffn;
    int64_t most_in = espl_max_i64(espl_max_i64(c->ffn, c->hidden), q);
    int64_t bytes = espl_block_bytes(c, o->window, rgs) + (local + rgs) * o->window * c->hidden * 4 + layer / 8;
    if (grams) bytes += hessians * 12 + most_in * most_in * 4 + most_in * 128 * 8;
    if (updating) bytes += layer * 4 + most * 4;
    if (rgs) bytes += layer * 12 + most * 4;
    if (o->score == ESPL_SCORE_GBLM && (!updating || o->allocation == ESPL_ALLOCATION_SEARCH))
        bytes += (c->layers + ranks - 1) / ranks * layer * 4;
    return bytes;
}

/* FLOPs of one token through layers 0 .. layers - 1 of a window. */
static double layers_flops(const espl_model_config *c, int64_t layers, int64_t window) {
    double sum = 0;
    for (int64_t i = 0; i < layers; i++) sum += espl_model_layer_flops(c, i, window);
    return sum;
}

double espl_method_flops(const espl_model_config *c, const espl_method_options *o) {
    double tokens = (double)(o->samples * o->window), all = layers_flops(c, c->layers, o->window);
    double flops = tokens * (all + layers_flops(c, c->layers - 1, o->window));
    if (o->allocation == ESPL_ALLOCATION_SEARCH)
        flops += (double)o->search_evaluations * tokens * (all + espl_model_head_flops(c));
    return flops;
}
