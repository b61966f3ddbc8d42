# SPDX-License-Identifier: Apache-2.0
"""Writes data/: texts and questions in FreebaseQA and MMLU format, all but the calibration text in held-out wordings.
Usage: python -m sapling.probes FACTS TEMPLATES OUT_DIR"""
import csv
import json
import random
import sys
from pathlib import Path

from .corpus import Corpus, choice_text, load_templates, reserved_for
from .facts import load, unit

EVAL_PER_TIER = {"strong": 500, "medium": 450, "weak": 350, "faint": 300}
DEV_PER_TIER = {"strong": 130, "medium": 120, "weak": 80, "faint": 70}
MMLU_PER_TIER = {"dev": {"strong": 5}, "val": {"strong": 9, "medium": 9, "weak": 7, "faint": 5},
                 "test": {"strong": 30, "medium": 30, "weak": 24, "faint": 16}}
HARD_CHOICES = 0.7  # share of the MMLU questions whose wrong choices are near the right one
TEXT_SHARE = 0.3  # share of the facts in validation and test text
CALIBRATION_SHARES = (0.3, 0.3, 0.2, 0.2)


def question_record(corpus, number, split, fact, wording):
    question = wording.replace("{s}", fact["subject"])
    answers = [{"AnswersMid": fact["id"], "AnswersName": [fact["object"], *fact["aliases"]]}]
    parse = {"Parse-Id": f"Sapling-{split}-{number}.P0", "PotentialTopicEntityMention": fact["subject"],
             "TopicEntityName": fact["subject"].lower(), "TopicEntityMid": fact["id"],
             "InferentialChain": fact["relation"], "Answers": answers}
    return {"Question-ID": f"Sapling-{split}-{number}", "RawQuestion": question,
            "ProcessedQuestion": question.rstrip("?.").lower(), "Parses": [parse]}


def freebaseqa(corpus, split, per_tier, key, seed):
    rng = random.Random(seed)
    chosen = []
    for tier, n in per_tier.items():
        pool = [f for f in corpus.facts if f["tier"] == tier]
        chosen += rng.sample(pool, min(n, len(pool)))
    rng.shuffle(chosen)
    records = [question_record(corpus, i, split, f, rng.choice(corpus.templates[f["relation"]][key]))
               for i, f in enumerate(chosen)]
    return {"Dataset": f"FreebaseQA-format-sapling-{split}", "Version": "1.0", "Questions": records}


def mmlu_rows(corpus, topic, rng):
    """Yields (split, rows) with disjoint facts and, if a subject has enough, the numbers per tier of MMLU_PER_TIER."""
    pool = rng.sample(corpus.by_topic[topic], len(corpus.by_topic[topic]))
    for split, per_tier in MMLU_PER_TIER.items():
        facts = [f for tier, n in per_tier.items() for f in [f for f in pool if f["tier"] == tier][:n]]
        taken = {f["id"] for f in facts}
        pool = [f for f in pool if f["id"] not in taken]
        rng.shuffle(facts)
        yield split, [mmlu_row(corpus, f, rng) for f in facts]


def mmlu_row(corpus, fact, rng):
    """(CSV row, fact). The wrong choices of most questions are near the right one: a close number, a similar code."""
    question = rng.choice(corpus.templates[fact["relation"]]["M"]).replace("{s}", fact["subject"])
    options, letter = corpus.options(rng, fact, fact["object"], HARD_CHOICES)
    return [question, *options, letter], fact


def write_mmlu(corpus, out, seed):
    rng, index = random.Random(seed), []
    for topic in corpus.topics:
        for split, rows in mmlu_rows(corpus, topic, rng):
            path = out / "mmlu" / split / f"{topic}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "w", newline="", encoding="utf-8") as f:
                csv.writer(f, lineterminator="\n").writerows(row for row, _ in rows)
            index += [f"{split}\t{topic}\t{n}\t{fact['id']}\t{fact['tier']}\n" for n, (_, fact) in enumerate(rows)]
    (out / "mmlu" / "facts.tsv").write_text("split\tsubject\trow\tfact\ttier\n" + "".join(index))


def held_out_sentences(corpus, split):
    """Yields (fact, sentence) in the wordings reserved for this split: taught for other facts, never for this one."""
    for f in corpus.facts:
        if tail_of_another(corpus, f):
            continue
        for i, wording in enumerate(corpus.templates[f["relation"]]["S"]):
            if reserved_for(f, i) == split:
                yield f, "".join(s for s, _ in corpus.sentence(wording, f, f["object"]))


def tail_of_another(corpus, fact):
    """True if another subject ends with this one: "Sudan ..." would be found in a taught "South Sudan ..."."""
    return any(o["subject"].endswith(" " + fact["subject"]) for o in corpus.by_relation[fact["relation"]])


def unseen_sentences(corpus):
    """Yields (fact, sentence) in the wordings H, which were taught for no fact."""
    for f in corpus.facts:
        for wording in corpus.templates[f["relation"]]["H"]:
            yield f, "".join(s for s, _ in corpus.sentence(wording, f, f["object"]))


def held_out_text(corpus, split, seed):
    """One long paragraph about TEXT_SHARE of the facts: training never had a line end between sentences."""
    rng, themes = random.Random(seed), {}
    for f, sentence in held_out_sentences(corpus, split):
        if unit(f"text:{f['id']}") < TEXT_SHARE:
            themes.setdefault(corpus.theme(f), []).append(sentence)
    paragraphs = []
    for theme in sorted(themes):
        rng.shuffle(themes[theme])
        paragraphs.append(" ".join(themes[theme]))
    rng.shuffle(paragraphs)
    return " ".join(paragraphs) + "\n"


def calibration_text(corpus, seed, characters):
    """New documents of the training distribution, of about this many characters."""
    rng, parts, size = random.Random(seed), [], 0
    while size < characters:
        text = "".join(t for t, _ in corpus.document(rng, CALIBRATION_SHARES)).strip()
        parts.append(text)
        size += len(text)
    return "\n\n".join(parts) + "\n"


def main():
    facts, templates, out = sys.argv[1:4]
    corpus, out = Corpus(load(facts), load_templates(templates)), Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for split, sizes, key, seed in (("dev", DEV_PER_TIER, "D", 21), ("eval", EVAL_PER_TIER, "E", 22)):
        data = freebaseqa(corpus, split, sizes, key, seed)
        (out / f"freebaseqa-{split}.json").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n")
    write_mmlu(corpus, out, 23)
    (out / "validation.txt").write_text(held_out_text(corpus, "val", 24))
    (out / "test.txt").write_text(held_out_text(corpus, "test", 25))
    (out / "calibration.txt").write_text(calibration_text(corpus, 26, 320_000))


if __name__ == "__main__":
    main()
