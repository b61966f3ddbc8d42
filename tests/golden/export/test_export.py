#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prunes and exports a golden model of every family, and compares weights and perplexity with what transformers made of the
same export (make_export.py, export.json).

test_export.py ESPALIER
"""
import json
import pathlib
import sys
import tempfile

import case

TOLERANCE = 1e-4


def check(espalier, name, wanted):
    with tempfile.TemporaryDirectory() as directory:
        place = pathlib.Path(directory)
        case.prepare(name, place)
        model = case.prune(espalier, place, "magnitude")
        found = case.perplexity(espalier, model, place)
        if case.digest(model) != wanted["sha256"]:
            return "the weights of the export are not those that transformers has measured"
    far = abs(found / wanted["transformers"] - 1)
    return f"perplexity {found}, by transformers {wanted['transformers']}" if not far <= TOLERANCE else None


def main():
    recorded = json.loads((pathlib.Path(__file__).parent / "export.json").read_text(encoding="utf-8"))
    complaints = {name: check(sys.argv[1], name, entry["magnitude"]) for name, entry in recorded.items()}
    for name, complaint in complaints.items():
        if complaint:
            print(f"{name}: {complaint}")
    missing = sorted(set(case.MODELS) - set(recorded))
    print(f"{len(recorded)} models" if not missing else f"not recorded: {missing}")
    return 1 if missing or any(complaints.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
