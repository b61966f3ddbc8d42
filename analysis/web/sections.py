"""What a run's and a sweep's page say besides pictures."""
import math

import pandas as pd

from rundata.files import member, number, read_json
from results.groups import share
from results.intervals import wilson
from results.layout import Table, percent, perplexity, web
from results.layout import rate as show_rate

from . import page

NAMES = (("validation", "perplexity, validation windows"), ("test", "perplexity, test text"), ("mmlu", "MMLU, %"),
         ("freebaseqa", "FreebaseQA, exact match, %"), ("freebaseqa_contains", "FreebaseQA, contains an answer, %"))


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


def result(run):
    """Dense against pruned, of a finished run."""
    if not run.finished:
        return f"<p>Not finished: {page.e(run.state)}.</p>"
    rows = [perplexity_row(run, k, n) if k in ("validation", "test") else knowledge_row(run, k, n) for k, n in NAMES]
    table = Table("result", "", ["", "dense", "pruned", "change"], [r for r in rows if r],
                  notes=["Perplexity ± standard error over windows; [ ] 95 % Wilson intervals."])
    s = run.summary
    return (f"<p>{page.e(run.state)}: {percent(run.sparsity, 3)} of the linears' weights are zero "
            f"({percent(number(s.get('sparsity_with_embeddings')), 3)} of all parameters), after "
            f"{page.e(s.get('iterations'))} iterations, {page.e(s.get('rollbacks'))} of them rolled back.</p>{web(table)}")


def evaluation_rows(found):
    """Rows of one object of espalier eval --json."""
    ppl = found.get("perplexity")
    flat = ppl if isinstance(ppl, dict) else found
    rows = []
    if math.isfinite(number(flat.get("perplexity"))):
        rows.append([f"perplexity, {flat.get('text')}",
                     perplexity(number(flat.get("perplexity")), number(flat.get("perplexity_stderr")))])
    for task, key, name in (("mmlu", "micro", "MMLU"), ("freebaseqa", "exact", "FreebaseQA, exact match"),
                            ("freebaseqa", "contains", "FreebaseQA, contains an answer"),
                            ("freebaseqa", "match", "FreebaseQA, llm-kick"), ("choices", "acc", "choices, acc"),
                            ("choices", "acc_norm", "choices, acc_norm")):
        hits, n = number(member(found, task, key, "hits")), number(member(found, task, key, "questions"))
        if n > 0:
            rows.append([f"{name}, % of {n:.0f}", show_rate(hits / n, *wilson(hits, n))])
    return rows


def evaluations(run):
    """What jobs/eval.sbatch left beside the run: of the exported model."""
    parts = []
    for path in sorted(run.path.glob("eval*.json")):
        found = read_json(path, run.notes)
        rows = evaluation_rows(found)
        if rows:
            parts.append(web(Table("eval", f"{path.name}: {found.get('model')}", ["", "value"], rows)))
    return "".join(parts)


def timing(run):
    regions = member(run.timing, "regions")
    if not isinstance(regions, dict):
        return ""
    rows = [[name] + [f"{number(member(r, key)):.1f}" for key in ("min", "mean", "max")] for name, r in regions.items()]
    t = run.timing
    head = (f"The last start: {number(t.get('seconds')):.0f} s on {page.e(t.get('ranks'))} rank(s) of "
            f"{page.e(t.get('threads'))} thread(s), from iteration {page.e(t.get('first_iteration'))} on.")
    return f"<p>{head}</p>" + web(Table("time", "", ["seconds per rank", "least", "mean", "most"], rows))


def configuration(run):
    return page.details("effective configuration (JSON)", page.as_json(run.config)) if run.config else ""


def provenance(run):
    rest = {k: v for k, v in run.manifest.items() if k != "config"}
    title = "versions, hosts, layers per rank, hashes of model and data"
    return page.details(title, page.as_json(rest)) if rest else ""


def notes(runs):
    lines = [f"<li>{page.e(run.name)}: {page.e(note)}</li>" for run in runs for note in dict.fromkeys(run.notes)]
    return f"<ul class=note>{''.join(lines)}</ul>" if lines else ""


# ------------------------------------------------------------------- sweeps


def full_flat(run):
    """Every key but the run's own place."""
    flat = {f"{section}.{key}": value for section, keys in run.config.items() if isinstance(keys, dict)
            for key, value in keys.items()}
    flat.pop("run.dir", None)
    return flat


def shared_configuration(runs):
    """What all runs have in common, and a table of what differs."""
    flats = [full_flat(r) for r in runs]
    keys = list(dict.fromkeys(k for f in flats for k in f))
    differ = [k for k in keys if len({repr(f.get(k)) for f in flats}) > 1]
    common = {k: flats[0].get(k) for k in keys if k not in differ}
    frame = pd.DataFrame(flats)
    rows = [[r.name] + [page_value(f.get(k)) for k in differ] for r, f in zip(runs, flats)]
    table = Table("differences", "What differs", ["run"] + differ, rows, frame, left=1 + len(differ))
    return page.details(f"what differs between the runs: {', '.join(differ) or 'nothing'}", web(table)) + page.details(
        "what is the same in all runs", page.as_json(common))


def page_value(value):
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
