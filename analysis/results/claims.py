# SPDX-License-Identifier: Apache-2.0
"""The relative claims of the paper (arXiv 2601.09694):

relative MMLU improvement    (acc_a - acc_s) / acc_s
factual retention ratio      acc_a / acc_s on FreebaseQA
lower perplexity degradation 1 - (ppl_a - ppl_dense) / (ppl_s - ppl_dense)
rollbacks / iterations

a: an unstructured method; s: a structured (N:M) baseline.
"""
import math
from dataclasses import dataclass

from .groups import paired
from .intervals import ratio_of_proportions, seed_interval, spread, wilson


@dataclass
class Claim:
    value: float
    low: float
    high: float
    counts: str  # what the value is computed from, as text


def knowledge_ratio(a, s, task):
    """acc_a / acc_s. Its counts are means over the seeds: "384 : 353.3 of 400"."""
    (right_a, n_a), (right_s, n_s) = a.proportion(task), s.proportion(task)
    if not (n_a and n_s):
        return Claim(math.nan, math.nan, math.nan, "not measured")
    value = (right_a / n_a) / (right_s / n_s) if right_s else (math.inf if right_a else math.nan)
    first = f"{right_a:.1f}" + (f" of {n_a}" if n_a != n_s else "")
    counts = f"{first} : {right_s:.1f} of {n_s}".replace(".0 ", " ")
    return Claim(value, *ratio_of_proportions(right_a, n_a, right_s, n_s), counts)


def relative_improvement(a, s, task="mmlu"):
    """(acc_a - acc_s) / acc_s."""
    r = knowledge_ratio(a, s, task)
    return Claim(r.value - 1, r.low - 1, r.high - 1, r.counts)


def degradation_of(a, s, dense):
    """1 - (a - dense) / (s - dense); NaN if the baseline is no worse than dense, as there is nothing to improve on."""
    return 1 - (a - dense) / (s - dense) if s > dense else math.nan


def lower_degradation(a, s):
    """Mean of degradation_of over the seeds that both have."""
    dense, _, _ = a.spread("dense")
    values = [degradation_of(x, y, dense) for x, y in paired(a, s)]
    middle, _, n = spread(values)
    return Claim(middle, *seed_interval(values), f"{n} seed" + ("s" if n != 1 else ""))


def rollback_share(a):
    """Rollbacks / iterations, all runs together."""
    done, back = sum(a.values("iterations")), sum(a.values("rollbacks"))
    return Claim(back / done if done else math.nan, *wilson(back, done), f"{back} of {done}")
