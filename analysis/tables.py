#!/usr/bin/env python3
"""The comparison table, the fair table at equal sparsity and the claims, from run directories. docs/analysis.md"""
import argparse
import sys
from pathlib import Path

import needs  # noqa: F401: says what to install
from results import build, layout
from results.groups import group_runs
from rundata.run import find_runs


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("runs", nargs="+", help="run directories, or folders of them (a sweep)")
    p.add_argument("--out", type=Path, help="folder for NAME.md, NAME.tex and NAME.csv; without it: Markdown to stdout")
    p.add_argument("--point", type=float, default=build.POINT, help="sparsity of comparison and claims (0.45)")
    p.add_argument("--no-masks", action="store_true", help="do not count the masks of the checkpoints again")
    return p.parse_args()


def main():
    o = arguments()
    runs = find_runs(o.runs)
    if not runs:
        sys.exit(f"no run directory in {', '.join(o.runs)}")
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
