# SPDX-License-Identifier: Apache-2.0
"""Converts the GGUF file of SmolLM2-135M-Instruct, Gemma 3 270M or Qwen2.5-Coder-0.5B-Instruct to a Hugging Face directory:
bf16 safetensors, config, tokenizer.

usage: gguf_to_hf.py FILE.gguf OUTPUT_DIRECTORY
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np

import gemma3_tokenizer
import qwen2_tokenizer
import safetensors_io
import smollm2_tokenizer

TOP_LEVEL = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
LINEARS = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
LLAMA_LAYER = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", **LINEARS}
QWEN2_BIASES = {f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"}
GEMMA3_LAYER = {
    "attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", **LINEARS,
}
# Of Gemma 3; the GGUF leaves them to the program.
GEMMA3_LOCAL_THETA, GEMMA3_PATTERN = 10000.0, 6


def metadata(reader, key):
    """The value of a GGUF field. Raises ValueError if it is missing."""
    field = reader.get_field(key)
    if field is None:
        raise ValueError(f"the GGUF has no field {key}")
    return field.contents()


def shortest_decimal(value):
    """The shortest decimal that rounds to the same float32: 9.99999975e-06 becomes 1e-05."""
    return float(str(np.float32(value)))


def llama_config(reader):
    """config.json of a Llama in the classic style of the hub, from the GGUF's metadata."""
    hidden, heads = metadata(reader, "llama.embedding_length"), metadata(reader, "llama.attention.head_count")
    if metadata(reader, "llama.rope.dimension_count") * heads != hidden:
        raise ValueError("rope dimension times heads is not the hidden size")
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": metadata(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata(reader, "tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": hidden**-0.5,
        "intermediate_size": metadata(reader, "llama.feed_forward_length"),
        "max_position_embeddings": metadata(reader, "llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": metadata(reader, "llama.block_count"),
        "num_key_value_heads": metadata(reader, "llama.attention.head_count_kv"),
        "pad_token_id": metadata(reader, "tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": shortest_decimal(metadata(reader, "llama.attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest_decimal(metadata(reader, "llama.rope.freq_base")),
        "tie_word_embeddings": all(t.name != "output.weight" for t in reader.tensors),
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": metadata(reader, "llama.vocab_size"),
    }


def gemma3_config(reader):
    """The same of a Gemma 3."""
    head_dim = metadata(reader, "gemma3.attention.key_length")
    layers = metadata(reader, "gemma3.block_count")
    return {
        "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attn_logit_softcapping": None,
        "bos_token_id": metadata(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata(reader, "tokenizer.ggml.eos_token_id"),
        "final_logit_softcapping": None,
        "head_dim": head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": metadata(reader, "gemma3.embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": metadata(reader, "gemma3.feed_forward_length"),
        "layer_types": ["sliding_attention" if (i + 1) % GEMMA3_PATTERN else "full_attention" for i in range(layers)],
        "max_position_embeddings": metadata(reader, "gemma3.context_length"),
        "model_type": "gemma3_text",
        "num_attention_heads": metadata(reader, "gemma3.attention.head_count"),
        "num_hidden_layers": layers,
        "num_key_value_heads": metadata(reader, "gemma3.attention.head_count_kv"),
        "pad_token_id": metadata(reader, "tokenizer.ggml.padding_token_id"),
        "query_pre_attn_scalar": head_dim,
        "rms_norm_eps": shortest_decimal(metadata(reader, "gemma3.attention.layer_norm_rms_epsilon")),
        "rope_local_base_freq": GEMMA3_LOCAL_THETA,
        "rope_scaling": None,
        "rope_theta": shortest_decimal(metadata(reader, "gemma3.rope.freq_base")),
        "sliding_window": metadata(reader, "gemma3.attention.sliding_window"),
        "tie_word_embeddings": all(t.name != "output.weight" for t in reader.tensors),
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": len(metadata(reader, "tokenizer.ggml.tokens")),
    }


def qwen2_config(reader):
    """The same of a Qwen2.5 whose head is its embedding."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": metadata(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": metadata(reader, "tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": metadata(reader, "qwen2.embedding_length"),
        "initializer_range": 0.02,
        "intermediate_size": metadata(reader, "qwen2.feed_forward_length"),
        "max_position_embeddings": metadata(reader, "qwen2.context_length"),
        "model_type": "qwen2",
        "num_attention_heads": metadata(reader, "qwen2.attention.head_count"),
        "num_hidden_layers": metadata(reader, "qwen2.block_count"),
        "num_key_value_heads": metadata(reader, "qwen2.attention.head_count_kv"),
        "pad_token_id": metadata(reader, "tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": shortest_decimal(metadata(reader, "qwen2.attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": shortest_decimal(metadata(reader, "qwen2.rope.freq_base")),
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": len(metadata(reader, "tokenizer.ggml.tokens")),
    }


def generation_config(config):
    """generation_config.json: only the special ids."""
    keys = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {"_from_model_config": True, **{key: config[key] for key in keys}}


def hf_name(name, in_layer):
    """The Hugging Face name of a llama.cpp tensor. Raises ValueError or KeyError if it is unknown."""
    if name in TOP_LEVEL:
        return TOP_LEVEL[name]
    block, layer, part, suffix = name.split(".")
    if block != "blk" or suffix not in ("weight", "bias"):
        raise ValueError(f"unknown tensor {name}")
    return f"model.layers.{layer}.{(QWEN2_BIASES if suffix == 'bias' else in_layer)[part]}.{suffix}"


def undo_rope_permutation(weight, heads):
    """Reorders rows [heads * d, in] from llama.cpp's rotary pairs (0, d/2, 1, d/2+1, …) to Hugging Face's halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def llama_tensor(tensor, config):
    """Dequantised float32 values of a GGUF tensor, in Hugging Face's row order."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    if tensor.name.endswith("attn_q.weight"):
        return undo_rope_permutation(values, config["num_attention_heads"])
    if tensor.name.endswith("attn_k.weight"):
        return undo_rope_permutation(values, config["num_key_value_heads"])
    return values


def gemma3_tensor(tensor, _config):
    """The same of a Gemma, whose norms llama.cpp stores as what they multiply by, 1 + weight."""
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return values - 1 if tensor.name.endswith("norm.weight") else values


def qwen2_tensor(tensor, _config):
    """The same of a Qwen2.5, whose rows llama.cpp leaves in Hugging Face's order."""
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def stored_tensors(reader, in_layer):
    """{Hugging Face name: tensor}. A tied embedding that the file also stores as a head, in more bits, is taken from there."""
    tensors = {t.name: t for t in reader.tensors}
    if "output.weight" in tensors:
        tensors["token_embd.weight"] = tensors.pop("output.weight")
    return {hf_name(name, in_layer): tensor for name, tensor in tensors.items()}


def write_weights(reader, config, in_layer, load, path):
    """Writes model.safetensors, with the tensors in the order of their names."""
    tensors = stored_tensors(reader, in_layer)
    in_a_layer = len(in_layer) + (len(QWEN2_BIASES) if config["model_type"] == "qwen2" else 0)
    expected = len(TOP_LEVEL) + in_a_layer * config["num_hidden_layers"]
    if len(tensors) != expected:
        raise ValueError(f"{len(tensors)} tensors in the GGUF, expected {expected}")
    shapes = {name: tuple(int(n) for n in reversed(tensors[name].shape)) for name in sorted(tensors)}
    safetensors_io.write_bf16(path, shapes, lambda name: load(tensors[name], config))


def tokenizer_fields(reader, architecture, names):
    """The fields of the tokenizer's config that SmolLM2 and Gemma have, and the lists of those names."""
    fields = {k: metadata(reader, f"tokenizer.ggml.{k}")
              for k in ("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id")}
    fields["context_length"] = metadata(reader, f"{architecture}.context_length")
    return fields, [metadata(reader, f"tokenizer.ggml.{k}") for k in names]


def check_tokenizer(reader, *expected):
    """Another tokenizer would need another pre-tokenizer, which a GGUF only names."""
    found = metadata(reader, "tokenizer.ggml.model"), metadata(reader, "tokenizer.ggml.pre")
    if found != expected:
        raise ValueError(f"tokenizer {'/'.join(found)} in the GGUF, expected {'/'.join(expected)}")


def smollm2_files(reader):
    """(tokenizer.json, tokenizer_config.json) as objects."""
    check_tokenizer(reader, "gpt2", "smollm")
    fields, (tokens, types, merges) = tokenizer_fields(reader, "llama", ("tokens", "token_type", "merges"))
    fields["chat_template"] = metadata(reader, "tokenizer.chat_template")
    return (smollm2_tokenizer.tokenizer_json(tokens, types, merges),
            smollm2_tokenizer.tokenizer_config(tokens, types, fields))


def gemma3_files(reader):
    """The same."""
    check_tokenizer(reader, "llama", "default")
    fields, (tokens, types, scores) = tokenizer_fields(reader, "gemma3", ("tokens", "token_type", "scores"))
    return gemma3_tokenizer.tokenizer_json(tokens, types, scores), gemma3_tokenizer.tokenizer_config(tokens, fields)


def qwen2_files(reader):
    """The same."""
    check_tokenizer(reader, "gpt2", "qwen2")
    tokens, types, merges, template = (metadata(reader, f"tokenizer.{k}")
                                       for k in ("ggml.tokens", "ggml.token_type", "ggml.merges", "chat_template"))
    return (qwen2_tokenizer.tokenizer_json(tokens, types, merges),
            qwen2_tokenizer.tokenizer_config(tokens, types, template, metadata(reader, "qwen2.context_length")))


# architecture of the GGUF: config, tokenizer files, names in a layer, values of a tensor
RECIPES = {"llama": (llama_config, smollm2_files, LLAMA_LAYER, llama_tensor),
           "gemma3": (gemma3_config, gemma3_files, GEMMA3_LAYER, gemma3_tensor),
           "qwen2": (qwen2_config, qwen2_files, LLAMA_LAYER, qwen2_tensor)}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def convert(source, output):
    """Writes all files. An unexpected configuration or tokenizer fails before the first one is written."""
    reader = gguf.GGUFReader(source)
    architecture = metadata(reader, "general.architecture")
    if architecture not in RECIPES:
        raise ValueError(f"the GGUF is of architecture {architecture}, expected one of {', '.join(RECIPES)}")
    model_config, tokenizer_files, in_layer, load = RECIPES[architecture]
    config = model_config(reader)
    tokenizer, settings = tokenizer_files(reader)
    write_json(output / "config.json", config)
    write_json(output / "generation_config.json", generation_config(config))
    write_json(output / "tokenizer.json", tokenizer)
    write_json(output / "tokenizer_config.json", settings)
    write_weights(reader, config, in_layer, load, output / "model.safetensors")


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    output = Path(arguments[1])
    output.mkdir(parents=True, exist_ok=True)
    try:
        convert(arguments[0], output)
    except (ValueError, KeyError) as error:
        print(f"gguf_to_hf: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"gguf_to_hf: {error}", file=sys.stderr)
        return 74
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
