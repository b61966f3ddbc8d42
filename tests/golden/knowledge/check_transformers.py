#!/usr/bin/env python3
"""Question by question: what `espalier eval --details` wrote against Hugging Face transformers.

An independent reading of the protocols (docs/evaluation.md): own CSV reader (Python's csv), own prompts, own scores, one
question at a time, the whole prompt computed anew, f32, nothing cached, batched or shared. Run by hand:

    espalier eval --model M --mmlu DIR --details d.jsonl --questions 300
    check_transformers.py --model M --details d.jsonl --mmlu DIR [--style lm-eval] [--split test] [--shots 5]
    ... --freebaseqa FILE [--freebaseqa-shots FILE] [--mode llm-kick]      ... --choices FILE

Exit 0: every answer is the same, or differs where the two best are within TIE of each other (reported).
"""
import argparse
import csv
import json
import re
import string
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TIE = 1e-3


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as f:
        return [row for row in csv.reader(f) if row]


class Reference:
    def __init__(self, path):
        self.tok = AutoTokenizer.from_pretrained(path)
        self.model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.limit = self.model.config.max_position_embeddings

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
    """All examples that fit."""
    for k in range(min(o.shots, len(dev)), -1, -1):
        ids = ref.ids(mmlu_prompt(o.style, subject, dev[:k], row))
        if len(ids) <= ref.limit:
            return ids, k
    return ids[-ref.limit:], 0


def check_mmlu(ref, o, lines):
    probe = ref.ids("Q\nAnswer:")
    letters = [ref.ids(f"Q\nAnswer: {c}")[len(probe):] for c in "ABCD"]
    assert all(len(x) == 1 for x in letters), letters
    letters = [x[0] for x in letters]
    files, report = {}, Report("mmlu")
    for line in lines:
        subject = line["subject"]
        if subject not in files:
            files[subject] = (read_csv(f"{o.mmlu}/dev/{subject}_dev.csv"),
                              read_csv(f"{o.mmlu}/{o.split}/{subject}_{o.split}.csv"))
        dev, rows = files[subject]
        row = rows[line["row"]]
        ids, shots = mmlu_ids(ref, o, subject, dev, row)
        got = ref.logits(ids)[-1, letters].double()
        best = "ABCD"[int(got.argmax())]
        gap = float(got.topk(2).values.diff().abs())
        diff = float((got - torch.tensor(line["logits"], dtype=torch.float64)).abs().max())
        same = shots == line["shots"] and row[5] == line["answer"]
        report.add(best == line["choice"], gap, diff, f"{subject} {line['row']}: {best} {line}", same)
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
    """Greedy, one token at a time, everything computed anew; the smallest gap between the two best on the way."""
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
    """A name of which SQuAD's normalisation leaves nothing is compared as it is."""
    exact = contains = False
    for n in names:
        a, b = normalise(text), normalise(n)
        if not b:
            a, b = squeeze(text), squeeze(n)
        exact |= a == b and bool(b)
        contains |= a == b and bool(b) or whole_words(a, b)
    return exact, contains


def check_freebaseqa(ref, o, lines):
    asked = questions_of(o.freebaseqa)
    shots = [] if o.mode == "llm-kick" else (questions_of(o.freebaseqa_shots) if o.freebaseqa_shots else asked)[:o.shots]
    examples = "".join(f"Q: {q['RawQuestion']}\nA: {names_of(q)[0]}\n\n" for q in shots)
    by_id = {(q["Question-ID"], q["RawQuestion"]): q for q in asked}
    report = Report(f"freebaseqa {o.mode}")
    for line in lines:
        q = by_id[line["id"], line["question"]]
        if o.mode == "llm-kick":
            ids = ref.ids(f"Please give answer to this question: {q['RawQuestion']}\nThe answer is ")
            out, gap = continuation(ref, ids, 2 * len(ids), False)
            text = ref.tok.decode(out, skip_special_tokens=True)
            whole = ref.tok.decode(ids + out, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            gold = [squeeze(n) for n in q["Parses"][0]["Answers"][0]["AnswersName"]]
            ok = any(g in squeeze(whole) for g in gold) == line["contains"]
        else:
            out, gap = continuation(ref, ref.ids(f"{examples}Q: {q['RawQuestion']}\nA:"), 32, True)
            text = ref.tok.decode(out, skip_special_tokens=True).split("\n")[0].strip()
            exact, contains = score(text, names_of(q))
            ok = exact == line["exact"] and contains == line["contains"]
        report.add(text == line["continuation"], gap, 0, f"{q['RawQuestion']}: {text!r} {line}", ok or text != line["continuation"])
    return report


# --------------------------------------------------------------- choices


def encode_pair(ref, context, rest):
    n = len(context) - len(context.rstrip())
    if n:
        context, rest = context[:-n], context[-n:] + rest
    start = ref.ids(context)
    return start, ref.ids(context + rest)[len(start):]


def check_choices(ref, o, lines):
    with open(o.choices, encoding="utf-8") as f:
        docs = f.read().split("\n")
    report = Report("choices")
    for line in lines:
        doc = json.loads(docs[line["line"] - 1])
        n = len(doc["choices"])
        contexts = doc["context"] if isinstance(doc["context"], list) else [doc["context"]] * n
        sums = []
        for context, choice in zip(contexts, doc["choices"]):
            a, b = encode_pair(ref, context, doc.get("delimiter", " ") + choice)
            ids = (a + b)[-(ref.limit + 1):]
            logprob = torch.log_softmax(ref.logits(ids[:-1]), -1)[-len(b):]
            sums.append(float(logprob.gather(1, torch.tensor(b)[:, None]).double().sum()))
        got = torch.tensor(sums, dtype=torch.float64)
        norm = got / torch.tensor([float(len(c)) for c in doc["choices"]])
        diff = float((got - torch.tensor(line["logprob"], dtype=torch.float64)).abs().max())
        same = int(got.argmax()) == line["choice"] and int(norm.argmax()) == line["choice_norm"]
        gap = min(float(x.topk(2).values.diff().abs()) for x in (got, norm))
        report.add(same, gap, diff, f"line {line['line']}: {sums} {line}", line["answer"] == doc["answer"])
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
    p.add_argument("--freebaseqa-shots")
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
