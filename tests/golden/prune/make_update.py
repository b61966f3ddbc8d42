#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes update.safetensors (README.md): new weights of single linears for given masks, with plain NumPy in f64, from the
definition: normal equations of each row's surviving weights, and an inverse of the remaining Hessian for every column. Needs
../requirements.txt.

usage: make_update.py [--check]
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).resolve().parent
# (dtype, outputs, inputs, tokens, share that is pruned). `few` has fewer tokens than inputs; `tall` more rows than a tile of
# the program; `dead` an input that is always 0, and rows without any weight left or lost.
LINEARS = {"bf16": (torch.bfloat16, 21, 70, 400, 0.6), "f32": (torch.float32, 9, 100, 900, 0.5), "few": (torch.float32, 12, 48, 20, 0.7),
           "tall": (torch.float16, 150, 24, 200, 0.5), "dead": (torch.bfloat16, 8, 40, 300, 0.4)}
DAMPINGS = (1.0, 0.01)  # times the mean of the diagonal of X^T X


def make_linear(name, random):
    """Weights, prior weights, survivors, inputs of the pruned and of the dense model."""
    dtype, rows, columns, tokens, sparsity = LINEARS[name]
    weight = torch.from_numpy(random.standard_normal((rows, columns))).to(dtype)
    prior = torch.from_numpy(weight.double().numpy() + 0.1 * random.standard_normal((rows, columns))).to(dtype)
    kept = random.random_sample((rows, columns)) >= sparsity
    scale = np.exp(0.5 * random.standard_normal(columns))
    pruned = (random.standard_normal((tokens, columns)) + random.standard_normal((tokens, 1))) * scale
    drift = 0.3 * random.standard_normal((tokens, columns)) * scale
    if name == "dead":
        pruned[:, 3], kept[1], kept[2] = 0, False, True
    return weight, prior, kept, pruned, pruned + drift


def damped(gram, damping):
    """A + damping I as SparseGPT damps it: an input that is always 0 counts as 1 in the mean and on the diagonal."""
    diagonal = np.where(np.diag(gram) == 0, 1, np.diag(gram))
    amount = damping * diagonal.mean()
    return gram + np.diag(diagonal - np.diag(gram)) + amount * np.eye(len(gram)), amount


def reconstruct(weight, prior, kept, gram, drift, amount):
    """Each row's minimum of its error + amount |v - prior|^2 over its surviving weights."""
    wanted = weight @ (gram + drift) + amount * prior
    result = np.zeros_like(weight)
    for r, row in enumerate(kept):
        if row.any():
            result[r, row] = np.linalg.solve((gram + amount * np.eye(len(gram)))[np.ix_(row, row)], wanted[r, row])
    return result


def surgeon(weight, kept, hessian):
    """Columns from left to right: a pruned weight is compensated by those to its right (Hassibi and Stork 1993)."""
    result = weight.copy()
    for c in range(weight.shape[1]):
        inverse = np.linalg.inv(hessian[c:, c:])
        lost = np.where(kept[:, c], 0, result[:, c] / inverse[0, 0])
        result[:, c:] -= lost[:, None] * inverse[0]
    return np.where(kept, result, 0)


def error(weight, result, pruned, dense):
    """The squared error of all outputs, without what no weights can change: that of W on dense less pruned inputs."""
    return (np.square(dense @ weight.T - pruned @ result.T).sum() - np.square((dense - pruned) @ weight.T).sum())


def packed(kept):
    words = (kept.shape[1] + 63) // 64
    padded = np.zeros((kept.shape[0], words * 64), bool)
    padded[:, :kept.shape[1]] = kept
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little"))


def make(random):
    tensors = {}
    for name in LINEARS:
        weight, prior, kept, pruned, dense = make_linear(name, random)
        # What the program gets is rounded to f32; errors come from the tokens themselves.
        gram, drift = (m.astype(np.float32).astype(float) for m in (pruned.T @ pruned, (dense - pruned).T @ pruned))
        w = weight.double().numpy()
        tensors |= {f"{name}.weight": weight, f"{name}.prior": prior, f"{name}.mask": packed(kept),
                    f"{name}.gram": torch.from_numpy(gram).float(), f"{name}.drift": torch.from_numpy(drift).float(),
                    f"{name}.scale": torch.tensor([np.square(dense @ w.T).sum()]).float()}
        for damping in DAMPINGS:
            hessian, amount = damped(gram, damping)
            for shift, d in (("shift", drift), ("own", np.zeros_like(drift))):
                moved = w + w @ d @ np.linalg.inv(hessian)
                made = {"obs": surgeon(moved, kept, hessian),
                        "reconstruct": reconstruct(w, prior.double().numpy(), kept, gram, d, amount)}
                for method, result in made.items():
                    key = f"{name}.{method}.{shift}.{damping:g}"
                    tensors[key] = torch.from_numpy(result).float()
                    against = dense if shift == "shift" else pruned
                    tensors[key + ".error"] = torch.tensor([error(w, result, pruned, against)]).float()
    return tensors


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare with what is committed")
    check, path = arguments.parse_args().check, HERE / "update.safetensors"
    tensors = make(np.random.RandomState(20263))
    if not check:
        save_file(tensors, path)
        path.chmod(0o644)
        return 0
    old, worst = load_file(path), 0.0
    if old.keys() != tensors.keys():
        print(f"other tensors: {sorted(old.keys() ^ tensors.keys())}")
        return 1
    for n, t in tensors.items():  # solvers of other processors round differently
        worst = max(worst, float((t.double() - old[n].double()).abs().max() / old[n].double().abs().max()))
    print(f"{len(tensors)} tensors; largest relative difference {worst:.2g}")
    return 1 if worst > 1e-5 else 0


if __name__ == "__main__":
    sys.exit(main())
