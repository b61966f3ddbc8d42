# SPDX-License-Identifier: Apache-2.0
"""Selects and orders the groups that a table or picture shows."""
import math

POINT = 0.45  # the paper's sparsity, at which methods are compared


def models_of(groups):
    return sorted({g.model for g in groups})


def members_of(groups):
    return [m for g in groups for m in g.members]


def nearest_target(groups, point):
    """The target of an unstructured group that is nearest to the point; NaN if there is none."""
    targets = {g.target for g in groups if not g.structured}
    return min(targets, key=lambda t: (abs(t - point), t), default=math.nan)


def at_target(groups, target):
    """The unstructured groups with this target."""
    return [g for g in groups if not g.structured and math.isclose(g.target, target, abs_tol=1e-9)]


def best_first(groups):
    """Ordered by mean perplexity; groups that ended before their target after the others, groups without one last."""
    def key(g):
        mean = g.spread("perplexity")[0]
        return not math.isfinite(mean), g.missed, mean, g.label
    return sorted(groups, key=key)
