#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the answers of `espalier eval --details`, question by question, with those of Hugging Face transformers.

An independent implementation of the protocols (docs/evaluation.md): Python's CSV reader, prompts and scores of its own,
one question at a time, in f32, with the whole prompt computed for each token: nothing is cached, batched or shared.
Run by hand:

    espalier eval --model M --mmlu DIR --details d.jsonl --questions 300
    check_transformers.py --model M --details d.jsonl --mmlu DIR [--style lm-eval] [--split test] [--shots 5]
    ... --freebaseqa FILE [--freebaseqa-examples FILE] [--mode llm-kick]      ... --choices FILE

Exit 0: all answers are the same, except where the two best candidates differ by less than TIE (these are reported).
"""
import argparse
import csv
import json
import re
import string
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-3  # of a logit or log-probability: rounding may decide


def read_csv(path):
    with open(path, newline="", encoding="utf-8-sig") as f:
        return [row for row in csv.reader(f) if row]


class Reference:
    def __init__(self, path):
        self.tok = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        config = self.model.config
        self.limit = config.max_position_embeddings
        eos = config.eos_token_id
        self.start = config.bos_token_id if config.bos_token_id is not None else eos[0] if isinstance(eos, list) else eos

    @torch.no_grad()
    def logits(self, ids):
        return self.model(input_ids=torch.tensor([ids])).logits[0]

    def ids(self, text):
        return self.tok(text)["input_ids"]


# ------------------------------------------------------------------ MMLU


def mmlu_prompt(style, subject, shots, row):
    words = subject.split("_")
    topic = "".join(" " + w for w in words) if style == "hendrycks" else " ".join(words)

    def block(r):
        q = r[0].strip() if style == "lm-eval" else r[0]
        return q + "".join(f"\n{letter}. {c}" for letter, c in zip("ABCD", r[1:5])) + "\nAnswer:"

    head = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
    return head + "".join(block(r) + f" {r[5]}\n\n" for r in shots) + block(row)


def mmlu_ids(ref, o, subject, dev, row):
    """(ids, examples used): as many examples as fit into the context."""
    for k in range(min(o.shots, len(dev)), -1, -1):
        ids = ref.ids(mmlu_prompt(o.style, subject, dev[:k], row))
        if len(ids) <= ref.limit:
            return ids, k
    return ids[-ref.limit:], 0


def letters_of(ref):
    probe = ref.ids("Q\nAnswer:")
    letters = [ref.ids(f"Q\nAnswer: {c}")[len(probe):] for c in "ABCD"]
    assert all(len(x) == 1 for x in letters), letters
    return [x[0] for x in letters]


def gap_of(values):
    return float(values.topk(2).values.diff().abs())


def mmlu_answer(ref, o, letters, subject, dev, row):
    """(the fields of --details, difference of the two best letters)."""
    ids, shots = mmlu_ids(ref, o, subject, dev, row)
    got = ref.logits(ids)[-1, letters].double()
    return dict(answer=row[5], choice="ABCD"[int(got.argmax())], shots=shots, logits=got.tolist()), gap_of(got)


def mmlu_files(o, subject):
    return read_csv(f"{o.mmlu}/dev/{subject}_dev.csv"), read_csv(f"{o.mmlu}/{o.split}/{subject}_{o.split}.csv")


def check_mmlu(ref, o, lines):
    letters, files, report = letters_of(ref), {}, Report("mmlu")
    for line in lines:
        subject = line["subject"]
        if subject not in files:
            files[subject] = mmlu_files(o, subject)
        dev, rows = files[subject]
        got, gap = mmlu_answer(ref, o, letters, subject, dev, rows[line["row"]])
        diff = max(abs(x - y) for x, y in zip(got["logits"], line["logits"]))
        same = got["shots"] == line["shots"] and got["answer"] == line["answer"]
        report.add(got["choice"] == line["choice"], gap, diff, f"{subject} {line['row']}: {got} {line}", same)
    return report


# ------------------------------------------------------------ FreebaseQA


def normalise(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def questions_of(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)["Questions"]


def names_of(q):
    return [n for p in q["Parses"] for a in p["Answers"] for n in a["AnswersName"]]


def continuation(ref, ids, most, newline):
    """(greedy continuation, smallest difference of the two best tokens), with a full forward pass for each token."""
    eos = ref.model.generation_config.eos_token_id
    eos = set(eos if isinstance(eos, list) else [eos])
    out, gap = [], 1e9
    while len(out) < most:
        best = ref.logits(ids + out)[-1]
        top = best.topk(2)
        gap = min(gap, float(top.values[0] - top.values[1]))
        token = int(top.indices[0])
        if token in eos:
            break
        out.append(token)
        if newline and "\n" in ref.tok.decode([token]):
            break
    return out, gap


def whole_words(a, b):
    return bool(b) and f" {b} " in f" {a} "


def squeeze(text):
    return text.strip().replace(" ", "").lower()


def score(text, names):
    """(exact match, contains an answer). A name that SQuAD's normalisation empties is compared without it."""
    exact = contains = False
    for n in names:
        a, b = normalise(text), normalise(n)
        if not b:
            a, b = squeeze(text), squeeze(n)
        exact |= a == b and bool(b)
        contains |= a == b and bool(b) or whole_words(a, b)
    return exact, contains


def examples_of(o):
    if o.mode == "llm-kick":
        return ""
    shots = questions_of(o.freebaseqa_examples or o.freebaseqa)[:o.shots]
    return "".join(f"Q: {q['RawQuestion']}\nA: {names_of(q)[0]}\n\n" for q in shots)


def freebaseqa_answer(ref, o, examples, q):
    """(the fields of --details, smallest difference of the two best tokens)."""
    if o.mode == "llm-kick":
        ids = ref.ids(f"Please give answer to this question: {q['RawQuestion']}\nThe answer is ")
        out, gap = continuation(ref, ids, 2 * len(ids), False)
        whole = ref.tok.decode(ids + out, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        gold = [squeeze(n) for n in q["Parses"][0]["Answers"][0]["AnswersName"]]
        return dict(continuation=ref.tok.decode(out, skip_special_tokens=True),
                    contains=any(g in squeeze(whole) for g in gold)), gap
    out, gap = continuation(ref, ref.ids(f"{examples}Q: {q['RawQuestion']}\nA:"), 32, True)
    text = ref.tok.decode(out, skip_special_tokens=True).split("\n")[0].strip()
    exact, contains = score(text, names_of(q))
    return dict(continuation=text, exact=exact, contains=contains), gap


def check_freebaseqa(ref, o, lines):
    by_id = {(q["Question-ID"], q["RawQuestion"]): q for q in questions_of(o.freebaseqa)}
    examples, report = examples_of(o), Report(f"freebaseqa {o.mode}")
    for line in lines:
        got, gap = freebaseqa_answer(ref, o, examples, by_id[line["id"], line["question"]])
        same = got["continuation"] == line["continuation"]
        report.add(same, gap, 0, f"{line['question']}: {got} {line}", not same or all(line[k] == v for k, v in got.items()))
    return report


# --------------------------------------------------------------- choices


def encode_pair(ref, context, rest):
    if not context:
        return [ref.start], ref.ids(rest)
    n = len(context) - len(context.rstrip())
    if n:
        context, rest = context[:-n], context[-n:] + rest
    start = ref.ids(context)
    return start, ref.ids(context + rest)[len(start):]


def choices_answer(ref, doc):
    """(the fields of --details, difference of the two best choices by either score, whichever is smaller)."""
    n, sums = len(doc["choices"]), []
    contexts = doc["context"] if isinstance(doc["context"], list) else [doc["context"]] * n
    for context, choice in zip(contexts, doc["choices"]):
        a, b = encode_pair(ref, context, doc.get("delimiter", " ") + choice)
        ids = (a + b)[-(ref.limit + 1):]
        logprob = torch.log_softmax(ref.logits(ids[:-1]), -1)[-len(b):]
        sums.append(float(logprob.gather(1, torch.tensor(b)[:, None]).double().sum()))
    got = torch.tensor(sums, dtype=torch.float64)
    norm = got / torch.tensor([float(len(c)) for c in doc["choices"]])
    return dict(answer=doc["answer"], choice=int(got.argmax()), choice_norm=int(norm.argmax()),
                logprob=sums), min(gap_of(got), gap_of(norm))


def check_choices(ref, o, lines):
    with open(o.choices, encoding="utf-8") as f:
        docs = f.read().split("\n")
    report = Report("choices")
    for line in lines:
        got, gap = choices_answer(ref, json.loads(docs[line["line"] - 1]))
        diff = max(abs(x - y) for x, y in zip(got["logprob"], line["logprob"]))
        same = got["choice"] == line["choice"] and got["choice_norm"] == line["choice_norm"]
        report.add(same, gap, diff, f"line {line['line']}: {got} {line}", line["answer"] == got["answer"])
    return report


class Report:
    def __init__(self, name):
        self.name, self.n, self.differ, self.ties, self.diff, self.gap, self.wrong = name, 0, 0, 0, 0.0, 1e9, 0

    def add(self, same, gap, diff, text, consistent):
        self.n += 1
        self.diff, self.gap = max(self.diff, diff), min(self.gap, gap)
        if not consistent:
            self.wrong += 1
            print("INCONSISTENT", text)
        if not same:
            self.differ += gap >= TIE
            self.ties += gap < TIE
            print("near tie" if gap < TIE else "DIFFERENT", f"gap {gap:.2g}", text)

    def show(self):
        print(f"{self.name}: {self.n} questions, {self.differ} differ, {self.ties} near ties flipped, {self.wrong} "
              f"inconsistent; largest difference {self.diff:.2g}, smallest gap {self.gap:.2g}")
        return self.differ == 0 and self.wrong == 0 and self.n > 0


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--details", required=True)
    p.add_argument("--mmlu")
    p.add_argument("--split", default="test")
    p.add_argument("--style", default="hendrycks")
    p.add_argument("--shots", type=int, default=5)
    p.add_argument("--freebaseqa")
    p.add_argument("--freebaseqa-examples")
    p.add_argument("--mode", default="standard")
    p.add_argument("--choices")
    o = p.parse_args()
    with open(o.details, encoding="utf-8") as f:
        lines = [json.loads(line) for line in f.read().split("\n") if line]
    ref, ok = Reference(o.model), True
    for task, check in (("mmlu", check_mmlu), ("freebaseqa", check_freebaseqa), ("choices", check_choices)):
        if getattr(o, task):
            ok &= check(ref, o, [x for x in lines if x["task"] == task]).show()
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
