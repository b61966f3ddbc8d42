#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests jobs/*.sbatch on a real Slurm: two nodes, an array, jobs that run out of time or are cancelled, a chain. All are
submitted from a read-only installation, from another directory, by a user without root.

usage: test_slurm.py BUILD/espalier [unittest arguments]
Exit code 77: no Slurm can run here; the message says why.

The agent of all runs is a scripted endpoint that can delay its answers. This way a test can interrupt a job at a chosen
iteration on a machine of any speed, and waiting costs no processor time."""
import filecmp
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ""
PYTHON = os.environ.get("ESPL_PYTHON", "python3")
NOBODY = 65534  # the user who submits

def configuration(sapling, port):
    """Small: a run takes one or two seconds."""
    data = sapling / "data"
    return {
        "model": {"path": str(sapling / "model")},
        "run": {"export": False, "keep": 3},
        "calibration": {"text": str(data / "calibration.txt"), "window": 64, "forward": 2, "backward": 1},
        "validation": {"text": str(data / "validation.txt"), "window": 64, "windows": 4},
        "report": {"text": str(data / "test.txt"), "window": 32, "limit": 256},
        "prune": {"target": 0.06, "max_step": 0.1, "max_linears": 56, "threshold": 0.5},
        "policy": {"horizon": 2},
        "agent": {"model": "scripted", "api_key_env": "ESPL_TEST_KEY", "retries": 0,
                  "base_url": f"http://127.0.0.1:{port}/v1"},
    }


DECISION = {"reasoning": "up", "reflection": "", "stop": False,
            "prune": {f"layers.{i}.mlp.up_proj": 0.05 for i in range(8)}}


class Endpoint(BaseHTTPRequestHandler):
    """Gives the same answer to every request. With a key "held...", all answers after the second wait until `release`
    is set; with a key "slow", each waits up to 3 s for it."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        with self.server.lock:
            self.server.asked[key] = self.server.asked.get(key, 0) + 1
            number = self.server.asked[key]
        if key.startswith("slow"):
            self.server.release.wait(3)
        elif key.startswith("held") and number > 2:
            self.server.release.wait(200)
        message = {"role": "assistant", "content": json.dumps(DECISION)}
        text = json.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                           "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def start_endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    server.lock, server.asked, server.release = threading.Lock(), {}, threading.Event()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


class Slurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-slurm-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.endpoint = start_endpoint()
        cls.addClassCleanup(cls.endpoint.shutdown)
        cls.install()
        cls.config = cls.work / "config.json"
        cls.config.write_text(json.dumps(configuration(cls.share / "sapling", cls.endpoint.server_port)))
        cls.cluster = cluster.Cluster(cls.work / "slurm")
        cls.cluster.dir.mkdir()
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()
        # ESPL_BIND: the virtual nodes share this machine's cores
        cls.environment = {k: v for k, v in cls.cluster.environment.items() if not k.startswith("ESPL_")}
        cls.environment.update(HOME=str(cls.work), ESPL_BIND="none", ESPL_TEST_KEY="quick", SBATCH_TIMELIMIT="10",
                               OMPI_MCA_rmaps_base_oversubscribe="1")
        cls.whole = cls.work / "whole"
        cls.first = cls.submit("prune", "--nodes=2", "--ntasks=2", run=cls.whole)
        cls.start_interrupted()

    # ------------------------------------------------------------- helpers

    @classmethod
    def install(cls):
        """Installs the build, read-only; the user's files are in cls.work."""
        cls.work.chmod(0o777)
        prefix = cls.work / "prefix"
        cls.share, cls.program = prefix / "share" / "espalier", str(prefix / "bin" / "espalier")
        subprocess.run(["cmake", "--install", BUILD, "--prefix", prefix], check=True, capture_output=True)
        subprocess.run(["chmod", "-R", "a-w,a+rX", prefix], check=True)
        cls.loose_script = cls.work / "prune.sbatch"
        shutil.copy(ROOT / "jobs" / "prune.sbatch", cls.loose_script)

    @classmethod
    def shell(cls, *command, code=0, **environment):
        """Runs a command as a user without root, in a directory that is neither the repository nor the installation."""
        done = subprocess.run(command, env=dict(cls.environment, **environment), cwd=cls.work, capture_output=True,
                              text=True, timeout=120, user=NOBODY, group=NOBODY, extra_groups=[])
        if done.returncode != code:
            raise AssertionError(f"{command}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    @classmethod
    def submit(cls, job, *options, run=None, arguments=(), **environment):
        """Submits jobs/JOB.sbatch with one thread per rank, as the cores are few. Returns the number of the job."""
        if run:
            arguments = (str(cls.config), "--set", f"run.dir={run}", "--set", "agent.backend=openai", *arguments)
        return int(cls.shell("sbatch", "--parsable", "--cpus-per-task=1", *options, str(cls.share / "jobs" / f"{job}.sbatch"),
                             *arguments, **environment).stdout)

    @classmethod
    def log(cls, job):
        return "\n".join(p.read_text(errors="replace")[-4000:] for p in cls.work.glob(f"espalier-*-{job}.out"))

    def wait_for(self, job, condition, what, seconds=150):
        deadline = time.monotonic() + seconds
        while True:
            state = self.cluster.job(job)
            if condition(state):
                return state
            if time.monotonic() > deadline:
                self.fail(f"job {job} is not {what}: {state}\n{self.log(job)}\n{self.cluster.logs()}")
            time.sleep(0.2)

    def wait_for_state(self, job, wanted):
        ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        state = self.wait_for(job, lambda s: s.get("JobState") in ended, "at its end")
        self.assertEqual(state["JobState"], wanted, f"{state}\n{self.log(job)}")
        return state

    def assert_same_run(self, one, other):
        self.assertEqual((one / "summary.json").read_text(), (other / "summary.json").read_text())
        names = sorted(p.name for p in (one / "checkpoints").iterdir())
        self.assertEqual(names, sorted(p.name for p in (other / "checkpoints").iterdir()))
        for name in names:
            self.assertTrue(filecmp.cmp(one / "checkpoints" / name, other / "checkpoints" / name, shallow=False), name)

    def summary(self, run):
        return json.loads((run / "summary.json").read_text())

    # ------------------------------------------------- one run, on two nodes

    def test_a_job_on_two_nodes_completes(self):
        self.wait_for_state(self.first, "COMPLETED")
        manifest = json.loads((self.whole / "manifest.json").read_text())
        self.assertEqual([r["host"] for r in manifest["ranks"]], ["n1", "n2"])
        self.assertEqual(manifest["slurm"]["SLURM_JOB_ID"], str(self.first))
        self.assertGreater(manifest["config"]["run"]["max_minutes"], 5) # minutes to the job's end, less the margin
        self.assertLess(manifest["config"]["run"]["max_minutes"], 8.01)
        self.assertEqual(self.summary(self.whole)["end"], "target reached")

    def test_a_terminal_through_srun_has_the_line_that_is_redrawn(self):
        command = (f"srun --mpi=pmix --pty --nodes=2 --ntasks=2 {self.program} prune {self.config} "
                   f"--set run.dir={self.work}/terminal")
        text = self.shell("script", "--quiet", "--return", "--command", command, "/dev/null", TERM="xterm",
                          OMP_NUM_THREADS="1").stdout
        self.assertRegex(text, r"\033\[Kiteration \d+: [0-9.]+ % of 6 %.* \| ")
        self.assertIn("\033[32maccepted\033[0m", text)

    def test_two_replicas_on_two_nodes_give_the_same_run(self):
        """A node has a replica: two stages."""
        self.wait_for_state(self.first, "COMPLETED")
        job = self.submit("prune", "--nodes=2", "--ntasks=4", "--ntasks-per-node=2", run=self.work / "grid",
                          arguments=("--set", "run.replicas=2"))
        self.wait_for_state(job, "COMPLETED")
        ranks = json.loads((self.work / "grid" / "manifest.json").read_text())["ranks"]
        self.assertEqual([(r["host"], r["replica"]) for r in ranks], [("n1", 0), ("n1", 0), ("n2", 1), ("n2", 1)])
        self.assert_same_run(self.whole, self.work / "grid")

    # --------------------------------------------------------- interruptions

    @classmethod
    def start_interrupted(cls):
        """Starts runs that cannot end before the endpoint is released: one that Slurm signals before its time limit,
        one that stops by itself before its deadline, and one to be cancelled."""
        def start(name, *options, **environment):
            return cls.submit("prune", "--ntasks=2", *options, run=cls.work / name, **environment)
        cls.warned = start("warned", "--time=1", "--signal=B:USR1@45", ESPL_TEST_KEY="held-warned", ESPL_MARGIN="0")
        cls.late = start("late", "--time=1", ESPL_TEST_KEY="slow", ESPL_MARGIN="46", ESPL_LAUNCHER="mpirun")
        cls.cancelled = start("cancelled", ESPL_TEST_KEY="held-cancelled")

    def wait_for_requeue(self, job):
        self.wait_for(job, lambda s: s.get("JobState") == "PENDING" and s.get("Restarts") == "1", "requeued")
        # Slurm delays a requeued job by two minutes. An update that starts it at once conflicts with its old instance.
        time.sleep(2.5)
        return job

    def test_interrupted_jobs_end_as_the_whole_one(self):
        self.wait_for_state(self.first, "COMPLETED")
        checkpoints = self.work / "cancelled" / "checkpoints"
        self.wait_for(self.cancelled, lambda _: (checkpoints / "iteration-000002.h5").exists(), "at iteration 2")
        self.shell("scancel", str(self.cancelled))
        self.wait_for_state(self.cancelled, "CANCELLED")
        self.assertFalse((self.work / "cancelled" / "summary.json").exists())
        requeued = [self.wait_for_requeue(self.late), self.wait_for_requeue(self.warned)]
        for name in ("late", "warned"):
            self.assertFalse((self.work / name / "summary.json").exists(), name)
        self.assertIn("signal USR1", self.log(self.warned))
        self.assertIn("run.max_minutes", self.log(self.late))
        self.endpoint.release.set()
        for job in requeued:
            self.shell("scontrol", "update", f"jobid={job}", "StartTime=now")
        again = self.submit("prune", "--nodes=2", "--ntasks=3", run=self.work / "cancelled")
        for job in (*requeued, again):
            self.wait_for_state(job, "COMPLETED")
        for name in ("late", "warned", "cancelled"):
            with self.subTest(name):
                self.assert_same_run(self.whole, self.work / name)
                self.assertIn('"resume"', (self.work / name / "events.jsonl").read_text())

    def test_no_progress_is_not_repeated(self):
        """A job that never reaches a checkpoint within its time limit must not be requeued forever."""
        short = {"run": self.work / "hopeless", "arguments": ("--set", "run.max_minutes=0.0001")}
        job = self.submit("prune", **short)
        self.wait_for(job, lambda s: s.get("JobState") == "PENDING" and s.get("Restarts") == "1", "requeued")
        self.shell("scancel", str(job)) # this start wrote the dense model's checkpoint; the next makes no progress
        job = self.submit("prune", **short)
        state = self.wait_for_state(job, "FAILED")
        self.assertEqual(state["ExitCode"], "75:0")
        self.assertIn("no checkpoint was reached", self.log(job))

    # ---------------------------------------------------------------- sweep

    def array(self, sweep):
        """Submits what `espalier sweep --slurm` prints. Returns {number: state} of its finished tasks."""
        words = self.shell(self.program, "sweep", str(sweep), "--slurm").stdout.split(" ", 1)
        self.assertEqual(words[0], "sbatch")
        command = f"cd / && sbatch --parsable --cpus-per-task=1 --output={self.work}/%x-%A_%a.out {words[1]}"
        job = self.shell("bash", "-c", command).stdout.strip()
        count = len(self.cluster.tell("squeue", "-h", "-r", "-j", job).splitlines())
        states = {}
        for number in range(1, 10):
            if self.cluster.job(f"{job}_{number}"):
                ended = ("COMPLETED", "FAILED")
                state = self.wait_for(f"{job}_{number}", lambda s: s.get("JobState") in ended, "at its end")
                states[number] = state["JobState"]
        self.assertGreaterEqual(len(states), count)
        return states

    def test_an_array_runs_the_sweep(self):
        gone = self.work / "gone"
        sweep = self.work / "sweep.json"
        sweep.write_text(json.dumps({
            "dir": str(self.work / "sweep"), "base": str(self.config),
            "models": {"sapling": {}, "gone": {"model.path": str(gone), "run.seed": 1, "prune.target": 0.03}},
            "grid": {"prune.target": [0.03, 0.05], "run.seed": [1, 2]}}))
        self.assertEqual(self.array(sweep), {1: "COMPLETED", 2: "COMPLETED", 3: "COMPLETED", 4: "COMPLETED", 5: "FAILED"})
        listed = self.shell(self.program, "sweep", str(sweep), "--list").stdout
        self.assertIn("5 runs: 4 finished, 1 failed", listed)
        self.assertIn("gone: model.path:", listed)
        self.assertEqual(self.summary(self.work / "sweep" / "sapling-target0.05-seed2")["end"], "target reached")
        gone.symlink_to(self.share / "sapling" / "model")
        self.assertEqual(self.array(sweep), {5: "COMPLETED"})
        self.assertEqual(self.shell(self.program, "sweep", str(sweep), "--slurm").stdout, "")

    # ---------------------------------------------------------------- chain

    def has_packages(self):
        """Can PYTHON make reports?"""
        return subprocess.run([PYTHON, "-c", "import h5py, jinja2, matplotlib, pandas, scipy"],
                              capture_output=True, user=NOBODY).returncode == 0

    def chain(self, *arguments, **environment):
        """{name: number} of the submitted jobs."""
        done = self.shell(str(self.share / "jobs" / "chain.sh"), str(self.config), *arguments,
                          ESPL_SBATCH_PRUNE="--cpus-per-task=1", ESPL_SBATCH_EVAL="--cpus-per-task=1", ESPL_PYTHON=PYTHON,
                          ESPL_REPORT="yes" if self.has_packages() else "no", **environment)
        return dict(line.split() for line in done.stderr.splitlines())

    def test_a_chain_runs_prune_eval_and_report(self):
        run = self.work / "chain"
        jobs = self.chain("--set", f"run.dir={run}", "--set", "run.export=true", ESPL_LAUNCHER="mpirun")
        self.assertEqual(list(jobs), ["prune", "eval", "report"] if self.has_packages() else ["prune", "eval"])
        for name in jobs:
            self.wait_for_state(jobs[name], "COMPLETED")
        # the run's own text, window and limit: the same measurement
        evaluated = json.loads((run / "eval.json").read_text())
        self.assertAlmostEqual(evaluated["perplexity"], self.summary(run)["pruned"]["test"]["perplexity"], 6)
        if "report" in jobs:
            self.assertIn("</html>", (run / "report.html").read_text()[-100:])
            self.assertIn(PYTHON, self.log(jobs["report"]))

    def test_chain_after_a_failure(self):
        jobs = self.chain("--set", f"run.dir={self.work}/broken", "--set", "model.path=nowhere")
        self.wait_for_state(jobs["prune"], "FAILED")
        self.wait_for_state(jobs["eval"], "CANCELLED")
        if "report" in jobs:
            self.wait_for_state(jobs["report"], "FAILED")
            self.assertIn("no report of", self.log(jobs["report"]))

    def test_a_chain_without_a_python_for_its_report_is_not_submitted(self):
        done = self.shell(str(self.share / "jobs" / "chain.sh"), str(self.config), code=2, ESPL_PYTHON="/nowhere/python3")
        self.assertIn("ESPL_PYTHON is /nowhere/python3", done.stderr)
        self.assertIn("nothing submitted", done.stderr)

    def test_a_report_job_without_its_python_fails_and_names_it(self):
        job = self.submit("report", arguments=(str(self.work),), ESPL_PYTHON="/nowhere/python3")
        self.wait_for_state(job, "FAILED")
        self.assertIn("ESPL_PYTHON is /nowhere/python3", self.log(job))

    def test_a_script_of_no_repository_says_so(self):
        """Submitted from somewhere else, a script of a clone finds neither slurm.sh nor the program."""
        job = int(self.shell("sbatch", "--parsable", str(self.loose_script), str(self.config)).stdout)
        self.wait_for_state(job, "FAILED")
        self.assertEqual(len(self.log(job).splitlines()), 1, self.log(job))
        self.assertIn("set ESPL_ROOT", self.log(job))

    # -------------------------------------------------------------- scaling

    def test_scaling_measures_each_number_of_ranks(self):
        job = self.submit("scaling", "--ntasks=2", arguments=(str(self.config), "--set", f"run.dir={self.work}/scaling"),
                          ESPL_SCALING_ITERATIONS="1")
        self.wait_for_state(job, "COMPLETED")
        rows = (self.work / "scaling" / "scaling.md").read_text().splitlines()
        self.assertEqual([r.split("|")[1].strip() for r in rows[2:4]], ["1", "2"])
        for row in rows[2:4]:
            self.assertTrue(all(float(cell) > 0 for cell in row.split("|")[2:8]), row)


def main():
    global BUILD
    why = cluster.missing()
    if why:
        print(f"skipped: {why}", file=sys.stderr)
        sys.exit(77)
    BUILD = os.path.dirname(os.path.abspath(sys.argv.pop(1)))
    unittest.main(verbosity=2)


if __name__ == "__main__":
    main()
