#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tables of run directories: comparison, claims, methods at equal sparsity, runs. See docs/analysis.md."""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: reports missing packages
from results import build, layout
from results.groups import group_runs
from results.select import POINT
from rundata.run import find_runs, with_milestones


def arguments():
    p = argparse.ArgumentParser(prog=needs.PROGRAM, description=__doc__)
    p.add_argument("runs", nargs="+", help="run directories, or directories that contain them (a sweep)")
    p.add_argument("--out", type=Path,
                   help="directory for NAME.md, NAME.tex and NAME.csv (default: Markdown on stdout)")
    p.add_argument("--point", type=float, default=POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--no-masks", action="store_true",
                   help="do not check the masks of the checkpoints against the summaries")
    return p.parse_args()


def main():
    o = arguments()
    runs = find_runs(o.runs)
    if not runs:
        sys.exit(f"no run directory in {', '.join(o.runs)}")
    runs = with_milestones(runs)
    groups, notes = group_runs(runs)
    tables = build.all_tables(runs, groups, notes, o.point, not o.no_masks)
    if o.out:
        o.out.mkdir(parents=True, exist_ok=True)
        for table in tables:
            layout.write(table, o.out)
            print(o.out / f"{table.name}.md")
    else:
        print("\n".join(layout.markdown(t) for t in tables))
    for run in runs:
        for note in run.notes:
            print(f"{run.name}: {note}", file=sys.stderr)


if __name__ == "__main__":
    main()
