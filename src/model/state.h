/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the model room: an open model. The files of the room, lowest layer first: family, config_keys,
 * config_rope, config, shape, rope; bind, memory; stand_in (drawn weights), model (opening, linears), sampling,
 * tensor_hashes; masks, experts (tokens on their way to them), layer (one decoder layer forward, and its parts);
 * forward (pipeline); team (a window shared by tokens), calibrator_buffers, calibration (its result), calibrate_layer
 * (one layer with its backward pass), block, calibrate (pipeline).
 */
#ifndef ESPL_MODEL_STATE_H
#define ESPL_MODEL_STATE_H

#include "bind.h"
#include "buffers.h"
#include "espalier/model/forward.h"
#include "espalier/tensor/elementwise.h"
#include "espalier/tensor/route.h"

struct espl_model {
    espl_comm *comm; /* borrowed; replicas of the model on a grid of ranks */
    const espl_grid *grid;
    espl_model_config config;
    espl_model_options options;
    espl_range slice;
    bool first, last; /* this rank embeds; it holds the head */
    espl_weights *weights;
    void *drawn; /* a stand-in's weights, as a file in memory; else NULL */
    model_ends ends;
    model_layer *layers;                   /* [slice] */
    espl_rope ropes[ESPL_LAYER_ROPES + 1]; /* by espl_layer_rope */
    float *kv;                             /* [slots][slice][2][kv_heads][context][head_dim] */
    model_buffers b;
    espl_workspace *workspace;
    espl_arena *activations, *tables, *cache;
    int64_t mapped_bytes;
    espl_transfer sends[STREAMS], receives[STREAMS]; /* of the forward pass */
    espl_model_tap tap, gradient_tap;
    void *tap_context, *gradient_context;
};

/* Local. The shape of attention in a layer of this rank's slice, counted from 0. */
static inline espl_attention_shape espl_model_attention_shape(const espl_model *m, int64_t local_layer) {
    const espl_model_config *c = &m->config;
    return (espl_attention_shape){.heads = c->heads,
                                  .kv_heads = c->kv_heads,
                                  .head_dim = c->head_dim,
                                  .window = c->slides[m->slice.first + local_layer] ? c->window : 0,
                                  .scale = (float)c->attention_scale};
}

/* Local. Waits for a transfer, on the time of ESPL_REGION_TRANSFER. */
void espl_model_wait(const espl_model *m, espl_transfer *t);
/* Local. Refuses ids [n] outside low .. vocab - 1: ESPL_USAGE with `what` they are. */
espl_status espl_model_check_ids(const espl_model *m, const char *what, const int32_t *ids, int64_t n, int32_t low);

#endif
