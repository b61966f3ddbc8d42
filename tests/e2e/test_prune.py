#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The pruning job as a user runs it, on sapling: equal on any grid of ranks, interrupted in every way and resumed, replayed,
with an agent over HTTP, exported, refused where it must be.

usage: test_prune.py ESPALIER [unittest arguments]"""
import filecmp
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from common import ENVIRONMENT, ROOT, SAPLING, SLOW, mpirun, skip

sys.path.insert(0, str(ROOT / "tests" / "agent"))
import server as scripted  # noqa: E402

PROGRAM = ""

TARGET, THRESHOLD = 0.15, 0.001
# Small, so that a run takes seconds; a narrow threshold, so that some iterations are rolled back.
CONFIG = {
    "model": {"path": str(SAPLING / "model")},
    "calibration": {"text": str(SAPLING / "data" / "calibration.txt"), "window": 64, "forward": 8, "backward": 4},
    "validation": {"text": str(SAPLING / "data" / "validation.txt"), "window": 64, "windows": 8},
    "probes": {"every": 3, "mmlu": str(SAPLING / "data" / "mmlu"), "mmlu_questions": 6, "mmlu_shots": 1,
               "freebaseqa": str(SAPLING / "data" / "freebaseqa-dev.json"), "freebaseqa_questions": 6,
               "freebaseqa_shots": 1, "freebaseqa_tokens": 6},
    "report": {"text": str(SAPLING / "data" / "test.txt"), "window": 64, "limit": 1024,
               "mmlu": str(SAPLING / "data" / "mmlu"), "mmlu_questions": 10,
               "freebaseqa": str(SAPLING / "data" / "freebaseqa-eval.json"), "freebaseqa_questions": 10},
    "prune": {"target": TARGET, "max_linears": 20, "max_step": 0.15, "threshold": THRESHOLD, "max_iterations": 60},
    "policy": {"horizon": 4, "safety": 1},
}


# Another way to write the same checkpoints.
COLLECTIVE = ["--set", "checkpoint.io=collective", "--set", "checkpoint.hints=cb_nodes=1"]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def decisions(run):
    return [(line["iteration"], line["decision"]) for line in read_lines(run / "dialogue.jsonl")
            if line["type"] == "decision"]


def without_times(run):
    """events.jsonl but for what differs between equal runs."""
    out = []
    for line in read_lines(run / "events.jsonl"):
        if line["type"] in ("profile", "outcome"):
            line.pop("time")
            line.pop("seconds", None)
            line.pop("seconds_left", None)
            out.append(line)
    return out


class Case(unittest.TestCase):
    MORE = []

    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-prune-"))
        cls.config = cls.work / "config.json"
        cls.config.write_text(json.dumps(CONFIG))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.work)

    def command(self, run, np, *more):
        """np: a number of ranks, or the grid (replicas, stages)."""
        if isinstance(np, tuple):
            np, more = np[0] * np[1], ("--set", f"run.replicas={np[0]}", *more)
        return mpirun(np, PROGRAM, "prune", self.config, "--set", f"run.dir={run}", *self.MORE, *more,
                      threads=2 if np == 1 else 1)

    def prune(self, run, np=1, *more, code=0):
        done = subprocess.run(self.command(run, np, *more), env=ENVIRONMENT, capture_output=True, text=True,
                              timeout=280 * SLOW, cwd=ROOT)
        self.assertEqual(done.returncode, code, done.stderr[-3000:])
        return done

    def start(self, run, np, *more):
        return subprocess.Popen(self.command(run, np, *more), env=ENVIRONMENT, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def wait_for_iteration(self, run, job, n):
        """Until the checkpoint of iteration n stands; the job must still be running then."""
        deadline = time.monotonic() + 200 * SLOW
        while time.monotonic() < deadline:
            if any(int(p.stem[-6:]) >= n for p in (run / "checkpoints").glob("iteration-*.h5")):
                return
            self.assertIsNone(job.poll(), "the job ended too early")
            time.sleep(0.02)
        self.fail("no checkpoint in time")

    def assert_same_run(self, one, other):
        self.assertEqual(decisions(one), decisions(other))
        self.assertEqual(without_times(one), without_times(other))
        self.assertEqual((one / "summary.json").read_text(), (other / "summary.json").read_text())
        names = sorted(p.name for p in (one / "checkpoints").iterdir())
        self.assertEqual(names, sorted(p.name for p in (other / "checkpoints").iterdir()))
        for name in names:
            self.assertTrue(filecmp.cmp(one / "checkpoints" / name, other / "checkpoints" / name, shallow=False), name)
        for path in (one / "model").iterdir():
            self.assertTrue(filecmp.cmp(path, other / "model" / path.name, shallow=False), path.name)


class OneRun(Case):
    """One uninterrupted run, made before the tests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.whole = cls.work / "whole"
        cls.done = subprocess.run(cls.command(cls, cls.whole, 1), env=ENVIRONMENT, capture_output=True, text=True,
                                  timeout=280 * SLOW)

    def setUp(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr[-3000:])

    def interrupted(self, name, np, resume_np, interrupt, code):
        run = self.work / name
        job = self.start(run, np)
        self.wait_for_iteration(run, job, 2)
        interrupt(job, run)
        _, text = job.communicate(timeout=120 * SLOW)
        if code is None:
            self.assertNotEqual(job.returncode, 0)
        else:
            self.assertEqual(job.returncode, code, text[-3000:])
        self.assertFalse((run / "summary.json").exists())
        self.wait_for_its_processes(run)
        self.prune(run, resume_np, "--resume")
        self.assert_same_run(self.whole, run)

    def wait_for_its_processes(self, run):
        """Ranks outlive a killed mpirun for a while, on a busy machine for seconds, and still hold the directory."""
        deadline = time.monotonic() + 60 * SLOW
        while (run / "lock").exists():
            try:
                stat = pathlib.Path(f"/proc/{json.loads((run / 'lock').read_text())['pid']}/stat").read_text()
            except FileNotFoundError:
                return
            if stat.rpartition(")")[2].split()[0] == "Z":  # it has ended, and nobody has asked how
                return
            self.assertLess(time.monotonic(), deadline, "a killed run does not end")
            time.sleep(0.1)


class Whole(OneRun):
    """Everything that must equal the one run."""

    def test_reaches_the_target_to_the_weight(self):
        summary = json.loads((self.whole / "summary.json").read_text())
        self.assertEqual(summary["end"], "target reached")
        self.assertEqual(summary["pruned_weights"], round(TARGET * summary["prunable_weights"]))
        self.assertGreater(summary["pruned"]["validation"]["perplexity"],
                           0.9 * summary["dense"]["validation"]["perplexity"])

    def test_some_iterations_are_rolled_back(self):
        outcomes = [e for e in read_lines(self.whole / "events.jsonl") if e["type"] == "outcome"]
        self.assertGreater(sum(not e["accepted"] for e in outcomes), 0)
        for e in outcomes:  # by text and answers, 4 : 1; a step that text alone rules out has no answers
            text, judged = (math.log(e["after"]["perplexity"] / e["before"]["perplexity"]), "answers" in e["after"])
            answers = e["after"]["answers"] - e["before"]["answers"] if judged else 0
            self.assertEqual(e["accepted"], 0.8 * text + 0.2 * answers <= math.log1p(THRESHOLD), e)

    def test_mmlu_is_counted_by_category(self):
        asked = [line["after"] for line in read_lines(self.whole / "events.jsonl")
                 if line["type"] == "outcome" and "mmlu" in line["after"]]
        self.assertTrue(asked)
        for after in asked:
            parts = [after[key] for key in after if key.startswith("mmlu_")]
            self.assertEqual([sum(n) for n in zip(*parts)], after["mmlu"])

    def test_other_grids_give_the_same_run(self):
        for np in ((1, 2), (2, 1), (3, 1), (2, 2), (1, 5)):
            with self.subTest(np=np):
                run = self.work / f"ranks{np}"
                self.prune(run, np, *(COLLECTIVE if np == (3, 1) else ()))
                self.assert_same_run(self.whole, run)

    def test_card_and_recipe_say_what_the_summary_and_the_model_are(self):
        model = self.whole / "model"
        summary, card = json.loads((self.whole / "summary.json").read_text()), (model / "README.md").read_text()
        self.assertEqual(card.splitlines()[:4], ["---", 'base_model: "model"', "library_name: transformers",
                                                 "pipeline_tag: text-generation"])
        for words in (f"| {summary['prunable_weights']} | {100 * summary['sparsity']:.3f} % |",
                      f"| {summary['parameters']} | {100 * summary['sparsity_with_embeddings']:.3f} % |",
                      f"| {summary['dense']['test']['perplexity']:.4f} | {summary['pruned']['test']['perplexity']:.4f} |",
                      f"{summary['iterations']} iterations, {summary['rollbacks']} of them rolled back",
                      "--set calibration.text=PATH"):
            self.assertIn(words, card)
        self.assertNotIn(str(self.work), card)
        recipe = json.loads((model / "espalier_recipe.json").read_text())
        self.assertNotIn(str(SAPLING), (model / "espalier_recipe.json").read_text())
        self.assertEqual(recipe["identity"], summary["identity"])
        self.assertEqual([d["decision"] for d in recipe["decisions"]],
                         [e["decision"] for e in read_lines(self.whole / "events.jsonl") if e["type"] == "outcome"])
        tensors = read_tensors(model / "model.safetensors")
        for linear, sparsity in recipe["allocation"].items():
            _, words = tensors[f"model.{linear}.weight"]
            self.assertEqual(zeros(words) / len(words), sparsity, linear)
        self.assertEqual(len(recipe["allocation"]), 7 * 8)
        # The recipe's configuration is one that the program reads.
        config = self.work / "repeat.json"
        config.write_text(json.dumps(recipe["config"]))
        command = [PROGRAM, "prune", config, "--print-config"]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60 * SLOW)
        self.assertIn(f'"target": {recipe["config"]["prune"]["target"]}', done.stdout, done.stderr)

    def test_exported_model_has_the_printed_perplexity(self):
        summary = json.loads((self.whole / "summary.json").read_text())
        done = subprocess.run([PROGRAM, "eval", "--model", str(self.whole / "model"), "--text",
                               str(SAPLING / "data" / "test.txt"), "--window", "64", "--limit", "1024", "--json"],
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=280 * SLOW, check=True)
        perplexity = json.loads(done.stdout)["perplexity"]
        if isinstance(perplexity, dict):
            perplexity = perplexity["perplexity"]
        self.assertAlmostEqual(perplexity / summary["pruned"]["test"]["perplexity"], 1, delta=1e-9)

    def test_usr1_then_resumed_on_other_ranks_is_the_same_run(self):
        self.interrupted("usr1", (2, 1), (1, 3), lambda job, run: job.send_signal(signal.SIGUSR1), 75)

    def test_a_killed_rank_then_resumed_is_the_same_run(self):
        def kill(job, run):
            pids = json.loads((run / "manifest.json").read_text())["ranks"]
            os.kill(pids[1]["pid"], signal.SIGKILL)
        self.interrupted("kill", (2, 2), 1, kill, None)

    def test_term_stops_with_a_valid_checkpoint(self):
        """To the ranks, as Slurm does; mpirun passes its own on only seconds later."""
        def term(job, run):
            for rank in json.loads((run / "manifest.json").read_text())["ranks"]:
                os.kill(rank["pid"], signal.SIGTERM)
        self.interrupted("term", (1, 2), (3, 1), term, 75)

    def test_a_stop_file_stops_with_a_valid_checkpoint(self):
        self.interrupted("stop", 1, 2, lambda job, run: (run / "stop").touch(), 75)

    def test_a_full_disk_loses_no_checkpoint(self):
        """Room for two checkpoints, then none; the same disk, enlarged, takes the rest."""
        disk = self.work / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", disk], capture_output=True).returncode:
            skip(self, "a full disk: mounting is not allowed")
        self.addCleanup(subprocess.run, ["umount", disk], check=True)
        run = disk / "run"
        done = self.prune(run, 2, code=74)
        self.assertIn("No space left on device", done.stderr)
        self.assertFalse((run / "summary.json").exists())
        self.assertTrue(list((run / "checkpoints").glob("iteration-*.h5")), "something was saved")
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        self.prune(run, 3, "--resume")
        self.assert_same_run(self.whole, run)

    def test_killed_twice_the_record_does_not_double(self):
        """Killed, resumed, killed again early, resumed: the record must not grow double."""
        run = self.work / "twice"
        for n in (1, 3):
            job = self.start(run, 2, "--resume")
            self.wait_for_iteration(run, job, n)
            job.kill()
            job.communicate(timeout=60 * SLOW)
            subprocess.run(["pkill", "-9", "-f", f"run.dir={run}"], check=False)
            time.sleep(0.5)
        self.prune(run, 1, "--resume")
        self.assert_same_run(self.whole, run)

    def test_a_replay_repeats_the_decisions(self):
        run = self.work / "replay"
        self.prune(run, 2, "--set", "agent.backend=replay", "--set", f"agent.replay={self.whole / 'dialogue.jsonl'}")
        self.assertEqual(decisions(self.whole), decisions(run))
        same = [json.loads((r / "summary.json").read_text())["pruned"] for r in (self.whole, run)]
        self.assertEqual(*same)

    def test_resume_of_a_finished_run_changes_nothing(self):
        before = (self.whole / "summary.json").read_bytes()
        self.prune(self.whole, 1, "--resume")
        self.assertEqual(before, (self.whole / "summary.json").read_bytes())

    def test_another_run_is_not_overwritten(self):
        done = self.prune(self.whole, 1, code=2)
        self.assertIn("already holds a run", done.stderr)

    def test_a_run_with_other_calibration_is_not_resumed(self):
        run = self.work / "other"
        shutil.copytree(self.whole, run)
        (run / "summary.json").unlink()
        done = self.prune(run, 2, "--resume", "--set", "calibration.window=32", code=2)
        self.assertIn("than the configuration names (different: calibration", done.stderr)

    def unfinished(self, name):
        """A copy of the run without its end."""
        run = self.work / name
        shutil.copytree(self.whole, run)
        (run / "summary.json").unlink()
        return run

    def test_other_method_is_not_resumed(self):
        run = self.unfinished("method")
        done = self.prune(run, 2, "--resume", "--set", "prune.score=ria", code=2)
        self.assertIn("another prune.score", done.stderr)
        done = self.prune(run, 2, "--resume", "--set", "prune.allocation=uniform", "--set", "prune.update=sparsegpt", code=2)
        self.assertIn("another prune.allocation", done.stderr)

    def test_changed_options_are_named(self):
        run = self.unfinished("changed")
        done = self.prune(run, 1, "--resume", "--set", "run.keep=3", "--set", "prune.max_iterations=61")
        self.assertIn("changed since the checkpoint: prune.max_iterations\n", done.stderr)

    def test_a_damaged_checkpoint_is_skipped(self):
        run = self.unfinished("damaged")
        *older, newest = sorted((run / "checkpoints").iterdir())
        damage(newest)
        done = self.prune(run, 2, "--resume")
        self.assertIn(f"skipping a damaged checkpoint: {newest}", done.stderr)
        self.assertIn(f"continuing from {older[-1]}", done.stderr)
        newest.with_name(newest.name + ".damaged").unlink() # set aside
        self.assert_same_run(self.whole, run)

    def test_damaged_checkpoints_are_never_overwritten(self):
        run = self.unfinished("ruins")
        damages = [damage, lambda path: os.truncate(path, 1000)]
        for path, how in zip(sorted((run / "checkpoints").iterdir()), damages):
            how(path)
        before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
        done = self.prune(run, 2, "--resume", code=1)
        self.assertIn("no checkpoint can be read", done.stderr)
        self.assertEqual(before, {p: p.read_bytes() for p in run.rglob("*") if p.is_file()})
        for path in (run / "checkpoints").iterdir():
            os.truncate(path, 1000)
        self.assertIn("no checkpoint can be read", self.prune(run, 2, "--resume", "--quiet", code=1).stderr)

    def test_damaged_summary_is_written_again(self):
        run = self.unfinished("summary")
        (run / "summary.json").write_text("{x")
        self.prune(run, 2, "--resume")
        self.assert_same_run(self.whole, run)

    def test_a_stop_file_before_the_start_stops_at_once(self):
        run = self.unfinished("early")
        newest = sorted((run / "checkpoints").iterdir())[-1]
        newest.unlink()
        (run / "stop").touch()
        self.prune(run, 2, "--resume", code=75)
        self.assertFalse(newest.exists() or (run / "stop").exists())
        self.assertTrue((run / "stopped").exists())
        self.prune(run, 2, "--resume")
        self.assertFalse((run / "stopped").exists())
        self.assert_same_run(self.whole, run)


def damage(path):
    """Bytes of a dataset, not of HDF5's own structures: only a checksum can tell."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def read_tensors(path):
    """{name: (shape, words of 16 bits)} of a safetensors file of 16-bit floats."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    return {name: (t["shape"], memoryview(data[start + t["data_offsets"][0]:start + t["data_offsets"][1]]).cast("H"))
            for name, t in json.loads(data[8:start]).items() if name != "__metadata__"}


def zeros(words):
    return sum(w & 0x7FFF == 0 for w in words)


class Mixed(OneRun):
    """Linears that become N:M: to the weight, for good, on any ranks and after a resume."""

    MORE = [word for value in ("prune.mixed=true", "prune.target=0.3", "prune.threshold=0.02", "policy.pattern_near=0.3",
                               "policy.pattern_extra=1") for word in ("--set", value)]

    def patterns(self):
        found = {}
        for event in read_lines(self.whole / "events.jsonl"):
            if event["type"] != "outcome":
                continue
            for name, step in event["decision"]["prune"].items():
                self.assertNotIn(name, found, "is finished")
                if event["accepted"] and isinstance(step, str):
                    found[name] = step
        return found

    def test_masks_are_of_their_patterns(self):
        tensors = read_tensors(self.whole / "model" / "model.safetensors")
        patterns = self.patterns()
        self.assertIn("2:4", patterns.values())
        for name, pattern in patterns.items():
            n, m = map(int, pattern.split(":"))
            (rows, columns), words = tensors[f"model.{name}.weight"]
            self.assertEqual(columns % m, 0)
            self.assertEqual({zeros(words[i:i + m]) for i in range(0, rows * columns, m)}, {m - n}, name)

    def test_summary_counts_linears_of_each_pattern(self):
        summary = json.loads((self.whole / "summary.json").read_text())
        patterns, counts = list(self.patterns().values()), summary["patterns"]
        self.assertEqual(summary["pruned_weights"], round(0.3 * summary["prunable_weights"]))
        for name in ("2:4", "4:8"):
            self.assertEqual(counts[name]["linears"], patterns.count(name))
        self.assertEqual(sum(c["pruned_weights"] for c in counts.values()), summary["pruned_weights"])
        self.assertAlmostEqual(sum(c["share"] for c in counts.values()), 1)
        self.assertIn(f"{patterns.count('2:4')} linears 2:4", self.done.stdout)

    def test_other_ranks_give_the_same_run(self):
        for np in ((2, 1), (1, 3)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np)
                self.assert_same_run(self.whole, self.work / f"ranks{np}")

    def test_resumed_patterns_give_the_same_run(self):
        self.assertTrue(any(isinstance(s, str) for _, d in decisions(self.whole)[:2] for s in d["prune"].values()))
        self.interrupted("stop", 2, 1, lambda job, run: (run / "stop").touch(), 75)

    def test_replay_needs_the_switch(self):
        replay = ["--set", "agent.backend=replay", "--set", f"agent.replay={self.whole / 'dialogue.jsonl'}"]
        self.prune(self.work / "replay", 2, *replay)
        self.assertEqual(decisions(self.whole), decisions(self.work / "replay"))
        done = self.prune(self.work / "off", 2, *replay, "--set", "prune.mixed=false", code=1)
        self.assertIn("must have a number", done.stderr)


class Curvature(OneRun):
    """The agent with score curvature, over whole linears, with an exponent that is measured at the start."""

    MORE = [word for value in ("prune.score=curvature", "prune.target=0.1", "prune.threshold=0.002", "probes.mmlu=",
                               "probes.freebaseqa=", "report.mmlu=", "report.freebaseqa=")
            for word in ("--set", value)]

    def choice(self, run):
        return [{k: line[k] for k in ("iteration", "power", "powers", "nll")} for line in read_lines(run / "events.jsonl")
                if line["type"] == "curvature_power"]

    def test_the_exponent_has_the_lowest_loss(self):
        (line,) = self.choice(self.whole)
        self.assertEqual(line["iteration"], 0)
        self.assertEqual(line["powers"], [0, 0.25, 0.5, 0.75, 1])
        self.assertEqual(line["power"], max(p for p, x in zip(line["powers"], line["nll"]) if x == min(line["nll"])))

    def test_rows_lose_different_numbers(self):
        tensors = read_tensors(self.whole / "model" / "model.safetensors")
        (rows, columns), words = tensors["model.layers.0.self_attn.k_proj.weight"]
        self.assertGreater(len({zeros(words[r * columns:(r + 1) * columns]) for r in range(rows)}), 2)

    def test_equal_on_other_ranks(self):
        for np in ((1, 2), (2, 2)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np)
                self.assert_same_run(self.whole, self.work / f"ranks{np}")
                self.assertEqual(self.choice(self.whole), self.choice(self.work / f"ranks{np}"))

    def test_killed(self):
        self.interrupted("killed", 2, 3, lambda job, run: job.send_signal(signal.SIGKILL), None)
        self.assertEqual(len(self.choice(self.work / "killed")), 1)  # a resumed run does not choose again

    def test_another_exponent_is_not_resumed(self):
        run = self.work / "exponent"
        job = self.start(run, 1)
        self.wait_for_iteration(run, job, 1)
        (run / "stop").touch()
        job.communicate(timeout=120 * SLOW)
        (line,) = self.choice(self.whole)
        done = self.prune(run, 1, "--resume", "--set", f"prune.curvature_power={(line['power'] + 0.1) / 2}", code=2)
        self.assertIn("another prune.curvature_power", done.stderr)

    def test_global_is_equal_on_other_ranks(self):
        one, more = self.work / "global1", ["--set", "prune.allocation=global", "--set", "prune.target=0.45"]
        self.prune(one, 1, *more)
        summary = json.loads((one / "summary.json").read_text())
        self.assertEqual(summary["pruned_weights"], round(0.45 * summary["prunable_weights"]))
        self.prune(self.work / "global3", 3, *more)
        self.assert_same_run(one, self.work / "global3")


class Distilled(OneRun):
    """The agent with score curvature and distillation inside the loop: updated weights in checkpoints and rollbacks."""

    MORE = [word for value in ("prune.score=curvature", "prune.curvature_power=1", "prune.target=0.3",
                               "prune.threshold=0.05", "prune.regrow=true", "distill.steps=2", "distill.passes=2",
                               "distill.batch=2", "distill.rate=0.002", "report.mmlu=", "report.freebaseqa=")
            for word in ("--set", value)]

    def outcomes(self, run):
        return [line for line in read_lines(run / "events.jsonl") if line["type"] == "outcome"]

    def test_equal_on_other_ranks(self):
        for np in ((1, 2), (2, 2)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np, *(COLLECTIVE if np == (2, 2) else ()))
                self.assert_same_run(self.whole, self.work / f"ranks{np}")

    def test_killed(self):
        self.interrupted("killed", 3, 1, lambda job, run: job.send_signal(signal.SIGKILL), None)

    def test_stopped_while_the_dense_model_teaches(self):
        run = self.work / "teaching"
        job = self.start(run, 1, "--set", "distill.windows=20000")
        deadline = time.monotonic() + 100 * SLOW
        while not (run / "events.jsonl").exists() or not read_lines(run / "events.jsonl"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        (run / "stop").touch()
        _, text = job.communicate(timeout=60 * SLOW)
        self.assertEqual(job.returncode, 75, text[-3000:])
        self.assertTrue((run / "checkpoints" / "iteration-000000.h5").exists())

    def test_survivors_have_learned(self):
        self.prune(self.work / "without", 1, "--set", "distill.steps=0", "--set", "distill.passes=0")
        learned, pruned = (json.loads((run / "summary.json").read_text()) for run in (self.whole, self.work / "without"))
        self.assertEqual(learned["pruned_weights"], pruned["pruned_weights"])
        self.assertLess(learned["pruned"]["validation"]["perplexity"], pruned["pruned"]["validation"]["perplexity"])
        self.assertEqual(learned["dense"], pruned["dense"])

    def test_a_rollback_restores_updated_weights(self):
        run = self.work / "strict"
        self.prune(run, 2, "--set", "prune.threshold=0.0005", "--set", "prune.max_iterations=8", code=3)
        outcomes = self.outcomes(run)
        self.assertIn(False, [o["accepted"] for o in outcomes])
        for before, after in zip(outcomes, outcomes[1:]):  # what a step is compared with is the last accepted state
            last = before["after"] if before["accepted"] else before["before"]
            self.assertEqual(after["before"]["perplexity"], last["perplexity"])
        summary = json.loads((run / "summary.json").read_text())
        self.assertAlmostEqual(summary["pruned"]["validation"]["perplexity"],
                               [o["after"] for o in outcomes if o["accepted"]][-1]["perplexity"], places=9)

    def test_the_whole_way_is_bounded(self):
        run = self.work / "bounded"
        self.prune(run, 1, "--set", "prune.threshold=0.5", "--set", "prune.max_rise=0.01", "--set", "prune.target=0.6",
                   "--set", "prune.max_iterations=5", "--set", "distill.steps=0", "--set", "distill.passes=0", code=3)
        outcomes = self.outcomes(run)
        self.assertIn(False, [o["accepted"] for o in outcomes])
        for o in outcomes:
            if o["accepted"]:
                self.assertLess(o["after"]["nll"] - outcomes[0]["before"]["nll"], 0.02)


class Updated(OneRun):
    """The agent with new weights for its masks after each iteration."""

    MORE = [word for value in ("prune.score=curvature", "prune.curvature_power=1", "prune.target=0.3", "prune.threshold=0.05",
                               "prune.regrow=true", "prune.update=obs", "prune.update_when=step", "probes.mmlu=",
                               "probes.freebaseqa=", "report.mmlu=", "report.freebaseqa=")
            for word in ("--set", value)]

    def outcomes(self, run):
        return [line for line in read_lines(run / "events.jsonl") if line["type"] == "outcome"]

    def test_equal_on_other_ranks(self):
        for np in ((1, 2), (3, 1), (2, 2)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np)
                self.assert_same_run(self.whole, self.work / f"ranks{np}")

    def test_killed(self):
        self.interrupted("killed", 3, 1, lambda job, run: job.send_signal(signal.SIGKILL), None)

    def test_each_outcome_counts_its_linears(self):
        for o in self.outcomes(self.whole):
            update = o["update"]
            self.assertGreater(update["linears"], 0)
            self.assertEqual(update["linears"], update["kept"] + sum(update["dampings"]))

    def test_only_the_end_is_updated(self):
        run = self.work / "end"
        self.prune(run, 2, "--set", "prune.update_when=end", "--set", "prune.update=reconstruct")
        updated = ["update" in o for o in self.outcomes(run)]
        self.assertEqual(updated, [False] * (len(updated) - 1) + [True])

    def test_survivors_are_better(self):
        self.prune(self.work / "without", 1, "--set", "prune.update=none")
        updated, pruned = (json.loads((run / "summary.json").read_text()) for run in (self.whole, self.work / "without"))
        self.assertEqual(updated["pruned_weights"], pruned["pruned_weights"])
        self.assertLess(updated["pruned"]["validation"]["perplexity"], pruned["pruned"]["validation"]["perplexity"])

    def test_distillation_may_follow(self):
        learning = ("--set", "prune.update=reconstruct", "--set", "prune.threshold=0.5", "--set", "distill.steps=2",
                    "--set", "distill.passes=1", "--set", "distill.batch=2", "--set", "distill.rate=0.002")
        self.prune(self.work / "distilled1", 1, *learning)
        self.prune(self.work / "distilled3", 3, *learning)
        self.assert_same_run(self.work / "distilled1", self.work / "distilled3")

    def test_a_rollback_restores_updated_weights(self):
        run = self.work / "strict"
        self.prune(run, 2, "--set", "prune.threshold=0.0005", "--set", "prune.max_iterations=8", code=3)
        outcomes = self.outcomes(run)
        self.assertIn(False, [o["accepted"] for o in outcomes])
        self.assertIn(True, [o["accepted"] for o in outcomes])
        for before, after in zip(outcomes, outcomes[1:]):
            last = before["after"] if before["accepted"] else before["before"]
            self.assertEqual(after["before"]["perplexity"], last["perplexity"])
        summary = json.loads((run / "summary.json").read_text())
        self.assertAlmostEqual(summary["pruned"]["validation"]["perplexity"],
                               [o["after"] for o in outcomes if o["accepted"]][-1]["perplexity"], places=9)


class Knowledge(OneRun):
    """Probe questions shape the decisions and judge them."""

    MORE = [word for value in ("prune.score=curvature", "prune.curvature_power=1", "report.mmlu=", "report.freebaseqa=")
            for word in ("--set", value)]

    def profiles(self, run):
        return [line for line in read_lines(run / "events.jsonl") if line["type"] == "profile"]

    def test_every_linear_has_a_knowledge_sensitivity(self):
        for profile in self.profiles(self.whole):
            for key in ("z_k", "k_freebaseqa", "z_k_freebaseqa", "k_mmlu_other", "damage_k_half"):
                self.assertEqual(len(profile[key]), len(profile["z_s"]), key)
                self.assertNotIn(None, profile[key], key)
            self.assertAlmostEqual(sum(profile["z_k"]), 0, places=6)

    def test_answers_are_measured(self):
        for line in read_lines(self.whole / "events.jsonl"):
            if line["type"] == "outcome" and line["accepted"]:
                self.assertGreater(line["after"]["answers"], 0)
                self.assertGreater(line["after"]["answers_stderr"], 0)

    def test_their_share_changes_decisions(self):
        self.prune(self.work / "text", 1, "--set", "knowledge.share=0")
        self.assertNotEqual(decisions(self.whole), decisions(self.work / "text"))

    def test_without_windows_only_text_counts(self):
        run = self.work / "counted"
        self.prune(run, 1, "--set", "knowledge.windows=0", "--set", "prune.max_iterations=2", code=3)
        for profile in self.profiles(run):
            self.assertNotIn("z_k", profile)
        for line in read_lines(run / "events.jsonl"):
            if line["type"] == "outcome":
                self.assertNotIn("answers", line["after"])

    def test_equal_on_other_ranks(self):
        self.prune(self.work / "ranks3", 3)
        self.assert_same_run(self.whole, self.work / "ranks3")


class Bf16(OneRun):
    """bf16 arithmetic in the loop; the report stays f32."""
    MORE = ["--set", "compute.arithmetic=bf16"]

    def setUp(self):
        if "oneDNN" in self.done.stderr and self.done.returncode == 2:
            skip(self, "no bf16 here: " + self.done.stderr.strip().splitlines()[-1])
        super().setUp()

    def test_equal_on_other_ranks_and_threads(self):
        for np, threads in ((1, 3), (2, 2), (3, 1), (4, 1)):
            with self.subTest(np=np, threads=threads):
                run = self.work / f"ranks{np}x{threads}"
                command = mpirun(np, PROGRAM, "prune", self.config, "--set", f"run.dir={run}", *self.MORE,
                                 threads=threads)
                done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=280 * SLOW)
                self.assertEqual(done.returncode, 0, done.stderr[-3000:])
                self.assert_same_run(self.whole, run)

    def test_killed(self):
        self.interrupted("killed", 2, 1, lambda job, run: job.send_signal(signal.SIGKILL), None)

    def test_the_report_is_in_f32(self):
        summary = json.loads((self.whole / "summary.json").read_text())["dense"]["validation"]
        start = [e for e in read_lines(self.whole / "events.jsonl") if e["type"] == "start"][0]
        self.assertNotEqual(start["dense"]["perplexity"], summary["perplexity"])
        self.assertLess(abs(start["dense"]["perplexity"] / summary["perplexity"] - 1), 2e-3)
        f32 = self.work / "f32"
        done = self.prune(f32, 1, "--verbose", "--set", "compute.arithmetic=f32", "--set", "prune.max_iterations=1", code=3)
        self.assertEqual(json.loads((f32 / "summary.json").read_text())["dense"]["validation"], summary)
        # The loop of the f32 run has measured the validation text of both models already: with the same bits.
        self.assertEqual(done.stderr.count("report: validation as the loop has measured it"), 2)

    def test_what_the_loop_has_not_measured_is_measured_for_the_report(self):
        done = self.prune(self.work / "again", 1, "--verbose", "--set", "prune.max_iterations=1", code=3)
        self.assertNotIn("validation as the loop has measured it", done.stderr)

    def test_f32_is_not_resumed_in_bf16(self):
        run = self.work / "other"
        self.prune(run, 1, "--set", "prune.max_iterations=1", code=3)
        (run / "summary.json").unlink()
        done = self.prune(run, 1, "--resume", "--set", "compute.arithmetic=f32", code=2)
        self.assertIn("compute.arithmetic", done.stderr)

    def test_a_processor_without_bf16_is_refused(self):
        for np in (1, 2):
            done = subprocess.run(self.command(self.work / f"refused{np}", np), capture_output=True, text=True,
                                  env={**ENVIRONMENT, "ONEDNN_MAX_CPU_ISA": "AVX2"}, timeout=100 * SLOW)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn('compute.arithmetic is "bf16", but this processor has no bf16 instructions', done.stderr)


class Milestones(OneRun):
    """One run to several sparsities: measured and exported on the way."""

    MORE = [word for value in ("prune.target=0.12", "prune.milestones=[0.04,0.08]", "run.export_milestones=true",
                               "probes.every=1000", "report.mmlu_questions=5", "report.freebaseqa_questions=5")
            for word in ("--set", value)]

    def milestones(self, run):
        return json.loads((run / "summary.json").read_text())["milestones"]

    def assert_same_run(self, one, other):
        super().assert_same_run(one, other)
        for name in ("model-0.04", "model-0.08"):
            for path in (one / name).iterdir():
                self.assertTrue(filecmp.cmp(path, other / name / path.name, shallow=False), f"{name}/{path.name}")

    def test_each_is_met_to_the_weight(self):
        summary = json.loads((self.whole / "summary.json").read_text())
        outcomes = {e["iteration"]: e for e in read_lines(self.whole / "events.jsonl") if e["type"] == "outcome"}
        self.assertEqual([m["target"] for m in summary["milestones"]], [0.04, 0.08])
        for m in summary["milestones"]:
            self.assertEqual(m["pruned_weights"], round(m["target"] * summary["prunable_weights"]))
            self.assertTrue(outcomes[m["iterations"]]["accepted"])
            self.assertEqual(outcomes[m["iterations"]]["sparsity_after"], m["sparsity"])
            self.assertEqual(m["rollbacks"], sum(not e["accepted"] for i, e in outcomes.items() if i < m["iterations"]))
            self.assertEqual(m["pruned"].keys(), summary["pruned"].keys())

    def test_each_is_what_a_run_to_it_is(self):
        """The first is the end of a run to it; the second that of the same run, resumed with a higher target."""
        run = self.work / "alone"
        for i, m in enumerate(self.milestones(self.whole)):
            self.prune(run, 1, "--set", "prune.milestones=[]", "--set", f"prune.target={m['target']}",
                       *(["--resume"] if i else []))
            summary = json.loads((run / "summary.json").read_text())
            for key in ("iterations", "rollbacks", "sparsity", "pruned_weights", "pruned"):
                self.assertEqual(m[key], summary[key], key)
            self.assertTrue(filecmp.cmp(run / "model" / "model.safetensors",
                                        self.whole / m["model"] / "model.safetensors", shallow=False))
            (run / "summary.json").unlink()

    def test_the_end_is_as_without_a_stop(self):
        summary = json.loads((self.whole / "summary.json").read_text())
        self.assertEqual(summary["end"], "target reached")
        self.assertIn("at 4 %: perplexity", self.done.stdout)

    def test_exported_models_are_what_was_measured(self):
        for m in self.milestones(self.whole):
            done = subprocess.run(mpirun(1, PROGRAM, "eval", "--model", self.whole / m["model"], "--text",
                                         SAPLING / "data" / "test.txt", "--window", 64, "--limit", 1024, "--json"),
                                  env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=100 * SLOW)
            self.assertAlmostEqual(json.loads(done.stdout)["perplexity"], m["pruned"]["test"]["perplexity"], 8)

    def test_equal_on_other_ranks(self):
        for np in (2, 3):
            with self.subTest(np=np):
                run = self.work / f"ranks{np}"
                self.prune(run, np)
                self.assert_same_run(self.whole, run)

    def test_killed_and_resumed_each_is_measured_once(self):
        run = self.work / "killed"
        first = self.milestones(self.whole)[0]["iterations"]
        job = self.start(run, 2)
        self.wait_for_iteration(run, job, first)
        job.send_signal(signal.SIGKILL)
        job.communicate(timeout=120 * SLOW)
        self.wait_for_its_processes(run)
        done = self.prune(run, 1, "--resume")
        self.assertNotIn("milestone 4 %", done.stderr)
        self.assertIn("milestone 8 %", done.stderr)
        self.assert_same_run(self.whole, run)

    def test_zeros_of_the_source_pass_one(self):
        """A model that was pruned to 8 % has passed both before the first step."""
        run = self.work / "again"
        self.prune(run, 1, "--set", f"model.path={self.whole / 'model-0.08'}", "--set", "run.export_milestones=false")
        for m in self.milestones(run):
            self.assertEqual(m["iterations"], 0)
            self.assertEqual(m["pruned"], json.loads((run / "summary.json").read_text())["dense"])


class DenseOnce(OneRun):
    """The dense model is measured by one run, and others take its numbers."""

    MORE = ["--set", "prune.target=0.02", "--set", "run.export=false", "--set", "prune.threshold=1"]

    def shared(self, name, cache, np=1, *more):
        """A run that shares `cache`; how many of its measures were there."""
        done = self.prune(self.work / name, np, "--set", f"run.dense_cache={cache}", *more)
        return done.stderr.count("the dense model was measured before")

    def assert_same_result(self, name):
        for file in ["summary.json"] + [f"checkpoints/{p.name}" for p in (self.whole / "checkpoints").iterdir()]:
            self.assertTrue(filecmp.cmp(self.whole / file, self.work / name / file, shallow=False), file)

    def test_numbers_are_the_same_bits(self):
        cache = self.work / "cache"
        self.assertEqual(self.shared("first", cache), 0)
        self.assertEqual(sorted(p.name.split("-")[0] for p in cache.iterdir()), ["judge", "report"])
        self.assertEqual(self.shared("second", cache, 2), 2)
        self.assert_same_result("first")
        self.assert_same_result("second")

    def test_what_differs_is_measured(self):
        cache = self.work / "different"
        self.shared("one", cache)
        for i, (options, there) in enumerate((
                (["report.limit=512"], 1), (["validation.windows=7"], 0), (["probes.mmlu_questions=5"], 0),
                (["run.batch=512"], 0), (["prune.score=magnitude", "calibration.forward=3", "run.keep=3"], 2))):
            more = [word for option in options for word in ("--set", option)]
            self.assertEqual(self.shared(f"other{i}", cache, 1, *more), there, options)
        other = self.work / "model"
        shutil.copytree(SAPLING / "model", other)
        weights = other / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-2] ^= 1
        weights.write_bytes(data)
        self.assertEqual(self.shared("other", cache, 1, "--set", f"model.path={other}"), 0)

    def test_damage_is_measured_again(self):
        cache = self.work / "damaged"
        self.shared("before", cache)
        for path in cache.iterdir():
            text = path.read_text()
            at = text.index('"values": "') + len('"values": "') + 3
            path.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1:])
        self.assertEqual(self.shared("after", cache), 0)
        self.assert_same_result("after")
        self.assertEqual(self.shared("again", cache), 2)

    def test_two_at_once(self):
        cache = self.work / "both"
        jobs = [self.start(self.work / f"at-once{i}", 1, "--set", f"run.dense_cache={cache}") for i in range(2)]
        for i, job in enumerate(jobs):
            _, text = job.communicate(timeout=280 * SLOW)
            self.assertEqual(job.returncode, 0, text[-3000:])
            self.assert_same_result(f"at-once{i}")
        self.assertEqual(len(list(cache.iterdir())), 2)

    def test_a_directory_that_cannot_be_made_costs_nothing_but_time(self):
        blocked = self.work / "file"
        blocked.write_text("")
        done = self.prune(self.work / "blocked", 1, "--set", f"run.dense_cache={blocked}")
        self.assertIn("the dense model's measures are not kept", done.stderr)
        self.assert_same_result("blocked")


class AlreadySparse(Case):
    """Zeros of the source count as pruned."""

    def test_a_pruned_model_is_where_it_ended(self):
        first, again = self.work / "first", self.work / "again"
        more = [w for m in ("report.mmlu=", "report.freebaseqa=", "probes.mmlu=", "probes.freebaseqa=",
                            "prune.threshold=0.5") for w in ("--set", m)]
        self.prune(first, 1, *more)
        done = self.prune(again, 2, *more, "--set", f"model.path={first / 'model'}", "--set", "prune.target=0.2")
        self.assertIn("are 0 already", done.stderr)
        summary = json.loads((again / "summary.json").read_text())
        self.assertEqual(summary["pruned_weights"], round(0.2 * summary["prunable_weights"]))
        (start,) = [line for line in read_lines(again / "events.jsonl") if line["type"] == "start"]
        self.assertGreaterEqual(start["pruned"], round(TARGET * summary["prunable_weights"]))
        done = self.prune(self.work / "done", 1, *more, "--set", f"model.path={first / 'model'}")
        self.assertIn("target reached after 0 iterations", done.stderr + done.stdout)


class Sparse(Case):
    """Profiles in which numbers are missing as they should."""

    def test_runs_without_a_part_of_the_profile(self):
        for name, more in (("forward", ["calibration.forward=0", "prune.score=magnitude"]),
                           ("backward", ["calibration.backward=0"])):
            self.prune(self.work / name, 2, *(w for m in more for w in ("--set", m)), "--set", "prune.max_iterations=2",
                   code=3)

    def test_linears_without_weights_have_no_profile(self):
        run = self.work / "away"
        more = ["prune.cap=1", "prune.target=0.98", "prune.max_step=1", "prune.threshold=1000000", "prune.max_rise=0",
                "prune.max_iterations=6"]
        self.prune(run, 2, *(w for m in more for w in ("--set", m)))
        profile = [e for e in read_lines(run / "events.jsonl") if e["type"] == "profile"][-1]
        self.assertIn("null", json.dumps(profile))


class SmallModel(Case):
    """What SmolLM2-135M-Instruct really answered (tests/agent/fixtures/smollm2): nothing of use, and the run ends well."""

    FIXTURE = ROOT / "tests" / "agent" / "fixtures" / "smollm2"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.config = cls.FIXTURE / "config.json"
        cls.record = read_lines(cls.FIXTURE / "dialogue.jsonl")

    def lines(self, lines, kind):
        return [line for line in lines if line["type"] == kind]

    def test_a_replay_repeats_the_decisions(self):
        for np in (1, 2):
            with self.subTest(np=np):
                run = self.work / f"replay{np}"
                self.prune(run, np, "--set", "agent.backend=replay", "--set",
                           f"agent.replay={self.FIXTURE / 'dialogue.jsonl'}", code=3)
                self.assertEqual(decisions(self.FIXTURE), decisions(run))
        self.assert_same_run(self.work / "replay1", self.work / "replay2")

    def test_recorded_replies_meet_the_same_verdicts(self):
        """The policy may have changed since; the verdicts have not."""
        server = scripted.start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        server.replies = self.lines(self.record, "reply")
        run = self.work / "asked"
        self.prune(run, 2, "--set", f"agent.base_url=http://127.0.0.1:{server.server_port}/recorded/v1",
                   code=3)  # six iterations of today's policy end a little before the target
        lines = read_lines(run / "dialogue.jsonl")
        asked = len(self.lines(lines, "reply"))
        self.assertGreaterEqual(asked, 6)
        self.assertEqual([(line["iteration"], line["attempt"], line["text"]) for line in self.lines(lines, "invalid")],
                         [(line["iteration"], line["attempt"], line["text"])
                          for line in self.lines(self.record, "invalid")][:asked])
        self.assertEqual({line["source"] for line in self.lines(lines, "decision")}, {"policy (fallback)"})
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual((summary["agent"]["requests"], summary["agent"]["invalid"]), (asked, asked))
        self.assertGreater(summary["pruned_weights"], 0)


class Asked(OneRun):
    """A scripted language model that measures every plan before it proposes it, with distillation in each step."""

    MORE = [word for value in ("prune.score=curvature", "prune.curvature_power=1", "prune.threshold=0.05",
                               "prune.max_iterations=3", "probes.every=100", "distill.steps=1", "distill.batch=2",
                               "distill.rate=0.002", "report.mmlu=", "report.freebaseqa=", "agent.backend=openai",
                               "agent.model=scripted", "agent.fallback=fail")
            for word in ("--set", value)]

    @classmethod
    def setUpClass(cls):
        cls.server = scripted.start()
        cls.base = list(cls.MORE)
        cls.MORE = cls.asking("careful")
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        super().tearDownClass()

    @classmethod
    def asking(cls, script):
        return cls.base + ["--set", f"agent.base_url=http://127.0.0.1:{cls.server.server_port}/{script}/v1"]

    def setUp(self):
        self.assertEqual(self.done.returncode, 3, self.done.stderr[-3000:])  # three iterations do not reach the target

    def test_equal_on_other_ranks(self):
        for np in ((1, 2), (2, 2)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np, code=3)
                self.assert_same_run(self.whole, self.work / f"ranks{np}")

    def test_what_is_measured_is_what_would_come_of_it(self):
        lines = read_lines(self.whole / "events.jsonl")
        tried, done = ([line for line in lines if line["type"] == kind] for kind in ("experiment", "outcome"))
        self.assertEqual(len(tried), 3)
        for a, b in zip(tried, done):
            self.assertEqual((a["decision"]["prune"], a["before"], a["after"]["nll"], a["after"]["answers"]),
                             (b["decision"]["prune"], b["before"], b["after"]["nll"], b["after"]["answers"]))
            self.assertEqual(a["decision"]["power"], 0.5)

    def test_a_plan_that_was_tried_is_not_judged_again(self):
        def judged(script):
            run = self.work / f"judged-{script}"
            done = subprocess.run(mpirun(2, PROGRAM, "prune", self.config, "--set", f"run.dir={run}", "--verbose",
                                         *self.asking(script)),
                                  env=ENVIRONMENT, capture_output=True, text=True, timeout=280 * SLOW)
            self.assertEqual(done.returncode, 3, done.stderr[-3000:])
            return done.stderr.count("judged when its plan was tried")
        self.assertEqual((judged("careful"), judged("careless")), (3, 0))

    def test_the_time_of_a_measurement_counts_once(self):
        asked = sum(line["seconds"] for line in read_lines(self.whole / "dialogue.jsonl") if line["type"] == "decision")
        regions = json.loads((self.whole / "timing.json").read_text())["regions"]
        self.assertLess(regions["agent"]["max"], asked)  # which holds the measurements, under "prune" and "perplexity" too

    def test_measuring_changes_nothing(self):
        run = self.work / "careless"
        done = subprocess.run(mpirun(2, PROGRAM, "prune", self.config, "--set", f"run.dir={run}", *self.asking("careless")),
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=280 * SLOW)
        self.assertEqual(done.returncode, 3, done.stderr[-3000:])
        for path in (self.whole / "model").iterdir():
            self.assertTrue(filecmp.cmp(path, run / "model" / path.name, shallow=False), path.name)

    def test_who_decided_is_told(self):
        agent = json.loads((self.whole / "summary.json").read_text())["agent"]
        self.assertEqual((agent["decided_by"], agent["decisions"], agent["fallbacks"], agent["experiments"]),
                         ("openai", 3, 0, 3))
        self.assertIn("decisions: 3 by openai, scripted; 3 questions, 3 of them measured", self.done.stdout)

    def test_the_end_of_a_run_off_its_target_is_kept(self):
        self.assertIn("the run ended before its target was reached", self.done.stderr)
        self.assertEqual(json.loads((self.whole / "summary.json").read_text())["state"], "OFF_TARGET")
        self.prune(self.whole, 1, "--resume", code=3)

    def printed_prompt(self, np, *words):
        done = subprocess.run(mpirun(np, PROGRAM, "prune", "--print-prompt", *words), env=ENVIRONMENT, capture_output=True,
                              text=True, timeout=280 * SLOW, cwd=ROOT)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        return done.stdout

    def test_the_printed_prompt_is_the_one_that_is_sent(self):
        asked = {line["iteration"]: line["body"]["messages"] for line in read_lines(self.whole / "dialogue.jsonl")
                 if line["type"] == "request" and len(line["body"]["messages"]) == 2}
        prompts = {n: "".join(f"--- {m['role']} ---\n{m['content']}\n" for m in asked[n]) for n in asked}
        before = self.work / "before-3"
        shutil.copytree(self.whole, before)
        (before / "checkpoints" / "iteration-000003.h5").unlink()
        files = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
        self.assertEqual(self.printed_prompt(1, before), prompts[3])
        self.assertEqual(self.printed_prompt(3, before), prompts[3])
        self.assertEqual({path: path.read_bytes() for path in before.rglob("*") if path.is_file()}, files)
        new = self.work / "new"
        self.assertEqual(self.printed_prompt(1, self.config, *self.MORE, "--set", f"run.dir={new}"), prompts[1])
        self.assertFalse(new.exists())

    def test_a_prompt_of_ones_own_is_printed_and_sent(self):
        own, run = self.work / "own.txt", self.work / "own"
        own.write_text("Prune{{model}} to {{target}} %.\n\n{{answer}}")
        words = ("--set", f"agent.prompt_file={own}", "--set", "prune.max_iterations=1", "--set", f"run.dir={run}")
        system = self.printed_prompt(1, self.config, *self.MORE, *words).split("--- user ---")[0]
        self.assertTrue(system.startswith("--- system ---\nPrune (model) to 15 %.\n\nDecide by calling propose"), system)
        self.prune(run, 1, *words, code=3)
        sent = next(x["body"]["messages"][0] for x in read_lines(run / "dialogue.jsonl") if x["type"] == "request")
        self.assertEqual(f"--- {sent['role']} ---\n{sent['content']}\n", system)

    def stop_while_the_endpoint_hangs(self, name, np, words, stop):
        """What a run says that is stopped while it waits for a reply; stop(directory, pids by rank)."""
        run, before = self.work / name, len(self.server.seen.get("hang", ()))
        job = subprocess.Popen(mpirun(np, PROGRAM, "prune", self.config, "--set", f"run.dir={run}", *self.asking("hang"),
                                      *words),
                               env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(job.kill)
        deadline = time.monotonic() + 60 * SLOW
        while len(self.server.seen.get("hang", ())) == before:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        children = pathlib.Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        ranks = {}
        for pid in children:
            rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{pid}/environ").read_bytes())
            ranks[int(rank.group(1))] = int(pid)
        stop(run, ranks)
        start = time.monotonic()
        _, text = job.communicate(timeout=60 * SLOW)
        self.assertEqual(job.returncode, 75, text[-3000:])
        self.assertLess(time.monotonic() - start, 5 * SLOW)  # most of it is mpirun's own end
        return text

    def test_a_stop_file_does_not_wait_for_an_endpoint_that_hangs(self):
        text = self.stop_while_the_endpoint_hangs("hangs", 2, (), lambda run, ranks: (run / "stop").touch())
        self.assertIn("stopped by the stop file", text)

    def test_a_signal_to_any_rank_ends_the_waiting(self):
        """Rank 1 waits for rank 0's word; of 3 ranks on one stage and two replicas, the last is left over."""
        for rank, np, words in ((1, 2, ()), (2, 3, ("--set", "run.replicas=2"))):
            with self.subTest(rank=rank):
                text = self.stop_while_the_endpoint_hangs(f"signal{rank}", np, words,
                                                          lambda run, ranks, rank=rank: os.kill(ranks[rank], signal.SIGUSR1))
                self.assertIn("stopped by a signal", text)

    def test_a_dead_endpoint_is_no_agent(self):
        run = self.work / "dead"
        dead = ("--set", "agent.base_url=http://127.0.0.1:9/v1", "--set", "agent.retries=0", "--set",
                "agent.fallback=policy", "--set", "prune.target=0.05", "--set", "prune.max_iterations=20")
        done = self.prune(run, 2, *dead, code=4)
        self.assertIn("this is a run of the policy", done.stderr)
        summary = json.loads((run / "summary.json").read_text())
        self.assertEqual((summary["agent"]["decided_by"], summary["state"]), ("policy", "FELL_BACK"))
        self.assertIn("decisions: 0 by openai, scripted, ", done.stdout)
        self.prune(self.work / "allowed", 1, *dead, "--set", "agent.max_fallback_share=1")


class OwnModel(OneRun):
    """The dense model decides about its own pruning: a model that knows nothing of it, held to the form of a decision."""

    MORE = [word for value in ("prune.max_iterations=2", "probes.every=100", "report.mmlu=", "report.freebaseqa=",
                               "agent.backend=local", "agent.model_path=self", "agent.fallback=fail", "agent.questions=2",
                               "agent.experiments=1", "agent.max_tokens=220", "agent.temperature=0.8", "agent.context=16384")
            for word in ("--set", value)]

    def setUp(self):
        self.assertEqual(self.done.returncode, 3, self.done.stderr[-3000:])

    def test_equal_on_other_ranks(self):
        for np in ((1, 2), (2, 1)):
            with self.subTest(np=np):
                self.prune(self.work / f"ranks{np}", np, code=3)
                self.assert_same_run(self.whole, self.work / f"ranks{np}")
                replies = [[line["text"] for line in read_lines(run / "dialogue.jsonl") if line["type"] == "reply"]
                           for run in (self.whole, self.work / f"ranks{np}")]
                self.assertEqual(*replies)

    def test_every_reply_is_valid(self):
        agent = json.loads((self.whole / "summary.json").read_text())["agent"]
        self.assertEqual((agent["decided_by"], agent["decisions"], agent["fallbacks"], agent["invalid"]), ("local", 2, 0, 0))

    def test_a_prompt_beyond_the_context_is_no_answer(self):
        done = self.prune(self.work / "short", 2, "--set", "agent.context=1024", code=69)
        self.assertIn("exceed the chat's context of 1024", done.stderr)


class Refused(Case):
    def test_messages_name_the_key_or_file(self):
        cases = [
            (["--set", "model.path=/nowhere"], 74, "/nowhere"),
            (["--set", "calibration.text=/nowhere.txt"], 74, "/nowhere.txt"),
            (["--set", "prune.target=1.5"], 2, "prune.target"),
            (["--set", "prune.tarket=0.5"], 2, "prune.tarket"),
            (["--set", "validation.windows=100000"], 2, "validation.text"),
            (["--set", "prune.mixed=true", "--set", "prune.allocation=uniform"], 2, "prune.mixed"),
            (["--set", "prune.mixed=true", "--set", "prune.cap=0.4"], 2, "prune.mixed"),
            (["--set", "agent.backend=openai"], 2, "base_url"),
            (["--set", "agent.backend=openai", "--set", "agent.base_url=http://127.0.0.1:9/v1", "--set", "agent.model=m",
              "--set", "agent.retries=0", "--set", "agent.fallback=fail"], 69, "127.0.0.1"),
        ]
        for i, (more, code, text) in enumerate(cases):
            for np in (1, 2):
                with self.subTest(more=more, np=np):
                    done = self.prune(self.work / f"refused{i}-{np}", np, *more, code=code)
                    self.assertIn(text, done.stderr)

    def test_a_model_with_nan_weights_is_an_error(self):
        model = self.work / "nan"
        shutil.copytree(SAPLING / "model", model)
        path = model / "model.safetensors"
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[:8], "little")
        at = json.loads(data[8:8 + size])["model.layers.3.mlp.up_proj.weight"]["data_offsets"][0]
        data[8 + size + at:8 + size + at + 2] = b"\xc0\x7f"
        path.write_bytes(data)
        for allocation in ("agent", "uniform"):
            done = self.prune(self.work / f"nan-{allocation}", 2, "--set", f"model.path={model}", "--set",
                              f"prune.allocation={allocation}", code=1)
            self.assertIn("is not a number", done.stderr)
        for more in (["--text", SAPLING / "data" / "test.txt", "--window", "64", "--limit", "256"],
                     ["--mmlu", SAPLING / "data" / "mmlu", "--questions", "5"],
                     ["--freebaseqa", SAPLING / "data" / "freebaseqa-dev.json", "--questions", "5"]):
            done = subprocess.run(mpirun(2, PROGRAM, "eval", "--model", model, *more), env=ENVIRONMENT,
                                  capture_output=True, text=True, timeout=100 * SLOW, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn("not a number" if "--text" in more else "not numbers", done.stderr)

    def test_a_blocked_export_fails_before_any_computing(self):
        run = self.work / "way"
        (run / "model").mkdir(parents=True)
        (run / "model" / "mine.txt").write_text("precious")
        done = self.prune(run, 2, code=74)
        self.assertIn("mine.txt", done.stderr)
        self.assertNotIn("perplexity", done.stderr)
        self.assertEqual((run / "model" / "mine.txt").read_text(), "precious")
        (run / "model").rename(run / "model.part")
        done = self.prune(run, 1, code=74)
        self.assertIn("mine.txt", done.stderr)
        self.assertNotIn("perplexity", done.stderr)

    def test_more_replicas_than_ranks_are_refused(self):
        done = self.prune(self.work / "ranks", 2, "--set", "run.replicas=3", code=2)
        self.assertIn("run.replicas: 3 replicas of the model, but 2 ranks", done.stderr)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
