# SPDX-License-Identifier: Apache-2.0
"""A scripted OpenAI-compatible server on loopback, standard library only. The path before /chat/completions names the
script: http://127.0.0.1:PORT/<script>/v1. Each script sees the number of the request (0, 1, ...) and its JSON body."""
import gzip
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

GOOD = {"reasoning": "robust", "reflection": "none yet", "prune": {"layers.1.mlp.up_proj": 0.05}, "stop": False}
PLAN = {"layers.1.mlp.up_proj": 0.05, "layers.2.*": 0.02}
WRONG = {"prune": {"layers.99.mlp.up_proj": 0.05, "layers.0.mlp.up_proj": 7}}


def completion(text, finish="stop"):
    return {"id": "x", "object": "chat.completion", "usage": {"prompt_tokens": 1000, "completion_tokens": 50},
            "choices": [{"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}]}


def calls(*actions):
    """A completion that calls tools, each given as (name, arguments)."""
    doc = completion(None, "tool_calls")
    doc["choices"][0]["message"]["tool_calls"] = [
        {"id": f"call_{i}", "type": "function",
         "function": {"name": name, "arguments": a if isinstance(a, str) else json.dumps(a)}}
        for i, (name, a) in enumerate(actions)]
    return doc


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send_bytes(self, data, status=200, kind="application/json", length=None, headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def say(self, text, **more):
        self.send_bytes(json.dumps(completion(text)).encode(), **more)

    def refuse(self, status, text="no", headers=()):
        self.send_bytes(json.dumps({"error": {"message": text}}).encode(), status, headers=headers)

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        script = self.path.split("/")[1]
        with self.server.lock:
            seen = self.server.seen.setdefault(script, [])
            seen.append({"path": self.path, "headers": dict(self.headers), "body": json.loads(raw), "at": time.monotonic()})
            number = len(seen) - 1
        try:
            getattr(self, "script_" + script.split("-")[0])(number, seen[number]["body"])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- scripts

    def script_good(self, number, body):
        self.say(json.dumps(GOOD))

    def script_slow(self, number, body):
        time.sleep(0.6)
        self.say(json.dumps(GOOD))

    def script_hang(self, number, body):
        self.server.release.wait(20)
        self.close_connection = True

    def script_hangonce(self, number, body):
        if number == 0:
            self.server.release.wait(20)
            self.close_connection = True
        else:
            self.say(json.dumps(GOOD))

    def script_busy(self, number, body):
        if number == 0:
            self.refuse(429, "slow down", [("Retry-After", "1")])
        else:
            self.say(json.dumps(GOOD))

    def script_busylong(self, number, body):
        if number == 0:
            self.refuse(429, "slow down", [("Retry-After", "86400")])
        else:
            self.say(json.dumps(GOOD))

    def script_error(self, number, body):
        if number < 2:
            self.refuse(500 + 3 * number, "broken")
        else:
            self.say(json.dumps(GOOD))

    def script_broken(self, number, body):
        self.refuse(500, "always broken")

    def script_garbage(self, number, body):
        self.send_bytes(b"\x00\xff<html>not JSON", kind="text/html")

    def script_shape(self, number, body):
        self.send_bytes(b'{"choices": [{"message": "text"}]}')

    def script_truncated(self, number, body):
        data = json.dumps(completion(json.dumps(GOOD))).encode()
        if number == 0:
            self.send_bytes(data[:40], length=len(data))
            self.close_connection = True
        else:
            self.send_bytes(data)

    def script_lost(self, number, body):
        if number == 0:
            self.close_connection = True
        else:
            self.say(json.dumps(GOOD))

    def script_huge(self, number, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(160):
            self.wfile.write(b" " * 65536)
            self.server.sent += 65536
        self.close_connection = True

    def call(self, *actions):
        self.send_bytes(json.dumps(calls(*actions)).encode())

    def script_tools(self, number, body):
        """Predicts, inspects, measures and then proposes, by tool calls."""
        turns = [("predict", {"prune": PLAN}), ("inspect", {"linears": "layers.1.mlp.*"}), ("measure", {"base": "policy"}),
                 ("propose", dict(GOOD, lessons=["up_proj is cheap"]))]
        self.call(turns[number % len(turns)])

    def script_actions(self, number, body):
        """The same as JSON, behind a server that knows neither tools nor json_schema."""
        if "tools" in body or body.get("response_format", {}).get("type") == "json_schema":
            self.refuse(400, "auto tool choice requires --enable-auto-tool-choice")
        elif "No questions are left" in body["messages"][-1]["content"]:
            self.say(json.dumps(GOOD))
        else:
            self.say(json.dumps({"action": "predict", "prune": PLAN}))

    def script_deaf(self, number, body):
        """Takes tools, and shows its model none of them."""
        self.say("You can choose to continue with any other steps." if "tools" in body else json.dumps(GOOD))

    def script_pydantic(self, number, body):
        """llama-cpp-python's words and status for a form that it does not know."""
        if body["response_format"]["type"] == "json_schema":
            self.refuse(500, "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), "
                             "'msg': \"Input should be 'text' or 'json_object'\"}")
        else:
            self.say(json.dumps(GOOD))

    def script_careful(self, number, body):
        """In every iteration, measures what it then proposes."""
        plan = {"base": "policy", "scale": 0.8, "power": 0.5}
        measured = "Measured and taken back" in json.dumps(body["messages"][-1])
        self.call(("propose", dict(plan, reasoning="measured")) if measured else ("measure", plan))

    def script_careless(self, number, body):
        """The same without measuring."""
        self.say(json.dumps({"base": "policy", "scale": 0.8, "power": 0.5, "reasoning": "measured"}))

    def script_curious(self, number, body):
        """Measures whatever it is told."""
        self.call(("measure", {"base": "policy"}))

    def script_nested(self, number, body):
        key = self.headers.get("Authorization", "none").split()[-1].replace("/", "\\/")
        arguments = json.dumps(dict(GOOD, reasoning="KEY")).replace("KEY", key)  # as PHP writes it
        self.call(("propose", arguments))

    def script_joined(self, number, body):
        key = self.headers.get("Authorization", "none").split()[-1]
        self.say("Well: " + json.dumps(dict(GOOD, reasoning=key[:7] + "<think></think>" + key[7:])))

    def script_crowd(self, number, body):
        if number > 0:
            self.say(json.dumps(GOOD))
            return
        doc = calls(("predict", {"prune": PLAN}))
        doc["choices"][0]["message"]["tool_calls"] += [{"id": "x"}] * 20000 + [0] * 20000
        self.send_bytes(json.dumps(doc).encode())

    def script_broadly(self, number, body):
        """Several calls at once, and arguments that are not JSON."""
        if number == 0:
            self.call(("inspect", {"linears": "layers.0.*"}), ("predict", {"prune": PLAN}))
        elif number == 1:
            self.call(("predict", '{"prune": {'))
        else:
            self.call(("propose", GOOD))

    def script_stubborn(self, number, body):
        """Proposes the same plan for ever; it is far too much."""
        self.say(json.dumps({"prune": {"layers.*.mlp.up_proj": 0.1}}))

    def script_noformat(self, number, body):
        if "response_format" in body or "tools" in body:
            self.refuse(400 if number % 2 == 0 else 422, "response_format is not supported")
        else:
            self.say("Here you are:\n```json\n" + json.dumps(GOOD) + "\n```")

    def script_thinker(self, number, body):
        """A model that thinks: OpenAI's names and refusals, one at a time."""
        for member, refused in (("max_tokens", True), ("temperature", body.get("temperature", 1) != 1), ("seed", True)):
            if member in body and refused:
                self.refuse(400, f"Unsupported parameter: '{member}' is not supported with this model.")
                return
        self.say(json.dumps(GOOD))

    def script_parts(self, number, body):
        draft = {"type": "thinking", "thinking": [{"type": "text", "text": json.dumps(WRONG)}]}
        self.send_bytes(json.dumps(completion([draft, {"type": "text", "text": json.dumps(GOOD)}])).encode())

    def script_thoughts(self, number, body):
        doc = completion(None)
        doc["choices"][0]["message"]["reasoning_content"] = "Perhaps " + json.dumps(WRONG) + ". No: " + json.dumps(GOOD)
        self.send_bytes(json.dumps(doc).encode())

    def script_thoughtscut(self, number, body):
        doc = completion(None, "length")
        doc["choices"][0]["message"]["reasoning"] = "Perhaps " + json.dumps(GOOD) + " or"
        self.send_bytes(json.dumps(doc).encode())

    def script_error200(self, number, body):
        self.send_bytes(json.dumps({"error": {"message": "Rate limit exceeded: free", "code": 429}}).encode())

    def script_denied200(self, number, body):
        self.send_bytes(json.dumps({"choices": None, "error": {"message": "No credit", "code": 402}}).encode())

    def script_gzip(self, number, body):
        self.send_bytes(gzip.compress(json.dumps(completion(json.dumps(GOOD))).encode()),
                        headers=[("Content-Encoding", "gzip")])

    def script_events(self, number, body):
        self.send_bytes(b'data: {"choices": []}\n\ndata: [DONE]\n\n', kind="text/event-stream")

    def script_nothere(self, number, body):
        self.refuse(404, "Not Found")

    def script_badmodel(self, number, body):
        self.refuse(400, "there is no such model")

    def script_denied(self, number, body):
        self.refuse(401, "wrong key " + self.headers.get("Authorization", "none"))

    def script_echoes(self, number, body):
        """Quotes the key escaped as JSON and URLs allow, in an error and then in a reply."""
        key = self.headers.get("Authorization", "none").split()[-1]
        escaped = "".join(f"\\u{ord(c):04x}" for c in key)
        if number == 0:
            self.send_bytes(('{"error": {"message": "key %s"}}' % escaped).encode(), 500)
        elif number == 1:
            self.send_bytes(("".join(f"%{ord(c):02X}" for c in key)).encode(), 500)
        else:
            text = json.dumps(completion(json.dumps(dict(GOOD, reasoning="key KEY"))))
            self.send_bytes(text.replace("KEY", escaped.replace("\\", "\\\\")).encode())

    def script_redirect(self, number, body):
        self.send_bytes(b"", 307, headers=[("Location", "http://127.0.0.1:%d/good/v1/chat/completions" % self.server.server_port)])

    def script_think(self, number, body):
        self.say('<think>Perhaps {"prune": {"layers.0.mlp.up_proj": 9}}?</think>\nSo: ' + json.dumps(GOOD) + " Good luck {}")

    def script_kind(self, number, body):
        self.say(json.dumps(GOOD), kind="text/plain; charset=x")

    def script_created(self, number, body):
        self.say(json.dumps(GOOD), status=201)

    def script_null(self, number, body):
        data = completion(None)
        self.send_bytes(json.dumps(data).encode())

    def script_cut(self, number, body):
        if number == 0:
            self.send_bytes(json.dumps(completion('{"reasoning": "because', "length")).encode())
        else:
            self.say(json.dumps(GOOD))

    def script_wrong(self, number, body):
        self.say(json.dumps(WRONG))

    def script_recorded(self, number, body):
        reply = self.server.replies[number]
        self.send_bytes(json.dumps(completion(reply["text"], "length" if reply.get("cut_off") else "stop")).encode())

    def script_invalid(self, number, body):
        if number == 0:
            self.say(json.dumps(WRONG))
        else:
            self.say(json.dumps(GOOD))

    def script_never(self, number, body):
        self.say("I would rather write a poem. " + "la " * 30000)

    def script_stop(self, number, body):
        self.say('{"reasoning": "enough", "prune": {"layers.0.mlp.up_proj": 0.05}, "stop": true}')

    def script_overshoot(self, number, body):
        names = [f"layers.{i}.mlp.{k}_proj" for i in range(4) for k in ("up", "gate")]
        self.say(json.dumps({"reasoning": "all \u0007of\u001b[31m it", "prune": {n: 0.1 for n in names}}))


def start():
    """Starts the server in its own threads. .seen maps scripts to their requests; .replies holds the replies of script
    "recorded", in order."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.lock, server.seen, server.sent, server.release = threading.Lock(), {}, 0, threading.Event()
    server.replies = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server
