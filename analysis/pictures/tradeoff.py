# SPDX-License-Identifier: Apache-2.0
"""What sparsity costs: perplexity and knowledge over sparsity, of a run and of a sweep; all methods at one sparsity."""
import math

import numpy as np
from matplotlib.transforms import ScaledTranslation

from results.groups import paired, proportion, rate_interval
from results.intervals import spread
from results.select import at_target, best_first, members_of, nearest_target

from . import style
from .timeline import TASKS, probe_points

TASK_TITLES = {"mmlu": "MMLU", "freebaseqa": "FreebaseQA"}


# --------------------------------------------------------------------- run


def run_tradeoff(run):
    """Perplexity and, if the run has them, probes of the accepted states over their sparsity."""
    kept = run.outcomes[run.outcomes.accepted]
    if kept.empty:
        return None
    probed = any(len(probe_points(run, task)) for task, *_ in TASKS)
    fig, axes = style.figure(1, 2 if probed else 1, height=2.9)
    x = np.append(0.0, 100 * kept.sparsity_after.to_numpy(dtype=float))
    y = np.append(run.dense_perplexity, kept.after.to_numpy(dtype=float))
    axes[0, 0].plot(x, y, color=style.RED, marker="o", markersize=3)
    axes[0, 0].axhline(run.dense_perplexity, color=style.FAINT, linestyle=":", linewidth=0.9)
    style.perplexity_scale(axes[0, 0], y)
    axes[0, 0].set_title("Perplexity, validation windows")
    axes[0, 0].set_ylabel("perplexity")
    if probed:
        draw_run_probes(axes[0, 1], run)
    for ax in axes[0]:
        ax.set_xlabel("sparsity of all linears, %")
        ax.grid(True)
    return fig


def draw_run_probes(ax, run):
    sparsity_at = {0: 0.0, **dict(zip(run.outcomes.iteration, 100 * run.outcomes.sparsity_after))}
    ax.set_title("Knowledge probes in the loop")
    for task, name, colour, marker in TASKS:
        iterations, value, low, high = probe_points(run, task).T
        if len(iterations):
            x = [sparsity_at[i] for i in iterations]
            ax.plot(x, value, color=colour, marker=marker, markersize=3.5, label=name)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_ylabel("right, % (band: 95 % Wilson)")
    ax.legend(loc="lower left")
    ax.set_ylim(top=min(102, ax.get_ylim()[1]))


# ------------------------------------------------------------------- sweep
#
# A curve is drawn from value(g) -> (middle, low, high) of each group of a label.


def mean_and_sd(values):
    """(mean, mean - sd, mean + sd); of a single value no bar."""
    middle, sd, n = spread(values)
    return middle, (middle - sd if n > 1 else middle), (middle + sd if n > 1 else middle)


def perplexity_of(g):
    return mean_and_sd(g.values("perplexity"))


def knowledge_of(task):
    """value(g): percent right, with the Wilson interval."""
    return lambda g: tuple(100 * v for v in rate_interval(*g.proportion(task)))


def difference_from(groups, label):
    """value(g): relative difference of perplexity from the method `label` at the same target, by seed, in percent."""
    reference_at = {g.target: g for g in groups if g.label == label}

    def value(g):
        reference = reference_at.get(g.target)
        if reference is None or g.structured or g.missed or reference.missed:
            return math.nan, math.nan, math.nan
        return mean_and_sd([100 * (y / x - 1) for x, y in paired(reference, g)])
    return value


def draw_curves(fig, ax, groups, looks, value):
    """value(g) over sparsity, a line per label.

    The labels are shifted by a few points against each other, so that bars at equal sparsity can be told apart.
    """
    for i, (label, look) in enumerate(looks.items()):
        points = [(100 * g.spread("sparsity")[0], *value(g)) for g in groups if g.label == label]
        x, middle, low, high = np.array(sorted(p for p in points if math.isfinite(p[1]))).reshape(-1, 4).T
        if not len(x):
            continue
        shift = 0 if len(looks) < 2 else 5 * (i / (len(looks) - 1) - 0.5)
        errors = np.maximum(0, [middle - low, high - middle])
        bars = ax.errorbar(x, middle, yerr=errors, label=label, elinewidth=0.9, capsize=0,
                           transform=ax.transData + ScaledTranslation(shift / 72, 0, fig.dpi_scale_trans), **look)
        bars.lines[2][0].set_alpha(0.5)
        # matplotlib leaves artists with a transform of their own out of the axes' limits
        ax.update_datalim(np.column_stack([np.tile(x, 2), np.append(low, high)]))
    ax.margins(0.06)
    ax.autoscale_view()
    ax.set_xlabel("sparsity of all linears, %")
    ax.grid(True)


def draw_dense_line(ax, value, vertical=False):
    if math.isfinite(value):
        draw = ax.axvline if vertical else ax.axhline
        draw(value, color=style.FAINT, linestyle=":", linewidth=1.1, label="dense", zorder=1)


def draw_sweep_perplexity(fig, ax, groups, looks):
    members = members_of(groups)
    draw_curves(fig, ax, groups, looks, perplexity_of)
    draw_dense_line(ax, spread([m.dense for m in members])[0])
    style.perplexity_scale(ax, [m.dense for m in members] + [m.perplexity for m in members])
    ax.set_title(f"Perplexity, {members[0].text} text")
    ax.set_ylabel("perplexity (bars: ± sd over seeds)")


def reference_label(groups):
    """The method that others are drawn against: uniform Wanda, else the one with the most targets. None if no other
    method can be compared with it."""
    free = [g.label for g in groups if not g.structured]
    if not free:
        return None
    label = "uniform Wanda" if "uniform Wanda" in free else max(sorted(set(free)), key=free.count)
    value = difference_from(groups, label)
    return label if any(g.label != label and math.isfinite(value(g)[0]) for g in groups) else None


def sweep_tradeoff(groups):
    """One model's groups: perplexity, its difference from a reference, MMLU and FreebaseQA, a line per method."""
    members = members_of(groups)
    tasks = [t for t in TASK_TITLES if proportion(members, t)[1]]
    looks, reference = style.look_of(groups), reference_label(groups)
    panels = 1 + (reference is not None) + len(tasks)
    columns = {4: 2}.get(panels, panels)
    fig, axes, legend = style.figure_with_legend(panels // columns, columns, 2.75, ["dense", *looks])
    draw_sweep_perplexity(fig, axes[0], groups, looks)
    if reference is not None:
        draw_curves(fig, axes[1], groups, looks, difference_from(groups, reference))
        axes[1].set_title(f"Perplexity against {reference}")
        axes[1].set_ylabel("difference, % (bars: ± sd)")
    for ax, task in zip(axes[panels - len(tasks):], tasks):
        draw_curves(fig, ax, groups, looks, knowledge_of(task))
        draw_dense_line(ax, 100 * rate_interval(*proportion(members, task, dense=True))[0])
        ax.set_title(TASK_TITLES[task])
        ax.set_ylabel("right, % (bars: 95 % Wilson)")
    style.fill_legend(legend, axes[0])
    return fig


# ------------------------------------------------------------- at one point


def draw_point_perplexity(ax, rows, looks):
    """A row per group: its mean, and a stroke per seed."""
    for y, g in enumerate(rows):
        look = {**looks[g.label], "linestyle": "none"}
        values = [v for v in g.values("perplexity") if math.isfinite(v)]
        ax.plot(values, [y] * len(values), linestyle="none", marker="|", markersize=9, color=look["color"], alpha=0.7)
        ax.plot(g.spread("perplexity")[0], y, **look)
    members = members_of(rows)
    draw_dense_line(ax, spread([m.dense for m in members])[0], vertical=True)
    style.perplexity_scale(ax, [m.dense for m in members] + [m.perplexity for m in members], "x")
    ax.set_xlabel(f"perplexity, {members[0].text} text\n(strokes: seeds)")


def draw_point_knowledge(ax, rows, looks, task):
    """A row per group: percent right, with the Wilson interval."""
    for y, g in enumerate(rows):
        middle, low, high = knowledge_of(task)(g)
        if math.isfinite(middle):
            look = {**looks[g.label], "linestyle": "none"}
            ax.errorbar(middle, y, xerr=[[max(0, middle - low)], [max(0, high - middle)]], elinewidth=1.1, capsize=2,
                        **look)
    draw_dense_line(ax, 100 * rate_interval(*proportion(members_of(rows), task, dense=True))[0], vertical=True)
    ax.set_xlabel(f"{TASK_TITLES[task]},\n% (95 % Wilson)")


def at_point(groups, point):
    """All unstructured methods at the target nearest to the point, best first; the N:M patterns below a line."""
    target = nearest_target(groups, point)
    free = best_first(at_target(groups, target))
    rows = free + best_first([g for g in groups if g.structured])
    if len(rows) < 2:
        return None
    tasks = [t for t in TASK_TITLES if proportion(members_of(rows), t)[1]]
    looks = style.look_of(groups)
    fig, axes = style.figure(1, 1 + len(tasks), height=1.5 + 0.26 * len(rows), sharey=True)
    draw_point_perplexity(axes[0, 0], rows, looks)
    for ax, task in zip(axes[0, 1:], tasks):
        draw_point_knowledge(ax, rows, looks, task)
    for ax in axes[0]:
        ax.grid(True)
        if 0 < len(free) < len(rows):
            ax.axhline(len(free) - 0.5, color=style.INK, linewidth=0.7)
    # groups that are not at the target say their sparsity
    labels = [g.label + (f" ({100 * g.spread('sparsity')[0]:.0f} %)" if g.structured or g.missed else "") for g in rows]
    axes[0, 0].set_yticks(range(len(rows)), labels)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    axes[0, 0].set_title((f"{100 * target:g} % of all linears" if free else "N:M patterns") + ", dotted: dense")
    return fig
