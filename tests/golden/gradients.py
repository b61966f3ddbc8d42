# SPDX-License-Identifier: Apache-2.0
"""Computes gradients.safetensors (README.md): the results of a calibration, by PyTorch autograd and NumPy."""

import numpy as np
import torch

ATTENTION, MLP = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), ("gate", "up", "down")
FRACTION = 0.10
LEVELS = 16


FUSED = {"self_attn.q_proj": "self_attn.qkv_proj", "self_attn.k_proj": "self_attn.qkv_proj",
         "self_attn.v_proj": "self_attn.qkv_proj", "mlp.gate_proj": "mlp.gate_up_proj",
         "mlp.up_proj": "mlp.gate_up_proj"}  # of families that store several linears as one


def mlps(config):
    """Where the MLP of a layer is, or its experts (experts.split_experts)."""
    experts = getattr(config, "num_experts", 0)
    return [f"mlp.experts.{e}" for e in range(experts)] if experts else ["mlp"]


def paths(config):
    """The linears of a layer."""
    return [*ATTENTION, *(f"{mlp}.{kind}_proj" for mlp in mlps(config) for kind in MLP)]


def input_paths(config):
    """One linear of each input that linears of a layer share."""
    return ["self_attn.q_proj", "self_attn.o_proj", *(f"{m}.{k}_proj" for m in mlps(config) for k in ("gate", "down"))]


def input_of(place):
    """The input of the linear at a place of a layer."""
    mlp, kind = divmod(place - len(ATTENTION), len(MLP))
    return int(place == 3) if place < len(ATTENTION) else 2 + 2 * mlp + (kind == 2)


class Linear:
    """Rows of a module: all of them, or those of one of the linears that it holds."""

    def __init__(self, layer, path, config):
        self.rows, names = slice(None), {name for name, _ in layer.named_modules()}
        if path not in names:
            heads, d = config.num_attention_heads, config.hidden_size // config.num_attention_heads
            kv, ffn = config.num_key_value_heads * d, config.intermediate_size
            first, n = {"q_proj": (0, heads * d), "k_proj": (heads * d, kv), "v_proj": (heads * d + kv, kv),
                        "gate_proj": (0, ffn), "up_proj": (ffn, ffn)}[path.split(".")[1]]
            self.rows, path = slice(first, first + n), FUSED[path]
        self.module = layer.get_submodule(path)

    @property
    def weight(self):
        return self.module.weight[self.rows]

    @property
    def gradient(self):
        grad = self.module.weight.grad  # None: an expert that no token reached
        return (torch.zeros_like(self.module.weight) if grad is None else grad)[self.rows]

    @property
    def in_features(self):
        return self.module.in_features

    @property
    def out_features(self):
        return self.weight.shape[0]

    def watch(self, add):
        """Calls add with the gradient of the output in every backward pass. Returns a handle."""
        def hook(_module, _inputs, output):
            output.register_hook(lambda gradient: add(gradient[..., self.rows]))
        return self.module.register_forward_hook(hook)


def linears(model):
    """All linears, layer after layer."""
    return [Linear(layer, path, model.config) for layer in model.model.layers for path in paths(model.config)]


def input_modules(layer, config):
    """The modules that read the inputs of a layer."""
    names = {name for name, _ in layer.named_modules()}
    return [layer.get_submodule(path if path in names else FUSED[path]) for path in input_paths(config)]


def total(x):
    """Sum over all but the last dimension, in f64."""
    return x.double().flatten(0, -2).sum(0)


def kept(index, shape):
    """The mask of the masked variant: prunes 30 % of linear `index` by a rule that the C test repeats."""
    r, c = np.indices(shape)
    return torch.from_numpy((r * 31 + c * 17 + index * 5) % 10 >= 3)


def sample_gradients(model, ids):
    """(loss, dL/d(input of the first layer) [T, C]) of one sequence [1, T]; the gradients of the weights are left in the
    model."""
    model.zero_grad()
    entered = []
    handle = model.model.layers[0].register_forward_pre_hook(lambda _module, inputs: entered.append(inputs[0]))
    embedded = model.model.embed_tokens(ids).detach().requires_grad_()
    logits = model(inputs_embeds=embedded, use_cache=False).logits
    handle.remove()
    entered[0].retain_grad()
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:])
    loss.backward()
    return loss.detach(), entered[0].grad[0]


def squares(model, ids):
    """(sums, tokens): for each layer and input the sum of x^2 over all tokens, in f64, and how many tokens came; to an
    expert those that were routed to it. One that none reached counts as if one had, with features of 1."""
    sums, tokens, handles = [], [], []
    for layer in model.model.layers:
        modules = input_modules(layer, model.config)
        sums.append([torch.ones(module.in_features, dtype=torch.float64) for module in modules])
        tokens.append([1] * len(modules))
        for i, module in enumerate(modules):
            def add(_module, inputs, own=(sums[-1], tokens[-1], i)):
                own[0][own[2]] = total(inputs[0].double() ** 2)
                own[1][own[2]] = inputs[0].numel() // inputs[0].shape[-1]
            handles.append(module.register_forward_pre_hook(add))
    with torch.no_grad():
        model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    return sums, tokens


def quantiles(model, sums, masks):
    """[linears]: the value of rank floor(0.1 (n - 1)) among |W| sqrt(squares) of the n surviving weights, by sorting."""
    found = []
    for index, linear in enumerate(linears(model)):
        layer, place = divmod(index, len(paths(model.config)))
        part = sums[layer][input_of(place)]
        scores = (linear.weight.detach().double().abs() * part.sqrt())[masks[index]].sort().values
        found.append(scores[int(np.floor(FRACTION * (len(scores) - 1)))])
    return torch.stack(found)


def output_squares(model, ids):
    """List of [out], one per linear: sum over samples and tokens of (d mean loss / d output)^2, in f64."""
    found = [torch.zeros(l.out_features, dtype=torch.float64) for l in linears(model)]
    handles = []
    for sums, linear in zip(found, linears(model)):
        def add(gradient, sums=sums):
            sums += total(gradient.double() ** 2)
        handles.append(linear.watch(add))
    for sample in ids.split(1):
        sample_gradients(model, sample)
    for handle in handles:
        handle.remove()
    return with_unreached(model, ids, found)


def with_unreached(model, ids, found):
    """The same, in which an expert without gradients has those of one token, the mean of its layer's experts. Every token
    reaches as many experts."""
    count, places = len(mlps(model.config)), len(paths(model.config))
    if count == 1:
        return found
    pairs = ids.numel() * model.config.num_experts_per_tok
    for layer in range(len(model.model.layers)):
        for kind in range(len(MLP)):
            at = [layer * places + len(ATTENTION) + e * len(MLP) + kind for e in range(count)]
            mean = sum(found[i].sum() for i in at) / (pairs * len(found[at[0]]))
            for i in at:
                if not found[i].any():
                    found[i] = torch.full_like(found[i], mean)
    return found


def damage(model, ids, sums, reached, dense):
    """[linears, LEVELS]: the predicted rise of the loss when every output row of a linear is pruned to level k.

    Level k removes the (k + 1) in / LEVELS weights of each row with the smallest |W_oj| sqrt(E[x_j^2]). The rise is 1/2
    sum of W_oj^2 E[x_j^2] E[(dl/dy_o)^2] over the removed weights, with l the loss of a token and W of the dense model.
    Of an expert, E[x^2] is over the tokens that reach it: the gradients of the others are 0.
    """
    tokens, length = ids.numel(), ids.shape[1]
    curves = []
    for index, (gradient, weight) in enumerate(zip(output_squares(model, ids), dense)):
        layer, place = divmod(index, len(paths(model.config)))
        x = sums[layer][input_of(place)] / reached[layer][input_of(place)]
        g = gradient * (length - 1) ** 2 / tokens
        n = weight.shape[1]
        cost = (weight.double() ** 2 * x).sort(dim=1).values.cumsum(1) * g[:, None]
        curve = torch.cat([torch.zeros(1, dtype=torch.float64), cost.sum(0)]) / 2
        curves.append(curve[[(k + 1) * n // LEVELS for k in range(LEVELS)]])
    return torch.stack(curves)


def measure(model, ids, masks, dense):
    """{name: tensor} of one variant, dense or masked."""
    losses, means, embeddings = [], [], []
    for sample in ids.split(1):
        loss, embedding = sample_gradients(model, sample)
        losses.append(loss)
        embeddings.append(embedding)
        means.append(torch.stack([l.gradient.double().abs()[m].mean() for l, m in zip(linears(model), masks)]))
    sums, reached = squares(model, ids)
    return {"loss": torch.stack(losses), "gradient": torch.stack(means), "embedding": torch.stack(embeddings),
            "squares": torch.stack([torch.cat(parts) for parts in sums]), "quantile": quantiles(model, sums, masks),
            "damage": damage(model, ids, sums, reached, dense)}


def answer_positions(length):
    """Positions whose next token counts as an answer, by a rule that the C test repeats."""
    return [t for t in range(length - 1) if t % 3 == 1]


CHOICES = (1, 5, 2, 7)  # ids that the letters' loss compares


def answer_loss(model, sample, mean_targets, letters):
    """Sum of the losses of a sample's answers over the mean number of answers of a sample."""
    at = answer_positions(sample.shape[1])
    logits = model(sample, use_cache=False).logits[0, at]
    if letters:
        logits, targets = logits[:, CHOICES], torch.tensor([t % len(CHOICES) for t in at])
    else:
        targets = sample[0, [t + 1 for t in at]]
    return torch.nn.functional.cross_entropy(logits, targets, reduction="sum") / mean_targets


def answer_tensors(model, ids, letters):
    """Losses, mean |dL/dW| of each linear, and sums of (dL/dy)^2 of all linears' outputs, one after the other."""
    losses, means = [], []
    count = len(answer_positions(ids.shape[1]))
    squares_of, handles = [torch.zeros(l.out_features, dtype=torch.float64) for l in linears(model)], []
    for sums, linear in zip(squares_of, linears(model)):
        def add(gradient, sums=sums):
            sums += total(gradient.double() ** 2)
        handles.append(linear.watch(add))
    for sample in ids.split(1):
        model.zero_grad()
        loss = answer_loss(model, sample, count, letters)
        loss.backward()
        losses.append(loss.detach())
        means.append(torch.stack([l.gradient.double().abs().mean() for l in linears(model)]))
    for handle in handles:
        handle.remove()
    return {"loss": torch.stack(losses), "gradient": torch.stack(means).mean(0), 
            "outputs": torch.cat(with_unreached(model, ids, squares_of))}


def distill_tensors(model, ids, teacher):
    """Divergence of the model's predictions from logits `teacher` [B, T, V], over the first T - 1 tokens; and of its
    gradient summed over samples, for each linear, the sum weighted by a rule and the sum of absolute values."""
    losses = []
    model.zero_grad()
    for sample, logits in zip(ids.split(1), teacher):
        own = torch.log_softmax(model(sample, use_cache=False).logits[0, :-1], -1)
        wanted = torch.log_softmax(logits[:-1], -1)
        loss = (wanted.exp() * (wanted - own)).sum(-1).mean()
        loss.backward()
        losses.append(loss.detach())
    sums = []
    for linear in linears(model):
        r, c = np.indices(tuple(linear.weight.shape))
        gradient = linear.gradient.double()
        weights = torch.from_numpy((r * 31 + c * 17) % 7 - 3)
        sums.append(torch.stack([(gradient * weights).sum(), gradient.abs().sum()]))
    return {"loss": torch.stack(losses), "sums": torch.stack(sums)}


RATE, STEPS = 0.01, 3


def distill_moves(model, ids, teacher, masks, dtype):
    """Steps of torch.optim.Adam on the masked model's linears towards logits `teacher`, both samples in each step: for
    each linear, the sum of the surviving weights' changes weighted by a rule, and of their absolute values. The steps see
    weights rounded to `dtype`, and so are the results; Adam's own stay in f32."""
    own = [linear.weight.detach().clone().requires_grad_() for linear in linears(model)]
    sizes = [w[m].square().mean().sqrt().item() for w, m in zip(own, masks)]
    adam = torch.optim.Adam([{"params": [w]} for w in own], lr=1, betas=(0.9, 0.99), eps=1e-8)
    start = [w.detach().clone() for w in own]
    for step in range(STEPS):
        distill_tensors(model, ids, teacher)  # gradients of the sum over samples
        for w, linear, mask, group, size in zip(own, linears(model), masks, adam.param_groups, sizes):
            w.grad = linear.gradient * mask / len(ids)
            group["lr"] = RATE * size * (STEPS - step) / STEPS
        adam.step()
        with torch.no_grad():
            for w, linear, mask in zip(own, linears(model), masks):
                linear.weight.copy_(w.to(dtype).float() * mask)
    sums = []
    for w, before, mask in zip(own, start, masks):
        r, c = np.indices(tuple(w.shape))
        change = ((w.to(dtype).float() - before) * mask).detach().double()
        sums.append(torch.stack([(change * torch.from_numpy((r * 31 + c * 17) % 7 - 3)).sum(), change.abs().sum()]))
    return torch.stack(sums)


def gradient_tensors(model, ids, dtype):
    """All tensors of gradients.safetensors; `model` is masked afterwards."""
    dense = [torch.ones(l.weight.shape, dtype=torch.bool) for l in linears(model)]
    masks = [kept(i, tuple(l.weight.shape)) for i, l in enumerate(linears(model))]
    weights = [l.weight.detach().clone() for l in linears(model)]
    tensors = measure(model, ids, dense, weights)
    for name, letters in (("answers", False), ("letters", True)):
        tensors |= {f"{name}.{key}": tensor for key, tensor in answer_tensors(model, ids, letters).items()}
    with torch.no_grad():
        teacher = model(ids, use_cache=False).logits
        for linear, mask in zip(linears(model), masks):
            linear.weight.mul_(mask)
    masked = measure(model, ids, masks, weights)
    del masked["embedding"]  # files stay small
    tensors |= {f"masked.{name}": tensor for name, tensor in masked.items()}
    tensors |= {f"distill.{name}": tensor for name, tensor in distill_tensors(model, ids, teacher).items()}
    tensors["distill.moves"] = distill_moves(model, ids, teacher, masks, dtype)
    return {name: tensor.detach().contiguous().numpy().astype(np.float32) for name, tensor in tensors.items()}
