"""Masks of a checkpoint (docs/checkpoint-format.md), counted without the program that wrote them."""
import numpy as np

KINDS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
         "mlp.up_proj", "mlp.down_proj")
BITS_SET = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def linear_name(index):
    return f"layers.{index // len(KINDS)}.{KINDS[index % len(KINDS)]}"


def linear_index(name):
    """The inverse; -1 for what is no linear's name."""
    parts = str(name).split(".", 2)
    if len(parts) != 3 or parts[0] != "layers" or not parts[1].isdigit() or parts[2] not in KINDS:
        return -1
    return int(parts[1]) * len(KINDS) + KINDS.index(parts[2])


def columns_kept(words, columns):
    """One layer's mask [out, words] as booleans [out, in]: column c is bit c % 64 of word c / 64."""
    octets = np.ascontiguousarray(words.astype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little")[:, :columns].astype(bool)


def follows_pattern(kept, n, m):
    """Does every group of m inputs keep at most n? A rest of t < m inputs loses at least floor(t (m - n) / m)."""
    rows, columns = kept.shape
    whole = columns - columns % m
    if (kept[:, :whole].reshape(rows, -1, m).sum(axis=2) > n).any():
        return False
    rest = columns - whole
    return not (kept[:, whole:].sum(axis=1) > rest - rest * (m - n) // m).any()


def count_masks(path, pattern=None):
    """(weights, pruned) per linear in the order of linear_index, and whether all keep to the N:M pattern (None: not
    asked). One layer of one kind in memory at a time."""
    import h5py
    with h5py.File(path, "r") as f:
        if not int(f.attrs["complete"]):
            raise OSError(f"{path} is not complete")
        layers, good = int(f.attrs["layers"]), None if pattern is None else True
        weights = np.zeros(layers * len(KINDS), dtype=np.int64)
        pruned = np.zeros_like(weights)
        for k, kind in enumerate(KINDS):
            data = f[f"masks/{kind}"]
            columns = int(data.attrs["in"])
            for layer in range(layers):
                words = data[layer]
                at = layer * len(KINDS) + k
                weights[at] = data.shape[1] * columns
                pruned[at] = weights[at] - int(BITS_SET[words.astype("<u8").view(np.uint8)].sum(dtype=np.int64))
                if pattern and good:
                    good = follows_pattern(columns_kept(words, columns), *pattern)
    return weights, pruned, good
