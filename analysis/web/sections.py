# SPDX-License-Identifier: Apache-2.0
"""What the pages show besides pictures and dialogue, as tables and plain values for the templates."""
import math
from dataclasses import dataclass

from results.formats import format_number, format_percent, format_perplexity, format_rate
from results.groups import rate_interval, task_counts
from results.layout import Table
from rundata.files import member, number, read_json

from . import dialogue

PERPLEXITIES = (("validation", "perplexity, validation windows"), ("test", "perplexity, test text"))
KNOWLEDGE = (("mmlu", "MMLU, %"), ("freebaseqa", "FreebaseQA, exact match, %"),
             ("freebaseqa_contains", "FreebaseQA, contains an answer, %"))
# Of `espalier eval --json`: task, proportion, label.
EVALUATIONS = (("mmlu", "micro", "MMLU"), ("freebaseqa", "exact", "FreebaseQA, exact match"),
               ("freebaseqa", "contains", "FreebaseQA, contains an answer"),
               ("freebaseqa", "match", "FreebaseQA, llm-kick"), ("choices", "acc", "choices, acc"),
               ("choices", "acc_norm", "choices, acc_norm"))


@dataclass
class RunContent:
    """What run_parts.html shows of one run."""
    run: object
    result: object     # Table, None for an unfinished run
    evaluations: list  # of Tables
    iterations: list   # of dialogue.Iteration
    timing: object     # Table, None if it was not recorded
    provenance: dict   # the manifest without its configuration


def run_content(run):
    """Reads what is shown of a run; files that cannot be read are added to run.notes."""
    return RunContent(run=run, result=result_table(run) if run.finished else None, evaluations=evaluation_tables(run),
                      iterations=dialogue.iterations(run), timing=timing_table(run),
                      provenance={k: v for k, v in run.manifest.items() if k != "config"})


def perplexity_row(run, key, name):
    """Cells of a perplexity, dense and pruned; None if it was not measured."""
    values = [number(member(run.summary, which, key, "perplexity")) for which in ("dense", "pruned")]
    if all(math.isnan(v) for v in values):
        return None
    errors = [number(member(run.summary, which, key, "stderr")) for which in ("dense", "pruned")]
    return [name, *(format_perplexity(v, s) for v, s in zip(values, errors)),
            format_percent(values[1] / values[0] - 1, 2, sign=True)]


def knowledge_row(run, key, name):
    """Cells of a knowledge test, dense and pruned; None if it was not asked."""
    (right_d, n_d), (right_p, n_p) = (task_counts(run.summary.get(which), key) for which in ("dense", "pruned"))
    if not (n_d and n_p):
        return None
    return [f"{name} of {n_p}", format_rate(*rate_interval(right_d, n_d)), format_rate(*rate_interval(right_p, n_p)),
            f"{right_p - right_d:+.0f}".replace("-", "−")]


def result_table(run):
    """Dense against pruned, of a finished run."""
    rows = [perplexity_row(run, key, name) for key, name in PERPLEXITIES]
    rows += [knowledge_row(run, key, name) for key, name in KNOWLEDGE]
    return Table("result", "", ["", "dense", "pruned", "change"], [r for r in rows if r],
                 notes=["Perplexity ± standard error over windows; [ ] 95 % Wilson intervals."])


def evaluation_tables(run):
    """Evaluations of the exported model, which jobs/eval.sbatch leaves in the run directory."""
    tables = []
    for path in sorted(run.path.glob("eval*.json")):
        found = read_json(path, run.notes)
        # with a text alone, `espalier eval --json` puts the perplexity at the top
        flat = found["perplexity"] if isinstance(found.get("perplexity"), dict) else found
        rows = []
        if math.isfinite(number(flat.get("perplexity"))):
            rows.append([f"perplexity, {flat.get('text')}", format_perplexity(
                number(flat.get("perplexity")), number(flat.get("perplexity_stderr")))])
        for task, key, name in EVALUATIONS:
            hits, n = number(member(found, task, key, "hits")), number(member(found, task, key, "questions"))
            if n > 0:
                rows.append([f"{name}, % of {n:.0f}", format_rate(*rate_interval(hits, n))])
        if rows:
            tables.append(Table("eval", f"{path.name}: {found.get('model')}", ["", "value"], rows))
    return tables


def timing_table(run):
    """Seconds of each region of the last start, over the ranks; None if they were not recorded."""
    regions = member(run.timing, "regions")
    if not isinstance(regions, dict):
        return None
    rows = [[name] + [f"{number(member(r, key)):.1f}" for key in ("min", "mean", "max")] for name, r in regions.items()]
    return Table("time", "", ["seconds per rank", "min", "mean", "max"], rows)


def pair_table(runs):
    """Two runs side by side: what was measured at the end, and what they took."""
    a, b = runs

    def pruned(run, name):
        return number(member(run.summary, "pruned", name, "perplexity"))

    def seconds(run):
        return number(run.timing.get("seconds"))

    def change(x, y):
        return format_percent(y / x - 1, 2, sign=True) if x and math.isfinite(y / x) else "–"

    rows = [["method", a.method, b.method, ""], ["state", a.state, b.state, ""],
            ["sparsity", format_percent(a.sparsity, 2), format_percent(b.sparsity, 2), ""]]
    for key, name in PERPLEXITIES:
        x, y = pruned(a, key), pruned(b, key)
        if math.isfinite(x) or math.isfinite(y):
            rows.append([name, format_perplexity(x), format_perplexity(y), change(x, y)])
    for key, name in KNOWLEDGE:
        (right_a, n_a), (right_b, n_b) = (task_counts(run.summary.get("pruned"), key) for run in runs)
        if n_a or n_b:
            same = n_a == n_b and n_a > 0
            rows.append([name, format_rate(*rate_interval(right_a, n_a)), format_rate(*rate_interval(right_b, n_b)),
                         f"{100 * (right_b - right_a) / n_a:+.1f} points".replace("-", "−") if same else "–"])
    rows += [["iterations, rolled back"] + [f"{len(run.outcomes)}, {int((~run.outcomes.accepted).sum())}" for run in runs]
             + [""],
             ["seconds of the last start", *(format_number(seconds(run), 0) for run in runs), change(seconds(a), seconds(b))]]
    return Table("pair", "Pruned models", ["", a.name, b.name, "second against first"], rows,
                 notes=["Intervals: 95 % Wilson."])


def side_by_side(drawings):
    """[(title, drawing or None of the first run, of the second)]: the pictures of two runs, equal ones beside each other."""
    titles = list(dict.fromkeys(d.title for own in drawings for d in own))
    by_title = [{d.title: d for d in own} for own in drawings]
    return [(title, *(own.get(title) for own in by_title)) for title in titles]


def remarks(runs):
    """[(run's name, note)], each once."""
    return [(run.name, note) for run in runs for note in dict.fromkeys(run.notes)]


def shared_configuration(runs):
    """What all configurations have in common, and a table of what differs, as values for sweep.html."""
    flats = [{f"{section}.{key}": value for section, keys in run.config.items() if isinstance(keys, dict)
              for key, value in keys.items() if (section, key) != ("run", "dir")} for run in runs]
    keys = list(dict.fromkeys(k for f in flats for k in f))
    differing = [k for k in keys if len({repr(f.get(k)) for f in flats}) > 1]

    def show(value):
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    rows = [[run.name] + [show(f.get(k)) for k in differing] for run, f in zip(runs, flats)]
    table = Table("differences", "Options that differ", ["run"] + differing, rows, left=1 + len(differing))
    return {"differing_keys": differing, "differences": table,
            "common": {k: flats[0].get(k) for k in keys if k not in differing}}
