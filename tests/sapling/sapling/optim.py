# SPDX-License-Identifier: Apache-2.0
"""Muon, for the matrices, with the work divided among the ranks. The other parameters are trained by AdamW."""
import torch
import torch.distributed as dist


def orthogonalise(g, steps=5):
    """Orthogonalises a stack of matrices by Newton-Schulz iterations."""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.mT if tall else x).float()


class Muon:
    def __init__(self, model, rank, world, momentum=0.95):
        self.layers = [dict((n, m.weight) for n, m in layer.named_children()) for layer in model.layers]
        self.buffers = [{n: torch.zeros_like(p) for n, p in layer.items()} for layer in self.layers]
        self.rank, self.world, self.momentum = rank, world, momentum

    @torch.no_grad()
    def step(self, lr, decay):
        mine = range(self.rank, len(self.layers), self.world)
        updates = [{n: torch.zeros_like(p) for n, p in layer.items()} for layer in self.layers]
        for layer, buf in zip(self.layers, self.buffers):
            for n, p in layer.items():
                buf[n].lerp_(p.grad, 1 - self.momentum)
        for n in self.layers[0]:
            g = torch.stack([self.layers[i][n].grad.lerp(self.buffers[i][n], self.momentum) for i in mine])
            u = orthogonalise(g) * 0.2 * max(g.shape[-2:]) ** 0.5
            for k, i in enumerate(mine):
                updates[i][n] = u[k]
        flat = torch.cat([u.reshape(-1) for layer in updates for u in layer.values()])
        if self.world > 1:
            dist.all_reduce(flat)
        at = 0
        for layer in self.layers:
            for p in layer.values():
                p.mul_(1 - lr * decay).sub_(flat[at : at + p.numel()].view_as(p), alpha=lr)
                at += p.numel()


def reduce_gradients(params, world):
    if world == 1:
        return
    flat = torch.cat([p.grad.reshape(-1) for p in params])
    dist.all_reduce(flat)
    flat /= world
    at = 0
    for p in params:
        p.grad.copy_(flat[at : at + p.numel()].view_as(p))
        at += p.numel()
