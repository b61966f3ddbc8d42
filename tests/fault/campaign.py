#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A campaign of interruptions: runs, one-shot runs, sweeps and exports on a random model that is pruned in a second are
killed, stopped, starved and started twice, at random moments and at random fault sites, and continued on another number
of ranks. Each must end with the bytes of an uninterrupted run.

A failure is: a death by a signal that nobody sent, an exit code or a missing message that docs/run.md does not allow, a
program that does not end, a resume behind a checkpoint that stood, a result that differs, a file that is left behind, a
log that lacks a line.

usage: tests/fault/campaign.py ESPALIER MAKE_RANDOM_MODEL [--kills N] [--seed S] [--jobs J] [--case I] [--verbose]
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from common import ENVIRONMENT, SLOW, alone_environment, mpirun  # noqa: E402

HANGS = 60 * SLOW  # seconds after which a program counts as stuck; the longest takes two
# mpirun of Open MPI 4.1 sometimes waits for ever for a rank that was killed before it had left MPI_Init. Such an mpirun has no
# ranks any more. It is killed after these seconds, counted, and no failure of the program.
LAUNCHER_HANGS = 10 * SLOW
hung_launchers = []
SHAPE = "--layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(120))
ENDS = {"done": 0, "failed": 1, "refused": 2, "io": 74, "stopped": 75}


class Wrong(Exception):
    """What a case has found."""


# ---------------------------------------------------------------- processes

class Process:
    """A command on some ranks (0: without mpirun, so that limits on files hold for the program alone)."""

    def __init__(self, place, words, ranks, limit=None, **environment):
        command = mpirun(ranks, *words) if ranks else [str(w) for w in words]

        def begin():
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; a shell does not
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        self.ranks, self.words, self.began, self.seen = ranks, words, time.monotonic(), []
        self.log = tempfile.TemporaryFile("w+")  # a pipe would be held open by ranks that outlive their mpirun
        settings = alone_environment(place.sessions)
        self.session = settings["TMPDIR"]
        if ranks:  # a killed mpirun leaves its session, and shared memory, which would fill /dev/shm
            settings = {**ENVIRONMENT, "TMPDIR": self.session, "OMPI_MCA_btl_vader_backing_directory": self.session}
        self.job = subprocess.Popen(command, env={**settings, **environment}, stdin=subprocess.DEVNULL, stderr=self.log,
                                    stdout=subprocess.DEVNULL, preexec_fn=begin if limit else None)

    def rank_ids(self):
        """Of the processes of the program, as far as they have begun; those that were seen, once mpirun is gone."""
        if not self.ranks:
            return [self.job.pid]
        self.seen = self.children() or self.seen
        return self.seen

    def children(self):
        try:
            with open(f"/proc/{self.job.pid}/task/{self.job.pid}/children", encoding="ascii") as f:
                return [int(pid) for pid in f.read().split()]
        except OSError:
            return []

    def signal(self, pid, number):
        try:
            os.kill(pid, number)
            return True
        except ProcessLookupError:
            return False

    def end(self):
        """(exit code, signal of the death or 0, what it said). Ranks without an mpirun must end, too."""
        deadline = time.monotonic() + HANGS
        alone_since = None  # mpirun has lost all its ranks
        while self.job.poll() is None or any(alive(pid) for pid in self.rank_ids()):
            now = time.monotonic()
            lost = self.ranks and self.seen and not any(alive(pid) for pid in self.rank_ids()) and self.job.poll() is None
            alone_since = (alone_since or now) if lost else None
            if alone_since and now - alone_since > LAUNCHER_HANGS:
                hung_launchers.append(self)
                self.job.kill()
            elif now > deadline:
                for pid in [*self.rank_ids(), self.job.pid]:
                    self.signal(pid, signal.SIGKILL)
                self.job.wait()
                raise Wrong(f"stuck: {' '.join(map(str, self.words))}\n{self.said()[-2000:]}")
            time.sleep(0.02)
        shutil.rmtree(self.session, ignore_errors=True)
        code, text = self.job.returncode, self.said()
        by = -code if code < 0 else 0
        told = re.search(r"exited on signal (\d+)", text)
        return code, int(told.group(1)) if told else by, text

    def said(self):
        self.log.seek(0)
        return self.log.read()


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


# ----------------------------------------------------------------- commands

class Command:
    """What is interrupted: how it begins, and which run directories it fills."""

    def __init__(self, place, name, more=(), over=None, sweep=False):
        self.place, self.name, self.more, self.over, self.sweep = place, name, more, over, sweep
        self.runs = ["wanda-target0.1", "wanda-target0.2"] if sweep else [""]

    def begin(self, directory):
        if self.over:  # an export over an earlier one
            shutil.copytree(self.over, directory)
            (directory / "summary.json").unlink()
        if self.sweep:
            directory.with_suffix(".json").write_text(json.dumps({
                "dir": str(directory), "base": str(self.place.config), "grid": {"prune.target": [0.1, 0.2]},
                "methods": {"wanda": {"prune.allocation": "uniform", "prune.score": "wanda"}}}))

    def words(self, directory):
        if self.sweep:
            return [self.place.program, "sweep", directory.with_suffix(".json")]
        return [self.place.program, "prune", self.place.config, "--resume", "--set", f"run.dir={directory}", *self.more]

    def measure(self):
        """The uninterrupted run: its files, seconds, size, and passages of fault sites."""
        self.whole, listed = self.place.work / f"{self.name}-whole", self.place.work / f"{self.name}-sites"
        self.begin(self.whole)
        job = Process(self.place, self.words(self.whole), 0, ESPL_FAULT_LIST=str(listed))
        code, _, text = job.end()
        if code != 0:
            raise SystemExit(f"{self.name} fails without an interruption: {text}")
        self.begin(other := self.place.work / f"{self.name}-timed")
        self.seconds = {}
        for ranks in (0, 2):
            shutil.rmtree(other, ignore_errors=True)
            self.begin(other)
            job = Process(self.place, self.words(other), ranks)
            job.end()
            self.seconds[ranks] = time.monotonic() - job.began
        shutil.rmtree(other)
        passed = collections.Counter(line.split()[0] for line in listed.read_text().splitlines())
        self.allocations = passed.pop("memory.alloc")
        self.sites = sorted(passed.items())
        self.bytes = sum(p.stat().st_size for p in self.whole.rglob("*") if p.is_file())
        self.content = {run: content_of(self.whole / run) for run in self.runs}


class Place:
    """The model, and the commands on it."""

    def __init__(self, program, make_model, work):
        self.program, self.work, self.sessions = program, work, work / "mpi"
        self.sessions.mkdir()
        self.model, self.config, text = work / "model", work / "run.json", work / "text"
        text.write_text(TEXT)
        subprocess.run([make_model, *SHAPE, self.model], check=True, capture_output=True)
        self.config.write_text(json.dumps({
            "model": {"path": str(self.model)},
            "calibration": {"text": str(text), "window": 64, "forward": 4, "backward": 2},
            "validation": {"text": str(text), "window": 64, "windows": 4},
            "prune": {"target": 0.3, "max_step": 0.2, "max_linears": 8, "threshold": 1000, "max_iterations": 6}}))
        sparsegpt = "--set prune.allocation=uniform --set prune.update=sparsegpt --set prune.score=wanda".split()
        self.commands = [Command(self, "run"), Command(self, "oneshot", sparsegpt), Command(self, "sweep", sweep=True)]
        for command in self.commands:
            command.measure()
        self.commands.append(Command(self, "export", over=self.commands[0].whole))
        self.commands[-1].measure()


def content_of(run):
    """The files that do not depend on time or place."""
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(run.rglob("*"))
            if p.is_file() and (p.suffix == ".h5" or p.parent.name == "model" or p.name == "summary.json")}


# ------------------------------------------------------------ interruptions

def wait_and(send):
    """An interruption that strikes at a random moment: send(case, process) says whether it was still in time."""
    def strike(case, ranks):
        job = case.start(ranks)
        longest = case.command.seconds[2 if ranks else 0]
        time.sleep(case.random.uniform(0, 1.05) * longest)
        hit = job.job.poll() is None and send(case, job)
        return hit, job
    return strike


def kill_rank(case, job):
    ranks = job.rank_ids()
    return bool(ranks) and job.signal(case.random.choice(ranks), signal.SIGKILL)


def kill_launcher(case, job):
    job.rank_ids()  # as long as mpirun can be asked
    return job.signal(job.job.pid, signal.SIGKILL)


def send_usr1(case, job):
    ranks = job.rank_ids()
    return catches(ranks, signal.SIGUSR1) and job.signal(case.random.choice([job.job.pid, *ranks]), signal.SIGUSR1)


def send_term(case, job):
    """To the ranks, as Slurm does."""
    ranks = job.rank_ids()
    return catches(ranks, signal.SIGTERM) and any([job.signal(pid, signal.SIGTERM) for pid in ranks])


def catches(ranks, number):
    """Whether all ranks have begun and catch the signal: before main() nobody can, and Open MPI 4's mpirun sometimes
    waits for ever for a rank that died so early."""
    def caught(pid):
        try:
            with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
                return int(re.search(r"^SigCgt:\s*([0-9a-f]+)", f.read(), re.M).group(1), 16) >> (number - 1) & 1
        except (OSError, AttributeError):
            return False
    return bool(ranks) and all(caught(pid) for pid in ranks)


def put_stop_file(case, job):
    run = case.directory / case.random.choice(case.command.runs)
    try:
        (run / "stop").touch()
    except OSError:
        return False
    return True


def kill_at_site(case, ranks):
    site, count = case.random.choice(case.command.sites)
    rank = case.random.randrange(max(1, ranks)) if case.random.random() < 0.3 else 0
    job = case.start(ranks, ESPL_FAULT=f"{site}:{rank}:{case.random.randint(1, count)}:kill")
    return None, job


def fail_at_site(case, ranks):
    """The system refuses something, as a disk that breaks."""
    site, count = case.random.choice(case.command.sites)
    return None, case.start(ranks, ESPL_FAULT=f"{site}:0:{case.random.randint(1, count)}")


def fail_allocation(case, ranks):
    rank = case.random.randrange(max(1, ranks))
    return None, case.start(ranks, ESPL_FAULT=f"memory.alloc:{rank}:{case.random.randint(1, case.command.allocations)}")


def limit_files(case, ranks):
    return None, case.start(0, limit=case.random.choice((1, 4, 16, 32, 48, 64, 100, 200, 280)) * 1024)


def fill_disk(case, ranks):
    """The run moves onto a disk that is too small, and stays there when the disk is enlarged."""
    if not case.on_disk:
        hidden = case.directory.with_suffix(".saved")
        case.directory.mkdir(exist_ok=True)
        case.directory.rename(hidden)
        case.directory.mkdir()
        case.mount("remount,size=100m" if case.on_disk else "size=100m")
        shutil.copytree(hidden, case.directory, dirs_exist_ok=True)
        shutil.rmtree(hidden)
    disk = os.statvfs(case.directory)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    case.mount(f"remount,size={int(used + case.random.uniform(0.05, 0.9) * case.command.bytes) // 4096 * 4 + 8}k")
    job = case.start(ranks)
    job.job.wait(timeout=HANGS)
    case.mount("remount,size=100m")
    return None, job


def start_twice(case, ranks):
    """A second start beside the first, which is then killed."""
    job = case.start(ranks)
    longest = case.command.seconds[2 if ranks else 0]
    time.sleep(case.random.uniform(0, 0.9) * longest)
    second = case.start(case.random.randrange(3))
    time.sleep(case.random.uniform(0, 0.2) * longest)
    hit = job.job.poll() is None and kill_rank(case, job)
    case.ended(second, {"done", "refused", "failed"} if case.command.sweep else {"done", "refused"}, set(), "second start")
    return hit, job


# name: what strikes, the ends that it allows besides 0, signals that it sends, whether it needs mpirun
Kind = collections.namedtuple("Kind", "strike ends signals needs_ranks")
KILLED = {signal.SIGKILL}
KINDS = {
    "kill a rank": Kind(wait_and(kill_rank), {"killed"}, KILLED, False),
    "kill mpirun": Kind(wait_and(kill_launcher), {"killed"}, KILLED, True),
    "kill at a fault site": Kind(kill_at_site, {"killed"}, KILLED, False),
    "USR1": Kind(wait_and(send_usr1), {"stopped", "killed"}, {signal.SIGUSR1}, False),
    "TERM": Kind(wait_and(send_term), {"stopped", "killed"}, {signal.SIGTERM}, False),
    "stop file": Kind(wait_and(put_stop_file), {"stopped"}, set(), False),
    "refusal of the system": Kind(fail_at_site, {"io", "failed"}, set(), False),
    "failing allocation": Kind(fail_allocation, {"failed"}, set(), False),
    "file-size limit": Kind(limit_files, {"io"}, set(), False),
    "full disk": Kind(fill_disk, {"io"}, set(), False),
    "two resumers": Kind(start_twice, {"killed", "refused"}, KILLED, False),
}


# -------------------------------------------------------------------- cases

class Case:
    """One directory that is interrupted one to three times, continued and compared."""

    def __init__(self, place, seed, number, mounts):
        self.random = random.Random(f"{seed}:{number}")
        self.number, self.place = number, place
        self.command = self.random.choice(place.commands)
        self.directory = place.work / f"case{number}"
        self.kinds = [k for k in KINDS if mounts or k != "full disk"]
        self.on_disk, self.stood, self.struck, self.story = False, {}, [], []

    def start(self, ranks, **more):
        place = f"on {ranks} ranks" if ranks else "alone"
        self.story.append(f"{self.command.name} {place} {more or ''}")
        job = Process(self.place, self.command.words(self.directory), ranks, **more)
        job.stood = dict(self.stood)  # when it began: another start may get further meanwhile
        return job

    def mount(self, options):
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", self.directory], check=True, capture_output=True)
        self.on_disk = True

    def ended(self, job, ends, signals, what):
        """Checks how a process ended, and that it did not go back behind what stood before."""
        code, by, text = job.end()
        self.story.append(f"{what}: exit {code}, signal {by}")
        if by and by not in signals:
            raise Wrong(f"death by signal {by}, which was not sent:\n{text[-3000:]}")
        allowed = {ENDS[e] for e in ends - {"killed"}} | {0} | ({1} if self.command.sweep else set())
        if not by and code not in allowed and not ("killed" in ends and code > 128):
            raise Wrong(f"exit code {code}, expected one of {sorted(allowed)}:\n{text[-3000:]}")
        if not by and code not in (0, 128 + signal.SIGKILL) and not text.strip():
            raise Wrong(f"exit code {code} without a message")
        for run, newest in job.stood.items():
            at = re.search(rf"continuing from {re.escape(str(self.directory / run))}/checkpoints/iteration-(\d+)", text)
            if at and int(at.group(1)) < newest:
                raise Wrong(f"{run}: iteration {newest} stood, and it continues from {int(at.group(1))}:\n{text[-3000:]}")
        self.look()
        return code

    def look(self):
        """Remembers the newest checkpoint of each run: none may ever be lost again."""
        for run in self.command.runs:
            here = [int(p.stem[-6:]) for p in (self.directory / run / "checkpoints").glob("iteration-*.h5")]
            newest = max(here, default=-1)
            if newest < self.stood.get(run, -1):
                raise Wrong(f"{run}: iteration {self.stood[run]} stood, now {newest} is the newest checkpoint")
            self.stood[run] = newest

    def interrupt(self):
        name = self.random.choice(self.kinds)
        kind, ranks = KINDS[name], self.random.randrange(4)
        if kind.needs_ranks and ranks == 0:
            ranks = 2
        self.story.append(name)
        hit, job = kind.strike(self, ranks)
        code = self.ended(job, kind.ends, kind.signals, name)
        self.struck.append((name, code != 0 if hit is None else hit and code != 0))

    def finish(self):
        """Continues until the command is done. A stop file that came too late for the last start stops one more."""
        for _ in range(4):
            job = self.start(self.random.randrange(4))
            if self.ended(job, {"stopped"}, set(), "continued") == 0:
                break
        else:
            raise Wrong("it cannot be continued to its end")
        for run in self.command.runs:
            self.compare(self.directory / run, self.command.content[run])
        left = [str(p.relative_to(self.directory)) for p in self.directory.rglob("*")
                if p.suffix in (".part", ".old", ".damaged") or p.name.startswith("lock")
                or p.parent.name == "checkpoints" and p.suffix != ".h5"]
        if left:
            raise Wrong(f"left behind: {left}")

    def compare(self, run, expected):
        found = content_of(run)
        differing = [n for n in sorted({*found, *expected}) if found.get(n) != expected.get(n)]
        if differing:
            raise Wrong(f"differs from the uninterrupted run: {differing}")
        summary = json.loads(expected["summary.json"])
        for name, kind in (("events.jsonl", "outcome"), ("dialogue.jsonl", "decision")):
            lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
            iterations = [line["iteration"] for line in lines if line["type"] == kind]
            wanted = list(range(1, summary["iterations"] + 1))
            if iterations != (wanted if name == "events.jsonl" or self.command.name in ("run", "export") else []):
                raise Wrong(f"{name}: lines \"{kind}\" of the iterations {iterations}")
            if any(line["type"] == "repair" for line in lines):
                raise Wrong(f"{name} was repaired: a kill must not damage it")

    def carry_out(self):
        """What went wrong, or None."""
        try:
            self.command.begin(self.directory)
            self.look()
            for _ in range(self.random.randint(1, 3)):
                self.interrupt()
            self.finish()
        except Exception as e:  # of the campaign itself, too: the other directories must go on
            told = str(e) if isinstance(e, Wrong) else traceback.format_exc()
            return f"case {self.number}: " + "\n  ".join([*self.story, told])
        finally:
            if self.on_disk:
                subprocess.run(["umount", "-l", self.directory], check=False)
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory.with_suffix(".json").unlink(missing_ok=True)
        return None


# ----------------------------------------------------------------- campaign

def can_mount(work):
    disk = work / "disk"
    disk.mkdir()
    allowed = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "none", disk], capture_output=True).returncode == 0
    if allowed:
        subprocess.run(["umount", disk], check=True)
    return allowed


def campaign(place, options):
    mounts = can_mount(place.work)
    if not mounts:
        print("skipped: full disks: mounting is not allowed")
    sent, hit, failures, lock = collections.Counter(), collections.Counter(), [], threading.Lock()
    numbers = iter([options.case] if options.case is not None else range(20 * options.kills))

    def work():
        while True:
            with lock:
                number = next(numbers, None) if hit.total() < options.kills else None
            if number is None:
                return
            case = Case(place, options.seed, number, mounts)
            wrong = case.carry_out()
            with lock:
                sent.update(name for name, _ in case.struck)
                hit.update(name for name, struck in case.struck if struck)
                if wrong:
                    failures.append(wrong)
                    print(wrong, flush=True)
                elif options.verbose:
                    print(f"case {number}: " + "; ".join(case.story), flush=True)
                counts[0] += 1

    counts, began = [0], time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(work) for _ in range(options.jobs)]:
            done.result()
    for name in KINDS:
        print(f"{name:24} {hit[name]:5} of {sent[name]} interrupted the program")
    print(f"seed {options.seed}: {hit.total()} interruptions in {counts[0]} directories, {time.monotonic() - began:.0f} s, "
          f"{len(failures)} failures" + (f"; mpirun waited for no rank {len(hung_launchers)} times" if hung_launchers else ""))
    return 1 if failures or hit.total() < (1 if options.case is not None else options.kills) else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("espalier")
    parser.add_argument("make_random_model")
    parser.add_argument("--kills", type=int, default=50, help="interruptions that strike a living program")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="directories at a time")
    parser.add_argument("--case", type=int, help="this one only")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    programs = [os.path.abspath(p) for p in (options.espalier, options.make_random_model)]
    # In memory where that is possible: on a disk, flushing takes most of the time of such small runs.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-campaign-", dir=memory))
    try:
        return campaign(Place(*programs, work), options)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
