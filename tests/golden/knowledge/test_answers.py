#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares espalier's answers to the small data sets here, question by question, with those of transformers (answers.json).

test_answers.py ESPALIER
"""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../../e2e")
from common import ENVIRONMENT  # noqa: E402

DATA = dict(mmlu=f"{HERE}/mmlu", freebaseqa=f"{HERE}/freebaseqa.json", choices=f"{HERE}/choices.jsonl")
NAMES = dict(mmlu=("subject", "row"), freebaseqa=("id",), choices=("line",))
TOLERANCE = 1e-4  # of a logit or a log-probability


def answers(espalier, task, options, details):
    more = [text for key, value in options.items() for text in (f"--{key}", str(value))]
    subprocess.run([espalier, "eval", "--model", f"{HERE}/model", f"--{task}", DATA[task], *more, "--details", details,
                    "--quiet"], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    with open(details, encoding="utf-8") as f:
        lines = [json.loads(line) for line in f.read().split("\n") if line]
    return {tuple(x[k] for k in NAMES[task]): x for x in lines}


def differences(want, got):
    """The keys whose values differ, and the largest difference of two numbers in lists."""
    wrong, apart = [], 0.0
    for key, value in want.items():
        if isinstance(value, list):
            apart = max(apart, *(abs(x - y) for x, y in zip(value, got[key], strict=True)))
        elif got[key] != value:
            wrong.append(f"{key}: {got[key]!r}, expected {value!r}")
    return wrong, apart


def check(run, got):
    failed, worst = 0, 0.0
    if len(got) != len(run["lines"]):
        print(f"{run['task']} {run['options']}: {len(got)} questions, expected {len(run['lines'])}")
        failed += 1
    for want in run["lines"]:
        name = tuple(want[k] for k in NAMES[run["task"]])
        wrong, apart = differences(want, got[name])
        worst = max(worst, apart)
        if wrong or apart > TOLERANCE:
            print(f"{run['task']} {run['options']} {name}: {wrong}, numbers {apart:.2g} apart")
            failed += 1
    return failed, worst


def main():
    failed, worst, n = 0, 0.0, 0
    with open(f"{HERE}/answers.json", encoding="utf-8") as f:
        runs = json.load(f)["runs"]
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            bad, apart = check(run, answers(sys.argv[1], run["task"], run["options"], f"{folder}/details"))
            failed, worst, n = failed + bad, max(worst, apart), n + len(run["lines"])
    print(f"{n} questions in {len(runs)} runs: {failed} differ; largest difference of a number {worst:.2g}")
    sys.exit(1 if failed or not n else 0)


if __name__ == "__main__":
    main()
