"""Runs that differ in nothing but the seed, and their measures."""
import math
from dataclasses import dataclass, field

from rundata.files import member, number, text, whole
from rundata.methods import is_agent

from .intervals import seed_interval, spread, wilson

# What does not make another method: where, how long, which seed, what is measured at the end.
NOT_THE_METHOD_SECTIONS = {"run", "report"}
NOT_OF_ONE_SHOT = {"agent", "policy", "probes"}  # sections that only the agent's loop reads
NOT_THE_METHOD = {"model.path", "agent.seed", "agent.replay", "agent.base_url", "agent.api_key_env", "agent.ca_file"}
TASKS = ("mmlu", "freebaseqa")


def flatten(config):
    """{"section.key": value} of what makes the method."""
    left_out = NOT_THE_METHOD_SECTIONS | (set() if is_agent(config) else NOT_OF_ONE_SHOT)
    flat = {f"{section}.{key}": value for section, keys in config.items() if isinstance(keys, dict)
            and section not in left_out for key, value in keys.items()}
    return {key: value for key, value in flat.items() if key not in NOT_THE_METHOD}


def share(measures, task):
    """(right, questions) of a summary's measures."""
    return number(member(measures, task, "right")), whole(member(measures, task, "questions"))


@dataclass
class Measures:
    """What the tables take from one finished run."""
    run: object
    text: str  # "test" or "validation": where the perplexities are from
    perplexity: float
    dense: float
    sparsity: float
    iterations: int
    rollbacks: int
    right: dict = field(default_factory=dict)  # task -> (right, questions), pruned
    dense_right: dict = field(default_factory=dict)

    @property
    def rise(self):
        return self.perplexity / self.dense - 1

    @property
    def missed(self):
        """The run ended before its target: not comparable at equal sparsity."""
        return not abs(self.sparsity - self.run.target) < 5e-4 and self.run.pattern is None


def measure(run, text_name):
    dense, pruned = member(run.summary, "dense"), member(run.summary, "pruned")
    return Measures(run=run, text=text_name, perplexity=number(member(pruned, text_name, "perplexity")),
                    dense=number(member(dense, text_name, "perplexity")), sparsity=number(run.summary.get("sparsity")),
                    iterations=whole(run.summary.get("iterations")), rollbacks=whole(run.summary.get("rollbacks")),
                    right={t: share(pruned, t) for t in TASKS}, dense_right={t: share(dense, t) for t in TASKS})


@dataclass
class Group:
    """Runs of one method on one model at one target."""
    model: str
    method: str
    label: str
    target: float
    members: list

    @property
    def first(self):
        return self.members[0].run

    @property
    def agent(self):
        return self.first.agent

    @property
    def structured(self):
        return self.first.pattern is not None

    @property
    def missed(self):
        return any(m.missed for m in self.members)

    def values(self, name):
        return [getattr(m, name) for m in self.members]

    def spread(self, name):
        return spread(self.values(name))

    def interval(self, name):
        return seed_interval(self.values(name))

    def proportion(self, task, dense=False):
        return proportion(self.members, task, dense)


def proportion(members, task, dense=False):
    """(mean right, questions of one run): seeds answer the same questions, so more seeds do not make more questions."""
    asked = [(m.dense_right if dense else m.right)[task] for m in members]
    asked = [(right, n) for right, n in asked if n > 0 and math.isfinite(right)]
    if not asked:
        return math.nan, 0
    n = min(n for _, n in asked)
    return sum(right / total for right, total in asked) / len(asked) * n, n


def rate(right, n):
    """(rate, low, high)."""
    return (right / n if n else math.nan, *wilson(right, n))


# ---------------------------------------------------------------- grouping


def text_of(runs):
    """The text that all of a model's runs were measured on: the test text if it is."""
    has = [math.isfinite(number(member(r.summary, "pruned", "test", "perplexity"))) for r in runs]
    return "test" if has and all(has) else "validation"


def model_names(runs):
    """{run: name}: models of equal name but other weights are told apart by the hash of their weights."""
    weights = {}
    for run in runs:
        weights.setdefault(run.model, set()).add(text(run.identity.get("weights")))
    return {run: run.model if len(weights[run.model]) == 1 else f"{run.model} {text(run.identity.get('weights'))[:6]}"
            for run in runs}


def short(value):
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def variant(config, differing):
    """What tells this configuration from others of its method: "threshold 0.02"."""
    parts = [f"{key.split('.', 1)[1].replace('_', ' ')} {short(config.get(key, '(default)'))}" for key in differing]
    return ", ".join(parts)


def differing_keys(configs):
    keys = sorted(set().union(*configs))
    return [k for k in keys if len({repr(c.get(k)) for c in configs}) > 1]


def newest_of_each_seed(runs, notes):
    """One run per seed: the same again is no second sample."""
    by_seed = {}
    for run in sorted(runs, key=lambda r: text(r.manifest.get("started"))):
        if run.seed in by_seed:
            notes.append(f"{by_seed[run.seed].name} repeats {run.name} (same configuration and seed): left out")
        by_seed[run.seed] = run
    return [by_seed[seed] for seed in sorted(by_seed)]


def variants(runs, notes):
    """[(suffix, runs)]: runs of one method and target, split where their configurations differ. Up to two differing
    keys are told in the label, more of them by a letter and a note."""
    configs = {run: flatten(run.config) for run in runs}
    keys, split = differing_keys(list(configs.values())), {}
    for run in runs:
        split.setdefault(variant(configs[run], keys), []).append(run)
    if len(keys) <= 2:
        return list(split.items())
    letters = [chr(ord("a") + i % 26) * (1 + i // 26) for i in range(len(split))]
    notes += [f"{same[0].method} [{letter}]: {suffix}" for letter, (suffix, same) in zip(letters, split.items())]
    return list(zip(letters, split.values()))


def group_runs(runs):
    """(groups, notes) of the finished runs; models and methods in order of name, targets ascending."""
    notes, groups, split = [], [], {}
    finished = [r for r in runs if r.finished and not r.dense]
    names = model_names(finished)
    for run in finished:
        split.setdefault((names[run], run.method, round(run.target, 6)), []).append(run)
    for (model, method, target), same in sorted(split.items()):
        text_name = text_of([r for r in finished if names[r] == model])
        for suffix, equal in variants(same, notes):
            members = [measure(r, text_name) for r in newest_of_each_seed(equal, notes)]
            groups.append(Group(model, method, f"{method} [{suffix}]" if suffix else method, target, members))
    return groups, notes + protocol_notes(groups)


def protocol(m):
    windows = member(m.run.summary, "pruned", m.text)
    return (whole(member(windows, "window")), whole(member(windows, "windows")), m.right["mmlu"][1],
            m.right["freebaseqa"][1])


def protocol_notes(groups):
    """Runs of a model that were not measured alike cannot be compared: said aloud."""
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
    """[(value of a, value of b)] by seed; a group of one run, whose method may know no seed, goes with every seed."""
    x, y = ({m.run.seed: getattr(m, name) for m in g.members} for g in (a, b))
    if set(x) & set(y):
        return [(x[s], y[s]) for s in sorted(set(x) & set(y))]
    if len(y) == 1:
        return [(v, next(iter(y.values()))) for v in x.values()]
    if len(x) == 1:
        return [(next(iter(x.values())), v) for v in y.values()]
    return []
