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
#include "espalier/model/family.h"

/* X(name, rope_type). DYNAMIC and LONGROPE are computed up to the length from which on their frequencies change. */
#define ESPL_ROPE_TYPE_LIST(X)                                                                                         \
    X(DEFAULT, "default")                                                                                              \
    X(LINEAR, "linear")                                                                                                \
    X(LLAMA3, "llama3")                                                                                                \
    X(DYNAMIC, "dynamic")                                                                                              \
    X(LONGROPE, "longrope")                                                                                            \
    X(YARN, "yarn")

typedef enum espl_rope_type {
#define X(name, text) ESPL_ROPE_##name,
    ESPL_ROPE_TYPE_LIST(X)
#undef X
        ESPL_ROPE_TYPES
} espl_rope_type;

/* RoPE parameters of the layers that have them. */
typedef struct espl_rope_config {
    espl_rope_type type;
    double theta;
    double factor, low, high; /* of the scaling */
    int64_t original;         /* original_max_position_embeddings, of the scaling */
    int64_t limit;            /* a longer context changes the frequencies, which is not computed; 0: none */
    double attention;         /* multiplies cos and sin; 0: 1 */
    double *divisors;         /* [rotary / 2] of the frequencies, or NULL: none; owned */
} espl_rope_config;

/* Which RoPE a layer has: that of the model, that of sliding layers if the family has one for them, or none. */
typedef enum espl_layer_rope {
    ESPL_LAYER_ROPE_GLOBAL,
    ESPL_LAYER_ROPE_LOCAL,
    ESPL_LAYER_ROPES,
    ESPL_LAYER_ROPE_NONE = ESPL_LAYER_ROPES
} espl_layer_rope;

enum { ESPL_MAX_EOS = 8 };

/* What config.json says, with the defaults that Hugging Face uses (tests/golden/README.md has the table). */
typedef struct espl_model_config {
    const espl_family *family;
    int64_t vocab, hidden, ffn, layers, heads, kv_heads, head_dim; /* ffn: of the MLP, or of each expert */
    int64_t experts;                                               /* of each layer; 0: a layer has one MLP */
    int64_t experts_per_token;                                     /* that the router chooses */
    bool experts_normed;   /* the weights of the chosen ones are scaled to add up to 1 (norm_topk_prob) */
    int64_t max_positions; /* max_position_embeddings, at most the limits of the RoPE; 0: not given */
    double rms_eps;
    bool tied;                       /* tie_word_embeddings */
    bool qkv_bias, o_bias, mlp_bias; /* linears with a bias */
    espl_activation activation;      /* of the MLP's gate */
    double embedding_scale;          /* embeddings are multiplied by it */
    double attention_scale;          /* scores are; 0: 1 / sqrt(head_dim) */
    double residual_scale;           /* what attention and MLP add to the residual stream is */
    double logit_scale;              /* logits are */
    int64_t window;                  /* sliding window, 0: none */
    bool *slides;                    /* [layers]: the window applies to this layer; owned */
    espl_rope_config rope[ESPL_LAYER_ROPES];
    int64_t rotary;       /* features of a head that RoPE rotates, from the first on */
    uint8_t *layer_ropes; /* [layers] an espl_layer_rope; owned */
    int64_t bos;          /* -1: none */
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
/* A field of config.json that must be missing, null, false, 0 or empty, and what it would mean otherwise. */
typedef struct espl_refused_field {
    const char *key, *why;
} espl_refused_field;
/* The i-th of them; NULL behind the last. Static storage. */
const espl_refused_field *espl_model_refused_field(int i);
/* "default". Static storage. */
const char *espl_rope_type_name(espl_rope_type type);

#endif
