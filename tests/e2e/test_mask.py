#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A pruned model is its source plus a mask: --mask on eval, score and generate, on 1 to 3 ranks.

tests/e2e/test_mask.py ESPALIER MAKE_RANDOM_MODEL MAKE_UPDATES
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from common import ENVIRONMENT, SLOW, mpirun

ESPALIER, MAKE_MODEL, MAKE_UPDATES = (os.path.abspath(p) for p in sys.argv[1:4])
SHAPE = "--layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(120))
WINDOW, WINDOWS = 128, 20


def run(ranks, *args, stdin="", code=0):
    p = subprocess.run(mpirun(ranks, ESPALIER, *args, "--quiet"), input=stdin, capture_output=True, text=True,
                       env=ENVIRONMENT, timeout=240 * SLOW)
    if p.returncode != code:
        raise AssertionError(f"{args} on {ranks}: exit {p.returncode}: {p.stderr}")
    return p.stderr if code else p.stdout


class Mask(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = cls.folder.name
        cls.text = f"{cls.dir}/text"
        with open(cls.text, "w", encoding="utf-8") as f:
            f.write(TEXT)
        cls.model, cls.other, cls.run_dir = f"{cls.dir}/model", f"{cls.dir}/other", f"{cls.dir}/run"
        for path, seed in ((cls.model, "1"), (cls.other, "2")):
            subprocess.run([MAKE_MODEL, *SHAPE, "--seed", seed, path], check=True, capture_output=True)
        config = dict(model=dict(path=cls.model), run=dict(dir=cls.run_dir, export=False),
                      calibration=dict(text=cls.text, window=64, forward=4, backward=2),
                      validation=dict(text=cls.text, window=WINDOW, windows=WINDOWS),
                      prune=dict(target=0.25, max_step=0.2, max_linears=8, threshold=1000, max_iterations=6))
        with open(f"{cls.dir}/run.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        run(2, "prune", f"{cls.dir}/run.json")
        with open(f"{cls.run_dir}/summary.json", encoding="utf-8") as f:
            cls.summary = json.load(f)
        cls.mask = f"{cls.run_dir}/{cls.summary['masks']}"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def eval(self, ranks, model, *more):
        return json.loads(run(ranks, "eval", "--model", model, "--text", self.text, "--window", str(WINDOW), "--limit",
                              str(WINDOW * WINDOWS), "--json", *more))

    def test_eval_with_the_mask_gives_the_perplexity_of_the_run(self):
        self.assertGreater(self.summary["sparsity"], 0.1)
        for ranks in (1, 2, 3):
            got = self.eval(ranks, self.model, "--mask", self.mask)
            self.assertEqual(got["mask"], self.mask)
            for key, want in (("pruned", got), ("dense", self.eval(ranks, self.model))):
                for number in ("perplexity", "nll"):
                    self.assertAlmostEqual(want[number], self.summary[key]["validation"][number], places=6)
        dense, pruned = (self.summary[k]["validation"]["nll"] for k in ("dense", "pruned"))
        self.assertGreater(abs(dense - pruned), 1e-4, "pruning that shows")

    def test_score_adds_up_to_the_perplexity(self):
        """The same windows, token by token. With the byte tokenizer a token is a byte."""
        text = TEXT[:WINDOW * WINDOWS]
        lines = run(1, "score", "--model", self.model, "--mask", self.mask, "--window", str(WINDOW), stdin=text)
        logprob = [json.loads(line)["logprob"] for line in lines.splitlines()]
        windows = [logprob[i + 1:i + WINDOW] for i in range(0, len(logprob), WINDOW)]
        nll = -sum(sum(w) / len(w) for w in windows) / len(windows)
        self.assertEqual(len(windows), WINDOWS)
        self.assertAlmostEqual(nll, self.summary["pruned"]["validation"]["nll"], places=6)
        for ranks in (2, 3):
            self.assertEqual(lines, run(ranks, "score", "--model", self.model, "--mask", self.mask, "--window",
                                        str(WINDOW), stdin=text))

    def test_updates_equal_a_model_with_these_weights(self):
        """A checkpoint whose updates are the linears of another model, against a model that has these linears."""
        subprocess.run([MAKE_UPDATES, self.model, self.other, f"{self.dir}/updates"], check=True, env=ENVIRONMENT)
        mixed = f"{self.dir}/mixed"
        shutil.copytree(self.model, mixed)
        mix_linears(f"{self.other}/model.safetensors", f"{mixed}/model.safetensors")
        mask = f"{self.dir}/updates/iteration-000000.h5"
        for args, stdin in ((("score",), TEXT[:300]),
                            (("generate", "--prompt", TEXT[:90], "--max-tokens", "12", "--temperature", "1"), "")):
            want = run(1, *args, "--model", mixed, stdin=stdin)
            self.assertNotEqual(want, run(1, *args, "--model", self.model, stdin=stdin))
            for ranks in (1, 2, 3):
                self.assertEqual(want, run(ranks, *args, "--model", self.model, "--mask", mask, stdin=stdin))

    def test_a_checkpoint_of_sparsegpt_holds_the_updated_weights(self):
        """A method that updates weights: model and checkpoint give what the run measured and what it exported."""
        folder = f"{self.dir}/sparsegpt"
        run(2, "prune", f"{self.dir}/run.json", "--set", f"run.dir={folder}", "--set", "run.export=true", "--set",
            "prune.allocation=uniform", "--set", "prune.update=sparsegpt")
        with open(f"{folder}/summary.json", encoding="utf-8") as f:
            summary = json.load(f)
        mask = f"{folder}/{summary['masks']}"
        want = run(1, "score", "--model", f"{folder}/model", stdin=TEXT[:300])
        for ranks in (1, 3):
            self.assertAlmostEqual(self.eval(ranks, self.model, "--mask", mask)["nll"],
                                   summary["pruned"]["validation"]["nll"], places=6)
            self.assertEqual(want, run(ranks, "score", "--model", self.model, "--mask", mask, stdin=TEXT[:300]))

    def test_masks_of_other_models_are_refused(self):
        text = run(2, "score", "--model", self.other, "--mask", self.mask, stdin="x", code=2)
        self.assertIn("is of another model", text)
        self.assertIn("nowhere.h5", run(3, "score", "--model", self.model, "--mask", "nowhere.h5", stdin="x", code=74))
        self.assertIn("text", run(2, "score", "--model", self.model, "--mask", self.text, stdin="x", code=1))
        deep = f"{self.dir}/deep"
        subprocess.run([MAKE_MODEL, *SHAPE, "--layers", "4", deep], check=True, capture_output=True)
        self.assertIn("of a model of 3 layers, and this one has 4",
                      run(2, "score", "--model", deep, "--mask", self.mask, stdin="x", code=2))
        self.assertIn('unknown option "--mask"', run(1, "tokenize", "--model", self.model, "--mask", "x", code=2))


def header(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        return n + 8, {k: v for k, v in json.loads(f.read(n)).items() if k != "__metadata__"}


def mix_linears(source, target):
    """Overwrites the linears in one file with those of another of the same layout."""
    start, tensors = header(source)
    if (start, tensors) != header(target):
        raise AssertionError("two models of one shape have the same layout")
    with open(source, "rb") as a, open(target, "r+b") as b:
        for name, t in tensors.items():
            if "_proj.weight" in name:
                begin, end = t["data_offsets"]
                a.seek(start + begin)
                b.seek(start + begin)
                b.write(a.read(end - begin))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
