# SPDX-License-Identifier: Apache-2.0
"""Checks that transformers loads an exported, pruned model and computes the same perplexity as espalier.

MODEL_DIR was made by `espalier prune` from SOURCE_DIR. Checks:
  - safetensors: files, names, dtypes, shapes and metadata are the same; all tensors except the linears of the decoder
    layers have the same bits; each weight of those has the source's bits or is +0 (with --updated: is any number);
  - transformers: loads it without missing, unexpected or mismatched tensors; each weight is that of the file;
  - perplexity of TEXT in float32: differs from that of `espalier eval` by at most --tolerance, relative.

usage: export_reference.py SOURCE_DIR MODEL_DIR TEXT --espalier PROGRAM [--window W] [--limit TOKENS] [--updated]
Prints one JSON object; exit status 1 if a check fails.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors import safe_open

from experts import unfused
from wikitext_reference import measure, token_windows

LINEAR = re.compile(r"model\.layers\.\d+\.(self_attn\.[qkvo]|mlp\.(experts\.\d+\.)?(gate|up|down))_proj\.weight")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("source", "model", "text"):
        parser.add_argument(name)
    parser.add_argument("--espalier", required=True)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--limit", type=int, help="use only the first TOKENS tokens")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--updated", action="store_true", help="the weights that are left may have changed")
    return parser.parse_args()


def model_files(directory):
    return sorted(path.name for path in Path(directory).glob("model*.safetensors"))


def bits(tensor):
    return tensor.contiguous().view({2: torch.int16, 4: torch.int32}[tensor.element_size()])


def compare_linear(before, after, updated):
    """The number of weights that became +0. Exits if another weight changed, unless `updated`."""
    zero = (bits(after) == 0) & (bits(before) != 0)
    if not updated and not torch.equal(bits(before)[~zero], bits(after)[~zero]):
        sys.exit("a weight is neither the source's nor +0")
    return int(zero.sum())


def compare_file(source, model, name, updated):
    """(weights of linears, number that became +0) of one shard. Exits at a difference."""
    weights = zeros = 0
    with safe_open(f"{source}/{name}", "pt") as a, safe_open(f"{model}/{name}", "pt") as b:
        if list(a.keys()) != list(b.keys()) or a.metadata() != b.metadata():
            sys.exit(f"{name}: other tensors or metadata")
        for key in a.keys():
            before, after = a.get_tensor(key), b.get_tensor(key)
            if before.dtype != after.dtype or before.shape != after.shape:
                sys.exit(f"{key}: other dtype or shape")
            if LINEAR.fullmatch(key):
                weights += before.numel()
                zeros += compare_linear(before, after, updated)
            elif not torch.equal(bits(before), bits(after)):
                sys.exit(f"{key}: changed")
    return weights, zeros


def compare_files(source, model, updated):
    names = model_files(source)
    if not names or names != model_files(model):
        sys.exit(f"other files: {names} and {model_files(model)}")
    counts = [compare_file(source, model, name, updated) for name in names]
    return sum(c[0] for c in counts), sum(c[1] for c in counts)


def load(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: sorted(map(str, value)) for key, value in info.items() if value}
    if wrong:
        sys.exit(f"transformers: {wrong}")
    state = {n: t for item in model.state_dict().items() for n, t in unfused(*item).items()}
    for name in model_files(directory):
        with safe_open(f"{directory}/{name}", "pt") as file:
            for key in file.keys():
                if not torch.equal(state[key], file.get_tensor(key).float()):
                    sys.exit(f"transformers: {key} is not what the file holds")
    return model.eval()


def espalier_perplexity(arguments):
    command = [arguments.espalier, "eval", "--quiet", "--json", "--model", arguments.model, "--text", arguments.text,
               "--window", str(arguments.window)] + (["--limit", str(arguments.limit)] if arguments.limit else [])
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["perplexity"]


def main():
    arguments = parse_arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    weights, zeros = compare_files(arguments.source, arguments.model, arguments.updated)
    ours = espalier_perplexity(arguments)
    nll, _ = measure(load(arguments.model), token_windows(arguments.model, arguments.text, arguments.window,
                                                          arguments.limit))
    theirs = math.exp(sum(nll) / len(nll))
    difference = abs(ours / theirs - 1)
    print(json.dumps({"weights": weights, "became_zero": zeros, "sparsity": zeros / weights, "windows": len(nll),
                      "espalier": ours, "transformers": theirs, "difference": difference,
                      "torch": torch.__version__, "version": transformers.__version__}))
    sys.exit(difference > arguments.tolerance)


if __name__ == "__main__":
    main()
