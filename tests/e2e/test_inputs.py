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


class Hub(Case):
    """The cache of the Hugging Face hub: snapshots of links into blobs."""
    COMMIT, OTHER = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.cache = cls.work / "hub \u00fc"
        cls.repository = cls.cache / "models--own-er--Tiny.1"
        for commit in (cls.COMMIT, cls.OTHER):
            snapshot = cls.repository / "snapshots" / commit
            snapshot.mkdir(parents=True)
            (cls.repository / "blobs").mkdir(exist_ok=True)
            for path in cls.model.iterdir():
                shutil.copy(path, cls.repository / "blobs" / path.name)
                (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
        for ref, commit in (("main", cls.COMMIT + "\n"), ("refs/pr/1", cls.OTHER), ("bad", "../../../etc")):
            path = cls.repository / "refs" / ref
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(commit)
        cls.snapshot = cls.repository / "snapshots" / cls.COMMIT

    def inspect(self, given, **environment):
        out, err = run("inspect", given, environment=dict(dict(HF_HUB_CACHE="", HF_HOME=""), **environment))
        self.assertIn("prunable", out)
        return err

    def test_ids_are_found_where_the_hub_keeps_them(self):
        home = self.work / "home"
        (home / ".cache" / "huggingface").mkdir(parents=True, exist_ok=True)
        link = home / ".cache" / "huggingface" / "hub"
        if not link.exists():
            link.symlink_to(self.cache)
        for environment in (dict(HF_HUB_CACHE=str(self.cache)), dict(HF_HOME=str(link.parent)),
                            dict(XDG_CACHE_HOME=str(home / ".cache")), dict(HOME=str(home), XDG_CACHE_HOME=""),
                            dict(HF_HOME="~/.cache/huggingface", HOME=str(home))):
            with self.subTest(str(environment)):
                self.assertIn(f"snapshots/{self.COMMIT}", self.inspect("own-er/Tiny.1", **environment))

    def test_revisions(self):
        here = dict(HF_HUB_CACHE=str(self.cache))
        for revision, commit in (("main", self.COMMIT), ("refs/pr/1", self.OTHER), (self.OTHER, self.OTHER)):
            self.assertIn(f"snapshots/{commit}", self.inspect(f"own-er/Tiny.1@{revision}", **here))
        self.refused(["holds no such model of revision v9", "hf download own-er/Tiny.1 --revision v9"], "inspect",
                     "own-er/Tiny.1@v9", code=74, environment=here)
        self.refused("hf download own-er/Tiny.1 --revision bad", "inspect", "own-er/Tiny.1@bad", code=74, environment=here)
        self.refused("cannot be opened", "inspect", "own-er/Tiny.1@../../x", code=74, environment=here)
        self.refused(["Qwen/Qwen3-8B: there is no such directory", "hf download Qwen/Qwen3-8B"], "eval", "--model",
                     "Qwen/Qwen3-8B", "--text", self.text, code=74, ranks=(1, 2, 3), environment=here)

    def test_every_command_takes_an_id(self):
        here, given = dict(HF_HUB_CACHE=str(self.cache)), "own-er/Tiny.1"
        self.assertEqual(run("tokenize", "--model", given, stdin="ab", environment=here)[0], "97\n98\n")
        for ranks in (1, 2):
            run("eval", "--model", given, "--text", self.text, "--window", "32", ranks=ranks, environment=here)
        run("score", "--model", given, stdin="ab", environment=here)
        run("generate", "--model", given, "--prompt", "ab", "--max-tokens", "2", environment=here)

    def test_a_run_exports_files_and_not_links(self):
        runs = {}
        for name, path, ranks in (("id", "own-er/Tiny.1", 2), ("path", str(self.model), 1)):
            config = self.work / f"{name}.json"
            config.write_text(json.dumps(dict(
                model=dict(path=path), run=dict(dir=str(self.work / name)),
                calibration=dict(text=str(self.text), window=WINDOW, forward=2, backward=0),
                validation=dict(text=str(self.text), window=WINDOW, windows=2),
                prune=dict(target=0.3, allocation="uniform"))))
            run("prune", config, ranks=ranks, environment=dict(HF_HUB_CACHE=str(self.cache)))
            runs[name] = {p.name: p.read_bytes() for p in (self.work / name / "model").iterdir() if not p.is_symlink()}
            run("prune", config, "--resume", ranks=ranks, environment=dict(HF_HUB_CACHE=str(self.cache)))
        for name, base in (("id", "own-er/Tiny.1"), ("path", self.model.name)):
            self.assertEqual(runs[name].pop("README.md").decode().splitlines()[:2], ["---", f'base_model: "{base}"'])
            recipe = json.loads(runs[name].pop("espalier_recipe.json"))
            self.assertEqual((recipe["base_model"], recipe["config"]["model"]["path"]), (base, base))
        self.assertEqual(runs["id"], runs["path"])
        self.assertEqual(json.loads((self.work / "id" / "manifest.json").read_text())["config"]["model"]["path"],
                         str(self.snapshot))
        err = run("prune", self.work / "id.json", code=74, environment=dict(HF_HUB_CACHE="/nowhere"))[1]
        self.assertIn("model.path: own-er/Tiny.1: there is no such directory", err)

    def test_what_is_no_model_is_explained(self):
        self.refused(["is a repository of the Hugging Face cache", f"snapshots/{self.COMMIT}"], "inspect", self.repository,
                     code=74)
        broken = self.repository / "snapshots" / "4567"
        shutil.copytree(self.snapshot, broken, symlinks=True)
        (broken / "model.safetensors").unlink()
        (broken / "model.safetensors").symlink_to("../../blobs/gone")
        self.refused("model.safetensors: is a link to ../../blobs/gone, which does not exist", "inspect", broken, code=74)
        (broken / "config.json").unlink()
        (broken / "config.json").symlink_to("../../blobs/gone.json")
        self.refused("config.json: is a link to ../../blobs/gone.json", "inspect", broken, code=74)
        self.refused("is a file, expected the directory", "inspect", self.model / "config.json", code=74)


class Questions(Case):
    def test_mmlu_that_is_less_than_it_seems_is_noted(self):
        for split in ("dev", "test"):
            (self.work / "mmlu" / split).mkdir(parents=True)
            (self.work / "mmlu" / split / f"anatomy_{split}.csv").write_bytes(b"1+1?,1,2,3,4,B\n" * 2 + b"Qu\xe9?,1,2,3,4,A\n")
        for ranks in (1, 2):
            _, err = run("eval", "--model", self.model, "--mmlu", self.work / "mmlu", ranks=ranks)
            self.assertEqual(err.count("5 shots are asked for, but 1 of 1 subjects have fewer examples in dev (anatomy has 3)"),
                             1, err)
            self.assertEqual(err.count("bytes are not valid UTF-8"), 2, err)
            _, err = run("eval", "--model", self.model, "--mmlu", self.work / "mmlu", "--shots", "3", ranks=ranks)
            self.assertNotIn("shots are asked for", err)


class Tokenizers(Case):
    """tokenizer.json alone decides; what other files say beside it is noted."""

    def notes(self, name, config=None, added=None, template=None):
        target = self.work / name
        shutil.copytree(self.model, target)
        if template:
            path = target / "tokenizer.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "post_processor": template}))
        if config is not None:
            (target / "tokenizer_config.json").write_text(config if isinstance(config, str) else json.dumps(config))
        if added is not None:
            (target / "added_tokens.json").write_text(json.dumps(added))
        out, err = run("tokenize", "--model", target, stdin="ab")
        self.assertEqual(out.split()[-2:], ["97", "98"])
        return [line for line in err.splitlines() if "note:" in line]

    def test_what_differs_is_noted(self):
        bos = dict(type="TemplateProcessing", pair=[], single=[
            dict(SpecialToken=dict(id="<|endoftext|>", type_id=0)), dict(Sequence=dict(id="A", type_id=0))],
            special_tokens={"<|endoftext|>": dict(id="<|endoftext|>", ids=[256], tokens=["<|endoftext|>"])})
        extra = dict(content="<extra>", lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
        for i, (words, arguments) in enumerate((
                ('"add_bos_token" of tokenizer_config.json is true', dict(config=dict(add_bos_token=True))),
                ('"add_bos_token" of tokenizer_config.json is false', dict(config=dict(add_bos_token=False), template=bos)),
                ('"add_eos_token" of tokenizer_config.json is true', dict(config=dict(add_eos_token=True))),
                ('1 tokens of "added_tokens_decoder"', dict(config=dict(added_tokens_decoder={"300": extra}))),
                ('the first is "<|endoftext|>"', dict(config=dict(added_tokens_decoder={"7": dict(
                    extra, content="<|endoftext|>")}))),
                ('2 tokens of the special tokens', dict(config=dict(pad_token="[PAD]", eos_token=extra))),
                ("1 tokens of added_tokens.json", dict(added={"<extra>": 300})),
                ("is not read", dict(config="{")))):
            with self.subTest(words):
                notes = self.notes(f"noted{i}", **arguments)
                self.assertEqual(len(notes), 1, notes)
                self.assertIn(words, notes[0])

    def test_what_agrees_is_not(self):
        known = dict(content="<|endoftext|>", special=True)
        self.assertEqual(self.notes("quiet", config=dict(add_bos_token=False, eos_token="<|endoftext|>", pad_token=None,
                                                         added_tokens_decoder={"256": known}),
                                    added={"<|endoftext|>": 256}), [])


class Missing(Case):
    """Directories that lack something: the message says what is there instead, and the next step."""

    def directory(self, name, without=(), **files):
        target = self.work / name
        shutil.copytree(self.model, target)
        for gone in without:
            (target / gone).unlink()
        for other, content in files.items():
            (target / other.replace("__", ".")).write_bytes(content)
        return target

    def eval_refused(self, words, model, code=1):
        self.refused(words, "eval", "--model", model, "--text", self.text, code=code)

    def test_git_lfs_pointers(self):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
        for name in ("config", "tokenizer", "generation_config"):
            with self.subTest(name):
                self.eval_refused([f"{name}.json: is a Git LFS pointer", "git lfs pull"],
                                  self.directory(name, **{f"{name}__json": pointer}))
        self.eval_refused("model.safetensors: is a Git LFS pointer",
                          self.directory("weights", model__safetensors=pointer))

    def test_other_forms_of_weights(self):
        for i, (name, words) in enumerate((("pytorch_model.bin", "save_pretrained"),
                                           ("pytorch_model.bin.index.json", "save_pretrained"),
                                           ("consolidated.safetensors", "take the repository's model*.safetensors"))):
            with self.subTest(name):
                self.eval_refused([f"but {name}", words], self.directory(f"form{i}", ("model.safetensors",), **{
                    name.replace(".", "__"): b"x"}), 74)

    def test_other_forms_of_tokenizers(self):
        for i, name in enumerate(("tokenizer.model", "vocab.json")):
            with self.subTest(name):
                self.eval_refused([f"holds no tokenizer.json, but {name}", "AutoTokenizer"], self.directory(
                    f"tokenizer{i}", ("tokenizer.json",), **{name.replace(".", "__"): b"x"}), 74)

    def test_what_is_no_model(self):
        for i, (name, code, words) in enumerate((("adapter_config.json", 1, "is an adapter"),
                                                 ("tiny.Q4.gguf", 1, "tiny.Q4.gguf, a GGUF model"),
                                                 ("readme", 74, "holds no config.json"))):
            with self.subTest(name):
                target = self.work / f"no-model{i}"
                target.mkdir()
                (target / name).write_text("{}")
                self.eval_refused(words, target, code)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
