#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants one defect after another in what the agent is told and in how its policy decides, and expects the unit tests of
the agent to notice each of them.

tests/tools/mutate.py [WORD]        only defects whose description has WORD; about 10 s for each

Works on a copy of the sources in a temporary directory, with a build of its own. Ends with 1 if a defect went unnoticed
or its place in the sources is not there any more."""
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ["action", "experts", "policy", "recorded", "reply"]
A = "src/agent/"

# (what is wrong, file, text, what replaces it)
DEFECTS = [
    ("the prompt has no right answers", A + "prompt.c", "    prompt_put_probes(out, view);\n", ""),
    ("the prompt has no loss of answers", A + "prompt.c", "if (b->share > 0 && isfinite(view->last.answers))", "if (0)"),
    ("the prompt has no perplexity", A + "prompt.c", "if (isfinite(view->last.perplexity)) {", "if (view->iteration < 0) {"),
    ("the prompt has no history", A + "prompt.c",
     "    prompt_put_history(out, view, how->paper, how->max_bytes - head - FRAME_BYTES);\n",
     "    (void)prompt_put_history; (void)head;\n"),
    ("the history has no reflection", A + "prompt.c", 'prompt_put_said(s, "reflection", o->decision.reflection);', ""),
    ("the history has no reasoning", A + "prompt.c", 'prompt_put_said(s, "reasoning", o->decision.reason);', ""),
    ("the history has no right answers", A + "prompt.c",
     'prompt_put_counts(s, "MMLU", before->mmlu_right, after->mmlu_right, before->mmlu_total, after->mmlu_total);', ""),
    ("the history tells no rollback", A + "prompt.c", 'o->accepted ? "accepted" : "ROLLED BACK"', '"accepted"'),
    ("the history has no expectation", A + "prompt.c", "paper ? NAN : o->decision.expected_text,", "NAN,"),
    ("the prompt has no lessons", A + "prompt.c", "if (!how->paper) prompt_put_lessons(", "if (0) prompt_put_lessons("),
    ("the table has no knowledge", A + "profile_table.c", ".knowledge = !paper && espl_view_has_knowledge(v)",
     ".knowledge = false"),
    ("the table has no prices", A + "profile_table.c", ".prices = !paper && espl_view_has_damage(v)", ".prices = false"),
    ("z_g has the other sign in the table", A + "profile_table.c", "table_put_z(s, r->z_g);", "table_put_z(s, -r->z_g);"),
    ("prices have the other sign", A + "profile_table.c", "return 100 * expm1(", "return -100 * expm1("),
    ("the paper's view shows prices", A + "profile_table.c", ".prices = !paper && ", ".prices = "),
    ("predictions have the other sign", A + "predict.c", "p.text += factor *", "p.text -= factor *"),
    ("predictions have no knowledge", A + "predict.c",
     "share > 0 && isfinite(answers) ? (1 - share) * text + share * answers : text", "text + 0 * (share + answers)"),
    ("a plan that was rolled back may be tried again", A + "predict.c",
     "predict_shared(v, plan, tried) >= SAME_SHARE", "predict_shared(v, plan, tried) > 2"),
    ("the policy prunes what is sensitive", A + "policy/costs.c",
     "c->o->weight_s * costs_z(c, r->z_s) + c->o->weight_g", "-c->o->weight_s * costs_z(c, r->z_s) - c->o->weight_g"),
    ("the policy ignores gradients", A + "policy/costs.c", "+ c->o->weight_g * costs_z(c, r->z_g)", "+ 0 * costs_z(c, r->z_g)"),
    ("the policy takes the dearest first", A + "policy/choice.c", ".score = damage / (double)count", ".score = -damage / (double)count"),
    ("culprits do not rest", A + "policy/policy.c", "o->iteration + (int64_t)p->o->cooldown", "o->iteration"),
    ("the policy never learns", A + "policy/costs.c", "log((e->seen + l->floor) / (expected + l->floor))", "0"),
    ("the policy learns the opposite", A + "policy/costs.c", "return log((e->seen + l->floor) / (expected + l->floor));",
     "return -log((e->seen + l->floor) / (expected + l->floor));"),
    ("the damage of knowledge does not count", A + "view.c",
     "isnan(answers) ? text : (1 - share) * text + share * answers", "text + 0 * (answers + share)"),
]


def unnoticed(copy, build):
    """Whether the tests pass; None if they cannot be built."""
    made = subprocess.run(["cmake", "--build", build, "--target", *(f"unit_agent_test_{t}" for t in TESTS)],
                          capture_output=True, text=True)
    if made.returncode != 0:
        print(made.stdout[-2000:])
        return None
    return subprocess.run(["ctest", "--test-dir", build, "-R", "^unit/agent/"], capture_output=True, cwd=copy).returncode == 0


def main():
    wanted = [d for d in DEFECTS if len(sys.argv) < 2 or sys.argv[1] in d[0]]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        copy, build = pathlib.Path(folder, "source"), str(pathlib.Path(folder, "build"))
        copy.mkdir()
        files = subprocess.run(["git", "ls-files", "-z", ":!tests/golden", ":!tests/sapling"],
                               cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(None, files):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
        subprocess.run(["cmake", "-S", copy, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                        "-DCMAKE_C_COMPILER_LAUNCHER=ccache"], check=True, stdout=subprocess.DEVNULL)
        if not unnoticed(copy, build):
            sys.exit("the tests fail without a defect")
        for what, name, text, instead in wanted:
            path = copy / name
            sound = path.read_text()
            if sound.count(text) != 1:
                print(f"NOT FOUND  {what}: {name} has its text {sound.count(text)} times")
                bad += 1
                continue
            path.write_text(sound.replace(text, instead))
            verdict = unnoticed(copy, build)
            path.write_text(sound)
            print(f"{'noticed' if verdict is False else 'UNNOTICED' if verdict else 'NOT BUILT'}  {what}", flush=True)
            bad += verdict is not False
    print(f"{len(wanted)} defects, {bad} not noticed")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
