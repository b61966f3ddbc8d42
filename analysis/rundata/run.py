# SPDX-License-Identifier: Apache-2.0
"""One run directory: its files as Python values, and what follows from them."""
import math
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

from . import masks, methods
from .files import member, number, read_json, read_lines, read_summary, text, whole
from .methods import is_agent, method_name, pattern_of

MARKS = ("manifest.json", "events.jsonl", "summary.json", "sweep.json")
SILENT_SECONDS = 120  # the lock of a running program changes every ten seconds (src/run/lock.c)
PROFILE_COLUMNS = ("sparsity", "s", "g", "z_s", "z_g", "z_k")


def is_run(path):
    """True if the directory holds a file that only run directories hold."""
    return any((Path(path) / name).is_file() for name in MARKS)


def find_runs(paths):
    """Runs among and below the paths, in the order of their names. Directories inside a run are not searched."""
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


def with_milestones(runs):
    """The runs, each followed by its milestones: for tables, a run to several targets is a run to each of them."""
    return [one for run in runs for one in (run, *run.milestones())]


class Run:
    """The small files of a run; masks are read on demand.

    Works for unfinished and damaged runs: properties fall back to what is there, and `notes` names the files that could
    not be read.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.name = self.path.resolve().name
        self.notes = []
        self.manifest = read_json(self.path / "manifest.json", self.notes)
        self.summary = read_summary(self.path / "summary.json", self.notes)
        self.sweep = read_json(self.path / "sweep.json", self.notes)
        self.timing = read_json(self.path / "timing.json", self.notes)
        self.events = read_lines(self.path / "events.jsonl", self.notes)
        self.dialogue = read_lines(self.path / "dialogue.jsonl", self.notes)
        self.config = member(self.manifest, "config") if isinstance(member(self.manifest, "config"), dict) else {}
        self.outcomes = outcome_table(self.events_of("outcome"))

    def events_of(self, *types):
        """The events of these types, in the order of the file."""
        return [e for e in self.events if e.get("type") in types]

    @property
    def experts(self):
        """Experts of a layer of the model; 0: a layer has one MLP."""
        return max([whole(e.get("experts")) for e in self.events_of("start", "resume")], default=0)

    @property
    def finished(self):
        """The program writes summary.json last."""
        return bool(self.summary)

    @property
    def going(self):
        """True if a process works on the run: it holds the lock, and has shown a sign of life."""
        try:
            return time.time() - os.stat(self.path / "lock").st_mtime < SILENT_SECONDS
        except OSError:
            return False

    @property
    def method(self):
        """Its name in tables; "–" without a configuration."""
        return method_name(self.config, self.fell_back) if self.config else "–"

    @property
    def fell_back(self):
        """True if more than agent.max_fallback_share of the decisions were not the agent's. Outcomes name their source."""
        sources = [text(e.get("source")) for e in self.events_of("outcome")]
        allowed = number(member(self.config, "agent", "max_fallback_share"))
        share = sum("fallback" in s for s in sources) / max(1, len(sources))
        return share > (allowed if math.isfinite(allowed) else 0.1)

    @property
    def pattern(self):
        """(n, m) if the whole run follows an N:M pattern, else None."""
        return pattern_of(self.config)

    @property
    def agent(self):
        """True if an agent prunes in the loop; False for one-shot methods."""
        return bool(self.config) and is_agent(self.config)

    @property
    def seed(self):
        return whole(member(self.config, "run", "seed"))

    @property
    def threshold(self):
        """Relative rise of perplexity above which an iteration is rolled back."""
        return number(member(self.config, "prune", "threshold"))

    @property
    def target(self):
        """The sparsity that the run aims at; a pattern N:M fixes it at 1 - N/M."""
        if self.pattern:
            n, m = self.pattern
            return 1 - n / m
        value = number(member(self.config, "prune", "target"))
        return value if math.isfinite(value) else number(self.summary.get("target"))

    @property
    def dense(self):
        """True for a run with target 0, which a sweep uses to measure the model unpruned."""
        return self.target == 0

    @property
    def identity(self):
        """The model's shape and the hashes of its weights and of the data; {} if they were not recorded."""
        found = member(self.summary, "identity") or member(self.manifest, "identity")
        return found if isinstance(found, dict) else {}

    @property
    def model(self):
        """The last telling part of the model's path: "sapling" for .../tests/sapling/model."""
        parts = [p for p in Path(text(member(self.config, "model", "path"))).parts if p not in ("/", ".", "..")]
        while len(parts) > 1 and parts[-1] in ("model", "snapshot", "hf"):
            parts.pop()
        return parts[-1] if parts else text(self.identity.get("model_type"), "model")

    @property
    def state(self):
        """How the run ended or how far it got, in words."""
        if self.finished:
            return text(self.summary.get("end"), "finished")
        if self.sweep.get("state") == "failed":
            return f"failed: {text(self.sweep.get('message'))}"
        how = "running" if self.going else "unfinished"
        if self.outcomes.empty:
            return f"{how}, no iteration yet"
        last = self.outcomes.iloc[-1]
        return f"{how} after iteration {last.iteration}, {100 * self.sparsity:.1f} %"

    @property
    def sparsity(self):
        """Sparsity of the last accepted state."""
        if self.finished:
            return number(self.summary.get("sparsity"))
        kept = self.outcomes[self.outcomes.accepted]
        return float(kept.sparsity_after.iloc[-1]) if len(kept) else 0.0

    @property
    def dense_perplexity(self):
        """The dense model's perplexity on the validation windows, which the loop compares with."""
        for event in reversed(self.events_of("start", "resume")):
            value = number(member(event, "dense", "perplexity"))
            if math.isfinite(value):
                return value
        return number(member(self.summary, "dense", "validation", "perplexity"))

    def dense_probe(self, task):
        """(right, total) of the dense model in a knowledge probe; (0, 0) if it was not asked."""
        for event in reversed(self.events_of("start", "resume")):
            found = probe_counts(member(event, "dense", task))
            if found[1]:
                return found
        return 0, 0

    def profiles(self):
        """[(iteration, {column: array over linears})] in order; of a repeated iteration the newest profile."""
        found = {}
        for event in self.events_of("profile"):
            columns = {key: float_array(event.get(key)) for key in PROFILE_COLUMNS}
            if len(columns["sparsity"]) and len(columns["sparsity"]) % masks.layer_linears(self.experts) == 0:
                found[whole(event.get("iteration"))] = columns
        return sorted(found.items())

    def milestones(self):
        """Its states at prune.milestones, as far as the finished run passed them."""
        found = self.summary.get("milestones")
        return [Milestone(self, entry) for entry in (found if isinstance(found, list) else [])
                if isinstance(entry, dict) and math.isfinite(number(entry.get("target")))]

    def checkpoint(self):
        """Path of the checkpoint that summary.json names, else of the newest; None if there is none."""
        named = text(self.summary.get("masks"))
        if named and (self.path / named).is_file():
            return self.path / named
        files = sorted((self.path / "checkpoints").glob("iteration-*.h5"))
        return files[-1] if files else None

    def answer_files(self):
        """Files with answers per question, of the dense and of the pruned model."""
        return sorted(self.path.glob("eval-*.jsonl"))

    def count_masks(self):
        """masks.count_masks of the checkpoint; None if there is none, or, with a note, if it cannot be read."""
        path = self.checkpoint()
        if path is None:
            return None
        try:
            return masks.count_masks(path, self.pattern)
        except (OSError, KeyError, ValueError, TypeError) as e:
            self.notes.append(f"{path.name} cannot be read: {e}")
            return None

    def states(self):
        """Sparsity of every linear [iterations + 1, linears]: before the first iteration and after each; None without
        profiles.

        Every profile shows the state before its iteration. The state after the last one is its profile plus its steps,
        if they were accepted.
        """
        profiles = dict(self.profiles())
        done = [i for i in self.outcomes.iteration if i in profiles]
        if not done:
            return None
        last = profiles[done[-1]]["sparsity"].copy()
        row = self.outcomes[self.outcomes.iteration == done[-1]].iloc[-1]
        if row.accepted:
            for name, step in row.steps.items():
                at = masks.linear_index(name, self.experts)
                if 0 <= at < len(last) and math.isfinite(step_of(step)):
                    last[at] += step_of(step)
        rows = [profiles[i]["sparsity"] for i in done] + [last]
        return np.vstack([r for r in rows if len(r) == len(last)])


class Milestone(Run):
    """The state of a finished run at one of its milestones, as if the run had ended there.

    It is a state on the way to a higher target: another procedure than a run to this target, which `prune.milestones` among
    the options says.
    """

    def __init__(self, run, entry):
        # Shares the files that were read, so that nothing is read again for each of them.
        self.__dict__.update(run.__dict__)
        target = number(entry.get("target"))
        prune = member(run.config, "prune")
        self.whole = run
        self.name = f"{run.name} at {100 * target:g} %"
        self.config = {**run.config, "prune": {**(prune if isinstance(prune, dict) else {}), "target": target}}
        self.summary = {**run.summary, **entry, "end": f"milestone of {run.name}", "milestones": []}
        self.outcomes = run.outcomes[run.outcomes.iteration <= whole(entry.get("iterations"))]
        self.timing = {}

    def checkpoint(self):
        """None: later iterations have replaced it."""
        return None

    def answer_files(self):
        """None: those of the run are answers of the model at its end."""
        return []


def step_of(value):
    """Sparsity that a step adds to a linear: a number, or that of a pattern such as "2:4"; NaN for other values."""
    n_m = methods.n_m(text(value))
    return 1 - n_m[0] / n_m[1] if n_m else number(value)


def float_array(value):
    """A JSON list as a float array, NaN where it holds no number; empty for any other value."""
    return np.array([number(v) for v in value] if isinstance(value, list) else [], dtype=float)


def probe_counts(value):
    """(right, total) from the JSON list [right, total] of a probe; (0, 0) if it was not asked."""
    if isinstance(value, list) and len(value) == 2 and whole(value[1]) > 0:
        return whole(value[0]), whole(value[1])
    return 0, 0


def outcome_row(event):
    """The fields of an outcome event that tables, pictures and pages use; also defines the columns of outcome_table."""
    decision = event.get("decision") if isinstance(event.get("decision"), dict) else {}
    steps = decision.get("prune") if isinstance(decision.get("prune"), dict) else {}
    row = {"iteration": whole(event.get("iteration")), "accepted": event.get("accepted") is True,
           "source": text(event.get("source")), "sparsity_before": number(event.get("sparsity_before")),
           "sparsity_after": number(event.get("sparsity_after")), "seconds": number(event.get("seconds")),
           "before": number(member(event, "before", "perplexity")),
           "after": number(member(event, "after", "perplexity")), "steps": steps,
           "reasoning": text(decision.get("reasoning")), "reflection": text(decision.get("reflection"))}
    for task in ("mmlu", "freebaseqa"):
        row[task + "_right"], row[task + "_total"] = probe_counts(member(event, "after", task))
    return row


def outcome_table(events):
    """Frame with a row per iteration, from 1 on; of a repeated iteration (after a resume) the newest event."""
    rows = {row["iteration"]: row for row in map(outcome_row, events) if row["iteration"] > 0}
    frame = pd.DataFrame([rows[i] for i in sorted(rows)], columns=list(outcome_row({})))
    return frame.astype({"accepted": bool})
