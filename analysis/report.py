#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes one self-contained HTML page about a run, two runs side by side, or a sweep. See docs/analysis.md."""
import argparse
import os
import sys
import time
from pathlib import Path

import needs  # noqa: F401: reports missing packages
from pictures import collect
from results import build
from results.groups import finished_first, group_runs
from results.select import POINT
from rundata.run import find_runs, is_run, with_milestones
from web import page, sections


def arguments():
    p = argparse.ArgumentParser(prog=needs.PROGRAM, description=__doc__)
    p.add_argument("runs", nargs="+", help="run directories, or directories that contain them (a sweep); two run "
                   "directories are shown side by side")
    p.add_argument("-o", "--out", type=Path, help="the page (default: report.html in the first directory)")
    p.add_argument("--point", type=float, default=POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--facts", type=Path,
                   help="facts.jsonl with the tiers of the facts (default: beside the run's question files)")
    p.add_argument("--details", type=int, default=30, help="of a sweep: how many runs are shown one by one (30)")
    p.add_argument("--follow", type=int, nargs="?", const=30, metavar="SECONDS",
                   help="write the page again every SECONDS (30) while a run goes on; the page reloads itself")
    return p.parse_args()


def run_page(run, o, refresh):
    """The page of one run. Remarks come last: making pictures and content may add some."""
    pictures = page.draw(collect.run_pictures(run, o.facts))
    content = sections.run_content(run)
    return page.render("run.html", title=run.name, pictures=pictures, content=content, remarks=sections.remarks([run]),
                       subtitle=f"{run.model} · {run.method} · seed {run.seed} · {run.state}", refresh=refresh)


def pair_page(runs, o, refresh):
    """The page of two runs, side by side."""
    contents = [sections.run_content(run) for run in runs]
    pictures = sections.side_by_side([page.draw(collect.run_pictures(run, o.facts)) for run in runs])
    return page.render("pair.html", title=f"{runs[0].name} and {runs[1].name}", contents=contents, pictures=pictures,
                       subtitle=" · ".join(dict.fromkeys(run.model for run in runs)), refresh=refresh,
                       comparison=sections.pair_table(runs), remarks=sections.remarks(runs),
                       **sections.shared_configuration(runs))


def sweep_page(runs, title, o, refresh):
    """The page of several runs: what they show together, then up to --details of them one by one."""
    every = with_milestones(runs)
    groups, notes = group_runs(every)
    *tables, run_table = build.all_tables(every, groups, notes, o.point)
    shown = []
    for run in finished_first(runs)[:o.details]:
        content = sections.run_content(run)
        # the sweep has a picture of its own of what sparsity costs
        pictures = page.draw(p for p in collect.run_pictures(run, o.facts) if p.name != "tradeoff")
        shown.append((content, pictures))
    pictures = page.draw(collect.sweep_pictures(groups, o.point, o.facts))
    finished = sum(r.finished for r in runs)
    return page.render("sweep.html", title=title, subtitle=f"{len(runs)} runs, {finished} finished", tables=tables,
                       run_table=run_table, pictures=pictures, shown=shown, not_shown=len(runs) - len(shown),
                       remarks=sections.remarks(runs), refresh=refresh, **sections.shared_configuration(runs))


def write_page(o, following):
    """Reads the runs and writes the page. True if a run goes on."""
    runs = find_runs(o.runs)
    if not runs:
        sys.exit(f"no run directory in {', '.join(o.runs)}")
    paths = [Path(path) for path in o.runs]
    going = any(run.going for run in runs)
    refresh = o.follow if following and going else None
    if len(runs) == 1 and is_run(paths[0]):
        text = run_page(runs[0], o, refresh)
    elif len(runs) == len(paths) == 2 and all(map(is_run, paths)):
        text = pair_page(runs, o, refresh)
    else:
        text = sweep_page(runs, paths[0].resolve().name, o, refresh)
    out = o.out or paths[0] / "report.html"
    part = out.with_name(out.name + ".part")  # a browser must not load half a page
    part.write_text(text, encoding="utf-8")
    os.replace(part, out)
    print(out, flush=True)
    return going


def main():
    o = arguments()
    while write_page(o, o.follow is not None) and o.follow is not None:
        time.sleep(o.follow)


if __name__ == "__main__":
    main()
