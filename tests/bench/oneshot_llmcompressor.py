#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The same one-shot pruning by llmcompressor as by bench_oneshot, and a comparison of the results.

llmcompressor 0.14.0.1, transformers 5.17, torch 2.13 (the CPU build is enough), safetensors.
usage: oneshot_llmcompressor.py ids MODEL TEXT OUT.safetensors [--samples N] [--window T]
       oneshot_llmcompressor.py run MODEL IDS OUT.safetensors --method wanda|sparsegpt [--pattern 2:4] [--sparsity S]
                                [--threads 2] [--dtype float32|bfloat16]
       oneshot_llmcompressor.py compare MODEL IDS A.safetensors B.safetensors
run prints one JSON line; seconds are those of oneshot(), the model being loaded. compare prints, for A against B, mask
bits that differ and the layer errors |X (W' - W)^T|^2 of both, X the dense model's inputs on the samples.
"""
import argparse
import json
import os
import resource
import time

os.environ |= {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PATHS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def linears(model):
    return [layer.get_submodule(path) for layer in model.model.layers for path in PATHS]


def load(a, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(a.model, dtype=dtype).eval()


def make_ids(a):
    with open(a.text, encoding="utf-8") as f:
        ids = AutoTokenizer.from_pretrained(a.model)(f.read(), return_tensors="pt").input_ids[0]
    ids = ids[: a.samples * a.window].reshape(a.samples, a.window)
    save_file({"ids": ids.int().contiguous()}, a.out)


def run(a):
    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
    from loguru import logger
    from torch.utils.data import DataLoader, default_collate
    logger.remove()
    torch.set_num_threads(a.threads)
    model, ids = load(a, getattr(torch, a.dtype)), load_file(a.ids)["ids"].long()
    rows = [{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in ids]
    common = {"sparsity": a.sparsity, "mask_structure": a.pattern or "0:0", "ignore": ["re:.*lm_head"]}
    recipe = WandaPruningModifier(**common) if a.method == "wanda" else SparseGPTModifier(**common)
    start, cpu = time.monotonic(), time.process_time()
    oneshot(model=model, recipe=recipe, pipeline="sequential", processor=AutoTokenizer.from_pretrained(a.model),
            dataset=DataLoader(rows, batch_size=1, shuffle=False, collate_fn=default_collate),
            num_calibration_samples=len(rows), shuffle_calibration_samples=False)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    save_file({f"weight.{i}": linear.weight.detach().contiguous() for i, linear in enumerate(linears(model))}, a.out)
    print(json.dumps({"method": a.method, "pattern": a.pattern or "unstructured", "samples": len(rows),
                      "window": ids.shape[1], "threads": a.threads, "dtype": a.dtype, "seconds": round(seconds, 2),
                      "cpu_seconds": round(cpu, 2),
                      "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}))


def grams(model, ids):
    """x x^T of every linear's input, summed over all samples, in f64."""
    sums = {}

    def keep(i, x):
        flat = x.detach().flatten(0, -2).double()
        sums[i] = sums.get(i, 0) + flat.T @ flat

    for i, linear in enumerate(linears(model)):
        if i % 7 in (0, 3, 4, 6):  # q, o, gate, down: the others share an input
            linear.register_forward_pre_hook(lambda _m, arguments, i=i: keep(i, arguments[0]))
    with torch.no_grad():
        for row in ids.split(1):
            model.model(row, use_cache=False)
    first = (0, 0, 0, 3, 4, 4, 6)
    return lambda i: sums[i // 7 * 7 + first[i % 7]]


def compare(a):
    model, files = load(a), [load_file(a.first), load_file(a.second)]
    gram = grams(model, load_file(a.ids)["ids"].long())
    bits = differing = same = 0
    errors, worst = [0.0, 0.0], 0.0
    for i, linear in enumerate(linears(model)):
        kept = [f[f"weight.{i}"] != 0 for f in files]
        dense = linear.weight.detach().double()
        changes = [f[f"weight.{i}"].double() - dense for f in files]
        mine = [torch.einsum("oi,ij,oj->", c, gram(i), c).item() for c in changes]
        errors = [e + m for e, m in zip(errors, mine)]
        worst = max(worst, mine[0] / mine[1] - 1)
        differing += int(((kept[0] != kept[1]) & (dense != 0)).sum())
        same += differing == 0
        bits += dense.numel()
    print(json.dumps({"differing_bits": differing, "bits": bits, "first_linears_identical": same, "error_a": errors[0],
                      "error_b": errors[1], "ratio": errors[0] / errors[1], "largest_excess_of_a_linear": worst}))


def main():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(required=True)
    for name, does, places in (("ids", make_ids, ("model", "text", "out")), ("run", run, ("model", "ids", "out")),
                               ("compare", compare, ("model", "ids", "first", "second"))):
        command = commands.add_parser(name)
        command.set_defaults(does=does)
        for place in places:
            command.add_argument(place)
        if name == "ids":
            command.add_argument("--samples", type=int, default=8)
            command.add_argument("--window", type=int, default=512)
        if name == "run":
            command.add_argument("--method", choices=("wanda", "sparsegpt"), required=True)
            command.add_argument("--pattern", default="")
            command.add_argument("--sparsity", type=float, default=0.5)
            command.add_argument("--threads", type=int, default=2)
            command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    a = top.parse_args()
    a.does(a)


if __name__ == "__main__":
    main()
