/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptions of the model families, from configuration_*.py and modeling_*.py of transformers 5.23.
 */
#include "espalier/model/family.h"

#include <string.h>

#include "espalier/model/config.h"

/* Norms of what attention and MLP read, as in Llama. */
#define NORMS_BEFORE                                                                                                   \
    { [ESPL_NORM_ATTENTION_IN] = "input_layernorm", [ESPL_NORM_MLP_IN] = "post_attention_layernorm" }

/* Norms of what they add, as in OLMo 2. */
#define NORMS_AFTER                                                                                                    \
    { [ESPL_NORM_ATTENTION_OUT] = "post_attention_layernorm", [ESPL_NORM_MLP_OUT] = "post_feedforward_layernorm" }

static const espl_family families[] = {
    {.type = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .models = "Qwen3 0.6B to 32B",
     .norms = NORMS_BEFORE,
     .qk_norm = ESPL_QK_NORM_HEAD,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .kv_heads_required = true,
     .head_dim = 128,
     .rms_eps = 1e-6,
     .rope_theta = 10000,
     .window_rule = ESPL_WINDOW_SWITCH,
     .window = 4096},
    {.type = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .models = "Qwen2, Qwen2.5",
     .norms = NORMS_BEFORE,
     .qkv_bias = ESPL_BIAS_ALWAYS,
     .kv_heads_required = true,
     .rms_eps = 1e-6,
     .rope_theta = 10000,
     .window_rule = ESPL_WINDOW_SWITCH,
     .window = 4096},
    {.type = "llama",
     .architecture = "LlamaForCausalLM",
     .models = "Llama 1, 2 and 3.x, SmolLM, SmolLM2",
     .norms = NORMS_BEFORE,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .mlp_bias = ESPL_BIAS_FIELD,
     .rms_eps = 1e-6,
     .rope_theta = 10000},
    {.type = "mistral",
     .architecture = "MistralForCausalLM",
     .models = "Mistral 7B, Nemo, Small",
     .norms = NORMS_BEFORE,
     .kv_heads_required = true,
     .rms_eps = 1e-6,
     .rope_theta = 10000,
     .window_rule = ESPL_WINDOW_ALL,
     .window = 4096},
    {.type = "gemma3_text",
     .architecture = "Gemma3ForCausalLM",
     .models = "Gemma 3 270M and 1B",
     .refused = "`gemma3` (4B and up): text and images in one model",
     .norms = {[ESPL_NORM_ATTENTION_IN] = "input_layernorm",
               [ESPL_NORM_ATTENTION_OUT] = "post_attention_layernorm",
               [ESPL_NORM_MLP_IN] = "pre_feedforward_layernorm",
               [ESPL_NORM_MLP_OUT] = "post_feedforward_layernorm"},
     .qk_norm = ESPL_QK_NORM_HEAD,
     .norm_offset = 1,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .scales_embedding = true,
     .query_scalar = "query_pre_attn_scalar",
     .activation_key = "hidden_activation",
     .activation = ESPL_ACTIVATION_GELU_TANH,
     .tied = true,
     .kv_heads_required = true,
     .head_dim = 256,
     .rms_eps = 1e-6,
     .rope_theta = 1000000,
     .local_theta = 10000,
     .local_theta_key = "rope_local_base_freq",
     .window_rule = ESPL_WINDOW_PATTERN,
     .window = 4096,
     .window_pattern = 6,
     .keys = {"hidden_activation", "query_pre_attn_scalar", "rope_local_base_freq", "sliding_window_pattern",
              "cache_implementation"}},
    {.type = "olmo2",
     .architecture = "Olmo2ForCausalLM",
     .models = "OLMo 2 1B to 32B",
     .norms = NORMS_AFTER,
     .qk_norm = ESPL_QK_NORM_ALL,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .rms_eps = 1e-5,
     .rope_theta = 10000},
    {.type = "smollm3",
     .architecture = "SmolLM3ForCausalLM",
     .models = "SmolLM3 3B",
     .norms = NORMS_BEFORE,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .mlp_bias = ESPL_BIAS_FIELD,
     .tied = true,
     .kv_heads_required = true,
     .rms_eps = 1e-6,
     .rope_theta = 2000000,
     .nope_interval = 4,
     .window_rule = ESPL_WINDOW_NOPE,
     .keys = {"no_rope_layers", "no_rope_layer_interval"}},
    {.type = "granite",
     .architecture = "GraniteForCausalLM",
     .models = "Granite 3.x dense",
     .refused = "`granitemoe` and `granitemoehybrid` (Granite 4): experts, Mamba layers",
     .norms = NORMS_BEFORE,
     .qkv_bias = ESPL_BIAS_FIELD,
     .o_bias = ESPL_BIAS_FIELD,
     .mlp_bias = ESPL_BIAS_FIELD,
     .multipliers = true,
     .rms_eps = 1e-6,
     .rope_theta = 10000,
     .keys = {"embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"}},
    {.type = "phi3",
     .architecture = "Phi3ForCausalLM",
     .models = "Phi-3 mini and medium, Phi-3.5 mini, Phi-4, Phi-4-mini",
     .refused =
         "texts beyond `original_max_position_embeddings` with `longrope`; `phi3small`, `phimoe` and the multimodal "
         "Phis are other architectures",
     .norms = NORMS_BEFORE,
     .linears = {[ESPL_Q_PROJ] = "self_attn.qkv_proj",
                 [ESPL_K_PROJ] = "self_attn.qkv_proj",
                 [ESPL_V_PROJ] = "self_attn.qkv_proj",
                 [ESPL_GATE_PROJ] = "mlp.gate_up_proj",
                 [ESPL_UP_PROJ] = "mlp.gate_up_proj"},
     .partial_rotary = true,
     .rms_eps = 1e-5,
     .rope_theta = 10000,
     .rope_original = 4096,
     .rope_types = 1 << ESPL_ROPE_DEFAULT | 1 << ESPL_ROPE_LONGROPE,
     .window_rule = ESPL_WINDOW_ALL,
     .keys = {"full_attn_mod", "interpolate_factor"}},
};
enum { FAMILIES = sizeof families / sizeof *families };

const espl_family *espl_family_at(int i) { return i >= 0 && i < FAMILIES ? &families[i] : NULL; }

const espl_family *espl_family_find(const char *model_type) {
    for (int i = 0; i < FAMILIES; i++)
        if (strcmp(families[i].type, model_type) == 0) return &families[i];
    return NULL;
}
