# SPDX-License-Identifier: Apache-2.0
"""The tiny models of tests/golden: the exact config.json of each, and the features that must affect its logits."""

from dataclasses import dataclass, field

FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class Spec:
    """One model.

    `config` is written to config.json unchanged. `without` maps the name of a feature to the config fields that remove
    it, which must change the logits.
    """

    name: str
    config: dict
    dtype: str  # of the stored weights
    tokens: int  # length of each of the two sequences
    shards: int = 1
    norm_offset: float = 0.0  # norms multiply by offset + weight
    legacy_inv_freq: bool = False  # store the rotary_emb.inv_freq tensors of Llama-1/2 checkpoints
    without: dict = field(default_factory=dict)


def config(model_type, architecture, sizes, **rest):
    """sizes: (vocab, hidden, intermediate, layers, heads)"""
    vocab, hidden, intermediate, layers, heads = sizes
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_act": "silu", "vocab_size": vocab,
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": heads, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2, **rest,
    }


def qwen3(sizes, **rest):
    return config("qwen3", "Qwen3ForCausalLM", sizes, **rest)


def qwen2(sizes, **rest):
    return config("qwen2", "Qwen2ForCausalLM", sizes, **rest)


def llama(sizes, **rest):
    return config("llama", "LlamaForCausalLM", sizes, **rest)


def mistral(sizes, **rest):
    return config("mistral", "MistralForCausalLM", sizes, **rest)


def olmo2(sizes, **rest):
    return config("olmo2", "Olmo2ForCausalLM", sizes, **rest)


def gemma3(sizes, **rest):
    """Gemma reads hidden_activation."""
    fields = config("gemma3_text", "Gemma3ForCausalLM", sizes, **rest)
    del fields["hidden_act"]
    return fields


def smollm3(sizes, **rest):
    return config("smollm3", "SmolLM3ForCausalLM", sizes, pad_token_id=0, **rest)


def granite(sizes, **rest):
    return config("granite", "GraniteForCausalLM", sizes, **rest)


def phi3(sizes, **rest):
    return config("phi3", "Phi3ForCausalLM", sizes, pad_token_id=0, **rest)


def olmo3(sizes, **rest):
    return config("olmo3", "Olmo3ForCausalLM", sizes, pad_token_id=0, **rest)


def qwen3_moe(sizes, **rest):
    return config("qwen3_moe", "Qwen3MoeForCausalLM", sizes, decoder_sparse_step=1, mlp_only_layers=[],
                  output_router_logits=False, router_aux_loss_coef=0.001, rms_norm_eps=1e-6, attention_bias=False, **rest)


PHI_LONGROPE = {"type": "longrope", "short_factor": [1.0, 1.2, 1.5, 2.0], "long_factor": [1.0, 2.0, 4.0, 8.0]}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
YARN_OPTIONS = {**YARN, "beta_fast": 8, "beta_slow": 0.5, "mscale": 1.0, "mscale_all_dim": 0.7, "truncate": False}
OLMO3_YARN = {**YARN, "attention_factor": 1.2}
LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 32}

SPECS = [
    Spec("qwen3-tied-bf16",
         qwen3((211, 56, 96, 3, 4), num_key_value_heads=2, head_dim=24, rms_norm_eps=1e-6, rope_theta=1000000,
               rope_scaling=None, attention_bias=False, tie_word_embeddings=True, use_sliding_window=False,
               sliding_window=None, max_window_layers=3, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=29, without={"rope_theta": {"rope_theta": 10000.0}}),
    Spec("qwen3-untied-f32-sharded",
         qwen3((160, 40, 64, 3, 6), num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-6, rope_theta=1000000,
               rope_scaling=None, attention_bias=False, tie_word_embeddings=False, use_sliding_window=False,
               sliding_window=6, max_window_layers=0, torch_dtype="float32"),
         dtype="float32", tokens=24, shards=3, without={"unused_window": {"use_sliding_window": True}}),
    Spec("qwen3-bias",
         qwen3((173, 48, 100, 2, 4), num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-6, attention_bias=True,
               tie_word_embeddings=False, use_sliding_window=False, sliding_window=None,
               layer_types=[FULL, FULL], rope_parameters={"rope_type": "default", "rope_theta": 5000000.0},
               dtype="bfloat16"),
         dtype="bfloat16", tokens=31,
         without={"rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}}),
    Spec("qwen3-sliding",
         qwen3((192, 48, 96, 4, 4), num_key_value_heads=1, head_dim=16, rms_norm_eps=1e-6, attention_bias=False,
               tie_word_embeddings=True, use_sliding_window=True, sliding_window=5, max_window_layers=1,
               layer_types=[FULL, SLIDING, FULL, SLIDING],
               rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, dtype="bfloat16"),
         dtype="bfloat16", tokens=37,
         without={"window": {"layer_types": [FULL] * 4}, "window_size": {"sliding_window": 6},
                  "layer_types": {"layer_types": [FULL, SLIDING, SLIDING, SLIDING]}}),
    Spec("qwen3moe-bf16",
         qwen3_moe((163, 40, 96, 3, 4), num_key_value_heads=2, head_dim=16, moe_intermediate_size=24, num_experts=8,
                   num_experts_per_tok=2, norm_topk_prob=True, rope_theta=1000000.0, rope_scaling=None,
                   tie_word_embeddings=False, use_sliding_window=False, sliding_window=None, max_window_layers=3,
                   torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=26,
         without={"rope_theta": {"rope_theta": 10000.0}, "norm_topk_prob": {"norm_topk_prob": False},
                  "num_experts_per_tok": {"num_experts_per_tok": 3}}),
    Spec("qwen3moe-sliding-f32",
         qwen3_moe((131, 24, 40, 2, 3), num_key_value_heads=3, moe_intermediate_size=12, num_local_experts=14,
                   num_experts_per_tok=1, norm_topk_prob=False, tie_word_embeddings=True, use_sliding_window=True,
                   sliding_window=6, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, dtype="float32"),
         dtype="float32", tokens=24,
         without={"window": {"use_sliding_window": False}, "window_size": {"sliding_window": 7},
                  "norm_topk_prob": {"norm_topk_prob": True}}),
    Spec("qwen2-bias-bf16",
         qwen2((223, 48, 104, 3, 4), num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=1000000.0,
               tie_word_embeddings=True, use_sliding_window=False, sliding_window=32768, max_window_layers=3,
               torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=33, without={"rope_theta": {"rope_theta": 10000.0}}),
    Spec("qwen2-untied-f16",
         qwen2((187, 48, 112, 3, 6), num_key_value_heads=3, rms_norm_eps=1e-6, rope_theta=1000000.0,
               tie_word_embeddings=False, use_sliding_window=False, torch_dtype="float16"),
         dtype="float16", tokens=30, without={"rope_theta": {"rope_theta": 10000.0}}),
    Spec("qwen2-sliding-classic",
         qwen2((177, 48, 80, 3, 4), num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=1000000.0,
               tie_word_embeddings=True, use_sliding_window=True, sliding_window=6, max_window_layers=1,
               torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=32,
         without={"window": {"use_sliding_window": False}, "max_window_layers": {"max_window_layers": 2}}),
    Spec("llama-mha-f16",
         llama((199, 48, 128, 2, 4), rms_norm_eps=1e-6, pad_token_id=0, tie_word_embeddings=False,
               torch_dtype="float16"),
         dtype="float16", tokens=28, legacy_inv_freq=True, without={"rope_theta": {"rope_theta": 500.0}}),
    Spec("llama3-rope",
         llama((160, 48, 72, 2, 4), num_key_value_heads=2, head_dim=12, rms_norm_eps=1e-5, rope_theta=500.0,
               rope_scaling=LLAMA3_SCALING, attention_bias=False, mlp_bias=False, tie_word_embeddings=True,
               eos_token_id=[2, 3], torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=96,
         without={"rope_scaling": {"rope_scaling": None},
                  "low_freq_factor": {"rope_scaling": {**LLAMA3_SCALING, "low_freq_factor": 2.0}},
                  "high_freq_factor": {"rope_scaling": {**LLAMA3_SCALING, "high_freq_factor": 2.0}},
                  "as_linear": {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}}),
    Spec("llama-linear",
         llama((181, 48, 88, 2, 4), num_key_value_heads=4, rms_norm_eps=1e-5, rope_theta=10000.0,
               rope_scaling={"type": "linear", "factor": 4.0}, tie_word_embeddings=False, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=40, without={"rope_scaling": {"rope_scaling": None}}),
    Spec("smollm-tied-bf16",
         llama((173, 72, 134, 2, 9), num_key_value_heads=3, rms_norm_eps=1e-5, rope_theta=100000, rope_scaling=None,
               attention_bias=False, mlp_bias=False, pretraining_tp=1, tie_word_embeddings=True,
               torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=35, without={"rope_theta": {"rope_theta": 10000.0}}),
    Spec("llama-bias",
         llama((167, 48, 88, 2, 4), num_key_value_heads=2, head_dim=16, rms_norm_eps=0.02, attention_bias=True,
               mlp_bias=True, tie_word_embeddings=False,
               rope_parameters={**LLAMA3_SCALING, "rope_theta": 10000.0}, dtype="bfloat16"),
         dtype="bfloat16", tokens=40,
         without={"rms_norm_eps": {"rms_norm_eps": 1e-6},
                  "rope_scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}}),
    Spec("mistral-sliding",
         mistral((197, 64, 96, 2, 8), num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0,
                 sliding_window=7, tie_word_embeddings=False, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=36,
         without={"window": {"sliding_window": None}, "window_size": {"sliding_window": 8}}),
    Spec("mistral-full",
         mistral((189, 48, 96, 2, 4), num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-5, sliding_window=None,
                 rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, tie_word_embeddings=False,
                 dtype="bfloat16"),
         dtype="bfloat16", tokens=34,
         without={"rope_theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}}),
    Spec("olmo2-bf16",
         olmo2((157, 48, 80, 3, 4), num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=500000, rope_scaling=None,
               attention_bias=False, tie_word_embeddings=False, pad_token_id=0, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=27, without={"rope_theta": {"rope_theta": 10000.0}}),
    Spec("olmo2-bias-f32",
         olmo2((131, 36, 60, 4, 6), attention_bias=True, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
               tie_word_embeddings=True, dtype="float32"),
         dtype="float32", tokens=24, without={"rms_norm_eps": {"rms_norm_eps": 0.02}}),
    Spec("gemma3-bf16",
         gemma3((149, 48, 80, 4, 4), num_key_value_heads=2, head_dim=16, rms_norm_eps=1e-6,
                hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=24, sliding_window=5,
                layer_types=[SLIDING, SLIDING, FULL, SLIDING], rope_theta=1000000.0, rope_local_base_freq=10000.0,
                rope_scaling={"rope_type": "linear", "factor": 8.0}, attention_bias=False, attn_logit_softcapping=None,
                final_logit_softcapping=None, use_bidirectional_attention=False, cache_implementation="hybrid",
                _sliding_window_pattern=6, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=26, norm_offset=1.0,
         without={"window": {"layer_types": [FULL] * 4}, "window_size": {"sliding_window": 6},
                  "rope_theta": {"rope_theta": 100.0}, "rope_local_base_freq": {"rope_local_base_freq": 100.0},
                  "rope_scaling": {"rope_scaling": None}, "query_pre_attn_scalar": {"query_pre_attn_scalar": 16},
                  "activation": {"hidden_activation": "silu"}}),
    Spec("gemma3-pattern-f32",
         gemma3((113, 32, 48, 5, 2), num_key_value_heads=1, head_dim=20, rms_norm_eps=1e-6,
                query_pre_attn_scalar=20, sliding_window=6, sliding_window_pattern=3, attention_bias=True,
                tie_word_embeddings=False,
                rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": 50000.0},
                                 "sliding_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}},
                dtype="float32"),
         dtype="float32", tokens=24, norm_offset=1.0,
         without={"pattern": {"sliding_window_pattern": 2}, "window_size": {"sliding_window": 7},
                  "local scaling": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 50000.0},
                                                        "sliding_attention": {"rope_type": "default",
                                                                              "rope_theta": 1000.0}}}}),
    Spec("smollm3-bf16",
         smollm3((151, 48, 88, 4, 4), num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=5000000.0, rope_scaling=None,
                 no_rope_layers=[1, 0, 1, 1], no_rope_layer_interval=4, layer_types=[FULL] * 4, max_window_layers=28,
                 use_sliding_window=False, sliding_window=None, attention_bias=False, mlp_bias=False, pretraining_tp=2,
                 torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=30,
         without={"rope_theta": {"rope_theta": 10000.0}, "no_rope_layers": {"no_rope_layers": [1, 1, 1, 1]},
                  "order": {"no_rope_layers": [1, 1, 0, 1]}}),
    Spec("smollm3-sliding",
         smollm3((127, 40, 64, 4, 4), num_key_value_heads=1, rms_norm_eps=1e-6, no_rope_layer_interval=2, mlp_bias=True,
                 attention_bias=True, use_sliding_window=True, sliding_window=6, tie_word_embeddings=False,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, dtype="bfloat16"),
         dtype="bfloat16", tokens=25,
         without={"window": {"use_sliding_window": False}, "window_size": {"sliding_window": 7},
                  "interval": {"no_rope_layer_interval": 3}, "no_rope": {"no_rope_layers": [1] * 4}}),
    Spec("granite-bf16",
         granite((143, 48, 88, 3, 4), num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None,
                 embedding_multiplier=3.0, attention_multiplier=0.18, residual_multiplier=0.7, logits_scaling=1.6,
                 attention_bias=False, mlp_bias=False, tie_word_embeddings=True, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=28,
         without={"rope_theta": {"rope_theta": 500.0}, "embedding_multiplier": {"embedding_multiplier": 1.0},
                  "attention_multiplier": {"attention_multiplier": 12 ** -0.5},
                  "residual_multiplier": {"residual_multiplier": 1.0}, "logits_scaling": {"logits_scaling": 1.0}}),
    Spec("granite-bias-f16",
         granite((119, 36, 56, 2, 3), rms_norm_eps=1e-6, embedding_multiplier=1.5, residual_multiplier=0.5,
                 logits_scaling=0.5, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
                 rope_parameters={"rope_type": "default", "rope_theta": 1000.0}, dtype="float16"),
         dtype="float16", tokens=24,
         without={"attention_multiplier": {"attention_multiplier": 12 ** -0.5},
                  "residual_multiplier": {"residual_multiplier": 1.0}}),
    Spec("phi3-bf16",
         phi3((151, 48, 72, 3, 4), num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0, rope_scaling=None,
              original_max_position_embeddings=256, resid_pdrop=0.0, embd_pdrop=0.0, attention_bias=False,
              sliding_window=9, tie_word_embeddings=False, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=27,
         without={"rope_theta": {"rope_theta": 500.0}, "window_size": {"sliding_window": 10},
                  "window": {"sliding_window": None}}),
    Spec("phi3-longrope",
         phi3((127, 48, 64, 2, 3), rms_norm_eps=1e-5, rope_theta=500.0, partial_rotary_factor=0.5,
              rope_scaling=PHI_LONGROPE, original_max_position_embeddings=40, sliding_window=None,
              tie_word_embeddings=True, torch_dtype="float16"),
         dtype="float16", tokens=40,
         without={"short_factor": {"rope_scaling": {**PHI_LONGROPE, "short_factor": [1.0] * 4}},
                  "attention_factor": {"max_position_embeddings": 40},
                  "original": {"original_max_position_embeddings": 80}}),
    Spec("olmo3-bf16",
         olmo3((139, 48, 72, 4, 4), num_key_value_heads=2, rms_norm_eps=1e-6, rope_theta=500000, rope_scaling=None,
               sliding_window=6, attention_bias=False, tie_word_embeddings=False, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=26,
         without={"window_size": {"sliding_window": 7}, "pattern": {"layer_types": [SLIDING] * 4}}),
    Spec("olmo3-types",
         olmo3((113, 32, 48, 3, 2), sliding_window=5, layer_types=[FULL, SLIDING, SLIDING], tie_word_embeddings=True,
               rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}, dtype="bfloat16"),
         dtype="bfloat16", tokens=24,
         without={"layer_types": {"layer_types": [SLIDING, SLIDING, FULL]},
                  "local theta": {"rope_parameters": {
                      "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
                      "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}},
                  "scaling": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5000.0},
                                                  "sliding_attention": {"rope_type": "default", "rope_theta": 300.0}}}}),
    Spec("qwen3-yarn",
         qwen3((139, 40, 64, 2, 4), num_key_value_heads=2, head_dim=24, rms_norm_eps=1e-6, rope_theta=1000.0,
               rope_scaling=YARN, attention_bias=False, tie_word_embeddings=True, use_sliding_window=False,
               sliding_window=None, max_window_layers=2, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=48,
         without={"rope_scaling": {"rope_scaling": None}, "factor": {"rope_scaling": {**YARN, "factor": 2.0}},
                  "original": {"rope_scaling": {**YARN, "original_max_position_embeddings": 16}},
                  "attention_factor": {"rope_scaling": {**YARN, "attention_factor": 1.0}}}),
    Spec("llama-yarn",
         llama((131, 40, 64, 2, 4), num_key_value_heads=2, head_dim=20, rms_norm_eps=1e-5,
               rope_parameters={**YARN_OPTIONS, "rope_theta": 1000.0}, tie_word_embeddings=False, dtype="bfloat16"),
         dtype="bfloat16", tokens=48,
         without={key: {"rope_parameters": {**YARN_OPTIONS, "rope_theta": 1000.0, key: value}} for key, value in
                  (("beta_fast", 32), ("beta_slow", 1), ("mscale", 0.0), ("mscale_all_dim", 1.0), ("truncate", True))}),
    Spec("olmo3-yarn",
         olmo3((113, 32, 48, 4, 2), rms_norm_eps=1e-6, rope_theta=500000, rope_scaling=OLMO3_YARN, sliding_window=6,
               layer_types=[SLIDING, SLIDING, SLIDING, FULL], tie_word_embeddings=False, torch_dtype="bfloat16"),
         dtype="bfloat16", tokens=32,
         without={"rope_scaling": {"rope_scaling": None},
                  "attention_factor": {"rope_scaling": {**OLMO3_YARN, "attention_factor": 1.0}}}),
]
