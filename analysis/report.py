#!/usr/bin/env python3
"""One self-contained HTML page for a run or a sweep: tables, pictures, dialogue, configuration. docs/analysis.md"""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: says what to install
from pictures import collect, style
from results import build
from results.groups import group_runs
from results.layout import web as web_table
from rundata.run import find_runs, is_run
from web import dialogue, page, sections


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("runs", nargs="+", help="a run directory, or several, or a folder of them (a sweep)")
    p.add_argument("-o", "--out", type=Path, help="the page; by default report.html in the first directory")
    p.add_argument("--point", type=float, default=build.POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--facts", type=Path, help="facts.jsonl with tiers; by default sought beside the run's questions")
    p.add_argument("--details", type=int, default=30, help="of a sweep: runs that are shown one by one, at most (30)")
    return p.parse_args()


def drawn(pictures):
    parts = []
    for p in pictures:
        parts.append(page.picture(p))
        style.close(p.figure)
    return "".join(parts)


def run_page(run, o):
    pictures = drawn(collect.run_pictures(run, o.facts))
    subtitle = f"{run.model} · {run.method} · seed {run.seed} · {run.state}"
    return page.page(f"espalier: {run.name}", subtitle, [
        page.section("Result", sections.result(run)), page.section("Evaluations", sections.evaluations(run)), page.section("Pictures", pictures),
        page.section("Dialogue and outcomes", dialogue.iterations(run)), page.section("Time", sections.timing(run)),
        page.section("Configuration and origin", sections.configuration(run) + sections.provenance(run)),
        page.section("Remarks on the files", sections.notes([run]))])


def run_part(run, o):
    """One run inside a sweep's page."""
    body = sections.result(run) + sections.evaluations(run) + drawn(p for p in collect.run_pictures(run, o.facts) if p.name != "tradeoff")
    said = dialogue.iterations(run)
    body += page.details("dialogue and outcomes", said) if said else ""
    return page.details(f"{run.name} · {run.method} · {run.state}", body + sections.configuration(run))


def sweep_page(runs, title, o):
    groups, notes = group_runs(runs)
    tables = build.all_tables(runs, groups, notes, o.point)
    parts = "".join(run_part(run, o) for run in runs[:o.details])
    if len(runs) > o.details:
        parts += f"<p class=note>{len(runs) - o.details} more runs are not shown one by one (--details).</p>"
    finished = sum(r.finished for r in runs)
    return page.page(f"espalier: {title}", f"{len(runs)} runs, {finished} finished", [
        page.section("Tables", "".join(web_table(t) for t in tables[:-1])),
        page.section("Pictures", drawn(collect.sweep_pictures(groups, o.point, o.facts))),
        page.section("Runs", web_table(tables[-1]) + parts),
        page.section("Configuration", sections.shared_configuration(runs)),
        page.section("Remarks on the files", sections.notes(runs))])


def main():
    o = arguments()
    runs = find_runs(o.runs)
    if not runs:
        sys.exit(f"no run directory in {', '.join(o.runs)}")
    first = Path(o.runs[0])
    single = len(runs) == 1 and is_run(first)
    text = run_page(runs[0], o) if single else sweep_page(runs, first.resolve().name, o)
    out = o.out or first / "report.html"
    out.write_text(text, encoding="utf-8")
    print(out)


if __name__ == "__main__":
    main()
