#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes scores.safetensors (README.md): masks, with plain NumPy. Needs ../requirements.txt.

usage: make_prune.py [--check]
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
SAPLING = HERE.parent.parent / "sapling" / "model" / "model.safetensors"
# name: (dtype, out, in, fractions pruned one after the other, whether values are coarse, so that scores tie)
CASES = {"bf16": (torch.bfloat16, 37, 130, (0.31, 0.5, 0.9), False),
         "f16": (torch.float16, 16, 64, (0.01, 0.45, 1.0), False),
         "f32": (torch.float32, 9, 1100, (0.45, 0.7), False),
         "ties": (torch.bfloat16, 23, 200, (0.2, 0.333, 0.8), True),
         "one": (torch.float32, 1, 1, (1.0,), False)}
SCORES = ("magnitude", "wanda", "ria")


def score(name, weight, norm, kept):
    """Scores f32 [out, in] from weight f32 and norm f32 [in]. RIA sums over the kept weights in f64 and rounds once."""
    magnitude = np.abs(weight)
    if name == "magnitude":
        return magnitude
    if name == "wanda":
        return magnitude * norm
    alive = np.where(kept, magnitude, 0).astype(np.float64)
    columns = alive.sum(axis=0).astype(np.float32)
    rows = alive.sum(axis=1).astype(np.float32)
    columns, rows = np.where(columns > 0, columns, 1), np.where(rows > 0, rows, 1)
    return (magnitude / columns + magnitude / rows[:, None]) * np.sqrt(norm)


def row_counts(pruned, count):
    """How many of `count` weights each row loses: one at a time, from the first of the rows that have lost least."""
    more = np.zeros_like(pruned)
    for _ in range(count):
        more[np.argmin(pruned + more)] += 1
    return more


def prune(kept, scores, count):
    kept = kept.copy()
    for r, k in enumerate(row_counts(kept.shape[1] - kept.sum(axis=1), count)):
        alive = np.flatnonzero(kept[r])
        kept[r, alive[np.argsort(scores[r, alive], kind="stable")[:k]]] = False
    return kept


def packed(kept):
    words = (kept.shape[1] + 63) // 64
    padded = np.zeros((kept.shape[0], words * 64), bool)
    padded[:, :kept.shape[1]] = kept
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little"))


def masks(name, weight, norm, kept, fractions):
    """For each score, the masks after each of the fractions is pruned, one after the other."""
    found = {}
    for s in SCORES:
        now = kept
        for i, fraction in enumerate(fractions):
            count = int(fraction * weight.size) - int((~now).sum())
            now = prune(now, score(s, weight, norm, now), count)
            found[f"{name}.{s}.{i}"] = packed(now)
    return found


def make_case(name, random):
    dtype, rows, columns, fractions, coarse = CASES[name]
    weight = random.standard_normal((rows, columns))
    norm = np.exp(random.standard_normal(columns)) * 10
    if coarse:
        weight, norm = np.round(weight * 2) / 2, np.exp2(random.randint(0, 3, columns))
    weight = torch.from_numpy(weight).to(dtype)
    norm = norm.astype(np.float32)
    kept = np.ones((rows, columns), bool)
    if name == "ties":  # rows that have already lost more than the target
        kept[3, :90] = False
        kept[11, ::2] = False
        kept[22, 1:] = False
    tensors = {f"{name}.weight": weight, f"{name}.norm": torch.from_numpy(norm), f"{name}.start": packed(kept)}
    return tensors | masks(name, weight.float().numpy(), norm, kept, fractions)


def make_sapling(random):
    weight = load_file(SAPLING)["model.layers.3.mlp.down_proj.weight"].float().numpy()
    norm = np.exp(random.standard_normal(weight.shape[1])).astype(np.float32)
    kept = np.ones(weight.shape, bool)
    return {"sapling.norm": torch.from_numpy(norm)} | masks("sapling", weight, norm, kept, (0.45,))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare with what is committed")
    check = arguments.parse_args().check
    random = np.random.RandomState(20260)
    tensors = {}
    for name in CASES:
        tensors |= make_case(name, random)
    tensors |= make_sapling(random)
    path = HERE / "scores.safetensors"
    if not check:
        save_file(tensors, path)
        return 0
    old = load_file(path)
    different = [n for n in tensors.keys() | old.keys()
                 if n not in old or n not in tensors or not torch.equal(old[n], tensors[n])]
    print("\n".join(f"differs: {n}" for n in sorted(different)) or f"{len(tensors)} tensors equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
