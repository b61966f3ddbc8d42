"""What sparsity costs: perplexity and knowledge over sparsity, for a run and for a sweep; all methods at one point."""
import math

import numpy as np
from matplotlib.transforms import ScaledTranslation

from results.build import at_target, nearest_target, order
from results.groups import paired, proportion, rate
from results.intervals import spread

from . import style
from .timeline import TASKS, probe_points

NAMES = {"mmlu": "MMLU", "freebaseqa": "FreebaseQA"}


# --------------------------------------------------------------------- run


def run_tradeoff(run):
    """Accepted states of one run."""
    kept = run.outcomes[run.outcomes.accepted]
    if kept.empty:
        return None
    fig, axes = style.figure(1, 2, height=2.9)
    x = np.append(0.0, 100 * kept.sparsity_after.to_numpy(dtype=float))
    y = np.append(run.dense_perplexity, kept.after.to_numpy(dtype=float))
    axes[0, 0].plot(x, y, color=style.RED, marker="o", markersize=3)
    axes[0, 0].axhline(run.dense_perplexity, color=style.FAINT, linestyle=":", linewidth=0.9)
    style.perplexity_scale(axes[0, 0], y)
    axes[0, 0].set_title("Perplexity, validation windows")
    axes[0, 0].set_ylabel("perplexity")
    run_knowledge(axes[0, 1], run)
    for ax in axes[0]:
        ax.set_xlabel("sparsity of all linears, %")
        ax.grid(True)
    return fig


def run_knowledge(ax, run):
    at = {0: 0.0, **dict(zip(run.outcomes.iteration, 100 * run.outcomes.sparsity_after))}
    ax.set_title("Knowledge probes in the loop")
    drawn = False
    for task, name, colour, marker in TASKS:
        x, value, low, high = probe_points(run, task).T
        if len(x):
            x = [at[i] for i in x]
            ax.plot(x, value, color=colour, marker=marker, markersize=3.5, label=name)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            drawn = True
    if not drawn:
        return style.nothing(ax, "no probes in this run")
    ax.set_ylabel("right, % (band: 95 % Wilson)")
    ax.legend(loc="lower left")
    ax.set_ylim(top=min(102, ax.get_ylim()[1]))


# ------------------------------------------------------------------- sweep


def beside(fig, ax, i, n):
    """A shift by a few points, so that equal sparsities of several methods can be told apart."""
    points = 0 if n < 2 else 5 * (i / (n - 1) - 0.5)
    return ax.transData + ScaledTranslation(points / 72, 0, fig.dpi_scale_trans)


def curve(groups, label, value):
    """Sorted (sparsity %, middle, low, high) of a label's groups, where finite."""
    points = [(100 * g.spread("sparsity")[0], *value(g)) for g in groups if g.label == label]
    return np.array(sorted(p for p in points if math.isfinite(p[1]))).reshape(-1, 4)


def perplexity_of(g):
    middle, sd, n = g.spread("perplexity")
    return middle, (middle - sd if n > 1 else middle), (middle + sd if n > 1 else middle)


def knowledge_of(task):
    return lambda g: tuple(100 * v for v in rate(*g.proportion(task)))


def draw_curves(fig, ax, groups, looks, value):
    for i, (label, look) in enumerate(looks.items()):
        x, middle, low, high = curve(groups, label, value).T
        if len(x):
            errors = np.maximum(0, [middle - low, high - middle])
            bars = ax.errorbar(x, middle, yerr=errors, label=label, elinewidth=0.9, capsize=0,
                               transform=beside(fig, ax, i, len(looks)), **look)
            bars.lines[2][0].set_alpha(0.5)
            ax.update_datalim(np.column_stack([np.tile(x, 2), np.append(low, high)]))
    ax.margins(0.06)
    ax.autoscale_view()
    ax.set_xlabel("sparsity of all linears, %")
    ax.grid(True)


def dense_line(ax, value, axis="h"):
    if math.isfinite(value):
        draw = ax.axhline if axis == "h" else ax.axvline
        draw(value, color=style.FAINT, linestyle=":", linewidth=1.1, label="dense", zorder=1)


def yardstick(groups):
    """The label that perplexities are drawn relative to: uniform Wanda, else the method of most targets."""
    free = [g.label for g in groups if not g.structured]
    return "uniform Wanda" if "uniform Wanda" in free else max(sorted(set(free)), key=free.count, default=None)


def relative_to(groups, label):
    """value(g): perplexity relative to that method's at the same target, paired by seed, in percent."""
    by_target = {g.target: g for g in groups if g.label == label}

    def value(g):
        base = by_target.get(g.target)
        if base is None or g.structured or g.missed or base.missed:
            return math.nan, math.nan, math.nan
        middle, sd, n = spread([100 * (y / x - 1) for x, y in paired(base, g)])
        return middle, (middle - sd if n > 1 else middle), (middle + sd if n > 1 else middle)
    return value


def draw_perplexity(fig, axes, groups, looks):
    members = [m for g in groups for m in g.members]
    draw_curves(fig, axes[0], groups, looks, perplexity_of)
    dense_line(axes[0], spread([m.dense for m in members])[0])
    style.perplexity_scale(axes[0], [m.dense for m in members] + [m.perplexity for m in members])
    axes[0].set_title(f"Perplexity, {members[0].text} text")
    axes[0].set_ylabel("perplexity (bars: ± sd over seeds)")
    label = yardstick(groups)
    if label is None:
        return style.nothing(axes[1], "no unstructured method")
    draw_curves(fig, axes[1], groups, looks, relative_to(groups, label))
    axes[1].set_title(f"Perplexity against {label}")
    axes[1].set_ylabel("difference, % (bars: ± sd)")
    return None


def sweep_tradeoff(groups):
    """One model's groups: perplexity, MMLU, FreebaseQA over sparsity, a line per method."""
    members = [m for g in groups for m in g.members]
    tasks = [t for t in NAMES if proportion(members, t)[1]]
    looks = style.look_of(groups)
    fig, axes, legend = style.figure_with_legend(2 if tasks else 1, 2, 2.75, len(looks) + 1)
    draw_perplexity(fig, axes, groups, looks)
    for ax, task in zip(axes[2:], tasks):
        draw_curves(fig, ax, groups, looks, knowledge_of(task))
        dense_line(ax, 100 * rate(*proportion(members, task, dense=True))[0])
        ax.set_title(NAMES[task])
        ax.set_ylabel("right, % (bars: 95 % Wilson)")
    for ax in axes[2 + len(tasks):]:
        ax.axis("off")
    style.fill_legend(legend, axes[0])
    return fig


# ------------------------------------------------------------- at one point


def point_rows(groups, point):
    """Unstructured groups at the target nearest to the point, best first, then the structured ones."""
    target = nearest_target(groups, point)
    return order(at_target(groups, target)) + order([g for g in groups if g.structured]), target


def draw_point_perplexity(ax, rows, looks):
    for y, g in enumerate(rows):
        look = {**looks[g.label], "linestyle": "none"}
        values = [v for v in g.values("perplexity") if math.isfinite(v)]
        ax.plot(values, [y] * len(values), linestyle="none", marker="|", markersize=9, color=look["color"], alpha=0.7)
        ax.plot(g.spread("perplexity")[0], y, **look)
    members = [m for g in rows for m in g.members]
    dense_line(ax, spread([m.dense for m in members])[0], "v")
    style.perplexity_scale(ax, [m.dense for m in members] + [m.perplexity for m in members], "x")
    ax.set_xlabel(f"perplexity, {members[0].text} text\n(strokes: seeds)")


def draw_point_knowledge(ax, rows, looks, task):
    for y, g in enumerate(rows):
        middle, low, high = knowledge_of(task)(g)
        if math.isfinite(middle):
            look = {**looks[g.label], "linestyle": "none"}
            ax.errorbar(middle, y, xerr=[[max(0, middle - low)], [max(0, high - middle)]], elinewidth=1.1, capsize=2,
                        **look)
    dense_line(ax, 100 * rate(*proportion([m for g in rows for m in g.members], task, dense=True))[0], "v")
    ax.set_xlabel(f"{NAMES[task]},\n% (95 % Wilson)")


def at_point(groups, point):
    """All methods at one sparsity, and the N:M baselines below a line."""
    rows, target = point_rows(groups, point)
    free = sum(not g.structured for g in rows)
    if len(rows) < 2:
        return None
    tasks = [t for t in NAMES if proportion([m for g in rows for m in g.members], t)[1]]
    looks = style.look_of(groups)
    fig, axes = style.figure(1, 1 + len(tasks), height=1.5 + 0.26 * len(rows), sharey=True)
    draw_point_perplexity(axes[0, 0], rows, looks)
    for ax, task in zip(axes[0, 1:], tasks):
        draw_point_knowledge(ax, rows, looks, task)
    for ax in axes[0]:
        ax.grid(True)
        if 0 < free < len(rows):
            ax.axhline(free - 0.5, color=style.INK, linewidth=0.7)
    axes[0, 0].set_yticks(range(len(rows)), [g.label + (f" ({100 * g.spread('sparsity')[0]:.0f} %)" if g.structured or
                                                        g.missed else "") for g in rows])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    title = f"{100 * target:g} % of all linears" if free else "N:M patterns"
    axes[0, 0].set_title(title + ", dotted: dense")
    return fig
