/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fields of config.json: what is known, what changes nothing and is passed over with a note, and what is refused.
 */
#include "config_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/json.h"

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

/* Fields that would change the model: absent, null, false, 0 or empty is accepted. */
static const espl_refused_field must_be_off[] = {
    {"quantization_config", "weights are read as BF16, F16 or F32"},
    {"is_encoder_decoder", "the model has an encoder"},
    {"tie_encoder_decoder", "the model has an encoder"},
    {"add_cross_attention", "the model attends to another one's output"},
    {"cross_attention_hidden_size", "the model attends to another one's output"},
    {"is_decoder", "the switch of an encoder that decodes"},
    {"pruned_heads", "heads have been removed: shapes differ from layer to layer"},
    {"rope_interleaved", "RoPE pairs neighbouring features"},
    {"use_mrope", "positions have several axes"},
    {"tf_legacy_loss", "another loss"},
    {"attn_logit_softcapping", "scores go through a tanh (Gemma 2)"},
    {"final_logit_softcapping", "logits go through a tanh (Gemma 2)"},
    {"use_bidirectional_attention", "tokens see those behind them (embedding models)"}};

const espl_refused_field *espl_model_refused_field(int i) {
    return i >= 0 && i < (int)COUNT_OF(must_be_off) ? &must_be_off[i] : NULL;
}

bool espl_config_key_in(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], key) == 0) return true;
    return false;
}

bool espl_config_is_off(const cJSON *v) {
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

void espl_config_note(espl_model_config *c, const char *name, const char *fmt, ...) {
    enum { NOTES_BYTES_MAX = 4096 }; /* a file of a million keys must not fill the log */
    char text[256];
    va_list args;
    if (c->notes.len > NOTES_BYTES_MAX) return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    espl_str_printf(&c->notes, "%s: %s\n", name, text);
}

espl_status espl_config_check_once(const cJSON *doc, const cJSON *v, const char *name) {
    if (cJSON_GetObjectItemCaseSensitive(doc, v->string) == v) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: field \"%s\" occurs twice", name, v->string);
}

/* True for the fields that a family's description adds. */
static bool family_heeds(const espl_family *f, const char *key) {
    for (int i = 0; i < ESPL_FAMILY_KEYS_MAX && f->keys[i]; i++)
        if (strcmp(f->keys[i], key) == 0) return true;
    return false;
}

/* Keys with a leading underscore are private to whoever wrote the file. */
espl_status espl_config_check_keys(const cJSON *doc, const char *name, espl_model_config *c) {
    bool has_rms_eps = espl_json_member(doc, "rms_norm_eps") != NULL;
    const cJSON *v;
    cJSON_ArrayForEach(v, doc) {
        const char *key = v->string;
        if (key[0] == '_') continue;
        ESPL_TRY(espl_config_check_once(doc, v, name));
        int refused = 0;
        while (espl_model_refused_field(refused) && strcmp(espl_model_refused_field(refused)->key, key) != 0) refused++;
        if (espl_model_refused_field(refused)) {
            if (!espl_config_is_off(v))
                return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"%s\" is not supported: %s", name, key,
                                 espl_model_refused_field(refused)->why);
        } else if (!espl_config_key_in(key, known_keys, COUNT_OF(known_keys)) && !family_heeds(c->family, key)) {
            /* Beside rms_norm_eps, the epsilon of a LayerNorm that these families do not have. */
            bool layer_norm = has_rms_eps && strncmp(key, "layer_norm_eps", strlen("layer_norm_eps")) == 0;
            if (!espl_config_is_off(v) && !key_is_inert(key) && !layer_norm)
                return ESPL_FAIL(
                    ESPL_UNSUPPORTED,
                    "%s: field \"%s\" is unknown to espalier and may change the model (if it does not, remove "
                    "it)",
                    name, key);
            espl_config_note(c, name, "field \"%.64s\" is ignored", key);
        }
    }
    return ESPL_OK;
}
