/* config.json -> espl_model_config. Defaults and precedence are Hugging Face transformers' (5.23: configuration_*.py,
 * modeling_rope_utils.py); what we do not compute exactly as they do is refused by name. */
#include "espalier/model/config.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <string.h>

enum { MAX_COUNT = 1 << 24, MAX_LAYERS = 4096, MAX_GROUP = 256, MAX_HEAD = 512, CONFIG_BYTES = 16 << 20 };

static const struct {
    const char *type, *architecture;
} families[ESPL_FAMILY_COUNT] = {
#define X(name, type, architecture) {type, architecture},
    ESPL_FAMILY_LIST(X)
#undef X
};

const char *espl_family_name(espl_family f) { return families[f].type; }

/* Keys that are read below, or that change nothing in what this program computes. */
static const char *const known_keys[] = {
    "architectures", "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "rms_norm_eps", "hidden_act", "tie_word_embeddings",
    "max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor",
    "original_max_position_embeddings", "dtype", "torch_dtype", "bos_token_id", "eos_token_id", "pad_token_id",
    "quantization_config", "attention_bias", "mlp_bias", "use_sliding_window", "sliding_window", "max_window_layers",
    "layer_types", "pretraining_tp", "rope_interleaved", "use_mrope",
    /* no effect on evaluation */
    "attention_dropout", "hidden_dropout", "initializer_range", "use_cache", "transformers_version", "is_llama_config",
    "transformers.js_config", "sep_token_id", "unk_token_id", "decoder_start_token_id", "id2label", "label2id",
    "problem_type", "return_dict", "return_dict_in_generate", "output_hidden_states", "output_attentions",
    "output_scores", "torchscript", "use_bfloat16", "finetuning_task", "task_specific_params", "tokenizer_class",
    "prefix", "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences",
    "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "chunk_size_feed_forward", "auto_map", "attn_implementation",
    "unsloth_fixed", "unsloth_version", "max_sequence_length", "model_max_length"};

/* Generic switches of PretrainedConfig that would change the model: absent, null, false, 0 or empty is fine. */
static const char *const must_be_off[] = {
    "quantization_config", "is_encoder_decoder",  "add_cross_attention", "cross_attention_hidden_size",
    "pruned_heads",        "tie_encoder_decoder", "is_decoder",          "rope_interleaved",
    "use_mrope",           "tf_legacy_loss"};

static bool listed(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}

#define LISTED(key, list) listed((key), (list), sizeof(list) / sizeof *(list))

static bool is_off(const cJSON *v) {
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0) ||
           ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child);
}

/* A field given twice: cJSON would take the first, Python the last. v is a field of doc. */
static espl_status check_once(const cJSON *doc, const cJSON *v, const char *name) {
    if (cJSON_GetObjectItemCaseSensitive(doc, v->string) == v) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: field \"%s\" is there twice", name, v->string);
}

static espl_status check_keys(const cJSON *doc, const char *name) {
    const cJSON *v;
    cJSON_ArrayForEach(v, doc) {
        if (v->string[0] != '_') ESPL_TRY(check_once(doc, v, name));
        if (LISTED(v->string, must_be_off)) {
            if (!is_off(v)) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%s\" is not supported", name, v->string);
        } else if (v->string[0] != '_' && !LISTED(v->string, known_keys)) {
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: field \"%s\" is unknown to espalier and may change the model", name,
                             v->string);
        }
    }
    return ESPL_OK;
}

static espl_status check_architecture(const cJSON *doc, const char *name, espl_family f) {
    const cJSON *list = espl_json_member(doc, "architectures"), *a;
    if (!list) return ESPL_OK;
    if (!cJSON_IsArray(list)) return ESPL_FAIL(ESPL_FORMAT, "%s: \"architectures\" must be a list of strings", name);
    a = list->child;
    if (!a || !cJSON_IsString(a) || strcmp(a->valuestring, families[f].architecture) != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: architecture \"%s\" is not supported for model_type \"%s\", expected %s", name,
                         a && cJSON_IsString(a) ? a->valuestring : "?", families[f].type, families[f].architecture);
    return ESPL_OK;
}

static espl_status read_family(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *type = NULL;
    ESPL_TRY(espl_json_get_str(doc, "model_type", name, true, &type));
    for (int f = 0; f < ESPL_FAMILY_COUNT; f++) {
        if (strcmp(families[f].type, type) != 0) continue;
        c->family = (espl_family)f;
        return check_architecture(doc, name, c->family);
    }
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: model_type \"%s\" is not supported (qwen3, qwen2, llama, mistral are)",
                     name, type);
}

/* num_key_value_heads and head_dim have a class default in some families: there they must be given, since a wrong guess
 * would only show as a puzzling shape error. */
static espl_status read_heads(const cJSON *doc, const char *name, espl_model_config *c) {
    bool null_kv = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(doc, "num_key_value_heads"));
    c->kv_heads = c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "num_key_value_heads", name, c->family != ESPL_FAMILY_LLAMA && !null_kv, 1,
                               c->heads, &c->kv_heads));
    if (c->heads % c->kv_heads != 0 || c->heads / c->kv_heads > MAX_GROUP)
        return ESPL_FAIL(ESPL_FORMAT, "%s: num_key_value_heads %lld does not fit num_attention_heads %lld", name,
                         (long long)c->kv_heads, (long long)c->heads);
    bool given = espl_json_member(doc, "head_dim") != NULL;
    c->head_dim = c->family == ESPL_FAMILY_QWEN3 ? 128 : c->hidden / c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "head_dim", name, false, 2, MAX_HEAD, &c->head_dim));
    if (!given && c->family != ESPL_FAMILY_QWEN3 && c->hidden % c->heads != 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: hidden_size %lld is no multiple of num_attention_heads %lld", name,
                         (long long)c->hidden, (long long)c->heads);
    if (c->head_dim < 2 || c->head_dim > MAX_HEAD || c->head_dim % 2 != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: head_dim %lld, expected an even number from 2 to %d", name,
                         (long long)c->head_dim, MAX_HEAD);
    return ESPL_OK;
}

static espl_status read_sizes(const cJSON *doc, const char *name, espl_model_config *c) {
    ESPL_TRY(espl_json_get_i64(doc, "vocab_size", name, true, 1, MAX_COUNT, &c->vocab));
    ESPL_TRY(espl_json_get_i64(doc, "hidden_size", name, true, 1, MAX_COUNT, &c->hidden));
    ESPL_TRY(espl_json_get_i64(doc, "intermediate_size", name, true, 1, MAX_COUNT, &c->ffn));
    ESPL_TRY(espl_json_get_i64(doc, "num_hidden_layers", name, true, 1, MAX_LAYERS, &c->layers));
    ESPL_TRY(espl_json_get_i64(doc, "num_attention_heads", name, true, 1, 65536, &c->heads));
    ESPL_TRY(read_heads(doc, name, c));
    c->max_positions = 0;
    ESPL_TRY(espl_json_get_i64(doc, "max_position_embeddings", name, false, 1, INT32_MAX, &c->max_positions));
    c->rms_eps = 1e-6;
    ESPL_TRY(espl_json_get_f64(doc, "rms_norm_eps", name, false, 0, 1, &c->rms_eps));
    return ESPL_OK;
}

static espl_status read_switches(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *act = "silu";
    bool attention_bias = false, mlp_bias = false;
    double rotary = 1;
    ESPL_TRY(espl_json_get_str(doc, "hidden_act", name, false, &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: hidden_act \"%s\" is not supported, only silu", name, act);
    ESPL_TRY(espl_json_get_bool(doc, "tie_word_embeddings", name, false, &c->tied));
    ESPL_TRY(espl_json_get_bool(doc, "attention_bias", name, false, &attention_bias));
    ESPL_TRY(espl_json_get_bool(doc, "mlp_bias", name, false, &mlp_bias));
    ESPL_TRY(espl_json_get_f64(doc, "partial_rotary_factor", name, false, -DBL_MAX, DBL_MAX, &rotary));
    if (rotary != 1) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", name, rotary);
    bool own = c->family == ESPL_FAMILY_QWEN3 || c->family == ESPL_FAMILY_LLAMA; /* families that heed attention_bias */
    c->qkv_bias = c->family == ESPL_FAMILY_QWEN2 || (own && attention_bias);
    c->o_bias = own && attention_bias;
    c->mlp_bias = c->family == ESPL_FAMILY_LLAMA && mlp_bias;
    c->qk_norm = c->family == ESPL_FAMILY_QWEN3;
    int64_t tp = 1;
    ESPL_TRY(espl_json_get_i64(doc, "pretraining_tp", name, false, 1, MAX_COUNT, &tp));
    return ESPL_OK;
}

/* ------------------------------------------------------------------ RoPE */

static const char *const rope_keys[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "original_max_position_embeddings",
                                        "partial_rotary_factor"};

static espl_status read_llama3(const cJSON *doc, const cJSON *rope, const char *where, espl_model_config *c) {
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, true, 1, 1e6, &c->rope_factor));
    ESPL_TRY(espl_json_get_f64(rope, "low_freq_factor", where, true, 1e-6, 1e6, &c->rope_low));
    ESPL_TRY(espl_json_get_f64(rope, "high_freq_factor", where, true, 1e-6, 1e6, &c->rope_high));
    c->rope_original = c->max_positions;
    ESPL_TRY(
        espl_json_get_i64(rope, "original_max_position_embeddings", where, false, 1, INT32_MAX, &c->rope_original));
    ESPL_TRY(espl_json_get_i64(doc, "original_max_position_embeddings", where, false, 1, INT32_MAX, &c->rope_original));
    if (c->rope_original < 1)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"original_max_position_embeddings\" is missing", where);
    if (c->rope_high <= c->rope_low)
        return ESPL_FAIL(ESPL_FORMAT, "%s: high_freq_factor %g must exceed low_freq_factor %g", where, c->rope_high,
                         c->rope_low);
    return ESPL_OK;
}

static espl_status read_rope_type(const cJSON *doc, const cJSON *rope, const char *where, espl_model_config *c) {
    const char *type = "default";
    ESPL_TRY(espl_json_get_str(rope, "type", where, false, &type));
    ESPL_TRY(espl_json_get_str(rope, "rope_type", where, false, &type));
    if (strcmp(type, "default") == 0) return ESPL_OK;
    if (strcmp(type, "linear") == 0) {
        c->rope_type = ESPL_ROPE_LINEAR;
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &c->rope_factor);
    }
    if (strcmp(type, "llama3") == 0) {
        c->rope_type = ESPL_ROPE_LLAMA3;
        return read_llama3(doc, rope, where, c);
    }
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: rope_type \"%s\" is not supported (default, linear, llama3 are)", where,
                     type);
}

static espl_status check_rope_dict(const cJSON *rope, const char *where) {
    const cJSON *v;
    double rotary = 1;
    if (!cJSON_IsObject(rope)) return ESPL_FAIL(ESPL_FORMAT, "%s: must be an object", where);
    cJSON_ArrayForEach(v, rope) {
        if (!LISTED(v->string, rope_keys))
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: field \"%s\" is not supported", where, v->string);
        ESPL_TRY(check_once(rope, v, where));
    }
    ESPL_TRY(espl_json_get_f64(rope, "partial_rotary_factor", where, false, -DBL_MAX, DBL_MAX, &rotary));
    if (rotary != 1) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported", where, rotary);
    return ESPL_OK;
}

/* The dictionary in force: classic "rope_scaling" if it says anything, else "rope_parameters" (transformers 5). */
static espl_status read_rope(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *key = "rope_scaling";
    const cJSON *rope = espl_json_member(doc, key);
    if (!rope || is_off(rope)) rope = espl_json_member(doc, key = "rope_parameters");
    c->rope_theta = 10000;
    ESPL_TRY(espl_json_get_f64(doc, "rope_theta", name, false, 1e-3, 1e15, &c->rope_theta));
    if (!rope || is_off(rope)) return ESPL_OK;
    char where[512];
    snprintf(where, sizeof where, "%s: %s", name, key);
    ESPL_TRY(check_rope_dict(rope, where));
    ESPL_TRY(espl_json_get_f64(rope, "rope_theta", where, false, 1e-3, 1e15, &c->rope_theta));
    return read_rope_type(doc, rope, where, c);
}

/* -------------------------------------------------------- sliding window */

static espl_status read_layer_types(const cJSON *list, const char *name, espl_model_config *c) {
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != c->layers)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"layer_types\" must be a list of %lld strings", name, (long long)c->layers);
    const cJSON *v;
    int64_t i = 0;
    cJSON_ArrayForEach(v, list) {
        const char *s = cJSON_IsString(v) ? v->valuestring : "?";
        c->slides[i] = strcmp(s, "sliding_attention") == 0;
        if (!c->slides[i] && strcmp(s, "full_attention") != 0 && strcmp(s, "attention") != 0)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: layer_types[%lld] \"%s\" is not supported", name, (long long)i, s);
        i++;
    }
    return ESPL_OK;
}

static espl_status contradicts(const char *name, int64_t layer) {
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: layer_types[%lld] contradicts the sliding window settings", name,
                     (long long)layer);
}

/* layer_types must agree with whether a window exists (all sliding for Mistral with one, none where there is none). */
static espl_status check_layer_types(const char *name, const espl_model_config *c) {
    for (int64_t i = 0; i < c->layers; i++) {
        bool wrong =
            c->family == ESPL_FAMILY_MISTRAL ? c->slides[i] != (c->window > 0) : c->slides[i] && c->window == 0;
        if (wrong) return contradicts(name, i);
    }
    return ESPL_OK;
}

static espl_status read_window_size(const cJSON *doc, const char *name, espl_model_config *c) {
    bool use = c->family == ESPL_FAMILY_MISTRAL;
    bool qwen = c->family == ESPL_FAMILY_QWEN2 || c->family == ESPL_FAMILY_QWEN3;
    if (qwen) ESPL_TRY(espl_json_get_bool(doc, "use_sliding_window", name, false, &use));
    const cJSON *raw = cJSON_GetObjectItemCaseSensitive(doc, "sliding_window");
    int64_t window = raw ? 0 : 4096; /* null says none, absent means the class default */
    ESPL_TRY(espl_json_get_i64(doc, "sliding_window", name, false, 1, INT32_MAX, &window));
    if (c->family == ESPL_FAMILY_LLAMA && raw && window > 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"sliding_window\" is not supported for model_type \"llama\"", name);
    c->window = use ? window : 0;
    return ESPL_OK;
}

static espl_status read_window(const cJSON *doc, const char *name, espl_model_config *c) {
    int64_t from = 28;
    ESPL_TRY(read_window_size(doc, name, c));
    ESPL_TRY(espl_mem_alloc(&c->slides, c->layers, sizeof *c->slides, "layer types"));
    ESPL_TRY(espl_json_get_i64(doc, "max_window_layers", name, false, 0, INT32_MAX, &from));
    for (int64_t i = 0; i < c->layers; i++)
        c->slides[i] = c->window > 0 && (c->family == ESPL_FAMILY_MISTRAL || i >= from);
    const cJSON *types = espl_json_member(doc, "layer_types");
    if (!types) return ESPL_OK;
    ESPL_TRY(read_layer_types(types, name, c));
    return check_layer_types(name, c);
}

/* -------------------------------------------------------- special tokens */

static espl_status read_eos(const cJSON *doc, const char *name, espl_model_config *c) {
    const cJSON *v = espl_json_member(doc, "eos_token_id"), *item;
    if (!v) return ESPL_OK;
    c->n_eos = 0;
    if (cJSON_IsArray(v)) {
        cJSON_ArrayForEach(item, v) {
            if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble >= (double)c->vocab ||
                c->n_eos == ESPL_MAX_EOS)
                return ESPL_FAIL(ESPL_FORMAT, "%s: \"eos_token_id\" must hold up to %d token ids", name, ESPL_MAX_EOS);
            c->eos[c->n_eos++] = (int64_t)item->valuedouble;
        }
        return ESPL_OK;
    }
    ESPL_TRY(espl_json_get_i64(doc, "eos_token_id", name, true, 0, c->vocab - 1, &c->eos[0]));
    c->n_eos = 1;
    return ESPL_OK;
}

static espl_status read_tokens(const cJSON *doc, const char *name, espl_model_config *c) {
    ESPL_TRY(espl_json_get_i64(doc, "bos_token_id", name, false, 0, c->vocab - 1, &c->bos));
    return read_eos(doc, name, c);
}

/* -------------------------------------------------------------------- all */

static espl_status read_all(const cJSON *doc, const char *name, espl_model_config *c) {
    if (!cJSON_IsObject(doc)) return ESPL_FAIL(ESPL_FORMAT, "%s: expected a JSON object", name);
    ESPL_TRY(read_family(doc, name, c));
    ESPL_TRY(check_keys(doc, name));
    ESPL_TRY(read_sizes(doc, name, c));
    ESPL_TRY(read_switches(doc, name, c));
    ESPL_TRY(read_rope(doc, name, c));
    ESPL_TRY(read_window(doc, name, c));
    return read_tokens(doc, name, c);
}

espl_status espl_model_config_parse(const char *json, int64_t len, const char *name, espl_model_config *out) {
    cJSON *doc;
    *out = (espl_model_config){.bos = -1};
    ESPL_TRY(espl_json_parse(json, len, name, &doc));
    espl_status st = read_all(doc, name, out);
    espl_json_free(&doc);
    if (st != ESPL_OK) espl_model_config_free(out);
    return st;
}

/* generation_config.json overrides the special tokens, as transformers' generate() does. */
static espl_status read_generation_config(const char *dir, espl_model_config *c) {
    char path[4096];
    cJSON *doc;
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    if (!espl_file_exists(path)) return ESPL_OK;
    ESPL_TRY(espl_json_read(path, CONFIG_BYTES, &doc));
    espl_status st =
        cJSON_IsObject(doc) ? read_tokens(doc, path, c) : ESPL_FAIL(ESPL_FORMAT, "%s: expected a JSON object", path);
    espl_json_free(&doc);
    return st;
}

espl_status espl_model_config_read(const char *dir, espl_model_config *out) {
    char path[4096], *text;
    int64_t len;
    *out = (espl_model_config){.bos = -1};
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return ESPL_FAIL(ESPL_IO, "%s: path too long", dir);
    ESPL_TRY(espl_file_read(path, CONFIG_BYTES, &text, &len));
    espl_status st = espl_model_config_parse(text, len, path, out);
    espl_mem_free(&text);
    if (st == ESPL_OK) st = read_generation_config(dir, out);
    if (st != ESPL_OK) espl_model_config_free(out);
    return st;
}

void espl_model_config_free(espl_model_config *c) {
    espl_mem_free(&c->slides);
    *c = (espl_model_config){.bos = -1};
}
