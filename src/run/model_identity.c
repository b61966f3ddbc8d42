/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identity of a model. Masks fit every model of the same shape, so nothing but this tells a model that was
 * repaired, fine-tuned or given another configuration from the one that they were made for.
 */
#include "espalier/run/model_identity.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

#include "espalier/base/json.h"
#include "espalier/model/shape.h"
#include "hash_cache.h"

static const int64_t TOKENIZER_BYTES_MAX = (int64_t)1 << 30;

/* Tensors of one group have one hash. LINEARS is the only one that versions before 2026-11 stored; its definition must
 * stay, or their checkpoints could not be compared at all. */
typedef enum identity_group { LINEARS, EMBEDDING, HEAD, NORMS, BIASES, OTHERS, IDENTITY_GROUPS } identity_group;
static const char *const group_names[IDENTITY_GROUPS] = {"weights", "embedding", "head",
                                                         "norms",   "biases",    "other_tensors"};

static bool identity_ends_with(const char *name, const char *suffix) {
    size_t n = strlen(name), k = strlen(suffix);
    return n >= k && strcmp(name + n - k, suffix) == 0;
}

/* The group of a tensor; *linear: its index if it is a linear's weight, or the first one's whose weights it stores. */
static identity_group identity_group_of(const espl_model_config *c, const char *name, int64_t *linear) {
    *linear = espl_model_tensor_linear(c, name);
    if (*linear >= 0) return LINEARS;
    if (strcmp(name, "model.embed_tokens.weight") == 0) return EMBEDDING;
    if (strcmp(name, "lm_head.weight") == 0) return HEAD;
    if (identity_ends_with(name, "norm.weight")) return NORMS;
    return identity_ends_with(name, ".bias") ? BIASES : OTHERS;
}

/* Rank 0 only. Puts a hash per group, and one of the names, dtypes and shapes of all tensors: equal bytes of another
 * dtype are other weights. */
static espl_status identity_put_tensors(espl_json_writer *w, const espl_model *m, const uint64_t *hashes) {
    const espl_weights *tensors = espl_model_weights(m);
    const espl_model_config *c = espl_model_config_of(m);
    int64_t linears = espl_model_linears_of(c);
    uint64_t groups[IDENTITY_GROUPS] = {0}, headers = 0, *of_linears;
    ESPL_TRY(espl_mem_alloc(&of_linears, linears, sizeof *of_linears, "weight hashes"));
    for (int64_t i = 0; i < espl_weights_count(tensors); i++) {
        const espl_tensor_info *t = espl_weights_at(tensors, i);
        const char *dtype = espl_dtype_name(t->dtype);
        int64_t linear;
        identity_group g = identity_group_of(c, t->name, &linear);
        headers = espl_hash64(t->name, (int64_t)strlen(t->name), headers);
        headers = espl_hash64(dtype, (int64_t)strlen(dtype), headers);
        headers = espl_hash64(t->dims, t->n_dims * (int64_t)sizeof *t->dims, headers);
        if (linear >= 0)
            of_linears[linear] = hashes[i];
        else
            groups[g] = espl_hash64(&hashes[i], sizeof hashes[i], groups[g]);
    }
    groups[LINEARS] = espl_hash64(of_linears, linears * (int64_t)sizeof *of_linears, 0);
    for (int g = 0; g < IDENTITY_GROUPS; g++) espl_json_put_printf(w, group_names[g], "%016" PRIx64, groups[g]);
    espl_json_put_printf(w, "tensors", "%016" PRIx64, headers);
    espl_mem_free(&of_linears);
    return ESPL_OK;
}

/* What only some families have. */
static void identity_put_variants(espl_json_writer *w, const espl_model_config *c) {
    const espl_rope_config *r = &c->rope[ESPL_LAYER_ROPE_LOCAL];
    uint64_t divisors = 0;
    espl_json_put_i64(w, "activation", c->activation);
    if (c->experts > 0) {
        espl_json_put_i64(w, "num_experts", c->experts);
        espl_json_put_i64(w, "num_experts_per_tok", c->experts_per_token);
        espl_json_put_bool(w, "norm_topk_prob", c->experts_normed);
    }
    espl_json_put_f64(w, "embedding_scale", c->embedding_scale);
    espl_json_put_f64(w, "attention_scale", c->attention_scale);
    espl_json_put_f64(w, "residual_scale", c->residual_scale);
    espl_json_put_f64(w, "logit_scale", c->logit_scale);
    espl_json_put_i64(w, "rotary", c->rotary);
    espl_json_put_printf(w, "layer_ropes", "%016" PRIx64, espl_hash64(c->layer_ropes, c->layers, 0));
    espl_json_put_i64(w, "local_rope_type", r->type);
    espl_json_put_f64(w, "local_rope_theta", r->theta);
    espl_json_put_f64(w, "local_rope_factor", r->factor);
    for (int k = 0; k < ESPL_LAYER_ROPES; k++) {
        r = &c->rope[k];
        espl_json_put_f64(w, k ? "local_rope_attention" : "rope_attention", r->attention);
        if (r->divisors) divisors = espl_hash64(r->divisors, c->rotary / 2 * (int64_t)sizeof *r->divisors, divisors);
    }
    espl_json_put_printf(w, "rope_divisors", "%016" PRIx64, divisors);
}

/* Every member of espl_model_config, but for max_positions and bos, which change no logit: what they do to prompts
 * shows in the hashes of the prompts. The first four are those that versions before 2026-11 stored. */
static void identity_put_config(espl_json_writer *w, const espl_model_config *c) {
    const espl_rope_config *r = &c->rope[ESPL_LAYER_ROPE_GLOBAL];
    uint64_t slides = c->window > 0 ? espl_hash64(c->slides, c->layers * (int64_t)sizeof *c->slides, 0) : 0;
    espl_json_put_text(w, "model_type", c->family->type);
    espl_json_put_i64(w, "layers", c->layers);
    espl_json_put_i64(w, "hidden", c->hidden);
    espl_json_put_i64(w, "vocab", c->vocab);
    espl_json_put_i64(w, "intermediate_size", c->ffn);
    espl_json_put_i64(w, "num_attention_heads", c->heads);
    espl_json_put_i64(w, "num_key_value_heads", c->kv_heads);
    espl_json_put_i64(w, "head_dim", c->head_dim);
    espl_json_put_f64(w, "rms_norm_eps", c->rms_eps);
    espl_json_put_bool(w, "tie_word_embeddings", c->tied);
    espl_json_put_bool(w, "qkv_bias", c->qkv_bias);
    espl_json_put_bool(w, "o_bias", c->o_bias);
    espl_json_put_bool(w, "mlp_bias", c->mlp_bias);
    espl_json_put_bool(w, "qk_norm", c->family->qk_norm != ESPL_QK_NORM_NONE);
    espl_json_put_i64(w, "sliding_window", c->window);
    espl_json_put_printf(w, "layer_types", "%016" PRIx64, slides);
    espl_json_put_i64(w, "rope_type", r->type);
    espl_json_put_f64(w, "rope_theta", r->theta);
    espl_json_put_f64(w, "rope_factor", r->factor);
    espl_json_put_f64(w, "low_freq_factor", r->low);
    espl_json_put_f64(w, "high_freq_factor", r->high);
    espl_json_put_i64(w, "original_max_position_embeddings", r->original);
    espl_json_put_printf(w, "eos_token_id", "%016" PRIx64, espl_hash64(c->eos, c->n_eos * (int64_t)sizeof *c->eos, 0));
    identity_put_variants(w, c);
}

/* Rank 0 only. The file's bytes, not what they mean: two texts may mean the same tokenizer, but that would have to be
 * proven. */
static espl_status identity_put_tokenizer(espl_json_writer *w, const char *dir) {
    espl_str path = {0};
    char *bytes = NULL;
    int64_t len;
    espl_status st;
    espl_str_printf(&path, "%s/tokenizer.json", dir);
    ESPL_CHECK(st, done, espl_str_status(&path));
    ESPL_CHECK(st, done, espl_file_read_regular(path.data, TOKENIZER_BYTES_MAX, &bytes, &len));
    espl_json_put_printf(w, "tokenizer", "%016" PRIx64, espl_hash64(bytes, len, 0));
done:
    espl_mem_free(&bytes);
    espl_str_free(&path);
    return st;
}

espl_status espl_model_identity_put(espl_comm *c, const espl_model *m, const char *dir, const char *cache,
                                    espl_json_writer *w) {
    uint64_t *hashes = NULL;
    bool root = espl_comm_rank(c) == 0;
    espl_status st = ESPL_OK;
    if (root) st = espl_mem_alloc(&hashes, espl_weights_count(espl_model_weights(m)), sizeof *hashes, "tensor hashes");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_hash_cache_tensors(c, m, cache, hashes));
    if (root) {
        identity_put_config(w, espl_model_config_of(m));
        st = identity_put_tensors(w, m, hashes);
        if (st == ESPL_OK) st = identity_put_tokenizer(w, dir);
    }
    st = espl_comm_agree(c, st);
done:
    espl_mem_free(&hashes);
    return st;
}

/* ------------------------------------------------------------- comparison */

static void identity_append_name(espl_str *list, const char *name) {
    espl_str_printf(list, "%s%s", list->len ? ", " : "", name);
}

static void identity_append_difference(espl_str *list, const cJSON *now, const cJSON *then) {
    identity_append_name(list, now->string);
    if (!cJSON_IsNumber(now) || !cJSON_IsNumber(then)) return;
    espl_str_puts(list, " (");
    espl_str_put_shortest(list, then->valuedouble);
    espl_str_puts(list, " there, ");
    espl_str_put_shortest(list, now->valuedouble);
    espl_str_puts(list, " now)");
}

espl_status espl_model_identity_compare(const espl_str *now, const espl_str *then, const char *path,
                                        espl_str *different, espl_str *missing) {
    cJSON *mine = NULL, *theirs = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_json_parse(now->data ? now->data : "", now->len, "identity", &mine));
    ESPL_CHECK(st, done, espl_json_parse(then->data ? then->data : "", then->len, path, &theirs));
    const char *weights; /* every version has stored it: an identity without it identifies nothing */
    ESPL_CHECK(st, done, espl_json_get_str(theirs, group_names[LINEARS], path, true, &weights));
    for (const cJSON *m = mine->child; m; m = m->next) {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(theirs, m->string);
        if (!other)
            identity_append_name(missing, m->string);
        else if (!cJSON_Compare(m, other, true))
            identity_append_difference(different, m, other);
    }
    ESPL_CHECK(st, done, espl_str_status(different));
    st = espl_str_status(missing);
done:
    espl_json_free(&mine);
    espl_json_free(&theirs);
    return st;
}
