#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Records a pruning run for test_forecast.c: what each step took, and what it did.

record_run.py [--slow SEED] ESPALIER CONFIG OUT [--set ...]

The clock is processor time of one thread, which another load of the machine hardly changes, plus the time for which an
endpoint thought. With --slow there is such an endpoint: it takes the policy's plan, scaled at random, after 0.5 to 8 s.
"""
import http.server
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time

KINDS = "q k v o gate up down".split()
TICKS = os.sysconf("SC_CLK_TCK")


class Endpoint(http.server.BaseHTTPRequestHandler):
    random = random.Random(0)
    slept = 0.0

    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        seconds = min(8, max(0.5, math.exp(self.random.gauss(0.7, 0.6))))
        time.sleep(seconds)
        Endpoint.slept += seconds
        reply = json.dumps({"reasoning": "r", "reflection": "", "base": "policy", "scale": round(self.random.uniform(0.7, 1), 2),
                            "stop": False})
        body = json.dumps({"choices": [{"index": 0, "finish_reason": "stop",
                                        "message": {"role": "assistant", "content": reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def follow(process, path):
    """Yields (clock, event) for each line of events.jsonl, as soon as it is there."""
    rest = ""
    position = 0
    while True:
        ended = process.poll() is not None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                f.seek(position)
                rest += f.read()
                position = f.tell()
        while "\n" in rest:
            line, rest = rest.split("\n", 1)
            used = resource.getrusage(resource.RUSAGE_CHILDREN) if ended else None
            yield (used.ru_utime + used.ru_stime if ended else processor_seconds(process.pid)) + Endpoint.slept, json.loads(line)
        if ended:
            return
        time.sleep(0.01)


def weights(model):
    with open(f"{model}/config.json", encoding="utf-8") as f:
        c = json.load(f)
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    q, kv = head * c["num_attention_heads"], head * c["num_key_value_heads"]
    hidden, ffn = c["hidden_size"], c["intermediate_size"]
    return c["num_hidden_layers"], [hidden * q, hidden * kv, hidden * kv, q * hidden, hidden * ffn, hidden * ffn, ffn * hidden]


def main(arguments):
    slow = arguments.pop(0) == "--slow" if arguments[0] == "--slow" else False
    seed = int(arguments.pop(0)) if slow else None
    program, config, out, *more = arguments
    folder = tempfile.mkdtemp()
    command = [program, "prune", config, "--quiet", "--set", f"run.dir={folder}/run", *more]
    if slow:
        Endpoint.random = random.Random(seed)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command += ["--set", "agent.backend=openai", "--set", f"agent.base_url=http://127.0.0.1:{server.server_port}/v1",
                    "--set", "agent.model=m", "--set", "agent.api_key_env=", "--set", "agent.tools=none"]
    environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    last, lines = 0.0, []
    for clock, event in follow(process, f"{folder}/run/events.jsonl"):
        if event["type"] == "start":
            last = clock
        if event["type"] == "outcome":
            items = " ".join(f"{index(name)}:{step:.6g}" for name, step in event["decision"]["prune"].items())
            lines.append(f"{clock:.2f} {clock - last:.2f} {int(event['accepted'])} {items}")
            left, wall, last = event["seconds_left"], event["time"], clock
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    end = used.ru_utime + used.ru_stime + Endpoint.slept
    with open(f"{folder}/run/manifest.json", encoding="utf-8") as f:
        effective = json.load(f)["config"]
    with open(f"{folder}/run/timing.json", encoding="utf-8") as f:
        timing = json.load(f)
    scale = (end - Endpoint.slept) / timing["seconds"]  # of wall clock to processor time
    distillation = timing["distillation"]
    layers, kinds = weights(effective["model"]["path"])
    with open(out, "w", encoding="utf-8") as f:
        f.write(f"# espalier prune {config} {' '.join(more)}{f', record_run.py --slow {seed}' if slow else ''}\n"
                f"# Lines of steps: the clock behind it, its seconds, accepted (1) or rolled back (0), LINEAR:SPARSITY ADDED ...\n"
                f"layers {layers}\nweights {' '.join(map(str, kinds))}\n")
        for key in ("target", "max_linears", "max_iterations"):
            f.write(f"{key} {effective['prune'][key]}\n")
        f.write(f"report {left * scale:.3f}\n"  # what was left after the last step was the report, as it was forecast
                f"distill_steps {effective['distill']['steps']}\nfinal_steps {distillation['final']}\n"
                f"distill_seconds {scale * distillation['seconds'] / max(1, distillation['steps']):.4f}\n"
                f"end {end:.2f}\n" + "\n".join(lines) + "\n")


def index(name):
    _, layer, _, kind = name.split(".")
    return int(layer) * len(KINDS) + KINDS.index(kind.removesuffix("_proj"))


if __name__ == "__main__":
    main(sys.argv[1:])
