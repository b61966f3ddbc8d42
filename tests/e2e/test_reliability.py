#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What docs/reliability.md promises, on a random model that is pruned in a second: another model is refused; a kill at any
place leaves nothing that the next start does not clean up; one directory has one run; limits and failing
allocations are messages; a model that changes is noticed; links lead nowhere.

tests/e2e/test_reliability.py ESPALIER MAKE_RANDOM_MODEL [unittest arguments]
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from common import ENVIRONMENT, SLOW, alone_environment, mpirun

ESPALIER, MAKE_MODEL = (os.path.abspath(p) for p in sys.argv[1:3])
SHAPE = "--layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(120))


class Case(unittest.TestCase):
    """A model, and a finished run of it."""

    @classmethod
    def setUpClass(cls):
        # In memory where that is possible: on a disk, flushing takes most of the time of such small runs.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        cls.work = pathlib.Path(tempfile.mkdtemp(prefix="espalier-reliability-", dir=memory))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.model, cls.whole, cls.text = cls.work / "model", cls.work / "whole", cls.work / "text"
        cls.text.write_text(TEXT)
        subprocess.run([MAKE_MODEL, *SHAPE, cls.model], check=True, capture_output=True)
        cls.config = cls.work / "run.json"
        cls.config.write_text(json.dumps({
            "model": {"path": str(cls.model)},
            "calibration": {"text": str(cls.text), "window": 64, "forward": 4, "backward": 2},
            "validation": {"text": str(cls.text), "window": 64, "windows": 4},
            "prune": {"target": 0.3, "max_step": 0.2, "max_linears": 8, "threshold": 1000, "max_iterations": 6}}))
        cls().prune(cls.whole)
        settle(cls.model) # or whether hashes are kept would depend on the time

    def command(self, run, *more, ranks=1):
        return mpirun(ranks, ESPALIER, "prune", self.config, "--set", f"run.dir={run}", *more)

    def prune(self, run, *more, ranks=1, code=0, environment=None):
        """The end of a run; code None: any but 0."""
        done = subprocess.run(self.command(run, *more, ranks=ranks), env={**ENVIRONMENT, **(environment or {})},
                              capture_output=True, text=True, timeout=120 * SLOW)
        if code is None and done.returncode == 0 or code is not None and done.returncode != code:
            raise AssertionError(f"exit {done.returncode}, expected {code}: {done.stderr[-3000:]}")
        return done

    def alone(self, *words, **environment):
        """Without mpirun."""
        return subprocess.run([ESPALIER, *map(str, words)], env={**alone_environment(self.work), **environment},
                              capture_output=True, text=True, timeout=120 * SLOW)

    def unfinished(self, name):
        """A copy of the run without its end."""
        run = self.work / name
        shutil.copytree(self.whole, run)
        (run / "summary.json").unlink()
        return run

    def assert_same_run(self, one, other):
        def files(run):
            names = [p for p in run.rglob("*") if p.is_file()]
            return {str(p.relative_to(run)): p.read_bytes() for p in names
                    if p.parent.name in ("checkpoints", "model") or p.name == "summary.json"}
        a, b = files(one), files(other)
        self.assertEqual(sorted(a), sorted(b))
        for name, content in a.items():
            self.assertEqual(content, b[name], name)


# ---------------------------------------------------------------- identity

def change_tensor(model, name):
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    at, end = json.loads(data[8:start])[name]["data_offsets"]
    data[start + (at + end) // 2] ^= 1  # of some weight, the lowest bit of its mantissa
    path.write_bytes(data)


def change_config(model, key, value):
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def change_tokenizer(model):
    path = model / "tokenizer.json"
    path.write_text(path.read_text() + "\n")


CHANGES = {
    "weights": lambda m: change_tensor(m, "model.layers.1.mlp.up_proj.weight"),
    "embedding": lambda m: change_tensor(m, "model.embed_tokens.weight"),
    "norms": lambda m: change_tensor(m, "model.layers.2.self_attn.k_norm.weight"),
    "norms ": lambda m: change_tensor(m, "model.norm.weight"),
    "rope_theta (1000000 there, 20000 now)": lambda m: change_config(m, "rope_theta", 20000.0),
    "rms_norm_eps (": lambda m: change_config(m, "rms_norm_eps", 2e-6),
    "eos_token_id": lambda m: [change_config(m, "eos_token_id", 5), (m / "generation_config.json").unlink(True)],
    "tokenizer": change_tokenizer,
}


class Identity(Case):
    def test_another_model_is_refused_by_resume_and_by_mask(self):
        mask = sorted((self.whole / "checkpoints").iterdir())[-1]
        for i, (what, change) in enumerate(CHANGES.items()):
            ranks, run, other = 1 + i % 3, self.unfinished(f"run{i}"), self.work / f"other{i}"
            with self.subTest(changed=what):
                shutil.copytree(self.model, other)
                change(other)
                done = self.prune(run, "--resume", "--set", f"model.path={other}", ranks=ranks, code=2)
                self.assertIn(f"(different: {what.strip()}", done.stderr)
                done = subprocess.run(mpirun(ranks, ESPALIER, "score", "--model", other, "--mask", mask, "--quiet"),
                                      input="text", env=ENVIRONMENT, capture_output=True, text=True, timeout=60 * SLOW)
                self.assertEqual(done.returncode, 2, done.stderr)
                self.assertIn(f"(different: {what.strip()}", done.stderr)

    def test_the_model_may_move(self):
        run, other = self.unfinished("moved"), self.work / "elsewhere" / "model"
        shutil.copytree(self.model, other)
        done = self.prune(run, "--resume", "--set", f"model.path={other}", ranks=2)
        self.assertNotIn("does not record", done.stderr)
        self.assert_same_run(self.whole, run)

    def test_hashes_are_kept_while_the_files_do_not_change(self):
        run = self.work / "kept"
        self.prune(run)
        (run / "summary.json").unlink()
        cache = run / "model-hashes.json"
        self.assertIn("unchanged since its tensors were hashed", self.prune(run, "--resume", ranks=3).stderr)
        for damage in ("{", cache.read_text().replace('"check": "', '"check": "0'),
                       cache.read_text().replace("bytes=", "bytes=1"), "[]", '{"files": 3}'):
            (run / "summary.json").unlink()
            cache.write_text(damage)
            self.assertNotIn("unchanged since", self.prune(run, "--resume", ranks=2).stderr)
            self.assert_same_run(self.whole, run)
        (run / "summary.json").unlink()
        self.addCleanup(shutil.move, shutil.copytree(self.model, self.work / "saved"), self.model)
        self.addCleanup(shutil.rmtree, self.model)
        before = (self.model / "model.safetensors").stat()
        change_tensor(self.model, "model.embed_tokens.weight")
        os.utime(self.model / "model.safetensors", ns=(before.st_atime_ns, before.st_mtime_ns))
        self.assertIn("(different: embedding)", self.prune(run, "--resume", code=2).stderr)


# ------------------------------------------------------------------- kills

class Kills(Case):
    """Killed at each fault site that a command passes, at its first and its last passage, then started again."""

    def sites(self, *words):
        """(site, passage) of a command, which is carried out."""
        listed = self.work / "sites"
        listed.unlink(missing_ok=True)
        done = self.alone(*words, ESPL_FAULT_LIST=str(listed))
        self.assertEqual(done.returncode, 0, done.stderr)
        passed = [line.split()[0] for line in listed.read_text().splitlines()]
        counts = {site: passed.count(site) for site in dict.fromkeys(passed)}
        # All passages of file.*: each is another file. The others work on the same kind of file again and again.
        counts.pop("memory.alloc", None)  # where a process dies between two sites makes no difference to the files
        return [(site, n) for site, count in counts.items()
                for n in (range(1, count + 1) if site.startswith("file.") else sorted({1, count}))]

    def assert_clean(self, directory):
        left = [p for p in directory.rglob("*") if p.suffix in (".part", ".old", ".damaged") or "lock" in p.name
                or p.parent.name == "checkpoints" and p.suffix != ".h5"]
        self.assertEqual(left, [])

    def kill_everywhere(self, name, words, begin, expected, wanted):
        """words(directory): the command; begin(directory): what exists before; expected: the sites that must be among
        those of the command."""
        whole = self.work / f"{name}-whole"
        begin(whole)
        sites = self.sites(*words(whole))
        self.assertLessEqual(set(expected), {site for site, _ in sites})
        self.assert_clean(whole)
        for site, n in sites:
            with self.subTest(killed=f"{site}:{n}"):
                directory = self.work / f"{name}-{site}-{n}"
                begin(directory)
                done = self.alone(*words(directory), ESPL_FAULT=f"{site}:0:{n}:kill")
                self.assertEqual(done.returncode, -9, done.stderr)
                done = self.alone(*words(directory))
                self.assertEqual(done.returncode, 0, done.stderr)
                for run in wanted:
                    self.assert_same_run(whole / run, directory / run)
                self.assert_clean(directory)
                shutil.rmtree(directory)

    def run_of(self, *more):
        return lambda directory: ["prune", self.config, "--resume", "--set", f"run.dir={directory}", *more]

    def test_a_run(self):
        self.kill_everywhere("run", self.run_of(), lambda directory: None,
                             ["run.begin", "journal.line", "checkpoint.rename", "checkpoint.delete", "file.rename",
                              "export.begin", "weights.rename", "export.renamed"], [""])

    def test_a_one_shot_run(self):
        more = "--set prune.allocation=uniform --set prune.update=sparsegpt --set prune.score=wanda".split()
        self.kill_everywhere("oneshot", self.run_of(*more), lambda directory: None, ["checkpoint.slab"], [""])

    def test_an_export_over_an_earlier_one(self):
        def begin(directory):
            shutil.copytree(self.whole, directory)
            (directory / "summary.json").unlink()
        self.kill_everywhere("export", self.run_of(), begin, ["export.aside", "export.remove", "export.rename"], [""])

    def test_a_signal_while_mpi_starts(self):
        """It used to end the process, and mpirun sometimes waited for ever. A stop needs a checkpoint: there is one."""
        for number in (signal.SIGUSR1, signal.SIGTERM):
            run, waiting = self.work / f"early{number}", self.work / f"early{number}-waiting"
            job = subprocess.Popen([ESPALIER, *map(str, self.run_of()(run))], text=True, stderr=subprocess.PIPE,
                                   stdout=subprocess.DEVNULL,
                                   env={**alone_environment(self.work), "ESPL_FAULT_WAIT": f"comm.begin:1:{waiting}"})
            self.addCleanup(job.kill)
            deadline = time.monotonic() + 60 * SLOW
            while not waiting.exists():
                self.assertLess(time.monotonic(), deadline)
                self.assertIsNone(job.poll())
                time.sleep(0.02)
            job.send_signal(number)
            waiting.unlink()
            _, text = job.communicate(timeout=60 * SLOW)
            self.assertEqual(job.returncode, 75, text)
            self.prune(run, "--resume")
            self.assert_same_run(self.whole, run)
            # What has nothing to save ends at once.
            dry = [ESPALIER, "prune", str(self.config), "--dry-run", "--set", f"run.dir={run}"]
            job = subprocess.Popen(dry, stdout=subprocess.DEVNULL,
                                   env={**alone_environment(self.work), "ESPL_FAULT_WAIT": f"comm.begin:1:{waiting}"})
            self.addCleanup(job.kill)
            while not waiting.exists():
                time.sleep(0.02)
            job.send_signal(number)
            waiting.unlink()
            self.assertEqual(job.wait(timeout=60 * SLOW), -number)

    def test_a_launcher_that_is_killed_while_mpi_starts(self):
        """Its ranks used to wait for it for ever."""
        run, waiting = self.work / "launcher", self.work / "launcher-waiting"
        job = subprocess.Popen(self.command(run, "--resume", ranks=2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**ENVIRONMENT, "ESPL_FAULT_WAIT": f"comm.begin:1:{waiting}"})
        self.addCleanup(waiting.unlink, missing_ok=True)
        self.addCleanup(job.kill)
        deadline = time.monotonic() + 60 * SLOW

        def waits(pid):
            caught = re.search(r"^SigCgt:\s*(\S+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
            begun = os.path.samefile(f"/proc/{pid}/exe", ESPALIER)  # until then it is a copy of mpirun
            return begun and int(caught.group(1), 16) >> (signal.SIGUSR2 - 1) & 1
        children = []
        while not waiting.exists() or len(children) < 2 or not all(map(waits, children)):
            self.assertLess(time.monotonic(), deadline)
            children = pathlib.Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
            time.sleep(0.02)
        job.kill()
        job.wait()
        while any(pathlib.Path(f"/proc/{pid}").exists() for pid in children):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertTrue(waiting.exists())

    def test_a_sweep(self):
        file = self.work / "sweep.json"

        def words(directory):
            return ["sweep", file.with_name(f"{directory.name}.json")]

        def begin(directory):
            file.with_name(f"{directory.name}.json").write_text(json.dumps({
                "dir": str(directory), "base": str(self.config), "grid": {"prune.target": [0.1, 0.2]},
                "methods": {"wanda": {"prune.allocation": "uniform", "prune.score": "wanda"}}}))
        self.kill_everywhere("sweep", words, begin, ["file.create"], ["wanda-target0.1", "wanda-target0.2"])


# -------------------------------------------------------------- allocations

class Allocations(Case):
    """What an agent gave each linear, carried out in one shot."""

    def one_shot(self, name, file, *more, ranks=1, code=0):
        return self.prune(self.work / name, "--set", "prune.allocation=file", "--set", f"prune.allocation_file={file}",
                          *more, ranks=ranks, code=code)

    def test_the_allocation_of_a_run_is_carried_out_to_the_weight(self):
        given = (self.whole / "allocation.json").read_bytes()
        sparsities = json.loads(given)
        self.assertEqual(len(sparsities), 7 * 3)
        self.assertGreater(len(set(sparsities.values())), 2)
        pruned = json.loads((self.whole / "summary.json").read_text())["pruned_weights"]
        rows = [f"{linear} , {sparsity!r}\r" for linear, sparsity in sparsities.items() if sparsity > 0]
        csv = self.work / "allocation.csv"
        csv.write_text("\n".join(["linear,sparsity", "", *reversed(rows), ""]))
        recipe = self.whole / "model" / "espalier_recipe.json"
        for ranks, file in ((1, self.whole / "allocation.json"), (2, csv), (3, recipe)):
            run = self.work / f"shot{ranks}"
            self.one_shot(run.name, file, ranks=ranks)
            self.assertEqual((run / "allocation.json").read_bytes(), given)
            summary = json.loads((run / "summary.json").read_text())
            self.assertEqual((summary["pruned_weights"], summary["iterations"]), (pruned, 1))
            self.assertEqual((run / "model" / "model.safetensors").read_bytes(),
                             (self.work / "shot1" / "model" / "model.safetensors").read_bytes())
        # Another file with the same sparsities continues the run, other sparsities do not.
        (run / "summary.json").unlink()
        self.one_shot(run.name, self.whole / "allocation.json", "--resume")
        (run / "summary.json").unlink()
        csv.write_text(csv.read_text().replace(", 0.", ", 0.0"))
        self.assertIn("different: allocation)", self.one_shot(run.name, csv, "--resume", ranks=2, code=2).stderr)
        dry = self.one_shot("dry", self.whole / "allocation.json", "--dry-run")
        self.assertIn(f"{pruned} weights pruned", dry.stdout)

    def test_a_wrong_allocation_is_refused_by_name(self):
        file = self.work / "wrong"
        for text, words in (('{"layers.3.mlp.up_proj": 0.5}', '"layers.3.mlp.up_proj" is no linear of the model'),
                            ('{"layers.0.mlp.up_proj": "half"}', "the sparsity of layers.0.mlp.up_proj is no number"),
                            ('{"layers.0.mlp.up_proj": 1.5}', "the sparsity of layers.0.mlp.up_proj is out of range"),
                            ("model.layers.0.mlp.up_proj,0.1\nlayers.0.mlp.up_proj,0.1", "appears twice"),
                            ("layers.0.mlp.up_proj,", "the sparsity of layers.0.mlp.up_proj is no number"),
                            ("layers.0.mlp.up_proj,0.1x", "the sparsity of layers.0.mlp.up_proj is no number"),
                            ("layers.0.mlp.up_proj 0.1", 'expected a JSON object, or lines "linear,sparsity"'),
                            ("linear,sparsity\n", "names no linear"), ("{}", "names no linear"), ("", "names no linear"),
                            ('{"layers.0.mlp.up_proj": ', "not valid JSON")):
            with self.subTest(text=text):
                file.write_text(text)
                done = self.one_shot("refused", file, ranks=2, code=1)
                self.assertIn(f"{file}: ", done.stderr)
                self.assertIn(words, done.stderr)
        self.assertIn("prune.allocation_file: ", self.one_shot("refused", self.work / "none", code=74).stderr)


# ---------------------------------------------------------- linears spared

class SparedLinears(Case):
    """Linears that are never pruned, and caps of single ones: by an agent and in one shot."""

    SHAPES = {"q_proj": 64 * 128, "k_proj": 64 * 64, "v_proj": 64 * 64, "o_proj": 64 * 128,
              "gate_proj": 64 * 96, "up_proj": 64 * 96, "down_proj": 64 * 96}
    SETS = ("prune.ignore=*.down_proj, layers.0.self_attn.*", "prune.caps=layers.1.*=0.25,layers.1.mlp.up_proj = 0.4",
            "prune.target=0.3")

    def check(self, name, target, *sets, ranks=(1, 2, 3)):
        """The sparsities of a run with these settings, which is the same on any ranks."""
        runs = []
        for n in ranks:
            runs.append(self.work / f"{name}{n}")
            self.prune(runs[-1], *(word for assignment in sets for word in ("--set", assignment)), ranks=n)
            self.assert_same_run(runs[0], runs[-1])
        sparsities = json.loads((runs[0] / "allocation.json").read_text())
        weights = {linear: self.SHAPES[linear.split(".")[-1]] for linear in sparsities}
        counts = {linear: round(sparsities[linear] * weights[linear]) for linear in sparsities}
        self.assertEqual(sum(counts.values()), json.loads((runs[0] / "summary.json").read_text())["pruned_weights"])
        ignored = [s for s in sets if s.startswith("prune.ignore")]
        closed = {x for x in sparsities if ignored and (x.endswith("down_proj") or x.startswith("layers.0.self_attn."))}
        self.assertEqual({sparsities[x] for x in closed}, {0} if closed else set())
        if target is not None:
            self.assertEqual(sum(counts.values()), round(target * sum(weights[x] for x in weights if x not in closed)))
        return sparsities

    def test_the_agent_keeps_to_them(self):
        sparsities = self.check("agent", 0.3, *self.SETS)
        for linear, sparsity in sparsities.items():
            cap = 0.8 if not linear.startswith("layers.1.") else 0.4 if linear.endswith("up_proj") else 0.25
            self.assertLessEqual(sparsity, cap, linear)
        self.assertGreater(max(s for x, s in sparsities.items() if x.startswith("layers.2.")), 0.25)

    def test_zeros_of_spared_linears_do_not_count(self):
        """A pruned model as the source: its spared linears are sparse already, which brings the target no nearer."""
        before = json.loads((self.whole / "allocation.json").read_text())
        run = self.work / "again"
        sets = (f"model.path={self.whole / 'model'}", "prune.target=0.4", "prune.ignore=*.down_proj,*.q_proj")
        self.prune(run, *(word for assignment in sets for word in ("--set", assignment)), ranks=2)
        after = json.loads((run / "allocation.json").read_text())
        closed = {x for x in after if x.endswith(("down_proj", "q_proj"))}
        self.assertGreater(sum(before[x] for x in closed), 0)
        self.assertEqual({x: before[x] for x in closed}, {x: after[x] for x in closed})
        weights = {x: self.SHAPES[x.split(".")[-1]] for x in after if x not in closed}
        self.assertEqual(sum(round(after[x] * w) for x, w in weights.items()), round(0.4 * sum(weights.values())))

    def test_targets_are_the_only_ones(self):
        sparsities = self.check("targets", None, "prune.targets=layers.2.mlp.*,*.q_proj", "prune.target=0.2", ranks=(2,))
        chosen = {x for x in sparsities if x.startswith("layers.2.mlp.") or x.endswith("q_proj")}
        self.assertEqual({sparsities[x] for x in set(sparsities) - chosen}, {0})
        weights = {x: self.SHAPES[x.split(".")[-1]] for x in chosen}
        self.assertEqual(sum(round(sparsities[x] * weights[x]) for x in chosen), round(0.2 * sum(weights.values())))

    def test_methods_keep_to_them(self):
        for name in ("uniform", "owl", "lsa-linear", "search"):
            with self.subTest(allocation=name):
                sparsities = self.check(name, 0.3, f"prune.allocation={name}", "prune.search_evaluations=20", *self.SETS,
                                        ranks=(1, 2))
                for linear, sparsity in sparsities.items():
                    if linear.startswith("layers.1."):
                        self.assertLessEqual(sparsity, 0.4 if linear.endswith("up_proj") else 0.25, linear)
        self.check("global", 0.3, "prune.allocation=global", "prune.score=curvature", *self.SETS)

    def test_a_pattern_spares_what_is_ignored(self):
        for update in ("none", "sparsegpt"):
            sparsities = self.check(f"pattern-{update}", 0.5, "prune.allocation=uniform", "prune.pattern=2:4",
                                    f"prune.update={update}", self.SETS[0], ranks=(1, 2))
            self.assertEqual(set(sparsities.values()), {0, 0.5})

    def test_what_matches_nothing_is_refused_by_name(self):
        for assignment, words in (("prune.ignore=*.up_proj,lm_head", 'prune.ignore: "lm_head" matches no linear'),
                                  ("prune.targets=layers.3.*", 'prune.targets: "layers.3.*" matches no linear'),
                                  ("prune.caps=*.up_proj", 'prune.caps: "*.up_proj" has no cap from 0 to 1'),
                                  ("prune.caps=*.up_proj=2", 'prune.caps: "*.up_proj" has no cap from 0 to 1'),
                                  ("prune.caps=up_proj=0.2", 'prune.caps: "up_proj" matches no linear'),
                                  ("prune.ignore=*", "leave no linear that may be pruned"),
                                  ("prune.caps=*=0.1", "but their caps (prune.caps, prune.cap) let 0.0999")):
            with self.subTest(assignment=assignment):
                self.assertIn(words, self.prune(self.work / "no", "--set", assignment, ranks=2, code=2).stderr)
        fixed = ["--set", "prune.pattern=2:4", "--set", "prune.allocation=uniform", "--set", "prune.caps=*.up_proj=0.2"]
        self.assertIn("prune.caps with prune.pattern 2:4", self.prune(self.work / "no", *fixed, code=2).stderr)
        given = ["--set", "prune.allocation=file", "--set", f"prune.allocation_file={self.whole / 'allocation.json'}"]
        done = self.prune(self.work / "no", *given, "--set", "prune.ignore=*.up_proj", code=2)
        self.assertIn("does not go with prune.targets, prune.ignore", done.stderr)


# ------------------------------------------------------------------- locks

class Locks(Case):
    def words(self, run):
        return ["prune", self.config, "--resume", "--set", f"run.dir={run}"]

    def begin(self, run):
        """A run that has just taken the lock and is stopped there: it lives, but shows no sign of life."""
        job = subprocess.Popen([ESPALIER, *map(str, self.words(run))], env=alone_environment(self.work), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(job.stdout.close)
        self.addCleanup(job.stderr.close)
        deadline = time.monotonic() + 60 * SLOW
        while not (run / "lock").exists():
            self.assertLess(time.monotonic(), deadline)
        job.send_signal(signal.SIGSTOP)
        self.addCleanup(lambda: [job.kill(), job.wait()])
        self.assertIsNone(job.poll())
        return job

    def end(self, job):
        job.send_signal(signal.SIGCONT)
        _, text = job.communicate(timeout=60 * SLOW)
        return job.returncode, text

    def lock_of_a_killed_run(self, name):
        """The directory, and what its lock says."""
        run = self.work / name
        job = self.begin(run)
        job.kill()
        job.wait()
        return run, json.loads((run / "lock").read_text())

    def forge(self, run, lock, age, **changes):
        (run / "lock").write_text(json.dumps({**lock, **changes}))
        now = time.time()
        os.utime(run / "lock", (now - age, now - age))

    def succeeds(self, run, **environment):
        done = self.alone(*self.words(run), **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assert_same_run(self.whole, run)
        self.assertEqual(list(run.glob("lock*")), [])
        return done.stderr

    def refused(self, run, *words, **environment):
        before = (run / "lock").lstat().st_ino
        done = self.alone(*self.words(run), **environment)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(before, (run / "lock").lstat().st_ino)
        for word in (*words, "is in use by", f"delete {run}/lock"):
            self.assertIn(word, done.stderr)

    def test_a_second_job_is_refused_and_the_first_not_disturbed(self):
        run = self.work / "two"
        job = self.begin(run)
        self.refused(run, f"process {job.pid} on host ")
        done = self.prune(run, "--resume", ranks=3, code=2)
        self.assertIn(f"process {job.pid} on host ", done.stderr)
        code, text = self.end(job)
        self.assertEqual(code, 0, text)
        self.assert_same_run(self.whole, run)

    def test_the_lock_of_a_killed_job_is_broken(self):
        run, _ = self.lock_of_a_killed_run("killed")
        self.assertIn("that process is dead", self.succeeds(run))

    def test_a_killed_job_that_nobody_has_waited_for(self):
        """As in a container, whose first process waits for nobody."""
        run = self.work / "zombie"
        job = self.begin(run)
        job.kill()
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOWAIT)
        self.succeeds(run)

    def test_another_process_with_the_number_of_a_dead_one(self):
        run, lock = self.lock_of_a_killed_run("number")
        self.forge(run, lock, 0, pid=os.getpid(), pid_started=lock["pid_started"] - 1)
        self.succeeds(run)

    def test_a_holder_on_another_host_is_never_dead(self):
        run, lock = self.lock_of_a_killed_run("elsewhere")
        for changes in ({"host": "elsewhere"}, {"namespace": "pid:[1]"}, {"boot": ""}, {"pid": -1}, {"host": "\u001b[2J"}):
            self.forge(run, lock, 100000, **changes)
            self.refused(run)
        (run / "lock").unlink()
        self.succeeds(run)

    def test_a_host_that_was_started_again(self):
        run, lock = self.lock_of_a_killed_run("boot")
        self.forge(run, lock, 3600, boot="another")
        self.succeeds(run)
        self.forge((run := self.lock_of_a_killed_run("boot2")[0]), lock, 0, boot="another")
        job = subprocess.Popen([ESPALIER, *map(str, self.words(run))], env=alone_environment(self.work), text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(job.stderr.close)
        self.assertIn("is dead if it stays silent for 60 s", job.stderr.readline())
        job.send_signal(signal.SIGUSR1)
        self.assertEqual(job.wait(timeout=20 * SLOW), 75)

    def test_a_job_that_slurm_has_started_again_elsewhere(self):
        run, lock = self.lock_of_a_killed_run("slurm")
        old = {"host": "elsewhere", "job": "17", "cluster": "c", "restarts": 1}
        for job, cluster, restarts in (("18", "c", "2"), ("17", "d", "2"), ("17", "c", "1"), ("17", "c", "0")):
            self.forge(run, lock, 3600, **old)
            self.refused(run, 'Slurm job "17" (restart 1)', SLURM_JOB_ID=job, SLURM_CLUSTER_NAME=cluster,
                         SLURM_RESTART_COUNT=restarts)
        self.succeeds(run, SLURM_JOB_ID="17", SLURM_CLUSTER_NAME="c", SLURM_RESTART_COUNT="2")

    def test_what_is_no_lock_is_not_removed(self):
        run = self.work / "strange"
        run.mkdir()
        lock = run / "lock"
        for make in (lambda: lock.write_text(""), lambda: lock.write_text("[" * 100000), lambda: lock.write_text("{}"),
                     lambda: os.mkfifo(lock), lambda: lock.symlink_to(self.config), lambda: lock.symlink_to("nowhere")):
            make()
            self.refused(run)
            lock.unlink()

    def test_without_hard_links(self):
        run = self.work / "links"
        self.succeeds(run, ESPL_FAULT="lock.no_links:0")

    def test_a_run_that_loses_its_directory_ends(self):
        def lose_lock(run):
            (run / "lock").unlink()

        def lose_to_another(run):
            self.forge(run, json.loads((run / "lock").read_text()), 0, token="another")

        def replace(run):
            run.rename(run.with_name(run.name + "-moved"))
            run.mkdir()

        def delete(run):
            shutil.rmtree(run)
        for i, (lose, words) in enumerate(((lose_lock, "is gone"), (lose_to_another, "no longer ours"), (replace, "is gone"),
                                           (delete, "is gone|No such file or directory"))):
            run = self.work / f"lost{i}"
            job = self.begin(run)
            lose(run)
            code, text = self.end(job)
            self.assertEqual(code, 74, text)
            self.assertRegex(text, words)  # a deleted directory may be met by a file before the lock is looked at
            self.assertFalse((run / "summary.json").exists())

    def test_many_at_once(self):
        """One gets the lock, also if it has to be broken first; all others are refused."""
        for i in range(6):
            run = self.work / f"many{i}"
            if i % 2:
                run, _ = self.lock_of_a_killed_run(f"many{i}")
            jobs = [subprocess.Popen([ESPALIER, *map(str, self.words(run))], env=alone_environment(self.work),
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(5)]
            ends = [(job.communicate(timeout=120 * SLOW)[1], job.returncode) for job in jobs]
            self.assertIn(0, [code for _, code in ends], ends)
            for text, code in ends:
                self.assertTrue(code == 0 or code == 2 and "is in use by" in text, (code, text))
            self.assert_same_run(self.whole, run)
            self.assertEqual(list(run.glob("lock*")), [])
            outcomes = [json.loads(line)["iteration"] for line in (run / "events.jsonl").read_text().splitlines()
                        if json.loads(line)["type"] == "outcome"]
            self.assertEqual(len(outcomes), len(set(outcomes)))

    def test_a_sweep_leaves_out_what_another_process_does(self):
        sweep = self.work / "sweep.json"
        sweep.write_text(json.dumps({"dir": str(self.work / "runs"), "base": str(self.config),
                                     "grid": {"prune.target": [0.1, 0.2]}}))
        run = self.work / "runs" / "target0.1"
        job = self.begin(run)
        done = self.alone("sweep", sweep)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(f"{run} is in use by process {job.pid}", done.stderr)
        self.assertIn("1 run was left to another process, 1 finished", done.stderr)
        self.assertFalse((run / "sweep.json").exists())


# ---------------------------------------------------------------- journals

def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Journals(Case):
    """What a power cut or a bad disk leaves of the logs never blocks a run; what the checkpoint knows is written again."""

    def damage(self, path, how):
        """Damages the line of the second iteration that a run must have."""
        lines = path.read_bytes().splitlines(keepends=True)
        wanted = b'"outcome"' if path.name == "events.jsonl" else b'"decision"'
        at = [i for i, line in enumerate(lines) if wanted in line][1]
        path.write_bytes(how(lines, at))

    def resumed(self, name, prepare, ranks=1):
        run = self.unfinished(name)
        prepare(run)
        text = self.prune(run, "--resume", ranks=ranks).stderr
        self.assert_same_run(self.whole, run)
        return run, text

    def assert_rebuilt(self, run, text):
        """Both logs have each line once again, with what it said."""
        for name, kind, keys in (("events.jsonl", "outcome", ("accepted", "sparsity_before", "sparsity_after", "before",
                                                              "after", "decision")),
                                 ("dialogue.jsonl", "decision", ("decision",))):
            ours, theirs = ([{key: line[key] for key in ("iteration", *keys)} for line in read_lines(directory / name)
                             if line["type"] == kind] for directory in (run, self.whole))
            self.assertEqual(ours, theirs)
            repair = [line for line in read_lines(run / name) if line["type"] == "repair"]
            self.assertEqual(len(repair), 1)
            self.assertIn(f"note: {run}/{name} was damaged: {repair[0]['text']}", text)

    def test_damage_is_repaired_and_said(self):
        ways = {"garbled": lambda lines, i: b"".join([*lines[:i], lines[i][:9] + b"\0\xff" + lines[i][11:], *lines[i + 1:]]),
                "cut": lambda lines, i: b"".join(lines[:i]) + lines[i][:20],
                "nuls": lambda lines, i: b"".join(lines[:i]) + b"\0" * 4096,
                "lost": lambda lines, i: b"".join(lines[:i] + lines[i + 1:]),
                "empty": lambda lines, i: b"",
                "of_something_else": lambda lines, i: b"No log at all,\nbut text.\n"}
        for k, (name, how) in enumerate(ways.items()):
            with self.subTest(name):
                def prepare(run):
                    for path in (run / "events.jsonl", run / "dialogue.jsonl"):
                        self.damage(path, how)
                run, text = self.resumed(name, prepare, 1 + k % 3)
                self.assert_rebuilt(run, text)
                self.assertEqual((run / "events.jsonl.damaged").exists(), name != "empty")
        run, text = self.resumed("deleted", lambda run: [(run / n).unlink() for n in ("events.jsonl", "dialogue.jsonl")])
        self.assert_rebuilt(run, text)

    def test_a_changed_value_is_found(self):
        """A line that still reads: only its seal tells."""
        def prepare(run):
            path = run / "events.jsonl"
            path.write_text(path.read_text().replace('"sparsity_before":0.', '"sparsity_before":1.', 1))
        run, text = self.resumed("changed", prepare, 2)
        self.assertRegex(text, r"events.jsonl was damaged: lines \d+ to \d+ are not as they were written")
        self.assertNotIn("dialogue.jsonl was damaged", text)

    def test_every_checkpoint_has_its_seals(self):
        newest = max(int(p.stem[-6:]) for p in (self.whole / "checkpoints").iterdir())
        for name in ("events.jsonl", "dialogue.jsonl"):
            seals = [line["iteration"] for line in read_lines(self.whole / name) if line["type"] == "seal"]
            self.assertEqual(sorted(set(seals)), list(range(newest + 1)), name)

    def test_a_log_that_cannot_be_flushed_ends_the_run(self):
        run = self.work / "flush"
        done = self.alone("prune", self.config, "--set", f"run.dir={run}", ESPL_FAULT="journal.flush:0:3")
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertIn("events.jsonl: cannot be flushed to disk", done.stderr)
        self.prune(run, "--resume")
        self.assert_same_run(self.whole, run)
        self.assertFalse((run / "events.jsonl.damaged").exists())

    def test_a_run_of_an_earlier_version_has_no_seals(self):
        def prepare(run):
            for name in ("events.jsonl", "dialogue.jsonl"):
                lines = (run / name).read_text().splitlines(keepends=True)
                (run / name).write_text("".join(line for line in lines if '"seal"' not in line))
        _, text = self.resumed("earlier", prepare)
        self.assertNotIn("was damaged", text)

    def test_a_changed_summary_does_not_count(self):
        run = self.work / "summary"
        shutil.copytree(self.whole, run)
        text = (run / "summary.json").read_text()
        (run / "summary.json").write_text(text.replace('"rollbacks": 0', '"rollbacks": 1'))
        self.assertNotEqual((run / "summary.json").read_text(), text)
        self.assertIn("summary.json is damaged", self.prune(run, "--resume", ranks=2).stderr)
        self.assertEqual((run / "summary.json").read_text(), text)
        plain = "".join(line for line in text.splitlines(keepends=True) if "crc32" not in line).replace("},\n}", "}\n}")
        json.loads(plain)
        (run / "summary.json").write_text(plain)  # of an earlier version
        self.assertIn("this run is finished", self.prune(run, "--resume").stderr)

    def test_a_directory_that_is_replaced_at_the_end(self):
        """Behind the last look at the lock before summary.json."""
        run, waiting, listed = self.work / "late", self.work / "late-waiting", self.work / "late-sites"
        words = ["prune", self.config, "--set", f"run.dir={run}"]
        self.assertEqual(self.alone(*words, ESPL_FAULT_LIST=str(listed)).returncode, 0)
        last = listed.read_text().splitlines().count("file.renamed 0")
        shutil.rmtree(run)
        job = subprocess.Popen([ESPALIER, *map(str, words)], text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                               env={**alone_environment(self.work), "ESPL_FAULT_WAIT": f"file.renamed:{last}:{waiting}"})
        self.addCleanup(job.kill)
        deadline = time.monotonic() + 60 * SLOW
        while not waiting.exists():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(job.poll())
            time.sleep(0.02)
        self.assertTrue((run / "summary.json").exists())
        run.rename(self.work / "late-elsewhere")
        run.mkdir()
        waiting.unlink()
        _, text = job.communicate(timeout=60 * SLOW)
        self.assertEqual(job.returncode, 74, text)
        self.assertIn("is gone", text)


# ---------------------------------------------------------- linears spared

class Limits(Case):
    def test_a_limit_on_file_sizes_is_a_message(self):
        """With the signal that a shell leaves (SIGXFSZ ends the process), and with the one that Python leaves (ignored)."""
        for i, limit in enumerate((1, 4, 16, 32, 48, 64, 100, 200, 280)):
            run = self.work / f"limit{limit}"

            def begin():
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL if i % 2 else signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, limit * 1024))
            words = [ESPALIER, "prune", self.config, "--resume", "--set", f"run.dir={run}"]
            done = subprocess.run([*map(str, words)], env=alone_environment(self.work), capture_output=True, text=True,
                                  timeout=120 * SLOW, preexec_fn=begin)
            self.assertEqual(done.returncode, 74, (limit, done.stderr))
            self.assertRegex(done.stderr, r"File too large|ulimit -f", limit)
            self.assertEqual(self.alone(*words[1:]).returncode, 0)
            self.assert_same_run(self.whole, run)

    def allocations(self, words, passages, ranks, rank):
        """Each of these passages of the allocator fails: a message, the exit code, no report of a sanitizer."""
        quiet = 0
        for n in passages:
            run = self.work / "allocations"
            shutil.rmtree(run, ignore_errors=True)
            environment = {"ESPL_FAULT": f"memory.alloc:{rank}:{n}"}
            if ranks == 1:
                done = self.alone(*words(run), **environment)
            else:
                done = subprocess.run(mpirun(ranks, ESPALIER, *words(run)), env={**ENVIRONMENT, **environment},
                                      capture_output=True, text=True, timeout=120 * SLOW)
            with self.subTest(allocation=n, ranks=ranks, rank=rank):
                if done.returncode == 3:  # off its target, as meant. What can be done without: a note, a cache; or the rank has fewer
                    quiet += 1
                    self.assert_same_run(self.work / "count", run)
                else:
                    self.assertEqual(done.returncode, 1, done.stderr[-2000:])
                    self.assertRegex(done.stderr, "no memory|out of memory")
        self.assertLess(quiet, max(3, len(passages) // 2))

    def start_again(self, words, place, choose):
        """A command that has little left to do is started with failing allocations: choose(the sites that it passes) gives
        their numbers."""
        listed = self.work / "again-sites"
        listed.unlink(missing_ok=True)
        begun, here = self.work / "again-begun", place
        shutil.copytree(here, begun)
        self.addCleanup(shutil.rmtree, begun)

        def restore():
            shutil.rmtree(here)
            shutil.copytree(begun, here)
        self.assertEqual(self.alone(*words, ESPL_FAULT_LIST=str(listed)).returncode, 0)
        whole = shutil.copytree(here, self.work / "again-whole")
        self.addCleanup(shutil.rmtree, whole)
        for i in choose([line.split()[0] for line in listed.read_text().splitlines()]):
            restore()
            done = self.alone(*words, ESPL_FAULT=f"memory.alloc:0:{i}")
            with self.subTest(allocation=i):
                self.assertIn(done.returncode, (0, 1), done.stderr)
                if done.returncode == 1:
                    self.assertRegex(done.stderr, "no memory|out of memory")
                    self.assertEqual(self.alone(*words).returncode, 0)
                self.assert_same_run(whole, here)  # also: no file of the export is left out, no checkpoint set aside

    def test_allocations_of_a_sweep_that_is_finished(self):
        """A directory whose manifest could not be read for want of memory was taken for another run's."""
        sweep = self.work / "again.json"
        sweep.write_text(json.dumps({"dir": str(self.work / "again"), "base": str(self.config),
                                     "grid": {"prune.target": [0.1, 0.2]}}))
        self.assertEqual(self.alone("sweep", sweep).returncode, 0)
        self.start_again(["sweep", sweep], self.work / "again",
                         lambda sites: range(1, sites.count("memory.alloc"), 29))

    def test_allocations_before_a_run_goes_on(self):
        """A file of the model was left out of the export, and the newest checkpoint was set aside, where a path could not be
        made. Both are looked at before the manifest is written."""
        def last_ones(sites):
            n = sites[:sites.index("file.create")].count("memory.alloc")
            return range(n - 130, n + 1)
        run = self.unfinished("over")
        self.start_again(["prune", self.config, "--resume", "--set", f"run.dir={run}"], run, last_ones)

    def test_any_allocation_may_fail(self):
        """ESPL_TEST_ALLOCATIONS=all tries each one, which takes an hour."""
        def words(run):
            return ["prune", self.config, "--resume", "--set", f"run.dir={run}", "--set", "prune.max_iterations=2"]
        listed = self.work / "sites"
        self.alone(*words(self.work / "count"), ESPL_FAULT_LIST=str(listed))
        n = sum(line.startswith("memory.alloc ") for line in listed.read_text().splitlines())
        if os.environ.get("ESPL_TEST_ALLOCATIONS") == "all":
            few = many = range(1, n + 1)
        else:  # the first ones, where most paths are, then wider and wider
            many = sorted({*range(1, 60, 3), *(round(60 * (n / 60) ** (i / 60)) for i in range(61))})
            few = many[::8]
        self.allocations(words, many, 1, 0)
        self.allocations(words, few, 2, 0)
        self.allocations(words, few, 2, 1)


# ----------------------------------------------------------------- changes

class Changes(Case):
    """The model changes while it is pruned."""

    def change_while_it_runs(self, name, change, ranks, site="checkpoint.renamed:2"):
        """The job waits at a site, by default in its first iteration, the model is changed, the job goes on; its end, and the run."""
        run, model = self.work / name, self.work / f"{name}-model"
        shutil.copytree(self.model, model)
        waiting = run / "waiting"
        job = subprocess.Popen(self.command(run, "--resume", "--set", f"model.path={model}", ranks=ranks), text=True,
                               env={**ENVIRONMENT, "ESPL_FAULT_WAIT": f"{site}:{waiting}"},
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(job.kill)
        deadline = time.monotonic() + 60 * SLOW
        while not waiting.exists():
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(job.poll())
            time.sleep(0.02)
        saved = (model / "model.safetensors").read_bytes()
        change(model / "model.safetensors")
        waiting.unlink()
        _, text = job.communicate(timeout=120 * SLOW)
        self.assertEqual(job.returncode, 74, text)
        self.assertIn(f"{model}/model.safetensors", text)
        self.assertFalse((run / "summary.json").exists())
        (model / "model.safetensors").write_bytes(saved)
        self.prune(run, "--resume", "--set", f"model.path={model}")
        # All but the summary, which names the model's directory, is as of the uninterrupted run.
        self.assertEqual((run / "model" / "model.safetensors").read_bytes(),
                         (self.whole / "model" / "model.safetensors").read_bytes())
        return text

    def test_it_is_cut_off(self):
        for ranks in (1, 2):
            text = self.change_while_it_runs(f"cut{ranks}", lambda path: os.truncate(path, 5000), ranks)
            self.assertRegex(text, "cut off while it was in use|was changed or replaced")
        # Before the first pass: nothing looks at the file's size before its pages are read.
        text = self.change_while_it_runs("early", lambda path: os.truncate(path, 5000), 1, "file.renamed:1")
        self.assertIn("it was cut off while it was in use", text)

    def test_it_is_overwritten(self):
        def overwrite(path):
            with open(path, "r+b") as f:
                f.seek(100000)
                f.write(b"\x11" * 1000)
        for ranks in (1, 3):
            text = self.change_while_it_runs(f"over{ranks}", overwrite, ranks)
            self.assertIn("was changed or replaced while it was in use", text)

    def test_it_is_replaced(self):
        def replace(path):
            other = path.with_suffix(".new")
            other.write_bytes(path.read_bytes())
            other.rename(path)
        self.assertIn("was changed or replaced", self.change_while_it_runs("replaced", replace, 2))

    def test_it_is_deleted(self):
        self.assertIn("cannot be reached", self.change_while_it_runs("deleted", lambda path: path.unlink(), 2))


# ------------------------------------------------------------------- links

class Links(Case):
    def test_an_export_follows_no_link_out_of_the_model(self):
        private = self.work / "private"
        private.write_text("---\nlicense: a secret\n---\n")
        model, run = self.work / "cloned", self.work / "cloned-run"
        shutil.copytree(self.model, model)
        (model / "README.md").symlink_to(private)
        (model / "also").symlink_to("../private")
        (model / "inside").symlink_to("tokenizer.json")
        done = self.prune(run, "--set", f"model.path={model}")
        self.assertIn("a link out of the model directory", done.stderr)
        self.assertEqual(sorted(p.name for p in (run / "model").iterdir()),
                         sorted([*(p.name for p in self.model.iterdir()), "inside", "espalier_export.json", "README.md",
                                 "espalier_recipe.json"]))
        self.assertNotIn("a secret", (run / "model" / "README.md").read_text())
        self.assertFalse(any(p.is_symlink() for p in (run / "model").iterdir()))
        (model / "config.json").rename(self.work / "config-elsewhere.json")
        (model / "config.json").symlink_to("../config-elsewhere.json")
        done = self.prune(self.work / "none", "--set", f"model.path={model}", code=74)
        self.assertIn("config.json: is a link out of the model directory", done.stderr)

    def test_the_cache_of_hugging_face_is_a_model(self):
        blobs, model, run = self.work / "hub" / "blobs", self.work / "hub" / "snapshots" / "abc", self.work / "hub-run"
        blobs.mkdir(parents=True)
        model.mkdir(parents=True)
        for i, path in enumerate(self.model.iterdir()):
            shutil.copy(path, blobs / f"blob{i}")
            (model / path.name).symlink_to(f"../../blobs/blob{i}")
        self.prune(run, "--set", f"model.path={model}", ranks=2)
        for path in (run / "model").iterdir():
            if path.name not in ("README.md", "espalier_recipe.json"):  # they name the model
                self.assertEqual(path.read_bytes(), (self.whole / "model" / path.name).read_bytes())
            self.assertFalse(path.is_symlink())

    def test_what_is_no_regular_file_is_refused_at_once(self):
        for i, name in enumerate(("config.json", "tokenizer.json", "model.safetensors")):
            for j, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir())):
                model = self.work / f"special{i}{j}"
                shutil.copytree(self.model, model)
                (model / name).unlink()
                make(model / name)
                done = subprocess.run(self.command(self.work / "refused", "--set", f"model.path={model}", "--resume",
                                                   ranks=1 + j), capture_output=True, text=True, timeout=20 * SLOW,
                                      env=ENVIRONMENT)
                self.assertEqual(done.returncode, 74, (name, done.stderr))
                self.assertIn(f"{model}/{name}: not a regular file", done.stderr)

    def test_planted_links_are_not_written_through(self):
        victim = self.work / "victim"
        names = ["manifest.json", "manifest.json.part", "summary.json.part", "timing.json", "model-hashes.json.part",
                 "checkpoints/iteration-000001.h5.part", "checkpoints/iteration-000002.h5.part"]
        run = self.work / "planted"
        (run / "checkpoints").mkdir(parents=True)
        victim.write_text("precious\n")
        for name in names:
            (run / name).symlink_to(victim)
        self.prune(run, "--resume", ranks=2)
        self.assert_same_run(self.whole, run)
        for name in ("events.jsonl", "dialogue.jsonl"):
            run = self.work / f"planted-{name}"
            run.mkdir()
            (run / name).symlink_to(victim)
            self.assertIn(f"{run}/{name}: is a link or special file", self.prune(run, "--resume", code=74).stderr)
        self.assertEqual(victim.read_text(), "precious\n")


def settle(model):
    """Until the files are old enough for their hashes to be kept."""
    time.sleep(max(0, 2.1 - (time.time() - max(p.stat().st_ctime for p in model.iterdir()))))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
