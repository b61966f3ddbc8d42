# SPDX-License-Identifier: Apache-2.0
"""Evaluates a Sapling directory with transformers, dense or magnitude-pruned.
Usage: python evaluate.py [--model model] [--data data] [--sparsity 0.45] [--json FILE]"""
import argparse
import json
from collections import defaultdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sapling import metrics
from sapling.facts import load

HERE = Path(__file__).resolve().parent
KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TIERS = ("strong", "medium", "weak", "faint")


def prune_by_magnitude(model, sparsity):
    """Zeroes the smallest weights, a fraction `sparsity`, in each of the seven linear matrices of every layer."""
    for name, module in model.named_modules():
        if name.split(".")[-1] in KINDS:
            w = module.weight.data
            k = int(sparsity * w.numel())
            if k:
                w[w.abs() <= w.abs().flatten().kthvalue(k).values] = 0


def share(hits, n):
    low, high = metrics.wilson(hits, n)
    return dict(hits=hits, questions=n, percent=round(100 * hits / n, 2), low=round(100 * low, 2), high=round(100 * high, 2))


def mmlu_tiers(folder, by_row):
    score = defaultdict(lambda: [0, 0])
    for line in Path(folder, "facts.tsv").read_text().splitlines()[1:]:
        split, topic, row, _, tier = line.split("\t")
        if (split, topic, int(row)) in by_row:
            score[tier][0] += by_row[split, topic, int(row)]
            score[tier][1] += 1
    return score


def evaluate(model, tokenizer, data, windows):
    out = {}
    for name in ("validation", "test"):
        text = Path(data, f"{name}.txt").read_text(encoding="utf-8")
        for window in windows:
            value, n = metrics.perplexity(model, tokenizer, text, window)
            out[f"perplexity {name} {window}"] = dict(perplexity=value, windows=n)
    tiers = {f["id"]: f["tier"] for f in load(HERE / "facts.jsonl")}
    for split in ("dev", "eval"):
        dev, path = Path(data, "freebaseqa-dev.json"), Path(data, f"freebaseqa-{split}.json")
        score = metrics.freebaseqa(model, tokenizer, dev, path, tiers)
        out.update({f"freebaseqa {split} {t}": share(*score[t]) for t in (*TIERS, "all")})
    score, by_row = metrics.mmlu(model, tokenizer, Path(data, "mmlu"))
    out.update({f"mmlu {topic}": share(*s) for topic, s in score.items()})
    out["mmlu all"] = share(*map(sum, zip(*score.values())))
    out.update({f"mmlu tier {t}": share(*s) for t, s in sorted(mmlu_tiers(Path(data, "mmlu"), by_row).items())})
    return out


def show(result):
    for name, v in result.items():
        if "perplexity" in v:
            print(f"{name:32} {v['perplexity']:.6f}  ({v['windows']} windows)")
        else:
            print(f"{name:32} {v['percent']:6.2f} %  [{v['low']:.1f}, {v['high']:.1f}]  {v['hits']}/{v['questions']}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", default=HERE / "model")
    p.add_argument("--data", default=HERE / "data")
    p.add_argument("--sparsity", type=float, default=0.0)
    p.add_argument("--windows", type=int, nargs="+", default=[256, 512])
    p.add_argument("--json")
    o = p.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(o.model)
    model = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval()
    prune_by_magnitude(model, o.sparsity)
    result = evaluate(model, tokenizer, o.data, o.windows)
    show(result)
    if o.json:
        Path(o.json).parent.mkdir(parents=True, exist_ok=True)
        Path(o.json).write_text(json.dumps(dict(sparsity=o.sparsity, **result), indent=1) + "\n")


if __name__ == "__main__":
    main()
