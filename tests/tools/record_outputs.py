#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records what espalier writes and prints, as hashes, so that a refactoring can show that it changed no result.

    tests/tools/record_outputs.py build/release/espalier before.json        # before the change
    tests/tools/record_outputs.py build/release/espalier after.json         # after it
    diff before.json after.json

Runs the demo, every pruning method and a sweep on sapling, and evaluation and pruning of every golden model. Records a
hash of each summary, checkpoint, export, table and report page, of each event and dialogue line without its times, and of
each printed line of results without its seconds. Needs the Python packages h5py, jinja2, matplotlib,
pandas and scipy of Debian, and about ten minutes on two cores.
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import h5py

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = "build/record"  # relative to ROOT: paths are part of what is recorded
SAPLING = "tests/sapling"
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMP_NUM_THREADS="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_hwloc_base_binding_policy="none",
                   OMP_WAIT_POLICY="passive")
TIMES = ("time", "seconds", "seconds_left", "tokens_per_second", "elapsed")

SMALL = {
    "model": {"path": f"{SAPLING}/model"},
    "calibration": {"text": f"{SAPLING}/data/calibration.txt", "window": 64, "forward": 8, "backward": 4},
    "validation": {"text": f"{SAPLING}/data/validation.txt", "window": 64, "windows": 8},
    "probes": {"every": 3, "mmlu": f"{SAPLING}/data/mmlu", "mmlu_questions": 6, "mmlu_shots": 1,
               "freebaseqa": f"{SAPLING}/data/freebaseqa-dev.json", "freebaseqa_questions": 6, "freebaseqa_shots": 1,
               "freebaseqa_tokens": 6},
    "report": {"text": f"{SAPLING}/data/test.txt", "window": 64, "limit": 1024, "mmlu": f"{SAPLING}/data/mmlu",
               "mmlu_questions": 10, "freebaseqa": f"{SAPLING}/data/freebaseqa-eval.json", "freebaseqa_questions": 10},
    "prune": {"target": 0.15, "max_linears": 20, "max_step": 0.15, "threshold": 0.001, "max_iterations": 60},
    "policy": {"horizon": 4, "safety": 1},
}
METHODS = {
    "agent": ["prune.threshold=0.001"],
    "agent-magnitude": ["prune.score=magnitude", "prune.threshold=0.02"],
    "agent-ria": ["prune.score=ria", "prune.threshold=0.02"],
    "agent-mixed": ["prune.mixed=true", "prune.threshold=0.05", "prune.target=0.4", "policy.horizon=6"],
    "agent-random": ["calibration.sample=random", "run.seed=3", "prune.threshold=0.01"],
    "agent-no-gradients": ["calibration.backward=0", "prune.threshold=0.01"],
    **{name: ["prune.allocation=uniform", f"prune.score={name}", "prune.target=0.5"]
       for name in ("magnitude", "wanda", "ria", "gblm", "rgs")},
    "sparsegpt": ["prune.allocation=uniform", "prune.update=sparsegpt", "prune.target=0.5"],
    "obs": ["prune.allocation=uniform", "prune.update=obs", "prune.target=0.5"],
    "agent-reconstruct": ["prune.update=reconstruct", "prune.update_when=step", "prune.threshold=0.05"],
    "owl": ["prune.allocation=owl", "prune.target=0.5"],
    "lsa": ["prune.allocation=lsa", "prune.target=0.5"],
    "search": ["prune.allocation=search", "prune.target=0.5", "prune.search_evaluations=12"],
    "two-of-four": ["prune.allocation=uniform", "prune.pattern=2:4", "prune.target=0.5"],
    "sparsegpt-four-of-eight": ["prune.allocation=uniform", "prune.update=sparsegpt", "prune.pattern=4:8",
                                "prune.target=0.5"],
    "layer-pattern": ["prune.allocation=uniform", "prune.pattern=layer", "prune.target=0.5"],
    "dense": ["prune.allocation=uniform", "prune.target=0"],
}


def digest(data):
    return hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest()[:16]


def without_times(value):
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


class Recorder:
    def __init__(self, program, only):
        self.program = os.path.abspath(program)
        self.only = only
        self.record = {}

    def run(self, ranks, *command, stdin=None):
        done = subprocess.run(["mpirun", "-n", str(ranks), *command], cwd=ROOT, env=ENVIRONMENT, input=stdin,
                              capture_output=True, timeout=1800)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr.decode()[-2000:]}")
        return done.stdout.decode()

    def call(self, ranks, *args, stdin=None):
        return self.run(ranks, self.program, *args, stdin=stdin)

    def wanted(self, key):
        return self.only is None or re.match(self.only, key)

    def put(self, key, data):
        self.record[key] = digest(data)
        print(key, self.record[key], flush=True)

    def put_text(self, key, text):
        """Printed results, but for what a clock said."""
        lines = [line for line in text.splitlines() if not re.match(r"time:|      probes |.*\bseconds\b|.*tokens/s", line)]
        self.put(key, "\n".join(lines))

    def put_json(self, key, text):
        self.put(key, json.dumps(without_times(json.loads(text))))

    def put_lines(self, key, path):
        """A journal, but for the lines that name the machine, and for seals, which are of lines with times."""
        lines = [without_times(json.loads(line)) for line in path.read_text().splitlines()]
        self.put(key, json.dumps([line for line in lines if line.get("type") not in ("start", "seal")]))

    def put_checkpoint(self, key, path):
        self.put(key, path.read_bytes())
        with h5py.File(path, "r") as file:
            parts = []
            file.visititems(lambda name, item: parts.append((name, digest(item[()].tobytes())))
                            if isinstance(item, h5py.Dataset) and "mask" in name and item.shape else None)
        self.put(f"{key} masks", json.dumps(sorted(parts)))

    def put_run(self, key, run):
        self.put(f"{key} summary", (run / "summary.json").read_bytes())
        for name in ("events", "dialogue"):
            if (run / f"{name}.jsonl").exists():
                self.put_lines(f"{key} {name}", run / f"{name}.jsonl")
        for path in sorted((run / "checkpoints").glob("*.h5"))[-2:]:
            self.put_checkpoint(f"{key} {path.stem}", path)
        for path in sorted((run / "model").glob("*")) if (run / "model").exists() else []:
            # Card and recipe name the revision, which is another one after each commit.
            self.put(f"{key} export {path.name}", re.sub(rb'revision"?:? "?[^,")]*', b"revision", path.read_bytes())
                     if path.name in ("README.md", "espalier_recipe.json") else path.read_bytes())

    def prune(self, key, config, *assignments, ranks=2):
        run = f"{WORK}/{key}"
        text = self.call(ranks, "prune", str(config), "--set", f"run.dir={run}",
                         *(word for a in assignments for word in ("--set", a)))
        self.put_text(f"{key} printed", text)
        self.put_run(key, ROOT / run)

    def methods(self, directory):
        config = directory / "small.json"
        config.write_text(json.dumps(SMALL))
        for name, assignments in METHODS.items():
            if self.wanted(f"method-{name}"):
                self.prune(f"method-{name}", config, *assignments)
        if not self.wanted("method-replay"):
            return
        self.prune("method-replay", config, "agent.backend=replay", f"agent.replay={WORK}/method-agent/dialogue.jsonl")
        for name in ("agent", "sparsegpt"):
            run = ROOT / WORK / f"method-{name}"
            mask = sorted((run / "checkpoints").glob("*.h5"))[-1]
            text = self.call(2, "eval", "--model", f"{SAPLING}/model", "--mask", str(mask.relative_to(ROOT)), "--text",
                             f"{SAPLING}/data/test.txt", "--window", "64", "--limit", "1024", "--json")
            self.put_json(f"method-{name} eval --mask", text)

    def goldens(self):
        text = (ROOT / SAPLING / "data/test.txt").read_bytes()[:3000]
        for model in sorted(p for p in (ROOT / "tests/golden/models").iterdir() if p.is_dir() and p.name[0] != "."):
            name, path = model.name, str(model.relative_to(ROOT))
            self.put(f"golden {name} inspect", self.call(1, "inspect", path, "--ranks", "2"))
        knowledge = "tests/golden/knowledge"
        self.put_json("golden knowledge eval", self.call(
            2, "eval", "--model", f"{knowledge}/model", "--mmlu", f"{knowledge}/mmlu", "--freebaseqa",
            f"{knowledge}/freebaseqa.json", "--freebaseqa-examples", f"{knowledge}/freebaseqa.json", "--choices", f"{knowledge}/choices.jsonl", "--json"))
        self.put("sapling score", self.call(2, "score", "--model", f"{SAPLING}/model", stdin=text))
        self.put("sapling tokens", self.call(1, "tokenize", "--model", f"{SAPLING}/model", stdin=text))
        self.put("sapling generate", self.call(2, "generate", "--model", f"{SAPLING}/model", "--prompt",
                                               "The capital of France is", "--max-tokens", "12"))
        golden, build = ROOT / "tests/golden", pathlib.Path(self.program).parent / "tests"
        models = sorted(str(p.relative_to(ROOT)) for p in (golden / "models").iterdir() if p.is_dir())
        self.put("golden models", self.run(2, str(build / "test_model_golden"), *models))
        self.put("golden gradients", self.run(2, str(build / "test_gradient_golden"), *models))
        self.put("golden prune", self.run(2, str(build / "test_oneshot"), "tests/golden/prune", *(
            f"tests/golden/models/{name}" for name in ("qwen3-tied-bf16", "smollm-tied-bf16", "llama-bias")),
            f"{SAPLING}/model"))

    def sweep(self, directory):
        base = directory / "base.json"
        base.write_text(json.dumps({**SMALL, "run": {"export": False}}))
        sweep = directory / "sweep.json"
        sweep.write_text(json.dumps({
            "dir": f"{WORK}/sweep", "base": str(base),
            "methods": {"wanda": {"prune.allocation": "uniform"}, "agent": {"prune.threshold": 0.01},
                        "sparsegpt": {"prune.allocation": "uniform", "prune.update": "sparsegpt"}},
            "grid": {"prune.target": [0.1, 0.15], "run.seed": [1, 2]}}))
        self.put_text("sweep printed", self.call(2, "sweep", str(sweep)).replace(str(directory), "DIR"))
        self.put_text("sweep list", self.call(1, "sweep", str(sweep), "--list").replace(str(directory), "DIR"))
        for run in sorted(p for p in (ROOT / WORK / "sweep").iterdir() if p.is_dir()):
            self.put_run(f"sweep {run.name}", run)
        page = ROOT / WORK / "report.html"
        subprocess.run([sys.executable, "analysis/report.py", f"{WORK}/sweep", "--out", str(page)], cwd=ROOT, check=True,
                       stdout=subprocess.DEVNULL)
        text = re.sub(r"data:image/[^\"')]*", "IMAGE", page.read_text())
        self.put("report page", re.sub(r"\d+(\.\d+)? (s|min|h)\b", "TIME", text))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("out")
    arguments.add_argument("--only", metavar="REGEX", help="only the methods, \"golden\", \"sweep\" or \"demo\" that match; "
                           "method-replay needs method-agent and method-sparsegpt")
    given = arguments.parse_args()
    shutil.rmtree(ROOT / WORK, ignore_errors=True)
    recorder = Recorder(given.program, given.only)
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        recorder.methods(directory)
        if recorder.wanted("golden"):
            recorder.goldens()
        if recorder.wanted("sweep"):
            recorder.sweep(directory)
        if recorder.wanted("demo"):
            recorder.prune("demo", "configs/sapling.json")
    pathlib.Path(given.out).write_text(json.dumps(recorder.record, indent=1) + "\n")


if __name__ == "__main__":
    main()
