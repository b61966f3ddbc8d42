#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What checkpoints are good for without their run: espalier export and espalier diff, on 1 to 4 ranks.

tests/e2e/test_export_diff.py ESPALIER MAKE_RANDOM_MODEL
"""
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

from common import ENVIRONMENT, SLOW, mpirun

ESPALIER, MAKE_MODEL = (os.path.abspath(p) for p in sys.argv[1:3])
LAYERS = 4
SHAPE = f"--layers {LAYERS} --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
TEXT = "".join(f"Line {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" for i in range(120))


def run(ranks, *args, code=0, cwd=None):
    p = subprocess.run(mpirun(ranks, ESPALIER, *args), capture_output=True, text=True, env=ENVIRONMENT, cwd=cwd,
                       timeout=240 * SLOW)
    if p.returncode != code:
        raise AssertionError(f"{args} on {ranks}: exit {p.returncode}: {p.stderr}")
    return p.stderr if code else p.stdout


def read(path):
    with open(path, "rb") as f:
        return f.read()


def zeros(path):
    """By linear, the set of the places of its zeros: of an exported file of BF16, read without espalier."""
    data = read(path)
    n = int.from_bytes(data[:8], "little")
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if "_proj.weight" in name:
            begin, end = (8 + n + o for o in t["data_offsets"])
            words = memoryview(data[begin:end]).cast("H")
            out[name.removeprefix("model.").removesuffix(".weight")] = {i for i, w in enumerate(words) if w in (0, 0x8000)}
    return out


class Checkpoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.dir = cls.folder.name
        cls.model, text = f"{cls.dir}/model", f"{cls.dir}/text"
        with open(text, "w", encoding="utf-8") as f:
            f.write(TEXT)
        subprocess.run([MAKE_MODEL, *SHAPE, "--seed", "1", cls.model], check=True, capture_output=True)
        config = dict(model=dict(path=cls.model), run=dict(dir=f"{cls.dir}/agent", keep=100),
                      calibration=dict(text=text, window=64, forward=4, backward=2),
                      validation=dict(text=text, window=128, windows=20), report=dict(text=text, window=128),
                      prune=dict(target=0.2, max_step=0.2, max_linears=8, threshold=1000, max_iterations=8))
        with open(f"{cls.dir}/run.json", "w", encoding="utf-8") as f:
            json.dump(config, f)
        run(2, "prune", f"{cls.dir}/run.json")
        run(1, "prune", f"{cls.dir}/run.json", "--set", f"run.dir={cls.dir}/gpt", "--set", "prune.allocation=uniform",
            "--set", "prune.update=sparsegpt", "--set", "prune.target=0.3")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def checkpoint(self, name, iteration=-1):
        return sorted(glob.glob(f"{self.dir}/{name}/checkpoints/*.h5"))[iteration]

    def test_an_export_of_the_last_checkpoint_is_the_runs_own(self):
        """Masks, and updated weights. Only what a checkpoint does not know differs: the report's measures."""
        for name in ("agent", "gpt"):
            own = f"{self.dir}/{name}/model"
            for ranks in (1, 4):
                out = f"{self.dir}/{name}-{ranks}"
                run(ranks, "export", "--mask", self.checkpoint(name), "--out", out)
                self.assertEqual(sorted(os.listdir(out)), sorted(os.listdir(own)))
                for file in sorted(set(os.listdir(own)) - {"README.md", "espalier_recipe.json"}):
                    self.assertEqual(read(f"{out}/{file}"), read(f"{own}/{file}"), file)
                for file in os.listdir(out):
                    self.assertEqual(read(f"{out}/{file}"), read(f"{self.dir}/{name}-1/{file}"), (file, ranks))
            recipes = [json.loads(read(f"{place}/espalier_recipe.json")) for place in (own, f"{self.dir}/{name}-1")]
            iterations = recipes[0]["result"]["iterations"]
            self.assertEqual(recipes[1]["result"].pop("end"), f"checkpoint of iteration {iterations}")
            recipes[0]["result"].pop("end")
            self.assertEqual(*recipes)
            card = read(f"{self.dir}/{name}-1/README.md").decode()
            self.assertIn("| perplexity, validation text (windows of 128 tokens) |", card)
            self.assertNotIn("test text (", card)
            self.assertEqual(card.count("\n## "), read(f"{own}/README.md").decode().count("\n## "))

    def test_an_earlier_iteration_is_exported_and_an_export_replaced(self):
        out = f"{self.dir}/early"
        run(3, "export", "--mask", self.checkpoint("agent", 1), "--out", out)
        early = json.loads(read(f"{out}/espalier_recipe.json"))
        self.assertEqual((early["result"]["iterations"], len(early["decisions"])), (1, 1))
        self.assertEqual(sum(map(len, zeros(f"{out}/model.safetensors").values())), early["result"]["pruned_weights"])
        self.assertLess(early["result"]["sparsity"], 0.2)
        run(1, "export", "--mask", self.checkpoint("agent"), "--out", out)
        self.assertAlmostEqual(json.loads(read(f"{out}/espalier_recipe.json"))["result"]["sparsity"], 0.2, places=4)

    def test_a_model_with_experts(self):
        experts = "--arch qwen3_moe --experts 4 --per-token 2 --layers 2 --byte-tokenizer".split()
        subprocess.run([MAKE_MODEL, *experts, f"{self.dir}/moe"], check=True, capture_output=True)
        run(1, "prune", f"{self.dir}/run.json", "--set", f"run.dir={self.dir}/experts", "--set", f"model.path={self.dir}/moe",
            "--set", "prune.max_linears=60")
        own = read(f"{self.dir}/experts/model/model.safetensors")
        for ranks in (1, 3):  # more ranks than layers, too
            run(ranks, "export", "--mask", self.checkpoint("experts"), "--out", f"{self.dir}/experts-{ranks}")
            self.assertEqual(read(f"{self.dir}/experts-{ranks}/model.safetensors"), own)
        places = zeros(f"{self.dir}/experts/model/model.safetensors")
        linears = json.loads(run(2, "diff", f"{self.dir}/experts", f"{self.dir}/experts", "--json"))["linears"]
        self.assertEqual(linears["layers.1.mlp.experts.3.up_proj"]["pruned_both"], len(places["layers.1.mlp.experts.3.up_proj"]))
        self.assertEqual(len(linears), 2 * (4 + 3 * 4))
        self.assertIn("different shapes", run(1, "diff", f"{self.dir}/agent", f"{self.dir}/experts", code=2))

    def test_a_model_that_moved_is_named(self):
        moved, out = f"{self.dir}/moved", f"{self.dir}/of-moved"
        os.rename(self.model, moved)
        try:
            self.assertIn("say where by --model", run(2, "export", "--mask", self.checkpoint("gpt"), "--out", out, code=74))
            run(1, "export", "--mask", self.checkpoint("gpt"), "--model", moved, "--out", out)
        finally:
            os.rename(moved, self.model)
        self.assertEqual(read(f"{out}/model.safetensors"), read(f"{self.dir}/gpt/model/model.safetensors"))

    def test_what_cannot_be_exported_is_refused(self):
        other, mask = f"{self.dir}/other", self.checkpoint("agent")
        subprocess.run([MAKE_MODEL, *SHAPE, "--seed", "2", other], check=True, capture_output=True)
        self.assertIn("--mask is missing", run(2, "export", "--out", "x", code=2))
        self.assertIn("--out is missing", run(2, "export", "--mask", mask, code=2))
        self.assertIn("is of another model", run(2, "export", "--mask", mask, "--model", other, "--out", "x", code=2))
        self.assertIn("nowhere.h5", run(3, "export", "--mask", "nowhere.h5", "--out", "x", code=74))
        self.assertIn("not replaced", run(2, "export", "--mask", mask, "--out", self.dir, code=74))
        self.assertIn("would overwrite the model", run(2, "export", "--mask", mask, "--out", self.model, code=74))
        torn = f"{self.dir}/torn.h5"
        with open(torn, "wb") as f:
            f.write(read(mask)[:20000])
        run(2, "export", "--mask", torn, "--out", f"{self.dir}/x", code=1)
        self.assertFalse(os.path.exists(f"{self.dir}/x"))

    def test_a_difference_is_that_of_the_exported_zeros(self):
        """Counted again from the two exports, bit by bit."""
        text = run(1, "diff", f"{self.dir}/agent", self.checkpoint("gpt"), "--json")
        got = json.loads(text)
        a, b = (zeros(f"{self.dir}/{name}/model/model.safetensors") for name in ("agent", "gpt"))
        self.assertEqual(list(got["linears"]), sorted(a, key=lambda n: list(got["linears"]).index(n)))
        for name, row in got["linears"].items():
            self.assertEqual((row["pruned_a"], row["pruned_b"], row["pruned_both"]),
                             (len(a[name]), len(b[name]), len(a[name] & b[name])), name)
            if a[name] | b[name]:
                self.assertAlmostEqual(row["overlap"], len(a[name] & b[name]) / len(a[name] | b[name]))
        self.assertEqual(got["all"]["pruned_both"], sum(len(a[n] & b[n]) for n in a))
        summaries = [json.loads(read(f"{self.dir}/{name}/summary.json")) for name in ("agent", "gpt")]
        for side, summary in zip((got["a"], got["b"]), summaries):
            self.assertEqual(side["sparsity"], summary["sparsity"])
            self.assertAlmostEqual(side["validation"], summary["pruned"]["validation"]["perplexity"], places=6)
            self.assertEqual(side["test"], summary["pruned"]["test"]["perplexity"])
        for option in ("prune.allocation", "prune.update", "prune.target"):
            self.assertIn(option, got["different_options"])
        for ranks in (2, 3, LAYERS + 2):
            self.assertEqual(run(ranks, "diff", f"{self.dir}/agent", self.checkpoint("gpt"), "--json"), text)

    def test_a_run_against_itself_and_an_earlier_iteration(self):
        same = json.loads(run(2, "diff", f"{self.dir}/agent", f"{self.dir}/agent", "--json"))
        self.assertEqual((same["all"]["overlap"], same["different_options"]), (1, ""))
        table = run(2, "diff", self.checkpoint("agent", 2), f"{self.dir}/agent")
        self.assertIn("iteration 2\n", table)
        self.assertEqual(len([line for line in table.splitlines() if line.startswith("layers.")]), 7 * LAYERS)
        test = next(line for line in table.splitlines() if line.startswith("perplexity, test")).split()
        self.assertEqual((test[2], test[4]), ("-", "-"), "a checkpoint of the way has no report")
        last = table.splitlines()[-1].split()
        self.assertEqual(last[:2] + last[4:6], ["all", "linears", "20.00", "%"])

    def test_what_cannot_be_compared_is_refused(self):
        run_dir, deep, empty = f"{self.dir}/agent", f"{self.dir}/deep", f"{self.dir}/empty"
        self.assertIn("two run directories", run(2, "diff", run_dir, code=2))
        self.assertIn('unexpected argument "c"', run(1, "diff", run_dir, run_dir, "c", code=2))
        self.assertIn("nowhere", run(2, "diff", run_dir, "nowhere", code=74))
        os.makedirs(empty)
        self.assertIn("holds no checkpoint", run(2, "diff", empty, run_dir, code=74))
        subprocess.run([MAKE_MODEL, *SHAPE, "--layers", "3", deep], check=True, capture_output=True)
        run(1, "prune", f"{self.dir}/run.json", "--set", f"run.dir={self.dir}/of-deep", "--set", f"model.path={deep}",
            "--set", "prune.allocation=uniform", "--set", "run.export=false")
        self.assertIn("different shapes", run(3, "diff", run_dir, f"{self.dir}/of-deep", code=2))
        shutil.rmtree(empty)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
