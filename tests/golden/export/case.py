# SPDX-License-Identifier: Apache-2.0
"""A golden model pruned and exported by `espalier prune`, and the perplexity of the export. Standard library only."""
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

GOLDEN = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(GOLDEN.parent / "e2e"))
from common import ENVIRONMENT, ROOT, mpirun  # noqa: E402

MODELS = ("gemma3-bf16", "gemma3-pattern-f32", "qwen3moe-bf16", "qwen3moe-sliding-f32", "olmo2-bf16", "olmo3-bf16",
          "smollm3-bf16", "granite-bf16", "phi3-bf16", "qwen3-tied-bf16", "qwen2-bias-bf16", "llama-bias", "mistral-sliding")
WINDOW = 64
BYTES = 4096  # of the text
# The vocabularies of the golden models are too small for all bytes: a line feed and the printable characters of ASCII.
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
SPELLED = {"\n": "\u010a", " ": "\u0120"}  # as GPT-2 spells them


def text():
    return (ROOT / "LICENSE").read_text(encoding="ascii")[:BYTES]


def token_ids():
    return [CHARACTERS.index(c) for c in text()]


def prepare(name, place):
    """A copy of a golden model with a tokenizer of a token per character. Returns its directory."""
    source = place / "source"
    shutil.copytree(GOLDEN / "models" / name, source)
    for golden in source.glob("g*.safetensors"):  # golden, gradients
        golden.unlink()
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level,
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                           "vocab": {SPELLED.get(c, c): i for i, c in enumerate(CHARACTERS)}, "merges": []}}
    (source / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (place / "text.txt").write_text(text(), encoding="ascii")
    return source


def prune(espalier, place, score, *options):
    """Prunes to 45 % in one shot, on two ranks. Returns the directory of the export."""
    run, words = place / score, str(place / "text.txt")
    settings = {"model.path": place / "source", "run.dir": run, "calibration.text": words, "calibration.window": WINDOW,
                "calibration.forward": 16, "calibration.backward": 4, "validation.text": words,
                "validation.window": WINDOW, "validation.windows": 4, "prune.target": 0.45, "prune.allocation": "uniform",
                "prune.score": score}
    (place / "c.json").write_text("{}\n", encoding="ascii")
    command = [espalier, "prune", place / "c.json", "--quiet", *options]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    subprocess.run(mpirun(2, *command), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return run / "model"


def perplexity(espalier, model, place):
    command = [espalier, "eval", "--quiet", "--json", "--model", model, "--text", place / "text.txt", "--window",
               str(WINDOW)]
    output = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout
    return json.loads(output)["perplexity"]


def digest(model):
    """Of the weights."""
    files = sorted(model.glob("*.safetensors"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
