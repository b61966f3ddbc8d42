# SPDX-License-Identifier: Apache-2.0
"""Collects all facts, assigns their tiers and writes facts.jsonl. Usage: python -m sapling.facts OUT"""
import hashlib
import json
import sys
import unicodedata
from collections import Counter

# name, weight when facts are drawn for training, share of the facts
TIERS = (("strong", 8, 0.35), ("medium", 4, 0.30), ("weak", 2, 0.20), ("faint", 1, 0.15))


def unit(text):
    """A pseudo-random number in [0, 1) that depends only on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def tier_of(key):
    u = unit("tier:" + key)
    for name, weight, share in TIERS:
        if u < share:
            return name, weight
        u -= share
    return TIERS[-1][:2]


def ascii_form(text):
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def aliases_of(answers):
    extra = [a for a in map(ascii_form, answers) if a not in answers]
    return list(dict.fromkeys(answers[1:] + extra))


def collect():
    from .sources import ALL, REJECTED

    seen, facts = set(), []
    for source in ALL:
        for subject, relation, answers, where in source():
            if (subject, relation) in seen | REJECTED or not all(answers):
                continue
            seen.add((subject, relation))
            tier, weight = tier_of(f"{relation}:{subject}")
            facts.append(dict(id=f"f{len(facts):04d}", subject=subject, relation=relation, object=answers[0],
                              aliases=aliases_of(answers), source=where, tier=tier, weight=weight))
    return facts


def load(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def main():
    facts = collect()
    with open(sys.argv[1], "w", encoding="utf-8") as out:
        for fact in facts:
            out.write(json.dumps(fact, ensure_ascii=False) + "\n")
    print(len(facts), Counter(f["tier"] for f in facts))
    print(Counter(f["relation"] for f in facts))


if __name__ == "__main__":
    main()
