/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Model families as data. A description (src/model/family.c) says in what a family differs from others: where its norms
 * stand, how its tensors are named, which fields of config.json it heeds. What reads a config, binds tensors or
 * computes a layer follows the description; nothing asks which family it is. All functions are Local.
 */
#ifndef ESPALIER_MODEL_FAMILY_H
#define ESPALIER_MODEL_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "espalier/loop/linear.h"
#include "espalier/tensor/elementwise.h"

/* The RMSNorms of a decoder layer over the residual stream: of what a branch reads, and of what it adds. */
typedef enum espl_norm_place {
    ESPL_NORM_ATTENTION_IN,
    ESPL_NORM_ATTENTION_OUT,
    ESPL_NORM_MLP_IN,
    ESPL_NORM_MLP_OUT,
    ESPL_NORM_PLACES
} espl_norm_place;

/* RMSNorm of queries and keys before RoPE: none; of each head, with one weight for all heads; of all heads at once. */
typedef enum espl_qk_norm { ESPL_QK_NORM_NONE, ESPL_QK_NORM_HEAD, ESPL_QK_NORM_ALL } espl_qk_norm;

/* Whether linears have a bias. FIELD: as "attention_bias" or "mlp_bias" says. */
typedef enum espl_bias_rule { ESPL_BIAS_NEVER, ESPL_BIAS_ALWAYS, ESPL_BIAS_FIELD } espl_bias_rule;

/* Which layers have a sliding window, unless "layer_types" says it. */
typedef enum espl_window_rule {
    ESPL_WINDOW_NONE,   /* none; "sliding_window" is refused */
    ESPL_WINDOW_ALL,    /* all, if "sliding_window" is a number */
    ESPL_WINDOW_USED,   /* all, if "use_sliding_window" */
    ESPL_WINDOW_SWITCH, /* those from "max_window_layers" on, if "use_sliding_window" */
    ESPL_WINDOW_NOPE,   /* those without RoPE, if "use_sliding_window" */
    ESPL_WINDOW_PATTERN /* all but every window_pattern-th */
} espl_window_rule;

enum { ESPL_FAMILY_KEYS_MAX = 12 };

/* A member that a description does not name is 0: no such norm, no bias, no window. */
typedef struct espl_family {
    const char *type, *architecture; /* "qwen3", "Qwen3ForCausalLM" */
    const char *models;              /* what is published as this family, for docs/models.md */
    const char *refused;             /* what of it is not computed, and why, for docs/models.md; or NULL */

    /* Tensors of a layer, by their names below "model.layers.N." and without ".weight". */
    const char *norms[ESPL_NORM_PLACES];    /* NULL: no such norm */
    const char *linears[ESPL_LINEAR_KINDS]; /* NULL: espl_linear_path. Consecutive linears with the same name are rows
                                               of one tensor, in their order */

    espl_qk_norm qk_norm; /* "self_attn.q_norm" and "self_attn.k_norm" */
    double norm_offset;   /* all norms multiply by norm_offset + weight */
    espl_bias_rule qkv_bias, o_bias, mlp_bias;
    bool experts;          /* a layer's MLP is "mlp.experts.0" to "mlp.experts.N", of which "mlp.gate" chooses some for
                              each token; heeds "num_experts" and its like */
    bool scales_embedding; /* embeddings are multiplied by sqrt(hidden) */
    bool multipliers;      /* heeds "embedding_multiplier", "attention_multiplier", "residual_multiplier" and
                              "logits_scaling" */
    const char *query_scalar; /* field of the number whose -1/2-th power scales attention scores; NULL: head_dim */

    /* Fields of config.json, and what they mean if they are missing. */
    const char *activation_key; /* NULL: "hidden_act" */
    espl_activation activation;
    bool tied;
    bool kv_heads_required; /* num_key_value_heads: the class default is that of one published size */
    bool partial_rotary;    /* heeds partial_rotary_factor */
    int64_t head_dim;       /* 0: hidden_size / num_attention_heads */
    double rms_eps;

    /* RoPE. With a local theta, layers that slide have RoPE parameters of their own. */
    double rope_theta, local_theta;
    const char *local_theta_key; /* NULL: no field */
    int64_t rope_original;       /* original_max_position_embeddings if config.json lacks it; 0: the value of the RoPE
                                    dictionary, or max_position_embeddings */
    int64_t nope_interval;       /* without "no_rope_layers", every n-th layer has no RoPE; 0: no layer */
    unsigned rope_types;         /* bits 1 << espl_rope_type: those that transformers accepts; 0: all */

    espl_window_rule window_rule;
    int64_t window; /* sliding_window; 0: none */
    int64_t window_pattern;

    const char *keys[ESPL_FAMILY_KEYS_MAX]; /* further fields that are read, or that transformers does not read, up to
                                               the first NULL */
} espl_family;

/* The family of a model_type; NULL: none. Static storage. */
const espl_family *espl_family_find(const char *model_type);
/* The i-th family, in the order of the documentation; NULL behind the last. Static storage. */
const espl_family *espl_family_at(int i);

#endif
