# SPDX-License-Identifier: Apache-2.0
"""Makes the tiny models of tests/golden and the numbers that transformers computes with them.

usage: make_models.py              writes models/ and SHA256SUMS beside this file
       make_models.py --only NAME  writes only this model, and SHA256SUMS; may be given several times
       make_models.py --gradients  writes only gradients.safetensors of the existing models, and SHA256SUMS
       make_models.py --check      makes everything again elsewhere and compares: weights and configs byte for byte,
                                   numbers within the tolerance
       make_models.py --features   shows, per model, how much each feature changes the logits
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from experts import fused, split_experts, unfused
from gradients import gradient_tensors
from specs import SPECS

HERE = Path(__file__).resolve().parent
INDEX = "model.safetensors.index.json"
BATCH = 2
PROMPT_TOKENS, GREEDY_TOKENS = 8, 16
TOLERANCE = 1e-5  # of --check, relative to a tensor's largest value
MIN_EFFECT = 1e-2  # smallest change of a logit that every feature must cause
MIN_MARGIN = 1e-3  # between the best and the second logit of a greedy step
MAX_BYTES_PER_MODEL, MAX_BYTES = 420_000, 8_500_000
MAX_GRADIENT_BYTES = 70_000


# ---- weights ----

def stream(spec, purpose):
    """The random numbers for one tensor, from NumPy's legacy generator: its stream never changes between versions."""
    return np.random.RandomState(zlib.crc32(f"{spec.name}/{purpose}".encode()))


def scale_of(spec, name, shape, tied):
    """(mean, standard deviation) that give hidden states of O(1), and logits and attention scores far from uniform."""
    if name.endswith("norm.weight"):
        return (1.4 if "self_attn" in name else 1.0) - spec.norm_offset, 0.25
    if name.endswith(".bias"):
        return 0.0, 0.4
    if "embed_tokens" in name:
        return 0.0, (2.0 * shape[1] ** -0.5 if tied else 1.0)
    gain = 2.0 if "lm_head" in name else 1.4
    return 0.0, gain * shape[1] ** -0.5


def random_weights(spec, model):
    """{name: tensor of the stored dtype} of all parameters in a checkpoint of this model."""
    tied = model.config.tie_word_embeddings
    weights = {}
    for name, parameter in (item for p in model.named_parameters() for item in unfused(*p).items()):
        mean, deviation = scale_of(spec, name, parameter.shape, tied)
        values = mean + deviation * stream(spec, name).standard_normal(tuple(parameter.shape))
        weights[name] = torch.from_numpy(values.astype(np.float32)).to(getattr(torch, spec.dtype))
    if spec.legacy_inv_freq:
        for layer in range(model.config.num_hidden_layers):
            weights[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = model.model.rotary_emb.inv_freq.clone()
    return weights


def save_weights(spec, weights, directory):
    """Writes one file, or `shards` files with an index. Names are dealt out in turn, so that each layer spans files."""
    names = sorted(weights)
    if spec.shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return
    files = {n: f"model-{i % spec.shards + 1:05d}-of-{spec.shards:05d}.safetensors" for i, n in enumerate(names)}
    for file in sorted(set(files.values())):
        save_file({n: weights[n] for n in names if files[n] == file}, directory / file, metadata={"format": "pt"})
    total = sum(t.numel() * t.element_size() for t in weights.values())
    write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": files})


def stored_weights(directory):
    """All tensors of a model directory."""
    files = sorted(directory.glob("model*.safetensors"))
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def make_directory(spec, directory):
    """Writes the Hugging Face directory: config.json exactly as specified, and random weights."""
    directory.mkdir(parents=True)
    write_json(directory / "config.json", spec.config)
    config = transformers.AutoConfig.from_pretrained(directory)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    save_weights(spec, random_weights(spec, model), directory)


# ---- numbers ----

def load_model(directory):
    """The model in float32. Raises RuntimeError if a tensor is missing, unexpected or of the wrong shape."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {kind: names for kind, names in info.items() if names}
    if wrong:
        raise RuntimeError(f"{directory.name}: {wrong}")
    return model.eval()


def input_ids(spec):
    """[BATCH, tokens]"""
    draw = stream(spec, "input_ids").randint(0, spec.config["vocab_size"], (BATCH, spec.tokens))
    return torch.from_numpy(draw.astype(np.int64))


@contextmanager
def captured_states(model):
    """Collects the residual stream: {"hidden.0": before the first layer, "hidden.i": after layer i, "final_norm": what the
    head multiplies}."""
    states, handles = {}, []

    def watch(module, name, divisor=1):
        handles.append(module.register_forward_hook(lambda _m, _a, out: states.__setitem__(name, out / divisor)))

    handles.append(model.model.layers[0].register_forward_pre_hook(
        lambda _m, inputs: states.__setitem__("hidden.0", inputs[0])))
    for i, layer in enumerate(model.model.layers):
        watch(layer, f"hidden.{i + 1}")
    watch(model.model.norm, "final_norm", getattr(model.config, "logits_scaling", 1))
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def token_logprobs(logits, ids):
    """[B, T, V], [B, T] -> [B, T-1]: log p of each next token."""
    return torch.log_softmax(logits[:, :-1], dim=-1).gather(-1, ids[:, 1:, None])[..., 0]


def forward_tensors(model, ids):
    with torch.no_grad(), captured_states(model) as states:
        logits = model(ids, use_cache=False).logits
    return {"logits": logits, "logprobs": token_logprobs(logits, ids), **states}


def greedy_tensor(model, ids):
    """Greedy continuation of the first PROMPT_TOKENS of sequence 0, with a full forward pass for each token."""
    sequence = ids[:1, :PROMPT_TOKENS]
    for _ in range(GREEDY_TOKENS):
        with torch.no_grad():
            best = model(sequence, use_cache=False).logits[0, -1].topk(2)
        if best.values[0] - best.values[1] < MIN_MARGIN:
            raise RuntimeError("a greedy step is too close to call")
        sequence = torch.cat([sequence, best.indices[None, :1]], dim=1)
    return sequence[0, PROMPT_TOKENS:]


def golden_tensors(spec, model):
    """All tensors of golden.safetensors."""
    ids = input_ids(spec)
    tensors = {"input_ids": ids, "greedy": greedy_tensor(model, ids), **forward_tensors(model, ids)}
    return {name: as_array(tensor) for name, tensor in tensors.items()}


def as_array(tensor):
    """Integers as int32, floats as float32."""
    array = tensor.detach().contiguous().numpy()
    return array.astype(np.int32) if array.dtype == np.int64 else array.astype(np.float32, copy=False)


# ---- requirements for every model ----

def logits_with(spec, directory, changes, edit=lambda weights: None):
    """Logits with changes to the config and an edit of the stored weights."""
    config = transformers.AutoConfig.for_model(**{**spec.config, **changes})
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager").eval()
    weights = {n: t.float() for n, t in stored_weights(directory).items() if not n.endswith("inv_freq")}
    edit(weights)
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(fused(weights, model))
    with torch.no_grad():
        return model(input_ids(spec), use_cache=False).logits


def edits(spec, weights):
    """{feature: edit of the weights that removes it}."""
    def fill(ending, value):
        def edit(table):
            for name in table:
                if name.endswith(ending):
                    table[name] = torch.full_like(table[name], value)
        return edit

    def swap_kv_heads(table):
        heads = spec.config["num_key_value_heads"]
        for name in table:
            if name.endswith("qkv_proj.weight"):  # q, k and v as one
                d = spec.config["hidden_size"] // spec.config["num_attention_heads"]
                q, kv = table[name].split([spec.config["hidden_size"], 2 * heads * d])
                table[name] = torch.cat([q, kv.unflatten(0, (2, heads, d)).flip(1).flatten(0, 2)])
            if name.endswith(("k_proj.weight", "v_proj.weight")):
                table[name] = table[name].unflatten(0, (heads, -1)).flip(0).flatten(0, 1)

    endings = sorted({name.split("layers.0.")[1] for name in weights
                      if "layers.0." in name and name.endswith((".bias", "norm.weight"))})
    none = 1.0 - spec.norm_offset  # the weight of a norm that multiplies by 1
    found = {e: fill(e, 0.0 if e.endswith(".bias") else none) for e in endings}
    found["model.norm.weight"] = fill("model.norm.weight", none)
    if 1 < spec.config.get("num_key_value_heads", 1) < spec.config["num_attention_heads"]:
        found["order of kv heads"] = swap_kv_heads
    return found


def feature_effects(spec, directory):
    """{feature: largest change of a logit when it is removed}."""
    base = logits_with(spec, directory, {})
    effects = {feature: logits_with(spec, directory, changes) for feature, changes in spec.without.items()}
    for feature, edit in edits(spec, stored_weights(directory)).items():
        effects[feature] = logits_with(spec, directory, {}, edit)
    return {feature: (base - logits).abs().max().item() for feature, logits in effects.items()}


# The field of the theta of sliding layers in the classic style. OLMo 3 has none: its class takes its default.
LOCAL_THETA = {"gemma3_text": "rope_local_base_freq", "olmo3": None}


def by_kind_in_other_style(config):
    """The same for a family whose full and sliding layers have RoPE of their own. Returns None if there is no classic
    style of this config: it has no scaling of sliding layers."""
    other, local = dict(config), LOCAL_THETA[config["model_type"]]
    if "rope_parameters" in config:
        full, sliding = (dict(config["rope_parameters"][kind]) for kind in ("full_attention", "sliding_attention"))
        if sliding["rope_type"] != "default" or not local:
            return None
        del other["rope_parameters"]
        other |= {"rope_theta": full.pop("rope_theta"), local: sliding["rope_theta"], "torch_dtype": other.pop("dtype")}
        other["rope_scaling"] = None if full["rope_type"] == "default" else full
        return other
    full = {**(other.pop("rope_scaling") or {"rope_type": "default"}), "rope_theta": other.pop("rope_theta")}
    other["rope_parameters"] = {"full_attention": full,
                                "sliding_attention": {"rope_type": "default",
                                                      "rope_theta": other.pop(local) if local else 500000.0}}
    other["dtype"] = other.pop("torch_dtype")
    return other


def in_other_style(config):
    """Converts a config from the classic style of the hub to that of transformers 5, or back."""
    if config["model_type"] in LOCAL_THETA:
        return by_kind_in_other_style(config)
    other = dict(config)
    for before, after in (("num_experts", "num_local_experts"), ("num_local_experts", "num_experts")):
        if before in config:
            other[after] = other.pop(before)
    if "rope_parameters" in config:
        rope = dict(other.pop("rope_parameters"))
        other["rope_theta"] = rope.pop("rope_theta")
        other["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        other["torch_dtype"] = other.pop("dtype")
        return other
    rope = dict(other.pop("rope_scaling", None) or {"rope_type": "default"})
    rope["rope_type"] = rope.pop("type", None) or rope["rope_type"]
    other["rope_parameters"] = {**rope, "rope_theta": other.pop("rope_theta", 10000.0)}
    other["dtype"] = other.pop("torch_dtype")
    return other


def check_styles(spec, directory, golden):
    """Both styles of the config must give the logits of the golden file."""
    for config in (spec.config, in_other_style(spec.config)):
        if config is None:
            continue
        other = type(spec)(spec.name, config, spec.dtype, spec.tokens)
        if not np.allclose(logits_with(other, directory, {}).numpy(), golden["logits"], rtol=0, atol=1e-5):
            raise RuntimeError(f"{spec.name}: the two styles of config differ")


def check_features(spec, directory):
    weak = {f: e for f, e in feature_effects(spec, directory).items() if not e > MIN_EFFECT}
    if weak:
        raise RuntimeError(f"{spec.name}: features that hardly matter: {weak}")


def check_size(directory, limit):
    """The files are committed, so they must stay small."""
    total = sum(f.stat().st_size for f in directory.rglob("*") if f.is_file())
    print(f"{directory.name}: {total} bytes")
    if total > limit:
        raise RuntimeError(f"{directory.name}: more than {limit} bytes")


# ---- commands ----

def make_gradients(spec, directory):
    path = directory / "gradients.safetensors"
    save_arrays(gradient_tensors(split_experts(load_model(directory)), input_ids(spec), getattr(torch, spec.dtype)), path)
    if path.stat().st_size > MAX_GRADIENT_BYTES:
        raise RuntimeError(f"{path}: more than {MAX_GRADIENT_BYTES} bytes")


def make(spec, root):
    directory = root / spec.name
    make_directory(spec, directory)
    golden = golden_tensors(spec, load_model(directory))
    save_arrays(golden, directory / "golden.safetensors")
    make_gradients(spec, directory)
    check_styles(spec, directory, golden)
    check_features(spec, directory)
    check_size(directory, MAX_BYTES_PER_MODEL)


def make_only(names):
    """Replaces these models."""
    for spec in SPECS:
        if spec.name not in names:
            continue
        with tempfile.TemporaryDirectory(dir=HERE) as place:
            make(spec, Path(place))
            shutil.rmtree(HERE / "models" / spec.name, ignore_errors=True)
            shutil.move(Path(place) / spec.name, HERE / "models" / spec.name)
    write_sums(HERE / "models")
    return 0


def make_all(root):
    for spec in SPECS:
        make(spec, root)
    check_size(root, MAX_BYTES)


def write_sums(root):
    files = sorted(f for f in root.rglob("*") if f.is_file())
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.relative_to(root.parent)}" for f in files]
    (root.parent / "SHA256SUMS").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write():
    with tempfile.TemporaryDirectory(dir=HERE) as place:
        root = Path(place) / "models"
        make_all(root)
        shutil.rmtree(HERE / "models", ignore_errors=True)
        shutil.move(root, HERE / "models")
    write_sums(HERE / "models")
    return 0


def difference(made, kept):
    """Largest difference of two golden files, relative to the largest value of the tensor; inf if integers differ."""
    made, kept = load_arrays(made), load_arrays(kept)
    if made.keys() != kept.keys() or any(made[n].shape != kept[n].shape for n in made):
        return np.inf
    if any(not np.array_equal(made[n], kept[n]) for n in made if made[n].dtype == np.int32):
        return np.inf
    return max(np.abs(made[n] - kept[n]).max() / np.abs(kept[n]).max() for n in made if made[n].dtype != np.int32)


def compare(made, kept):
    """What is wrong with a file, or None."""
    if not kept.exists():
        return "is missing"
    if made.name not in ("golden.safetensors", "gradients.safetensors"):
        return None if made.read_bytes() == kept.read_bytes() else "differs"
    far = difference(made, kept)
    return None if far <= TOLERANCE else f"differs by {far:g}"


def check():
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "models"
        make_all(root)
        for made in sorted(f for f in root.rglob("*") if f.is_file()):
            path = made.relative_to(root)
            complaint = compare(made, HERE / "models" / path)
            if complaint:
                wrong += 1
                print(f"{path} {complaint}")
    print(f"{wrong} files differ" if wrong else "all as committed")
    return 1 if wrong else 0


def write_gradients():
    for spec in SPECS:
        make_gradients(spec, HERE / "models" / spec.name)
    write_sums(HERE / "models")
    return 0


def show_features():
    for spec in SPECS:
        effects = feature_effects(spec, HERE / "models" / spec.name)
        print(spec.name + ": " + ", ".join(f"{f} {e:.3g}" for f, e in effects.items()))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true")
    mode.add_argument("--features", action="store_true")
    mode.add_argument("--gradients", action="store_true")
    mode.add_argument("--only", metavar="NAME", action="append", choices=[spec.name for spec in SPECS])
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    if arguments.check:
        return check()
    if arguments.gradients:
        return write_gradients()
    if arguments.only:
        return make_only(arguments.only)
    return show_features() if arguments.features else write()


if __name__ == "__main__":
    sys.exit(main())
