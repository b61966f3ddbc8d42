"""What a run's configuration is called in tables: score x allocation x pattern x update."""
import os
import re

from .files import member, number, text

SCORES = {"magnitude": "magnitude", "wanda": "Wanda", "ria": "RIA", "gblm": "GBLM", "rgs": "Wanda++ RGS",
          "wanda++": "Wanda++ RGS"}
ALLOCATIONS = {"owl": "OWL", "lsa": "LSA", "lsa-linear": "LSA per linear", "uniform": "uniform", "search": "search",
               "given": "given"}
UPDATES = {"sparsegpt": "SparseGPT"}
DEFAULTS = {"allocation": "agent", "pattern": "unstructured", "update": "none", "score": "wanda"}


def prune_key(config, key):
    """A key of section prune; absent or empty counts as its default."""
    return text(member(config, "prune", key)) or DEFAULTS[key]


def n_m(name):
    """(n, m) of an N:M pattern (n of m stay), None for anything else."""
    match = re.fullmatch(r"(\d+):(\d+)", name)
    if not match or not 0 < int(match[1]) < int(match[2]):
        return None
    return int(match[1]), int(match[2])


def pattern_of(config):
    """That of the whole run."""
    return n_m(prune_key(config, "pattern"))


def is_agent(config):
    return prune_key(config, "allocation") == "agent" and pattern_of(config) is None


def operator_name(config):
    """Who orders and changes the weights of one linear: an updating method chooses its own mask."""
    update, score = prune_key(config, "update"), prune_key(config, "score")
    return UPDATES.get(update, update) if update != "none" else SCORES.get(score, score)


def agent_name(config):
    backend = text(member(config, "agent", "backend")) or "policy"
    model = text(member(config, "agent", "model"))
    return os.path.basename(model.rstrip("/")) if backend == "openai" and model else backend


def base_name(config):
    operator, allocation = operator_name(config), prune_key(config, "allocation")
    pattern = pattern_of(config)
    if pattern:
        return f"{operator} {pattern[0]}:{pattern[1]}"
    if allocation != "agent":
        return f"{ALLOCATIONS.get(allocation, allocation)} {operator}"
    mixed = " mixed" if member(config, "prune", "mixed") is True else ""
    return f"agent ({agent_name(config)}){mixed}" + (f" {operator}" if operator != "Wanda" else "")


def method_name(config):
    """"uniform Wanda", "SparseGPT 2:4", "OWL Wanda", "agent (policy)", "agent (policy) magnitude", ..."""
    if number(member(config, "prune", "target")) == 0 and not pattern_of(config):
        return "dense"
    pattern = prune_key(config, "pattern")
    plain = pattern_of(config) or pattern == DEFAULTS["pattern"]
    return base_name(config) + ("" if plain else f", pattern {pattern}")
