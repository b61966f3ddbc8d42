#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent against a server that others wrote: llama-cpp-python's, with any GGUF file of an instruct model.

tests/agent/test_real_server.py PATH/agent_ask

Skipped unless ESPL_LLAMA_PYTHON (python3 if unset) can import llama_cpp.server and ESPL_LLAMA_GGUF names the file;
docs/agent.md says how to get both. How good the decisions are is the model's affair: what is tested is that the server
takes every request, that what it says is understood, and that the conversation ends as it should.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

PYTHON, GGUF = os.environ.get("ESPL_LLAMA_PYTHON", "python3"), os.environ.get("ESPL_LLAMA_GGUF", "")
SKIPPED, START_SECONDS, REPLY_MS = 77, 180, 900000


def why_not():
    probe = subprocess.run([PYTHON, "-c", "import llama_cpp.server"], capture_output=True, text=True)
    if probe.returncode != 0:
        return "llama-cpp-python's server is not installed (ESPL_LLAMA_PYTHON; docs/agent.md)"
    return "" if os.path.isfile(GGUF) else "ESPL_LLAMA_GGUF names no GGUF file for llama-cpp-python (docs/agent.md)"


class RealServer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with socket.create_server(("127.0.0.1", 0)) as free:
            cls.port = free.getsockname()[1]
        cls.url = f"http://127.0.0.1:{cls.port}/v1"
        cls.folder = tempfile.TemporaryDirectory()
        cls.log = open(os.path.join(cls.folder.name, "server.log"), "w")
        threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
        cls.server = subprocess.Popen(
            [PYTHON, "-m", "llama_cpp.server", "--model", GGUF, "--model_alias", "test-model", "--host", "127.0.0.1",
             "--port", str(cls.port), "--n_ctx", "8192", "--n_threads", threads, "--n_threads_batch", threads],
            stdout=cls.log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while not cls.answers():
            if cls.server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server does not start: " + open(cls.log.name).read()[-2000:])
            time.sleep(0.2)

    @classmethod
    def tearDownClass(cls):
        cls.server.kill()
        cls.server.wait()
        cls.log.close()
        cls.folder.cleanup()

    @classmethod
    def answers(cls):
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(cls.url + "/models", timeout=5).status == 200
        except OSError:
            return False

    def ask(self, name, **options):
        """What agent_ask prints, its saved state, and the record."""
        record = os.path.join(self.folder.name, name)
        options = dict(base_url=self.url, total_ms=REPLY_MS, dialogue=record, max_invalid=1, fallback="policy",
                       extra_body='{"max_tokens": 300, "temperature": 0.6}', **options)
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        run = subprocess.run([ASK] + [f"{k}={v}" for k, v in options.items()], capture_output=True, text=True,
                             env=environment)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        with open(record) as f:
            return lines[:-1], lines[-1], [json.loads(line) for line in f]

    def check(self, record):
        """Whatever the model says, nothing fails but a form of reply that the server does not know."""
        for line in record:
            if line["type"] == "error":
                self.assertIn("response_format", line["error"])
        replies = [line for line in record if line["type"] == "reply"]
        self.assertTrue(replies)
        for reply in replies:
            self.assertGreater(reply["prompt_tokens"], 1000)
            self.assertGreater(reply["completion_tokens"], 0)
        return replies

    def test_a_reply_in_the_form_of_the_schema(self):
        answers, state, record = self.ask("schema", tools="none")
        for reply in self.check(record):
            if not reply.get("cut_off"):
                self.assertIsInstance(json.loads(reply["text"]), dict)
        self.assertTrue(answers[0]["decision"]["prune"])
        self.assertEqual(state["fallbacks"] == 0, answers[0]["source"] == "openai")

    def test_tools(self):
        answers, state, record = self.ask("tools", questions=1, experiments=1)
        self.check(record)
        self.assertTrue(answers[0]["decision"]["prune"])
        self.assertLessEqual(state["questions"], 1)


if __name__ == "__main__":
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
    ASK = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1] + sys.argv[2:])
