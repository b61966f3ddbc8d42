"""Trains Sapling: one process a core, gradients averaged each step. A broken run goes on from its checkpoint.
Usage: python -m sapling.train --work DIR (--minutes M | --schedule FILE) [--ranks 2]"""
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
    p.add_argument("--minutes", type=float, default=75)
    p.add_argument("--schedule", help="run.json of a former run, replayed instead of the clock")
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--tokens", type=int, default=4096, help="tokens a step and rank")
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--decay", type=float, default=0.05)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--port", default="29511")
    return p.parse_args()


def rate(progress):
    """Warm-up over 1 %, flat to 30 %, then linear to nothing."""
    return min(1.0, (progress + 1e-3) / 0.01, max(0.0, (1.0 - progress) / 0.7))


def geometry(step, progress, tokens):
    long = step % 5 == 4 or (progress > 0.85 and step % 2 == 0)
    length = 512 if long else 256
    return tokens // length, length


class Clock:
    """Progress from 0 to 1, by the wall clock or by a recorded schedule; rank 0 decides."""

    def __init__(self, o, spent):
        self.plan = json.loads(Path(o.schedule).read_text())["progress"] if o.schedule else None
        self.start, self.budget = time.time() - spent, o.minutes * 60

    def spent(self):
        return time.time() - self.start

    def tokens(self, step, chosen):
        return self.plan[step][1] if self.plan else chosen

    def progress(self, step):
        if self.plan:
            value = self.plan[step][0] if step < len(self.plan) else 1.0
        else:
            value = min(1.0, round(self.spent() / self.budget, 4))
        box = torch.tensor([value], dtype=torch.float64)
        if dist.is_initialized():
            dist.broadcast(box, 0)
        return box.item()


def save(path, model, muon, adam, state):
    torch.save(dict(model=model.state_dict(), muon=muon.buffers, adam=adam.state_dict(), state=state), f"{path}.new")
    os.replace(f"{path}.new", path)


def restore(path, model, muon, adam):
    if not path.exists():
        return dict(step=0, spent=0.0, plan=[])
    c = torch.load(path, weights_only=False)
    model.load_state_dict(c["model"])
    adam.load_state_dict(c["adam"])
    muon.buffers = c["muon"]
    return c["state"]


def report(sums, state, progress, clock, log):
    means = {k: round(a / max(n, 1), 4) for k, (a, n) in sums.items()}
    line = dict(step=state["step"], progress=progress, minutes=round(clock.spent() / 60, 2), **means)
    print(json.dumps(line), file=log, flush=True)
    for k in sums:
        sums[k] = [0.0, 0]


def tally(sums, nll, w):
    for name, value in KINDS.items():
        part = nll[w == value]
        sums[name][0] += part.sum().item()
        sums[name][1] += part.numel()


def train_step(model, muon, adam, params, batch, progress, o):
    ids, weights = (torch.from_numpy(x) for x in batch)
    loss, nll, w = model.loss(ids, weights)
    loss.backward()
    reduce_gradients(params, o.ranks)
    factor = rate(progress)
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
    clock, saved = Clock(o, state["spent"]), time.time()
    sums = {k: [0.0, 0] for k in KINDS}
    log = open(work / "log.jsonl", "a") if rank == 0 else None
    while (progress := clock.progress(state["step"])) < 1.0:
        tokens = clock.tokens(state["step"], o.tokens)
        rows, length = geometry(state["step"], progress, tokens)
        batch = block(corpus, tokenizer, o.seed, f"{state['step']}:{rank}", progress, rows, length)
        tally(sums, *train_step(model, muon, adam, params, batch, progress, o))
        state["plan"].append([progress, tokens])
        state["step"] += 1
        if rank == 0 and state["step"] % 20 == 0:
            report(sums, state, progress, clock, log)
        if rank == 0 and time.time() - saved > 200:
            saved, state["spent"] = time.time(), clock.spent()
            save(work / "checkpoint.pt", model, muon, adam, state)
    if rank == 0:
        state["spent"] = clock.spent()
        save(work / "final.pt", model, muon, adam, state)
        run = dict(seed=o.seed, ranks=o.ranks, steps=state["plan"])
        (work / "run.json").write_text(json.dumps(run) + "\n")


def main():
    o = options()
    Path(o.work).mkdir(parents=True, exist_ok=True)
    if o.ranks == 1:
        worker(0, o)
    else:
        mp.spawn(worker, (o,), nprocs=o.ranks)


if __name__ == "__main__":
    main()
