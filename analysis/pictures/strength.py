"""Knowledge lost by how strongly it was taught."""
import numpy as np

from results.intervals import wilson

from . import style

FEWEST = 10  # questions of a tier: with fewer, the interval says nothing and spoils the scale
NAMES = {"mmlu": "MMLU format", "freebaseqa": "FreebaseQA format"}


def fewest(part):
    """Where no tier has so many, all are drawn."""
    return FEWEST if (part.known >= FEWEST).any() else 1


def draw(ax, part, order, i, n, label, look):
    part = part[part.known >= fewest(part)]
    x = np.array([order.index(tier) for tier in part.tier]) + (0 if n < 2 else 0.5 * (i / (n - 1) - 0.5))
    bounds = np.array([wilson(lost, known) for lost, known in zip(part.lost, part.known)]).reshape(-1, 2)
    share = part.share.to_numpy(dtype=float)
    errors = np.nan_to_num(np.maximum(0, [share - bounds[:, 0], bounds[:, 1] - share]))
    ax.errorbar(x, 100 * share, yerr=100 * errors, label=label, elinewidth=1, capsize=2.5,
                **{**look, "linestyle": "none"})


def tier_labels(part):
    return [f"{row.tier}\n{row.taught:.0f}×\n{row.known}" for row in part.itertuples()]


def draw_task(ax, tables, looks, task):
    parts = {label: t[t.task == task] for label, t in tables.items()}
    most = max(parts.values(), key=len)
    for i, (label, part) in enumerate(parts.items()):
        draw(ax, part, list(most.tier), i, len(parts), label, looks.get(label, {"color": style.RED, "marker": "o"}))
    for x, known in enumerate(most.known):
        if known < fewest(most):
            ax.text(x, 0.02, "too few", transform=ax.get_xaxis_transform(), ha="center", color=style.FAINT, fontsize=8)
    ax.set_xticks(range(len(most)), tier_labels(most))
    ax.set_xlim(-0.5, len(most) - 0.5)
    ax.set_title(NAMES.get(task, task))
    ax.set_xlabel("tier of the facts, mean times taught,\nquestions that the dense model gets right")
    ax.grid(axis="y")


def lost_by_strength(tables, looks):
    """tables: {label: questions.lost_by_tier}; None if there is none."""
    tables = {label: t for label, t in tables.items() if t is not None and len(t)}
    if not tables:
        return None
    tasks = sorted({task for t in tables.values() for task in t.task})
    fig, axes, legend = style.figure_with_legend(1, len(tasks), 3.0, len(tables) if len(tables) > 1 else 0, sharey=True)
    for ax, task in zip(axes, tasks):
        draw_task(ax, tables, looks, task)
    axes[0].set_ylim(bottom=-0.03 * axes[0].get_ylim()[1])
    axes[0].set_ylabel("of these wrong after pruning, %\n(95 % Wilson)")
    if len(tables) > 1:
        style.fill_legend(legend, axes[0])
    return fig
