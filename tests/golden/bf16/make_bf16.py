#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Computes products.safetensors: a linear layer, forward and backward, from operands that PyTorch rounded to bf16.

y = x w^T, dx = dy w, dw = dy^T x. *_exact: in f64, so that only sums in f32 differ from it; y_bf16: PyTorch's own bf16
kernel, whose result is rounded to bf16 once more. Needs ../requirements.txt.

usage: make_bf16.py [--check]"""
import argparse
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file

FILE = pathlib.Path(__file__).resolve().parent / "products.safetensors"
TOKENS, OUT, IN = 24, 33, 80


def products():
    g = torch.Generator().manual_seed(14)
    x = torch.randn(TOKENS, IN, generator=g) * torch.logspace(-3, 2, IN)  # features of different size, as in a model
    dy = torch.randn(TOKENS, OUT, generator=g) * 1e-4
    w = (torch.randn(OUT, IN, generator=g) * 0.1).bfloat16()
    xb, dyb = x.bfloat16(), dy.bfloat16()
    xd, dyd, wd = xb.double(), dyb.double(), w.double()
    return {"x": x, "dy": dy, "w": w, "y_exact": xd @ wd.T, "dx_exact": dyd @ wd, "dw_exact": dyd.T @ xd,
            "y_size": xd.abs() @ wd.abs().T, "dx_size": dyd.abs() @ wd.abs(), "dw_size": dyd.abs().T @ xd.abs(),
            "y_bf16": torch.nn.functional.linear(xb, w)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    made = {name: (t.float() if t.dtype == torch.float64 else t).contiguous() for name, t in products().items()}
    if not parser.parse_args().check:
        save_file(made, FILE)
        return 0
    old = load_file(FILE)
    # PyTorch's own kernel adds in another order on another processor: one bf16 rounding apart
    same = old.keys() == made.keys() and all(
        torch.allclose(old[n].float(), made[n].float(), rtol=2**-7 if n == "y_bf16" else 1e-6, atol=0) for n in made)
    print("the same" if same else "different")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
