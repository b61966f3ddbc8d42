# SPDX-License-Identifier: Apache-2.0
"""A run iteration by iteration: perplexity with rollbacks, sparsity, knowledge probes."""
import numpy as np

from results.intervals import wilson

from . import style

TASKS = (("mmlu", "MMLU", style.BLUE, "s"), ("freebaseqa", "FreebaseQA", "#009e73", "o"))


def accepted_line(outcomes, start, column):
    """The column's value in the state after each iteration; before the first it is `start`."""
    values = [start]
    for row in outcomes.itertuples():
        values.append(getattr(row, column) if row.accepted else values[-1])
    return np.array(values, dtype=float)


def draw_loop_perplexity(ax, run):
    """The accepted states, the limit that each iteration had to keep, and the rolled-back iterations."""
    o = run.outcomes
    state = accepted_line(o, run.dense_perplexity, "after")
    ax.axhline(run.dense_perplexity, color=style.FAINT, linewidth=0.9, linestyle=":", label="dense")
    ax.step(np.arange(len(state)), state, where="post", color=style.INK, label="accepted state")
    if np.isfinite(run.threshold):
        ax.step(np.arange(1, len(state)), state[:-1] * (1 + run.threshold), where="mid", color=style.FAINT,
                linewidth=0.9, linestyle="--", label=f"limit: +{100 * run.threshold:g} %")
    # One iteration that ruins everything must not hide all others: values above the picture are drawn at its top edge,
    # with their numbers.
    shown = [v for v in (*state * (1 + np.nan_to_num(run.threshold)), *state) if np.isfinite(v)]
    top = 1.25 * max(shown, default=1.0)
    tried = o[~o.accepted]
    if not tried.empty:
        values = tried.after.to_numpy(dtype=float)
        inside = np.isfinite(values) & (values <= top)
        ax.plot(tried.iteration, np.where(inside, values, top), linestyle="none", marker="X", markersize=7,
                color=style.RED, label="rolled back", zorder=4)
        for i, value in zip(tried.iteration[~inside], values[~inside]):
            ax.annotate(f"{value:.3g}" if np.isfinite(value) else "not finite", (i, top), xytext=(0, 6),
                        textcoords="offset points", ha="center", fontsize=7)
    style.perplexity_scale(ax, state)
    ax.set_ylabel("perplexity,\nvalidation windows")
    ax.legend(ncol=4, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2)


def draw_sparsity(ax, run):
    """The sparsity of the accepted states, what the rolled-back iterations tried, and the target."""
    o = run.outcomes
    state = 100 * accepted_line(o, 0.0, "sparsity_after")
    if len(o) and np.isfinite(o.sparsity_before.iloc[0]):
        state[0] = 100 * o.sparsity_before.iloc[0]
    ax.step(np.arange(len(state)), state, where="post", color=style.INK)
    tried = o[~o.accepted]
    ax.plot(tried.iteration, 100 * tried.sparsity_after, linestyle="none", marker="X", markersize=7, color=style.RED)
    if np.isfinite(run.target):
        ax.axhline(100 * run.target, color=style.FAINT, linewidth=0.9, linestyle="--")
        ax.text(0, 100 * run.target, " target", va="bottom", ha="left", fontsize=8, color="#555555")
    ax.set_ylabel("sparsity of\nall linears, %")
    ax.set_ylim(0, max(100 * np.nan_to_num(run.target), np.nanmax(state)) * 1.15 + 1)


def probe_points(run, task):
    """[n, 4]: iteration, rate, low, high in percent, of each iteration with a probe; iteration 0 is the dense model."""
    right, total = run.dense_probe(task)
    points = [(0, right, total)] if total else []
    for row in run.outcomes.itertuples():
        if getattr(row, task + "_total"):
            points.append((row.iteration, getattr(row, task + "_right"), getattr(row, task + "_total")))
    return np.array([(i, 100 * r / n, *(100 * b for b in wilson(r, n))) for i, r, n in points]).reshape(-1, 4)


def draw_probes(ax, run):
    for task, name, colour, marker in TASKS:
        x, rate, low, high = probe_points(run, task).T
        if len(x):
            ax.plot(x, rate, color=colour, marker=marker, label=name)
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set_ylabel("probes right, %\n(band: 95 % Wilson)")
    ax.legend(ncol=2, loc="lower left")
    ax.set_ylim(top=min(102, ax.get_ylim()[1]))


def timeline(run):
    """Perplexity above sparsity above, if the run has them, knowledge probes."""
    if run.outcomes.empty:
        return None
    probed = any(len(probe_points(run, task)) for task, *_ in TASKS)
    rows = 3 if probed else 2
    fig, axes = style.figure(rows, 1, height=1.0 + 1.55 * rows, sharex=True,
                             gridspec_kw={"height_ratios": [1.5, 1, 1][:rows]})
    draw_loop_perplexity(axes[0, 0], run)
    draw_sparsity(axes[1, 0], run)
    if probed:
        draw_probes(axes[2, 0], run)
    for ax in axes[:, 0]:
        ax.grid(axis="y")
    axes[-1, 0].set_xlabel("iteration")
    axes[-1, 0].set_xlim(-0.3, run.outcomes.iteration.max() + 0.6)
    axes[-1, 0].xaxis.get_major_locator().set_params(integer=True)
    return fig
