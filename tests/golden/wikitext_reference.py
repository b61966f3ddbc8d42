# SPDX-License-Identifier: Apache-2.0
"""Measures the perplexity of a model directory with transformers on the CPU: the reference for `espalier eval`.

Protocol: the text is tokenised once with the tokenizer's defaults; the ids are cut into windows of W and the tail is
dropped; each window is independent and predicts its last W-1 tokens; perplexity = exp(mean of the windows' mean NLL).

usage: wikitext_reference.py MODEL_DIR TEXT [--window W] [--limit TOKENS] [--threads N] [--attention eager|sdpa]
                             [--dtype float32|float64|bfloat16]
Prints one JSON object. "seconds", by the clock, and "cpu_seconds", of all threads, cover the forward passes and the
NLL, not loading and tokenising.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
import transformers

HEAD_ROWS = 256  # positions whose float32 log-softmax is in memory at a time


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--limit", type=int, help="use only the first TOKENS tokens")
    parser.add_argument("--threads", type=int, help="of PyTorch; default: PyTorch's own choice")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="sdpa")
    parser.add_argument("--dtype", choices=("float32", "float64", "bfloat16"), default="float32")
    return parser.parse_args()


def token_windows(directory, text_path, window, limit):
    """[n, window] ids"""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    with open(text_path, encoding="utf-8", newline="") as file:  # newline="": keeps the line ends of the file
        ids = tokenizer(file.read()).input_ids[:limit]
    count = len(ids) // window
    if count == 0:
        sys.exit(f"{len(ids)} tokens are less than one window of {window}")
    return torch.tensor(ids[: count * window]).view(count, window)


def load_model(directory, attention, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation=attention).eval()


def window_nll(model, ids):
    """Mean NLL of the predictions inside one window [W]."""
    logits = model(ids[None], use_cache=False).logits[0, :-1]
    parts = [torch.nn.functional.cross_entropy(l if l.dtype == torch.float64 else l.float(), t, reduction="none").double()
             for l, t in zip(logits.split(HEAD_ROWS), ids[1:].split(HEAD_ROWS))]
    return torch.cat(parts).mean().item()


def measure(model, windows):
    """(NLL of each window, seconds, CPU seconds); progress on stderr."""
    values, start, cpu = [], time.perf_counter(), time.process_time()
    with torch.inference_mode():
        for ids in windows:
            values.append(window_nll(model, ids))
            elapsed = time.perf_counter() - start
            print(f"window {len(values)}/{len(windows)}  ppl {math.exp(sum(values) / len(values)):.4f}  "
                  f"{len(values) * windows.shape[1] / elapsed:.1f} tokens/s", file=sys.stderr)
    return values, time.perf_counter() - start, time.process_time() - cpu


def main():
    arguments = parse_arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    windows = token_windows(arguments.model, arguments.text, arguments.window, arguments.limit)
    model = load_model(arguments.model, arguments.attention, getattr(torch, arguments.dtype))
    nll, seconds, cpu_seconds = measure(model, windows)
    print(json.dumps({
        "ppl": math.exp(sum(nll) / len(nll)), "nll": nll, "window": arguments.window, "windows": len(nll),
        "tokens": windows.numel(), "seconds": seconds, "tokens_per_second": windows.numel() / seconds,
        "cpu_seconds": cpu_seconds, "tokens_per_cpu_second": windows.numel() / cpu_seconds,
        "threads": torch.get_num_threads(), "attention": arguments.attention, "dtype": arguments.dtype,
        "text": Path(arguments.text).name,
        "torch": torch.__version__, "transformers": transformers.__version__,
    }))


if __name__ == "__main__":
    main()
