"""The tables: comparison (the paper's), fair (equal sparsity), claims, runs."""
import math

import pandas as pd

from rundata.files import member, number, text

from . import claims
from .groups import TASKS, paired, proportion, rate
from .intervals import seed_interval, spread
from .layout import Table, digits, interval, percent, perplexity
from .layout import rate as show_rate

TASK_NAMES = {"mmlu": "MMLU, %", "freebaseqa": "FreebaseQA, %"}
POINT = 0.45  # the paper's sparsity
INTERVALS = ("Mean ± standard deviation over n seeds; [ ] 95 % intervals: Wilson for proportions, with the questions "
             "of one run, Student's t over seeds for differences.")


def whole_range(values):
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low}–{high}"


def dense_row(members):
    """The unpruned model: the same in all runs, but for what a seed samples."""
    ppl, sd, _ = spread([m.dense for m in members])
    row = {"method": "dense", "n": len(members), "sparsity": 0.0, "perplexity": ppl, "perplexity_sd": sd}
    for task in TASKS:
        right, n = proportion(members, task, dense=True)
        row.update(dict(zip((task, task + "_low", task + "_high"), rate(right, n))), **{task + "_questions": n})
    return row


def group_row(g):
    """Everything of a group, as numbers."""
    ppl, sd, n = g.spread("perplexity")
    rise, rise_sd, _ = g.spread("rise")
    row = {"method": g.label, "n": n, "target": g.target, "sparsity": g.spread("sparsity")[0], "perplexity": ppl,
           "perplexity_sd": sd, "rise": rise, "rise_sd": rise_sd}
    for task in TASKS:
        right, asked = g.proportion(task)
        row.update(dict(zip((task, task + "_low", task + "_high"), rate(right, asked))), **{task + "_questions": asked})
        row[task + "_sd"] = spread([m.right[task][0] / m.right[task][1] for m in g.members if m.right[task][1]])[1]
    if g.agent:
        row.update(iterations=whole_range(g.values("iterations")), rollbacks=sum(g.values("rollbacks")),
                   iterations_all=sum(g.values("iterations")))
    row["runs"] = " ".join(m.run.name for m in g.members)
    return row


def full(row):
    """With every column that the texts need."""
    return {**{f"{t}{end}": math.nan for t in TASKS for end in ("", "_low", "_high")}, "rise": math.nan, **row}


def measured(rows):
    """Tasks that any of the rows has."""
    return [t for t in TASKS if any(math.isfinite(full(r)[t]) for r in rows)]


def cells(row, tasks):
    """Columns that all tables share: method, n, sparsity, perplexity, rise, knowledge."""
    r = full(row)
    return [r["method"], str(r["n"]) if r["method"] != "dense" else "", percent(r["sparsity"]),
            perplexity(r["perplexity"], r["perplexity_sd"]), percent(r["rise"], 1, sign=True),
            *(show_rate(r[t], r[t + "_low"], r[t + "_high"]) for t in tasks)]


def headers(tasks, text_name):
    return ["method", "n", "sparsity", f"perplexity ({text_name})", "rise over dense", *(TASK_NAMES[t] for t in tasks)]


def frame(model, rows):
    return pd.DataFrame([{"model": model, **row} for row in rows])


def nearest_target(groups, point):
    """The target of unstructured groups that is nearest to the point; NaN if there are none."""
    targets = {g.target for g in groups if not g.structured}
    return min(targets, key=lambda t: (abs(t - point), t), default=math.nan)


def at_target(groups, target):
    return [g for g in groups if not g.structured and math.isclose(g.target, target, abs_tol=1e-9)]


def members_of(groups):
    return [m for g in groups for m in g.members]


def models_of(groups):
    return sorted({g.model for g in groups})


def file_name(kind, model, models):
    return kind if len(models) == 1 else f"{kind}-{model.replace(' ', '-').replace('/', '-')}"


# -------------------------------------------------------------- comparison


def agent_cells(row):
    if "iterations" not in row:
        return ["–", "–"]
    return [row["iterations"], f"{row['rollbacks']} of {row['iterations_all']}"]


def comparison(model, groups, point, name):
    """The paper's: dense, structured baselines, the agent."""
    target = nearest_target(groups, point)
    structured = [g for g in groups if g.structured]
    agents = [g for g in at_target(groups, target) if g.agent]
    if not (structured or agents):
        return None
    rows = [dense_row(members_of(groups))] + [group_row(g) for g in structured + agents]
    tasks, text_name = measured(rows), groups[0].members[0].text
    lines = [cells(r, tasks) + agent_cells(r) for r in rows]
    body = lines[:1] + [[]] + lines[1:1 + len(structured)] + ([[]] if structured and agents else []) + lines[
        1 + len(structured):]
    notes = [INTERVALS, "N:M baselines are 50 % sparse and bound to a pattern, the agent is neither: most of a gap can be "
             "the pattern's. The fair comparison is the table at equal sparsity."]
    if not math.isclose(target, point, abs_tol=1e-9) and agents:
        notes.append(f"No run of the agent at {percent(point, 0)}: the nearest target is {percent(target, 0)}.")
    return Table(name, f"{model}: structured baselines and the agent", headers(tasks, text_name) +
                 ["iterations", "rollbacks"], body, frame(model, rows), notes)


# ----------------------------------------------------------- equal sparsity


def reference_of(groups):
    """Whom the others are compared with: the agent that reached the target with most seeds, the plainest of these; else
    the best method."""
    return max(groups, key=lambda g: (g.agent, not g.missed, len(g.members), -len(g.label) if g.agent else 0),
               default=None)


def against(reference, g):
    """Relative difference of perplexity to the reference, by seed: positive is worse than it."""
    if g is reference or g.missed or reference.missed:
        return math.nan, (math.nan, math.nan), 0
    values = [y / x - 1 for x, y in paired(reference, g) if x > 0]
    return spread(values)[0], seed_interval(values), len(values)


def with_interval(value, low, high, write):
    """"+0.70 [−0.92, +2.32]"; "–" if there is no value."""
    return f"{write(value)} {interval(low, high, write)}".strip() if not math.isnan(value) else "–"


def signed(n):
    return lambda value: digits(100 * value, n, sign=True)


def against_cell(difference):
    value, (low, high), _ = difference
    return with_interval(value, low, high, signed(2))


def order(groups):
    """Best perplexity first."""
    def key(g):
        mean = g.spread("perplexity")[0]
        return not math.isfinite(mean), mean, g.label
    return sorted(groups, key=key)


def equal_sparsity(model, groups, target, name):
    """All unstructured methods at one target, best perplexity first."""
    same = order(at_target(groups, target))
    reference = reference_of(same)
    rows, lines = [dense_row(members_of(groups))], []
    for g in same:
        value, (low, high), pairs = against(reference, g)
        rows.append({**group_row(g), "against": reference.label, "difference": value, "difference_low": low,
                     "difference_high": high, "pairs": pairs, "target_missed": g.missed})
    tasks, text_name = measured(rows), groups[0].members[0].text
    lines = [cells(rows[0], tasks) + ["–"], []]
    for g, row in zip(same, rows[1:]):
        line = cells(row, tasks)
        line[0] += " †" if g.missed else ""
        lines.append(line + [against_cell(against(reference, g))])
    notes = [INTERVALS, f"Last column: perplexity relative to {reference.label}, paired by calibration seed; positive "
             "is worse than it."]
    if any(g.missed for g in same):
        notes.append("† ended before the target: not comparable, left out of the last column.")
    return Table(name, f"{model}: unstructured methods at {percent(target, 0)} sparsity",
                 headers(tasks, text_name) + [f"against {reference.label}, %"], lines, frame(model, rows), notes)


# --------------------------------------------------------------- by target


def by_target(model, groups, point, name):
    """Perplexity of every unstructured method at every target; None if there is only one target."""
    free = [g for g in groups if not g.structured]
    targets = sorted({g.target for g in free})
    if len(targets) < 2:
        return None
    of = {(g.label, g.target): g for g in order(free)}
    near = [g.label for g in order(at_target(free, nearest_target(free, point)))]
    labels = near + sorted({g.label for g in free} - set(near))

    def show(g):
        return perplexity(*g.spread("perplexity")[:2]) + (" †" if g.missed else "") if g else "–"

    notes = [f"Perplexity ({groups[0].members[0].text}) by target; dense: {perplexity(spread([m.dense for m in members_of(groups)])[0])}. "
             "Mean ± standard deviation over seeds."]
    if any(g.missed for g in free):
        notes.append("† ended before the target.")
    return Table(name, f"{model}: perplexity by sparsity", ["method", *(percent(t, 0) for t in targets)],
                 [[label, *(show(of.get((label, t))) for t in targets)] for label in labels],
                 frame(model, [group_row(g) for g in free]), notes)


# ------------------------------------------------------------------ claims


def claim_rows(a, s):
    mmlu = claims.relative_improvement(a, s)
    facts = claims.knowledge_ratio(a, s, "freebaseqa")
    ppl = claims.lower_degradation(a, s)
    row = {"method": a.label, "target": a.target, "baseline": s.label, "target_missed": a.missed}
    for key, c in (("mmlu_improvement", mmlu), ("factual_retention", facts), ("lower_degradation", ppl)):
        row.update({key: c.value, key + "_low": c.low, key + "_high": c.high, key + "_from": c.counts})
    return row


def ratio(value):
    return f"{value:.3g}" if math.isfinite(value) else digits(value)


def claim_cells(row):
    def show(key, write):
        return with_interval(row[key], row[key + "_low"], row[key + "_high"], write)

    return [row["method"] + (" †" if row["target_missed"] else ""), row["baseline"],
            show("mmlu_improvement", signed(1)), row["mmlu_improvement_from"], show("factual_retention", ratio),
            row["factual_retention_from"], show("lower_degradation", signed(1))]


def rollback_note(a):
    c = claims.rollback_share(a)
    if not math.isfinite(c.value):
        return f"{a.label}: no iterations."
    return (f"{a.label}: rollbacks / iterations = {c.counts} = {percent(c.value)} "
            f"{interval(c.low, c.high, percent)}, {whole_range(a.values('iterations'))} iterations a run.")


def yardstick(structured):
    """The baseline that all methods are held against in print: Wanda's tightest pattern, else the tightest."""
    return min(structured, key=lambda g: ("Wanda" not in g.label, g.first.pattern[1], g.label))


def claim_notes(methods, base, target):
    notes = [rollback_note(g) for g in methods if g.agent]
    if not all(g.agent for g in methods):
        notes.append(f"What the other methods would claim against {base.label} is what an agent must beat. The CSV has "
                     "all pairs.")
    if any(g.missed for g in methods):
        notes.append("† ended before the target: less was pruned.")
    return notes + [
        "Relative MMLU improvement (a − s) / s, factual retention a / s on FreebaseQA (exact match), lower perplexity "
        "degradation 1 − (a − dense) / (s − dense). Intervals of ratios: MOVER-R from Wilson's, samples taken as "
        "independent; of degradation: Student's t over seeds. A ratio to a rate near zero means little.",
        f"Methods at {percent(target, 0)} sparsity, baselines at what their pattern gives."]


def claim_table(model, groups, point, name):
    """The claims for the agent, and, since most of them is the pattern's, for every other unstructured method."""
    target = nearest_target(groups, point)
    structured, methods = [g for g in groups if g.structured], at_target(groups, target)
    if not (structured and methods):
        return None
    base = yardstick(structured)
    rows = [claim_rows(a, s) for s in structured for a in order(methods)]
    named = {g.label for g in methods if g.agent}
    first = [claim_cells(r) for r in rows if r["method"] in named]
    rest = [claim_cells(r) for r in rows if r["method"] not in named and r["baseline"] == base.label]
    lines = first + ([[]] if first and rest else []) + rest
    return Table(name, f"{model}: the paper's relative claims, for every method",
                 ["method a", "baseline s", "MMLU improvement, %", "right a : s", "factual retention, ratio",
                  "right a : s", "lower degradation, %"], lines, frame(model, rows), claim_notes(methods, base, target), left=2)


# -------------------------------------------------------------------- runs


def check(run, counted):
    """Do the masks hold what the summary says?"""
    if counted is None:
        return "no checkpoint"
    weights, pruned, good = counted
    if int(pruned.sum()) != number(run.summary.get("pruned_weights")) or int(weights.sum()) != number(
            run.summary.get("prunable_weights")):
        return f"masks hold {pruned.sum()} of {weights.sum()}"
    return "masks agree" if good in (None, True) else "masks break the pattern"


def run_row(run, count):
    row = {"run": run.name, "model": run.model, "method": run.method, "target": run.target, "seed": run.seed,
           "state": run.state, "sparsity": run.sparsity}
    for which in ("dense", "pruned"):
        for name in ("test", "validation"):
            row[f"{name}_{which}"] = number(member(run.summary, which, name, "perplexity"))
        for task in ("mmlu", "freebaseqa", "freebaseqa_contains"):
            row[f"{task}_{which}"] = number(member(run.summary, which, task, "right"))
            row[f"{task}_questions"] = number(member(run.summary, which, task, "questions"))
    row.update(iterations=number(run.summary.get("iterations")), rollbacks=number(run.summary.get("rollbacks")),
               seconds=number(run.timing.get("seconds")), revision=text(run.manifest.get("revision")),
               check=check(run, run.count_masks() if count else None) if run.finished else "", path=str(run.path))
    return row


def hit_cell(row, task):
    right, n = row[task + "_pruned"], row[task + "_questions"]
    return f"{right:.0f} of {n:.0f}" if math.isfinite(right) and math.isfinite(n) else "–"


def run_table(runs, count=True):
    """Every run directory, finished or not: where each number of the other tables is from."""
    rows = [run_row(run, count) for run in runs]
    lines = []
    for r in rows:
        ppl = r["test_pruned"] if math.isfinite(r["test_pruned"]) else r["validation_pruned"]
        lines.append([r["run"], r["model"], r["method"], percent(r["target"], 0), str(r["seed"]),
                      percent(r["sparsity"]), perplexity(ppl), hit_cell(r, "mmlu"), hit_cell(r, "freebaseqa"), r["state"], r["check"]])
    return Table("runs", "Every run directory", ["run", "model", "method", "target", "seed", "sparsity", "perplexity", "MMLU",
                                  "FreebaseQA", "state", "masks"], lines, pd.DataFrame(rows), left=11)


# --------------------------------------------------------------------- all


def all_tables(runs, groups, notes, point=POINT, count=True):
    models, tables = models_of(groups), []
    for model in models:
        own = [g for g in groups if g.model == model]
        tables += [comparison(model, own, point, file_name("comparison", model, models)),
                   claim_table(model, own, point, file_name("claims", model, models))]
        tables.append(by_target(model, own, point, file_name("by-target", model, models)))
        targets = sorted({g.target for g in own if not g.structured})
        tables += [equal_sparsity(model, own, t, file_name(f"equal-{100 * t:g}", model, models)) for t in targets]
    tables = [t for t in tables if t]
    for table in tables:
        table.notes += [n for n in notes if n not in table.notes]
    return tables + [run_table(runs, count)]
