# SPDX-License-Identifier: Apache-2.0
"""The look of all pictures: dark on light, colours for colour-blind readers, markers besides colours."""
import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: E402

WIDTH = 7.2  # inches, the width of a page's text
INK, FAINT, RED, BLUE = "#222222", "#8a8a8a", "#d55e00", "#0072b2"
# Okabe and Ito 2008, without its yellow, which is too light on white.
PALETTE = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f5539")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
SEQUENTIAL, DIVERGING = "YlGnBu", "PuOr_r"

plt.rcParams.update({
    "figure.facecolor": "white", "savefig.facecolor": "white", "figure.constrained_layout.use": True,
    "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.4, "lines.markersize": 4.5,
    "svg.hashsalt": "espalier", "pdf.fonttype": 42})


def figure(rows=1, columns=1, height=3.2, **more):
    """(fig, axes [rows, columns]) of the common width."""
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, **more)


def legend_columns(labels):
    """As many columns as the longest label leaves room for."""
    longest = max(map(len, labels), default=0)
    return 3 if longest <= 28 else 2 if longest <= 48 else 1


def figure_with_legend(rows, columns, height, labels, sharey=False):
    """(fig, axes [rows * columns], axes below them for a legend of these labels, to be filled by fill_legend).

    Before matplotlib 3.7, the constrained layout reserves no room for a figure's legend; Debian 12 has 3.6.
    """
    room = 0.06 + 0.19 * math.ceil(len(labels) / legend_columns(labels))
    fig = plt.figure(figsize=(WIDTH, height * rows + room))
    grid = fig.add_gridspec(rows + 1, columns, height_ratios=[height] * rows + [room])
    axes = []
    for i in range(rows * columns):
        axes.append(fig.add_subplot(grid[i // columns, i % columns], sharey=axes[0] if sharey and i else None))
        axes[-1].tick_params(labelleft=not (sharey and i))
    legend = fig.add_subplot(grid[rows, :])
    legend.axis("off")
    return fig, axes, legend


def fill_legend(legend, ax):
    """Puts the labels of `ax` into the legend's axes."""
    handles, labels = ax.get_legend_handles_labels()
    legend.legend(handles, labels, loc="center", ncol=legend_columns(labels), borderaxespad=0, columnspacing=1.5)


def look_of(groups):
    """{label: keywords of plot}: agents red and large, the others a colour and marker each, N:M patterns hollow."""
    looks, i = {}, 0
    for g in sorted(groups, key=lambda g: (not g.agent, g.structured, g.label)):
        if g.label in looks:
            continue
        agents = sum(look.get("zorder") == 5 for look in looks.values())
        if g.agent:
            looks[g.label] = {"color": RED, "marker": ("*", "p", "h", "d")[agents % 4], "markersize": 8, "zorder": 5,
                              "linestyle": ("-", "--", ":", "-.")[agents % 4]}
            continue
        looks[g.label] = {"color": PALETTE[i % len(PALETTE)], "marker": MARKERS[i % len(MARKERS)], "linestyle":
                          ("-", "--", ":")[i // len(PALETTE) % 3]}
        if g.structured:
            looks[g.label].update(markerfacecolor="white", linestyle="none")
        i += 1
    return looks


def plain_log(axis):
    """Ticks such as 4, 5, 6, 8, 10, 20 instead of powers, as many as fit without their numbers touching."""
    low, high = sorted(axis.get_view_interval())
    span = high / max(low, 1e-300)
    close, middle, wide = (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 5, 7), (1, 2, 5)
    axis.set_major_locator(LogLocator(subs=wide if span > 30 else middle if span > 3 else close))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_minor_formatter(NullFormatter())


def perplexity_scale(ax, values, axis="y"):
    """Makes the axis logarithmic if the largest value is more than twice the smallest."""
    values = [v for v in values if math.isfinite(v) and v > 0]
    if values and max(values) > 2 * min(values):
        getattr(ax, f"set_{axis}scale")("log")
        plain_log(getattr(ax, f"{axis}axis"))


def close(fig):
    """Frees the figure: pyplot keeps every open one."""
    plt.close(fig)
