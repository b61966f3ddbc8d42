/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer at a time on any rank: a model of a single layer, copied from the real one, under the forward and
 * backward functions of calibration. They see no difference, so a block computes the same bits as the pipeline.
 */
#include "espalier/model/block.h"

#include <inttypes.h>
#include <string.h>

#include "calibrator.h"
#include "layer.h"

struct espl_block {
    espl_model shadow; /* the real model's config, RoPE tables and workspace; slice and layers are this block's */
    model_layer one;
    calibrator c;
    espl_arena *buffers, *tables;
};

/* Nothing flows in or out, and there is no head: stage 0 of 2 without transfers. */
static calibration_dims block_dims(const espl_model_config *c, int64_t T, bool backward) {
    espl_calibration_options o = {.window = T, .forward = 1, .backward = backward};
    const espl_grid grid = {.replicas = 1, .stages = 2, .members = 1};
    calibration_dims d = espl_calibration_dims_of(c, &o, (espl_range){0, 1}, &grid);
    d.several = d.last = false;
    d.in_flight = d.partial = 0;
    d.stride = d.block_stride = d.output_stride = d.linears = d.weights = 0; /* the caller sums */
    return d;
}

int64_t espl_block_bytes(const espl_model_config *c, int64_t T, bool backward) {
    calibration_dims d = block_dims(c, T, backward);
    return espl_calibration_arena_bytes(&d) + espl_bind_layer_bytes(c);
}

espl_status espl_block_create(const espl_model *m, int64_t T, bool backward, espl_block **out) {
    espl_block *b;
    espl_status st;
    *out = NULL;
    if (T < 2 || T > m->options.context)
        return ESPL_FAIL(ESPL_USAGE, "windows of %" PRId64 " tokens, expected 2 to %" PRId64, T, m->options.context);
    if (backward) ESPL_TRY(espl_calibration_check_backward(m));
    ESPL_TRY(espl_mem_alloc(&b, 1, sizeof *b, "block"));
    b->shadow = *m; /* the original stays as it is: masks set on a block do not reach it */
    b->shadow.layers = &b->one;
    b->shadow.tap = b->shadow.gradient_tap = NULL;
    b->c.m = &b->shadow;
    b->c.d = block_dims(&m->config, T, backward);
    b->c.team = espl_team_of(NULL, 0, 1, T);
    ESPL_CHECK(st, failed, espl_calibration_buffers_create(&b->c.d, &b->c.team, &b->buffers, &b->c.b));
    ESPL_CHECK(st, failed, espl_block_load(b, 0));
    *out = b;
    return ESPL_OK;
failed:
    espl_block_destroy(&b);
    return st;
}

void espl_block_destroy(espl_block **b) {
    if (!b || !*b) return;
    espl_arena_destroy(&(*b)->buffers);
    espl_arena_destroy(&(*b)->tables);
    espl_mem_free(b);
}

espl_status espl_block_load(espl_block *b, int64_t index) {
    const espl_model_config *g = &b->shadow.config;
    if (index < 0 || index >= g->layers)
        return ESPL_FAIL(ESPL_USAGE, "layer %" PRId64 " of %" PRId64, index, g->layers);
    espl_arena_destroy(&b->tables);
    ESPL_TRY(espl_arena_create(&b->tables, (size_t)espl_bind_layer_bytes(g), "block tables"));
    b->shadow.slice = (espl_range){index, index + 1};
    binder bind = {.config = g, .weights = b->shadow.weights, .tables = b->tables};
    return espl_bind_layer(&bind, index, &b->one);
}

/* Not const: the caller sets masks and weights. */
espl_linear *espl_block_linear(espl_block *b, int64_t at) { return &b->one.linears[at]; }

espl_status espl_block_embed(espl_block *b, const int32_t *ids, float *x) {
    const binder bind = {.config = &b->shadow.config, .weights = b->shadow.weights};
    const espl_tensor_info *table; /* of the file: only the first rank has it bound */
    ESPL_TRY(espl_bind_embedding(&bind, &table));
    ESPL_TRY(espl_model_check_ids(&b->shadow, "token", ids, b->c.d.T, 0));
    espl_layer_embed(&b->shadow, table, ids, b->c.d.T, x);
    return ESPL_OK;
}

void espl_block_forward(espl_block *b, float *x) { espl_calibrate_layer_forward(&b->c, 0, x, false); }

/* Where the buffers hold the inputs of the linears. */
static void block_point_at(const espl_block *b, espl_block_input *inputs) {
    const calibration_buffers *s = &b->c.b;
    for (int k = 0; k < ESPL_GATE_PROJ; k++)
        inputs[k] = (espl_block_input){k == ESPL_O_PROJ ? s->attended : s->normed, b->c.d.T};
    for (int64_t e = 0; e < espl_layout_mlps(espl_model_layout(&b->shadow.config)); e++) {
        mlp_rows rows = espl_calibrate_mlp(&b->c, e);
        for (int k = ESPL_GATE_PROJ; k < ESPL_LINEAR_KINDS; k++)
            inputs[espl_linear_at((espl_linear_kind)k, e)] =
                (espl_block_input){k == ESPL_DOWN_PROJ ? rows.product : rows.in, rows.n};
    }
}

void espl_block_inputs(espl_block *b, const float *x, espl_block_input *inputs) {
    float *stream = b->c.b.stream0;
    memcpy(stream, x, (size_t)(b->c.d.T * b->c.d.C) * sizeof *x); /* tracing changes its input */
    espl_calibrate_trace(&b->c, 0, stream);
    block_point_at(b, inputs);
}

void espl_block_trace(espl_block *b, espl_block_stage stage, const float *x, espl_block_input *inputs) {
    bool attention = stage == ESPL_BLOCK_QKV || stage == ESPL_BLOCK_O;
    if (attention)
        espl_calibrate_attention(&b->c, 0, x, stage == ESPL_BLOCK_QKV);
    else
        espl_calibrate_feed(&b->c, 0, x, stage == ESPL_BLOCK_GATE_UP);
    block_point_at(b, inputs);
}

void espl_block_add(espl_block *b, espl_block_stage stage, float *x) {
    if (stage == ESPL_BLOCK_O)
        espl_calibrate_add_attention(&b->c, 0, x);
    else
        espl_calibrate_add_feed(&b->c, 0, x);
}

void espl_block_backward(espl_block *b, const float *x, float *dy, float *const *squares) {
    b->c.gradient_squares = squares;
    espl_calibrate_layer_backward(&b->c, 0, x, dy);
}
