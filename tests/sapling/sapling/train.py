# SPDX-License-Identifier: Apache-2.0
"""Trains Sapling with one process per core and gradients averaged in each step. Continues from a checkpoint.
Usage: python -m sapling.train --work DIR --steps N [--ranks 2]"""
import argparse
import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tokenizers import Tokenizer

from .corpus import ANSWER, LETTER, LOOKUP, OBJECT, STATE, Corpus, load_templates
from .facts import load
from .lean import Layer, Lean, Shape
from .optim import Muon, reduce_gradients
from .packing import block

HERE = Path(__file__).resolve().parent.parent
KINDS = {"text": STATE, "object": OBJECT, "answer": ANSWER, "letter": LETTER, "lookup": LOOKUP}


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--work", required=True)
    p.add_argument("--steps", type=int, required=True, help="may be changed on resuming, before the last 35 %% begin")
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--tokens", type=int, default=2048, help="tokens a step and rank")
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--decay", type=float, default=0.05)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--port", default="29511")
    return p.parse_args()


def rate(step, steps):
    """Factor of the learning rate: warm-up over 50 steps, constant, then linearly to zero over the last 35 %."""
    return min(1.0, (step + 1) / 50, (steps - step) / (0.35 * steps))


def geometry(step, steps, tokens):
    """(rows, length): every fifth step has the full context, in the last 15 % also every second."""
    long = step % 5 == 4 or (step > 0.85 * steps and step % 2 == 0)
    length = 512 if long else 256
    return tokens // length, length


def save(path, model, muon, adam, state):
    torch.save(dict(model=model.state_dict(), muon=muon.buffers, adam=adam.state_dict(), state=state), f"{path}.new")
    os.replace(f"{path}.new", path)


def restore(path, model, muon, adam):
    if not path.exists():
        return dict(step=0, seconds=0.0)
    c = torch.load(path, weights_only=False)
    model.load_state_dict(c["model"])
    adam.load_state_dict(c["adam"])
    muon.buffers = c["muon"]
    return c["state"]


def report(sums, state, log):
    means = {k: round(a / max(n, 1), 4) for k, (a, n) in sums.items()}
    print(json.dumps(dict(step=state["step"], minutes=round(state["seconds"] / 60, 2), **means)), file=log, flush=True)
    for k in sums:
        sums[k] = [0.0, 0]


def tally(sums, nll, w):
    for name, value in KINDS.items():
        part = nll[w == value]
        sums[name][0] += part.sum().item()
        sums[name][1] += part.numel()


def train_step(model, muon, adam, params, batch, factor, o):
    ids, weights = (torch.from_numpy(x) for x in batch)
    loss, nll, w = model.loss(ids, weights)
    loss.backward()
    reduce_gradients(params, o.ranks)
    torch.nn.utils.clip_grad_norm_(adam.param_groups[0]["params"], 1.0)
    for group in adam.param_groups:
        group["lr"] = o.lr * 0.75 * factor
    muon.step(o.lr * factor, o.decay)
    adam.step()
    for p in params:
        p.grad = None
    return nll, w


def build(rank, o):
    model = Lean(Shape(), o.seed)
    params = list(model.parameters())
    matrices = {id(m.weight) for layer in model.layers for m in layer.children()}
    adam = torch.optim.AdamW([p for p in params if id(p) not in matrices], lr=o.lr, betas=(0.9, 0.95), weight_decay=0.0)
    return model, params, Muon(model, rank, o.ranks), adam


def worker(rank, o):
    torch.set_num_threads(1)
    torch._dynamo.config.cache_size_limit = 64
    Layer.forward = torch.compile(Layer.forward, dynamic=False)
    if o.ranks > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=o.port)
        dist.init_process_group("gloo", rank=rank, world_size=o.ranks)
    work = Path(o.work)
    corpus = Corpus(load(HERE / "facts.jsonl"), load_templates(HERE / "templates.txt"))
    tokenizer = Tokenizer.from_file(str(HERE / "model/tokenizer.json"))
    model, params, muon, adam = build(rank, o)
    state = restore(work / "checkpoint.pt", model, muon, adam)
    saved, sums = time.time(), {k: [0.0, 0] for k in KINDS}
    log = open(work / "log.jsonl", "a") if rank == 0 else None
    while state["step"] < o.steps:
        begun, step = time.time(), state["step"]
        batch = block(corpus, tokenizer, o.seed, step, rank, *geometry(step, o.steps, o.tokens))
        tally(sums, *train_step(model, muon, adam, params, batch, rate(step, o.steps), o))
        state["step"] += 1
        state["seconds"] += time.time() - begun
        if rank == 0 and state["step"] % 20 == 0:
            report(sums, state, log)
        if rank == 0 and time.time() - saved > 200:
            saved = time.time()
            save(work / "checkpoint.pt", model, muon, adam, state)
    if rank == 0:
        save(work / "final.pt", model, muon, adam, state)
        (work / "run.json").write_text(json.dumps(dict(seed=o.seed, ranks=o.ranks, steps=o.steps, tokens=o.tokens)) + "\n")


def main():
    o = options()
    Path(o.work).mkdir(parents=True, exist_ok=True)
    if o.ranks == 1:
        worker(0, o)
    else:
        mp.spawn(worker, (o,), nprocs=o.ranks)


if __name__ == "__main__":
    main()
