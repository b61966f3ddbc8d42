/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json -> espl_model_config. Defaults and precedence are those of Hugging Face transformers 5.23
 * (configuration_*.py, modeling_rope_utils.py). What this program does not compute exactly as transformers does is
 * refused by name; what cannot change a result is passed over with a note, which espl_model_open logs.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "config_rope.h"
#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"

/* Bounds that keep products of sizes within int64_t; far above any published model. */
enum { COUNT_MAX = 1 << 24, LAYERS_MAX = 4096, HEADS_MAX = 65536, GROUP_MAX = 256 };
enum { EXPERTS_MAX = 4096 };
enum { HEAD_DIM_MAX = 512 };          /* the attention kernels' scratch */
enum { CONFIG_BYTES_MAX = 16 << 20 }; /* real files have a few KiB */

/* ---------------------------------------------------------------- members */

static espl_status config_read_family(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *type = NULL;
    ESPL_TRY(espl_json_get_str(doc, "model_type", name, true, &type));
    c->family = espl_family_find(type);
    if (!c->family) {
        espl_str known = {0};
        for (int i = 0; espl_family_at(i); i++) espl_str_printf(&known, "%s%s", i ? ", " : "", espl_family_at(i)->type);
        espl_status st = ESPL_FAIL(ESPL_UNSUPPORTED, "%s: model_type \"%s\" is not supported, expected one of %s", name,
                                   type, known.data ? known.data : "the families");
        espl_str_free(&known);
        return st;
    }
    const cJSON *list = espl_json_member(doc, "architectures");
    if (list && !cJSON_IsArray(list))
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"architectures\" must be a list of strings", name);
    if (!list || !list->child) return ESPL_OK;
    const char *found = cJSON_IsString(list->child) ? list->child->valuestring : "?";
    const char *expected = c->family->architecture, *suffix = strstr(expected, "ForCausalLM");
    size_t stem = (size_t)(suffix - expected);
    /* Whatever its case: Llama's converter wrote LLaMAForCausalLM. A model that was saved without its head is
     * "LlamaModel"; it has one if its embeddings are tied, and else lacks a tensor. */
    bool same = strcasecmp(found, expected) == 0;
    bool base = strncasecmp(found, expected, stem) == 0 && strcmp(found + stem, "Model") == 0;
    if (!same && !base)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: architecture \"%s\" is not supported for model_type \"%s\", expected %s", name, found,
                         type, expected);
    if (strcmp(found, expected) != 0) espl_config_note(c, name, "architecture %.64s is read as %s", found, expected);
    return ESPL_OK;
}

/* num_key_value_heads and head_dim have a class default in some families. There they must be given: a wrong guess would
 * only show as a puzzling error about shapes. */
static espl_status config_read_heads(const cJSON *doc, const char *name, espl_model_config *c) {
    bool null_kv = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(doc, "num_key_value_heads"));
    bool required_kv = c->family->kv_heads_required && !null_kv;
    ESPL_TRY(espl_json_get_i64(doc, "num_attention_heads", name, true, 1, HEADS_MAX, &c->heads));
    c->kv_heads = c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "num_key_value_heads", name, required_kv, 1, c->heads, &c->kv_heads));
    if (c->heads % c->kv_heads != 0 || c->heads / c->kv_heads > GROUP_MAX)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: num_key_value_heads %" PRId64 " does not fit num_attention_heads %" PRId64
                         ", expected a divisor that leaves groups of at most %d",
                         name, c->kv_heads, c->heads, GROUP_MAX);
    bool given = espl_json_member(doc, "head_dim") != NULL;
    c->head_dim = c->family->head_dim > 0 ? c->family->head_dim : c->hidden / c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "head_dim", name, false, 2, HEAD_DIM_MAX, &c->head_dim));
    if (!given && c->family->head_dim == 0 && c->hidden % c->heads != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: hidden_size %" PRId64 " is no multiple of num_attention_heads %" PRId64,
                         name, c->hidden, c->heads);
    if (c->head_dim < 2 || c->head_dim > HEAD_DIM_MAX || c->head_dim % 2 != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: head_dim %" PRId64 ", expected an even number from 2 to %d", name,
                         c->head_dim, HEAD_DIM_MAX);
    return ESPL_OK;
}

/* kv_heads and head_dim follow from the others, so these come first. */
static espl_status config_read_sizes(const cJSON *doc, const char *name, espl_model_config *c) {
    ESPL_TRY(espl_json_get_i64(doc, "vocab_size", name, true, 1, COUNT_MAX, &c->vocab));
    ESPL_TRY(espl_json_get_i64(doc, "hidden_size", name, true, 1, COUNT_MAX, &c->hidden));
    ESPL_TRY(espl_json_get_i64(doc, "intermediate_size", name, true, 1, COUNT_MAX, &c->ffn));
    ESPL_TRY(espl_json_get_i64(doc, "num_hidden_layers", name, true, 1, LAYERS_MAX, &c->layers));
    ESPL_TRY(config_read_heads(doc, name, c));
    c->max_positions = 0;
    ESPL_TRY(espl_json_get_i64(doc, "max_position_embeddings", name, false, 1, INT32_MAX, &c->max_positions));
    c->rms_eps = c->family->rms_eps;
    return espl_json_get_f64(doc, "rms_norm_eps", name, false, 0, 1, &c->rms_eps);
}

/* Layers without experts among layers with experts: transformers computes them, but no published model has any. */
static espl_status config_check_all_sparse(const cJSON *doc, const char *name, const espl_model_config *c) {
    const cJSON *list = espl_json_member(doc, "mlp_only_layers"), *v;
    int64_t step = 1;
    ESPL_TRY(espl_json_get_i64(doc, "decoder_sparse_step", name, false, 1, INT32_MAX, &step));
    if (step != 1)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: decoder_sparse_step %" PRId64 " is not supported, expected 1: all layers have experts",
                         name, step);
    if (list && !cJSON_IsArray(list))
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"mlp_only_layers\" must be a list of layers", name);
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"mlp_only_layers\" must be a list of layers", name);
        if (v->valuedouble >= 0 && v->valuedouble < (double)c->layers)
            return ESPL_FAIL(ESPL_UNSUPPORTED,
                             "%s: mlp_only_layers names layer %.0f: layers without experts are not supported beside "
                             "layers with experts",
                             name, v->valuedouble);
    }
    return ESPL_OK;
}

/* transformers 5 writes num_local_experts for what was num_experts. */
static espl_status config_read_experts(const cJSON *doc, const char *name, espl_model_config *c) {
    bool local = espl_json_member(doc, "num_local_experts") != NULL;
    int64_t other;
    if (!c->family->experts) return ESPL_OK;
    ESPL_TRY(
        espl_json_get_i64(doc, local ? "num_local_experts" : "num_experts", name, true, 1, EXPERTS_MAX, &c->experts));
    other = c->experts;
    ESPL_TRY(espl_json_get_i64(doc, "num_experts", name, false, 0, EXPERTS_MAX, &other));
    if (other != c->experts)
        return ESPL_FAIL(ESPL_FORMAT, "%s: num_experts %" PRId64 " contradicts num_local_experts %" PRId64, name, other,
                         c->experts);
    c->experts_per_token = 8; /* the class default */
    ESPL_TRY(espl_json_get_i64(doc, "num_experts_per_tok", name, false, 1, EXPERTS_MAX, &c->experts_per_token));
    if (c->experts_per_token > c->experts)
        return ESPL_FAIL(ESPL_FORMAT, "%s: num_experts_per_tok %" PRId64 " exceeds num_experts %" PRId64, name,
                         c->experts_per_token, c->experts);
    ESPL_TRY(espl_json_get_bool(doc, "norm_topk_prob", name, false, &c->experts_normed));
    ESPL_TRY(espl_json_get_i64(doc, "moe_intermediate_size", name, true, 1, COUNT_MAX, &c->ffn));
    return config_check_all_sparse(doc, name, c);
}

/* The activation of the MLP's gate, by the names that transformers has for the same function. */
static espl_status config_read_activation(const cJSON *doc, const char *name, espl_model_config *c) {
    static const struct {
        const char *name;
        espl_activation activation;
    } names[] = {{"silu", ESPL_ACTIVATION_SILU},
                 {"swish", ESPL_ACTIVATION_SILU},
                 {"gelu_pytorch_tanh", ESPL_ACTIVATION_GELU_TANH},
                 {"gelu_new", ESPL_ACTIVATION_GELU_TANH}};
    const char *key = c->family->activation_key ? c->family->activation_key : "hidden_act", *text = NULL;
    c->activation = c->family->activation;
    ESPL_TRY(espl_json_get_str(doc, key, name, false, &text));
    if (!text) return ESPL_OK;
    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i].name, text) == 0) {
            c->activation = names[i].activation;
            return ESPL_OK;
        }
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: %s \"%s\" is not supported, expected silu or gelu_pytorch_tanh", name, key,
                     text);
}

/* A bias rule of the family, and the field that it may follow. */
static bool bias_of(espl_bias_rule rule, bool field) {
    return rule == ESPL_BIAS_ALWAYS || (rule == ESPL_BIAS_FIELD && field);
}

static espl_status config_read_switches(const cJSON *doc, const char *name, espl_model_config *c) {
    bool attention_bias = false, mlp_bias = false;
    int64_t tp = 1; /* read for its type only: it describes how the model was trained */
    c->tied = c->family->tied;
    ESPL_TRY(espl_json_get_bool(doc, "tie_word_embeddings", name, false, &c->tied));
    ESPL_TRY(espl_json_get_bool(doc, "attention_bias", name, false, &attention_bias));
    ESPL_TRY(espl_json_get_bool(doc, "mlp_bias", name, false, &mlp_bias));
    ESPL_TRY(espl_json_get_i64(doc, "pretraining_tp", name, false, 1, COUNT_MAX, &tp));
    c->qkv_bias = bias_of(c->family->qkv_bias, attention_bias);
    c->o_bias = bias_of(c->family->o_bias, attention_bias);
    c->mlp_bias = bias_of(c->family->mlp_bias, mlp_bias);
    return config_read_activation(doc, name, c);
}

/* Scales that other families do not have: of embeddings, attention scores, branches and logits. */
static espl_status config_read_scales(const cJSON *doc, const char *name, espl_model_config *c) {
    const espl_family *f = c->family;
    double query_scalar = 0, logits_scaling = 1;
    c->embedding_scale = f->scales_embedding ? sqrt((double)c->hidden) : 1;
    c->residual_scale = c->logit_scale = 1;
    if (f->query_scalar) {
        ESPL_TRY(espl_json_get_f64(doc, f->query_scalar, name, true, 1e-6, 1e9, &query_scalar));
        c->attention_scale = 1 / sqrt(query_scalar);
    }
    if (!f->multipliers) return ESPL_OK;
    c->attention_scale = 1; /* the class default of all four */
    ESPL_TRY(espl_json_get_f64(doc, "embedding_multiplier", name, false, 1e-9, 1e9, &c->embedding_scale));
    ESPL_TRY(espl_json_get_f64(doc, "attention_multiplier", name, false, 1e-9, 1e9, &c->attention_scale));
    ESPL_TRY(espl_json_get_f64(doc, "residual_multiplier", name, false, 1e-9, 1e9, &c->residual_scale));
    ESPL_TRY(espl_json_get_f64(doc, "logits_scaling", name, false, 1e-9, 1e9, &logits_scaling));
    c->logit_scale = 1 / logits_scaling;
    return ESPL_OK;
}

/* --------------------------------------------------------- sliding window */

/* Reads "layer_types" into slides. */
static espl_status config_read_layer_types(const cJSON *list, const char *name, espl_model_config *c) {
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != c->layers)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"layer_types\" must be a list of %" PRId64 " strings", name, c->layers);
    const cJSON *v;
    int64_t i = 0;
    cJSON_ArrayForEach(v, list) {
        const char *s = cJSON_IsString(v) ? v->valuestring : "?";
        c->slides[i] = strcmp(s, "sliding_attention") == 0;
        if (!c->slides[i] && strcmp(s, "full_attention") != 0 && strcmp(s, "attention") != 0)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: layer_types[%" PRId64 "] \"%s\" is not supported", name, i, s);
        i++;
    }
    return ESPL_OK;
}

/* Layers without RoPE: those where "no_rope_layers" is 0, or else every n-th. */
static espl_status config_read_no_rope(const cJSON *doc, const char *name, espl_model_config *c) {
    int64_t interval = c->family->nope_interval, i = 0;
    const cJSON *list = espl_json_member(doc, "no_rope_layers"), *v;
    ESPL_TRY(espl_mem_alloc(&c->layer_ropes, c->layers, sizeof *c->layer_ropes, "RoPE of layers"));
    if (interval == 0) return ESPL_OK;
    ESPL_TRY(espl_json_get_i64(doc, "no_rope_layer_interval", name, false, 1, INT32_MAX, &interval));
    for (i = 0; !list && i < c->layers; i++)
        if ((i + 1) % interval == 0) c->layer_ropes[i] = ESPL_LAYER_ROPE_NONE;
    if (!list) return ESPL_OK;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) < c->layers)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"no_rope_layers\" must be a list of %" PRId64 " numbers, 0 or 1", name,
                         c->layers);
    i = 0;
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v) || (v->valuedouble != 0 && v->valuedouble != 1))
            return ESPL_FAIL(ESPL_FORMAT, "%s: no_rope_layers[%" PRId64 "] must be 0 or 1", name, i);
        if (i < c->layers && v->valuedouble == 0) c->layer_ropes[i] = ESPL_LAYER_ROPE_NONE;
        i++;
    }
    return ESPL_OK;
}

/* Which layers slide by the family's rule, without layer_types. */
static espl_status config_slide_by_rule(const cJSON *doc, const char *name, espl_model_config *c) {
    int64_t first = 28, pattern = c->family->window_pattern; /* 28: the class default */
    ESPL_TRY(espl_json_get_i64(doc, "max_window_layers", name, false, 0, INT32_MAX, &first));
    ESPL_TRY(espl_json_get_i64(doc, "sliding_window_pattern", name, false, 1, INT32_MAX, &pattern));
    for (int64_t i = 0; i < c->layers; i++) switch (c->family->window_rule) {
        case ESPL_WINDOW_NONE:
            break;
        case ESPL_WINDOW_ALL:
        case ESPL_WINDOW_USED:
            c->slides[i] = c->window > 0;
            break;
        case ESPL_WINDOW_SWITCH:
            c->slides[i] = c->window > 0 && i >= first;
            break;
        case ESPL_WINDOW_NOPE:
            c->slides[i] = c->window > 0 && c->layer_ropes[i] == ESPL_LAYER_ROPE_NONE;
            break;
        case ESPL_WINDOW_PATTERN:
            c->slides[i] = (i + 1) % pattern != 0;
            break;
        }
    return ESPL_OK;
}

static espl_status config_read_window(const cJSON *doc, const char *name, espl_model_config *c) {
    espl_window_rule rule = c->family->window_rule;
    const cJSON *raw = cJSON_GetObjectItemCaseSensitive(doc, "sliding_window");
    const cJSON *types = espl_json_member(doc, "layer_types");
    int64_t window = raw ? 0 : c->family->window; /* null means none */
    bool use = rule == ESPL_WINDOW_ALL || rule == ESPL_WINDOW_PATTERN;
    bool one_kind = rule == ESPL_WINDOW_ALL || rule == ESPL_WINDOW_USED;
    if (rule == ESPL_WINDOW_SWITCH || rule == ESPL_WINDOW_NOPE || rule == ESPL_WINDOW_USED)
        ESPL_TRY(espl_json_get_bool(doc, "use_sliding_window", name, false, &use));
    ESPL_TRY(espl_json_get_i64(doc, "sliding_window", name, false, 1, INT32_MAX, &window));
    if (rule == ESPL_WINDOW_NONE && window > 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"sliding_window\" is not supported for model_type \"%s\"", name,
                         c->family->type);
    c->window = use ? window : 0;
    ESPL_TRY(espl_mem_alloc(&c->slides, c->layers, sizeof *c->slides, "layer types"));
    ESPL_TRY(types ? config_read_layer_types(types, name, c) : config_slide_by_rule(doc, name, c));
    /* A layer that slides needs a window; and where the class knows only one kind of layer, all have it. */
    for (int64_t i = 0; i < c->layers; i++) {
        bool has = c->window > 0;
        if (one_kind ? c->slides[i] == has : !c->slides[i] || has) continue;
        if (types)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: layer_types[%" PRId64 "] contradicts the sliding window settings",
                             name, i);
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"sliding_window\" is null, but layer %" PRId64 " has a window", name, i);
    }
    return ESPL_OK;
}

/* Sliding layers have RoPE parameters of their own in some families. */
static void config_set_local_ropes(espl_model_config *c) {
    for (int64_t i = 0; c->family->local_theta > 0 && i < c->layers; i++)
        if (c->slides[i] && c->layer_ropes[i] == ESPL_LAYER_ROPE_GLOBAL) c->layer_ropes[i] = ESPL_LAYER_ROPE_LOCAL;
}

/* --------------------------------------------------------- special tokens */

/* Reads one id: *id stays as it is if the id is beyond the vocabulary, since the model can never meet it then. Only
 * `generate` and questions use these ids, so that such a leftover of a larger vocabulary is no reason to refuse. */
static espl_status config_read_token(const cJSON *v, const char *key, const char *name, espl_model_config *c,
                                     int64_t *id) {
    double found = v->valuedouble;
    if (!cJSON_IsNumber(v) || found != floor(found) || fabs(found) > 0x1p53)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" must be a token id or a list of them", name, key);
    if (found >= 0 && found < (double)c->vocab)
        *id = (int64_t)found;
    else
        espl_config_note(c, name, "%s %.0f is not in the vocabulary of %" PRId64 ": ignored", key, found, c->vocab);
    return ESPL_OK;
}

/* eos_token_id is one id or a list of ids. */
static espl_status config_read_tokens(const cJSON *doc, const char *name, espl_model_config *c) {
    const cJSON *bos = espl_json_member(doc, "bos_token_id"), *eos = espl_json_member(doc, "eos_token_id"), *v;
    if (bos) {
        c->bos = -1;
        ESPL_TRY(config_read_token(bos, "bos_token_id", name, c, &c->bos));
    }
    if (!eos) return ESPL_OK;
    c->n_eos = 0;
    for (v = cJSON_IsArray(eos) ? eos->child : eos; v; v = cJSON_IsArray(eos) ? v->next : NULL) {
        int64_t id = -1;
        ESPL_TRY(config_read_token(v, "eos_token_id", name, c, &id));
        if (id >= 0 && c->n_eos == ESPL_MAX_EOS)
            return ESPL_FAIL(ESPL_FORMAT, "%s: \"eos_token_id\" has %d ids, expected at most %d", name,
                             cJSON_GetArraySize(eos), ESPL_MAX_EOS);
        if (id >= 0) c->eos[c->n_eos++] = id;
    }
    return ESPL_OK;
}

/* ------------------------------------------------------------------ files */

espl_status espl_model_config_parse(const char *json, int64_t len, const char *name, espl_model_config *out) {
    cJSON *doc;
    espl_status st;
    *out = (espl_model_config){.bos = -1};
    ESPL_TRY(espl_json_parse(json, len, name, &doc));
    if (!cJSON_IsObject(doc)) {
        st = ESPL_FAIL(ESPL_FORMAT, "%s: expected a JSON object", name);
        goto done;
    }
    ESPL_CHECK(st, done, config_read_family(doc, name, out)); /* first: an unknown family has unknown keys too */
    ESPL_CHECK(st, done, espl_config_check_keys(doc, name, out));
    ESPL_CHECK(st, done, config_read_sizes(doc, name, out));
    ESPL_CHECK(st, done, config_read_experts(doc, name, out));
    ESPL_CHECK(st, done, config_read_switches(doc, name, out));
    ESPL_CHECK(st, done, config_read_scales(doc, name, out));
    ESPL_CHECK(st, done, espl_config_read_rope(doc, name, out));
    ESPL_CHECK(st, done, config_read_no_rope(doc, name, out));
    ESPL_CHECK(st, done, config_read_window(doc, name, out));
    config_set_local_ropes(out);
    ESPL_CHECK(st, done, config_read_tokens(doc, name, out));
    st = espl_str_status(&out->notes);
done:
    espl_json_free(&doc);
    if (st != ESPL_OK) espl_model_config_free(out);
    return st;
}

espl_status espl_model_config_read(const char *dir, espl_model_config *out) {
    char path[4096], *text = NULL;
    cJSON *doc = NULL;
    int64_t len;
    espl_status st;
    *out = (espl_model_config){.bos = -1};
    if (snprintf(path, sizeof path, "%s/generation_config.json", dir) >= (int)sizeof path)
        return ESPL_FAIL(ESPL_IO, "%s: path too long", dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    ESPL_CHECK(st, done, espl_file_read_regular(path, CONFIG_BYTES_MAX, &text, &len));
    ESPL_CHECK(st, done, espl_model_config_parse(text, len, path, out));
    /* generation_config.json overrides the special tokens, as in transformers' generate(). */
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (!espl_file_exists(path)) goto done;
    ESPL_CHECK(st, done, espl_json_read(path, CONFIG_BYTES_MAX, &doc));
    st = cJSON_IsObject(doc) ? config_read_tokens(doc, path, out)
                             : ESPL_FAIL(ESPL_FORMAT, "%s: expected a JSON object", path);
done:
    espl_mem_free(&text);
    espl_json_free(&doc);
    if (st != ESPL_OK) espl_model_config_free(out);
    return st;
}

void espl_model_config_free(espl_model_config *c) {
    espl_mem_free(&c->slides);
    espl_mem_free(&c->layer_ropes);
    for (int k = 0; k < ESPL_LAYER_ROPES; k++) espl_mem_free(&c->rope[k].divisors);
    espl_str_free(&c->notes);
    *c = (espl_model_config){.bos = -1};
}

void espl_model_config_log(const espl_model_config *c) {
    const char *end;
    for (const char *line = c->notes.data; line && *line; line = end + 1) {
        end = strchr(line, '\n'); /* every note ends with one */
        ESPL_INFO("note: %.*s", (int)(end - line), line);
    }
}
