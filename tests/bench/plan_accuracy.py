#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How near a plan comes to the run: `prune --dry-run` and then `prune`, on the same ranks, with nothing else running.

    python3 tests/bench/plan_accuracy.py build/release/espalier CONFIG.json [--ranks 1,2] [--set section.key=value]...

Prints per number of ranks the planned and the measured seconds of an iteration, and their ratio. An iteration is
measured by the run's own events: the mean of its steps, without the step that ends with distill.passes.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("espalier")
    parser.add_argument("config")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    environment = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", **os.environ}
    more = [word for value in options.set for word in ("--set", value)]
    print("| ranks | planned, s | measured, s | planned / measured |")
    print("|---|---|---|---|")
    for ranks in map(int, options.ranks.split(",")):
        with tempfile.TemporaryDirectory() as work:
            run = pathlib.Path(work) / "run"
            words = [options.espalier, "prune", options.config, "--set", f"run.dir={run}", *more]
            plan = subprocess.run([*words, "--dry-run", "--verbose", "--ranks", str(ranks)], env=environment, text=True,
                                  capture_output=True, check=True)
            planned = float(re.search(r"an iteration of ([0-9.e+-]+) s", plan.stderr).group(1))
            done = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks),
                                   *words], env=environment, capture_output=True, text=True)
            if done.returncode not in (0, 3):
                raise SystemExit(done.stderr)
            events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
            seconds = [e["seconds"] for e in events if e["type"] == "outcome"]
            steps = seconds[:-1] or seconds
            measured = sum(steps) / len(steps)
            print(f"| {ranks} | {planned:.3g} | {measured:.3g} | {planned / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
