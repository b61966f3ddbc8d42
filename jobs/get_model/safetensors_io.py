# SPDX-License-Identifier: Apache-2.0
"""Writes bf16 safetensors files with NumPy alone. NumPy has no bfloat16, so the bits are computed here."""

import json
import struct

import numpy as np

BF16_BYTES = 2
HEADER_ALIGNMENT = 8  # bytes; tensors then start aligned


def bf16_bits(values):
    """A float32 array as a uint16 array of bfloat16 bits, rounded to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    half = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    rounded = ((bits + half) >> np.uint32(16)).astype(np.uint16)
    quiet_nan = ((bits >> np.uint32(16)) | np.uint32(0x40)).astype(np.uint16)
    return np.where(np.isnan(values), quiet_nan, rounded)


def header_bytes(shapes):
    """Length word and padded JSON header of a bf16 safetensors file. shapes: {name: shape} in the order of the file."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = offset + BF16_BYTES * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def write_bf16(path, shapes, load):
    """Writes the tensors named in `shapes`, one at a time; load(name) returns the float32 array of a tensor."""
    with open(path, "wb") as file:
        file.write(header_bytes(shapes))
        for name, shape in shapes.items():
            values = load(name)
            if tuple(values.shape) != tuple(shape):
                raise ValueError(f"{name}: shape {tuple(values.shape)}, expected {tuple(shape)}")
            file.write(bf16_bits(values).astype("<u2").tobytes())
