# SPDX-License-Identifier: Apache-2.0
"""Experts of a model of transformers 5, which holds those of a layer as two tensors, by the names of checkpoints, which
hold three matrices for each expert."""

import torch

ENDINGS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")


def unfused(name, tensor):
    """{name in a checkpoint: matrix} of a parameter, or the parameter as it is."""
    if not name.endswith(ENDINGS):
        return {name: tensor}
    stem, kind = name.rsplit(".", 1)
    matrices = {}
    for e, matrix in enumerate(tensor):
        parts = zip(("gate_proj", "up_proj"), matrix.chunk(2)) if kind == "gate_up_proj" else [("down_proj", matrix)]
        matrices |= {f"{stem}.{e}.{part}.weight": rows for part, rows in parts}
    return matrices


def fused(weights, model):
    """The other way: the state dict of a model from the tensors of a checkpoint."""
    state = dict(weights)
    for name, parameter in model.named_parameters():
        if name.endswith(ENDINGS):
            parts = iter([state.pop(n) for n in unfused(name, parameter)])
            twice = name.endswith("gate_up_proj")
            state[name] = torch.stack([torch.cat([next(parts), next(parts)]) if twice else next(parts)
                                       for _ in parameter])
    return state


class Expert(torch.nn.Module):
    def __init__(self, gate_up, down, activation):
        super().__init__()
        gate, up = gate_up.chunk(2)
        for name, weight in (("gate_proj", gate), ("up_proj", up), ("down_proj", down)):
            linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            linear.weight = torch.nn.Parameter(weight.detach().clone())
            self.add_module(name, linear)
        self.activation = activation

    def forward(self, x):
        return self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))


class Experts(torch.nn.ModuleList):
    """A module for each linear, so that hooks see its inputs and outputs: [tokens that were routed to it, features]."""

    def forward(self, hidden, chosen, weights):
        out = torch.zeros_like(hidden)
        for e, expert in enumerate(self):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            if len(token):
                out = out.index_add(0, token, expert(hidden[token]) * weights[token, slot, None])
        return out


def split_experts(model):
    """Gives the experts of a model modules of their own, in place. The logits stay the same."""
    probe = torch.arange(12)[None] % model.config.vocab_size
    with torch.no_grad():
        before = model(probe, use_cache=False).logits
        for layer in model.model.layers:
            packed = getattr(layer.mlp, "experts", None)
            if packed is not None and not isinstance(packed, Experts):
                layer.mlp.experts = Experts(Expert(g, d, packed.act_fn) for g, d in
                                            zip(packed.gate_up_proj, packed.down_proj))
        assert torch.allclose(model(probe, use_cache=False).logits, before, rtol=0, atol=1e-5)
    return model
