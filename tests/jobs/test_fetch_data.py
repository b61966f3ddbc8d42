#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tests jobs/fetch-data.sh without a network: messages, exit codes, and conversions of data served from loopback."""
import http.server
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "jobs", "fetch-data.sh")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "jobs", "fetch_data"))
choices, text = importlib.import_module("choices"), importlib.import_module("text")

ROWS = {
    "allenai/ai2_arc": dict(question="Q?", choices=dict(text=["x", "y"], label=["1", "2"]), answerKey="2"),
    "Rowan/hellaswag": dict(activity_label="Cooking", ctx_a="A man [step] cooks.", ctx_b="he EATS",
                            endings=["Wait [title] soup", "a  pan"], label="1"),
    "baber/piqa": dict(goal="Open a jar", sol1="twist", sol2="shout", label=0),
    "allenai/winogrande": dict(sentence="The cup broke as the _ fell.", option1="cup", option2="table", answer="1"),
    "Salesforce/wikitext": dict(text=" = Title = \n"),
    "allenai/c4": dict(text="A \u4e2d page.\nTwo lines."),
    "aps/super_glue": dict(passage="Bees.", question="do bees fly", label=1),
}
WANT = {
    "arc_easy": dict(context="Question: Q?\nAnswer:", choices=["x", "y"], answer=1),
    "hellaswag": dict(context="Cooking: A man cooks. He eats", choices=["Wait. soup", "a pan"], answer=1),
    "piqa": dict(context="Question: Open a jar\nAnswer:", choices=["twist", "shout"], answer=0),
    "winogrande": dict(context=["The cup broke as the cup", "The cup broke as the table"], choices=["fell."] * 2, answer=0),
    "boolq": dict(context="Bees.\nQuestion: do bees fly?\nAnswer:", choices=["no", "yes"], answer=1),
}
TOTAL = 150  # two pages


class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith(("/rows", "/cut")):
            return self.reply(404 if self.path.startswith("/refuse") else 200, b"not the published file")
        q = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).items()}
        total = 10 ** 8 if q["dataset"] == "allenai/c4" else TOTAL
        n = min(int(q["length"]), total - int(q["offset"]))
        rows = [dict(row=ROWS[q["dataset"]])] * n
        if q["dataset"] == "Salesforce/wikitext" and q["split"] == "test":
            rows = [dict(row=dict(text=""))] + rows[1:]
        if self.path.startswith("/cut"):
            rows = [dict(row=rows[0]["row"], truncated_cells=["text"])] + rows[1:]
        body = json.dumps(dict(rows=rows, num_rows_total=total)).encode()
        self.reply(200, body)

    def reply(self, status, body):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def check(ok, what):
    if not ok:
        sys.exit(f"FAILED: {what}")


def read(path):
    with open(path, encoding="utf-8", newline="") as f:
        return f.read()


def check_text(hub, d):
    text.fetch(f"{hub}/rows", d)
    check(read(f"{d}/wikitext2/wiki.valid.raw") == " = Title = \n" * TOTAL, "WikiText-2, validation")
    test = (" \n" + " = Title = \n" * 99) + (" \n" + " = Title = \n" * 49)
    check(read(f"{d}/wikitext2/wiki.test.raw") == test, "WikiText-2, test: blank lines")
    lines = read(f"{d}/c4/c4.jsonl").splitlines()
    check(len(lines) == 2000 and json.loads(lines[-1]) == ROWS["allenai/c4"], "C4")
    try:
        list(text.wikitext(f"{hub}/cut", "validation"))
        check(False, "rows that the service cut off")
    except ValueError as e:
        check("cuts long rows off" in str(e), str(e))


def check_checksums(hub, d, offline):
    """A file that is not the published one is refused, whether downloaded or found."""
    env = dict(offline, no_proxy="127.0.0.1", MMLU_URL=f"{hub}/data.tar", FREEBASEQA_URL=hub)
    p = subprocess.run([SCRIPT, d, "mmlu"], capture_output=True, text=True, env=env)
    check(p.returncode == 1 and "not the published one" in p.stderr and not os.path.exists(f"{d}/mmlu.tar"), f"data.tar: {p}")
    p = subprocess.run([SCRIPT, d, "freebaseqa"], capture_output=True, text=True, env=env)
    check(p.returncode == 1 and "is not version 1.0's" in p.stderr, f"FreebaseQA: {p}")
    os.remove(f"{d}/freebaseqa/FreebaseQA-eval.json")
    p = subprocess.run([SCRIPT, d, "freebaseqa"], capture_output=True, text=True, env=dict(env, FREEBASEQA_URL=f"{hub}/refuse"))
    check(p.returncode == 1 and "refuses FreebaseQA-eval.json" in p.stderr, f"a refusal: {p}")
    p = subprocess.run([SCRIPT, d, "choices"], capture_output=True, text=True, env=dict(env, HUB_ROWS=f"{hub}/rows"))
    check(p.returncode == 1 and f"{TOTAL} questions in allenai/ai2_arc, expected 2376" in p.stderr, f"questions: {p}")


def check_list(d):
    """--list: every file's place, address and checksum, without a network."""
    p = subprocess.run([SCRIPT, "--list", f"{d}/new"], capture_output=True, text=True)
    lines = p.stdout.splitlines()
    places = [line for line in lines if not line.startswith(" ")]
    check(p.returncode == 0 and len(places) == 1 + 3 + 6 + 3 and not os.path.exists(f"{d}/new"), f"--list: {p}")
    check("    SHA-256 bec563ba" in p.stdout and p.stdout.count("git hash-object: ") == 3, f"--list: checksums: {p}")
    for place, address in zip(lines, lines[1:]):
        if not place.startswith(" "):
            check(place.startswith(f"{d}/new/") and address.startswith("    http"), f"--list: {place}: {address}")
    copied = f"{d}/new"  # an archive that was copied is used, and checked
    os.makedirs(copied)
    with open(f"{copied}/mmlu.tar", "w") as f:
        f.write("not an archive")
    p = subprocess.run([SCRIPT, copied, "mmlu"], capture_output=True, text=True)
    check(p.returncode == 1 and "not the published one" in p.stderr, f"a copied archive: {p}")


def main():
    check(subprocess.run([SCRIPT], capture_output=True).returncode == 2, "no argument: exit 2")
    with tempfile.TemporaryDirectory() as d:
        check(subprocess.run([SCRIPT, d, "wikipedia"], capture_output=True).returncode == 2, "unknown set: exit 2")
        offline = dict(os.environ, ESPL_FETCH_RETRIES="0", https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9", no_proxy="", NO_PROXY="")
        for what in ("mmlu", "freebaseqa", "choices", "text"):
            p = subprocess.run([SCRIPT, d, what], capture_output=True, text=True, env=offline)
            check(p.returncode == 69 and "On one that has access, run the same command" in p.stderr, f"{what} offline: {p}")
            check(f"{d}/" in p.stderr and "    http" in p.stderr, f"{what} offline: places and addresses: {p}")
        check_list(d)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check_checksums(f"http://127.0.0.1:{server.server_port}", d, offline)
        for task, want in WANT.items():
            choices.TASKS[task] = (*choices.TASKS[task][:3], TOTAL, choices.TASKS[task][4])
            choices.fetch(f"http://127.0.0.1:{server.server_port}/rows", d, task)
            with open(f"{d}/{task}.jsonl", encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            check(lines == [want] * TOTAL, f"{task}: {lines[0]}")
        check_text(f"http://127.0.0.1:{server.server_port}", d)
        server.shutdown()
    print("fetch-data: all checks passed")


if __name__ == "__main__":
    main()
