# SPDX-License-Identifier: Apache-2.0
"""Groups of runs that differ only in the seed, and what was measured on them."""
import math
from dataclasses import dataclass, field

from rundata.files import member, number, text, whole
from rundata.methods import is_agent

from .intervals import spread, wilson

# Options that do not make another method: where a run is kept, its seed, what is measured at the end, how the agent's
# endpoint is reached.
NOT_THE_METHOD_SECTIONS = {"run", "report"}
NOT_OF_ONE_SHOT = {"agent", "policy", "probes"}  # sections that only the agent's loop reads
NOT_THE_METHOD = {"model.path", "agent.seed", "agent.replay", "agent.base_url", "agent.api_key_env", "agent.ca_file"}
TASKS = ("mmlu", "freebaseqa")
TARGET_TOLERANCE = 5e-4  # a run reached its target if its sparsity is this near; it counts whole weights
LABELLED_KEYS = 2  # variants of a method are labelled with their values as long as no more options differ


def method_options(config):
    """{"section.key": value} of the options that make the method."""
    left_out = NOT_THE_METHOD_SECTIONS | (set() if is_agent(config) else NOT_OF_ONE_SHOT)
    flat = {f"{section}.{key}": value for section, keys in config.items() if isinstance(keys, dict)
            and section not in left_out for key, value in keys.items()}
    return {key: value for key, value in flat.items() if key not in NOT_THE_METHOD}


def missed_target(run):
    """True if a finished run ended before its target. A pattern fixes the sparsity, up to the rest of a row."""
    return run.finished and run.pattern is None and not abs(run.sparsity - run.target) < TARGET_TOLERANCE


def finished_first(runs):
    """In the given order: runs that reached their target, then those that ended before it, then the unfinished ones."""
    return sorted(runs, key=lambda run: (not run.finished, missed_target(run)))


def task_counts(measures, task):
    """(right, questions) of a task in a summary's `dense` or `pruned`."""
    return number(member(measures, task, "right")), whole(member(measures, task, "questions"))


@dataclass
class Measures:
    """What the tables use of one finished run."""
    run: object
    text: str  # "test" or "validation": the text of both perplexities
    perplexity: float
    dense: float  # perplexity of the dense model
    sparsity: float
    iterations: int
    rollbacks: int
    right: dict = field(default_factory=dict)  # task -> (right, questions) of the pruned model
    dense_right: dict = field(default_factory=dict)

    @property
    def rise(self):
        """Relative rise of the perplexity over the dense model's."""
        return self.perplexity / self.dense - 1

    @property
    def missed(self):
        """True if the run ended before its target: it cannot be compared at equal sparsity."""
        return missed_target(self.run)


def measures_of(run, text_name):
    """Measures of a finished run, with the perplexities of the named text."""
    dense, pruned = member(run.summary, "dense"), member(run.summary, "pruned")
    return Measures(run=run, text=text_name, perplexity=number(member(pruned, text_name, "perplexity")),
                    dense=number(member(dense, text_name, "perplexity")), sparsity=number(run.summary.get("sparsity")),
                    iterations=whole(run.summary.get("iterations")), rollbacks=whole(run.summary.get("rollbacks")),
                    right={t: task_counts(pruned, t) for t in TASKS},
                    dense_right={t: task_counts(dense, t) for t in TASKS})


@dataclass
class Group:
    """Runs of one method on one model at one target: a Measures per seed."""
    model: str
    method: str
    label: str  # the method, and what tells it from its variants
    target: float
    members: list

    @property
    def first(self):
        """A run that stands for all: they differ only in the seed."""
        return self.members[0].run

    @property
    def agent(self):
        return self.first.agent

    @property
    def structured(self):
        """True for N:M patterns."""
        return self.first.pattern is not None

    @property
    def missed(self):
        return any(m.missed for m in self.members)

    def values(self, name):
        """The attribute of every member."""
        return [getattr(m, name) for m in self.members]

    def spread(self, name):
        return spread(self.values(name))

    def proportion(self, task, dense=False):
        return proportion(self.members, task, dense)


def proportion(members, task, dense=False):
    """(mean number right, questions of one run).

    Seeds answer the same questions, so the number of questions does not grow with the number of seeds.
    """
    asked = [(m.dense_right if dense else m.right)[task] for m in members]
    asked = [(right, n) for right, n in asked if n > 0 and math.isfinite(right)]
    if not asked:
        return math.nan, 0
    n = min(n for _, n in asked)
    return sum(right / total for right, total in asked) / len(asked) * n, n


def rate_interval(right, n):
    """(rate, low, high) with the Wilson interval."""
    return (right / n if n else math.nan, *wilson(right, n))


# ---------------------------------------------------------------- grouping


def perplexity_text(runs):
    """The text that all these runs were measured on: the test text if it is, else the validation windows."""
    has = [math.isfinite(number(member(r.summary, "pruned", "test", "perplexity"))) for r in runs]
    return "test" if has and all(has) else "validation"


def model_names(runs):
    """{run: name}. Models of one name but different weights are told apart by the hash of their weights."""
    weights = {}
    for run in runs:
        weights.setdefault(run.model, set()).add(text(run.identity.get("weights")))
    return {run: run.model if len(weights[run.model]) == 1 else f"{run.model} {text(run.identity.get('weights'))[:6]}"
            for run in runs}


def newest_of_each_seed(runs, notes):
    """One run per seed, the newest: the same run again is not a second sample."""
    by_seed = {}
    for run in sorted(runs, key=lambda r: text(r.manifest.get("started"))):
        if run.seed in by_seed:
            notes.append(f"{by_seed[run.seed].name} repeats {run.name} (same configuration and seed): left out")
        by_seed[run.seed] = run
    return [by_seed[seed] for seed in sorted(by_seed)]


def split_variants(runs, notes):
    """[(suffix, runs)]: runs of one method and target, split where their configurations differ.

    The suffix tells the differing options, "threshold 0.02"; if more than LABELLED_KEYS differ, it is a letter that a
    note explains. It is empty if nothing differs.
    """
    options = {run: method_options(run.config) for run in runs}
    keys = sorted(set().union(*options.values()))
    differing = [k for k in keys if len({repr(o.get(k)) for o in options.values()}) > 1]
    split = {}
    for run in runs:
        parts = []
        for key in differing:
            value = options[run].get(key, "(default)")
            shown = f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
            parts.append(f"{key.split('.', 1)[1].replace('_', ' ')} {shown}")
        split.setdefault(", ".join(parts), []).append(run)
    if len(differing) <= LABELLED_KEYS:
        return list(split.items())
    letters = [chr(ord("a") + i % 26) * (1 + i // 26) for i in range(len(split))]
    notes += [f"{same[0].method} [{letter}]: {suffix}" for letter, (suffix, same) in zip(letters, split.items())]
    return list(zip(letters, split.values()))


def group_runs(runs):
    """(groups, notes) of the finished runs, ordered by model, method and target. Dense runs belong to no group."""
    notes, groups, split = [], [], {}
    finished = [r for r in runs if r.finished and not r.dense]
    names = model_names(finished)
    for run in finished:
        split.setdefault((names[run], run.method, round(run.target, 6)), []).append(run)
    for (model, method, target), same in sorted(split.items()):
        text_name = perplexity_text([r for r in finished if names[r] == model])
        for suffix, equal in split_variants(same, notes):
            members = [measures_of(r, text_name) for r in newest_of_each_seed(equal, notes)]
            groups.append(Group(model, method, f"{method} [{suffix}]" if suffix else method, target, members))
    return groups, notes + protocol_notes(groups)


def protocol_notes(groups):
    """Notes on models whose runs were measured with different windows or questions, and so cannot be compared."""
    def protocol(m):
        windows = member(m.run.summary, "pruned", m.text)
        return (whole(member(windows, "window")), whole(member(windows, "windows")), m.right["mmlu"][1],
                m.right["freebaseqa"][1])

    notes = []
    for model in sorted({g.model for g in groups}):
        own = [m for g in groups if g.model == model for m in g.members]
        if own[0].text != "test" and any(member(m.run.summary, "pruned", "test") for m in own):
            notes.append(f"{model}: perplexity is of the validation windows, since not all runs have a test text")
        used = {protocol(m) for m in own}
        if len(used) > 1:
            notes.append(f"{model}: the runs were not measured alike (window, windows, MMLU and FreebaseQA questions: "
                         + "; ".join(map(str, sorted(used))) + ")")
    return notes


def paired(a, b, name="perplexity"):
    """[(value of a, value of b)] for each seed that both groups have.

    Without a common seed, a group of a single run is paired with every run of the other: its method may not depend on
    the seed.
    """
    x, y = ({m.run.seed: getattr(m, name) for m in g.members} for g in (a, b))
    if set(x) & set(y):
        return [(x[s], y[s]) for s in sorted(set(x) & set(y))]
    if len(y) == 1:
        return [(v, next(iter(y.values()))) for v in x.values()]
    if len(x) == 1:
        return [(next(iter(x.values())), v) for v in y.values()]
    return []
