# SPDX-License-Identifier: Apache-2.0
"""All pictures of a run and of a sweep, with their titles and captions."""
from collections import namedtuple

from results.select import models_of
from rundata import questions

from . import heat, strength, style, timeline, tradeoff

Picture = namedtuple("Picture", "name title caption figure")

RUN = (
    ("timeline", "Iterations and rollbacks",
     "Perplexity of the accepted states, the iterations that were rolled back, and the limit for each; below, sparsity "
     "and knowledge probes.", timeline.timeline),
    ("tradeoff", "What sparsity cost", "Accepted states of this run.", tradeoff.run_tradeoff),
    ("sparsity", "Sparsity of every linear over the iterations",
     "A row per linear, by kind and then by layer; a column per iteration.", heat.sparsity_over_iterations),
    ("final", "Where the cuts went",
     "Final sparsity of every linear, counted in the masks of the checkpoint; without a checkpoint, from the events.",
     heat.final_sparsity),
    ("z-scores", "Sensitivity",
     "z-scores of the first and of the newest profile. A linear with a high score is sensitive.", heat.z_scores),
)
LOOP = ("timeline", "tradeoff", "sparsity", "z-scores")  # about an agent's iterations: not for one-shot methods
LOST = ("lost-knowledge", "Knowledge lost by fact strength",
        "Questions that only the dense model answers correctly, by how strongly their facts were taught.")


def lost_table(run, facts):
    """questions.lost_by_tier of a run; None if it has no answers per question."""
    frame = questions.strengths(run, facts)
    return None if frame is None else questions.lost_by_tier(frame)


def run_pictures(run, facts=None):
    """Yields the pictures of a run, one at a time: close each figure before asking for the next."""
    for name, title, caption, draw in RUN:
        figure = draw(run) if run.agent or name not in LOOP else None
        if figure:
            yield Picture(name, title, caption, figure)
    figure = strength.lost_by_strength({run.method: lost_table(run, facts)}, {})
    if figure:
        yield Picture(*LOST, figure)


def lost_of_groups(groups, target, facts):
    """{label: lost_table} of the groups at this target and of all N:M groups, from the first seed that has answers."""
    tables = {}
    for g in groups:
        if g.structured or g.target == target:
            found = (lost_table(m.run, facts) for m in g.members)
            tables[g.label] = next((t for t in found if t is not None), None)
    return tables


def sweep_pictures(groups, point, facts=None):
    """Yields the pictures of a sweep, model by model; close each figure before asking for the next."""
    for model in models_of(groups):
        own = [g for g in groups if g.model == model]
        of = f"{model}: " if len(models_of(groups)) > 1 else ""
        end = f"-{model.replace(' ', '-')}" if of else ""
        yield Picture("tradeoff" + end, of + "What sparsity costs", "Mean over the seeds. Methods are shifted "
                      "sideways by a few points, so that their bars do not overlap.", tradeoff.sweep_tradeoff(own))
        figure = tradeoff.at_point(own, point)
        if figure:
            yield Picture("methods" + end, of + "All methods at one sparsity", "Best perplexity first; N:M baselines, "
                          "which are sparser and bound to a pattern, below the line.", figure)
        for target in sorted({g.target for g in own if not g.structured}):
            looks = style.look_of([g for g in own if g.structured or g.target == target])
            figure = strength.lost_by_strength(lost_of_groups(own, target, facts), looks)
            if figure:
                yield Picture(f"{LOST[0]}-{100 * target:g}{end}", f"{of}{LOST[1]}, {100 * target:g} % sparsity",
                              LOST[2] + " From the first seed with answers per question.", figure)
