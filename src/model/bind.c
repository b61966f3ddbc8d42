/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binding of tensors. Every rank checks the names and shapes of the whole model, which reads headers only, so that all
 * ranks refuse a wrong file alike. Matrices stay in the mapped file; norms and biases, which are small and used as f32,
 * are widened into tables.
 */
#include "bind.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/model/model.h"
#include "espalier/tensor/elementwise.h"

/* Widens vector `name` [n] into the tables; out NULL: only checks it. */
static espl_status bind_vector(binder *b, const char *name, int64_t n, float **out) {
    const espl_tensor_info *t;
    ESPL_TRY(espl_weights_require(b->weights, name, 1, &n, &t));
    if (!out) return ESPL_OK;
    *out = espl_arena_take(b->tables, (size_t)n * sizeof(float));
    if (!*out) return ESPL_FAIL(ESPL_INTERNAL, "model tables sized wrongly");
    espl_tensor_widen(t->data, t->dtype, n, *out);
    b->bytes += t->bytes;
    return ESPL_OK;
}

/* The same of a norm, which multiplies by norm_offset + weight. */
static espl_status bind_norm(binder *b, const char *name, int64_t n, float **out) {
    ESPL_TRY(bind_vector(b, name, n, out));
    for (int64_t i = 0; out && i < n; i++) (*out)[i] += (float)b->config->family->norm_offset;
    return ESPL_OK;
}

/* The router of layer i, and a clearer message for experts that are stored as one tensor. */
static espl_status bind_router(binder *b, int64_t i, model_layer *l) {
    const espl_model_config *c = b->config;
    const int64_t dims[2] = {c->experts, c->hidden};
    const espl_tensor_info *t;
    char name[ESPL_TENSOR_NAME_MAX];
    if (c->experts == 0) return ESPL_OK;
    snprintf(name, sizeof name, "model.layers.%" PRId64 ".mlp.experts.gate_up_proj", i);
    if (espl_weights_find(b->weights, name))
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: tensor \"%s\" holds all experts of a layer: load the model with transformers and save it "
                         "with save_pretrained(NEW_DIRECTORY), which writes a tensor for each",
                         espl_weights_find(b->weights, name)->file, name);
    snprintf(name, sizeof name, "model.layers.%" PRId64 ".mlp.gate.weight", i);
    ESPL_TRY(espl_weights_require(b->weights, name, 2, dims, &t));
    if (!l) return ESPL_OK;
    l->router = (espl_linear){.weight = t->data, .dtype = t->dtype, .out = dims[0], .in = dims[1]};
    b->bytes += t->bytes;
    return ESPL_OK;
}

espl_status espl_bind_layer(binder *b, int64_t i, model_layer *l) {
    const espl_model_config *c = b->config;
    espl_layer_norm norms[ESPL_LAYER_NORMS];
    int64_t linears = espl_layout_layer_linears(espl_model_layout(c));
    char name[ESPL_TENSOR_NAME_MAX];
    ESPL_TRY(bind_router(b, i, l));
    if (l) {
        l->linears = espl_arena_take(b->tables, (size_t)linears * sizeof *l->linears);
        l->source = espl_arena_take(b->tables, (size_t)linears * sizeof *l->source);
        if (!l->linears || !l->source) return ESPL_FAIL(ESPL_INTERNAL, "model tables sized wrongly");
    }
    for (int64_t k = 0; k < linears; k++) {
        espl_linear_place place = espl_model_linear_place(c, espl_linear_index(espl_model_layout(c), i, k));
        espl_linear_kind kind = espl_linear_kind_at(k);
        const espl_tensor_info *t;
        float *bias = NULL;
        int64_t out, in;
        espl_model_linear_shape(c, kind, &out, &in);
        ESPL_TRY(espl_weights_require(b->weights, place.name, 2, (const int64_t[]){place.rows, in}, &t));
        if (espl_model_linear_bias(c, kind)) {
            snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s.bias", i, espl_linear_path(kind));
            ESPL_TRY(bind_vector(b, name, out, l ? &bias : NULL));
        }
        if (!l) continue;
        int64_t row_bytes = in * (int64_t)espl_dtype_size(t->dtype);
        /* source: what espl_model_set_weight(NULL) goes back to. */
        l->source[k] = (const char *)t->data + place.first * row_bytes;
        l->linears[k] = (espl_linear){.weight = l->source[k], .dtype = t->dtype, .out = out, .in = in, .bias = bias};
        b->bytes += out * row_bytes;
    }
    if (l) memset(l->norms, 0, sizeof l->norms);
    espl_model_layer_norms(c, norms);
    for (int k = 0; k < ESPL_LAYER_NORMS; k++) {
        if (!norms[k].name) continue;
        snprintf(name, sizeof name, "model.layers.%" PRId64 ".%s.weight", i, norms[k].name);
        ESPL_TRY(bind_norm(b, name, norms[k].n, l ? &l->norms[k] : NULL));
    }
    return ESPL_OK;
}

static const char embed_name[] = "model.embed_tokens.weight", head_name[] = "lm_head.weight";

/* A tied model whose file has only the head embeds with it. */
espl_status espl_bind_embedding(const binder *b, const espl_tensor_info **out) {
    const int64_t dims[2] = {b->config->vocab, b->config->hidden};
    bool head_only =
        b->config->tied && !espl_weights_find(b->weights, embed_name) && espl_weights_find(b->weights, head_name);
    return espl_weights_require(b->weights, head_only ? head_name : embed_name, 2, dims, out);
}

/* The head is lm_head.weight if the file has it, else, if tied, the embedding table. transformers ties only if the two
 * are equal: with tie_word_embeddings and an lm_head.weight in the file it computes with that tensor. The scale of the
 * logits goes into the norm before the head: nothing else reads that norm's output. */
espl_status espl_bind_ends(binder *b, bool first, bool last, model_ends *e) {
    const int64_t dims[2] = {b->config->vocab, b->config->hidden};
    const espl_tensor_info *embed, *head;
    ESPL_TRY(espl_bind_embedding(b, &embed));
    head = embed;
    if (!b->config->tied || espl_weights_find(b->weights, head_name))
        ESPL_TRY(espl_weights_require(b->weights, head_name, 2, dims, &head));
    if (first) {
        e->embed = embed;
        b->bytes += embed->bytes;
    }
    if (last) { /* a table that embeds and is the head is mapped once */
        e->head = (espl_linear){.weight = head->data, .dtype = head->dtype, .out = dims[0], .in = dims[1]};
        b->bytes += first && head == embed ? 0 : head->bytes;
    }
    ESPL_TRY(bind_norm(b, "model.norm.weight", b->config->hidden, last ? &e->final_norm : NULL));
    if (last && b->config->logit_scale != 1)
        espl_tensor_scale(e->final_norm, (float)b->config->logit_scale, b->config->hidden);
    return ESPL_OK;
}

static bool name_known(const espl_model_config *c, const char *full) {
    static const char prefix[] = "model.layers.";
    espl_layer_norm norms[ESPL_LAYER_NORMS];
    char name[ESPL_TENSOR_NAME_MAX];
    /* Old exporters stored tables beside the weights (inv_freq, cos_cached ...); they are computed from the config. */
    if (strstr(full, ".rotary_emb.")) return true;
    if (strncmp(full, prefix, sizeof prefix - 1) != 0)
        return strcmp(full, embed_name) == 0 || strcmp(full, "model.norm.weight") == 0 || strcmp(full, head_name) == 0;
    if (espl_model_tensor_linear(c, full) >= 0) return true;
    char *end;
    long long i = strtoll(full + sizeof prefix - 1, &end, 10);
    if (*end != '.' || i < 0 || i >= c->layers) return false;
    const char *rest = end + 1;
    if (c->experts > 0 && strcmp(rest, "mlp.gate.weight") == 0) return true;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        snprintf(name, sizeof name, "%s.bias", espl_linear_path((espl_linear_kind)k));
        if (strcmp(rest, name) == 0) return espl_model_linear_bias(c, (espl_linear_kind)k);
    }
    espl_model_layer_norms(c, norms);
    for (int k = 0; k < ESPL_LAYER_NORMS; k++) {
        snprintf(name, sizeof name, "%s.weight", norms[k].name ? norms[k].name : "");
        if (norms[k].name && strcmp(rest, name) == 0) return true;
    }
    return false;
}

espl_status espl_bind_check_names(const binder *b) {
    for (int64_t i = 0; i < espl_weights_count(b->weights); i++) {
        const espl_tensor_info *t = espl_weights_at(b->weights, i);
        if (!name_known(b->config, t->name))
            return ESPL_FAIL(ESPL_FORMAT,
                             "%s: unexpected tensor \"%s\": a %s model of %" PRId64 " layers has no such tensor",
                             t->file, t->name, b->config->family->type, b->config->layers);
    }
    return ESPL_OK;
}

int64_t espl_bind_layer_bytes(const espl_model_config *c) {
    enum {
        PIECE = 64,
        PIECES = ESPL_LAYER_NORMS + ESPL_LINEAR_KINDS + 2
    };                                       /* each may be padded to the arena's alignment */
    int64_t router = c->experts * c->hidden; /* stays in the file */
    int64_t vectors = espl_model_layer_parameters(c) - espl_model_layer_linear_weights(c) - router;
    int64_t linears = espl_layout_layer_linears(espl_model_layout(c));
    return vectors * (int64_t)sizeof(float) + linears * (int64_t)(sizeof(espl_linear) + sizeof(void *)) +
           PIECES * PIECE;
}

/* Weights that were saved from the model below the head are named "layers.0..." instead of "model.layers.0...". */
espl_status espl_bind_name_tensors(espl_weights *w, espl_str *notes) {
    static const char norm[] = "norm.weight", prefix[] = "model.";
    if (!espl_weights_find(w, norm)) return ESPL_OK; /* every model has one */
    for (int64_t i = 0; i < espl_weights_count(w); i++)
        if (strncmp(espl_weights_at(w, i)->name, prefix, sizeof prefix - 1) == 0) return ESPL_OK;
    espl_str_printf(notes, "%s: the names of its tensors lack \"model.\", as the base model saves them\n",
                    espl_weights_shard_path(w, 0));
    return espl_weights_add_prefix(w, prefix, "lm_head.weight");
}

espl_status espl_model_check_weights(espl_model_config *c, espl_weights *w) {
    binder b = {.config = c, .weights = w};
    ESPL_TRY(espl_bind_name_tensors(w, &c->notes));
    ESPL_TRY(espl_bind_ends(&b, false, false, NULL));
    for (int64_t i = 0; i < c->layers; i++) ESPL_TRY(espl_bind_layer(&b, i, NULL));
    return espl_bind_check_names(&b);
}
