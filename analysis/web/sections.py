# SPDX-License-Identifier: Apache-2.0
"""What the pages show besides pictures and dialogue, as tables and plain values for the templates."""
import math
from dataclasses import dataclass

import pandas as pd

from results.groups import share
from results.intervals import wilson
from results.layout import Table, percent, perplexity
from results.layout import rate as show_rate
from rundata.files import member, number, read_json

from . import dialogue

MEASURES = (("validation", "perplexity, validation windows"), ("test", "perplexity, test text"), ("mmlu", "MMLU, %"),
            ("freebaseqa", "FreebaseQA, exact match, %"), ("freebaseqa_contains", "FreebaseQA, contains an answer, %"))
# Of `espalier eval --json`: task, proportion, label.
EVALUATIONS = (("mmlu", "micro", "MMLU"), ("freebaseqa", "exact", "FreebaseQA, exact match"),
               ("freebaseqa", "contains", "FreebaseQA, contains an answer"), ("freebaseqa", "match", "FreebaseQA, llm-kick"),
               ("choices", "acc", "choices, acc"), ("choices", "acc_norm", "choices, acc_norm"))


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
    return RunContent(run, result_table(run) if run.finished else None, evaluation_tables(run),
                      dialogue.iterations(run), timing_table(run), {k: v for k, v in run.manifest.items() if k != "config"})


def perplexity_row(run, key, name):
    values = [number(member(run.summary, which, key, "perplexity")) for which in ("dense", "pruned")]
    if all(math.isnan(v) for v in values):
        return None
    errors = [number(member(run.summary, which, key, "stderr")) for which in ("dense", "pruned")]
    return [name, *(perplexity(v, s) for v, s in zip(values, errors)), percent(values[1] / values[0] - 1, 2, sign=True)]


def knowledge_row(run, key, name):
    (right_d, n_d), (right_p, n_p) = (share(run.summary.get(which), key) for which in ("dense", "pruned"))
    if not (n_d and n_p):
        return None
    return [f"{name} of {n_p}", show_rate(right_d / n_d, *wilson(right_d, n_d)),
            show_rate(right_p / n_p, *wilson(right_p, n_p)), f"{right_p - right_d:+.0f}".replace("-", "−")]


def result_table(run):
    """Dense against pruned, of a finished run."""
    rows = [perplexity_row(run, k, n) if k in ("validation", "test") else knowledge_row(run, k, n) for k, n in MEASURES]
    return Table("result", "", ["", "dense", "pruned", "change"], [r for r in rows if r],
                 notes=["Perplexity ± standard error over windows; [ ] 95 % Wilson intervals."])


def evaluation_rows(found):
    """Rows of one object of `espalier eval --json`."""
    ppl = found.get("perplexity")
    flat = ppl if isinstance(ppl, dict) else found
    rows = []
    if math.isfinite(number(flat.get("perplexity"))):
        rows.append([f"perplexity, {flat.get('text')}",
                     perplexity(number(flat.get("perplexity")), number(flat.get("perplexity_stderr")))])
    for task, key, name in EVALUATIONS:
        hits, n = number(member(found, task, key, "hits")), number(member(found, task, key, "questions"))
        if n > 0:
            rows.append([f"{name}, % of {n:.0f}", show_rate(hits / n, *wilson(hits, n))])
    return rows


def evaluation_tables(run):
    """Evaluations of the exported model, which jobs/eval.sbatch leaves in the run directory."""
    tables = []
    for path in sorted(run.path.glob("eval*.json")):
        found = read_json(path, run.notes)
        rows = evaluation_rows(found)
        if rows:
            tables.append(Table("eval", f"{path.name}: {found.get('model')}", ["", "value"], rows))
    return tables


def timing_table(run):
    regions = member(run.timing, "regions")
    if not isinstance(regions, dict):
        return None
    rows = [[name] + [f"{number(member(r, key)):.1f}" for key in ("min", "mean", "max")] for name, r in regions.items()]
    return Table("time", "", ["seconds per rank", "least", "mean", "most"], rows)


def remarks(runs):
    """[(run's name, remark)], each once."""
    return [(run.name, note) for run in runs for note in dict.fromkeys(run.notes)]


# ------------------------------------------------------------------- sweeps


def full_flat(run):
    """{"section.key": value} of every key but the run's own directory."""
    flat = {f"{section}.{key}": value for section, keys in run.config.items() if isinstance(keys, dict)
            for key, value in keys.items()}
    flat.pop("run.dir", None)
    return flat


def shared_configuration(runs):
    """What all runs have in common, and a table of what differs, as values of sweep.html."""
    flats = [full_flat(r) for r in runs]
    keys = list(dict.fromkeys(k for f in flats for k in f))
    differ = [k for k in keys if len({repr(f.get(k)) for f in flats}) > 1]
    rows = [[r.name] + [page_value(f.get(k)) for k in differ] for r, f in zip(runs, flats)]
    table = Table("differences", "What differs", ["run"] + differ, rows, pd.DataFrame(flats), left=1 + len(differ))
    return {"differing_keys": differ, "differences": table, "common": {k: flats[0].get(k) for k in keys if k not in differ}}


def page_value(value):
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
