#!/usr/bin/env python3
"""jobs/fetch-data.sh without a network: what it says, its exit codes; and its conversions, served from loopback."""
import http.server
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "jobs", "fetch-data.sh")
spec = importlib.util.spec_from_file_location("choices", os.path.join(ROOT, "jobs", "fetch_data", "choices.py"))
choices = importlib.util.module_from_spec(spec)
spec.loader.exec_module(choices)

ROWS = {
    "allenai/ai2_arc": dict(question="Q?", choices=dict(text=["x", "y"], label=["1", "2"]), answerKey="2"),
    "Rowan/hellaswag": dict(activity_label="Cooking", ctx_a="A man [step] cooks.", ctx_b="he EATS",
                            endings=["Wait [title] soup", "a  pan"], label="1"),
    "baber/piqa": dict(goal="Open a jar", sol1="twist", sol2="shout", label=0),
    "allenai/winogrande": dict(sentence="The cup broke as the _ fell.", option1="cup", option2="table", answer="1"),
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
        q = {k: v[0] for k, v in urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query).items()}
        n = min(int(q["length"]), TOTAL - int(q["offset"]))
        body = json.dumps(dict(rows=[dict(row=ROWS[q["dataset"]])] * n, num_rows_total=TOTAL)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def check(ok, what):
    if not ok:
        sys.exit(f"FAILED: {what}")


def main():
    check(subprocess.run([SCRIPT], capture_output=True).returncode == 2, "no argument: exit 2")
    with tempfile.TemporaryDirectory() as d:
        check(subprocess.run([SCRIPT, d, "wikipedia"], capture_output=True).returncode == 2, "unknown set: exit 2")
        offline = dict(os.environ, ESPL_FETCH_RETRIES="0", https_proxy="http://127.0.0.1:9", HTTPS_PROXY="http://127.0.0.1:9", no_proxy="", NO_PROXY="")
        for what in ("mmlu", "freebaseqa", "choices"):
            p = subprocess.run([SCRIPT, d, what], capture_output=True, text=True, env=offline)
            check(p.returncode == 69 and "On one that has, run the same command" in p.stderr, f"{what} offline: {p}")
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for task, want in WANT.items():
            choices.fetch(f"http://127.0.0.1:{server.server_port}/rows", d, task)
            with open(f"{d}/{task}.jsonl", encoding="utf-8") as f:
                lines = [json.loads(line) for line in f]
            check(lines == [want] * TOTAL, f"{task}: {lines[0]}")
        server.shutdown()
    print("fetch-data: all checks passed")


if __name__ == "__main__":
    main()
