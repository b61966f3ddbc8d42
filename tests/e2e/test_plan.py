#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plans: `prune --dry-run` with grids of ranks, machines and models whose weights are not there.

usage: test_plan.py ESPALIER [unittest arguments]

No time is compared with a clock. What must hold on any machine: twice the speed is half the time, more nodes are never
slower, a grid fits its nodes.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import common

SAPLING = common.SAPLING
PROGRAM = ""
TEXT = {"calibration": {"text": str(SAPLING / "data/calibration.txt"), "window": 64, "forward": 8, "backward": 4},
        "validation": {"text": str(SAPLING / "data/validation.txt"), "window": 64, "windows": 8},
        "prune": {"target": 0.2, "max_linears": 28}}
SBATCH = re.compile(r"#SBATCH --nodes=(\d+)\n#SBATCH --ntasks=(\d+)\n#SBATCH --ntasks-per-node=(\d+)\n"
                    r"#SBATCH --cpus-per-task=(\d+)\n#SBATCH --time=(\d\d+):(\d\d):00\n")


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-plan-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        shutil.copytree(SAPLING / "model", cls.work / "model")
        (cls.work / "model/model.safetensors").unlink()  # config.json and tokenizer remain
        cls.config = cls.write("config.json", TEXT)
        cls.machine = cls.work / "machine.json"
        cls.machine.write_text(json.dumps({"format": "espalier-machine-1", "speeds": [{"threads": 1, "gflops": 50}],
                                           "latency_us": 2, "bandwidth_gb_s": 10, "disk_gb_s": 1}))

    @classmethod
    def write(cls, name, sections):
        path = cls.work / name
        path.write_text(json.dumps({"model": {"path": str(cls.work / "model")}, "run": {"dir": str(cls.work / "run")},
                                    **sections}))
        return path

    def run_plan(self, *words, ranks=1, config=None, code=0):
        done = subprocess.run(common.mpirun(ranks, PROGRAM, "prune", str(config or self.config), "--dry-run", *words),
                              env=common.ENVIRONMENT, capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def seconds(self, *words, **more):
        """Of an iteration, with the speeds of the machine that measures taken out by two files that differ in speed."""
        return float(re.search(r"an iteration of ([0-9.e+-]+) s", self.run_plan("--verbose", *words, **more).stderr).group(1))

    def test_a_model_without_weights_is_planned(self):
        done = self.run_plan()
        self.assertIn("two bytes a weight are assumed", done.stderr)
        self.assertIn("0-7+head", done.stdout)
        for phase in ("profile", "judge", "checkpoint", "in all about"):
            self.assertIn(phase, done.stdout)

    def test_a_plan_for_nodes_fits_them(self):
        text = self.run_plan("--nodes=3", "--cores=4", f"--machine={self.machine}").stdout
        nodes, tasks, per_node, threads, hours, minutes = map(int, SBATCH.search(text).groups())
        self.assertLessEqual(nodes, 3)
        self.assertLessEqual(tasks, nodes * per_node)
        self.assertLessEqual(per_node * threads, 4)
        self.assertGreater(60 * hours + minutes, 0)
        ranks, replicas, stages = map(int, re.search(
            r"(\d+) ranks of \d+ threads: (\d+) replica\(s\) of (\d+) stage", text).groups())
        self.assertEqual((ranks, replicas * stages), (tasks, tasks))

    def test_speed_divides_time(self):
        slow, fast = (self.seconds("--ranks=4", f"--gflops-per-core={speed}", "--latency=0.001", "--bandwidth=100000",
                                   "--set", "run.keep=1") for speed in (1, 100))
        self.assertGreater(slow / fast, 25)  # the checkpoint's time stays; measured speeds vary
        self.assertLess(slow / fast, 400)

    def test_more_ranks_take_no_longer(self):
        times = [self.seconds(f"--nodes={n}", "--cores=2", "--gflops-per-core=0.01") for n in (1, 4)]
        self.assertGreater(times[0] / times[1], 1.5)

    def test_memory_is_a_bound(self):
        text = self.run_plan("--nodes=4", "--cores=2", "--memory=4").stdout
        self.assertLess(float(re.search(r"fullest node: ([0-9.]+) GiB", text).group(1)), 4)
        done = self.run_plan("--nodes=4", "--cores=2", "--memory=0.001", code=2)
        self.assertIn("no grid of ranks fits 0.001 GiB", done.stderr)

    def test_a_machine_is_measured_and_planned_for(self):
        path = self.work / "here.json"
        text = self.run_plan(f"--calibrate={path}", ranks=2).stdout
        self.assertIn("--machine", text)
        here = json.loads(path.read_text())
        self.assertEqual(here["format"], "espalier-machine-1")
        self.assertEqual(here["speeds"][0]["threads"], 1)
        for key in ("latency_us", "bandwidth_gb_s", "disk_gb_s"):
            self.assertGreater(here[key], 0)
        self.assertIn(str(path), self.run_plan(f"--machine={path}", "--ranks=2").stdout)

    def test_a_machine_that_is_none(self):
        for text, code, words in (("{", 1, "bad.json"), ('{"format": "x"}', 1, "espalier-machine-1")):
            (self.work / "bad.json").write_text(text)
            for ranks in (1, 2):
                self.assertIn(words, self.run_plan(f"--machine={self.work / 'bad.json'}", ranks=ranks, code=code).stderr)
        self.run_plan(f"--machine={self.work / 'none.json'}", code=74)
        self.run_plan(f"--calibrate={self.work / 'no/such/dir.json'}", code=74)

    def test_one_shot_methods_too(self):
        config = self.write("oneshot.json", {**TEXT, "prune": {"target": 0.5, "allocation": "uniform", "score": "wanda"}})
        text = self.run_plan("--nodes=2", "--cores=2", config=config).stdout
        self.assertIn("pruning in one shot: about", text)
        self.assertRegex(text, SBATCH)

    def test_what_does_not_go_together(self):
        for words, message in ((["--nodes=2"], "--nodes and --cores belong together"),
                               (["--memory=2"], "--memory belongs to --nodes"),
                               (["--nodes=2", "--cores=2", "--ranks=2"], "exclude each other")):
            self.assertIn(message, self.run_plan(*words, code=2).stderr)
        done = subprocess.run([PROGRAM, "prune", str(self.config), "--machine=x"], capture_output=True, text=True,
                              env=common.ENVIRONMENT)
        self.assertEqual((done.returncode, "--machine belongs to --dry-run" in done.stderr), (2, True))


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
