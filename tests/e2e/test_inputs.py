#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What people have as models and texts: each oddity is read as it should be, or refused with the next step.

tests/e2e/test_inputs.py ESPALIER MAKE_RANDOM_MODEL

An input that is read must give the numbers of its plain form, which other tests compare with transformers.
"""
import gzip
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

from common import ENVIRONMENT, SLOW, mpirun

ESPALIER, MAKE_MODEL = (os.path.abspath(p) for p in sys.argv[1:3])
# One token per byte, so that the tests can say which tokens a window has.
SHAPE = "--layers 3 --hidden 64 --heads 4 --kv-heads 2 --head-dim 32 --ffn 96 --vocab 300 --byte-tokenizer".split()
WINDOW = 64
DOCUMENTS = [f"Document {i}: the quick brown fox jumps over {i * i} lazy dogs.\n" * 3 for i in range(24)]


def run(*args, ranks=1, code=0, stdin="", environment=None):
    """Standard output and standard error."""
    command = mpirun(ranks, ESPALIER, *args) if ranks > 1 else [ESPALIER, *map(str, args)]
    p = subprocess.run(command, input=stdin, capture_output=True, text=True,
                       env=dict(ENVIRONMENT, **(environment or {})), timeout=240 * SLOW)
    if p.returncode != code:
        raise AssertionError(f"{args} on {ranks}: exit {p.returncode}, expected {code}: {p.stderr}")
    return p.stdout, p.stderr


def read_tensors(path):
    """name -> [entry of the header, bytes]"""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: [entry, data[8 + size + entry["data_offsets"][0]:8 + size + entry["data_offsets"][1]]]
            for name, entry in header.items()}


def write_tensors(path, tensors):
    header, at = {}, 0
    for name, (entry, data) in tensors.items():
        header[name] = dict(entry, data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(d for _, d in tensors.values()))


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="espalier-inputs-")
        cls.work = pathlib.Path(cls.folder.name)
        cls.model = cls.work / "model"
        subprocess.run([MAKE_MODEL, *SHAPE, cls.model], check=True, capture_output=True)
        cls.text = cls.work / "joined.txt"
        cls.text.write_text("\n\n".join(DOCUMENTS))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def nll(self, model, text=None, ranks=1, window=WINDOW):
        out, _ = run("eval", "--model", model, "--text", text or self.text, "--window", str(window), "--json",
                     "--quiet", ranks=ranks)
        return json.loads(out)["nll"]

    def refused(self, words, *args, code=1, ranks=(1, 2), environment=None):
        """The same message from any number of ranks, once."""
        for n in ranks:
            _, err = run(*args, ranks=n, code=code, environment=environment)
            lines = [line for line in err.splitlines() if line.startswith("espalier:")]
            self.assertEqual(len(lines), 1, err)
            for word in words if isinstance(words, (list, tuple)) else [words]:
                self.assertIn(word, lines[0])

    def prune(self, name, ranks=1, code=0, **sections):
        """The summary of a run in one shot, or its message if it fails."""
        config = dict(model=dict(path=str(self.model)), run=dict(dir=str(self.work / name), export=False),
                      calibration=dict(text=str(self.text), window=WINDOW, forward=6, backward=2),
                      validation=dict(text=str(self.text), window=WINDOW, windows=2),
                      prune=dict(target=0.3, allocation="uniform"))
        for section, values in sections.items():
            config.setdefault(section, {}).update(values)
        path = self.work / f"{name}.json"
        path.write_text(json.dumps(config))
        _, err = run("prune", path, ranks=ranks, code=code)
        return err if code else json.loads((self.work / name / "summary.json").read_text())


class Texts(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        lines = "".join(json.dumps(dict(text=d, url="http://example.org", timestamp="2020-01-01")) + "\n"
                        for d in DOCUMENTS)
        cls.forms = {name: cls.work / name for name in ("c4.jsonl", "c4-validation.json", "c4.00000-of-01024.json.gz",
                                                        "c4.list.json", "c4.raw")}
        for name, path in cls.forms.items():
            if name.endswith(".gz"):
                path.write_bytes(gzip.compress(lines.encode()))
            else:
                path.write_text(json.dumps([dict(text=d) for d in DOCUMENTS], indent=1) if "list" in name else lines)

    def test_content_decides_in_eval(self):
        plain = self.nll(self.model)
        for name, path in self.forms.items():
            with self.subTest(name):
                self.assertEqual(self.nll(self.model, path, ranks=2), plain)

    def test_content_decides_in_a_run(self):
        plain = self.prune("plain", report=dict(text=str(self.text), window=WINDOW))
        for i, path in enumerate(self.forms.values()):
            with self.subTest(path.name):
                other = self.prune(f"form{i}", calibration=dict(text=str(path)), validation=dict(text=str(path)),
                                   report=dict(text=str(path), window=WINDOW))
                self.assertEqual(other, plain)

    def test_a_prompt_is_no_file_of_documents(self):
        prompt = '{"text": "ab"}'
        out, _ = run("score", "--model", self.model, "--quiet", stdin=prompt)
        self.assertEqual(len(out.splitlines()), len(prompt))

    def test_what_is_no_text_is_refused(self):
        for name, data, words in (("damaged.jsonl", b'"text": "a"}\n', "line 1: not JSON"),
                                  ("other.jsonl", b'{"content": "a"}\n', 'found "content"'),
                                  ("cut.json.gz", gzip.compress(b"x" * 1000)[:-9], "ends early"),
                                  ("t.parquet", b"PAR1\x15\0\x15", "Parquet"),
                                  ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
                                   "git lfs pull")):
            with self.subTest(name):
                path = self.work / name
                path.write_bytes(data)
                self.refused([name, words], "eval", "--model", self.model, "--text", path, "--window", "8")

    def test_windows_inside_documents(self):
        """With one token per byte, the windows inside documents are known, and a joined text can hold the same."""
        documents, first = self.work / "documents.jsonl", self.work / "windows.txt"
        texts = [chr(97 + i) * WINDOW * (1 + i % 2) + "tail" for i in range(6)]
        windows = [t[:WINDOW] for t in texts for _ in range(len(t) // WINDOW)][:6]
        documents.write_text("".join(json.dumps(dict(text=t)) + "\n" for t in texts))
        first.write_text("".join(windows))
        consecutive = dict(sample="consecutive")
        joined = self.prune("first", calibration=dict(text=str(first), **consecutive))
        for ranks in (1, 2, 3):
            inside = self.prune(f"inside{ranks}", ranks,
                                calibration=dict(text=str(documents), documents="inside", **consecutive))
            self.assertEqual(inside["identity"]["calibration"], joined["identity"]["calibration"])

    def test_random_windows_inside_documents(self):
        """Only one document is long enough: all windows are that one."""
        documents, same = self.work / "one.jsonl", self.work / "same.txt"
        texts = ["z" * (WINDOW - 1)] * 40 + ["abcdefgh" * (WINDOW // 8)] + ["y" * 5] * 40
        documents.write_text("".join(json.dumps(dict(text=t)) + "\n" for t in texts))
        same.write_text(texts[40] * 6)
        joined = self.prune("same", calibration=dict(text=str(same), sample="consecutive"))
        for ranks in (1, 2):
            inside = self.prune(f"random{ranks}", ranks, calibration=dict(text=str(documents), documents="inside"))
            self.assertEqual(inside["identity"]["calibration"], joined["identity"]["calibration"])
        documents.write_text("".join(json.dumps(dict(text=t)) + "\n" for t in texts[:40]))
        for ranks in (1, 2):
            err = self.prune(f"short{ranks}", ranks, 2, calibration=dict(text=str(documents), documents="inside"))
            self.assertIn("its 40 documents hold 0 windows of 64 tokens", err)
            self.assertIn("the longest document has 63 tokens", err)


class Models(Case):
    """Copies of one model, each with an oddity of real directories. Perplexity must be that of the plain one."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tied = cls.work / "tied"
        subprocess.run([MAKE_MODEL, *SHAPE, "--tied", cls.tied], check=True, capture_output=True)

    def copy(self, name, source=None, config=None, tensors=None):
        """tensors: a function from name -> [entry, bytes] to the same"""
        target = self.work / name
        shutil.copytree(source or self.model, target)
        if config:
            path = target / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
        if tensors:
            path = target / "model.safetensors"
            write_tensors(path, tensors(read_tensors(path)))
        return target

    def same(self, name, plain=None, note=None, **changes):
        plain = plain or self.model
        model = self.copy(name, source=plain, **changes)
        for ranks in (1, 2, 3):
            self.assertEqual(self.nll(model, ranks=ranks), self.nll(plain), f"{name} on {ranks} ranks")
        if note:
            _, err = run("eval", "--model", model, "--text", self.text, "--window", "8", "--limit", "8", ranks=2)
            self.assertEqual(err.count(note), 1, err)
            self.assertIn(note, run("inspect", model)[1])
        return model

    def test_names_without_model(self):
        def bare(tensors):
            return {n.removeprefix("model."): t for n, t in tensors.items()}
        self.same("bare", tensors=bare, note='lack "model."')
        model = self.same("bare-tied", plain=self.tied, tensors=bare)
        names = set(read_tensors(model / "model.safetensors"))
        self.assertIn("layers.0.mlp.up_proj.weight", names)
        # The export has the names of its source, and the weights that a run of the plain model exports.
        runs = {}
        for ranks, source in ((1, self.tied), (3, model)):
            self.prune(f"export{ranks}", ranks, model=dict(path=str(source)), run=dict(
                dir=str(self.work / f"export{ranks}"), export=True))
            runs[ranks] = read_tensors(self.work / f"export{ranks}" / "model" / "model.safetensors")
        self.assertEqual(set(runs[3]), names)
        self.assertEqual({n.removeprefix("model."): t[1] for n, t in runs[1].items()},
                         {n: t[1] for n, t in runs[3].items()})

    def test_tied_with_the_head_alone(self):
        def head(tensors):
            return {"lm_head.weight" if "embed_tokens" in n else n: t for n, t in tensors.items()}
        self.same("head-only", plain=self.tied, tensors=head)
        untied = self.copy("untied-head-only", tensors=lambda t: {n: v for n, v in t.items() if "embed_tokens" not in n})
        self.refused('no tensor "model.embed_tokens.weight"', "eval", "--model", untied, "--text", self.text)

    def test_rotary_tables(self):
        def tables(tensors):
            for i, (dtype, size) in enumerate((("F32", 4), ("F64", 8), ("BOOL", 1))):
                for key in ("inv_freq", "cos_cached", "sin_cached"):
                    tensors[f"model.layers.{i}.self_attn.rotary_emb.{key}"] = [dict(dtype=dtype, shape=[16]),
                                                                              b"\1" * (16 * size)]
            return tensors
        self.same("rotary", tensors=tables)
        extra = self.copy("extra", tensors=lambda t: {**t, "model.layers.0.mlp.gate.weight": [
            dict(dtype="F64", shape=[1]), b"\0" * 8]})
        self.refused('unexpected tensor "model.layers.0.mlp.gate.weight"', "inspect", extra)
        f64 = self.copy("f64", tensors=lambda t: {**t, "model.norm.weight": [dict(dtype="F64", shape=[64]), b"\0" * 512]})
        self.refused(['"model.norm.weight"', "unsupported dtype F64"], "inspect", f64)

    def test_config_keys_that_change_nothing(self):
        for i, (change, note) in enumerate((
                (dict(architectures=["qwen3forcausallm"]), "is read as Qwen3ForCausalLM"),
                (dict(architectures=["Qwen3Model"]), "is read as Qwen3ForCausalLM"),
                (dict(embd_pdrop=None, gradient_checkpointing=True), '"embd_pdrop" is ignored'),
                (dict(rope_scaling=dict(type="default", finetuned=True)), '"finetuned" is ignored'),
                (dict(eos_token_id=[0, 151645], bos_token_id=300), "151645 is not in the vocabulary of 300"))):
            with self.subTest(str(change)):
                self.same(f"config{i}", config=change, note=note)
        variant = self.copy("variant", config=dict(residual_scale=0.5))
        self.refused(['"residual_scale"', "may change the model"], "inspect", variant)

    def test_dynamic_rope_within_the_trained_length(self):
        scaling = dict(rope_scaling=dict(type="dynamic", factor=2.0), max_position_embeddings=WINDOW)
        dynamic = self.same("dynamic", config=scaling)
        self.refused(["dynamic", "a context of 65 is wanted"], "eval", "--model", dynamic, "--text", self.text, "--window",
                     WINDOW + 1)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0]], verbosity=2)
