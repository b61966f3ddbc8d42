#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the masks of <model>.safetensors with those of llmcompressor's modifiers, on the same models and samples.

Needs llmcompressor 0.14.0.1, transformers 5.17, torch 2.13 (the CPU build is enough), safetensors, numpy.
usage: against_llmcompressor.py [MODEL...]
"""
import os
import pathlib
import sys

os.environ |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import torch
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from loguru import logger
from safetensors.torch import load_file
from torch.utils.data import DataLoader, default_collate
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

HERE = pathlib.Path(__file__).resolve().parent
MODELS = ("qwen3-tied-bf16", "smollm-tied-bf16", "llama-bias")
PATHS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
SPARSITY = 0.5


def recipe(method):
    name, group = method.rsplit("-", 1)
    structure = group if ":" in group else "0:0"
    common = {"sparsity": SPARSITY, "mask_structure": structure, "ignore": ["re:.*lm_head"]}
    return {"wanda": lambda: WandaPruningModifier(**common),
            "sparsegpt": lambda: SparseGPTModifier(block_size=128, dampening_frac=0.01, **common)}[name]()


METHODS = ("magnitude-layer", "wanda-row", "wanda-2:4", "wanda-4:8", "sparsegpt-layer", "sparsegpt-2:4")


def linears(model):
    return [layer.get_submodule(path) for layer in model.model.layers for path in PATHS]


def samples(ids):
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids.long()]
    return DataLoader(rows, batch_size=1, shuffle=False, collate_fn=default_collate)


def any_tokenizer():
    """llmcompressor requires a tokenizer, although the samples are ids."""
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({"a": 0}, unk_token="a")), pad_token="a")


def compress(model, method, ids):
    if method != "magnitude-layer":
        oneshot(model=model, dataset=samples(ids), recipe=recipe(method), pipeline="sequential",
                processor=any_tokenizer(), num_calibration_samples=len(ids), shuffle_calibration_samples=False)
        return
    # Its magnitude modifier works only during training. For one-shot pruning, its mask creator does the same.
    from llmcompressor.modifiers.pruning.utils.pytorch import PruningMaskCreatorArgs, PruningMaskFactory
    create = PruningMaskFactory.create_mask_creator("unstructured")
    for linear in linears(model):
        w = linear.weight
        mask = create(PruningMaskCreatorArgs(parameter=w, sparsity=SPARSITY, scores=w.data.abs()))
        w.data *= mask


def ties(method, before, differs):
    """Differing bits of weights equal to the threshold: llmcompressor prunes either all of them or none."""
    if method != "magnitude-layer" or not differs.any():
        return 0
    at = before[torch.from_numpy(differs)].abs()
    return int(differs.sum()) if (at == at[0]).all() else 0


def compare(name, method, golden):
    """(differing bits, ties among them, all bits)."""
    model = AutoModelForCausalLM.from_pretrained(HERE.parent / "models" / name, dtype=torch.float32)
    was = [linear.weight.detach().clone() for linear in linears(model)]
    compress(model.eval(), method, golden["ids"])
    bits = differing = tied = 0
    for i, (linear, before) in enumerate(zip(linears(model), was)):
        other = np.unpackbits(golden[f"mask.{method}.{i}"].numpy(), axis=1, bitorder="little")[:, :before.shape[1]]
        # a weight that was 0 before does not show whether it was pruned
        differs = ((linear.weight != 0).numpy() != other.astype(bool)) & (before != 0).numpy()
        differing += int(differs.sum())
        tied += ties(method, before, differs)
        bits += differs.size
    return differing, tied, bits


def divides(name, method):
    """True if all inputs are whole groups of M: of a smaller remainder, llmcompressor prunes one weight more."""
    config = AutoConfig.from_pretrained(HERE.parent / "models" / name)
    inputs = (config.hidden_size, config.intermediate_size, config.num_attention_heads * config.head_dim)
    return all(n % int(method.rsplit(":", 1)[1]) == 0 for n in inputs) if ":" in method else True


def main():
    logger.remove()
    rows, wrong = [], False
    for name in sys.argv[1:] or MODELS:
        golden = load_file(HERE / f"{name}.safetensors")
        for method in METHODS:
            if not divides(name, method):
                continue
            differing, tied, bits = compare(name, method, golden)
            rows.append(f"{name:18} {method:16} {differing:4} of {bits} bits differ, {tied} of them ties")
            allowed = bits // 50 if method.startswith("sparsegpt") else tied
            wrong |= differing > allowed
    print("\n".join(rows))
    return int(wrong)  # SparseGPT: a bit that differs changes the weights, and with them other bits


if __name__ == "__main__":
    sys.exit(main())
