#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The agent against a scripted local HTTP server; its record, resumed and replayed.

tests/agent/test_http.py PATH/agent_ask
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import server as scripted  # noqa: E402

KEY = "sk-test-1234567890"


class Agent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = scripted.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.release.set()
        cls.server.shutdown()
        cls.server.server_close()

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.dialogue = os.path.join(self.folder.name, "dialogue.jsonl")
        self.addCleanup(self.folder.cleanup)

    def ask(self, script, code=0, env=None, **options):
        """Answers and the saved state. A suffix "-x" of the script's name counts its requests separately."""
        options.setdefault("base_url", f"http://127.0.0.1:{self.server.server_port}/{script}/v1")
        environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        environment.update(env or {})
        start = time.monotonic()
        run = subprocess.run([ASK] + [f"{k}={v}" for k, v in options.items()], capture_output=True, text=True,
                             timeout=50, env=environment)
        self.seconds = time.monotonic() - start
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        self.assertNotIn(KEY, run.stdout + run.stderr)
        return lines[:-1] if "version" in lines[-1] else lines, lines[-1]

    def good(self, script, **options):
        answers, state = self.ask(script, **options)
        self.assertEqual(answers[0]["decision"]["prune"], scripted.GOOD["prune"])
        self.assertEqual(answers[0]["source"], "openai")
        return state

    def requests(self, script):
        return self.server.seen.get(script, [])

    def record(self, kind=None):
        with open(self.dialogue) as f:
            lines = [json.loads(line) for line in f]
        return [line for line in lines if kind in (None, line["type"])]

    # ---- answers

    def test_a_good_reply_is_taken_and_recorded(self):
        state = self.good("good", env={"TEST_KEY": KEY}, key_env="TEST_KEY", dialogue=self.dialogue)
        request = self.requests("good")[0]
        self.assertEqual(request["path"], "/good/v1/chat/completions")
        self.assertEqual(request["headers"]["Authorization"], "Bearer " + KEY)
        body = request["body"]
        self.assertEqual([t["function"]["name"] for t in body["tools"]], ["propose", "predict", "measure", "inspect"])
        self.assertNotIn("response_format", body)
        self.assertEqual((body["model"], body["temperature"], body["seed"], body["max_tokens"]), ("test-model", 0.2, 0, 4096))
        self.assertEqual([m["role"] for m in body["messages"]], ["system", "user"])
        table = body["messages"][1]["content"]
        self.assertEqual(sum(line.startswith("layers.") for line in table.splitlines()), 84)
        self.assertEqual((state["requests"], state["prompt_tokens"], state["completion_tokens"]), (1, 1000, 50))
        self.assertEqual([line["type"] for line in self.record()], ["request", "reply", "decision"])
        with open(self.dialogue) as f:
            self.assertNotIn(KEY, f.read())

    def test_a_slow_reply_is_waited_for(self):
        self.good("slow")

    def test_think_blocks_and_words_around_are_skipped(self):
        self.good("think")

    def test_any_content_type_and_any_2xx_are_accepted(self):
        self.good("kind")
        self.good("created")

    def test_text_parts_are_the_reply(self):
        self.good("parts")

    def test_thoughts_are_the_reply_if_there_is_no_other(self):
        self.good("thoughts")
        self.assertEqual(self.ask("thoughtscut", code=69)[1]["invalid"], 3)

    def test_a_compressed_body_is_read(self):
        self.good("gzip")

    def test_the_whole_url_may_be_given(self):
        self.good("good-url", base_url=f"http://127.0.0.1:{self.server.server_port}/good-url/v1/chat/completions/")
        self.assertEqual(self.requests("good-url")[0]["path"], "/good-url/v1/chat/completions")

    # ---- repeated

    def test_retry_after_is_obeyed(self):
        self.assertEqual(self.good("busy", retry_max_ms=5000)["retries"], 1)
        seen = self.requests("busy")
        self.assertGreater(seen[1]["at"] - seen[0]["at"], 0.99)

    def test_retry_after_is_bounded(self):
        self.good("busylong", retry_max_ms=200)
        self.assertLess(self.seconds, 3)

    def test_server_errors_are_repeated_with_longer_waits(self):
        self.assertEqual(self.good("error", dialogue=self.dialogue)["requests"], 3)
        self.assertEqual([line["wait_ms"] for line in self.record("retry")], [20, 40])

    def test_broken_transfers_are_repeated(self):
        self.assertEqual(self.good("truncated")["requests"], 2)
        self.assertEqual(self.good("lost")["requests"], 2)

    def test_a_request_that_hangs_is_repeated(self):
        self.assertEqual(self.good("hangonce", total_ms=300)["requests"], 2)

    def test_gives_up_after_three_bad_answers(self):
        for script, text in (("broken", "HTTP 500"), ("garbage", "not JSON"), ("shape", "choices[0].message.content")):
            answers, state = self.ask(script, code=69)
            self.assertEqual((answers[0]["status"], state["requests"]), ("AGENT", 3))
            self.assertIn(text, answers[0]["error"])

    def test_an_endpoint_that_hangs_is_an_error_in_time(self):
        answers, _ = self.ask("hang", code=69, total_ms=200)
        self.assertIn("timed out", answers[0]["error"].lower())
        self.assertLess(self.seconds, 5)

    def test_a_refused_connection_is_an_agent_error(self):
        answers, state = self.ask("", code=69, base_url="http://127.0.0.1:9/v1")
        self.assertEqual((answers[0]["status"], state["requests"]), ("AGENT", 3))

    # ---- not repeated

    def test_a_huge_reply_is_cut_off_early(self):
        answers, state = self.ask("huge", code=69)
        self.assertIn("longer than", answers[0]["error"])
        self.assertEqual(state["requests"], 1)
        self.assertLess(self.server.sent, 160 * 65536)

    def test_redirect_is_not_followed(self):
        answers, state = self.ask("redirect", code=69)
        self.assertIn("redirect", answers[0]["error"])
        self.assertEqual(state["requests"], 1)

    def test_denied_and_the_key_stays_secret(self):
        answers, state = self.ask("denied", code=69, env={"TEST_KEY": KEY}, key_env="TEST_KEY", dialogue=self.dialogue,
                                  fallback="policy")  # which does not decide: nobody meant to run without the key
        self.assertIn("HTTP 401", answers[0]["error"])
        self.assertEqual((answers[0]["status"], state["requests"]), ("DENIED", 1))
        with open(self.dialogue) as f:
            self.assertNotIn(KEY, f.read())

    def test_wrong_urls_and_keys_are_refused_before_asking(self):
        self.ask("good-usage", code=2, key_env="NO_SUCH_VARIABLE")
        self.ask("good-usage", code=2, env={"TEST_KEY": "two words"}, key_env="TEST_KEY")
        for url in ("ftp://host/v1", "file:///etc/passwd", "http://user:secret@host/v1", "host/v1"):
            answers, _ = self.ask("", code=2, base_url=url)
            self.assertNotIn("secret", answers[0]["error"])
        self.assertEqual(self.requests("good-usage"), [])

    def test_an_escaped_key_stays_secret(self):
        answers, _ = self.ask("echoes", env={"TEST_KEY": KEY}, key_env="TEST_KEY", dialogue=self.dialogue)
        self.assertRegex(answers[0]["decision"]["reasoning"], r"^key \*+$")
        with open(self.dialogue) as f:
            text = f.read()
        self.assertNotIn(KEY, text)
        self.assertNotIn("".join(f"\\u{ord(c):04x}" for c in KEY[:6]), text)
        self.assertNotIn("".join(f"%{ord(c):02X}" for c in KEY[:6]), text)

    def test_a_key_in_pieces_stays_secret(self):
        """Escaped once more inside the arguments of a call, and joined by leaving out a thought."""
        key = "sk-test-12/34567890"
        for script in ("nested", "joined"):
            answers, _ = self.ask(script, env={"TEST_KEY": key}, key_env="TEST_KEY", dialogue=self.dialogue)
            with open(self.dialogue) as f:
                self.assertNotIn(key, f.read() + json.dumps(answers))

    def test_thousands_of_calls_are_one(self):
        self.good("crowd")
        self.assertLess(len(self.requests("crowd")[1]["body"]["messages"]), 25)

    def test_a_query_stays_behind_the_path(self):
        self.good("good-query", base_url=f"http://127.0.0.1:{self.server.server_port}/good-query/v1/?api-version=1")
        self.assertEqual(self.requests("good-query")[0]["path"], "/good-query/v1/chat/completions?api-version=1")

    def test_a_key_does_not_travel_in_the_open(self):
        for url, code in (("http://192.0.2.1/v1", 2), ("http://127.evil.invalid/v1", 2), ("https://192.0.2.1/v1?api-key=abc", 2)):
            answers, _ = self.ask("", code=code, base_url=url, env={"TEST_KEY": KEY}, key_env="TEST_KEY")
            self.assertNotIn("abc", answers[0]["error"])
        self.ask("", code=69, base_url="http://192.0.2.1/v1", env={"TEST_KEY": KEY}, key_env="TEST_KEY", plain_http=1,
                 connect_ms=50, retries=0)

    def test_members_can_be_added_to_requests(self):
        extra = {"reasoning_effort": "low", "chat_template_kwargs": {"enable_thinking": False}, "temperature": 1}
        self.good("good-extra", extra_body=json.dumps(extra))
        body = self.requests("good-extra")[0]["body"]
        self.assertEqual({k: body[k] for k in extra}, extra)
        for bad in ('{"messages": []}', "[]", "{"):
            self.assertIn("agent.extra_body", self.ask("good-extra", code=2, extra_body=bad)[0][0]["error"])

    def test_errors_in_a_good_status(self):
        answers, state = self.ask("error200", code=69)
        self.assertIn("Rate limit exceeded: free", answers[0]["error"])
        self.assertEqual(state["requests"], 3)
        answers, state = self.ask("denied200", code=69)
        self.assertIn("No credit", answers[0]["error"])
        self.assertEqual(state["requests"], 1)

    def test_messages_say_what_is_wrong(self):
        self.assertIn("stream of events", self.ask("events", code=69)[0][0]["error"])
        self.assertIn("/nothere/v1/chat/completions is not found", self.ask("nothere", code=69)[0][0]["error"])

    # ---- response_format

    def test_refused_members_are_dropped_for_good(self):
        state = self.good("thinker", iterations=2)
        sent = [{m for m in ("max_tokens", "max_completion_tokens", "temperature", "seed", "tools")
                 if m in r["body"]} for r in self.requests("thinker")]
        self.assertEqual(sent[0], {"max_tokens", "temperature", "seed", "tools"})
        self.assertEqual(sent[3:], [{"max_completion_tokens", "tools"}] * 2)
        self.assertEqual(state["refused"], 7)
        self.good("thinker", restore=json.dumps(state))
        self.assertEqual(len(self.requests("thinker")), 6)

    def test_response_format_is_dropped_for_good(self):
        state = self.good("noformat", iterations=2)
        sent = [("tools" if "tools" in r["body"] else r["body"].get("response_format", {}).get("type", "plain"))
                for r in self.requests("noformat")]
        self.assertEqual(sent, ["tools", "json_schema", "json_object", "json_object", "plain", "plain"])
        self.assertEqual(state["form"], "plain")
        self.good("noformat", restore=json.dumps(state))
        self.assertNotIn("response_format", self.requests("noformat")[-1]["body"])

    def test_a_schema_beside_json_object(self):
        state = self.good("pydantic", tools="none", iterations=2)
        sent = [r["body"]["response_format"] for r in self.requests("pydantic")]
        self.assertEqual([f["type"] for f in sent], ["json_schema", "json_object", "json_object"])
        self.assertEqual(sent[1]["schema"], sent[0]["json_schema"]["schema"])
        self.assertEqual((state["form"], state["retries"]), ("json_object_schema", 0))

    def test_other_400_keeps_response_format(self):
        answers, state = self.ask("badmodel", code=69)
        self.assertIn("no such model", answers[0]["error"])
        self.assertEqual((state["form"], state["refused"]), ("json_schema", 0))
        self.assertEqual(state["requests"], 5)

    # ---- questions

    def test_tools_are_called_and_answered(self):
        answers, state = self.ask("tools", dialogue=self.dialogue)
        self.assertEqual(answers[0]["decision"]["prune"], scripted.GOOD["prune"])
        self.assertEqual((state["questions"], state["experiments"], state["invalid"]), (3, 1, 0))
        self.assertEqual(state["lessons"], "up_proj is cheap\n")
        messages = self.requests("tools")[-1]["body"]["messages"]
        self.assertEqual([m["role"] for m in messages], ["system", "user"] + ["assistant", "tool"] * 3)
        self.assertEqual([m["tool_call_id"] for m in messages if m["role"] == "tool"], ["call_0"] * 3)
        self.assertEqual(messages[2]["tool_calls"][0]["function"]["name"], "predict")
        told = [m["content"] for m in messages if m["role"] == "tool"]
        self.assertIn("Expected: perplexity +", told[0])
        self.assertIn("layers.1.mlp.down_proj: ", told[1])
        self.assertIn("Measured and taken back: ", told[2])
        self.assertIn("It would be accepted. 1 measurement(s) left", told[2])
        self.assertEqual([line["action"] for line in self.record("answer")], ["predict", "inspect", "measure"])
        self.assertEqual(self.record("reply")[0]["tool_calls"][0]["function"]["name"], "predict")
        self.ask("tools", restore=json.dumps(state))  # lessons outlive the process
        self.assertIn("Your lessons so far:\nup_proj is cheap", self.requests("tools")[4]["body"]["messages"][1]["content"])

    def test_tools_that_the_model_never_sees_are_given_up(self):
        state = self.good("deaf", iterations=2)
        self.assertEqual(["tools" in r["body"] for r in self.requests("deaf")], [True, False, False])
        self.assertEqual((state["refused"], state["invalid"]), (8, 1))

    def test_a_measured_plan_is_taken_back(self):
        plain, _ = self.ask("good-plain")
        asked, _ = self.ask("tools-asked")
        self.assertEqual(plain[0]["decision"]["prune"], asked[0]["decision"]["prune"])

    def test_questions_as_json_end(self):
        answers, state = self.ask("actions", dialogue=self.dialogue, questions=3)
        self.assertEqual(answers[0]["source"], "openai")
        self.assertEqual((state["questions"], state["refused"], state["form"]), (3, 8, "json_object_schema"))
        self.assertIn('{"action": "predict", "prune": {...}}', self.requests("actions")[-1]["body"]["messages"][0]["content"])

    def test_no_more_is_measured_than_allowed(self):
        answers, state = self.ask("curious", code=69, experiments=1)
        self.assertEqual((state["experiments"], state["invalid"]), (1, 3))
        self.assertIn('"measure" is not possible any more in this iteration', answers[0]["error"])
        self.assertEqual([t["function"]["name"] for t in self.requests("curious")[1]["body"]["tools"]],
                         ["propose", "predict", "inspect"])

    def test_several_calls_and_broken_arguments(self):
        self.good("broadly")
        first, second = (r["body"]["messages"] for r in self.requests("broadly")[1:3])
        self.assertEqual([m["role"] for m in first[2:]], ["assistant", "tool", "tool"])
        self.assertEqual([m["tool_call_id"] for m in first[3:]], ["call_0", "call_1"])
        self.assertIn("one call at a time", first[4]["content"])
        self.assertIn("no complete JSON object", second[-1]["content"])

    def test_a_rolled_back_plan_is_not_tried_again(self):
        answers, state = self.ask("stubborn", code=69, iterations=2, threshold="0")
        self.assertEqual([a["status"] for a in answers], ["OK", "AGENT"])
        self.assertIn("was rolled back in iteration 1", answers[1]["error"])
        self.assertEqual(state["invalid"], 3)

    def test_questions_can_be_switched_off(self):
        for name, options in (("paper", {"view": "paper"}), ("none", {"tools": "none"})):
            self.good("good-" + name, **options)
            body = self.requests("good-" + name)[0]["body"]
            self.assertNotIn("tools", body)
            self.assertEqual(len(body["response_format"]["json_schema"]["schema"]["anyOf"]), 1)
            self.assertNotIn("predict", json.dumps(body["messages"]))

    # ---- invalid replies

    def test_invalid_is_told_and_mended(self):
        state = self.good("invalid", dialogue=self.dialogue)
        self.assertEqual(state["invalid"], 1)
        told = self.requests("invalid")[1]["body"]["messages"]
        self.assertEqual([m["role"] for m in told], ["system", "user", "assistant", "user"])
        self.assertIn('"layers.99.mlp.up_proj" is no linear', told[3]["content"])
        self.assertIn("at most 0.1", told[3]["content"])
        self.assertEqual([line["type"] for line in self.record()],
                         ["request", "reply", "invalid", "request", "reply", "decision"])

    def test_cut_off_is_told(self):
        self.good("cut", dialogue=self.dialogue)
        self.assertIn("cut off", self.requests("cut")[1]["body"]["messages"][3]["content"])
        self.assertEqual([line.get("cut_off", False) for line in self.record("reply")], [True, False])

    def test_problems_are_one_line_of_the_log(self):
        answers, _ = self.ask("wrong", code=69)
        self.assertIn('"layers.99.mlp.up_proj" is no linear of this model; "layers.0.mlp.up_proj" has step 7', answers[0]["error"])
        self.assertNotIn("\n", answers[0]["error"])

    def test_null_content_is_invalid(self):
        self.assertEqual(self.ask("null", code=69)[1]["invalid"], 3)

    def test_fallback_to_policy(self):
        answers, state = self.ask("never", fallback="policy", dialogue=self.dialogue)
        self.assertEqual((answers[0]["source"], state["invalid"], state["fallbacks"]), ("policy (fallback)", 3, 1))
        self.assertTrue(answers[0]["decision"]["prune"])
        self.assertLess(len(json.dumps(self.requests("never")[-1]["body"]["messages"])), 40000)
        self.assertEqual(len(self.record("fallback")), 1)

    def test_fallback_to_stop(self):
        answers, _ = self.ask("never-stop", fallback="stop")
        self.assertEqual((answers[0]["source"], answers[0]["decision"]["stop"]), ("stop (fallback)", True))

    def test_without_fallback_the_error_says_why(self):
        self.assertIn("no valid reply", self.ask("never-fail", code=69)[0][0]["error"])

    def test_dead_endpoint_is_asked_no_more(self):
        answers, state = self.ask("broken-often", fallback="policy", iterations=5, give_up_after=2, retries=0)
        self.assertEqual([a["source"] for a in answers], ["policy (fallback)"] * 5)
        self.assertEqual((state["requests"], state["fallbacks"]), (2, 5))

    def test_stop_is_honoured_only_when_allowed(self):
        answers, _ = self.ask("stop")
        self.assertEqual((answers[0]["decision"]["stop"], answers[0]["decision"]["prune"]), (True, {}))
        answers, _ = self.ask("stop-not", fallback="policy", honour_stop=0)
        self.assertEqual(answers[0]["source"], "policy (fallback)")

    def test_control_characters_are_cleaned(self):
        answers, _ = self.ask("overshoot", iterations=3)
        self.assertEqual(answers[0]["decision"]["reasoning"], "all  of [31m it")

    def test_a_signal_ends_the_waiting(self):
        answers, _ = self.ask("hang-cancel", code=75, cancel_ms=300)
        self.assertEqual(answers[0]["status"], "STOPPED")
        self.assertLess(self.seconds, 3)
        self.ask("broken-cancel", code=75, cancel_ms=300, retry_base_ms=30000, retry_max_ms=30000)
        self.assertLess(self.seconds, 3)

    # ---- the record

    def decisions(self):
        return [line["decision"] for line in self.record("decision")]

    def test_replay_is_exact(self):
        first, _ = self.ask("", backend="policy", iterations=30, dialogue=self.dialogue)
        again, _ = self.ask("", backend="replay", replay=self.dialogue, iterations=30)
        self.assertEqual([a["decision"] for a in first], [a["decision"] for a in again])
        self.assertEqual({a["source"] for a in again}, {"replay"})
        answers, _ = self.ask("", code=1, backend="replay", replay=self.dialogue, iterations=31)
        self.assertIn("no decision of iteration 31", answers[-1]["error"])

    def test_a_replay_that_does_not_fit_is_refused(self):
        with open(self.dialogue, "w") as f:
            f.write('{"iteration":1,"type":"decision","decision":{"prune":{"layers.50.mlp.up_proj":0.1}}}\n')
        answers, _ = self.ask("", code=1, backend="replay", replay=self.dialogue)
        self.assertIn("does not fit this run", answers[0]["error"])

    def test_resume_cuts_later_lines(self):
        self.ask("", backend="policy", iterations=6, dialogue=self.dialogue)
        whole = self.decisions()
        with open(self.dialogue, "a") as f:
            f.write('{"iteration":7,"type":"decisi')  # killed while writing
        self.ask("", backend="policy", iterations=0, dialogue=self.dialogue, keep=4)
        self.assertEqual(self.decisions(), whole[:4])

    def test_a_damaged_record_is_repaired_and_a_damaged_replay_refused(self):
        """The record is a log; what is replayed is an input."""
        damaged = '{"iteration":1,"type":"decision"\n{"iteration":2,"type":"note"}\n'
        with open(self.dialogue, "w") as f:
            f.write(damaged)
        answers, _ = self.ask("", code=1, backend="replay", replay=self.dialogue)
        self.assertIn("line 1", answers[0]["error"])
        self.ask("", backend="policy", dialogue=self.dialogue, keep=5, iterations=0)
        self.assertEqual([line["type"] for line in self.record()], ["note", "repair", "seal"])
        self.assertIn("damaged lines left out: 1", self.record("repair")[0]["text"])
        with open(f"{self.dialogue}.damaged") as f:
            self.assertEqual(f.read(), damaged)


if __name__ == "__main__":
    ASK = os.path.abspath(sys.argv.pop(1))
    unittest.main()
