#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ranks as replicas x stages, on a random model of three layers: the same bytes in every file of a run directory on any
number of ranks, more than layers too, on any grid, and whoever shares a window; interrupted on one grid and resumed on another; an error on a
rank of the second replica ends all; commands print the same.

tests/e2e/test_grid.py ESPALIER MAKE_RANDOM_MODEL [unittest arguments]
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from common import ENVIRONMENT, SLOW, mpirun

ESPALIER, MAKE_MODEL = (os.path.abspath(p) for p in sys.argv[1:3])
SHAPE = "--layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(160))
# What differs between equal runs: times, hosts, layout.
TIMES = {"time", "seconds", "seconds_left", "ranks", "threads"}
NOT_COMPARED = {"manifest.json", "timing.json", "lock", "model-hashes.json"}
METHODS = {
    "wanda": ["prune.allocation=uniform"],
    "gblm": ["prune.allocation=uniform", "prune.score=gblm"],
    "search": ["prune.allocation=search", "prune.score=gblm", "prune.search_evaluations=6"],
    "sparsegpt": ["prune.allocation=owl", "prune.update=sparsegpt"],
    "reconstruct": ["prune.allocation=global", "prune.score=curvature", "prune.update=reconstruct"],
    "lsa": ["prune.allocation=lsa-linear", "prune.score=ria"],
    "global": ["prune.allocation=global", "prune.score=curvature"],
    "rgs": ["prune.allocation=uniform", "prune.score=rgs"],
}


def sets(options):
    return [word for option in options for word in ("--set", option)]


def on_grid(grid):
    """A number of ranks, or (replicas, stages), or (replicas, stages, replicas of a team)."""
    if isinstance(grid, int):
        return grid, []
    names = ("run.replicas", None, "run.team")
    return grid[0] * grid[1], [f"{name}={n}" for name, n in zip(names, grid) if name]


def write_questions(work):
    """FreebaseQA and MMLU, tiny: several micro-batches, and more questions than replicas."""
    questions = [{"Question-ID": str(i), "RawQuestion": f"What is {i} times {i}?",
                  "Parses": [{"Answers": [{"AnswersName": [str(i * i)]}]}]} for i in range(14)]
    (work / "freebaseqa.json").write_text(json.dumps({"Questions": questions}))
    for split in ("dev", "val", "test"):
        (work / "mmlu" / split).mkdir(parents=True)
        for subject in ("anatomy", "virology", "astronomy"):
            rows = [f"In {subject} what comes after {i}?,{i},{i + 1},{i + 2},{i + 3},{'ABCD'[i % 4]}" for i in range(9)]
            (work / "mmlu" / split / f"{subject}_{split}.csv").write_text("\n".join(rows) + "\n")


class Case(unittest.TestCase):
    shape = SHAPE

    @classmethod
    def setUpClass(cls):
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-grid-", dir=memory))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.model, cls.text = cls.work / "model", cls.work / "text"
        cls.text.write_text(TEXT)
        write_questions(cls.work)
        subprocess.run([MAKE_MODEL, *cls.shape, cls.model], check=True, capture_output=True)
        questions = {"mmlu": str(cls.work / "mmlu"), "freebaseqa": str(cls.work / "freebaseqa.json"),
                     "mmlu_questions": 14, "freebaseqa_questions": 9}
        cls.config = cls.work / "run.json"
        cls.config.write_text(json.dumps({
            "model": {"path": str(cls.model)},
            "run": {"batch": 128},
            "calibration": {"text": str(cls.text), "window": 64, "forward": 7, "backward": 5},
            "validation": {"text": str(cls.text), "window": 64, "windows": 9},
            "probes": {**questions, "mmlu_shots": 1, "freebaseqa_shots": 1, "freebaseqa_tokens": 4},
            "knowledge": {"windows": 3},
            "report": {**questions, "text": str(cls.text), "window": 96},
            "prune": {"target": 0.2, "max_step": 0.2, "max_linears": 8, "threshold": 1000, "max_iterations": 9,
                      "max_rise": 0}}))

    def command(self, run, grid, *more):
        ranks, options = on_grid(grid)
        return mpirun(ranks, ESPALIER, "prune", self.config, *sets([f"run.dir={run}", *options]), *more)

    def prune(self, name, grid, *more, code=0, environment=None):
        run = self.work / name
        done = subprocess.run(self.command(run, grid, *more), env={**ENVIRONMENT, **(environment or {})},
                              capture_output=True, text=True, timeout=120 * SLOW)
        self.assertEqual(done.returncode, code, done.stderr[-3000:])
        self.stderr = done.stderr
        return run

    def stop_after_an_iteration(self, name, grid, rank, *more):
        """Tells a rank to stop once there is a checkpoint."""
        run = self.work / name
        job = subprocess.Popen(self.command(run, grid, *more), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60 * SLOW
        while not (run / "checkpoints" / "iteration-000001.h5").exists():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        os.kill(json.loads((run / "manifest.json").read_text())["ranks"][rank]["pid"], signal.SIGUSR1)
        _, text = job.communicate(timeout=60 * SLOW)
        self.assertEqual(job.returncode, 75, text)

    def files(self, run):
        out = {}
        for path in sorted(run.rglob("*")):
            if not path.is_file() or path.name in NOT_COMPARED:
                continue
            content = path.read_bytes()
            if path.suffix == ".jsonl":  # less the starts of processes, times, and seals, which are hashes of them
                lines = [json.loads(line) for line in content.splitlines()]
                content = [{k: v for k, v in line.items() if k not in TIMES} for line in lines
                           if line["type"] not in ("start", "resume", "seal")]
            out[str(path.relative_to(run))] = content
        return out

    def assert_same(self, one, other):
        a, b = self.files(one), self.files(other)
        self.assertEqual(sorted(a), sorted(b))
        self.assertEqual([name for name in a if a[name] != b[name]], [])


class Grids(Case):
    def test_any_number_of_ranks_gives_the_same_files(self):
        one = self.prune("n1", 1)
        for ranks in (2, 3, 4, 5, 8, 12):
            with self.subTest(ranks=ranks):
                self.assert_same(one, self.prune(f"n{ranks}", ranks))
                self.assertNotIn("nothing to do", self.stderr)

    def test_any_grid_gives_the_same_files(self):
        one = self.prune("g1", 1)
        for grid in ((1, 2), (1, 3), (2, 1), (2, 2), (2, 3), (4, 2)):
            with self.subTest(grid=grid):
                self.assert_same(one, self.prune(f"g{grid[0]}x{grid[1]}", grid))
        run = self.prune("left", 5, *sets(["run.replicas=2"]))
        self.assertIn("1 of 5 ranks have nothing to do", self.stderr)
        self.assert_same(one, run)
        run = self.prune("deep", 4, *sets(["run.replicas=1"]))
        self.assertIn("1 of 4 ranks have nothing to do", self.stderr)
        self.assert_same(one, run)
        ranks = json.loads((self.work / "g2x3" / "manifest.json").read_text())["ranks"]
        self.assertEqual([r["replica"] for r in ranks], [0, 0, 0, 1, 1, 1])
        self.assertEqual([r["first_layer"] for r in ranks], [0, 1, 2, 0, 1, 2])

    def test_memory_decides(self):
        """As many replicas as fit: all four, or one."""
        one = self.prune("m1", 1)
        for mebibytes, replicas in ((4000, 4), (60, 1)):
            with self.subTest(mebibytes=mebibytes):
                run = self.prune(f"m{mebibytes}", 4, environment={"SLURM_MEM_PER_NODE": str(mebibytes)})
                ranks = json.loads((run / "manifest.json").read_text())["ranks"]
                self.assertEqual(max(r["replica"] for r in ranks) + 1, replicas)
                self.assertEqual("for want of memory" in self.stderr, replicas == 1)
                self.assert_same(one, run)

    def test_distillation(self):
        more = sets(["distill.windows=5", "distill.steps=2", "distill.batch=3", "prune.score=curvature"])
        one = self.prune("d1", 1, *more)
        for grid in ((1, 2), (2, 2), (4, 1)):
            with self.subTest(grid=grid):
                self.assert_same(one, self.prune(f"d{grid[0]}x{grid[1]}", grid, *more))

    def test_methods(self):
        for name, options in METHODS.items():
            one = self.prune(f"{name}1", 1, *sets(options))
            for grid in ((2, 2), (5, 1)):
                with self.subTest(method=name, grid=grid):
                    self.assert_same(one, self.prune(f"{name}{grid[0]}x{grid[1]}", grid, *sets(options)))

    def test_the_model_decides_itself(self):
        more = sets(["agent.backend=local", "agent.model_path=self", "agent.context=4096", "agent.max_tokens=40",
                     "agent.max_fallback_share=1", "prune.max_iterations=1"])
        one = self.prune("l1", 1, *more, code=3)
        for grid in ((2, 1), (2, 2)):
            with self.subTest(grid=grid):
                self.assert_same(one, self.prune(f"l{grid[0]}x{grid[1]}", grid, *more, code=3))


class Experts(Case):
    """A model with experts, to which replicas bring different tokens, and to some of them none."""
    shape = ("--arch qwen3_moe --experts 6 --per-token 2 --layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 32 "
             "--vocab 300 --byte-tokenizer").split()

    def equal(self, name, *more):
        one = self.prune(f"{name}1", 1, *more)
        for grid in ((1, 2), (2, 1), (2, 2), (5, 1)):
            with self.subTest(grid=grid):
                self.assert_same(one, self.prune(f"{name}{grid[0]}x{grid[1]}", grid, *more))

    def test_the_loop(self):
        self.equal("loop", *sets(["prune.score=curvature", "prune.max_linears=66"]))

    def test_distillation(self):
        self.equal("distilled", *sets(["distill.windows=5", "distill.steps=2", "distill.batch=3", "prune.max_linears=66"]))

    def test_gradients_of_weights(self):
        self.equal("gblm", *sets(METHODS["gblm"]))

    def test_updates(self):
        self.equal("sparsegpt", *sets(METHODS["sparsegpt"]))
        self.equal("obs", *sets(["prune.update=obs", "prune.update_when=step", "prune.score=curvature", "prune.max_linears=66"]))

    def test_a_team_changes_nothing(self):
        more = sets(["calibration.window=300", "prune.max_linears=66"])
        self.assert_same(self.prune("alone", 1, *more), self.prune("team", (2, 1, 2), *more))


class Teams(Case):
    """Replicas that share the tokens of a window, in blocks of 240 of 700: more replicas than blocks, tiles of weights that
    do not go up in the replicas, heads in groups of three."""
    shape = ("--layers 3 --hidden 192 --heads 6 --kv-heads 2 --head-dim 32 --ffn 640 --vocab 300 "
             "--byte-tokenizer").split()

    def equal(self, name, grids, *options):
        more = sets(["prune.score=curvature", "prune.max_iterations=2", *options])
        one = self.prune(f"{name}1", 1, *more, code=3)
        for grid in grids:
            with self.subTest(grid=grid):
                run = self.prune(f"{name}{grid}", grid, *more, code=3)
                self.assertIn("take a calibration window together", self.stderr)
                self.assert_same(one, run)

    def test_any_team_gives_the_same_files(self):
        self.equal("whole", ((2, 2, 2), (3, 1, 3), (4, 2, 2), (5, 1, 5)), "calibration.window=700")

    def test_teams_are_formed_where_windows_are_few(self):
        self.equal("chosen", (4,), "calibration.window=1000")

    def test_odd_lengths_and_windows_of_one_block(self):
        for window, team in ((64, 2), (257, 2), (523, 3)):
            self.equal(f"window{window}-", ((team, 1, team),), f"calibration.window={window}")

    def test_a_sliding_window(self):
        config = self.model / "config.json"
        before = config.read_text()
        config.write_text(json.dumps({**json.loads(before), "use_sliding_window": True, "sliding_window": 100,
                                      "max_window_layers": 1}))
        self.addCleanup(config.write_text, before)
        self.equal("sliding", ((3, 1, 3),), "calibration.window=700")

    def test_stopped_in_a_team_and_resumed_without(self):
        more = sets(["calibration.window=700"])
        whole = self.prune("unstopped", 1, *more)
        self.stop_after_an_iteration("stopped", (4, 1, 4), 3, *more)
        self.assert_same(whole, self.prune("stopped", (1, 2), "--resume", *more))

    def test_a_team_that_does_not_divide_the_replicas_is_refused(self):
        self.prune("refused", (4, 1, 3), code=2)
        self.assertIn("run.team: 3 does not divide the 4 replicas of the model", self.stderr)


class Interrupted(Case):
    def test_killed_on_one_grid_resumed_on_another(self):
        whole = self.prune("uninterrupted", 1)
        for grid, rank, then in (((2, 2), 3, (1, 3)), ((1, 3), 2, (4, 1)), (5, 1, (2, 3))):
            with self.subTest(grid=grid, rank=rank):
                run = self.work / f"killed{rank}"
                job = subprocess.Popen(self.command(run, grid), env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
                deadline = time.monotonic() + 60 * SLOW
                while not (run / "checkpoints" / "iteration-000001.h5").exists():
                    self.assertLess(time.monotonic(), deadline)
                    self.assertIsNone(job.poll(), "the job ended too early")
                    time.sleep(0.01)
                pid = json.loads((run / "manifest.json").read_text())["ranks"][rank]["pid"]
                os.kill(pid, signal.SIGKILL)
                self.assertNotEqual(job.wait(timeout=60 * SLOW), 0)
                self.assert_same(whole, self.prune(f"killed{rank}", then, "--resume"))

    def test_a_signal_to_any_replica_stops_all(self):
        whole = self.prune("unstopped", 1)
        self.stop_after_an_iteration("stopped", (2, 2), 3)
        self.assert_same(whole, self.prune("stopped", (1, 3), "--resume"))

    def test_an_error_on_any_rank_ends_all(self):
        for rank in (1, 2, 3):
            for n in (60, 240, 420):
                with self.subTest(rank=rank, allocation=n):
                    run = self.work / "failed"
                    shutil.rmtree(run, ignore_errors=True)
                    done = subprocess.run(self.command(run, (2, 2)), capture_output=True, text=True,
                                          timeout=60 * SLOW,
                                          env={**ENVIRONMENT, "ESPL_FAULT": f"memory.alloc:{rank}:{n}"})
                    self.assertEqual(done.returncode, 1, done.stderr[-2000:])
                    self.assertRegex(done.stderr, "no memory|out of memory")


class Commands(Case):
    def output(self, ranks, *words, text=None):
        done = subprocess.run(mpirun(ranks, ESPALIER, *words, "--quiet"), env=ENVIRONMENT, capture_output=True,
                              text=True, input=text, timeout=60 * SLOW)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def equal(self, *words, text=None, replicas=True):
        def results(out):
            if "--json" not in words:
                return out
            def strip(v):
                if isinstance(v, dict):
                    return {k: strip(x) for k, x in v.items() if k not in TIMES | {"tokens_per_second"}}
                return v
            return strip(json.loads(out))
        one = results(self.output(1, *words, text=text))
        for ranks, n in ((2, 2), (4, 2), (5, 5), (7, 3)):
            more = ["--replicas", n] if replicas else []
            with self.subTest(ranks=ranks, replicas=n):
                self.assertEqual(results(self.output(ranks, *words, *more, text=text)), one)

    def test_eval(self):
        choices = self.work / "choices.jsonl"
        choices.write_text("".join(json.dumps({"context": f"{i} plus {i} is", "choices": [f" {2 * i}", f" {i}", " no"],
                                               "answer": 0}) + "\n" for i in range(11)))
        details = self.work / "details"
        self.equal("eval", "--model", self.model, "--text", self.text, "--window", 64, "--batch", 128, "--mmlu",
                   self.work / "mmlu", "--shots", 2, "--freebaseqa", self.work / "freebaseqa.json", "--choices", choices,
                   "--questions", 10, "--json", "--details", details)

    def test_score(self):
        self.equal("score", "--model", self.model, "--window", 50, text=TEXT[:2000])

    def test_generate(self):
        self.equal("generate", "--model", self.model, "--prompt", "Line", "--max-tokens", 8, replicas=False)

    def test_more_replicas_than_ranks_are_refused(self):
        done = subprocess.run(mpirun(2, ESPALIER, "eval", "--model", self.model, "--text", self.text, "--replicas", 3),
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=60 * SLOW)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("3 replicas of the model, but 2 ranks", done.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
