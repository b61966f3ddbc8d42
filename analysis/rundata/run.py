"""One run directory."""
import math
import os
from pathlib import Path

import numpy as np
import pandas as pd

from . import masks, methods
from .files import member, number, read_json, read_lines, text, whole
from .methods import is_agent, method_name, pattern_of

MARKS = ("manifest.json", "events.jsonl", "summary.json", "sweep.json")
PROFILE_COLUMNS = ("sparsity", "s", "g", "z_s", "z_g")


def is_run(path):
    return any((Path(path) / name).is_file() for name in MARKS)


def find_runs(paths):
    """Run directories among and below the paths, in order of name; nothing is sought inside a run."""
    found = []
    for path in map(Path, paths):
        if is_run(path):
            found.append(path)
            continue
        for folder, below, _ in os.walk(path):
            below.sort()
            if is_run(folder):
                below.clear()
                found.append(Path(folder))
    return [Run(path) for path in dict.fromkeys(found)]


class Run:
    """All of a run that is small; masks are read on demand. Whatever is missing or damaged is named in `notes`."""

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.resolve().name
        self.notes = []
        self.manifest = read_json(self.path / "manifest.json", self.notes)
        self.summary = read_json(self.path / "summary.json", self.notes)
        self.sweep = read_json(self.path / "sweep.json", self.notes)
        self.timing = read_json(self.path / "timing.json", self.notes)
        self.events = read_lines(self.path / "events.jsonl", self.notes)
        self.dialogue = read_lines(self.path / "dialogue.jsonl", self.notes)
        self.config = member(self.manifest, "config") if isinstance(member(self.manifest, "config"), dict) else {}
        self.outcomes = outcome_table(self.of_type("outcome"))

    def of_type(self, *types):
        return [e for e in self.events if e.get("type") in types]

    @property
    def finished(self):
        return bool(self.summary)

    @property
    def method(self):
        return method_name(self.config) if self.config else "–"

    @property
    def pattern(self):
        return pattern_of(self.config)

    @property
    def agent(self):
        return bool(self.config) and is_agent(self.config)

    @property
    def seed(self):
        return whole(member(self.config, "run", "seed"))

    @property
    def threshold(self):
        return number(member(self.config, "prune", "threshold"))

    @property
    def target(self):
        """Sparsity aimed at; an N:M pattern fixes it."""
        if self.pattern:
            n, m = self.pattern
            return 1 - n / m
        value = number(member(self.config, "prune", "target"))
        return value if math.isfinite(value) else number(self.summary.get("target"))

    @property
    def dense(self):
        """Nothing was to be pruned: a run that a sweep makes of the model as it is."""
        return self.target == 0

    @property
    def identity(self):
        found = member(self.summary, "identity") or member(self.manifest, "identity")
        return found if isinstance(found, dict) else {}

    @property
    def model(self):
        """The last part of the model's path that says something: ".../tests/sapling/model" is sapling."""
        parts = [p for p in Path(text(member(self.config, "model", "path"))).parts if p not in ("/", ".", "..")]
        while len(parts) > 1 and parts[-1] in ("model", "snapshot", "hf"):
            parts.pop()
        return parts[-1] if parts else text(self.identity.get("model_type"), "model")

    @property
    def state(self):
        """In words, for lists of runs."""
        if self.finished:
            return text(self.summary.get("end"), "finished")
        if self.sweep.get("state") == "failed":
            return f"failed: {text(self.sweep.get('message'))}"
        if self.outcomes.empty:
            return "unfinished, no iteration yet"
        last = self.outcomes.iloc[-1]
        return f"unfinished after iteration {last.iteration}, {100 * self.sparsity:.1f} %"

    @property
    def sparsity(self):
        """Of the last accepted state."""
        if self.finished:
            return number(self.summary.get("sparsity"))
        kept = self.outcomes[self.outcomes.accepted]
        return float(kept.sparsity_after.iloc[-1]) if len(kept) else 0.0

    @property
    def dense_perplexity(self):
        """On the validation windows, as the loop uses it."""
        for event in reversed(self.of_type("start", "resume")):
            value = number(member(event, "dense", "perplexity"))
            if math.isfinite(value):
                return value
        return number(member(self.summary, "dense", "validation", "perplexity"))

    def dense_probe(self, task):
        for event in reversed(self.of_type("start", "resume")):
            found = pair(member(event, "dense", task))
            if found[1]:
                return found
        return 0, 0

    def profiles(self):
        """[(iteration, {column: array over linears})], the newest of each iteration, by iteration."""
        found = {}
        for event in self.of_type("profile"):
            columns = {key: column(event.get(key)) for key in PROFILE_COLUMNS}
            if len(columns["sparsity"]) and len(columns["sparsity"]) % len(masks.KINDS) == 0:
                found[whole(event.get("iteration"))] = columns
        return sorted(found.items())

    def checkpoint(self):
        """The one that summary.json names, else the newest; None if there is none."""
        named = text(self.summary.get("masks"))
        if named and (self.path / named).is_file():
            return self.path / named
        files = sorted((self.path / "checkpoints").glob("iteration-*.h5"))
        return files[-1] if files else None

    def count_masks(self):
        """masks.count_masks of the checkpoint; None with a note if it is missing or cannot be read."""
        path = self.checkpoint()
        if path is None:
            return None
        try:
            return masks.count_masks(path, self.pattern)
        except (OSError, KeyError, ValueError, TypeError) as e:
            self.notes.append(f"{path.name} cannot be read: {e}")
            return None

    def states(self):
        """Per-linear sparsity [iterations + 1, linears] before the first and after every iteration, or None."""
        profiles = dict(self.profiles())
        done = [i for i in self.outcomes.iteration if i in profiles]
        if not done:
            return None
        last = profiles[done[-1]]["sparsity"].copy()
        row = self.outcomes[self.outcomes.iteration == done[-1]].iloc[-1]
        if row.accepted:
            for name, step in row.steps.items():
                at = masks.linear_index(name)
                if 0 <= at < len(last) and math.isfinite(step_of(step)):
                    last[at] += step_of(step)
        rows = [profiles[i]["sparsity"] for i in done] + [last]
        return np.vstack([r for r in rows if len(r) == len(last)])


def step_of(value):
    """Sparsity that a decision adds to a linear: a number, or that of a pattern such as "2:4"."""
    n_m = methods.n_m(text(value))
    return 1 - n_m[0] / n_m[1] if n_m else number(value)


def column(value):
    return np.array([number(v) for v in value] if isinstance(value, list) else [], dtype=float)


def pair(value):
    """[right, total] of a probe; (0, 0) if it was not asked."""
    if isinstance(value, list) and len(value) == 2 and whole(value[1]) > 0:
        return whole(value[0]), whole(value[1])
    return 0, 0


def outcome_row(event):
    decision = event.get("decision") if isinstance(event.get("decision"), dict) else {}
    steps = decision.get("prune") if isinstance(decision.get("prune"), dict) else {}
    row = {"iteration": whole(event.get("iteration")), "accepted": event.get("accepted") is True,
           "source": text(event.get("source")), "sparsity_before": number(event.get("sparsity_before")),
           "sparsity_after": number(event.get("sparsity_after")), "seconds": number(event.get("seconds")),
           "before": number(member(event, "before", "perplexity")),
           "after": number(member(event, "after", "perplexity")), "steps": steps,
           "reasoning": text(decision.get("reasoning")), "reflection": text(decision.get("reflection"))}
    for task in ("mmlu", "freebaseqa"):
        row[task + "_right"], row[task + "_total"] = pair(member(event, "after", task))
    return row


def outcome_table(events):
    """One row per iteration (1, 2, ...), the newest event of each."""
    rows = {row["iteration"]: row for row in map(outcome_row, events) if row["iteration"] > 0}
    frame = pd.DataFrame([rows[i] for i in sorted(rows)], columns=list(outcome_row({})))
    return frame.astype({"accepted": bool})
