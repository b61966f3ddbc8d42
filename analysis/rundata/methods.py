# SPDX-License-Identifier: Apache-2.0
"""Names the method of a run by its configuration: score, allocation, pattern and update."""
import os
import re

from .files import member, number, text

SCORES = {"magnitude": "magnitude", "wanda": "Wanda", "ria": "RIA", "gblm": "GBLM", "rgs": "Wanda++ RGS",
          "wanda++": "Wanda++ RGS", "curvature": "curvature"}
ALLOCATIONS = {"owl": "OWL", "lsa": "LSA", "lsa-linear": "LSA per linear", "uniform": "uniform", "search": "search",
               "global": "global", "file": "from a file", "given": "given"}
UPDATES = {"sparsegpt": "SparseGPT", "obs": "OBS", "reconstruct": "reconstruction"}
DEFAULTS = {"allocation": "agent", "pattern": "unstructured", "update": "none", "update_when": "end", "score": "wanda"}


def prune_key(config, key):
    """A string of section prune; its default if it is absent or empty."""
    return text(member(config, "prune", key)) or DEFAULTS[key]


def n_m(name):
    """(n, m) of an N:M pattern, which keeps n of m weights; None for any other text."""
    match = re.fullmatch(r"(\d+):(\d+)", name)
    if not match or not 0 < int(match[1]) < int(match[2]):
        return None
    return int(match[1]), int(match[2])


def pattern_of(config):
    """(n, m) of the pattern that the whole run follows; None if it is unstructured."""
    return n_m(prune_key(config, "pattern"))


def is_agent(config):
    """True if an agent allocates the sparsity in the loop; an N:M pattern leaves nothing to allocate."""
    return prune_key(config, "allocation") == "agent" and pattern_of(config) is None


def method_name(config, fell_back=False):
    """"uniform Wanda", "SparseGPT 2:4", "OWL Wanda", "agent (policy)", "agent (policy) magnitude", ...
    fell_back: the policy decided in place of the agent that was asked for."""
    pattern = pattern_of(config)
    if number(member(config, "prune", "target")) == 0 and not pattern:
        return "dense"
    # An update that chooses its own mask stands in place of the score.
    own, update, score = has_own_mask(config), prune_key(config, "update"), prune_key(config, "score")
    operator = UPDATES[update] if own else SCORES.get(score, score)
    power = number(member(config, "prune", "curvature_power"))
    if score == "curvature" and not own and power >= 0:  # else it is measured by the run
        operator += f" p={power:g}"
    if pattern:
        return f"{operator} {pattern[0]}:{pattern[1]}{recovery_name(config)}"
    allocation = prune_key(config, "allocation")
    if allocation == "agent":
        name = f"agent ({agent_name(config, fell_back)})" + (" mixed" if member(config, "prune", "mixed") is True else "")
        name += f" {operator}" if operator != SCORES[DEFAULTS["score"]] else ""
    else:
        name = f"{ALLOCATIONS.get(allocation, allocation)} {operator}"
    group = prune_key(config, "pattern")  # of weights that compete, if it is not the default
    return name + ("" if group == DEFAULTS["pattern"] else f", pattern {group}") + recovery_name(config)


def has_own_mask(config):
    """True if the update chooses what is pruned: SparseGPT in one shot."""
    return prune_key(config, "update") == "sparsegpt" and prune_key(config, "allocation") != "agent"


def recovery_name(config):
    """What new weights the survivors got: " + OBS", after the agent's steps " + OBS in steps", " + distillation"; in this
    order, or an empty text."""
    update, name = prune_key(config, "update"), ""
    if update != "none" and not has_own_mask(config):
        in_steps = prune_key(config, "allocation") == "agent" and prune_key(config, "update_when") == "step"
        name = f" + {UPDATES.get(update, update)}" + (" in steps" if in_steps else "")
    passes, steps = (number(member(config, "distill", key)) for key in ("passes", "steps"))
    return name + (" + distillation" if max(passes, steps, 0) > 0 else "")  # older versions did not have the section


def agent_name(config, fell_back=False):
    """The model behind an endpoint, else the backend; "policy in place of MODEL" where the policy decided instead."""
    backend = text(member(config, "agent", "backend")) or "policy"
    model = text(member(config, "agent", {"openai": "model", "local": "model_path"}.get(backend, "")))
    name = os.path.basename(model.rstrip("/")) or backend
    return f"policy in place of {name}" if fell_back else name
