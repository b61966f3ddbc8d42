# SPDX-License-Identifier: Apache-2.0
"""A scripted Hugging Face hub on loopback, used by test_get_model.sh.

usage: test_get_model_hub.py STATE_DIRECTORY
Writes its port to STATE/port and one line per request to STATE/log. Files in STATE change its behaviour:
  cut        how many weight transfers break off after CUT_AFTER bytes, counted down
  corrupt    how many weight transfers are answered with a flipped byte, counted down
  busy       how many requests are answered with 503, counted down
  no-ranges  Range is ignored
  no-api     /api/ is 404
  gated      401 without the bearer token "hf_test"
  moved      the repository is at another commit, with other weights
"""

import hashlib
import json
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORIES = {"Qwen/Qwen3-0.6B": 1, "Qwen/Qwen3-1.7B": 3, "meta-llama/Llama-3.2-1B": 1}
COMMITS = ("1" * 40, "2" * 40)
FIXED = ("v1.0", "refs%2Fpr%2F7")  # a tag, and a branch with a slash: at the first commit, whatever happens to main
WEIGHT_BYTES = 60_000
CUT_AFTER = 25_000


def weights(seed, name):
    body = hashlib.shake_256(f"{seed}{name}".encode()).digest(WEIGHT_BYTES)
    header = json.dumps({"t": {"dtype": "U8", "shape": [WEIGHT_BYTES], "data_offsets": [0, WEIGHT_BYTES]}}).encode()
    return struct.pack("<Q", len(header)) + header + body


def repository_files(shards, seed):
    """By path, of the commit of that number."""
    files = {"config.json": b'{"model_type": "qwen3"}', "tokenizer.json": b"{}", "README.md": b"the card",
             "original/consolidated.00.pth": b"not wanted"}
    if shards == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{i:05d}-of-{shards:05d}.safetensors" for i in range(1, shards + 1)]
        files["model.safetensors.index.json"] = json.dumps({"weight_map": {n: n for n in names}}).encode()
    files.update({n: weights(seed, n) for n in names})
    return files


def tree(files):
    entries = [{"type": "directory", "path": "original", "oid": "0" * 40, "size": 0}]
    for path, data in files.items():
        entry = {"type": "file", "path": path, "size": len(data),
                 "oid": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()}
        if path.endswith(".safetensors"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
        entries.append(entry)
    return entries


class Hub(BaseHTTPRequestHandler):
    state = Path()
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def on(self, switch):
        return (self.state / switch).exists()

    def countdown(self, switch):
        """True as often as the number in the switch's file says."""
        path = self.state / switch
        left = int(path.read_text()) if path.exists() else 0
        if left > 0:
            path.write_text(str(left - 1))
        return left > 0

    def answer(self, status, body=b"", declared=None, extra=()):
        self.send_response(status)
        for key, value in extra:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        with open(self.state / "log", "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {self.headers.get('Range', '-')}\n")
        if self.countdown("busy"):
            return self.answer(503)
        if self.on("gated") and self.headers.get("Authorization") != "Bearer hf_test":
            return self.answer(401)
        parts = self.path.strip("/").split("/")
        return self.api(parts[2:]) if parts[:2] == ["api", "models"] else self.resolve(parts)

    do_HEAD = do_GET

    def commit_of(self, revision):
        """The number of a revision's commit, None if there is no such revision."""
        if revision == "main":
            return int(self.on("moved"))
        return 0 if revision in FIXED else COMMITS.index(revision) if revision in COMMITS else None

    def api(self, parts):
        repo, commit = "/".join(parts[:2]), self.commit_of(parts[3])
        if self.on("no-api") or repo not in REPOSITORIES or commit is None:
            return self.answer(404)
        if parts[2] == "revision":
            return self.answer(200, json.dumps({"sha": COMMITS[commit]}).encode())
        return self.answer(200, json.dumps(tree(repository_files(REPOSITORIES[repo], commit))).encode())

    def resolve(self, parts):
        repo, path, commit = "/".join(parts[:2]), "/".join(parts[4:]), self.commit_of(parts[3])
        known = repo in REPOSITORIES and commit is not None
        data = repository_files(REPOSITORIES[repo], commit).get(path) if known else None
        if data is None:
            return self.answer(404)
        self.send_file(data, path.endswith(".safetensors") and self.command == "GET")

    def send_file(self, data, is_weights):
        if is_weights and self.countdown("corrupt"):
            data = data[:-1] + bytes([data[-1] ^ 1])
        status, extra, start = 200, (), 0
        if "Range" in self.headers and not self.on("no-ranges"):
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self.answer(416)
            status, extra = 206, (("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"),)
        body = data[start:]
        if is_weights and self.countdown("cut"):
            self.answer(status, body[:CUT_AFTER], declared=len(body), extra=extra)
            self.close_connection = True
        else:
            self.answer(status, body, extra=extra)


class QuietServer(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


def main():
    Hub.state = Path(sys.argv[1])
    server = QuietServer(("127.0.0.1", 0), Hub)
    (Hub.state / "port.new").write_text(str(server.server_port))
    (Hub.state / "port.new").rename(Hub.state / "port")
    server.serve_forever()


if __name__ == "__main__":
    main()
