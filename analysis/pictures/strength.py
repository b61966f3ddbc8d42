# SPDX-License-Identifier: Apache-2.0
"""Knowledge lost by how strongly each fact was taught."""
import numpy as np

from results.intervals import wilson

from . import style

MIN_KNOWN = 10  # known questions of a tier: with fewer, the interval is so wide that it spoils the scale
FORMATS = {"mmlu": "MMLU format", "freebaseqa": "FreebaseQA format"}


def min_known(part):
    """The threshold for drawing a tier; where no tier reaches MIN_KNOWN, all are drawn."""
    return MIN_KNOWN if (part.known >= MIN_KNOWN).any() else 1


def draw_method(ax, part, order, shift, label, look):
    """The share of lost questions of one method by tier, with Wilson intervals."""
    part = part[part.known >= min_known(part)]
    x = np.array([order.index(tier) for tier in part.tier]) + shift
    bounds = np.array([wilson(lost, known) for lost, known in zip(part.lost, part.known)]).reshape(-1, 2)
    share = part.share.to_numpy(dtype=float)
    errors = np.nan_to_num(np.maximum(0, [share - bounds[:, 0], bounds[:, 1] - share]))
    ax.errorbar(x, 100 * share, yerr=100 * errors, label=label, elinewidth=1, capsize=2.5,
                **{**look, "linestyle": "none"})


def draw_task(ax, tables, looks, task):
    """All methods side by side; the tiers are those of the method with the most."""
    parts = {label: t[t.task == task] for label, t in tables.items()}
    widest = max(parts.values(), key=len)
    for i, (label, part) in enumerate(parts.items()):
        shift = 0 if len(parts) < 2 else 0.5 * (i / (len(parts) - 1) - 0.5)
        draw_method(ax, part, list(widest.tier), shift, label, looks.get(label, {"color": style.RED, "marker": "o"}))
    for x, known in enumerate(widest.known):
        if known < min_known(widest):
            ax.text(x, 0.02, "too few", transform=ax.get_xaxis_transform(), ha="center", color=style.FAINT, fontsize=8)
    ax.set_xticks(range(len(widest)), [f"{row.tier}\n{row.taught:.0f}×\n{row.known}" for row in widest.itertuples()])
    ax.set_xlim(-0.5, len(widest) - 0.5)
    ax.set_title(FORMATS.get(task, task))
    ax.set_xlabel("tier of the facts, mean times taught,\nquestions that the dense model gets right")
    ax.grid(axis="y")


def lost_by_strength(tables, looks):
    """tables: {label: questions.lost_by_tier or None}, looks: {label: keywords of plot}."""
    tables = {label: t for label, t in tables.items() if t is not None and len(t)}
    if not tables:
        return None
    tasks = sorted({task for t in tables.values() for task in t.task})
    fig, axes, legend = style.figure_with_legend(1, len(tasks), 3.0, list(tables) if len(tables) > 1 else [],
                                                 sharey=True)
    for ax, task in zip(axes, tasks):
        draw_task(ax, tables, looks, task)
    axes[0].set_ylim(bottom=-0.03 * axes[0].get_ylim()[1])
    axes[0].set_ylabel("of these wrong after pruning, %\n(95 % Wilson)")
    if len(tables) > 1:
        style.fill_legend(legend, axes[0])
    return fig
