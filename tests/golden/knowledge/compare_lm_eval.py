#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares espalier with lm-evaluation-harness (PyPI lm-eval 0.4.13), sample by sample, on local files. Run by hand:

    compare_lm_eval.py --model HF_DIR --espalier PATH --mmlu DIR [--subject anatomy] [--shots 5] [--limit N]

Uses the YAML of two of the harness's tasks: mmlu_<subject>, and arc_easy (acc and acc_norm) with the questions of the
same subject as --choices, since those of ARC need a network. Exit 0: all answers are the same. Needs `accelerate`.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile

import lm_eval
from lm_eval.tasks import TaskManager

TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
# The harness's own tasks; only the source of their rows is replaced.
MMLU = """\
include: {tasks}/mmlu/default/mmlu_{subject}.yaml
task: local_mmlu
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {folder}/test.json, dev: {folder}/dev.json}}}}
"""
ARC = """\
include: {tasks}/arc/arc_easy.yaml
task: local_arc
dataset_path: json
dataset_name: null
dataset_kwargs: {{data_files: {{test: {folder}/arc.json}}}}
training_split: null
validation_split: null
"""


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as f:
        return [dict(question=r[0], choices=r[1:5], answer="ABCD".index(r[5])) for r in csv.reader(f) if r]


def write_lines(path, rows):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)


def run_lm_eval(model, folder, task, shots):
    out = lm_eval.simple_evaluate(model="hf", model_args=dict(pretrained=model, dtype="float32"),
                                  tasks=[task], num_fewshot=shots, batch_size=1, device="cpu",
                                  task_manager=TaskManager(include_path=folder, include_defaults=False),
                                  log_samples=True, bootstrap_iters=0)
    samples = sorted(out["samples"][task], key=lambda s: s["doc_id"])
    return out["results"][task], [[r[0][0] for r in s["resps"]] for s in samples], samples


def run_espalier(o, arguments, details):
    text = subprocess.run([o.espalier, "eval", "--model", o.model, *arguments, "--details", details, "--json", "--quiet"],
                          check=True, capture_output=True, text=True).stdout
    with open(details, encoding="utf-8") as f:
        return json.loads(text), [json.loads(line) for line in f.read().split("\n") if line]


def argmax(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def compare_mmlu(o, folder, rows):
    result, logprobs, _ = run_lm_eval(o.model, folder, "local_mmlu", o.shots)
    mine, lines = run_espalier(o, ["--mmlu", folder + "/mmlu", "--mmlu-style", "lm-eval", "--shots", str(o.shots)],
                               folder + "/mmlu.jsonl")
    differ = [i for i, (a, b) in enumerate(zip(logprobs, lines)) if "ABCD"[argmax(a)] != b["choice"]]
    apart = 0.0  # differences of logits are differences of log-probabilities
    for a, b in zip(logprobs, lines):
        apart = max(apart, *(abs((a[k] - a[0]) - (b["logits"][k] - b["logits"][0])) for k in range(4)))
    print(f"MMLU {o.subject}, {o.shots} shots, {len(rows)} questions: lm-eval acc {result['acc,none']:.6f}, espalier "
          f"{mine['mmlu']['micro']['rate']:.6f}; {len(differ)} answers differ {differ}; largest difference {apart:.2g}")
    return not differ and abs(result["acc,none"] - mine["mmlu"]["micro"]["rate"]) < 1e-9


def compare_arc(o, folder, rows):
    result, logprobs, _ = run_lm_eval(o.model, folder, "local_arc", 0)
    docs = [dict(context=f"Question: {r['question']}\nAnswer:", choices=r["choices"], answer=r["answer"]) for r in rows]
    write_lines(folder + "/choices.jsonl", docs)
    mine, lines = run_espalier(o, ["--choices", folder + "/choices.jsonl"], folder + "/arc.jsonl")
    differ = [i for i, (a, b) in enumerate(zip(logprobs, lines)) if argmax(a) != b["choice"]]
    apart = max(abs(x - y) for a, b in zip(logprobs, lines) for x, y in zip(a, b["logprob"]))
    print(f"ARC form of {o.subject}, {len(rows)} questions: lm-eval acc {result['acc,none']:.6f} acc_norm "
          f"{result['acc_norm,none']:.6f}, espalier {mine['choices']['acc']['rate']:.6f} "
          f"{mine['choices']['acc_norm']['rate']:.6f}; {len(differ)} answers differ {differ}; largest difference of a "
          f"log-probability {apart:.2g}")
    rates = [mine["choices"][key]["rate"] for key in ("acc", "acc_norm")]
    return not differ and max(abs(result[f"{key},none"] - r) for key, r in zip(("acc", "acc_norm"), rates)) < 1e-9


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--espalier", required=True)
    p.add_argument("--mmlu", required=True)
    p.add_argument("--subject", default="anatomy")
    p.add_argument("--shots", type=int, default=5)
    p.add_argument("--limit", type=int)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for split in ("dev", "test"):
            os.makedirs(f"{folder}/mmlu/{split}")
            with open(f"{o.mmlu}/{split}/{o.subject}_{split}.csv", newline="", encoding="utf-8") as f:
                table = [r for r in csv.reader(f) if r][: o.limit if split == "test" else None]
            with open(f"{folder}/mmlu/{split}/{o.subject}_{split}.csv", "w", newline="", encoding="utf-8") as f:
                csv.writer(f).writerows(table)
            write_lines(f"{folder}/{split}.json", rows_of(f"{folder}/mmlu/{split}/{o.subject}_{split}.csv"))
        rows = rows_of(f"{folder}/mmlu/test/{o.subject}_test.csv")
        write_lines(f"{folder}/arc.json", [dict(question=r["question"], answerKey="ABCD"[r["answer"]],
                                                choices=dict(text=r["choices"], label=list("ABCD"))) for r in rows])
        for name, text in (("mmlu", MMLU), ("arc", ARC)):
            with open(f"{folder}/{name}.yaml", "w", encoding="utf-8") as f:
                f.write(text.format(tasks=TASKS, subject=o.subject, folder=folder))
        same = compare_mmlu(o, folder, rows)
        same = compare_arc(o, folder, rows) and same
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
