#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plans: `prune --dry-run` with grids of ranks, machines and models whose weights are not there.

usage: test_plan.py ESPALIER [unittest arguments]

No time is compared with a clock. What must hold on any machine: twice the speed is half the time, more nodes are never
slower, a grid fits its nodes.
"""
import json
import os
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

    def test_no_rank_leaves_its_numa_domain(self):
        words = ("--nodes=2", "--cores=8", f"--machine={self.machine}")
        text = self.run_plan(*words, "--domains=4").stdout
        nodes, tasks, per_node, threads, *_ = map(int, SBATCH.search(text).groups())
        self.assertLessEqual(threads, 2)
        self.assertIn(f"srun --mpi=pmix --ntasks={tasks} --cpus-per-task={threads} --cpu-bind=cores", text)
        if per_node % 4 == 0:
            self.assertIn(f"OMP_NUM_THREADS={threads} mpirun -n {tasks} --map-by ppr:{per_node // 4}:numa:PE={threads} "
                          "--bind-to core\n", text)
        machine = self.work / "domains.json"
        machine.write_text(json.dumps({**json.loads(self.machine.read_text()), "cores": 8, "domains": 8}))
        text = self.run_plan("--nodes=2", "--cores=8", f"--machine={machine}").stdout
        self.assertIn(f"8 NUMA domain(s) ({machine})", text)
        self.assertEqual(SBATCH.search(text).group(4), "1")
        self.assertIn("--domains is 3, expected a divisor of --cores, 8",
                      self.run_plan("--nodes=2", "--cores=8", "--domains=3", code=2).stderr)
        self.assertIn("--domains belongs to --nodes", self.run_plan("--domains=2", code=2).stderr)

    def test_speed_divides_time(self):
        slow, fast = (self.seconds("--ranks=4", f"--gflops-per-core={speed}", "--latency=0.001", "--bandwidth=100000",
                                   "--set", "run.keep=1") for speed in (1, 100))
        self.assertGreater(slow / fast, 25)  # the checkpoint's time stays; measured speeds vary
        self.assertLess(slow / fast, 400)

    def test_more_ranks_take_no_longer(self):
        times = [self.seconds(f"--nodes={n}", "--cores=2", "--gflops-per-core=0.01") for n in (1, 4)]
        self.assertGreater(times[0] / times[1], 1.5)

    def test_few_windows_are_shared(self):
        """Two samples for four replicas: teams of two are planned, recommended, and faster than four replicas of which two wait."""
        few = self.write("few.json", {**TEXT, "calibration": {**TEXT["calibration"], "window": 512, "forward": 2, "backward": 2}})
        machine = ("--gflops-per-core=1", "--latency=0.001", "--bandwidth=100000")
        text = self.run_plan("--nodes=4", "--cores=1", *machine, config=few).stdout
        self.assertIn("4 replica(s) of 1 stage(s), 2 replicas to a window", text)
        self.assertIn("--set run.replicas=4 --set run.team=2", text)
        alone, shared = (self.seconds("--ranks=4", *machine, "--set", f"run.team={n}", config=few) for n in (1, 2))
        self.assertGreater(alone / shared, 1.15)  # each is measured anew
        slow = self.seconds("--ranks=4", machine[0], "--latency=1000000", machine[2], "--set", "run.team=2", config=few)
        self.assertGreater(slow - shared, 8 * 21)  # seconds: layers, and exchanges of each in a backward pass

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
        for text, words in (("{", "--machine: "), ('{"format": "x"}', "espalier-machine-1")):
            (self.work / "bad.json").write_text(text)
            for ranks in (1, 2):
                error = self.run_plan(f"--machine={self.work / 'bad.json'}", ranks=ranks, code=2).stderr
                self.assertIn(words, error)
                self.assertIn("bad.json", error)
        self.run_plan(f"--machine={self.work / 'none.json'}", code=74)
        self.run_plan(f"--calibrate={self.work / 'no/such/dir.json'}", code=74)

    PARTS = re.compile(r"an iteration of (\S+) s, (\S+) before the first, (\S+) for milestones, (\S+) after the last")

    def parts(self, *words):
        """Iterations, and seconds of an iteration, of what is before, of milestones and of the end."""
        done = self.run_plan("--verbose", "--gflops-per-core=50", "--set", f"report.text={SAPLING / 'data/test.txt'}", "--set",
                             "report.window=64", *words)
        return (int(re.search(r"then about (\d+) iterations", done.stdout).group(1)),
                *map(float, self.PARTS.search(done.stderr).groups()), done.stdout)

    def test_milestones_are_reported_and_reached(self):
        """With max_linears = 28 of 56, the steps are those of the policy's horizon of 24: by its schedule it takes
        0.6 of that from the half to the target."""
        plain, *_, nothing, _, text = self.parts()
        self.assertEqual((plain, nothing), (30, 0))
        self.assertNotIn("milestone", text)
        steps, _, _, one, end, text = self.parts("--set", "prune.milestones=[0.1]", "--set", "run.export=false")
        self.assertEqual(steps, 49)  # 1.25 * 24 * (1 + 1 - 0.5 ^ (4 / 3)), rounded up
        self.assertIn("1 milestone(s) on the way, in that: about", text)
        self.assertGreater(one, 0.2 * end)  # of which there are two reports; measured speeds vary
        self.assertLess(one, 0.8 * end)
        *_, exported, _, text = self.parts("--set", "prune.milestones=[0.1]", "--set", "run.export_milestones=true",
                                           f"--machine={self.slow_disk()}")
        self.assertGreater(exported, one + 1)
        self.assertIn("with their exports", text)

    def slow_disk(self):
        """A machine on which an export takes seconds."""
        path = self.work / "slow.json"
        path.write_text(json.dumps({**json.loads(self.machine.read_text()), "disk_gb_s": 0.001}))
        return path

    def test_a_merged_sweep_is_planned_with_its_milestones(self):
        sweep = self.work / "sweep.json"
        sweep.write_text(json.dumps({"dir": str(self.work / "sweep"), "base": str(self.config), "merge_targets": True,
                                     "grid": {"prune.target": [0.05, 0.1, 0.2]}}))
        printed = subprocess.run([PROGRAM, "sweep", str(sweep), "--only", "1", "--print-config"], env=common.ENVIRONMENT,
                                 capture_output=True, text=True, check=True).stdout
        (self.work / "merged.json").write_text(printed)
        self.assertIn("2 milestone(s) on the way", self.run_plan(config=self.work / "merged.json").stdout)

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


class Layout(unittest.TestCase):
    """Notes on ranks and cores, on nodes that hwloc is told of: processors 0 and 1 of this machine are their first two."""

    @classmethod
    def setUpClass(cls):
        version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, env=common.ENVIRONMENT).stdout
        if "hwloc: none" in version:
            common.skip(cls(), "built without hwloc")

    def notes(self, node, ranks=1, threads=1, processors="0"):
        """What eval says about its ranks, each bound to `processors`."""
        done = subprocess.run(
            [*common.mpirun(ranks, threads=threads), "-x", f"HWLOC_SYNTHETIC={node}", "taskset", "-c", processors, PROGRAM,
             "eval", "--model", SAPLING / "model", "--text", SAPLING / "data/test.txt", "--window", "32", "--limit", "64"],
            env=common.ENVIRONMENT, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stderr

    def test_a_layout_that_fits_is_not_mentioned(self):
        text = self.notes("pack:1 core:1 pu:1")
        self.assertNotIn("note: ", text)
        self.assertNotIn("best used by", text)

    def test_idle_cores_and_what_is_recommended(self):
        text = self.notes("pack:2 node:4 core:8 pu:2")
        self.assertIn("note: 63 of 64 cores have no thread", text)
        self.assertIn("a node of 2 sockets, 8 NUMA domains, 64 cores is best used by: OMP_NUM_THREADS=8 mpirun -n 8 "
                      "--map-by ppr:1:numa:PE=8 --bind-to core", text)

    def test_more_threads_than_cores(self):
        self.assertIn("note: rank 0 has 3 threads (OMP_NUM_THREADS), but may use 1 core:",
                      self.notes("pack:1 core:4 pu:1", threads=3))

    def test_ranks_on_the_same_core(self):
        self.assertIn("note: ranks 0 and 1 share cores", self.notes("pack:1 core:2 pu:1", ranks=2))

    def test_threads_in_two_domains(self):
        if len(os.sched_getaffinity(0)) < 2 or not {0, 1} <= os.sched_getaffinity(0):
            common.skip(self, "processors 0 and 1 are not both free to use")
        text = self.notes("node:2 core:1 pu:1", threads=2, processors="0,1")
        self.assertIn("note: the threads of rank 0 may run in 2 NUMA domains", text)
        self.assertIn("OMP_NUM_THREADS=1 mpirun -n 2 --map-by ppr:1:numa:PE=1", text)

    def test_a_plan_names_the_layout_of_this_node(self):
        done = subprocess.run([PROGRAM, "prune", str(common.ROOT / "configs/sapling.json"), "--dry-run"],
                              env={**common.ENVIRONMENT, "HWLOC_SYNTHETIC": "pack:2 node:2 core:4 pu:1"}, cwd=common.ROOT,
                              capture_output=True, text=True)
        self.assertIn("this node: 2 sockets, 4 NUMA domains, 16 cores; recommended: OMP_NUM_THREADS=4 mpirun -n 4 "
                      "--map-by ppr:1:numa:PE=4 --bind-to core\n", done.stdout)


if __name__ == "__main__":
    PROGRAM = sys.argv.pop(1)
    unittest.main()
