#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes one self-contained HTML page about a run or a sweep. See docs/analysis.md."""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: reports missing packages
from pictures import collect
from results import build
from results.groups import group_runs
from results.select import POINT
from rundata.run import find_runs, is_run
from web import page, sections


def arguments():
    p = argparse.ArgumentParser(prog=needs.PROGRAM, description=__doc__)
    p.add_argument("runs", nargs="+", help="run directories, or directories that contain them (a sweep)")
    p.add_argument("-o", "--out", type=Path, help="the page (default: report.html in the first directory)")
    p.add_argument("--point", type=float, default=POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--facts", type=Path,
                   help="facts.jsonl with the tiers of the facts (default: beside the run's question files)")
    p.add_argument("--details", type=int, default=30, help="of a sweep: how many runs are shown one by one (30)")
    return p.parse_args()


def run_page(run, o):
    """The page of one run. Remarks come last: making pictures and content may add some."""
    pictures = page.draw(collect.run_pictures(run, o.facts))
    content = sections.run_content(run)
    return page.render("run.html", title=run.name, pictures=pictures, content=content, remarks=sections.remarks([run]),
                       subtitle=f"{run.model} · {run.method} · seed {run.seed} · {run.state}")


def sweep_page(runs, title, o):
    """The page of several runs: what they show together, then up to --details of them one by one."""
    groups, notes = group_runs(runs)
    *tables, run_table = build.all_tables(runs, groups, notes, o.point)
    shown = []
    for run in runs[:o.details]:
        content = sections.run_content(run)
        # the sweep has a picture of its own of what sparsity costs
        pictures = page.draw(p for p in collect.run_pictures(run, o.facts) if p.name != "tradeoff")
        shown.append((content, pictures))
    pictures = page.draw(collect.sweep_pictures(groups, o.point, o.facts))
    finished = sum(r.finished for r in runs)
    return page.render("sweep.html", title=title, subtitle=f"{len(runs)} runs, {finished} finished", tables=tables,
                       run_table=run_table, pictures=pictures, shown=shown, not_shown=len(runs) - len(shown),
                       remarks=sections.remarks(runs), **sections.shared_configuration(runs))


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
