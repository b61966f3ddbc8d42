# SPDX-License-Identifier: Apache-2.0
"""Counts the masks of a checkpoint (docs/checkpoint-format.md) independently of the program that wrote them."""
import h5py
import numpy as np

KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
         "mlp.up_proj", "mlp.down_proj")
# Set bits of each byte value. NumPy has bitwise_count only from version 2; Debian 12 has 1.24.
BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def linear_name(index):
    """Name of a linear by its index, as the program numbers them: layer * 7 + kind."""
    return f"layers.{index // len(KINDS)}.{KINDS[index % len(KINDS)]}"


def linear_index(name):
    """Index of a linear by its name; -1 if it is not the name of a linear."""
    parts = str(name).split(".", 2)
    if len(parts) != 3 or parts[0] != "layers" or not parts[1].isdigit() or parts[2] not in KINDS:
        return -1
    return int(parts[1]) * len(KINDS) + KINDS.index(parts[2])


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
        weights = np.zeros(layers * len(KINDS), dtype=np.int64)
        pruned = np.zeros_like(weights)
        for k, kind in enumerate(KINDS):
            masks = f[f"masks/{kind}"]
            columns = int(masks.attrs["in"])
            for layer in range(layers):
                words = masks[layer]
                at = layer * len(KINDS) + k
                weights[at] = masks.shape[1] * columns
                pruned[at] = weights[at] - int(BITS_SET[words.astype("<u8").view(np.uint8)].sum(dtype=np.int64))
                if pattern and follows:
                    follows = follows_pattern(kept_weights(words, columns), *pattern)
    return weights, pruned, follows
