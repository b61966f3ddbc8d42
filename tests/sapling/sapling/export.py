# SPDX-License-Identifier: Apache-2.0
"""Writes the model directory from a checkpoint. Usage: python -m sapling.export CHECKPOINT OUT_DIR"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from .lean import Lean, Shape, hf_state


def config(s):
    return dict(
        architectures=["Qwen3ForCausalLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=None,
        eos_token_id=0, head_dim=s.head_dim, hidden_act="silu", hidden_size=s.hidden, initializer_range=0.02,
        intermediate_size=s.ffn, max_position_embeddings=s.context, max_window_layers=s.layers, model_type="qwen3",
        num_attention_heads=s.heads, num_hidden_layers=s.layers, num_key_value_heads=s.kv_heads, pad_token_id=0,
        rms_norm_eps=s.eps, rope_scaling=None, rope_theta=s.theta, sliding_window=None, tie_word_embeddings=True,
        torch_dtype="bfloat16", use_cache=True, use_sliding_window=False, vocab_size=s.vocab)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def export(checkpoint, out):
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    model = Lean(Shape())
    model.load_state_dict(torch.load(checkpoint, weights_only=False, map_location="cpu")["model"])
    (out / "model.safetensors").unlink(missing_ok=True)
    save_file(hf_state(model), str(out / "model.safetensors"), metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    write_json(out / "config.json", config(model.shape))
    write_json(out / "generation_config.json", dict(do_sample=False, eos_token_id=0, pad_token_id=0))
    return model


if __name__ == "__main__":
    export(*sys.argv[1:3])
