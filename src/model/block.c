/* One decoder layer at a time on any rank: a model of a single layer, borrowed from the real one, under the calibration
 * pass's forward and backward. */
#include "calibrate.h"

#include <string.h>

struct espl_block {
    espl_model shadow; /* the real model's ends and workspace; slice and layers are this block's */
    layer one;
    calibrator c;
    espl_arena *buffers, *tables;
    float *x; /* [T, hidden] scratch */
};

static calibration_dims dims_of(const espl_model_config *c, int64_t T, bool backward) {
    espl_calibration_options o = {.window = T, .forward = 1, .backward = backward};
    calibration_dims d = espl_calibration_dims_of(c, &o, (espl_range){0, 1}, 0, 2);
    d.several = d.last = false; /* nothing flows in or out, and there is no head */
    d.in_flight = d.partial = 0;
    return d;
}

int64_t espl_block_bytes(const espl_model_config *c, int64_t T, bool backward) {
    calibration_dims d = dims_of(c, T, backward);
    return espl_calibration_arena_bytes(&d) + espl_model_layer_tables(c);
}

static espl_status check_block(const espl_model *m, int64_t T, bool backward) {
    const espl_model_config *g = &m->config;
    espl_attention_shape shape = {.heads = g->heads, .kv_heads = g->kv_heads, .head_dim = g->head_dim};
    if (T < 2 || T > m->options.context)
        return ESPL_FAIL(ESPL_USAGE, "windows of %lld tokens, not of 2 to %lld", (long long)T,
                         (long long)m->options.context);
    if (backward && !espl_attention_backward_fits(&shape))
        return ESPL_FAIL(ESPL_UNSUPPORTED, "no backward pass for %lld query heads per key head of size %lld",
                         (long long)(shape.heads / shape.kv_heads), (long long)shape.head_dim);
    return ESPL_OK;
}

static espl_status prepare(espl_block *b, int64_t T, bool backward) {
    const espl_model_config *g = &b->shadow.config;
    b->c.d = dims_of(g, T, backward);
    ESPL_TRY(espl_arena_create(&b->buffers, (size_t)espl_calibration_arena_bytes(&b->c.d), "block buffers"));
    if (!espl_calibration_carve(b->buffers, &b->c.d, &b->c.b))
        return ESPL_FAIL(ESPL_INTERNAL, "block buffers sized wrongly");
    b->x = b->c.b.stream0;
    for (int64_t t = 0; t < T; t++) b->c.b.positions[t] = t;
    return ESPL_OK;
}

espl_status espl_block_create(const espl_model *m, int64_t T, bool backward, espl_block **out) {
    espl_block *b;
    *out = NULL;
    ESPL_TRY(check_block(m, T, backward));
    ESPL_TRY(espl_mem_alloc(&b, 1, sizeof *b, "block"));
    b->shadow = *m;
    b->shadow.layers = &b->one;
    b->shadow.tap = b->shadow.gradient_tap = NULL;
    b->c.m = &b->shadow;
    espl_status st = prepare(b, T, backward);
    if (st == ESPL_OK) st = espl_block_load(b, 0);
    if (st != ESPL_OK) espl_block_destroy(&b);
    *out = b;
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
        return ESPL_FAIL(ESPL_USAGE, "layer %lld of %lld", (long long)index, (long long)g->layers);
    espl_arena_destroy(&b->tables);
    ESPL_TRY(espl_arena_create(&b->tables, (size_t)espl_model_layer_tables(g), "block tables"));
    b->shadow.slice = (espl_range){index, index + 1};
    return espl_model_bind_layer(&b->shadow, index, b->tables, &b->one);
}

espl_linear *espl_block_linear(espl_block *b, espl_linear_kind kind) { return &b->one.linears[kind]; }

espl_status espl_block_embed(espl_block *b, const int32_t *ids, float *x) {
    const espl_model_config *g = &b->shadow.config;
    const int64_t dims[2] = {g->vocab, g->hidden};
    const espl_tensor_info *table;
    ESPL_TRY(espl_weights_require(b->shadow.weights, "model.embed_tokens.weight", 2, dims, &table));
    for (int64_t t = 0; t < b->c.d.T; t++)
        if (ids[t] < 0 || ids[t] >= g->vocab)
            return ESPL_FAIL(ESPL_USAGE, "token id %d is outside the model's vocabulary of %lld", ids[t],
                             (long long)g->vocab);
    espl_tensor_embed(table->data, table->dtype, g->hidden, ids, b->c.d.T, x);
    return ESPL_OK;
}

void espl_block_forward(espl_block *b, float *x) { espl_calibrate_layer_forward(&b->c, 0, x, false); }

void espl_block_inputs(espl_block *b, const float *x, const float *inputs[ESPL_LINEAR_KINDS]) {
    const calibration_buffers *s = &b->c.b;
    memcpy(b->x, x, (size_t)(b->c.d.T * b->c.d.C) * sizeof *x);
    espl_calibrate_trace(&b->c, 0, b->x);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) inputs[k] = s->normed;
    inputs[ESPL_O_PROJ] = s->attended;
    inputs[ESPL_GATE_PROJ] = inputs[ESPL_UP_PROJ] = s->middle_normed;
    inputs[ESPL_DOWN_PROJ] = s->product;
}

void espl_block_backward(espl_block *b, const float *x, float *dy, float *const squares[ESPL_LINEAR_KINDS]) {
    b->c.gradient_squares = squares;
    espl_calibrate_layer_backward(&b->c, 0, x, dy);
}
