#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""jobs/agent-server.sbatch without Slurm: a server that starts late, one that ends, one that never answers. In each case no
process of the server is left.

usage: test_agent_server.py ESPALIER
       test_agent_server.py --serve PORT WORKER_PID_FILE    the server: one decision for every request
"""
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = ROOT / "tests" / "sapling" / "data"
CONFIG = {
    "model": {"path": str(ROOT / "tests" / "sapling" / "model")},
    "run": {"export": False},
    "calibration": {"text": str(DATA / "calibration.txt"), "window": 64, "forward": 2, "backward": 1},
    "validation": {"text": str(DATA / "validation.txt"), "window": 64, "windows": 2},
    "prune": {"target": 0.02, "max_step": 0.1, "max_linears": 56, "threshold": 0.5},
    "agent": {"retries": 0, "fallback": "fail"},
}
DECISION = {"reasoning": "up", "reflection": "", "stop": False,
            "prune": {f"layers.{i}.mlp.up_proj": 0.05 for i in range(8)}}


class Server(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def send(self, document):
        text = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        self.send({"object": "list", "data": [{"id": "agent"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["model"] == "agent", body["model"]
        message = {"role": "assistant", "content": json.dumps(DECISION)}
        self.send({"choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                   "usage": {"prompt_tokens": 1, "completion_tokens": 1}})


def serve(port, pid_file):
    """Like servers that load a model: a worker process, and silence at first."""
    worker = subprocess.Popen(["sleep", "600"])
    pathlib.Path(pid_file).write_text(str(worker.pid), encoding="utf-8")
    time.sleep(2)
    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Server).serve_forever()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main(espalier):
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        config, worker = here / "config.json", here / "worker"
        config.write_text(json.dumps(CONFIG), encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        environment |= {"ESPL_ROOT": str(ROOT), "ESPL_PROGRAM": espalier, "ESPL_LAUNCHER": "mpirun", "ESPL_BIND": "none",
                        "ESPL_SERVER_LOG": str(here / "server.log"), "ESPL_PYTHON": sys.executable, "SLURM_NTASKS": "2",
                        "OMPI_MCA_rmaps_base_oversubscribe": "1", "http_proxy": "http://127.0.0.1:1"}

        def job(name, code, words, server=None, wait="60", arguments=("config.json",)):
            (here / "server.log").unlink(missing_ok=True)
            worker.unlink(missing_ok=True)
            options = {"ESPL_SERVER": server} if server else {}
            run = subprocess.run(["bash", str(ROOT / "jobs" / "agent-server.sbatch"), *arguments, *(["--set", f"run.dir={here / name}"] if arguments else [])],
                                 env=environment | options | {"ESPL_SERVER_WAIT": wait}, cwd=here, capture_output=True, text=True,
                                 timeout=250, check=False)
            if run.returncode != code or words not in run.stderr:
                failures.append(f"{name}: exit {run.returncode}, wanted {code} with {words!r}:\n{run.stderr[-3000:]}")
            if worker.exists() and is_alive(worker.read_text(encoding="utf-8")):
                failures.append(f"{name}: the server's worker is left")

        command = f"{sys.executable} {HERE / 'test_agent_server.py'} --serve {{port}} {worker}"
        job("good", 0, "the server answers after", command)
        if not failures:
            summary = json.loads((here / "good" / "summary.json").read_text(encoding="utf-8"))
            if summary["end"] != "target reached":
                failures.append(f"good: {summary['end']}")
        job("ends", 69, "no such model", "{ echo no such model >&2; false; } # {port}")
        job("silent", 69, "does not answer after 3 s", f"sleep 600 & echo $! > {worker}; wait # {{port}}", wait="3")
        job("unset", 2, "ESPL_SERVER is not set")
        job("portless", 2, "has no {port}", "vllm serve x")
        job("usage", 2, "usage: sbatch", command, arguments=())
    for failure in failures:
        print("FAILED:", failure)
    print("FAILED" if failures else "all passed")
    return 1 if failures else 0


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(*sys.argv[2:4])
    sys.exit(main(sys.argv[1]))
