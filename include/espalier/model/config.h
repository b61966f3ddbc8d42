/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json of the supported model families. All functions are Local.
 */
#ifndef ESPALIER_MODEL_CONFIG_H
#define ESPALIER_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/base/status.h"
#include "espalier/base/str.h"

/* X(name, model_type, architecture) */
#define ESPL_FAMILY_LIST(X)                                                                                            \
    X(QWEN3, "qwen3", "Qwen3ForCausalLM")                                                                              \
    X(QWEN2, "qwen2", "Qwen2ForCausalLM")                                                                              \
    X(LLAMA, "llama", "LlamaForCausalLM")                                                                              \
    X(MISTRAL, "mistral", "MistralForCausalLM")

typedef enum espl_family {
#define X(name, type, architecture) ESPL_FAMILY_##name,
    ESPL_FAMILY_LIST(X)
#undef X
        ESPL_FAMILY_COUNT
} espl_family;

/* DYNAMIC is DEFAULT up to max_positions; a model with a longer context is not opened. */
typedef enum espl_rope_type { ESPL_ROPE_DEFAULT, ESPL_ROPE_LINEAR, ESPL_ROPE_LLAMA3, ESPL_ROPE_DYNAMIC } espl_rope_type;

enum { ESPL_MAX_EOS = 8 };

/* What config.json says, with the defaults that Hugging Face uses (tests/golden/README.md has the table). */
typedef struct espl_model_config {
    espl_family family;
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim;
    int64_t max_positions; /* max_position_embeddings; 0: not given */
    double rms_eps;
    bool tied;                       /* tie_word_embeddings */
    bool qkv_bias, o_bias, mlp_bias; /* linears with a bias */
    bool qk_norm;                    /* RMSNorm of each query and key head, before RoPE */
    int64_t window;                  /* sliding window, 0: none */
    bool *slides;                    /* [layers]: the window applies to this layer; owned */
    espl_rope_type rope_type;
    double rope_theta, rope_factor, rope_low, rope_high;
    int64_t rope_original; /* original_max_position_embeddings of llama3 scaling */
    int64_t bos;           /* -1: none */
    int64_t eos[ESPL_MAX_EOS];
    int n_eos;
    espl_str notes; /* what was passed over because it changes no result: a line each; owned */
} espl_model_config;

/* Reads dir/config.json, and eos and bos of dir/generation_config.json if that exists. ESPL_IO; ESPL_FORMAT;
 * ESPL_UNSUPPORTED naming the architecture or field. Free with espl_model_config_free. */
espl_status espl_model_config_read(const char *dir, espl_model_config *out);
/* Reads the text of a config.json; `name` is used in messages. Errors and ownership as espl_model_config_read. */
espl_status espl_model_config_parse(const char *json, int64_t len, const char *name, espl_model_config *out);
void espl_model_config_free(espl_model_config *c);
/* Logs the notes. */
void espl_model_config_log(const espl_model_config *c);
/* "qwen3". Static storage. */
const char *espl_family_name(espl_family f);

#endif
