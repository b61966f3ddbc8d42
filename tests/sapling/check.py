# SPDX-License-Identifier: Apache-2.0
"""Regenerates all training documents of the shipped run, checks that no held-out wording occurs in them and, with
--record, writes to facts.jsonl how often each fact was taught.
Usage: python check.py [--schedule run.json] [--record]"""
import argparse
import json
import random
from collections import Counter, defaultdict
from pathlib import Path

from tokenizers import Tokenizer

from sapling.corpus import Corpus, load_templates
from sapling.facts import load
from sapling.packing import phase
from sapling.probes import held_out_sentences, unseen_sentences
from sapling.train import geometry

HERE = Path(__file__).resolve().parent


class Counting(Corpus):
    """A corpus that counts how often each fact is taught, in each form."""
    counts = None

    def note(self, form, fact):
        self.counts[fact["id"], form] += 1


def needles(corpus):
    """Every held-out sentence and every held-out question of every fact."""
    for split in ("val", "test"):
        for _, sentence in held_out_sentences(corpus, split):
            yield sentence
    for _, sentence in unseen_sentences(corpus):
        yield sentence
    for f in corpus.facts:
        for key in "DEM":
            for wording in corpus.templates[f["relation"]][key]:
                yield wording.replace("{s}", f["subject"])


def training_documents(corpus, tokens_per_row, run):
    """Yields the documents of every row of every step, generated from the same random numbers as in training."""
    for step in range(run["steps"]):
        rows, length = geometry(step, run["steps"], run["tokens"])
        shares, matching, lookup = phase(step)
        for rank in range(run["ranks"]):
            rng = random.Random(f"{run['seed']}:{step}:{rank}")
            for _ in range(rows):
                used, most = 1, 6 if length <= 256 else 10
                while used < length + 1:
                    text = "".join(t for t, _ in corpus.document(rng, shares, matching, lookup, most))
                    used += tokens_per_row(text) + 1
                    yield text


def index_of(texts):
    """{first three words: [words of each needle]}."""
    index = defaultdict(list)
    for text in texts:
        words = text.lower().split()
        index[tuple(words[:3])].append(words)
    return index


def found(index, document):
    """Yields the needles that occur in a document as whole words, ignoring case."""
    words = document.lower().split()
    for i, key in enumerate(zip(words, words[1:], words[2:])):
        for needle in index.get(key, ()):
            if words[i : i + len(needle)] == needle:
                yield " ".join(needle)


def record(facts, counts):
    for f in facts:
        f["taught"] = {form: counts[f["id"], form] for form in ("statement", "question", "choice")}
    lines = (json.dumps(f, ensure_ascii=False) for f in facts)
    (HERE / "facts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--schedule", default=HERE / "run.json")
    p.add_argument("--record", action="store_true")
    o = p.parse_args()
    tokenizer = Tokenizer.from_file(str(HERE / "model/tokenizer.json"))
    facts = load(HERE / "facts.jsonl")
    corpus, run = Counting(facts, load_templates(HERE / "templates.txt")), json.loads(Path(o.schedule).read_text())
    corpus.counts, hits, documents, size = Counter(), Counter(), 0, 0
    wanted = set(needles(corpus))
    index = index_of(wanted)
    for document in training_documents(corpus, lambda text: len(tokenizer.encode(text).ids), run):
        hits.update(found(index, document))
        documents, size = documents + 1, size + len(document)
    print(f"{documents} documents, {size} characters; {len(wanted)} held-out wordings")
    print("held-out wordings found in training text:", sum(hits.values()))
    for line, times in hits.most_common(20):
        print("  ", times, line)
    if o.record:
        record(facts, corpus.counts)
    raise SystemExit(1 if hits else 0)


if __name__ == "__main__":
    main()
