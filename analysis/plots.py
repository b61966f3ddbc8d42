#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pictures of each run directory and, if there are several, of the sweep. See docs/analysis.md."""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: reports missing packages
from pictures import collect, style
from results.groups import group_runs
from results.select import POINT
from rundata.run import find_runs, with_milestones


def arguments():
    p = argparse.ArgumentParser(prog=needs.PROGRAM, description=__doc__)
    p.add_argument("runs", nargs="+", help="run directories, or directories that contain them (a sweep)")
    p.add_argument("--out", type=Path, required=True,
                   help="directory for the pictures; of several runs, each gets a subdirectory")
    p.add_argument("--format", default="png", help="png, svg or pdf, or several separated by commas (png)")
    p.add_argument("--point", type=float, default=POINT, help="sparsity at which methods are compared (0.45)")
    p.add_argument("--facts", type=Path,
                   help="facts.jsonl with the tiers of the facts (default: beside the run's question files)")
    p.add_argument("--sweep-only", action="store_true", help="only the pictures of the sweep")
    return p.parse_args()


def save(pictures, folder, formats):
    """Writes NAME.FORMAT of every picture and prints the paths."""
    for picture in pictures:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in formats:
            path = folder / f"{picture.name}.{kind}"
            picture.figure.savefig(path, dpi=200, metadata={"Date": None} if kind == "svg" else None)
            print(path)
        style.close(picture.figure)


def main():
    o = arguments()
    runs, formats = find_runs(o.runs), o.format.split(",")
    if not runs:
        sys.exit(f"no run directory in {', '.join(o.runs)}")
    if len(runs) > 1:
        groups, notes = group_runs(with_milestones(runs))
        save(collect.sweep_pictures(groups, o.point, o.facts), o.out, formats)
        print("\n".join(notes), file=sys.stderr, end="\n" if notes else "")
    if len(runs) == 1 or not o.sweep_only:
        for run in runs:
            save(collect.run_pictures(run, o.facts), o.out / run.name if len(runs) > 1 else o.out, formats)
    for run in runs:
        for note in run.notes:
            print(f"{run.name}: {note}", file=sys.stderr)


if __name__ == "__main__":
    main()
