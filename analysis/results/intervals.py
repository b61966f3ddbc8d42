"""95 % intervals. Plain Python: no SciPy is needed."""
import math
from statistics import mean, stdev

Z = 1.96  # as espalier prints its Wilson intervals


def wilson(hits, n):
    """(low, high) of a proportion; hits may be a mean over seeds. Wilson 1927."""
    if not n > 0 or not math.isfinite(hits):
        return math.nan, math.nan
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def ratio_of_proportions(hits_a, n_a, hits_b, n_b):
    """(low, high) of p_a / p_b from the two Wilson intervals: MOVER-R (Donner and Zou 2012). It holds with no hit in b
    (then high is infinite) and takes the samples as independent: on the same questions it is too wide rather than too
    narrow."""
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


# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
        2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def t_quantile(df):
    """From the table; beyond it by the Cornish-Fisher expansion around the normal quantile."""
    if df <= len(T975):
        return T975[df - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df**2)


def spread(values):
    """(mean, sd, n) of what is finite; sd is NaN for fewer than two."""
    values = [v for v in values if math.isfinite(v)]
    if not values:
        return math.nan, math.nan, 0
    return mean(values), stdev(values) if len(values) > 1 else math.nan, len(values)


def seed_interval(values):
    """(low, high) of the mean over seeds, by Student's t; NaN for fewer than two."""
    middle, sd, n = spread(values)
    if n < 2:
        return math.nan, math.nan
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return middle - half, middle + half
