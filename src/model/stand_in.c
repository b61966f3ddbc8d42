/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model with drawn weights. It takes the way of a real one, as a safetensors file, so that any family that can be
 * read can be drawn: names and shapes are those that the binder asks for.
 */
#include "stand_in.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"
#include "espalier/model/model.h"
#include "espalier/model/shape.h"

void espl_stand_in_narrow(espl_model_config *c) {
    int64_t queries = c->heads / c->kv_heads; /* of a key */
    int64_t keys = ESPL_STAND_IN_HIDDEN / (c->head_dim * queries);
    c->kv_heads = espl_max_i64(1, espl_min_i64(c->kv_heads, keys));
    c->heads = c->kv_heads * queries;
    c->hidden = espl_min_i64(c->hidden, ESPL_STAND_IN_HIDDEN);
    c->ffn = espl_min_i64(c->ffn, ESPL_STAND_IN_FFN);
    c->vocab = espl_min_i64(c->vocab, ESPL_STAND_IN_VOCAB);
    c->experts = espl_min_i64(c->experts, 2 * c->experts_per_token);
}

/* A file being laid out: its header, and the bytes of the tensors so far. */
typedef struct stand_in {
    espl_dtype dtype;
    espl_str header;
    espl_json_writer json;
    int64_t bytes;
} stand_in;

/* Adds a tensor of [rows, columns], or of [columns] with rows 0. */
static void stand_in_add(stand_in *s, const char *name, int64_t rows, int64_t columns) {
    int64_t bytes = espl_max_i64(rows, 1) * columns * (int64_t)espl_dtype_size(s->dtype);
    espl_json_open_object(&s->json, name, ESPL_JSON_COMPACT);
    espl_json_put_text(&s->json, "dtype", espl_dtype_name(s->dtype));
    espl_json_open_array(&s->json, "shape", ESPL_JSON_COMPACT);
    if (rows > 0) espl_json_put_i64(&s->json, NULL, rows);
    espl_json_put_i64(&s->json, NULL, columns);
    espl_json_close(&s->json);
    espl_json_open_array(&s->json, "data_offsets", ESPL_JSON_COMPACT);
    espl_json_put_i64(&s->json, NULL, s->bytes);
    espl_json_put_i64(&s->json, NULL, s->bytes + bytes);
    espl_json_close(&s->json);
    espl_json_close(&s->json);
    s->bytes += bytes;
}

static void stand_in_add_layer(stand_in *s, const espl_model_config *c, int64_t layer) {
    espl_layer_norm norms[ESPL_LAYER_NORMS];
    char name[ESPL_TENSOR_NAME_MAX];
    espl_layout layout = espl_model_layout(c);
    for (int64_t at = 0; at < espl_layout_layer_linears(layout); at++) {
        espl_linear_place place = espl_model_linear_place(c, espl_linear_index(layout, layer, at));
        espl_linear_kind k = espl_linear_kind_at(at);
        int64_t out, in;
        espl_model_linear_shape(c, k, &out, &in);
        if (place.first == 0) stand_in_add(s, place.name, place.rows, in); /* else a part of an earlier tensor */
        snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s.bias", layer, espl_linear_path(k));
        if (espl_model_linear_bias(c, k)) stand_in_add(s, name, 0, out);
    }
    snprintf(name, sizeof name, "model.layers.%" PRId64 ".mlp.gate.weight", layer);
    if (c->experts > 0) stand_in_add(s, name, c->experts, c->hidden);
    espl_model_layer_norms(c, norms);
    for (int k = 0; k < ESPL_LAYER_NORMS; k++) {
        snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s.weight", layer, norms[k].name ? norms[k].name : "");
        if (norms[k].name) stand_in_add(s, name, 0, norms[k].n);
    }
}

/* Values of both signs around 1/32, which no sum of products overflows. A short period is enough: what is timed depends
 * on the places, not on the values. */
static void stand_in_fill(void *data, int64_t n, espl_dtype dtype) {
    enum { PERIOD = 4093 }; /* prime: rows differ */
    static const float SIZE = 1.0f / 16;
    float values[PERIOD];
    espl_rng rng;
    espl_rng_seed(&rng, 1, 0, 0);
    for (int64_t i = 0; i < PERIOD; i++) values[i] = SIZE * ((float)espl_rng_uniform(&rng) - 0.5f);
    for (int64_t at = 0; at < n; at += PERIOD)
        espl_tensor_narrow(values, espl_min_i64(PERIOD, n - at), dtype,
                           (char *)data + at * (int64_t)espl_dtype_size(dtype));
}

espl_status espl_stand_in_draw(const espl_model_config *c, espl_dtype dtype, void **bytes, espl_weights **out) {
    enum { LENGTH_BYTES = 8 };
    stand_in s = {.dtype = dtype};
    char *file = NULL;
    espl_status st;
    *out = NULL;
    s.json = espl_json_writer_on(&s.header);
    espl_json_open_object(&s.json, NULL, ESPL_JSON_COMPACT);
    stand_in_add(&s, "model.embed_tokens.weight", c->vocab, c->hidden);
    if (!c->tied) stand_in_add(&s, "lm_head.weight", c->vocab, c->hidden);
    stand_in_add(&s, "model.norm.weight", 0, c->hidden);
    for (int64_t i = 0; i < c->layers; i++) stand_in_add_layer(&s, c, i);
    espl_json_close(&s.json);
    while (s.header.len % LENGTH_BYTES != 0) espl_str_puts(&s.header, " "); /* aligns the data */
    ESPL_CHECK(st, done, espl_str_status(&s.header));
    ESPL_CHECK(st, done,
               espl_mem_alloc(&file, LENGTH_BYTES + s.header.len + s.bytes, 1, "a stand-in for the model's weights"));
    for (int i = 0; i < LENGTH_BYTES; i++) file[i] = (char)((uint64_t)s.header.len >> (8 * i));
    memcpy(file + LENGTH_BYTES, s.header.data, (size_t)s.header.len);
    stand_in_fill(file + LENGTH_BYTES + s.header.len, s.bytes / (int64_t)espl_dtype_size(dtype), dtype);
    *bytes = file;
    st = espl_weights_open_memory(file, LENGTH_BYTES + s.header.len + s.bytes, "stand-in", out);
done:
    espl_str_free(&s.header);
    return st;
}
