#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a user sees of a run: its log in a file and on a terminal, with and without mpirun, and `espalier status`.

usage: test_status.py ESPALIER [unittest arguments]
"""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import common

SAPLING = common.SAPLING
PROGRAM = ""
CONFIG = {
    "model": {"path": str(SAPLING / "model")},
    "run": {"export": False},
    "calibration": {"text": str(SAPLING / "data/calibration.txt"), "window": 64, "forward": 2, "backward": 1},
    "validation": {"text": str(SAPLING / "data/validation.txt"), "window": 64, "windows": 8},
    "prune": {"target": 0.2, "max_step": 0.05, "max_linears": 28, "threshold": 0.5},
    "policy": {"horizon": 8},
}
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ")
OUTCOME = re.compile(r"^ *\d+ \[[#+.|]{10}\] ")


class Status(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-status-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.config = cls.work / "config.json"
        cls.config.write_text(json.dumps(CONFIG))
        cls.run_dir = cls.work / "whole"
        cls.log = cls.prune(cls.run_dir, 2).stderr

    @classmethod
    def command(cls, run, *options):
        return [PROGRAM, "prune", str(cls.config), "--set", f"run.dir={run}", *options]

    @classmethod
    def prune(cls, run, ranks, *options):
        done = subprocess.run(common.mpirun(ranks, *cls.command(run, *options)), env=common.ENVIRONMENT, capture_output=True,
                              text=True)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return done

    def on_terminal(self, command, **environment):
        """What the command writes to a terminal of 80 columns."""
        pid, fd = pty.fork()
        if pid == 0:
            os.environ.update(common.ENVIRONMENT, TERM="xterm", **environment)
            os.execvp(command[0], command)
        text = b""
        while True:
            try:
                part = os.read(fd, 65536)
            except OSError:  # the terminal is closed
                break
            if not part:
                break
            text += part
        os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0, text)
        return text.decode()

    def status(self, *arguments, code=0):
        done = subprocess.run([PROGRAM, "status", *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code == 0 else done.stderr

    # ---------------------------------------------------------------- log

    def test_a_log_file_has_dates_and_a_line_per_iteration(self):
        lines = self.log.splitlines()
        for line in lines:
            self.assertTrue(STAMP.match(line) or line.startswith("      "), line)
        heads = [line[STAMP.match(line).end():] for line in lines if STAMP.match(line)]
        outcomes = [line for line in heads if OUTCOME.match(line)]
        events = [json.loads(line) for line in (self.run_dir / "events.jsonl").read_text().splitlines()]
        self.assertEqual(len(outcomes), sum(e["type"] == "outcome" for e in events))
        self.assertGreater(len(outcomes), 5)
        self.assertNotIn("\033", self.log)

    def test_progress_is_a_small_part_of_a_log(self):
        """At most one line a minute: this run takes seconds."""
        lines = self.log.splitlines()
        progress = [line for line in lines if "progress: " in line]
        self.assertLessEqual(len(progress), 0.1 * len(lines), self.log)

    def test_reasons_are_whole(self):
        decisions = [json.loads(line) for line in (self.run_dir / "dialogue.jsonl").read_text().splitlines()]
        text = " ".join(self.log.split())
        reasons = [d["decision"]["reasoning"] for d in decisions if d["type"] == "decision"]
        self.assertGreater(max(map(len, reasons)), 200)
        for reason in reasons:
            self.assertIn(" ".join(reason.split()), text)

    def test_a_terminal_gets_one_line_that_is_redrawn_and_colours(self):
        for name, launcher in (("alone", []), ("mpirun", common.mpirun(2))):
            with self.subTest(name):
                text = self.on_terminal([*launcher, *self.command(self.work / f"tty-{name}")])
                self.assertIn("\r\033[K", text)
                self.assertRegex(text, r"iteration \d+: [0-9.]+ % of 20 %, about \d+ s left \| ")
                self.assertIn("\033[32maccepted\033[0m", text)
                self.assertNotRegex(text, STAMP)
                for line in re.findall(r"\r\033\[K([^\r\n]*)", text):
                    self.assertLess(len(line), 200)
                plain = re.sub(r"\033\[[0-9;]*[mK]", "", text)
                outcomes = [line for line in re.split(r"[\r\n]+", plain) if OUTCOME.match(line)]
                self.assertGreater(len(outcomes), 1)
                for line in outcomes:
                    self.assertLessEqual(len(line), 80, line)

    def test_colours_and_the_line_can_be_refused(self):
        text = self.on_terminal(self.command(self.work / "plain"), NO_COLOR="1")
        self.assertIn("accepted, took", text)
        self.assertNotIn("\033[32m", text)
        text = self.on_terminal(self.command(self.work / "dated", "--progress=log"))
        self.assertNotIn("\033", text)
        self.assertRegex(text, STAMP)

    def test_the_line_can_be_asked_for_in_a_pipe(self):
        self.assertIn("\033[K", self.prune(self.work / "line", 1, "--progress=line").stderr)

    # ------------------------------------------------------------- status

    def test_status_of_a_finished_run(self):
        text = self.status(self.run_dir)
        summary = json.loads((self.run_dir / "summary.json").read_text())
        self.assertIn("whole: finished\n", text)
        self.assertIn(f"{summary['iterations']} iterations, {summary['rollbacks']} rolled back; 20.00 % of the linears", text)
        run, = json.loads(self.status(self.run_dir, "--json"))["runs"]
        self.assertEqual((run["state"], run["end"]), ("finished", "target reached"))
        self.assertAlmostEqual(run["perplexity"], summary["pruned"]["validation"]["perplexity"], 6)
        self.assertIsNone(run["seconds_left"])

    def test_status_follows_a_run_to_its_end(self):
        run = self.work / "followed"
        job = subprocess.Popen(self.command(run, "--set", "prune.max_step=0.002", "--set", "policy.horizon=300", "--set",
                                            "prune.max_iterations=1000"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=common.ENVIRONMENT)
        try:
            deadline = time.monotonic() + 60
            while not (run / "events.jsonl").exists() or '"outcome"' not in (run / "events.jsonl").read_text():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
            state, = json.loads(self.status(run, "--json"))["runs"]
            self.assertEqual(state["state"], "running")
            self.assertIn("process", state["holder"])
            self.assertGreater(state["seconds_left"], 0)
            self.assertRegex(self.status(run), r"about \d+ (s|min) left")
            follow = subprocess.Popen([PROGRAM, "status", run, "--follow"], stdout=subprocess.PIPE, text=True)
            followed = follow.stdout.readline()
            job.send_signal(signal.SIGUSR1)
            followed += follow.communicate(timeout=60)[0]
        finally:
            job.kill()
            job.wait()
        self.assertIn("followed: running (", followed)
        self.assertIn("followed: interrupted; --resume continues it", followed)

    def test_status_of_a_sweep(self):
        sweep = self.work / "sweep.json"
        sweep.write_text(json.dumps({"dir": str(self.work / "sweep"), "base": str(self.config),
                                     "set": {"prune.allocation": "uniform"}, "grid": {"prune.target": [0.1, 0.2]}}))
        subprocess.run([PROGRAM, "sweep", sweep, "--only", "1", "--quiet"], check=True, stdout=subprocess.DEVNULL,
                       env=common.ENVIRONMENT)
        text = self.status(sweep)
        self.assertIn("2 runs: 1 not started, 1 finished", text)
        self.assertEqual(len(text.splitlines()), 4)
        self.assertIn("1 run: 1 finished", self.status(self.work / "sweep"))

    def test_status_of_nothing(self):
        empty = self.work / "empty"
        empty.mkdir()
        self.assertIn("holds no run directory", self.status(empty, code=74))
        self.assertIn("nowhere", self.status(self.work / "nowhere", code=74))
        self.assertIn("is missing", self.status(code=2))


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
