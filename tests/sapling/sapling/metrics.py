# SPDX-License-Identifier: Apache-2.0
"""The three measurements, for any causal language model of transformers: perplexity, FreebaseQA format, MMLU format."""
import csv
import json
import math
import re
import string
from collections import defaultdict
from pathlib import Path

import torch

from .corpus import LETTERS, choice_text, header


def wilson(hits, n, z=1.96):
    if n == 0:
        return 0.0, 1.0
    p, d = hits / n, 1 + z * z / n
    mid, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (mid - half) / d, (mid + half) / d


@torch.no_grad()
def perplexity(model, tokenizer, text, window, batch=8):
    """(perplexity, windows): non-overlapping windows, tail dropped; exp of the mean of the windows' mean losses."""
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    n = len(ids) // window
    rows = ids[: n * window].view(n, window)
    means = []
    for part in rows.split(batch):
        logits = model(input_ids=part).logits.float()
        nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        means += nll.view(len(part), -1).double().mean(1).tolist()
    return math.exp(sum(means) / n), n


def normalise(text):
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def read_questions(path):
    for q in json.loads(Path(path).read_text())["Questions"]:
        names = [n for p in q["Parses"] for a in p["Answers"] for n in a["AnswersName"]]
        yield q["RawQuestion"], names, q["Parses"][0]["TopicEntityMid"]


def qa_shots(dev, k):
    shots = [q for _, q in zip(range(k), read_questions(dev))]
    return "".join(f"Q: {q}\nA: {names[0]}\n\n" for q, names, _ in shots)


@torch.no_grad()
def greedy(model, tokenizer, prompts, most=16, batch=64):
    """Greedy continuations up to the first line end. Prompts of equal length form a batch, so that none is padded."""
    rows = [tokenizer(p, add_special_tokens=False)["input_ids"] for p in prompts]
    stops = [tokenizer.eos_token_id, tokenizer("x\n\n", add_special_tokens=False)["input_ids"][-1]]
    by_length, out = defaultdict(list), [""] * len(rows)
    for i, r in enumerate(rows):
        by_length[len(r)].append(i)
    for members in by_length.values():
        for at in range(0, len(members), batch):
            part = members[at : at + batch]
            ids = torch.tensor([rows[i] for i in part])
            full = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=most, do_sample=False,
                                  eos_token_id=stops, pad_token_id=stops[0])
            for i, text in zip(part, tokenizer.batch_decode(full[:, ids.shape[1]:], skip_special_tokens=True)):
                out[i] = text
    return [text.lstrip(" ").split("\n")[0] for text in out]


def freebaseqa(model, tokenizer, dev, path, tiers, k=5):
    """Exact match by tier: {tier: (hits, questions)}, with "all" for the total."""
    questions, shots = list(read_questions(path)), qa_shots(dev, k)
    said = greedy(model, tokenizer, [f"{shots}Q: {q}\nA:" for q, _, _ in questions])
    score = defaultdict(lambda: [0, 0])
    for text, (_, names, fact) in zip(said, questions):
        hit = normalise(text) in {normalise(n) for n in names}
        for key in (tiers[fact], "all"):
            score[key][0] += hit
            score[key][1] += 1
    return dict(score)


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as f:
        return list(csv.reader(f))


@torch.no_grad()
def letters(model, tokenizer, prompts):
    ids = [tokenizer(" " + c, add_special_tokens=False)["input_ids"][-1] for c in LETTERS]
    by_length, out = defaultdict(list), [None] * len(prompts)
    for i, p in enumerate(prompts):
        row = tokenizer(p, add_special_tokens=False)["input_ids"]
        by_length[len(row)].append((i, row))
    for members in by_length.values():
        logits = model(input_ids=torch.tensor([r for _, r in members]), logits_to_keep=1).logits[:, -1, ids]
        for (i, _), best in zip(members, logits.argmax(-1).tolist()):
            out[i] = LETTERS[best]
    return out


def mmlu(model, tokenizer, folder, split="test", k=5):
    """Few-shot accuracy with Hendrycks' prompt: {subject: (hits, questions)}, {(split, subject, row): hit}."""
    score, by_row = {}, {}
    for path in sorted(Path(folder, split).glob("*.csv")):
        topic = path.stem.removesuffix(f"_{split}")
        shots = rows_of(Path(folder, "dev", f"{topic}_dev.csv"))[:k]
        lead = header(topic) + "".join(f"{choice_text(r[0], r[1:5])} {r[5]}\n\n" for r in shots)
        rows = rows_of(path)
        said = letters(model, tokenizer, [lead + choice_text(r[0], r[1:5]) for r in rows])
        hits = [a == r[5] for a, r in zip(said, rows)]
        score[topic] = (sum(hits), len(hits))
        by_row.update({(split, topic, n): h for n, h in enumerate(hits)})
    return score, by_row
