# SPDX-License-Identifier: Apache-2.0
"""Agents that ended before their target, compared with another one at the sparsity that they reached."""
import math

import numpy as np
import pandas as pd

from .formats import format_number, format_percent, format_perplexity, format_with_interval
from .intervals import paired_p_value, seed_interval, spread
from .layout import Table
from .select import at_target, best_first


def states(run):
    """(sparsities, perplexities on the validation windows) of the dense model and of all accepted states."""
    kept = run.outcomes[run.outcomes.accepted]
    return (np.array([0.0, *kept.sparsity_after]), np.array([run.dense_perplexity, *kept.after]))


def perplexity_at(run, sparsity):
    """The run's perplexity when it passed the sparsity: between two states its logarithm is a straight line.

    NaN beyond its last state.
    """
    x, y = states(run)
    if not 0 <= sparsity <= x[-1] + 1e-9 or not np.all(y > 0):
        return math.nan
    return float(np.exp(np.interp(sparsity, x, np.log(y))))


def compare(g, reference):
    """[(sparsity, perplexity, that of the reference at this sparsity)] of the end of each run, paired by seed."""
    other = {m.run.seed: m.run for m in reference.members}
    found = []
    for m in g.members:
        x, y = states(m.run)
        if m.run.seed in other:
            found.append((x[-1], y[-1], perplexity_at(other[m.run.seed], x[-1])))
    return found


def on_the_way(model, groups, target, name):
    """Every agent with this target against the best of those that reached it with the most seeds; None if none missed it.

    Perplexity is that of the validation windows, the only one that is measured on the way.
    """
    agents = [g for g in at_target(groups, target) if g.agent]
    reached = [g for g in agents if not g.missed]
    if not reached or len(reached) == len(agents):
        return None
    reference = max(best_first(reached), key=lambda g: len(g.members))
    rows, lines = [], []
    for g in sorted(agents, key=lambda g: (g is not reference, g.missed, g.label)):
        pairs = compare(g, reference)
        if g is reference or not pairs:
            continue
        differences = [y / z - 1 for _, y, z in pairs]
        low, high = seed_interval(differences)
        row = {"method": g.label, "n": len(pairs), "target": target, "sparsity": spread([x for x, _, _ in pairs])[0],
               "sparsity_low": min(x for x, _, _ in pairs), "sparsity_high": max(x for x, _, _ in pairs),
               "perplexity": spread([y for _, y, _ in pairs])[0], "against": reference.label,
               "perplexity_against": spread([z for _, _, z in pairs])[0], "difference": spread(differences)[0],
               "difference_low": low, "difference_high": high, "p": paired_p_value(differences)}
        rows.append(row)
        lines.append([g.label + (" †" if g.missed else ""), str(row["n"]),
                      "–".join(dict.fromkeys(format_percent(row[k]) for k in ("sparsity_low", "sparsity_high"))),
                      format_perplexity(row["perplexity"]), format_perplexity(row["perplexity_against"]),
                      format_with_interval(row["difference"], low, high, lambda v: format_number(100 * v, 2, sign=True))])
    notes = [f"Validation perplexity of the last accepted state, and that of {reference.label} when it passed the same "
             "sparsity, paired by seed: between two of its states the logarithm is a straight line.",
             "[ ] 95 % interval by Student's t over seeds; positive is worse. † ended before the target."]
    return Table(name, f"{model}: agents at the sparsity that they reached, target {format_percent(target, 0)}",
                 ["agent", "n", "sparsity reached", "perplexity", f"{reference.label} there", "difference, %"], lines,
                 pd.DataFrame([{"model": model, **row} for row in rows]), notes)
