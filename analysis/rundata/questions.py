# SPDX-License-Identifier: Apache-2.0
"""Relates the answers to single questions (espalier eval --details) to how strongly each fact was taught."""
import json
import math
from pathlib import Path

import pandas as pd

from .files import member, read_lines, text, whole


def read_answers(paths, notes):
    """Frame task, key, right: the answers in files of `espalier eval --details`, the last one of each question.

    Tasks whose questions belong to no fact (multiple choice) are left out.
    """
    rows = []
    for line in (line for path in paths for line in read_lines(path, notes)):
        if line.get("task") == "mmlu":
            rows.append(("mmlu", f"{text(line.get('subject'))}/{whole(line.get('row'))}", line.get("correct") is True))
        elif line.get("task") == "freebaseqa":
            rows.append(("freebaseqa", text(line.get("id")), line.get("exact", line.get("contains")) is True))
    return pd.DataFrame(rows, columns=["task", "key", "right"]).drop_duplicates(["task", "key"], keep="last")


def fact_of_question(config):
    """Frame task, key, fact: the fact that each question of section report asks for.

    MMLU: facts.tsv beside the CSV folders of tests/sapling. FreebaseQA: the machine id of the first answer. Without
    these files the frame is empty.
    """
    rows = []
    folder, split = text(member(config, "report", "mmlu")), text(member(config, "report", "mmlu_split")) or "test"
    if folder and (Path(folder) / "facts.tsv").is_file():
        table = pd.read_csv(Path(folder) / "facts.tsv", sep="\t", dtype=str, keep_default_na=False)
        table = table[table.split == split]
        facts = dict(zip(table.subject + "/" + table.row, table.fact))
        rows += [("mmlu", key, fact) for key, fact in facts.items()]
    path = text(member(config, "report", "freebaseqa"))
    if path and Path(path).is_file():
        facts = {}
        for question in json.loads(Path(path).read_text(encoding="utf-8")).get("Questions", []):
            for parse in question.get("Parses", [])[:1]:
                for answer in parse.get("Answers", [])[:1]:
                    facts[question.get("Question-ID")] = answer.get("AnswersMid")
        rows += [("freebaseqa", key, fact) for key, fact in facts.items()]
    return pd.DataFrame(rows, columns=["task", "key", "fact"])


def find_facts(config):
    """facts.jsonl beside the question files of section report or one folder above; None if it is not there."""
    for key in ("freebaseqa", "mmlu"):
        path = text(member(config, "report", key))
        for folder in list(Path(path).parents)[:2] if path else []:
            if (folder / "facts.jsonl").is_file():
                return folder / "facts.jsonl"
    return None


def read_facts(path, notes):
    """Frame fact, tier, taught: how often the fact occurred in training, in any form."""
    rows = [(text(f.get("id")), text(f.get("tier")), sum(v for v in f["taught"].values()))
            for f in read_lines(path, notes) if isinstance(f.get("taught"), dict)]
    return pd.DataFrame(rows, columns=["fact", "tier", "taught"])


def strengths(run, facts_path=None):
    """Frame task, key, dense, pruned, fact, tier, taught of every question that both models answered.

    eval-dense*.jsonl, in the run directory or its parent, holds the dense model's answers; every other eval-*.jsonl of
    the run holds the pruned model's. None if answers are missing, or, with a note, if the facts are not found.
    """
    own = run.answer_files()
    dense_files = [p for p in own if p.name.startswith("eval-dense")]
    pruned_files = [p for p in own if p not in dense_files]
    dense_files = dense_files or sorted(run.path.resolve().parent.glob("eval-dense*.jsonl"))
    dense, pruned = read_answers(dense_files, run.notes), read_answers(pruned_files, run.notes)
    if dense.empty or pruned.empty:
        return None
    path = facts_path or find_facts(run.config)
    if path is None:
        run.notes.append("no facts.jsonl was found for the answers per question: set --facts")
        return None
    both = dense.merge(pruned, on=["task", "key"], suffixes=("_dense", "_pruned"))
    known = both.merge(fact_of_question(run.config), on=["task", "key"])
    known = known.merge(read_facts(path, run.notes), on="fact")
    if len(known) < len(both):
        run.notes.append(f"{len(both) - len(known)} of {len(both)} questions belong to no fact of {Path(path).name}")
    return known.rename(columns={"right_dense": "dense", "right_pruned": "pruned"}) if len(known) else None


def lost_by_tier(frame):
    """Counts of `strengths` per task and tier, strongest tier first.

    known: right before pruning. lost: known, but wrong after it; share: lost / known. gained: right only after it.
    taught: mean over the questions.
    """
    rows = []
    for (task, tier), part in frame.groupby(["task", "tier"]):
        known, lost = int(part.dense.sum()), int((part.dense & ~part.pruned).sum())
        rows.append({"task": task, "tier": tier, "questions": len(part), "known": known, "lost": lost,
                     "gained": int((~part.dense & part.pruned).sum()), "taught": float(part.taught.mean()),
                     "share": lost / known if known else math.nan})
    return pd.DataFrame(rows).sort_values(["task", "taught"], ascending=[True, False]).reset_index(drop=True)
