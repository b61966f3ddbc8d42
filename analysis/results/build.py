# SPDX-License-Identifier: Apache-2.0
"""The tables: comparison (the paper's), claims, by target, equal sparsity, runs. docs/analysis.md describes them."""
import math

import pandas as pd

from rundata.files import member, number, text

from . import claims
from .formats import (format_interval, format_number, format_percent, format_perplexity, format_rate,
                      format_with_interval)
from .groups import TASKS, finished_first, missed_target, paired, proportion, rate_interval
from .intervals import holm, paired_p_value, seed_interval, spread
from .layout import Table
from .select import POINT, at_target, best_first, members_of, models_of, nearest_target
from .way import on_the_way

TASK_NAMES = {"mmlu": "MMLU, %", "freebaseqa": "FreebaseQA, %"}
SIGNIFICANT = ((0.01, "∗∗"), (0.05, "∗"))  # p-value below -> mark
INTERVALS = ("Mean ± standard deviation over n seeds; [ ] 95 % intervals: Wilson for proportions, with the questions "
             "of one run, Student's t over seeds for differences.")


# -------------------------------------------------------------------- rows


def dense_row(members):
    """The unpruned model. It is the same in all runs, except for the questions that a seed samples."""
    ppl, sd, _ = spread([m.dense for m in members])
    row = {"method": "dense", "n": len(members), "sparsity": 0.0, "perplexity": ppl, "perplexity_sd": sd}
    for task in TASKS:
        right, n = proportion(members, task, dense=True)
        row.update(zip((task, task + "_low", task + "_high"), rate_interval(right, n)), **{task + "_questions": n})
    return row


def group_row(g):
    """Everything about a group, as numbers; the columns of the CSV files."""
    ppl, sd, n = g.spread("perplexity")
    rise, rise_sd, _ = g.spread("rise")
    row = {"method": g.label, "n": n, "target": g.target, "sparsity": g.spread("sparsity")[0], "perplexity": ppl,
           "perplexity_sd": sd, "rise": rise, "rise_sd": rise_sd}
    for task in TASKS:
        right, asked = g.proportion(task)
        row.update(zip((task, task + "_low", task + "_high"), rate_interval(right, asked)),
                   **{task + "_questions": asked})
        row[task + "_sd"] = spread([m.right[task][0] / m.right[task][1] for m in g.members if m.right[task][1]])[1]
    if g.agent:
        row.update(iterations=iteration_range(g), rollbacks=sum(g.values("rollbacks")),
                   iterations_all=sum(g.values("iterations")))
    row["runs"] = " ".join(m.run.name for m in g.members)
    return row


def iteration_range(g):
    """"21–40": iterations of the shortest and of the longest run."""
    low, high = min(g.values("iterations")), max(g.values("iterations"))
    return f"{low}" if low == high else f"{low}–{high}"


def measured_tasks(rows):
    """Tasks that any of the rows has."""
    return [t for t in TASKS if any(math.isfinite(r.get(t, math.nan)) for r in rows)]


def common_headers(tasks, text_name):
    return ["method", "n", "sparsity", f"perplexity ({text_name})", "rise over dense", *(TASK_NAMES[t] for t in tasks)]


def common_cells(row, tasks):
    """The columns of common_headers. The dense row has no n, as it is not a mean over seeds, and no rise."""
    return [row["method"], str(row["n"]) if row["method"] != "dense" else "", format_percent(row["sparsity"]),
            format_perplexity(row["perplexity"], row["perplexity_sd"]),
            format_percent(row.get("rise", math.nan), 1, sign=True),
            *(format_rate(row[t], row[t + "_low"], row[t + "_high"]) for t in tasks)]


def best_cells(columns, usable, first_row):
    """{(row, column)} of the best cell of each column.

    columns: {column: (values, +1 if larger is better, else -1)}, usable: which of the values may win. Values that are
    printed from equal numbers win together; a column in which only one may win has no best.
    """
    found = set()
    for column, (values, sign) in columns.items():
        ranked = {i: sign * v for i, v in enumerate(values) if usable[i] and math.isfinite(v)}
        if len(ranked) > 1:
            found |= {(first_row + i, column) for i, v in ranked.items() if v == max(ranked.values())}
    return found


def best_of_common_cells(rows, tasks, usable, first_row):
    """best_cells of the columns of common_headers: perplexity, rise, tasks."""
    columns = {3: ([r["perplexity"] for r in rows], -1), 4: ([r.get("rise", math.nan) for r in rows], -1)}
    columns.update({5 + k: ([r[task] for r in rows], 1) for k, task in enumerate(tasks)})
    return best_cells(columns, usable, first_row)


def data_frame(model, rows):
    return pd.DataFrame([{"model": model, **row} for row in rows])


def signed_percentage(decimals):
    """Prints a fraction in percent with its sign, but without the percent sign, which the column's header has."""
    return lambda value: format_number(100 * value, decimals, sign=True)


# -------------------------------------------------------------- comparison


def comparison(model, groups, point, name):
    """The paper's table: the dense model, the N:M baselines, the agent at the target nearest to the point."""
    target = nearest_target(groups, point)
    structured = [g for g in groups if g.structured]
    agents = sorted((g for g in at_target(groups, target) if g.agent), key=lambda g: g.missed)
    if not (structured or agents):
        return None
    rows = [dense_row(members_of(groups))] + [group_row(g) for g in structured + agents]
    tasks, text_name = measured_tasks(rows), groups[0].members[0].text
    lines = []
    for row in rows:
        rollbacks = f"{row['rollbacks']} of {row['iterations_all']}" if "iterations" in row else "–"
        lines.append(common_cells(row, tasks) + [row.get("iterations", "–"), rollbacks])
    for line, g in zip(lines[1:], structured + agents):
        line[0] += " †" if g.missed else ""
    first_agent = 1 + len(structured)
    body = lines[:1] + [[]] + lines[1:first_agent] + ([[]] if structured and agents else []) + lines[first_agent:]
    notes = [INTERVALS, "N:M baselines are 50 % sparse and bound to a pattern, the agent is neither: most of a gap can "
             "be the pattern's. The fair comparison is the table at equal sparsity."]
    if not math.isclose(target, point, abs_tol=1e-9) and agents:
        notes.append(f"No run of the agent at {format_percent(point, 0)}: the nearest target is "
                     f"{format_percent(target, 0)}.")
    if any(g.missed for g in agents):
        notes.append("† ended before the target: less was pruned.")
    return Table(name, f"{model}: structured baselines and the agent", common_headers(tasks, text_name) +
                 ["iterations", "rollbacks"], body, data_frame(model, rows), notes)


# ------------------------------------------------------------------ claims


def claim_row(a, s):
    """The claims for method a against baseline s, as numbers."""
    row = {"method": a.label, "target": a.target, "baseline": s.label, "target_missed": a.missed}
    for key, c in (("mmlu_improvement", claims.relative_improvement(a, s)),
                   ("factual_retention", claims.knowledge_ratio(a, s, "freebaseqa")),
                   ("lower_degradation", claims.lower_degradation(a, s))):
        row.update({key: c.value, key + "_low": c.low, key + "_high": c.high, key + "_from": c.counts})
    return row


def claim_cells(row):
    def show(key, write):
        return format_with_interval(row[key], row[key + "_low"], row[key + "_high"], write)

    def ratio(value):
        return f"{value:.3g}" if math.isfinite(value) else format_number(value)

    return [row["method"] + (" †" if row["target_missed"] else ""), row["baseline"],
            show("mmlu_improvement", signed_percentage(1)), row["mmlu_improvement_from"],
            show("factual_retention", ratio), row["factual_retention_from"],
            show("lower_degradation", signed_percentage(1))]


def claim_notes(methods, baseline, target):
    """Notes below the table of claims; each agent's rollbacks are a claim of their own."""
    notes = []
    for a in (g for g in methods if g.agent):
        c = claims.rollback_share(a)
        if math.isfinite(c.value):
            notes.append(f"{a.label}: rollbacks / iterations = {c.counts} = {format_percent(c.value)} "
                         f"{format_interval(c.low, c.high, format_percent)}, {iteration_range(a)} iterations a run.")
        else:
            notes.append(f"{a.label}: no iterations.")
    if not all(g.agent for g in methods):
        notes.append(f"What the other methods would claim against {baseline.label} is what an agent must beat. The CSV "
                     "has all pairs.")
    if any(g.missed for g in methods):
        notes.append("† ended before the target: less was pruned.")
    return notes + [
        "Relative MMLU improvement (a − s) / s, factual retention a / s on FreebaseQA (exact match), lower perplexity "
        "degradation 1 − (a − dense) / (s − dense). Intervals of ratios: MOVER-R from Wilson's, samples taken as "
        "independent; of degradation: Student's t over seeds. A ratio to a rate near zero means little.",
        f"Methods at {format_percent(target, 0)} sparsity, baselines at what their pattern gives."]


def claim_table(model, groups, point, name):
    """The claims for the agent against every baseline, and for the other unstructured methods.

    Most of the agent's advantage over an N:M baseline comes from having no pattern: the other methods show how much. To
    keep the printed table short, they are compared with one baseline only: the one with the smallest groups, of Wanda's
    patterns if there are any.
    """
    target = nearest_target(groups, point)
    structured, methods = [g for g in groups if g.structured], at_target(groups, target)
    if not (structured and methods):
        return None
    baseline = min(structured, key=lambda g: ("Wanda" not in g.label, g.first.pattern[1], g.label))
    rows = [claim_row(a, s) for s in structured for a in best_first(methods)]
    agents = {g.label for g in methods if g.agent}
    first = [claim_cells(r) for r in rows if r["method"] in agents]
    rest = [claim_cells(r) for r in rows if r["method"] not in agents and r["baseline"] == baseline.label]
    headers = ["method a", "baseline s", "MMLU improvement, %", "right a : s", "factual retention, ratio", "right a : s",
               "lower degradation, %"]
    for column, key in ((4, "factual_retention"), (2, "mmlu_improvement")):  # without questions, two columns less
        if all(r[key + "_from"] == "not measured" for r in rows):
            for cells in [headers, *first, *rest]:
                del cells[column:column + 2]
    return Table(name, f"{model}: the paper's relative claims, for every method", headers,
                 first + ([[]] if first and rest else []) + rest, data_frame(model, rows),
                 claim_notes(methods, baseline, target), left=2)


# --------------------------------------------------------------- by target


def by_target(model, groups, point, name):
    """Perplexity of every unstructured method at every target; None if there is only one target."""
    free = [g for g in groups if not g.structured]
    targets = sorted({g.target for g in free})
    if len(targets) < 2:
        return None
    by_label_and_target = {(g.label, g.target): g for g in best_first(free)}
    labels = [g.label for g in best_first(at_target(free, nearest_target(free, point)))]
    labels += sorted({g.label for g in free} - set(labels))
    lines = []
    for label in labels:
        found = [by_label_and_target.get((label, t)) for t in targets]
        lines.append([label, *(format_perplexity(*g.spread("perplexity")[:2]) + (" †" if g.missed else "") if g else "–"
                               for g in found)])
    bold = set()
    for column, t in enumerate(targets, 1):
        at = [by_label_and_target.get((label, t)) for label in labels]
        bold |= best_cells({column: ([g.spread("perplexity")[0] if g else math.nan for g in at], -1)},
                           [g is not None and not g.missed for g in at], 0)
    dense, _, _ = spread([m.dense for m in members_of(groups)])
    notes = [f"Perplexity ({groups[0].members[0].text}) by target; dense: {format_perplexity(dense)}. "
             "Mean ± standard deviation over seeds; bold: best of those that reached the target."]
    if any(g.missed for g in free):
        notes.append("† ended before the target.")
    return Table(name, f"{model}: perplexity by sparsity", ["method", *(format_percent(t, 0) for t in targets)], lines,
                 data_frame(model, [group_row(g) for g in free]), notes, bold=bold)


# ----------------------------------------------------------- equal sparsity


def difference_to(reference, g):
    """(mean, (low, high), pairs, p-value) of the relative difference of g's perplexity to the reference's, by seed.

    Positive is worse than the reference. NaN for the reference itself, and if either group missed its target.
    """
    if g is reference or g.missed or reference.missed:
        return math.nan, (math.nan, math.nan), 0, math.nan
    values = [y / x - 1 for x, y in paired(reference, g) if x > 0]
    return spread(values)[0], seed_interval(values), len(values), paired_p_value(values)


def significance_marks(p_values):
    """A mark, or nothing, for each p-value, corrected for their number."""
    return [next((mark for bound, mark in SIGNIFICANT if p < bound), "") for p in holm(p_values)]


def equal_sparsity(model, groups, target, name):
    """All unstructured methods at one target, best perplexity first.

    They are compared with the agent that reached the target with the most seeds, of several the one with the shortest
    label; without an agent, with the best method of the most seeds.
    """
    same = best_first(at_target(groups, target))
    reference = max(same, default=None, key=lambda g: (g.agent, not g.missed, len(g.members),
                                                       -len(g.label) if g.agent else 0))
    rows, differences = [dense_row(members_of(groups))], []
    for g in same:
        value, (low, high), pairs, p = difference_to(reference, g)
        rows.append({**group_row(g), "against": reference.label, "difference": value, "difference_low": low,
                     "difference_high": high, "pairs": pairs, "p": p, "target_missed": g.missed})
        differences.append(format_with_interval(value, low, high, signed_percentage(2)))
    tasks, text_name = measured_tasks(rows), groups[0].members[0].text
    lines = [common_cells(rows[0], tasks) + ["–"], []]
    marks = significance_marks([row["p"] for row in rows[1:]])
    for g, row, difference, mark in zip(same, rows[1:], differences, marks):
        line = common_cells(row, tasks) + [f"{difference} {mark}".strip()]
        line[0] += " †" if g.missed else ""
        lines.append(line)
    notes = [INTERVALS + " Bold: best of those that reached the target.",
             f"Last column: perplexity relative to {reference.label}, paired by calibration seed; positive is worse than "
             "it."]
    if any(marks):
        notes.append("∗ p < 0.05, ∗∗ p < 0.01: paired t-test over seeds, corrected for the number of methods (Holm).")
    if any(g.missed for g in same):
        notes.append("† ended before the target: not comparable, left out of the last column.")
    return Table(name, f"{model}: unstructured methods at {format_percent(target, 0)} sparsity",
                 common_headers(tasks, text_name) + [f"against {reference.label}, %"], lines, data_frame(model, rows),
                 notes, bold=best_of_common_cells(rows[1:], tasks, [not g.missed for g in same], 2))


# -------------------------------------------------------------------- runs


def check_masks(run, counted):
    """Compares the masks of the last checkpoint with the summary: what Run.count_masks found, as a cell."""
    if counted is None:
        return "no checkpoint"
    weights, pruned, follows = counted
    if int(pruned.sum()) != number(run.summary.get("pruned_weights")) or int(weights.sum()) != number(
            run.summary.get("prunable_weights")):
        return f"masks hold {pruned.sum()} of {weights.sum()}"
    return "masks agree" if follows in (None, True) else "masks break the pattern"


def run_row(run, count_masks):
    """Everything about a run, as numbers."""
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
               check=check_masks(run, run.count_masks() if count_masks else None) if run.finished else "",
               path=str(run.path))
    return row


def run_table(runs, count_masks=True):
    """Every run directory, finished or not: the source of each number in the other tables."""
    def hits(row, task):
        right, n = row[task + "_pruned"], row[task + "_questions"]
        return f"{right:.0f} of {n:.0f}" if math.isfinite(right) and math.isfinite(n) else "–"

    runs = finished_first(runs)
    rows = [run_row(run, count_masks) for run in runs]
    lines = []
    for run, r in zip(runs, rows):
        ppl = r["test_pruned"] if math.isfinite(r["test_pruned"]) else r["validation_pruned"]
        mark = " ‡" if not run.finished else " †" if missed_target(run) else ""
        lines.append([r["run"] + mark, r["model"], r["method"], format_percent(r["target"], 0), str(r["seed"]),
                      format_percent(r["sparsity"]), format_perplexity(ppl), hits(r, "mmlu"), hits(r, "freebaseqa"),
                      r["state"], r["check"]])
    headers = ["run", "model", "method", "target", "seed", "sparsity", "perplexity", "MMLU", "FreebaseQA", "state",
               "masks"]
    notes = ["† ended before the target."] if any(missed_target(run) for run in runs) else []
    notes += ["‡ not finished: in no other table."] if not all(run.finished for run in runs) else []
    return Table("runs", "Every run directory", headers, lines, pd.DataFrame(rows), notes, left=len(headers))


# --------------------------------------------------------------------- all


def all_tables(runs, groups, notes, point=POINT, count_masks=True):
    """The tables of every model that has them, then run_table. The notes of grouping go below each of the former."""
    models, tables = models_of(groups), []
    for model in models:
        own = [g for g in groups if g.model == model]
        end = "" if len(models) == 1 else f"-{model.replace(' ', '-').replace('/', '-')}"
        tables += [comparison(model, own, point, "comparison" + end), claim_table(model, own, point, "claims" + end),
                   by_target(model, own, point, "by-target" + end)]
        targets = sorted({g.target for g in own if not g.structured})
        tables += [equal_sparsity(model, own, t, f"equal-{100 * t:g}{end}") for t in targets]
        tables += [on_the_way(model, own, t, f"reached-{100 * t:g}{end}") for t in targets]
    tables = [t for t in tables if t]
    for table in tables:
        table.notes += [n for n in notes if n not in table.notes]
    return tables + [run_table(runs, count_masks)]
