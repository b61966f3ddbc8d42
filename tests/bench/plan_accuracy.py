#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How near a plan comes to the run: `prune --dry-run` and then `prune`, on the same ranks, with nothing else running.

    python3 tests/bench/plan_accuracy.py build/release/espalier CONFIG.json [--ranks 1,2] [--cpu A,B]
        [--set section.key=value]...

Prints per number of ranks the planned and the measured seconds of an iteration, and their ratio. An iteration is
measured by the run's own events: the mean of its steps, without the step that ends with distill.passes.

--cpu A,B, for a machine on which other programs run, or that has fewer cores than ranks: measured are processor seconds
of the busiest rank, of a run of B iterations less one of A. A plan is of the clock, so that this is the same where ranks
do not wait for each other: on one rank, and on replicas of one stage.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import tempfile


def seconds_by_the_clock(words, ranks, run, environment):
    launch(words, ranks, environment)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    seconds = [e["seconds"] for e in events if e["type"] == "outcome"]
    steps = seconds[:-1] or seconds
    return sum(steps) / len(steps)


def seconds_of_processors(words, ranks, run, environment, iterations):
    busiest = []
    for n in iterations:
        text = launch([*words, "--set", f"prune.max_iterations={n}", "--set", f"run.dir={run}-{n}"], ranks, environment,
                      ["/usr/bin/time", "-f", "processor seconds: %U %S"])
        spent = re.findall(r"processor seconds: (\S+) (\S+)", text)
        busiest.append(max(float(user) + float(system) for user, system in spent))
    return (busiest[1] - busiest[0]) / (iterations[1] - iterations[0])


def launch(words, ranks, environment, wrapper=()):
    done = subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", str(ranks),
                           *wrapper, *words], env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 3):  # 3: the target was not reached
        raise SystemExit(done.stderr)
    return done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("espalier")
    parser.add_argument("config")
    parser.add_argument("--ranks", default="1,2")
    parser.add_argument("--cpu", metavar="A,B")
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
            if options.cpu:
                iterations = [int(n) for n in options.cpu.split(",")]
                measured = seconds_of_processors(words, ranks, run, environment, iterations)
            else:
                measured = seconds_by_the_clock(words, ranks, run, environment)
            print(f"| {ranks} | {planned:.3g} | {measured:.3g} | {planned / measured:.2f} |", flush=True)


if __name__ == "__main__":
    main()
