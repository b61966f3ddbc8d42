# SPDX-License-Identifier: Apache-2.0
"""95 % confidence intervals of proportions, of ratios of proportions and of means over seeds."""
import math
from statistics import mean, stdev

from scipy.stats import t as student

Z = 1.96  # the quantile that espalier prints its Wilson intervals with (src/eval), so that tables and program agree
T_DECIMALS = 3  # of the quantiles of Student's t, as printed tables give them; more would change the recorded tables


def wilson(hits, n):
    """(low, high) of a proportion by Wilson (1927).

    `hits` may be a mean over seeds, which is no integer: scipy.stats.binomtest takes integers only.
    """
    if not n > 0 or not math.isfinite(hits):
        return math.nan, math.nan
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_of_proportions(hits_a, n_a, hits_b, n_b):
    """(low, high) of p_a / p_b from the two Wilson intervals, by MOVER-R (Donner and Zou 2012).

    With no hits in b the upper bound is infinite. The two samples are taken as independent: where both answered the
    same questions, the interval is too wide rather than too narrow.
    """
    if not (n_a > 0 and n_b > 0):
        return math.nan, math.nan
    a, b = hits_a / n_a, hits_b / n_b
    (la, ua), (lb, ub) = wilson(hits_a, n_a), wilson(hits_b, n_b)
    below = (a * b) ** 2 - la * ub * (2 * a - la) * (2 * b - ub)
    above = (a * b) ** 2 - ua * lb * (2 * a - ua) * (2 * b - lb)
    low = (a * b - math.sqrt(max(0.0, below))) / (ub * (2 * b - ub))
    if lb <= 0:
        return max(0.0, low), math.inf
    return max(0.0, low), (a * b + math.sqrt(max(0.0, above))) / (lb * (2 * b - lb))


def t_quantile(df):
    """The 97.5 % quantile of Student's t with `df` degrees of freedom, rounded to T_DECIMALS."""
    return round(float(student.ppf(0.975, df)), T_DECIMALS)


def spread(values):
    """(mean, standard deviation, count) of the finite values; the deviation is NaN for fewer than two."""
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return math.nan, math.nan, 0
    return mean(values), stdev(values) if len(values) > 1 else math.nan, len(values)


def seed_interval(values):
    """(low, high) of the mean over seeds, by Student's t; NaN for fewer than two finite values."""
    middle, sd, n = spread(values)
    if n < 2:
        return math.nan, math.nan
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return middle - half, middle + half


def paired_p_value(differences):
    """Two-sided p-value of Student's t that the mean of the differences is 0; NaN for fewer than two."""
    middle, sd, n = spread(differences)
    if n < 2:
        return math.nan
    if sd == 0:
        return 0.0 if middle else 1.0
    return float(2 * student.sf(abs(middle) / (sd / math.sqrt(n)), n - 1))


def holm(p_values):
    """The p-values corrected for their number by Holm (1979); NaN stays NaN and does not count."""
    order = sorted((p, i) for i, p in enumerate(p_values) if math.isfinite(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        corrected[i] = largest
    return corrected
