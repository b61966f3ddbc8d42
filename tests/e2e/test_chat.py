#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""espalier chat as a user runs it: replies within a schema on 1 to 4 ranks, judged by jsonschema where that is installed,
and what is refused with which words.

usage: test_chat.py ESPALIER MAKE_RANDOM_MODEL
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from common import ENVIRONMENT, SAPLING, SLOW, mpirun

try:
    import jsonschema
except ImportError:
    jsonschema = None
    print("jsonschema is not installed: replies are checked by this test's own rules alone")

ESPALIER, MAKE_MODEL = sys.argv[1:3]
RANKS = [int(r) for r in os.environ.get("ESPL_TEST_RANKS", "1 2 3 4").split()]
LINEARS = [f"layers.{layer}.{kind}" for layer in range(3) for kind in ("mlp.up_proj", "self_attn.q_proj")]
STEP = {"anyOf": [{"type": "number", "minimum": 0.01, "maximum": 0.1}, {"type": "string", "enum": ["2:4", "4:8"]}]}
PLAN = {"type": "object", "properties": {name: STEP for name in LINEARS}, "minProperties": 1, "maxProperties": 3,
        "additionalProperties": False}


def action(name, **members):
    properties = {"action": {"type": "string", "enum": [name]}, **members}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


SCHEMA = {"anyOf": [action("predict", plan=PLAN),
                    action("propose", rationale={"type": "string", "maxLength": 60}, plan=PLAN, last={"type": "boolean"}),
                    action("inspect", linears={"type": "array", "items": {"type": "string", "enum": LINEARS},
                                               "minItems": 1, "maxItems": 2})]}
failures = 0


def check(good, what):
    global failures
    if not good:
        failures += 1
        print("FAILED:", what)


def chat(ranks, *arguments, message="Which layers?\n"):
    return subprocess.run(mpirun(ranks, ESPALIER, "chat", *arguments), input=message, env=ENVIRONMENT, text=True,
                          capture_output=True, timeout=60 * SLOW, check=False)


def refused(code, words, *arguments, ranks=2, **rest):
    run = chat(ranks, *arguments, **rest)
    check(run.returncode == code and run.stderr.count(words) == 1,
          f"{arguments}: exit {run.returncode}, wanted {code} with {words!r}: {run.stderr[:500]}")


def is_valid(reply):
    if jsonschema:
        jsonschema.validate(reply, SCHEMA)
    return reply["action"] in ("predict", "propose", "inspect")


def main():
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        model, schema = here / "model", here / "schema.json"
        schema.write_text(json.dumps(SCHEMA), encoding="utf-8")
        subprocess.run([MAKE_MODEL, "--layers", "4", "--hidden", "32", "--heads", "2", "--kv-heads", "1", "--head-dim", "16",
                        "--ffn", "48", "--vocab", "300", "--byte-tokenizer", model], check=True, capture_output=True)
        if jsonschema:
            jsonschema.Draft202012Validator.check_schema(SCHEMA)

        actions = set()
        for seed in range(8):
            options = ["--model", SAPLING / "model", "--schema", schema, "--max-tokens", 120, "--temperature", 4, "--seed", seed,
                       "--context", 300, "--quiet"]
            texts = [chat(ranks, *options).stdout for ranks in (RANKS if seed < 2 else RANKS[:1])]
            check(len(set(texts)) == 1, f"seed {seed}: {texts}")
            reply = json.loads(texts[0])
            check(is_valid(reply), texts[0])
            actions.add(reply["action"])
        check(len(actions) > 1, f"only {actions}")

        for ranks in RANKS:
            run = chat(ranks, "--model", model, "--max-tokens", 12, "--json", "--context", 200)
            reply = json.loads(run.stdout)
            check(reply["template"] == "plain" and reply["tokens"] <= 12 and reply["cut"] == (reply["tokens"] == 12), run.stdout)
            check(reply["prompt_tokens"] == len("User: Which layers?\n\nAssistant:"), "the last line break is dropped")
        run = chat(1, "--model", model, "--max-tokens", 3, "--system", "Be brief.", "--template", "chatml", "--json", "--verbose",
                   "--context", 200)
        check(json.loads(run.stdout)["template"] == "chatml" and "tokens/s" in run.stderr, run.stderr)

        refused(2, "--model is required")
        refused(2, "expected a message", "--model", model, message="")
        refused(2, '--template: "jinja" is not one of', "--model", model, "--template", "jinja")
        refused(2, "exceed the chat's context of 40", "--model", model, "--context", "40", "--max-tokens", "20")
        refused(2, "is too short for its form", "--model", model, "--schema", schema, "--max-tokens", "20")
        refused(74, "nowhere.json", "--model", model, "--schema", here / "nowhere.json")
        schema.write_text('{"type": "string", "format": "date"}', encoding="utf-8")
        refused(1, '"format" is not supported', "--model", model, "--schema", schema)
        (model / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
        refused(1, "chat_template.jinja: the chat template is none of those known here", "--model", model)
        check(chat(2, "--model", model, "--template", "plain", "--max-tokens", 1, "--context", 100).returncode == 0,
              "plain in spite of an unknown template")
    print("FAILED" if failures else "all passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
