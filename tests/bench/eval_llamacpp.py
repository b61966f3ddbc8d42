#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Evaluation by espalier, llama.cpp and PyTorch side by side: tokens per CPU second of one thread, same text and windows.

    python convert_hf_to_gguf.py MODEL --outtype f32 --outfile f32.gguf          # llama.cpp's; also f16, bf16
    python3 tests/bench/eval_llamacpp.py build/release/espalier MODEL TEXT --llama BIN/llama-perplexity \
        --gguf f32.gguf f16.gguf bf16.gguf [--python PYTHON] [--rounds 2] [--windows 1,3] [--only REGEX]

MODEL has tied embeddings or not, bf16 weights, and no BOS token that its tokenizer adds. A program is timed by the
processor seconds of its process, and twice: with few windows and with many. The difference is what windows take, without
start, reading and tokenizer. Each measurement is printed when it is done, on standard error. llama-perplexity is run with --ppl-stride: without it, it computes the logits of half of a
window only. Its windows then overlap by two tokens, so that its perplexity is near that of the others, not the same.
PYTHON, if given, has torch and transformers (tests/golden/wikitext_reference.py).
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WINDOW = 2048


def timed(command):
    """Processor seconds, user and system, and what was printed."""
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "OMPI_MCA_ess_singleton_isolated": "1", **os.environ}
    child = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                             env=environment)
    text = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{command}: exit code {child.returncode}\n{text[-2000:]}")
    return usage.ru_utime + usage.ru_stime, text


def espalier(a, arithmetic, windows):
    seconds, text = timed([a.espalier, "eval", "--model", a.model, "--text", a.text, "--window", WINDOW, "--limit",
                           windows * WINDOW, "--arithmetic", arithmetic, "--json", "--quiet"])
    return seconds, json.loads(text[text.index("{"):text.rindex("}") + 1])["perplexity"]


def llama(a, path, windows):
    stride = WINDOW - 2  # to which llama-perplexity adds half of itself for the context
    seconds, text = timed([a.llama, "-m", path, "-f", a.text, "-c", WINDOW - stride // 2, "--ppl-stride", stride, "-b", WINDOW,
                           "-t", 1, "-tb", 1, "--chunks", windows])
    if f"n_ctx={WINDOW}" not in text:
        sys.exit(f"{a.llama}: no context of {WINDOW} in\n{text[-2000:]}")
    return seconds, float(re.findall(rf"\[{windows}\]([0-9.]+)", text)[-1])


def pytorch(a, dtype, windows):
    _, text = timed([a.python, ROOT / "tests/golden/wikitext_reference.py", a.model, a.text, "--window", WINDOW, "--limit",
                     windows * WINDOW, "--threads", 1, "--dtype", dtype])
    found = json.loads(text[text.rindex("{"):])
    return found["cpu_seconds"], found["ppl"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("espalier", "model", "text"):
        parser.add_argument(name)
    parser.add_argument("--llama", required=True)
    parser.add_argument("--gguf", nargs="+", required=True)
    parser.add_argument("--python")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--windows", default="1,3")
    parser.add_argument("--only", default="")
    a = parser.parse_args()
    few, many = map(int, a.windows.split(","))
    programs = [("espalier " + kind, espalier, kind) for kind in ("f32", "bf16")]
    programs += [("llama.cpp " + pathlib.Path(path).stem, llama, path) for path in a.gguf]
    if a.python:
        programs += [("PyTorch " + kind, pytorch, kind) for kind in ("float32", "bfloat16")]
    rates, perplexities = {}, {}
    for _ in range(a.rounds):  # in turn, so that all meet the same machine
        for name, run, what in programs:
            if not re.search(a.only, name):
                continue
            short, perplexities[name] = run(a, what, few)
            long, perplexities[name] = run(a, what, many)
            rates.setdefault(name, []).append((many - few) * WINDOW / (long - short))
            print(name, short, long, rates[name][-1], perplexities[name], file=sys.stderr, flush=True)
    print(f"| {many} windows of {WINDOW} | tokens per CPU second | median | perplexity |\n|---|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {', '.join(f'{v:.0f}' for v in values)} | {statistics.median(values):.0f} | "
              f"{perplexities[name]:.4f} |")


if __name__ == "__main__":
    main()
