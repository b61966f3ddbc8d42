# SPDX-License-Identifier: Apache-2.0
"""Heat maps over the linears: sparsity by iteration, sparsity by layer, z-scores by layer."""
import numpy as np

from rundata.masks import ATTENTION, KINDS, MLP, layer_linears

from . import style

KIND_LABELS = ("q", "k", "v", "o", "gate", "up", "down")  # in the order of masks.KINDS
SCORES = (("z_s", "z(s), weights × activations"), ("z_g", "z(g), gradients"), ("z_k", "z(k), answers' gradients"))
WRITTEN_LAYERS = 12  # with more layers, the cells are too narrow for a number
Z_LIMIT = 6  # end of the colour scale: single outliers would bleach all other cells
DARK = 0.55  # luminance (Rec. 601) below which white text reads better than black


def by_kind(values, experts=0):
    """[linears] in the order of linear_index as [kinds, layers]: of experts their mean."""
    rows = np.asarray(values, dtype=float).reshape(-1, layer_linears(experts))
    mlps = rows[:, len(ATTENTION):].reshape(len(rows), -1, len(MLP))
    with np.errstate(invalid="ignore"):
        return np.hstack([rows[:, :len(ATTENTION)], mlps.mean(axis=1)]).T


def sparsity_over_iterations(run):
    """A row per linear, in blocks of one kind; a column per iteration; triangles above the rolled-back ones."""
    states = run.states()
    if states is None:
        return None
    layers = states.shape[1] // layer_linears(run.experts)
    image = np.vstack([by_kind(row, run.experts).reshape(1, -1) for row in states]).T
    fig, axes = style.figure(height=min(8.5, 2.2 + 0.028 * max(image.shape[0], 90)))
    ax = axes[0, 0]
    drawn = ax.imshow(100 * image, aspect="auto", interpolation="nearest", cmap=style.SEQUENTIAL, vmin=0,
                      vmax=max(1.0, 100 * np.nanmax(image)))
    for k, name in enumerate(KIND_LABELS):
        ax.text(-0.012, (k + 0.5) * layers - 0.5, name, transform=ax.get_yaxis_transform(), ha="right", va="center",
                fontsize=8)
        if k:
            ax.axhline(k * layers - 0.5, color="white", linewidth=1.6)
    ax.set_yticks([])
    for column, accepted in enumerate(run.outcomes.accepted, 1):
        if not accepted:
            ax.plot(column, 1.02, marker="v", color=style.RED, markersize=5, clip_on=False,
                    transform=ax.get_xaxis_transform())
    ax.set_xlabel("iteration (state after it)" + ("   ▼ rolled back" if not run.outcomes.accepted.all() else ""))
    ax.set_ylabel(f"linears: layers 0 (top) to {layers - 1} of each kind", labelpad=30)
    ax.xaxis.get_major_locator().set_params(integer=True)
    fig.colorbar(drawn, ax=ax, label="sparsity of the linear, %", pad=0.02)
    return fig


def draw_kind_by_layer(ax, values, experts, **image):
    """A row per kind, a column per layer; with the numbers themselves where the cells have room."""
    grid = by_kind(values, experts)
    layers = grid.shape[1]
    drawn = ax.imshow(grid, aspect="auto", interpolation="nearest", **image)
    ax.set_yticks(range(len(KIND_LABELS)), KIND_LABELS)
    ax.xaxis.set_ticks(range(0, layers, 1 if layers <= 16 else 4 if layers <= 48 else 8))
    ax.tick_params(length=0)
    if layers > WRITTEN_LAYERS:
        return drawn
    span = max(drawn.norm.vmax - drawn.norm.vmin, 1e-12)
    for (k, layer), value in np.ndenumerate(grid):
        if np.isfinite(value):
            shade = drawn.cmap((value - drawn.norm.vmin) / span)
            dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < DARK
            text = f"{value:.0f}" if span > 20 else f"{round(value, 1) + 0.0:.1f}".replace("-", "−")
            ax.text(layer, k, text, ha="center", va="center", fontsize=6.5, color="white" if dark else style.INK)
    return drawn


def final_sparsity(run):
    """Sparsity of every linear at the end, from the masks of the checkpoint; from the events if there is none."""
    counted = run.count_masks()
    states = run.states() if counted is None else None
    if counted is None and states is None:
        return None
    sparsity = counted[1] / np.maximum(counted[0], 1) if counted else states[-1]
    fig, axes = style.figure(height=2.6)
    drawn = draw_kind_by_layer(axes[0, 0], 100 * sparsity, run.experts, cmap=style.SEQUENTIAL, vmin=0,
                               vmax=max(1.0, 100 * np.nanmax(sparsity)))
    axes[0, 0].set_xlabel("layer")
    fig.colorbar(drawn, ax=axes[0, 0], label="sparsity, %", pad=0.02)
    return fig


def z_scores(run):
    """z(s), z(g) and z(k) of the first and of the newest profile; a score that was not computed has no row."""
    profiles = [(i, p) for i, p in run.profiles() if len(p["z_s"]) == len(p["sparsity"]) == len(p["z_g"])]
    for _, p in profiles:  # older versions did not write z_k
        p["z_k"] = p["z_k"] if len(p["z_k"]) == len(p["z_s"]) else np.full(len(p["z_s"]), np.nan)
    chosen = profiles[:1] + (profiles[-1:] if len(profiles) > 1 else [])
    scores = [s for s in SCORES if any(np.isfinite(p[s[0]]).any() for _, p in chosen)]
    if not scores:
        return None
    top = max(float(np.nanmax(np.abs(p[key]), initial=3.0)) for _, p in chosen for key, _ in scores)
    limit = min(top, Z_LIMIT)
    fig, axes = style.figure(len(scores), len(chosen), height=0.4 + 2 * len(scores), sharex=True, sharey=True)
    for r, (key, name) in enumerate(scores):
        for c, (iteration, profile) in enumerate(chosen):
            drawn = draw_kind_by_layer(axes[r, c], profile[key], run.experts, cmap=style.DIVERGING, vmin=-limit, vmax=limit)
            axes[r, c].set_title(f"{name}, iteration {iteration}")
    for ax in axes[-1]:
        ax.set_xlabel("layer")
    fig.colorbar(drawn, ax=axes, label="z-score over all linears", pad=0.02, shrink=0.8,
                 extend="both" if top > Z_LIMIT else "neither")
    return fig
