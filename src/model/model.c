/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a model, and its linears.
 *
 * Every rank reads config.json and all headers itself rather than wait for rank 0: the files are small, and every check
 * then gives the same verdict everywhere. Of the weights a rank touches the pages of its own slice only.
 */
#include "espalier/model/model.h"

#include <inttypes.h>

#include "espalier/base/integer.h"
#include "espalier/base/region.h"
#include "espalier/model/calibration.h"
#include "espalier/model/shape.h"
#include "rope.h"
#include "stand_in.h"
#include "state.h"

/* m->config is read and m->weights is open. */
static espl_status model_open_local(espl_model *m, const char *dir) {
    int stages = m->grid->stages, stage = m->grid->stage;
    espl_range *slices;
    for (int k = 0; k < ESPL_LAYER_ROPES; k++) {
        const espl_rope_config *r = &m->config.rope[k];
        if (r->limit > 0 && m->options.context > r->limit)
            return ESPL_FAIL(ESPL_UNSUPPORTED,
                             "%s: rope_type \"%s\" is supported up to %" PRId64 " tokens, but a context of %" PRId64
                             " is wanted",
                             dir, espl_rope_type_name(r->type), r->limit, m->options.context);
    }
    ESPL_TRY(espl_mem_alloc(&slices, stages, sizeof *slices, "slices"));
    espl_status st = espl_model_partition(&m->config, m->options.context, stages, slices);
    m->slice = slices[stage];
    espl_mem_free(&slices);
    if (st != ESPL_OK) return st;
    m->first = stage == 0;
    m->last = stage == stages - 1;

    /* Buffers, all allocated now: a pass cannot run out of memory. */
    ESPL_TRY(espl_bind_name_tensors(m->weights, &m->config.notes));
    model_dims d = espl_model_dims(&m->config, &m->options, m->slice);
    espl_model_memory mem = espl_model_memory_used(m);
    ESPL_TRY(espl_arena_create(&m->activations, (size_t)mem.activations, "activations"));
    ESPL_TRY(espl_arena_create(&m->tables, (size_t)mem.tables, "model tables"));
    ESPL_TRY(espl_arena_create(&m->cache, (size_t)mem.kv_cache, "KV cache"));
    ESPL_TRY(espl_workspace_create(&m->workspace));
    ESPL_TRY(espl_mem_alloc(&m->layers, espl_range_count(m->slice), sizeof *m->layers, "layers"));
    m->kv = espl_arena_take(m->cache, (size_t)mem.kv_cache);
    if (!espl_model_carve(m->activations, &d, &m->b) || !m->kv ||
        !espl_model_fill_ropes(&m->config, m->options.context, m->tables, m->ropes))
        return ESPL_FAIL(ESPL_INTERNAL, "model buffers sized wrongly");

    /* Layers of other ranks are checked only. */
    binder b = {.config = &m->config, .weights = m->weights, .tables = m->tables};
    ESPL_TRY(espl_bind_ends(&b, m->first, m->last, &m->ends));
    for (int64_t i = 0; i < m->config.layers; i++) {
        bool mine = i >= m->slice.first && i < m->slice.last;
        ESPL_TRY(espl_bind_layer(&b, i, mine ? &m->layers[i - m->slice.first] : NULL));
    }
    m->mapped_bytes = b.bytes;
    /* Last: a missing tensor is a clearer message than an unexpected one. */
    return espl_bind_check_names(&b);
}

espl_status espl_model_open(espl_comm *comm, const char *dir, const espl_model_options *o, espl_model **out) {
    ESPL_REGION_SCOPE(ESPL_REGION_LOAD);
    espl_model *m;
    *out = NULL;
    espl_status st = espl_mem_alloc(&m, 1, sizeof *m, "model");
    if (st == ESPL_OK) {
        m->comm = comm;
        m->grid = espl_comm_grid(comm);
        m->options = *o;
        st = espl_model_config_read(dir, &m->config);
    }
    if (st == ESPL_OK) st = espl_weights_open(dir, &m->weights);
    if (st == ESPL_OK) st = model_open_local(m, dir);
    st = espl_comm_agree(comm, st);
    if (st == ESPL_OK)
        espl_model_config_log(&m->config);
    else
        espl_model_close(&m);
    *out = m;
    return st;
}

espl_status espl_model_open_stand_in(espl_comm *alone, const char *dir, int64_t layers, espl_dtype dtype,
                                     const espl_model_options *o, espl_model **out) {
    espl_model *m;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_mem_alloc(&m, 1, sizeof *m, "model"));
    m->comm = alone;
    m->grid = espl_comm_grid(alone);
    m->options = *o;
    ESPL_CHECK(st, done, espl_model_config_read(dir, &m->config));
    m->config.layers = espl_min_i64(layers, m->config.layers);
    espl_stand_in_narrow(&m->config);
    ESPL_CHECK(st, done, espl_stand_in_draw(&m->config, dtype, &m->drawn, &m->weights));
    st = model_open_local(m, dir);
done:
    if (st != ESPL_OK) espl_model_close(&m);
    *out = m;
    return st;
}

/* Also closes a model whose opening failed half-way. */
void espl_model_close(espl_model **mp) {
    if (!mp || !*mp) return;
    espl_model *m = *mp;
    espl_workspace_destroy(&m->workspace);
    espl_arena_destroy(&m->activations);
    espl_arena_destroy(&m->tables);
    espl_arena_destroy(&m->cache);
    espl_mem_free(&m->layers);
    espl_weights_close(&m->weights);
    espl_mem_free(&m->drawn);
    espl_model_config_free(&m->config);
    espl_mem_free(mp);
}

const espl_model_config *espl_model_config_of(const espl_model *m) { return &m->config; }

const espl_model_options *espl_model_options_of(const espl_model *m) { return &m->options; }

const espl_weights *espl_model_weights(const espl_model *m) { return m->weights; }

espl_range espl_model_slice(const espl_model *m) { return m->slice; }

espl_workspace *espl_model_workspace(const espl_model *m) { return m->workspace; }

espl_model_memory espl_model_memory_used(const espl_model *m) {
    espl_model_memory mem = espl_model_memory_of(&m->config, &m->options, m->slice, espl_tensor_threads(), 2);
    mem.weights = m->mapped_bytes; /* known exactly */
    return mem;
}

/* Taps are for tests, which compare every layer with transformers: a wrong layer then shows where it is wrong. */
void espl_model_set_tap(espl_model *m, espl_model_tap tap, void *context) {
    m->tap = tap;
    m->tap_context = context;
}

void espl_model_set_gradient_tap(espl_model *m, espl_model_tap tap, void *context) {
    m->gradient_tap = tap;
    m->gradient_context = context;
}

void espl_model_wait(const espl_model *m, espl_transfer *t) {
    ESPL_REGION_SCOPE(ESPL_REGION_TRANSFER);
    espl_comm_wait(m->grid->pipeline, t);
}

espl_status espl_model_check_ids(const espl_model *m, const char *what, const int32_t *ids, int64_t n, int32_t low) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < low || ids[i] >= m->config.vocab)
            return ESPL_FAIL(ESPL_USAGE, "%s id %d is outside the model's vocabulary of %" PRId64, what, ids[i],
                             m->config.vocab);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- linears */

espl_range espl_model_linears(const espl_model *m) {
    espl_layout l = espl_model_layout(&m->config);
    return (espl_range){espl_linear_index(l, m->slice.first, 0), espl_linear_index(l, m->slice.last, 0)};
}

/* The place of a linear in its layer. */
static int64_t place_of_linear(const espl_model *m, int64_t index) {
    return espl_linear_place_of(espl_model_layout(&m->config), index);
}

/* NULL if another rank has it. */
static model_layer *layer_of_linear(const espl_model *m, int64_t index) {
    int64_t layer = espl_linear_layer(espl_model_layout(&m->config), index);
    return layer >= m->slice.first && layer < m->slice.last ? &m->layers[layer - m->slice.first] : NULL;
}

const espl_linear *espl_model_linear(const espl_model *m, int64_t index) {
    const model_layer *l = layer_of_linear(m, index);
    return l ? &l->linears[place_of_linear(m, index)] : NULL;
}

/* An index of another rank is a bug of the caller: every rank knows its range (espl_model_linears). */
static espl_status require_layer(const espl_model *m, int64_t index, model_layer **l) {
    *l = layer_of_linear(m, index);
    if (*l) return ESPL_OK;
    return ESPL_FAIL(ESPL_INTERNAL, "linear %" PRId64 " is not in layers %" PRId64 " to %" PRId64 " of this rank",
                     index, m->slice.first, m->slice.last - 1);
}

espl_status espl_model_set_mask(espl_model *m, int64_t index, const uint64_t *mask) {
    model_layer *l;
    ESPL_TRY(require_layer(m, index, &l));
    l->linears[place_of_linear(m, index)].mask = mask;
    return ESPL_OK;
}

espl_status espl_model_set_weight(espl_model *m, int64_t index, const void *weight) {
    int64_t place = place_of_linear(m, index);
    model_layer *l;
    ESPL_TRY(require_layer(m, index, &l));
    l->linears[place].weight = weight ? weight : l->source[place];
    return ESPL_OK;
}
