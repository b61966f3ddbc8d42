#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The scaling table of docs/performance.md: `prune --dry-run --nodes` for Qwen3 shapes on growing numbers of nodes.

    python3 tests/bench/plan_scaling.py build/release/espalier build/release/tests/tools/make_random_model \
        [--cores 64] [--gflops-per-core 80] [--bandwidth 10] [--nodes 1,4,16,64,256,512,1024] [--models 0.6b,4b,8b,32b]

Needs no weights: the models are their published config.json. Windows are those of configs/qwen3-8b.json (128 forward,
32 backward, 32 of validation, 2048 tokens each); texts are drawn, and there are no probe questions. Efficiency is the
speed-up of an iteration over one node, divided by the number of nodes.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile

SHAPES = {  # hidden, layers, heads, key heads, ffn, tied: config.json of Qwen/Qwen3-*
    "0.6b": (1024, 28, 16, 8, 3072, True),
    "4b": (2560, 36, 32, 8, 9728, True),
    "8b": (4096, 36, 32, 8, 12288, False),
    "32b": (5120, 64, 64, 8, 25600, False),
}


def write_model(directory, maker, shape):
    hidden, layers, heads, kv_heads, ffn, tied = shape
    subprocess.run([maker, "--preset", "tiny", "--byte-tokenizer", directory], check=True, stdout=subprocess.DEVNULL)
    config = json.loads((directory / "config.json").read_text())
    config.update(hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
                  head_dim=128, intermediate_size=ffn, vocab_size=151936, tie_word_embeddings=tied,
                  max_position_embeddings=40960)
    for key in ("layer_types", "max_window_layers"):
        config.pop(key, None)
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "model.safetensors").unlink()


def plan(options, config, nodes):
    words = [options.espalier, "prune", str(config), "--dry-run", f"--nodes={nodes}", f"--cores={options.cores}",
             f"--gflops-per-core={options.gflops_per_core}", f"--bandwidth={options.bandwidth}", "--verbose"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    grid = re.search(r"(\d+) ranks of (\d+) threads: (\d+) replica\(s\) of (\d+) stage", done.stdout).groups()
    team = re.search(r"(\d+) replicas to a window", done.stdout)
    grid += (team.group(1) if team else "1",)
    seconds = float(re.search(r"iteration of ([0-9.e+-]+) s", done.stderr).group(1))
    busy, mean = map(int, re.search(r"computes (\d+) % of the time; the mean rank (\d+) %", done.stdout).groups()) \
        if "slowest" in done.stdout else (100, 100)
    return seconds, tuple(map(int, grid)), busy, mean


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("espalier")
    parser.add_argument("maker")
    parser.add_argument("--cores", type=int, default=64)
    parser.add_argument("--gflops-per-core", type=float, default=80)
    parser.add_argument("--bandwidth", type=float, default=10)
    parser.add_argument("--nodes", default="1,4,16,64,256,512,1024")
    parser.add_argument("--models", default="0.6b,4b,8b,32b")
    options = parser.parse_args()
    print("| model | nodes | threads | replicas x stages | replicas to a window | iteration, s | efficiency | mean rank busy |")
    print("|---|---|---|---|---|---|---|---|")
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as work:
            work = pathlib.Path(work)
            write_model(work / "model", options.maker, SHAPES[name])
            (work / "text.txt").write_text("A sentence of a text that is only counted. " * 20000)
            config = work / "plan.json"
            text = str(work / "text.txt")
            config.write_text(json.dumps({
                "model": {"path": str(work / "model")}, "run": {"dir": str(work / "run")},
                "calibration": {"text": text, "window": 2048, "forward": 128, "backward": 32},
                "validation": {"text": text, "window": 2048, "windows": 32},
                "prune": {"max_linears": 40, "max_iterations": 60}}))
            base = None
            for nodes in map(int, options.nodes.split(",")):
                seconds, (_, threads, replicas, stages, team), _, mean = plan(options, config, nodes)
                base = base or seconds * nodes
                print(f"| {name} | {nodes} | {threads} | {replicas} x {stages} | {team} | {seconds:.3g} | "
                      f"{base / seconds / nodes:.2f} | {mean} % |", flush=True)


if __name__ == "__main__":
    main()
