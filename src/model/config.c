/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json -> espl_model_config. Defaults and precedence are those of Hugging Face transformers 5.23
 * (configuration_*.py, modeling_rope_utils.py). What this program does not compute exactly as transformers does is
 * refused by name; what cannot change a result is passed over with a note, which espl_model_open logs.
 */
#include "espalier/model/config.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/file.h"
#include "espalier/base/json.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"

/* Bounds that keep products of sizes within int64_t; far above any published model. */
enum { COUNT_MAX = 1 << 24, LAYERS_MAX = 4096, HEADS_MAX = 65536, GROUP_MAX = 256 };
enum { HEAD_DIM_MAX = 512 };          /* the attention kernels' scratch */
enum { CONFIG_BYTES_MAX = 16 << 20 }; /* real files have a few KiB */

static const struct {
    const char *type, *architecture;
} families[ESPL_FAMILY_COUNT] = {
#define X(name, type, architecture) {type, architecture},
    ESPL_FAMILY_LIST(X)
#undef X
};

const char *espl_family_name(espl_family f) { return families[f].type; }

/* ------------------------------------------------------------------- keys */

/* Keys that are read below, or that change nothing in what this program computes. Any other key is refused by name: it
 * may stand for a variant of the architecture, which would load and compute something else. */
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

/* Keys of training frameworks and of other libraries, with any value: passed over with a note. Those that end in *
 * stand for all keys that contain the word. */
static const char *const inert_keys[] = {"*dropout",
                                         "*pdrop",
                                         "*checkpointing",
                                         "*flash_attn",
                                         "*flash_attention",
                                         "*padding_side",
                                         "tokenizer_model_max_length",
                                         "max_seq_len",
                                         "max_seq_length",
                                         "seq_length",
                                         "model_parallel",
                                         "torch_compile",
                                         "bf16",
                                         "fp16",
                                         "neftune_noise_alpha",
                                         "base_model_name_or_path",
                                         "name_or_path",
                                         "model_name",
                                         "eos_token",
                                         "bos_token",
                                         "pad_token",
                                         "unk_token",
                                         "loss_type",
                                         "loss_function",
                                         "ignore_index",
                                         "num_labels",
                                         "license",
                                         "language",
                                         "tags"};

/* Keys of a RoPE dictionary that the types computed here do not read, and one of a training script. */
static const char *const inert_rope_keys[] = {"finetuned", "attention_factor", "beta_fast",
                                              "beta_slow", "mscale",           "mscale_all_dim",
                                              "truncate",  "short_factor",     "long_factor"};

/* Generic switches of PretrainedConfig that would change the model: absent, null, false, 0 or empty is accepted. */
static const char *const must_be_off[] = {
    "quantization_config", "is_encoder_decoder",  "add_cross_attention", "cross_attention_hidden_size",
    "pruned_heads",        "tie_encoder_decoder", "is_decoder",          "rope_interleaved",
    "use_mrope",           "tf_legacy_loss"};

static bool key_in(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}
#define COUNT_OF(list) (sizeof(list) / sizeof *(list))

/* A value that means the same as a missing field. */
static bool is_off(const cJSON *v) {
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || (cJSON_IsNumber(v) && v->valuedouble == 0) ||
           ((cJSON_IsObject(v) || cJSON_IsArray(v)) && !v->child);
}

/* True if the key is one of inert_keys. */
static bool key_is_inert(const char *key) {
    for (size_t i = 0; i < COUNT_OF(inert_keys); i++) {
        const char *name = inert_keys[i];
        if (*name == '*' ? strstr(key, name + 1) != NULL : strcmp(key, name) == 0) return true;
    }
    return false;
}

static void __attribute__((format(printf, 3, 4)))
config_note(espl_model_config *c, const char *name, const char *fmt, ...) {
    enum { NOTES_BYTES_MAX = 4096 }; /* a file of a million keys must not fill the log */
    char text[256];
    va_list args;
    if (c->notes.len > NOTES_BYTES_MAX) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    espl_str_printf(&c->notes, "%s: %s\n", name, text);
}

/* Refuses field v of doc if its key occurs before: cJSON would take the first value, Python the last. */
static espl_status check_once(const cJSON *doc, const cJSON *v, const char *name) {
    if (cJSON_GetObjectItemCaseSensitive(doc, v->string) == v) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: field \"%s\" occurs twice", name, v->string);
}

/* Keys with a leading underscore are private to whoever wrote the file. */
static espl_status config_check_keys(const cJSON *doc, const char *name, espl_model_config *c) {
    bool has_rms_eps = espl_json_member(doc, "rms_norm_eps") != NULL;
    const cJSON *v;
    cJSON_ArrayForEach(v, doc) {
        const char *key = v->string;
        if (key[0] == '_') continue;
        ESPL_TRY(check_once(doc, v, name));
        if (key_in(key, must_be_off, COUNT_OF(must_be_off))) {
            if (!is_off(v)) return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%s\" is not supported", name, key);
        } else if (!key_in(key, known_keys, COUNT_OF(known_keys))) {
            /* Beside rms_norm_eps, the epsilon of a LayerNorm that these families do not have. */
            bool layer_norm = has_rms_eps && strncmp(key, "layer_norm_eps", strlen("layer_norm_eps")) == 0;
            if (!is_off(v) && !key_is_inert(key) && !layer_norm)
                return ESPL_FAIL(
                    ESPL_UNSUPPORTED,
                    "%s: field \"%s\" is unknown to espalier and may change the model (if it does not, remove "
                    "it)",
                    name, key);
            config_note(c, name, "field \"%.64s\" is ignored", key);
        }
    }
    return ESPL_OK;
}

/* ---------------------------------------------------------------- members */

static espl_status config_read_family(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *type = NULL;
    int f = 0;
    ESPL_TRY(espl_json_get_str(doc, "model_type", name, true, &type));
    while (f < ESPL_FAMILY_COUNT && strcmp(families[f].type, type) != 0) f++;
    if (f == ESPL_FAMILY_COUNT)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: model_type \"%s\" is not supported, expected qwen3, qwen2, llama or mistral", name, type);
    c->family = (espl_family)f;
    const cJSON *list = espl_json_member(doc, "architectures");
    if (list && !cJSON_IsArray(list))
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"architectures\" must be a list of strings", name);
    if (!list || !list->child) return ESPL_OK;
    const char *found = cJSON_IsString(list->child) ? list->child->valuestring : "?";
    const char *expected = families[f].architecture, *suffix = strstr(expected, "ForCausalLM");
    size_t stem = (size_t)(suffix - expected);
    /* Whatever its case: Llama's converter wrote LLaMAForCausalLM. A model that was saved without its head is
     * "LlamaModel"; it has one if its embeddings are tied, and else lacks a tensor. */
    bool same = strcasecmp(found, expected) == 0;
    bool base = strncasecmp(found, expected, stem) == 0 && strcmp(found + stem, "Model") == 0;
    if (!same && !base)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: architecture \"%s\" is not supported for model_type \"%s\", expected %s", name, found,
                         type, expected);
    if (strcmp(found, expected) != 0) config_note(c, name, "architecture %.64s is read as %s", found, expected);
    return ESPL_OK;
}

/* num_key_value_heads and head_dim have a class default in some families. There they must be given: a wrong guess would
 * only show as a puzzling error about shapes. */
static espl_status config_read_heads(const cJSON *doc, const char *name, espl_model_config *c) {
    bool null_kv = cJSON_IsNull(cJSON_GetObjectItemCaseSensitive(doc, "num_key_value_heads"));
    bool required_kv = c->family != ESPL_FAMILY_LLAMA && !null_kv;
    ESPL_TRY(espl_json_get_i64(doc, "num_attention_heads", name, true, 1, HEADS_MAX, &c->heads));
    c->kv_heads = c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "num_key_value_heads", name, required_kv, 1, c->heads, &c->kv_heads));
    if (c->heads % c->kv_heads != 0 || c->heads / c->kv_heads > GROUP_MAX)
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: num_key_value_heads %" PRId64 " does not fit num_attention_heads %" PRId64
                         ", expected a divisor that leaves groups of at most %d",
                         name, c->kv_heads, c->heads, GROUP_MAX);
    bool given = espl_json_member(doc, "head_dim") != NULL;
    c->head_dim = c->family == ESPL_FAMILY_QWEN3 ? 128 : c->hidden / c->heads;
    ESPL_TRY(espl_json_get_i64(doc, "head_dim", name, false, 2, HEAD_DIM_MAX, &c->head_dim));
    if (!given && c->family != ESPL_FAMILY_QWEN3 && c->hidden % c->heads != 0)
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
    c->rms_eps = 1e-6; /* the class default of all families */
    return espl_json_get_f64(doc, "rms_norm_eps", name, false, 0, 1, &c->rms_eps);
}

/* RoPE over all of a head only. where: the file, or the dictionary in it. */
static espl_status check_rotary_factor(const cJSON *object, const char *where) {
    double factor = 1;
    ESPL_TRY(espl_json_get_f64(object, "partial_rotary_factor", where, false, -DBL_MAX, DBL_MAX, &factor));
    if (factor == 1) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported, expected 1", where, factor);
}

static espl_status config_read_switches(const cJSON *doc, const char *name, espl_model_config *c) {
    const char *act = "silu";
    bool attention_bias = false, mlp_bias = false;
    int64_t tp = 1; /* read for its type only: it describes how the model was trained */
    ESPL_TRY(espl_json_get_str(doc, "hidden_act", name, false, &act));
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0) /* two names of one function */
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: hidden_act \"%s\" is not supported, expected silu", name, act);
    ESPL_TRY(espl_json_get_bool(doc, "tie_word_embeddings", name, false, &c->tied));
    ESPL_TRY(espl_json_get_bool(doc, "attention_bias", name, false, &attention_bias));
    ESPL_TRY(espl_json_get_bool(doc, "mlp_bias", name, false, &mlp_bias));
    ESPL_TRY(check_rotary_factor(doc, name));
    ESPL_TRY(espl_json_get_i64(doc, "pretraining_tp", name, false, 1, COUNT_MAX, &tp));
    /* Qwen2 always has biases of q, k, v and never one of o; Mistral ignores attention_bias. */
    bool heeds = c->family == ESPL_FAMILY_QWEN3 || c->family == ESPL_FAMILY_LLAMA;
    c->qkv_bias = c->family == ESPL_FAMILY_QWEN2 || (heeds && attention_bias);
    c->o_bias = heeds && attention_bias;
    c->mlp_bias = c->family == ESPL_FAMILY_LLAMA && mlp_bias;
    c->qk_norm = c->family == ESPL_FAMILY_QWEN3;
    return ESPL_OK;
}

/* ------------------------------------------------------------------- RoPE */

static espl_status config_read_llama3(const cJSON *doc, const cJSON *rope, const char *where, espl_model_config *c) {
    static const char original[] = "original_max_position_embeddings";
    c->rope_type = ESPL_ROPE_LLAMA3;
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, true, 1, 1e6, &c->rope_factor));
    ESPL_TRY(espl_json_get_f64(rope, "low_freq_factor", where, true, 1e-6, 1e6, &c->rope_low));
    ESPL_TRY(espl_json_get_f64(rope, "high_freq_factor", where, true, 1e-6, 1e6, &c->rope_high));
    c->rope_original = c->max_positions;
    ESPL_TRY(espl_json_get_i64(rope, original, where, false, 1, INT32_MAX, &c->rope_original));
    ESPL_TRY(espl_json_get_i64(doc, original, where, false, 1, INT32_MAX, &c->rope_original));
    if (c->rope_original < 1) return ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is missing", where, original);
    if (c->rope_high <= c->rope_low)
        return ESPL_FAIL(ESPL_FORMAT, "%s: high_freq_factor %g must exceed low_freq_factor %g", where, c->rope_high,
                         c->rope_low);
    return ESPL_OK;
}

/* The dictionary in force is the classic "rope_scaling" unless it is empty or off, else "rope_parameters" of
 * transformers 5. */
static espl_status config_read_rope(const cJSON *doc, const char *name, espl_model_config *c) {
    static const char *const keys[] = {"rope_type",
                                       "type",
                                       "rope_theta",
                                       "factor",
                                       "low_freq_factor",
                                       "high_freq_factor",
                                       "original_max_position_embeddings",
                                       "partial_rotary_factor"};
    const char *key = "rope_scaling", *type = "default";
    const cJSON *rope = espl_json_member(doc, key), *v;
    if (!rope || is_off(rope)) rope = espl_json_member(doc, key = "rope_parameters");
    c->rope_theta = 10000; /* the class default */
    ESPL_TRY(espl_json_get_f64(doc, "rope_theta", name, false, 1e-3, 1e15, &c->rope_theta));
    if (!rope || is_off(rope)) return ESPL_OK;

    char where[512];
    snprintf(where, sizeof where, "%s: %s", name, key);
    if (!cJSON_IsObject(rope)) return ESPL_FAIL(ESPL_FORMAT, "%s: must be an object", where);
    cJSON_ArrayForEach(v, rope) {
        ESPL_TRY(check_once(rope, v, where));
        if (key_in(v->string, keys, COUNT_OF(keys))) continue;
        if (!cJSON_IsNull(v) && !cJSON_IsFalse(v) && !key_in(v->string, inert_rope_keys, COUNT_OF(inert_rope_keys)))
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: field \"%s\" is not supported", where, v->string);
        config_note(c, where, "field \"%.64s\" is ignored", v->string);
    }
    ESPL_TRY(check_rotary_factor(rope, where));
    ESPL_TRY(espl_json_get_f64(rope, "rope_theta", where, false, 1e-3, 1e15, &c->rope_theta));
    ESPL_TRY(espl_json_get_str(rope, "type", where, false, &type)); /* the older name of rope_type */
    ESPL_TRY(espl_json_get_str(rope, "rope_type", where, false, &type));
    if (strcmp(type, "llama3") == 0) return config_read_llama3(doc, rope, where, c);
    if (strcmp(type, "linear") == 0) {
        c->rope_type = ESPL_ROPE_LINEAR;
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &c->rope_factor);
    }
    if (strcmp(type, "dynamic") == 0) {
        c->rope_type = ESPL_ROPE_DYNAMIC;
        if (c->max_positions < 1)
            return ESPL_FAIL(ESPL_FORMAT, "%s: rope_type \"dynamic\" needs max_position_embeddings", where);
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &c->rope_factor);
    }
    if (strcmp(type, "default") == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED,
                     "%s: rope_type \"%s\" is not supported, expected default, linear, dynamic or llama3", where, type);
}

/* --------------------------------------------------------- sliding window */

/* layer_types must agree with whether there is a window: all layers slide in a Mistral with one, none in a model
 * without one. */
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
    for (i = 0; i < c->layers; i++) {
        bool window = c->window > 0;
        if (c->family == ESPL_FAMILY_MISTRAL ? c->slides[i] != window : c->slides[i] && !window)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: layer_types[%" PRId64 "] contradicts the sliding window settings",
                             name, i);
    }
    return ESPL_OK;
}

static espl_status config_read_window(const cJSON *doc, const char *name, espl_model_config *c) {
    bool use = c->family == ESPL_FAMILY_MISTRAL; /* Qwen has a switch, Llama no window */
    if (c->family == ESPL_FAMILY_QWEN2 || c->family == ESPL_FAMILY_QWEN3)
        ESPL_TRY(espl_json_get_bool(doc, "use_sliding_window", name, false, &use));
    const cJSON *raw = cJSON_GetObjectItemCaseSensitive(doc, "sliding_window");
    int64_t window = raw ? 0 : 4096; /* null means none, a missing field the class default */
    ESPL_TRY(espl_json_get_i64(doc, "sliding_window", name, false, 1, INT32_MAX, &window));
    if (c->family == ESPL_FAMILY_LLAMA && raw && window > 0)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"sliding_window\" is not supported for model_type \"llama\"", name);
    c->window = use ? window : 0;

    int64_t first = 28; /* the first layer of a Qwen that slides; the class default */
    ESPL_TRY(espl_mem_alloc(&c->slides, c->layers, sizeof *c->slides, "layer types"));
    ESPL_TRY(espl_json_get_i64(doc, "max_window_layers", name, false, 0, INT32_MAX, &first));
    for (int64_t i = 0; i < c->layers; i++)
        c->slides[i] = c->window > 0 && (c->family == ESPL_FAMILY_MISTRAL || i >= first);
    const cJSON *types = espl_json_member(doc, "layer_types");
    return types ? config_read_layer_types(types, name, c) : ESPL_OK;
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
        config_note(c, name, "%s %.0f is not in the vocabulary of %" PRId64 ": ignored", key, found, c->vocab);
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
    ESPL_CHECK(st, done, config_check_keys(doc, name, out));
    ESPL_CHECK(st, done, config_read_sizes(doc, name, out));
    ESPL_CHECK(st, done, config_read_switches(doc, name, out));
    ESPL_CHECK(st, done, config_read_rope(doc, name, out));
    ESPL_CHECK(st, done, config_read_window(doc, name, out));
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
