#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Loads exports of pruned models of every family in transformers, and compares the perplexity with espalier's.

usage: make_export.py --espalier PROGRAM [--only NAME]... [--check]
Each golden model is pruned to 45 % by magnitude, whose masks are the same on every machine, and by Wanda. Writes
export.json: of magnitude the hash of the weights and the perplexity by transformers, which test_export.py compares with
what a build exports; of both how far the two perplexities are apart. Exit status 1 if more than 1e-4 of their size.
--check: compares with export.json instead. Needs ../requirements.txt.
"""
import argparse
import json
import math
import pathlib
import sys
import tempfile

import torch
import transformers

import case

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4


def reference(model):
    """Perplexity of the text by transformers in float32, and nothing missing, unexpected or of another shape."""
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: sorted(map(str, value)) for key, value in info.items() if value}
    if wrong:
        sys.exit(f"transformers: {model}: {wrong}")
    ids = case.token_ids()
    windows = torch.tensor(ids[:len(ids) // case.WINDOW * case.WINDOW]).view(-1, case.WINDOW)
    with torch.inference_mode():
        losses = [torch.nn.functional.cross_entropy(loaded.eval()(w[None], use_cache=False).logits[0, :-1].double(), w[1:])
                  for w in windows]
    return math.exp(torch.stack(losses).mean().item())


def measure(espalier, name):
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        case.prepare(name, place)
        for score in ("magnitude", "wanda"):
            model = case.prune(espalier, place, score)
            ours, theirs = case.perplexity(espalier, model, place), reference(model)
            found[score] = {"transformers": round(theirs, 6), "difference": float(f"{abs(ours / theirs - 1):.1g}")}
            if score == "magnitude":
                found[score]["sha256"] = case.digest(model)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--only", metavar="NAME", action="append", choices=case.MODELS)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    path, bad = HERE / "export.json", 0
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in arguments.only or case.MODELS:
        found = measure(arguments.espalier, name)
        worst = max(entry["difference"] for entry in found.values())
        print(f"{name}: {worst:g}", flush=True)
        bad += worst > TOLERANCE
        if arguments.check:
            old = recorded.get(name, {}).get("magnitude", {})
            far = abs(found["magnitude"]["transformers"] / old.get("transformers", math.inf) - 1)
            if old.get("sha256") != found["magnitude"]["sha256"] or far > 1e-5:
                print(f"{name} is not as recorded")
                bad += 1
        else:
            recorded[name] = found
    if not arguments.check:
        path.write_text(json.dumps({name: recorded[name] for name in case.MODELS if name in recorded}, indent=1) + "\n",
                        encoding="utf-8")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
