# SPDX-License-Identifier: Apache-2.0
"""Counts the masks of a checkpoint (docs/checkpoint-format.md) independently of the program that wrote them."""
import h5py
import numpy as np

KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
         "mlp.up_proj", "mlp.down_proj")
# Set bits of each byte value. NumPy has bitwise_count only from version 2; Debian 12 has 1.24.
BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


ATTENTION, MLP = KINDS[:4], KINDS[4:]


def layer_linears(experts=0):
    """Linears of a layer: of attention, then of its MLP or of each of its experts."""
    return len(ATTENTION) + len(MLP) * max(experts, 1)


def linear_index(name, experts=0):
    """Index of a linear by its name, as the program numbers them, layer after layer; -1 if it is not the name of a linear
    of a model with so many experts in a layer."""
    parts = str(name).split(".", 2)
    if len(parts) != 3 or parts[0] != "layers" or not parts[1].isdigit():
        return -1
    first, path = int(parts[1]) * layer_linears(experts), parts[2].split(".")
    if experts and path[:2] == ["mlp", "experts"] and len(path) == 4 and path[2].isdigit() and int(path[2]) < experts:
        kind, expert = f"mlp.{path[3]}", int(path[2])
        return first + len(ATTENTION) + len(MLP) * expert + MLP.index(kind) if kind in MLP else -1
    return first + KINDS.index(parts[2]) if parts[2] in (ATTENTION if experts else KINDS) else -1


def places(kind, layers, experts):
    """Indices of the linears of a kind, layer after layer, expert after expert."""
    if kind in ATTENTION:
        return [layer * layer_linears(experts) + ATTENTION.index(kind) for layer in range(layers)]
    first = len(ATTENTION) + MLP.index(kind)
    return [layer * layer_linears(experts) + first + len(MLP) * e for layer in range(layers) for e in range(max(experts, 1))]


def kept_weights(words, columns):
    """The mask of one linear, uint64 [out, words], as booleans [out, in]: column c is bit c % 64 of word c / 64."""
    octets = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :columns].astype(bool)


def follows_pattern(kept, n, m):
    """True if every group of m inputs keeps at most n weights.

    A remainder of t < m inputs at the end of a row must lose at least floor(t (m - n) / m).
    """
    rows, columns = kept.shape
    in_groups = columns - columns % m
    if (kept[:, :in_groups].reshape(rows, -1, m).sum(axis=2) > n).any():
        return False
    rest = columns - in_groups
    return not (kept[:, in_groups:].sum(axis=1) > rest - rest * (m - n) // m).any()


def count_masks(path, pattern=None):
    """(weights, pruned, follows): weights and pruned weights of each linear, in the order of linear_index.

    `follows` says whether all linears follow the N:M `pattern`; None if no pattern is given. Holds the mask of one
    linear in memory at a time. Raises OSError for a checkpoint that is not complete.
    """
    with h5py.File(path, "r") as f:
        if not int(f.attrs["complete"]):
            raise OSError(f"{path} is not complete")
        layers, follows = int(f.attrs["layers"]), None if pattern is None else True
        experts = len(f["masks/mlp.experts.gate_proj"]) // layers if "mlp.experts.gate_proj" in f["masks"] else 0
        weights = np.zeros(layers * layer_linears(experts), dtype=np.int64)
        pruned = np.zeros_like(weights)
        for kind in KINDS:
            masks = f["masks/" + (kind.replace("mlp.", "mlp.experts.") if experts else kind)]
            columns = int(masks.attrs["in"])
            for piece, at in enumerate(places(kind, layers, experts)):
                words = masks[piece]
                weights[at] = masks.shape[1] * columns
                pruned[at] = weights[at] - int(BITS_SET[words.astype("<u8").view(np.uint8)].sum(dtype=np.int64))
                if pattern and follows:
                    follows = follows_pattern(kept_weights(words, columns), *pattern)
    return weights, pruned, follows
