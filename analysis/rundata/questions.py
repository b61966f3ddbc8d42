"""Answers per question (espalier eval --details) and how strongly each fact was taught."""
import json
import math
from pathlib import Path

import pandas as pd

from .files import member, read_lines, text, whole

COLUMNS = ["task", "key", "right"]


def answer_row(line):
    """(task, key, right) of a line of --details, None for tasks that have no facts."""
    if line.get("task") == "mmlu":
        return "mmlu", f"{text(line.get('subject'))}/{whole(line.get('row'))}", line.get("correct") is True
    if line.get("task") == "freebaseqa":
        return "freebaseqa", text(line.get("id")), line.get("exact", line.get("contains")) is True
    return None


def read_answers(paths, notes):
    rows = [answer_row(line) for path in paths for line in read_lines(path, notes)]
    return pd.DataFrame([r for r in rows if r], columns=COLUMNS).drop_duplicates(["task", "key"], keep="last")


def answers_of(run):
    """(dense, pruned) frames. eval-dense*.jsonl, of the run or of the folder it lies in, is the dense model's; every
    other eval-*.jsonl of the run is the pruned one's."""
    own = sorted(run.path.glob("eval-*.jsonl"))
    dense = [p for p in own if p.name.startswith("eval-dense")]
    pruned = [p for p in own if p not in dense]
    dense = dense or sorted(run.path.resolve().parent.glob("eval-dense*.jsonl"))
    return read_answers(dense, run.notes), read_answers(pruned, run.notes)


def mmlu_facts(folder, split):
    """{"subject/row": fact} from the index that lies beside the CSV files of tests/sapling."""
    path = Path(folder) / "facts.tsv"
    if not folder or not path.is_file():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table = table[table.split == split]
    return dict(zip(table.subject + "/" + table.row, table.fact))


def freebaseqa_facts(path):
    """{question id: fact}: the answer's machine id."""
    if not path or not Path(path).is_file():
        return {}
    found = {}
    for question in json.loads(Path(path).read_text(encoding="utf-8")).get("Questions", []):
        for parse in question.get("Parses", [])[:1]:
            for answer in parse.get("Answers", [])[:1]:
                found[question.get("Question-ID")] = answer.get("AnswersMid")
    return found


def find_facts(config):
    """facts.jsonl beside the question files or one folder above, None if there is none."""
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


def fact_of_question(config):
    split = text(member(config, "report", "mmlu_split")) or "test"
    rows = [("mmlu", key, fact) for key, fact in mmlu_facts(text(member(config, "report", "mmlu")), split).items()]
    rows += [("freebaseqa", key, fact)
             for key, fact in freebaseqa_facts(text(member(config, "report", "freebaseqa"))).items()]
    return pd.DataFrame(rows, columns=["task", "key", "fact"])


def strengths(run, facts_path=None):
    """Per question that both models answered: task, key, dense, pruned, tier, taught. None, with a note, if the run
    directory has no such answers or the facts are not to be found."""
    dense, pruned = answers_of(run)
    if dense.empty or pruned.empty:
        return None
    path = facts_path or find_facts(run.config)
    if path is None:
        run.notes.append("answers per question are there, but no facts.jsonl: give --facts")
        return None
    both = dense.merge(pruned, on=["task", "key"], suffixes=("_dense", "_pruned"))
    known = both.merge(fact_of_question(run.config), on=["task", "key"])
    known = known.merge(read_facts(path, run.notes), on="fact")
    if len(known) < len(both):
        run.notes.append(f"{len(both) - len(known)} of {len(both)} questions belong to no fact of {Path(path).name}")
    return known.rename(columns={"right_dense": "dense", "right_pruned": "pruned"}) if len(known) else None


def lost_by_tier(frame):
    """Per task and tier, strongest first: questions, known to the dense model, of these lost; gained; mean taught."""
    rows = []
    for (task, tier), part in frame.groupby(["task", "tier"]):
        known = int(part.dense.sum())
        rows.append({"task": task, "tier": tier, "questions": len(part), "known": known,
                     "lost": int((part.dense & ~part.pruned).sum()), "gained": int((~part.dense & part.pruned).sum()),
                     "taught": float(part.taught.mean()), "share": math.nan})
        if known:
            rows[-1]["share"] = rows[-1]["lost"] / known
    return pd.DataFrame(rows).sort_values(["task", "taught"], ascending=[True, False]).reset_index(drop=True)
