#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes golden.safetensors and the sharded model golden_sharded/ with the reference implementation.

Run by developers, not by CI: needs `safetensors` and `torch` from PyPI. The files are committed; test_reader.c and
test_writer.c know their contents.
"""
import json
import os

import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))


def tensors():
    return {
        "b.f32": torch.tensor([[1.0, -2.5, 3.25], [0.0, 1e-3, -1e6]], dtype=torch.float32),
        "a.bf16": torch.tensor([1.0, -2.0, 0.5, 3.140625], dtype=torch.bfloat16).reshape(2, 2),
        "c.f16": torch.tensor([0.5, 65504.0, -6.1e-5], dtype=torch.float16),
        "d.i64": torch.tensor([1 << 40, -1], dtype=torch.int64),
        "e.i32": torch.tensor([7, -7, 1 << 30], dtype=torch.int32),
        "f.u8": torch.tensor([0, 1, 255], dtype=torch.uint8),
        "g.scalar": torch.tensor(42.0, dtype=torch.float32),
        "h.empty": torch.zeros(0, 5, dtype=torch.float32),
        'i "quoted" \u00e9': torch.ones(1, dtype=torch.bfloat16),
    }


def main():
    save_file(tensors(), os.path.join(HERE, "golden.safetensors"), metadata={"format": "pt"})
    folder = os.path.join(HERE, "golden_sharded")
    os.makedirs(folder, exist_ok=True)
    parts = [{"x": torch.arange(4, dtype=torch.float32), "z": torch.ones(2, 3)}, {"y": torch.zeros(3).bfloat16()}]
    weight_map = {}
    for i, part in enumerate(parts, 1):
        name = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, os.path.join(folder, name), metadata={"format": "pt"})
        weight_map.update({tensor: name for tensor in part})
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
        json.dump({"metadata": {"total_size": 46}, "weight_map": weight_map}, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
