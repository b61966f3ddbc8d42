#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One self-contained HTML page for a run or a sweep: tables, pictures, dialogue, configuration. docs/analysis.md"""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: says what to install
from pictures import collect
from results import build
from results.groups import group_runs
from rundata.run import find_runs, is_run
from web import page, sections


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("runs", nargs="+", help="a run directory, or several, or a folder of them (a sweep)")
    p.add_argument("-o", "--out", type=Path, help="the page; by default report.html in the first directory")
    p.add_argument("--point", type=float, default=build.POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--facts", type=Path, help="facts.jsonl with tiers; by default sought beside the run's questions")
    p.add_argument("--details", type=int, default=30, help="of a sweep: runs that are shown one by one, at most (30)")
    return p.parse_args()


def run_page(run, o):
    pictures = page.draw(collect.run_pictures(run, o.facts))
    content = sections.run_content(run)
    return page.render("run.html", title=run.name, pictures=pictures, content=content, remarks=sections.remarks([run]),
                       subtitle=f"{run.model} · {run.method} · seed {run.seed} · {run.state}")


def sweep_page(runs, title, o):
    groups, notes = group_runs(runs)
    *tables, run_table = build.all_tables(runs, groups, notes, o.point)
    # a run's tradeoff says nothing that the sweep's does not
    shown = [(sections.run_content(run), page.draw(p for p in collect.run_pictures(run, o.facts) if p.name != "tradeoff"))
             for run in runs[:o.details]]
    pictures = page.draw(collect.sweep_pictures(groups, o.point, o.facts))
    return page.render("sweep.html", title=title, subtitle=f"{len(runs)} runs, {sum(r.finished for r in runs)} finished",
                       tables=tables, run_table=run_table, pictures=pictures, shown=shown,
                       not_shown=len(runs) - len(shown), remarks=sections.remarks(runs),
                       **sections.shared_configuration(runs))


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
