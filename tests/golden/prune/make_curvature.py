#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes curvature.safetensors (README.md): masks by score curvature, within linears and over all of them, with plain
NumPy in f64, from the definition. Needs ../requirements.txt.

usage: make_curvature.py [--check]
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
# Linears of a small "model": (dtype, out, in, factor of the weights). `ties`: values are powers of 2, so that many scores
# are equal in f32 too. `weak`: its scores are so low that it runs into its cap; `dead` has rows without a gradient and an
# input that is always 0; `one` may lose nothing.
LINEARS = {"bf16": (torch.bfloat16, 37, 132, 1.0), "f32": (torch.float32, 9, 1100, 1.0), "ties": (torch.bfloat16, 24, 200, 1.0),
           "f16": (torch.float16, 16, 64, 1.0), "weak": (torch.bfloat16, 20, 100, 0.01), "dead": (torch.float32, 12, 70, 1.0),
           "one": (torch.float32, 1, 1, 1.0)}
POWERS = (0.0, 0.5, 1.0)
UNIT, SPARSITY, CAP = 0.25, 0.45, 0.8
GROUPS = {"layer": None, "row": None, "2:4": (2, 4)}
MARGIN = 1e-6  # relative distance of scores on both sides of a threshold: f32 rounds by 6e-8 a few times


def make_linear(name, random):
    dtype, rows, columns, factor = LINEARS[name]
    weight = random.standard_normal((rows, columns)) * factor
    norm = np.exp(random.standard_normal(columns))
    squares = np.exp(3 * random.standard_normal(rows))
    if name == "ties":
        weight = np.exp2(random.randint(-2, 3, (rows, columns))) * random.choice([-1, 1], (rows, columns))
        norm, squares = np.exp2(random.randint(0, 2, columns)), 4.0 ** random.randint(0, 3, rows) / UNIT
    if name == "dead":
        squares[[2, 7]], norm[5] = 0, 0
    return (torch.from_numpy(weight).to(dtype), torch.from_numpy(norm).float(), torch.from_numpy(squares).float())


def scores(weight, norm, squares, power):
    """W^2 E[x^2] E[g^2]^p, f64 [out, in]; norm^2 stands for E[x^2]."""
    curvature = (UNIT * squares.double().numpy()) ** power
    return weight.double().numpy() ** 2 * norm.double().numpy() ** 2 * curvature[:, None]


def lowest(values, k, what):
    """The indices of the k lowest of a list, the first among equals."""
    order = np.argsort(values, kind="stable")
    if 0 < k < len(values):
        below, above = values[order[k - 1]], values[order[k]]
        if below != above and above - below < MARGIN * above:
            raise SystemExit(f"{what}: scores too close to a threshold; take another seed")
    return order[:k]


def within(values, group, what):
    """Pruned positions of one linear."""
    gone = np.zeros(values.shape, bool)
    rows, columns = values.shape
    count = int(SPARSITY * values.size)
    if group == "layer":
        gone.reshape(-1)[lowest(values.reshape(-1), count, what)] = True
    elif group == "row":
        for r in range(rows):
            gone[r, lowest(values[r], count // rows + (r < count % rows), what)] = True
    else:
        keep, of = GROUPS[group]
        for r in range(rows):
            for first in range(0, columns, of):
                part = values[r, first:first + of]
                gone[r, first + lowest(part, len(part) * (of - keep) // of, what)] = True
    return gone


def over_all(values, what):
    """Pruned positions of all linears: the lowest scores; a linear above its cap is fixed there, the rest chosen again."""
    sizes = {n: v.size for n, v in values.items()}
    limits = {n: min(int(CAP * size), size - 1) for n, size in sizes.items()}
    fixed, wanted = {}, round(SPARSITY * sum(sizes.values()))
    while True:
        free = [n for n in values if n not in fixed]
        owner = np.concatenate([np.full(sizes[n], i) for i, n in enumerate(free)])
        chosen = lowest(np.concatenate([values[n].reshape(-1) for n in free]), wanted - sum(fixed.values()), what)
        counts = {n: int((owner[chosen] == i).sum()) for i, n in enumerate(free)}
        over = [n for n in free if counts[n] > limits[n]]
        if not over:
            counts |= fixed
            break
        fixed |= {n: limits[n] for n in over}
    gone = {n: np.zeros(v.shape, bool) for n, v in values.items()}
    for n, v in values.items():
        gone[n].reshape(-1)[lowest(v.reshape(-1), counts[n], what)] = True
    return gone


def packed(gone):
    words = (gone.shape[1] + 63) // 64
    padded = np.zeros((gone.shape[0], words * 64), bool)
    padded[:, :gone.shape[1]] = ~gone
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little"))


def make(random):
    linears = {name: make_linear(name, random) for name in LINEARS}
    tensors = {}
    for i, (name, (weight, norm, squares)) in enumerate(linears.items()):
        tensors |= {f"{i}.weight": weight, f"{i}.norm": norm, f"{i}.squares": squares}
    for power in POWERS:
        values = {name: scores(*parts, power) for name, parts in linears.items()}
        everywhere = over_all(values, f"all, power {power}")
        for i, name in enumerate(linears):
            tensors[f"{i}.global.{power:g}"] = packed(everywhere[name])
            for group in GROUPS:
                tensors[f"{i}.{group}.{power:g}"] = packed(within(values[name], group, f"{name}, power {power}"))
    return tensors


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare with what is committed")
    check, path = arguments.parse_args().check, HERE / "curvature.safetensors"
    tensors = make(np.random.RandomState(20262))
    if not check:
        save_file(tensors, path)
        path.chmod(0o644)
        return 0
    old = load_file(path)
    different = [n for n in tensors.keys() | old.keys()
                 if n not in old or n not in tensors or not torch.equal(old[n], tensors[n])]
    print("\n".join(f"differs: {n}" for n in sorted(different)) or f"{len(tensors)} tensors equal")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
