"""The paper's relative claims (arXiv 2601.09694), as definitions:

relative MMLU improvement    (acc_a - acc_s) / acc_s
factual retention ratio      acc_a / acc_s on FreebaseQA
lower perplexity degradation 1 - (ppl_a - ppl_dense) / (ppl_s - ppl_dense)
rollbacks / iterations

a: an unstructured method, s: a structured (N:M) baseline.
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
    counts: str  # where it is from, in words


def counts_of(right_a, n_a, right_s, n_s):
    """"384 : 353.3 of 400", means over the seeds."""
    first = f"{right_a:.1f}" + (f" of {n_a}" if n_a != n_s else "")
    return f"{first} : {right_s:.1f} of {n_s}".replace(".0 ", " ")


def knowledge_ratio(a, s, task):
    """acc_a / acc_s with its interval."""
    (right_a, n_a), (right_s, n_s) = a.proportion(task), s.proportion(task)
    if not (n_a and n_s):
        return Claim(math.nan, math.nan, math.nan, "not measured")
    value = (right_a / n_a) / (right_s / n_s) if right_s else (math.inf if right_a else math.nan)
    return Claim(value, *ratio_of_proportions(right_a, n_a, right_s, n_s),
                 counts_of(right_a, n_a, right_s, n_s))


def relative_improvement(a, s, task="mmlu"):
    r = knowledge_ratio(a, s, task)
    return Claim(r.value - 1, r.low - 1, r.high - 1, r.counts)


def degradation_of(a, s, dense):
    """NaN where the baseline is no worse than dense: there is nothing to be saved."""
    return 1 - (a - dense) / (s - dense) if s > dense else math.nan


def lower_degradation(a, s):
    """Mean over the seeds that both have."""
    dense, _, _ = a.spread("dense")
    values = [degradation_of(x, y, dense) for x, y in paired(a, s)]
    middle, _, n = spread(values)
    return Claim(middle, *seed_interval(values), f"{n} seed" + ("s" if n != 1 else ""))


def rollback_share(a):
    done, back = sum(a.values("iterations")), sum(a.values("rollbacks"))
    return Claim(back / done if done else math.nan, *wilson(back, done), f"{back} of {done}")
