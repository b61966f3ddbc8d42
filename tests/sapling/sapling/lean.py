# SPDX-License-Identifier: Apache-2.0
"""A minimal Qwen3 for fast training on CPUs; its weights correspond one to one to those of Qwen3ForCausalLM."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Shape:
    vocab: int = 4096
    hidden: int = 96
    ffn: int = 256
    layers: int = 8
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    context: int = 512
    theta: float = 10000.0
    eps: float = 1e-6


def rope_tables(shape):
    inv = 1.0 / shape.theta ** (torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
    angle = torch.outer(torch.arange(shape.context).float(), inv)
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.q_proj = nn.Linear(s.hidden, s.heads * s.head_dim, bias=False)
        self.k_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.v_proj = nn.Linear(s.hidden, s.kv_heads * s.head_dim, bias=False)
        self.o_proj = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)
        self.gate_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.up_proj = nn.Linear(s.hidden, s.ffn, bias=False)
        self.down_proj = nn.Linear(s.ffn, s.hidden, bias=False)
        self.q_norm = nn.Parameter(torch.ones(s.head_dim))
        self.k_norm = nn.Parameter(torch.ones(s.head_dim))
        self.input_layernorm = nn.Parameter(torch.ones(s.hidden))
        self.post_attention_layernorm = nn.Parameter(torch.ones(s.hidden))

    def heads(self, x, weight, norm, n):
        b, t, _ = x.shape
        y = F.linear(x, weight).view(b, t, n, self.s.head_dim)
        return F.rms_norm(y, (self.s.head_dim,), norm.to(y.dtype), self.s.eps).transpose(1, 2)

    def attend(self, x, cos, sin, mask, w):
        s = self.s
        b, t, _ = x.shape
        q = rotate(self.heads(x, w["q_proj"], self.q_norm, s.heads), cos, sin)
        k = rotate(self.heads(x, w["k_proj"], self.k_norm, s.kv_heads), cos, sin)
        v = F.linear(x, w["v_proj"]).view(b, t, s.kv_heads, s.head_dim).transpose(1, 2)
        rep = s.heads // s.kv_heads
        k, v = k.repeat_interleave(rep, 1), v.repeat_interleave(rep, 1)
        score = (q @ k.transpose(-1, -2)).float() * s.head_dim**-0.5 + mask
        y = F.softmax(score, -1).to(x.dtype) @ v
        return F.linear(y.transpose(1, 2).reshape(b, t, -1), w["o_proj"])

    def forward(self, x, cos, sin, mask):
        dt = x.dtype
        w = {n: m.weight.to(dt) for n, m in self.named_children()}
        n1 = F.rms_norm(x, (x.shape[-1],), self.input_layernorm.to(dt), self.s.eps)
        x = x + self.attend(n1, cos, sin, mask, w)
        n2 = F.rms_norm(x, (x.shape[-1],), self.post_attention_layernorm.to(dt), self.s.eps)
        return x + F.linear(F.silu(F.linear(n2, w["gate_proj"])) * F.linear(n2, w["up_proj"]), w["down_proj"])


class Lean(nn.Module):
    def __init__(self, shape, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.embed = nn.Parameter(torch.empty(shape.vocab, shape.hidden).normal_(0, 0.02))
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden))
        for layer in self.layers:
            for name, m in layer.named_children():
                std = 0.5 * m.weight.shape[1] ** -0.5
                nn.init.normal_(m.weight, 0, std if name not in ("o_proj", "down_proj") else std / 4)
        cos, sin = rope_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.register_buffer("mask", torch.full((shape.context,) * 2, -1e9).triu(1), persistent=False)

    def hidden(self, ids, dtype=torch.bfloat16):
        t = ids.shape[1]
        cos, sin = self.cos[:t].to(dtype), self.sin[:t].to(dtype)
        x = F.embedding(ids, self.embed).to(dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, self.mask[:t, :t])
        return F.rms_norm(x, (x.shape[-1],), self.norm.to(dtype), self.shape.eps)

    def loss(self, ids, weights, dtype=torch.bfloat16):
        """(weighted mean cross entropy, losses, weights). Targets of weight 0 are left out before the head."""
        h = self.hidden(ids[:, :-1], dtype)
        w = weights[:, 1:].reshape(-1)
        keep = w > 0
        h = h.reshape(-1, h.shape[-1])[keep]
        logits = F.linear(h, self.embed.to(dtype)).float()
        nll = F.cross_entropy(logits, ids[:, 1:].reshape(-1)[keep], reduction="none")
        return (nll * w[keep]).sum() / w.sum(), nll.detach(), w[keep]


def hf_state(model):
    """The weights under the names of Qwen3ForCausalLM, rounded to bf16."""
    out = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        base = f"model.layers.{i}."
        for name, m in layer.named_children():
            group = "self_attn." if name[0] in "qkvo" else "mlp."
            out[base + group + name + ".weight"] = m.weight
        for name in ("q_norm", "k_norm"):
            out[f"{base}self_attn.{name}.weight"] = getattr(layer, name)
        for name in ("input_layernorm", "post_attention_layernorm"):
            out[f"{base}{name}.weight"] = getattr(layer, name)
    return {k: v.detach().to(torch.bfloat16).contiguous() for k, v in out.items()}
