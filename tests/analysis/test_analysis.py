#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The analysis on run directories. usage: test_analysis.py [ESPALIER MAKE_RANDOM_MODEL]

sweep/ and data/ are run directories written by hand: what is expected of them is worked out in the comments here. With
the two programs, a real run is made as well, so that a change of its files does not go unnoticed.
"""
import copy
import csv
import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
SWEEP = HERE.parent / "sweep"
ARGUMENTS = [os.path.abspath(a) for a in sys.argv[1:3]]
sys.path.insert(0, str(ROOT / "analysis"))
os.chdir(ROOT)  # the fixtures name their questions relative to it
warnings.simplefilter("error", RuntimeWarning)

try:
    import h5py
    import jinja2  # noqa: F401
    import matplotlib
    import numpy as np
    import pandas  # noqa: F401
    import scipy  # noqa: F401
except ImportError as e:
    debian = "/usr/bin/python3"  # Debian's packages belong to its own interpreter, which need not be the first
    if os.path.exists(debian) and os.path.realpath(sys.executable) != os.path.realpath(debian):
        os.execv(debian, [debian, HERE, *ARGUMENTS])
    print(f"skipped: {e} (analysis/requirements.txt)")
    sys.exit(77)

from pictures import collect, heat, style, tradeoff  # noqa: E402
from results import build, claims, groups, intervals, layout, way  # noqa: E402
from rundata import masks, methods, questions  # noqa: E402
from rundata.run import Run, find_runs, step_of, with_milestones  # noqa: E402
from web import dialogue  # noqa: E402

PROGRAMS = ARGUMENTS if len(ARGUMENTS) == 2 else None
TEXT = "The espalier is a tree trained flat against a wall, tier by tier; one gardener decides where to cut. " * 40


def config(**prune):
    return {"prune": prune}


def grouped():
    found, _ = groups.group_runs(find_runs([SWEEP]))
    return {g.label: g for g in found}


class Methods(unittest.TestCase):
    def named(self, expected, **prune):
        self.assertEqual(methods.method_name(config(**prune)), expected)

    def test_absent_keys_are_the_agent_unstructured_without_update(self):
        self.named("agent (policy)")
        self.named("agent (policy) magnitude", score="magnitude")
        self.named("agent (policy)", allocation="", pattern="", update="")
        self.named("agent (policy) mixed", mixed=True)
        self.named("agent (policy)", mixed=False)

    def test_one_shot_methods(self):
        self.named("uniform magnitude", allocation="uniform", score="magnitude", pattern="unstructured")
        self.named("uniform SparseGPT", allocation="uniform", update="sparsegpt", score="wanda")
        self.named("OWL Wanda", allocation="owl")
        self.named("LSA per linear RIA", allocation="lsa-linear", score="ria")
        self.named("Wanda 2:4", allocation="uniform", pattern="2:4")
        self.named("SparseGPT 4:8", allocation="uniform", update="sparsegpt", pattern="4:8")
        self.named("search Wanda, pattern layer", allocation="search", pattern="layer")
        self.named("novel mystery", allocation="novel", score="mystery")

    def test_an_endpoint_is_named_by_its_model(self):
        c = {"prune": {}, "agent": {"backend": "openai", "model": "org/Qwen3-8B"}}
        self.assertEqual(methods.method_name(c), "agent (Qwen3-8B)")
        self.assertEqual(methods.method_name(c, True), "agent (policy in place of Qwen3-8B)")

    def test_a_run_of_fallbacks_is_not_named_after_the_model(self):
        run = find_runs([SWEEP / "0001-agent-s0"])[0]
        run.config["agent"].update(backend="openai", model="gpt-5-pro", max_fallback_share=0.5)
        outcomes = run.events_of("outcome")
        for source, name in (("openai", "agent (gpt-5-pro)"), ("policy (fallback)", "agent (policy in place of gpt-5-pro)")):
            for event in outcomes:
                event["source"] = source
            self.assertEqual(run.method, name)

    def test_a_target_of_nothing_is_the_dense_model(self):
        self.named("dense", target=0)
        self.named("Wanda 2:4", target=0, allocation="uniform", pattern="2:4")

    def test_patterns(self):
        self.assertEqual(methods.pattern_of(config(pattern="4:8")), (4, 8))
        for text in ("4:4", "0:4", "4:2", "row", "2:4x"):
            self.assertIsNone(methods.pattern_of(config(pattern=text)))


class Intervals(unittest.TestCase):
    def near(self, got, *expected):
        for a, b in zip(got, expected):
            self.assertAlmostEqual(a, b, places=4)

    def test_wilson(self):
        # 8 of 10: centre (0.8 + 0.19208) / 1.38416, half 1.96 / 1.38416 * sqrt(0.016 + 0.009604)
        self.near(intervals.wilson(8, 10), 0.49016, 0.94332)
        self.near(intervals.wilson(0, 10), 0, 3.8416 / 13.8416)
        self.assertTrue(math.isnan(intervals.wilson(0, 0)[0]))

    def test_ratio(self):
        # Wilson: [0.490162, 0.943318] and [0.168177, 0.687331]; a b = 0.32
        # low:  (0.32 - sqrt(0.1024 - 0.490162 * 0.687331 * 1.109838 * 0.112669)) / (0.687331 * 0.112669)
        # high: (0.32 + sqrt(0.1024 - 0.943318 * 0.168177 * 0.656682 * 0.631823)) / (0.168177 * 0.631823)
        low, high = intervals.ratio_of_proportions(8, 10, 4, 10)
        self.assertAlmostEqual(low, 0.96196, places=3)
        self.assertAlmostEqual(high, 4.8114, places=3)

    def test_ratio_to_nothing(self):
        # low: sqrt(0.490162 * 1.109838) / 0.277540
        low, high = intervals.ratio_of_proportions(8, 10, 0, 10)
        self.assertAlmostEqual(low, 2.6575, places=3)
        self.assertEqual(high, math.inf)

    def test_student(self):
        for df, expected in ((1, 12.706), (2, 4.303), (30, 2.042), (40, 2.0211), (120, 1.9799)):
            self.assertAlmostEqual(intervals.t_quantile(df), expected, delta=2e-4)

    def test_seeds(self):
        # 1, 2, 3: mean 2, sd 1, half 4.303 / sqrt(3)
        self.near(intervals.seed_interval([1, 2, 3, math.nan]), 2 - 2.48434, 2 + 2.48434)
        self.assertTrue(math.isnan(intervals.seed_interval([1])[0]))

    def test_p_values(self):
        # 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641 with 2 degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
        self.assertAlmostEqual(intervals.paired_p_value([1, 2, 3]), 1 - 3.4641016 / math.sqrt(14), places=6)
        self.assertTrue(math.isnan(intervals.paired_p_value([1])))

    def test_holm(self):
        # sorted: 0.01 * 3, 0.02 * 2, 0.04 * 1; a corrected value is never below the one before
        self.near(intervals.holm([0.04, 0.01, 0.02]), 0.04, 0.03, 0.04)
        self.assertTrue(math.isnan(intervals.holm([math.nan, 0.01])[0]))
        self.assertEqual(build.significance_marks([math.nan, 0.001, 0.03, 0.2]), ["", "∗∗", "", ""])


class Masks(unittest.TestCase):
    def test_columns(self):
        kept = masks.kept_weights(np.array([[1 | 1 << 63, 2]], dtype=np.uint64), 70)
        self.assertEqual(kept.shape, (1, 70))
        self.assertEqual(np.flatnonzero(kept[0]).tolist(), [0, 63, 65])

    def test_pattern(self):
        good = np.array([[1, 1, 0, 0, 0, 1, 0, 1]], dtype=bool)
        self.assertTrue(masks.follows_pattern(good, 2, 4))
        self.assertFalse(masks.follows_pattern(~good | good, 2, 4))
        # a rest of 2 inputs loses floor(2 * 2 / 4) = 1
        self.assertTrue(masks.follows_pattern(good[:, :6], 2, 4))
        self.assertFalse(masks.follows_pattern(np.array([[1, 1, 0, 0, 1, 1]], dtype=bool), 2, 4))

    def test_names(self):
        self.assertEqual(masks.linear_index("layers.3.mlp.up_proj"), 26)
        for name in ("layers.x.mlp.up_proj", "layers.1.mlp", "", "model.layers.1.mlp.up_proj"):
            self.assertEqual(masks.linear_index(name), -1)

    def test_names_of_experts(self):
        self.assertEqual(masks.linear_index("layers.2.mlp.experts.3.up_proj", 5), 2 * 19 + 4 + 3 * 3 + 1)
        self.assertEqual(masks.linear_index("layers.2.self_attn.o_proj", 5), 2 * 19 + 3)
        for name in ("layers.2.mlp.up_proj", "layers.2.mlp.experts.5.up_proj", "layers.2.mlp.experts.3.q_proj",
                     "layers.2.mlp.experts.x.up_proj", "layers.2.mlp.experts.3"):
            self.assertEqual(masks.linear_index(name, 5), -1)
        found = sorted(at for kind in masks.KINDS for at in masks.places(kind, 2, 5))
        self.assertEqual(found, list(range(2 * 19)))
        self.assertEqual(masks.places("mlp.up_proj", 1, 2), [5, 8])
        grid = heat.by_kind(np.arange(2 * 10), experts=2)
        self.assertEqual(grid.shape, (7, 2))
        self.assertEqual(grid[:, 0].tolist(), [0, 1, 2, 3, 5.5, 6.5, 7.5])

    def test_count(self):
        """Two layers of 3 x 70; layer 1 of down_proj keeps columns 0 and 69 of one row only."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "iteration-000001.h5"
            full = np.array([[2**64 - 1, 2**6 - 1]] * 3, dtype=np.uint64)
            with h5py.File(path, "w") as f:
                f.attrs["complete"], f.attrs["layers"] = 1, 2
                for kind in masks.KINDS:
                    f[f"masks/{kind}"] = np.stack([full, full])
                    f[f"masks/{kind}"].attrs["in"] = 70
                f["masks/mlp.down_proj"][1] = np.array([[1, 1 << 5], [0, 0], [0, 0]], dtype=np.uint64)
            weights, pruned, good = masks.count_masks(path, (2, 4))
        self.assertEqual(weights.tolist(), [210] * 14)
        self.assertEqual(pruned.tolist(), [0] * 13 + [208])
        self.assertFalse(good)


class Reading(unittest.TestCase):
    def test_order(self):
        names = [r.name for r in find_runs([SWEEP])]
        self.assertEqual(len(names), 9)
        self.assertEqual(names, sorted(names))

    def test_outcomes(self):
        run = Run(SWEEP / "0001-agent-s0")
        o = run.outcomes
        self.assertEqual(o.accepted.tolist(), [True, False, True])
        self.assertTrue(math.isnan(o.after[1]))
        self.assertEqual(o.mmlu_right.tolist(), [8, 0, 7])
        self.assertEqual(run.notes, [])

    def test_steps_may_be_patterns(self):
        self.assertEqual([step_of("2:4"), step_of("4:8"), step_of(0.1)], [0.5, 0.5, 0.1])
        for nothing in ("4:2", "x", None, [], "0.1"):
            self.assertTrue(math.isnan(step_of(nothing)), nothing)
        html = dialogue.steps({"layers.0.mlp.up_proj": "2:4", "layers.1.mlp.up_proj": 0.1, "<": "<2:4>"})
        self.assertIn("layers.0.mlp.up_proj 2:4, layers.1.mlp.up_proj +10.00 %", html)
        self.assertNotIn("<2:4>", html)

    def test_states(self):
        """1 adds 0.1 to layers.0.mlp.up_proj (5), 2 is rolled back, 3 adds 0.05 to layers.1.mlp.down_proj (13)."""
        states = Run(SWEEP / "0001-agent-s0").states()
        expected = np.zeros((4, 14))
        expected[1:, 5], expected[3, 13] = 0.1, 0.05
        np.testing.assert_allclose(states, expected, atol=1e-12)

    def test_unfinished(self):
        run = Run(SWEEP / "0008-unfinished")
        self.assertFalse(run.finished)
        self.assertEqual(run.state, "unfinished after iteration 2, 2.0 %")
        self.assertEqual(len(run.outcomes), 2)
        self.assertIn("last line is incomplete", run.notes[0])

    def test_failed_in_a_sweep(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "sweep.json").write_text('{"state": "failed", "message": "no disk"}', encoding="utf-8")
            run = find_runs([folder])[0]
            self.assertEqual((run.state, run.method), ("failed: no disk", "–"))
            self.assertEqual(build.run_table([run]).rows[0][9], "failed: no disk")

    def test_damaged(self):
        run = Run(SWEEP / "0009-damaged")
        self.assertTrue(run.outcomes.empty)
        self.assertIn("left out damaged lines 1, 2", " ".join(run.notes))
        self.assertEqual(run.state, "unfinished, no iteration yet")
        self.assertIsNone(run.states())


class Groups(unittest.TestCase):
    def test_by_method(self):
        g = grouped()
        self.assertEqual(sorted(g), ["Wanda 2:4", "agent (policy)", "search SparseGPT", "uniform Wanda"])
        self.assertEqual(g["Wanda 2:4"].target, 0.5)
        self.assertEqual([m.run.seed for m in g["agent (policy)"].members], [0, 1])
        self.assertTrue(g["search SparseGPT"].missed)
        self.assertEqual(g["agent (policy)"].members[0].text, "test")

    def test_another_threshold_is_another_method(self):
        runs = [r for r in find_runs([SWEEP]) if r.method == "agent (policy)"]
        runs[1].config["prune"]["threshold"] = 0.2
        found, _ = groups.group_runs(runs)
        self.assertEqual([g.label for g in found], ["agent (policy) [threshold 0.1]", "agent (policy) [threshold 0.2]"])

    def test_a_baseline_does_not_depend_on_the_agent(self):
        runs = [r for r in find_runs([SWEEP]) if r.method == "uniform Wanda"]
        runs[1].config["agent"]["backend"] = "openai"
        found, _ = groups.group_runs(runs)
        self.assertEqual([(g.label, len(g.members)) for g in found], [("uniform Wanda", 2)])

    def test_dense_runs_are_no_method(self):
        runs = find_runs([SWEEP / "0001-agent-s0"])
        runs[0].config["prune"]["target"] = 0
        self.assertEqual(groups.group_runs(runs), ([], []))

    def test_the_same_seed_again_counts_once(self):
        runs = find_runs([SWEEP / "0001-agent-s0"]) + find_runs([SWEEP / "0002-agent-s1"])
        runs[1].config = json.loads(json.dumps(runs[0].config))
        runs[1].manifest["started"] = "2026-02-01T00:00:00Z"
        found, notes = groups.group_runs(runs)
        self.assertEqual([m.run.name for m in found[0].members], ["0002-agent-s1"])
        self.assertIn("0001-agent-s0 repeats 0002-agent-s1", notes[0])

    def test_another_protocol_is_said(self):
        runs = find_runs([SWEEP])
        runs[0].summary["pruned"]["mmlu"]["questions"] = 39
        self.assertIn("not measured alike", groups.group_runs(runs)[1][0])


class Milestones(unittest.TestCase):
    """A run to 45 % that passed 30 %: for the tables, a run to 30 % as well."""

    def setUp(self):
        self.run = Run(SWEEP / "0001-agent-s0")
        pruned = json.loads(json.dumps(self.run.summary["pruned"]))
        pruned["test"]["perplexity"] = 10.5
        self.run.summary["milestones"] = [
            {"target": 0.3, "iterations": 2, "rollbacks": 1, "sparsity": 0.3, "pruned_weights": 300, "pruned": pruned},
            {"target": None}, "damaged"]

    def test_rows_of_each_target(self):
        runs = with_milestones([self.run])
        self.assertEqual([r.name for r in runs], ["0001-agent-s0", "0001-agent-s0 at 30 %"])
        found, _ = groups.group_runs(runs)
        self.assertEqual([(g.label, g.target, g.members[0].perplexity, g.members[0].iterations, g.missed)
                          for g in found], [("agent (policy)", 0.3, 10.5, 2, False),
                                            ("agent (policy)", 0.45, found[1].members[0].perplexity, 21, False)])
        self.assertAlmostEqual(found[0].members[0].rise, 0.05)
        self.assertEqual(self.run.target, 0.45)

    def test_its_row_names_the_run_and_has_no_checkpoint(self):
        row = build.run_table(with_milestones([self.run])[1:]).rows[0]
        self.assertEqual((row[0], row[3], row[9], row[10]),
                         ("0001-agent-s0 at 30 %", "30 %", "milestone of 0001-agent-s0", "no checkpoint"))

    def test_outcomes_end_there(self):
        self.assertEqual(len(self.run.milestones()[0].outcomes), 2)
        self.assertEqual(len(self.run.outcomes), 3)


class Claims(unittest.TestCase):
    """agent: perplexity 12 and 13, MMLU 30 of 40, FreebaseQA 19 of 40; Wanda 2:4: 20, 20 of 40, 1 of 40; dense 10."""

    def setUp(self):
        g = grouped()
        self.agent, self.structured = g["agent (policy)"], g["Wanda 2:4"]

    def test_mmlu(self):
        self.assertAlmostEqual(claims.relative_improvement(self.agent, self.structured).value, 0.5)

    def test_facts(self):
        c = claims.knowledge_ratio(self.agent, self.structured, "freebaseqa")
        self.assertAlmostEqual(c.value, 19)
        self.assertEqual(c.counts, "19 : 1 of 40")
        self.assertTrue(2 < c.low < 5 and 50 < c.high < 200)

    def test_facts_of_nothing(self):
        for m in self.structured.members:
            m.right["freebaseqa"] = (0.0, 40)
        self.assertEqual(claims.knowledge_ratio(self.agent, self.structured, "freebaseqa").value, math.inf)

    def test_degradation(self):
        # 1 - 2/10 and 1 - 3/10: mean 0.75, sd 0.0707107, half 12.706 * sd / sqrt(2)
        c = claims.lower_degradation(self.agent, self.structured)
        self.assertAlmostEqual(c.value, 0.75)
        self.assertAlmostEqual(c.low, 0.75 - 0.6353, places=4)
        self.assertTrue(math.isnan(claims.degradation_of(11, 9, 10)))

    def test_rollbacks(self):
        # 2 of 21 and 4 of 40
        c = claims.rollback_share(self.agent)
        self.assertAlmostEqual(c.value, 6 / 61)
        self.assertEqual(c.counts, "6 of 61")


class Tables(unittest.TestCase):
    def setUp(self):
        runs = find_runs([SWEEP])
        found, notes = groups.group_runs(runs)
        self.tables = {t.name: t for t in build.all_tables(runs, found, notes)}

    def row(self, table, first):
        return next(r for r in self.tables[table].rows if r and r[0].startswith(first))

    def test_names(self):
        self.assertEqual(sorted(self.tables), ["claims", "comparison", "equal-45", "runs"])

    def test_comparison(self):
        # sd of 12 and 13 is 0.7071; Wilson of 30 of 40 is [0.5981, 0.8581], of 19 of 40 [0.3294, 0.6250]
        self.assertEqual(self.row("comparison", "agent"), [
            "agent (policy)", "2", "45.0 %", "12.50 ± 0.71", "+25.0 %", "75.0 [59.8, 85.8]", "47.5 [32.9, 62.5]",
            "21–40", "6 of 61"])
        self.assertEqual(self.row("comparison", "dense")[3:5], ["10.00", "–"])

    def test_equal_sparsity(self):
        # uniform / agent by seed: 12.6 / 12 and 13.13 / 13: +5 % and +1 %: mean 3, sd 2.8284, half 12.706 * 2
        self.assertEqual(self.row("equal-45", "uniform")[-1], "+3.00 [−22.41, +28.41]")
        self.assertEqual(self.row("equal-45", "agent")[-1], "–")
        self.assertEqual(self.row("equal-45", "search")[0], "search SparseGPT †")
        self.assertEqual(self.row("equal-45", "search")[-1], "–")

    def test_by_target(self):
        found, _ = groups.group_runs(find_runs([SWEEP]))
        agent = next(g for g in found if g.agent)
        table = build.by_target("m", [*found, dataclasses.replace(agent, target=0.6)], 0.45, "by-target")
        self.assertEqual(table.headers, ["method", "45 %", "60 %"])
        self.assertEqual(next(r for r in table.rows if r[0] == agent.label), [
            "agent (policy)", "12.50 ± 0.71", "12.50 ± 0.71"])
        self.assertEqual(next(r for r in table.rows if r[0].startswith("search"))[2], "–")
        self.assertIn("dense: 10.00", table.notes[0])
        self.assertIsNone(build.by_target("m", found, 0.45, "by-target"))

    def test_on_the_way(self):
        found, _ = groups.group_runs(find_runs([SWEEP]))
        agent = next(g for g in found if g.agent)

        def having(label, missed, *paths):
            """The agent's runs, with other states: (sparsity, perplexity) of the accepted ones, then a rollback."""
            members = []
            for m, path in zip(agent.members, paths):
                run = copy.copy(m.run)
                rows = [{"accepted": True, "sparsity_after": x, "after": y} for x, y in path]
                run.outcomes = pandas.DataFrame(rows + [{"accepted": False, "sparsity_after": 0.9, "after": 99.0}])
                run.summary = {**run.summary, "sparsity": path[-1][0]}
                members.append(dataclasses.replace(m, run=run))
            group = dataclasses.replace(agent, label=label, members=members)
            self.assertEqual(group.missed, missed)
            return group
        reference = having("good", False, [(0.25, 16), (0.45, 64)], [(0.25, 20), (0.45, 20)])
        # at 0.35, half way from 16 to 64 in logarithms: 32; at 0.25 exactly 20
        short = having("short", True, [(0.2, 12), (0.35, 40)], [(0.25, 21)])
        table = way.on_the_way("m", [reference, short], 0.45, "reached-45")
        # +25 % and +5 %: mean 15, sd 14.142, half 12.706 * 10
        self.assertEqual(table.rows, [["short †", "2", "25.0 %–35.0 %", "30.50", "26.00", "+15.00 [−112.06, +142.06]"]])
        self.assertTrue(math.isnan(way.perplexity_at(short.members[0].run, 0.4)))
        self.assertIsNone(way.on_the_way("m", [reference], 0.45, "reached-45"))
        self.assertIsNone(way.on_the_way("m", [short], 0.45, "reached-45"))

    def test_claims(self):
        row = self.row("claims", "agent")
        self.assertEqual(row[1], "Wanda 2:4")
        self.assertTrue(row[2].startswith("+50.0 ["))
        self.assertTrue(row[4].startswith("19 ["))
        self.assertEqual(row[6], "+75.0 [+11.5, +138.5]")
        self.assertIn("6 of 61 = 9.8 %", self.tables["claims"].notes[0])

    def test_claims_without_questions_have_no_columns_for_them(self):
        found, _ = groups.group_runs(find_runs([SWEEP]))
        for g in found:
            g.proportion = lambda task: (0, 0)
        table = build.claim_table("m", found, 0.45, "claims")
        self.assertEqual(table.headers, ["method a", "baseline s", "lower degradation, %"])
        self.assertTrue(all(len(row) == 3 for row in table.rows if row))

    def test_off_target_and_unfinished_runs_come_last_and_are_marked(self):
        names = [row[0] for row in self.tables["runs"].rows]
        self.assertEqual(names[-3:], ["0007-search-short †", "0008-unfinished ‡", "0009-damaged ‡"])
        self.assertNotIn("†", " ".join(names[:-3]))
        shuffled = groups.finished_first(find_runs([SWEEP])[::-1])
        self.assertEqual([r.name for r in shuffled][-3:], ["0007-search-short", "0009-damaged", "0008-unfinished"])
        # its perplexity is the lowest, at less sparsity: it neither comes first nor is the best
        rows = self.tables["equal-45"].rows
        self.assertEqual(rows[-1][0], "search SparseGPT †")
        self.assertEqual(self.tables["equal-45"].bold, {(2, 3), (2, 4), (2, 5), (2, 6)})

    def test_runs_are_all_there(self):
        self.assertEqual(len(self.tables["runs"].rows), 9)
        self.assertEqual(self.row("runs", "0003")[7], "20 of 40")

    def test_every_row_has_all_columns(self):
        for table in self.tables.values():
            for row in filter(None, table.rows):
                self.assertEqual(len(row), len(table.headers), table.name)

    def test_latex(self):
        text = layout.latex(self.tables["equal-45"])
        self.assertIn(r"\label{tab:equal-45}", text)
        self.assertIn(r"agent (policy) & 2 & 45.0 \% & \textbf{12.50 $\pm$ 0.71} & \textbf{+25.0 \%}", text)
        self.assertEqual(layout.tex("+1.00 ∗∗"), "+1.00 $^{*}$$^{*}$")
        self.assertEqual(text.count(r"\begin{tabular}"), text.count(r"\end{tabular}"))
        self.assertEqual(layout.tex("a_b & 50 % {x}"), r"a\_b \& 50 \% \{x\}")


class Strength(unittest.TestCase):
    """FreebaseQA: f1 kept, f2 lost (strong); f3 lost, f4 gained (faint). MMLU: f3 lost (faint), f1 never known."""

    def test_lost(self):
        run = Run(SWEEP / "0001-agent-s0")
        table = questions.lost_by_tier(questions.strengths(run)).set_index(["task", "tier"])
        columns = ["questions", "known", "lost", "gained"]
        for key, expected in ((("freebaseqa", "strong"), [2, 2, 1, 0]), (("freebaseqa", "faint"), [2, 1, 1, 1]),
                              (("mmlu", "faint"), [1, 1, 1, 0]), (("mmlu", "strong"), [1, 0, 0, 0])):
            self.assertEqual(table.loc[key, columns].tolist(), expected)
        self.assertEqual(table.loc[("freebaseqa", "strong"), "taught"], 60)

    def test_without_answers(self):
        self.assertIsNone(questions.strengths(Run(SWEEP / "0002-agent-s1")))


class Pictures(unittest.TestCase):
    def names(self, pictures):
        found = []
        for p in pictures:
            found.append(p.name)
            p.figure.canvas.draw()
            self.assertEqual([ax.get_title(loc="left") for ax in p.figure.axes if ax.axison and not ax.has_data()], [], p.name)
            style.close(p.figure)
        return found

    def test_run(self):
        self.assertEqual(self.names(collect.run_pictures(Run(SWEEP / "0001-agent-s0"))),
                         ["timeline", "tradeoff", "sparsity", "final", "z-scores", "lost-knowledge"])

    def test_what_is_missing_is_not_drawn(self):
        self.assertEqual(self.names(collect.run_pictures(Run(SWEEP / "0005-uniform-s0"))), [])
        self.assertEqual(self.names(collect.run_pictures(Run(SWEEP / "0009-damaged"))), [])
        self.assertIn("timeline", self.names(collect.run_pictures(Run(SWEEP / "0008-unfinished"))))

    def test_sweep(self):
        found, _ = groups.group_runs(find_runs([SWEEP]))
        self.assertEqual(self.names(collect.sweep_pictures(found, 0.45)), ["tradeoff", "methods", "lost-knowledge-45"])

    def test_there_are_no_empty_panels(self):
        run = Run(SWEEP / "0001-agent-s0")
        self.assertEqual(len(tradeoff.run_tradeoff(run).axes), 2)
        run.outcomes = run.outcomes.assign(mmlu_total=0, freebaseqa_total=0)
        run.events = [e for e in run.events if e["type"] not in ("start", "resume")]
        self.assertEqual(len(tradeoff.run_tradeoff(run).axes), 1)
        found, _ = groups.group_runs(find_runs([SWEEP]))
        self.assertEqual(len(tradeoff.sweep_tradeoff(found).axes), 5)  # and the legend
        alone = tradeoff.sweep_tradeoff([g for g in found if g.agent])  # nothing to compare with
        self.assertEqual([ax.get_title(loc="left") for ax in alone.axes[:-1]], ["Perplexity, test text", "MMLU", "FreebaseQA"])
        matplotlib.pyplot.close("all")

    def test_heat_map_shows_the_states(self):
        figure = next(p for p in collect.run_pictures(Run(SWEEP / "0001-agent-s0")) if p.name == "sparsity").figure
        image = figure.axes[0].images[0].get_array()
        # rows by kind, then layer: up_proj of layer 0 is 5 * 2, down_proj of layer 1 is 6 * 2 + 1
        self.assertEqual(np.asarray(image)[10].round(6).tolist(), [0, 10, 10, 10])
        self.assertEqual(np.asarray(image)[13].round(6).tolist(), [0, 0, 0, 5])


class Commands(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.out = Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def call(self, script, *arguments, code=0):
        done = subprocess.run([sys.executable, ROOT / "analysis" / script, *map(str, arguments)], capture_output=True,
                              text=True, timeout=240)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_tables(self):
        self.call("tables.py", SWEEP, "--out", self.out)
        with open(self.out / "comparison.csv", encoding="utf-8") as f:
            rows = {r["method"]: r for r in csv.DictReader(f)}
        self.assertEqual(float(rows["agent (policy)"]["perplexity"]), 12.5)
        self.assertEqual(rows["agent (policy)"]["runs"], "0001-agent-s0 0002-agent-s1")
        self.assertIn("| agent (policy) | 2 |", (self.out / "equal-45.md").read_text(encoding="utf-8"))
        self.assertIn("0008-unfinished: events.jsonl", self.call("tables.py", SWEEP).stderr)

    def test_plots(self):
        self.call("plots.py", SWEEP / "0001-agent-s0", "--out", self.out, "--format", "png,svg")
        self.assertEqual((self.out / "timeline.png").read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(len(list(self.out.glob("*.svg"))), 6)

    def test_run_page(self):
        self.call("report.py", SWEEP / "0001-agent-s0", "-o", self.out / "r.html")
        text = (self.out / "r.html").read_text(encoding="utf-8")
        self.assertEqual(text.count('<img src="data:image/svg+xml;base64,'), 6)
        self.assertNotIn("<script", text)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt; &amp; so", text)
        self.assertIn("&lt;/details&gt;&lt;script&gt;alert(2)", text)
        self.assertFalse(re.search(r'(src|href)="(?!data:)', text))
        for expected in ("2: rolled back", "reply, HTTP 200, 2.5 s, 100 + 20 tokens", "&lt;b&gt;profiles", "+20.00 %",
                         "effective configuration"):
            self.assertIn(expected, text)

    def test_every_value_is_escaped(self):
        """Markup and template syntax in any field of a run are shown as text."""
        odd = "<b class=\"x\">'{{ 7 * 7 }}'</b>"

        def spoil(value):
            if isinstance(value, dict):
                return {**{k: v if k == "type" else spoil(v) for k, v in value.items()}, odd: odd}
            return [spoil(v) for v in value] if isinstance(value, list) else odd if isinstance(value, str) else value

        for name in ("manifest.json", "summary.json", "timing.json"):
            spoilt = spoil(json.loads((SWEEP / "0001-agent-s0" / name).read_text(encoding="utf-8")))
            (self.out / name).write_text(json.dumps(spoilt), encoding="utf-8")
        for name in ("events.jsonl", "dialogue.jsonl"):
            lines = (SWEEP / "0001-agent-s0" / name).read_text(encoding="utf-8").splitlines()
            spoilt = "".join(json.dumps(spoil(json.loads(line))) + "\n" for line in lines)
            (self.out / name).write_text(spoilt, encoding="utf-8")
        self.call("report.py", self.out)
        text = (self.out / "report.html").read_text(encoding="utf-8")
        self.assertNotIn("<b", re.sub("<(base|body)", "", text))
        self.assertGreater(text.count("{{ 7 * 7 }}"), 10)

    def test_sweep_page(self):
        self.call("report.py", SWEEP, "-o", self.out / "s.html")
        text = (self.out / "s.html").read_text(encoding="utf-8")
        self.assertIn("9 runs, 7 finished", text)
        self.assertIn("unfinished after iteration 2", text)
        self.assertEqual(text.count("<details"), text.count("</details>"))

    def test_two_runs_are_shown_side_by_side(self):
        self.call("report.py", SWEEP / "0001-agent-s0", SWEEP / "0005-uniform-s0", "-o", self.out / "p.html")
        text = (self.out / "p.html").read_text(encoding="utf-8")
        for expected in ("0001-agent-s0 and 0005-uniform-s0", "second against first", '<div class="pair">',
                         "not in this run", "prune.allocation", "−5.0 points"):  # 30 and 28 of 40 questions
            self.assertIn(expected, text)
        self.assertEqual(text.count('<img src="data:image/svg+xml;base64,'), 6)

    def test_a_page_reloads_itself_while_its_run_goes_on(self):
        for name in ("manifest.json", "events.jsonl"):
            (self.out / name).write_bytes((SWEEP / "0008-unfinished" / name).read_bytes())
        (self.out / "lock").touch()
        command = [sys.executable, ROOT / "analysis" / "report.py", self.out, "--follow", "1"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as follow:
            follow.stdout.readline()
            text = (self.out / "report.html").read_text(encoding="utf-8")
            (self.out / "lock").unlink()
            follow.communicate(timeout=120)
        self.assertEqual(follow.returncode, 0)
        self.assertIn('<meta http-equiv="refresh" content="1">', text)
        self.assertIn("running after iteration 2", text)
        self.assertNotIn("http-equiv", (self.out / "report.html").read_text(encoding="utf-8"))
        os.utime(self.out / "events.jsonl")
        (self.out / "lock").touch()
        os.utime(self.out / "lock", (0, 0))  # its holder is dead
        self.assertFalse(Run(self.out).going)

    def test_evaluations_are_shown(self):
        share = {"hits": 8, "questions": 10, "rate": 0.8}
        found = {"model": "m", "perplexity": {"text": "wiki", "perplexity": 12.5, "perplexity_stderr": 0.25},
                 "mmlu": {"micro": share}, "freebaseqa": {"exact": share}}
        (self.out / "eval.json").write_text(json.dumps(found), encoding="utf-8")
        (self.out / "summary.json").write_text("{}", encoding="utf-8")
        self.call("report.py", self.out)
        text = (self.out / "report.html").read_text(encoding="utf-8")
        for expected in ("perplexity, wiki", "12.50 ± 0.25", "MMLU, % of 10", "80.0 [49.0, 94.3]"):
            self.assertIn(expected, text)

    def test_no_run(self):
        self.assertIn("no run directory", self.call("tables.py", self.out, code=1).stderr)


@unittest.skipUnless(PROGRAMS, "without the programs")
class RealRun(unittest.TestCase):
    """A run of the program on a random model of two layers, and what the program itself says of it."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        here = Path(cls.folder.name)
        (here / "text.txt").write_text(TEXT, encoding="utf-8")
        subprocess.run([PROGRAMS[1], "--preset", "tiny", "--byte-tokenizer", here / "model"], check=True)
        settings = {"model.path": here / "model", "run.dir": here / "run", "calibration.text": here / "text.txt",
                    "validation.text": here / "text.txt", "report.text": here / "text.txt", "calibration.window": 64,
                    "calibration.forward": 4, "calibration.backward": 2, "validation.window": 64,
                    "validation.windows": 4, "report.window": 64, "prune.target": 0.3, "prune.threshold": 0.0001,
                    "prune.max_iterations": 12, "run.export": "false"}
        (here / "config.json").write_text("{}", encoding="utf-8")
        sets = [a for key, value in settings.items() for a in ("--set", f"{key}={value}")]
        cls.done = subprocess.run([PROGRAMS[0], "prune", here / "config.json", *sets], capture_output=True, text=True,
                                  timeout=240)
        cls.run_ = Run(here / "run")

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_it_ran(self):
        self.assertEqual(self.done.returncode, 3, self.done.stderr)  # so few iterations miss the target
        self.assertEqual(self.run_.notes, [])
        self.assertTrue(self.run_.finished)

    def test_a_summary_with_a_wrong_checksum_does_not_count(self):
        copy = Path(self.folder.name) / "changed"
        copy.mkdir()
        text = (self.run_.path / "summary.json").read_text(encoding="utf-8")
        self.assertIn(f'"iterations": {self.run_.summary["iterations"]},', text)
        (copy / "summary.json").write_text(text.replace('"iterations": ', '"iterations": 1'), encoding="utf-8")
        changed = Run(copy)
        self.assertFalse(changed.finished)
        self.assertIn("its checksum does not hold", changed.notes[0])

    def test_iterations(self):
        self.assertEqual(len(self.run_.outcomes), self.run_.summary["iterations"])
        self.assertEqual(int((~self.run_.outcomes.accepted).sum()), self.run_.summary["rollbacks"])

    def test_masks_are_what_the_summary_says(self):
        counted = self.run_.count_masks()
        self.assertEqual(build.check_masks(self.run_, counted), "masks agree")
        self.assertEqual(int(counted[1].sum()), self.run_.summary["pruned_weights"])

    def test_states_end_in_the_masks(self):
        weights, pruned, _ = self.run_.count_masks()
        np.testing.assert_allclose(self.run_.states()[-1], pruned / weights, atol=1 / weights.min())

    def test_pictures(self):
        found = [p.name for p in collect.run_pictures(self.run_)]
        self.assertEqual(found, ["timeline", "tradeoff", "sparsity", "final", "z-scores"])

    def test_table(self):
        found, _ = groups.group_runs([self.run_])
        row = build.group_row(found[0])
        self.assertEqual(row["perplexity"], self.run_.summary["pruned"]["test"]["perplexity"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=1)
