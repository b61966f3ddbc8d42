#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes <model>.safetensors (README.md): one-shot pruning of transformers models, transcribed from the published
formulas. Needs ../requirements.txt.

usage: make_oneshot.py [--check] [--only NAME]...
"""
import argparse
import pathlib
import sys

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from experts import split_experts  # noqa: E402
from gradients import paths, with_unreached  # noqa: E402

MODELS = ("qwen3-tied-bf16", "smollm-tied-bf16", "llama-bias", "gemma3-bf16", "qwen3moe-sliding-f32")
SAMPLES, WINDOW, TARGET = 6, 40, 0.5
# method: (score, group of weights that compete); SparseGPT has a score of its own
METHODS = {"magnitude-layer": ("magnitude", "layer"), "wanda-row": ("wanda", "row"), "wanda-2:4": ("wanda", (2, 4)),
           "wanda-4:8": ("wanda", (4, 8)), "ria-layer": ("ria", "layer"), "gblm-row": ("gblm", "row"),
           "rgs-row": ("rgs", "row"), "sparsegpt-layer": ("sparsegpt", "layer"), "sparsegpt-2:4": ("sparsegpt", (2, 4))}

# curvature: (group, or "global": over all linears), exponent; from statistics of the dense model
CURVATURES = {"curvature-layer": ("layer", 1.0), "curvature-2:4": ((2, 4), 0.5), "curvature-global": ("global", 0.5)}
CAP = 0.95


def linears(model, block):
    return [model.model.layers[block].get_submodule(path) for path in paths(model.config)]


def all_linears(model):
    return [l for b in range(len(model.model.layers)) for l in linears(model, b)]


# ---- statistics, with the weights that the model has now ----

def inputs(model, block, ids):
    """List of the inputs f32 [tokens, in] of the block's linears: of an expert, of the tokens that were routed to it, and
    [0, in] if none was."""
    seen, handles = [torch.zeros(0, l.in_features) for l in linears(model, block)], []
    for i, linear in enumerate(linears(model, block)):
        def keep(_module, arguments, i=i):
            seen[i] = arguments[0].detach().flatten(0, -2)
        handles.append(linear.register_forward_pre_hook(keep))
    with torch.no_grad():
        model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


def norms(x, mean):
    squares = (x.double() ** 2).sum(0) if len(x) else torch.ones(x.shape[1], dtype=torch.float64)
    return (squares / SAMPLES if mean else squares).sqrt().float()


def hessian(x):
    flat = x.double()
    return 2 / SAMPLES * (flat.T @ flat if len(x) else torch.eye(x.shape[1], dtype=torch.float64))


def loss_gradients(model, ids):
    """GBLM: 100 sqrt(sum over samples of g^2), g the gradient of the mean cross entropy of a sample."""
    sums = [[torch.zeros_like(l.weight) for l in linears(model, b)] for b in range(len(model.model.layers))]
    for sample in ids.split(1):
        model.zero_grad()
        logits = model(sample, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], sample[0, 1:]).backward()
        for b, row in enumerate(sums):
            for total, linear in zip(row, linears(model, b)):
                total += 0 if linear.weight.grad is None else linear.weight.grad ** 2
    return [[100 * total.sqrt() for total in row] for row in sums]


def output_squares(model, ids):
    """For each linear E[(dl/dy_i)^2] over the tokens that reach it, l the loss of one token: the sample's mean loss, times
    predictions."""
    flat, outputs = all_linears(model), {}
    sums, reached = [torch.zeros(l.out_features, dtype=torch.float64) for l in flat], [0] * len(flat)
    handles = [l.register_forward_hook(lambda _m, _i, out, i=i: outputs.update({i: out})) for i, l in enumerate(flat)]
    for sample in ids.split(1):
        outputs.clear()
        logits = model(sample, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1], sample[0, 1:])
        for i, g in zip(outputs, torch.autograd.grad(loss, list(outputs.values()))):
            sums[i] += (g.flatten(0, -2).double() * (sample.shape[1] - 1)).square().sum(0)
            reached[i] += g.flatten(0, -2).shape[0]
    for handle in handles:
        handle.remove()
    return [s / max(1, n) for s, n in zip(with_unreached(model, ids, sums), reached)]


def regional_gradients(model, block, ids):
    """Wanda++: 100 sqrt(mean over samples of g^2), g the gradient of the norm of the block's output."""
    weights = [linear.weight for linear in linears(model, block)]
    sums = [torch.zeros_like(w, dtype=torch.float64) for w in weights]
    for sample in ids.split(1):
        outputs = {}
        handle = model.model.layers[block].register_forward_hook(
            lambda _m, _i, out: outputs.update(y=out[0] if isinstance(out, tuple) else out))
        model(sample, use_cache=False)
        handle.remove()
        for total, g in zip(sums, torch.autograd.grad(outputs["y"].norm(), weights, allow_unused=True)):
            total += 0 if g is None else g.double() ** 2
    return [(100 * (total / len(ids)).sqrt()).float() for total in sums]


# ---- masks ----

def score(name, weight, x, gradient):
    magnitude = weight.abs()
    if name == "magnitude":
        return magnitude
    norm = norms(x, mean=name in ("gblm", "rgs"))
    if name == "ria":
        rows, columns = magnitude.double().sum(1).float(), magnitude.double().sum(0).float()
        return (magnitude / columns + magnitude / rows[:, None]) * norm.sqrt()
    return magnitude * (norm if gradient is None else norm + gradient)


def least(scores, k):
    """True for the k smallest of each row; of equal ones, those in the lower columns."""
    order = scores.sort(dim=1, stable=True).indices
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, order[:, :k], True)


def pruned_by(group, scores):
    if group == "layer":
        return least(scores.reshape(1, -1), round(TARGET * scores.numel())).reshape(scores.shape)
    if group == "row":
        return least(scores, int(TARGET * scores.shape[1]))
    keep, of = group
    return torch.cat([least(part, part.shape[1] * (of - keep) // of) for part in scores.split(of, dim=1)], dim=1)


def sparsegpt(weight, hess, group, block=128, damping=0.01):
    """(pruned positions, new weights) by Frantar & Alistarh (2023), in f64; prunes half of each block of columns."""
    w, h = weight.double().clone(), hess.clone()
    n = w.shape[1]
    dead = h.diagonal() == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += damping * h.diagonal().mean() * torch.eye(n)
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    gone = torch.zeros_like(w, dtype=torch.bool)
    for first in range(0, n, block):
        last = min(first + block, n)
        if group == "layer":
            errors = w[:, first:last] ** 2 / u.diagonal()[first:last] ** 2
            k = int(TARGET * w.numel() * last / n) - int(TARGET * w.numel() * first / n)
            gone[:, first:last] = least(errors.reshape(1, -1), k).reshape(errors.shape)
        errors = torch.zeros(len(w), last - first, dtype=torch.float64)
        for i in range(first, last):
            if group != "layer" and i % group[1] == 0:
                part = slice(i, min(i + group[1], n))
                e = w[:, part] ** 2 / u.diagonal()[part] ** 2
                gone[:, part] = least(e, e.shape[1] * (group[1] - group[0]) // group[1])
            e = torch.where(gone[:, i], w[:, i], 0) / u[i, i]
            w[:, i + 1:last] -= e[:, None] * u[i, i + 1:last]
            errors[:, i - first] = e
        w[:, last:] -= errors @ u[first:last, last:]
    return gone, torch.where(gone, 0, w)


# ---- allocations, on the dense model ----

def owl(model, ids, factor=5, lam=0.08):
    """Sparsity of each block."""
    ratios = []
    for b in range(len(model.model.layers)):
        a = torch.cat([(l.weight.abs() * norms(x, False)).flatten()
                       for l, x in zip(linears(model, b), inputs(model, b, ids))])
        ratios.append(100 * (a > factor * a.double().mean()).double().mean())
    ratios = torch.stack(ratios)
    kept = (ratios - ratios.min()) / (ratios.max() - ratios.min()) * 2 * lam
    return 1 - (kept - kept.mean() + 1 - TARGET)


def greedy_error(weight, hess, group=128):
    """LSA: the error of pruning half of every group of columns greedily, the cheapest weight first."""
    w, h, total = weight.double(), hess, 0.0
    scores = w ** 2 * h.diagonal()
    for first in range(0, w.shape[1], group):
        last = min(first + group, w.shape[1])
        went = torch.zeros(len(w), last - first, dtype=torch.float64)
        gone = torch.zeros_like(went, dtype=torch.bool)
        for _ in range((last - first) // 2):
            i = scores[:, first:last].masked_fill(gone, torch.inf).argmin(dim=1, keepdim=True)
            total += scores[:, first:last].gather(1, i).sum()
            picked = w[:, first:last].gather(1, i)
            gone.scatter_(1, i, True)
            went.scatter_(1, i, picked)
            scores[:, first:last] += 2 * w[:, first:last] * picked * h[first:last, first:last][i.squeeze(1)]
        scores[:, last:] += 2 * w[:, last:] * (went @ h[first:last, last:])
    return total


def lsa(model, ids, beta=0.04):
    """(sparsity of each block, sparsity of each linear). beta is the published value for 50 %."""
    blocks = range(len(model.model.layers))
    errors = torch.stack([torch.stack([greedy_error(l.weight, hessian(x)) for l, x in
                                       zip(linears(model, b), inputs(model, b, ids))]) for b in blocks])
    sizes = torch.tensor([[l.weight.numel() for l in linears(model, b)] for b in blocks]).double()
    importance = 1 - errors.mean(1) / errors.mean(1).sum()
    d = (importance - importance.min()) / (importance.max() - importance.min()) * 2 * beta
    blocks = TARGET + d.mean() - d
    importance = 1 - errors / errors.sum()
    d = (importance - importance.min()) / (importance.max() - importance.min()) * 2 * beta
    each = (sizes * TARGET + (d.mean() - d) * sizes.mean()) / sizes
    return blocks, each


# ---- the sequential pass ----

def packed(gone):
    words = (gone.shape[1] + 63) // 64
    padded = np.zeros((gone.shape[0], words * 64), bool)
    padded[:, :gone.shape[1]] = ~gone.numpy()
    return torch.from_numpy(np.packbits(padded, axis=1, bitorder="little"))


def load(name):
    path = HERE.parent / "models" / name
    model = split_experts(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager"))
    stored = load_file(path / "model.safetensors")["model.layers.0.self_attn.q_proj.weight"].dtype
    return model.eval(), stored


def run(name, method, ids):
    scoring, group = METHODS[method]
    model, stored = load(name)
    tensors = {}
    gradients = loss_gradients(model, ids) if scoring == "gblm" else None
    places = len(paths(model.config))
    for b in range(len(model.model.layers)):
        if scoring == "rgs":
            gradients = {b: regional_gradients(model, b, ids)}
        seen = inputs(model, b, ids)
        for k, linear in enumerate(linears(model, b)):
            with torch.no_grad():
                if scoring == "sparsegpt":
                    gone, weight = sparsegpt(linear.weight, hessian(seen[k]), group)
                    weight = weight.to(stored).float()
                    if group == "layer":  # only one method, so that the files stay small
                        tensors[f"weight.{method}.{b * places + k}"] = weight.to(stored)
                else:
                    g = gradients[b][k] if gradients else None
                    gone = pruned_by(group, score(scoring, linear.weight, seen[k], g))
                    weight = linear.weight.masked_fill(gone, 0)
                linear.weight.copy_(weight)
                tensors[f"mask.{method}.{b * places + k}"] = packed(gone)
    return tensors


def curvatures(model, ids):
    tensors, gradients = {}, output_squares(model, ids)
    seen = [x for b in range(len(model.model.layers)) for x in inputs(model, b, ids)]
    flat = all_linears(model)
    for method, (group, power) in CURVATURES.items():
        scores = [l.weight.detach().double() ** 2 * norms(x, False).double() ** 2 * (g ** power)[:, None]
                  for l, x, g in zip(flat, seen, gradients)]
        if group == "global":
            together = torch.cat([s.flatten() for s in scores])
            threshold = together.kthvalue(round(TARGET * together.numel())).values
            gone = [s <= threshold for s in scores]
            assert max(g.double().mean() for g in gone) < CAP
        else:
            gone = [pruned_by(group, s) for s in scores]
        tensors |= {f"mask.{method}.{i}": packed(g) for i, g in enumerate(gone)}
    return tensors


def make(name):
    model, _ = load(name)
    random = np.random.RandomState(7)
    ids = torch.from_numpy(random.randint(0, model.config.vocab_size, (SAMPLES, WINDOW)))
    tensors = {"ids": ids.int()}
    with torch.no_grad():
        tensors["owl"] = owl(model, ids).float()
        tensors["lsa"], tensors["lsa-linear"] = (s.float() for s in lsa(model, ids))
    for method in METHODS:
        tensors |= run(name, method, ids)
    tensors |= curvatures(model, ids)
    return {n: t.contiguous() for n, t in tensors.items()}


def close(a, b):
    """Masks may differ in one bit of 500: where two scores differ only by rounding."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype == torch.uint8:
        return np.unpackbits((a ^ b).numpy()).mean() <= 0.002
    return (a.double() - b.double()).norm() <= 1e-2 * b.double().norm()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--check", action="store_true", help="compare with what is committed")
    arguments.add_argument("--only", metavar="NAME", action="append", choices=MODELS, help="this model; default: all")
    options, different = arguments.parse_args(), []
    check, names = options.check, options.only or MODELS
    for name in names:
        tensors, path = make(name), HERE / f"{name}.safetensors"
        if not check:
            save_file(tensors, path)
            path.chmod(0o644)
            continue
        old = load_file(path)
        different += [f"{name} {n}" for n in sorted(tensors.keys() | old.keys())
                      if n not in old or n not in tensors or not close(tensors[n], old[n])]
    print("\n".join(f"differs: {n}" for n in different) or f"{len(names)} models")
    return 1 if different else 0


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(main())
