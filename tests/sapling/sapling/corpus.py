# SPDX-License-Identifier: Apache-2.0
"""Generates the documents of the corpus. A document is a list of (text, weight of its tokens in the loss)."""
import os
import random
from collections import defaultdict
from itertools import accumulate

from .facts import unit

END = "<|endoftext|>"
LETTERS = "ABCD"
# Weights of the parts of a document in the loss. What a training log reports by kind is told apart by them (train.py).
STATE, OBJECT, ANSWER, STOP, LETTER, LOOKUP, LITTLE = 0.4, 2.0, 4.0, 1.0, 10.0, 3.0, 0.1
LINKS = ("", "", "", "", "Also, ", "In addition, ", "Moreover, ", "Besides, ", "As is well known, ")


def load_templates(path):
    """{relation: {"subject": MMLU subject, kind of wording (S, H, Q, D, E, M): [wordings]}}."""
    out, relation = {}, None
    for line in open(path, encoding="utf-8"):
        line = line.rstrip("\n")
        if line.startswith("@ "):
            name, subject = line[2:].split()
            relation = out[name] = {"subject": subject, **{k: [] for k in "SHQDEM"}}
        elif line and not line.startswith("#"):
            relation[line[0]].append(line[2:])
    return out


def reserved_for(fact, index):
    """The split for which wording `index` of this fact is reserved: train, val or test."""
    u = unit(f"split:{fact['relation']}:{fact['subject']}:{index}")
    return "val" if u < 0.09 else "test" if u < 0.18 else "train"


def format_subject(name):
    return "".join(" " + part for part in name.split("_"))


def header(name):
    return f"The following are multiple choice questions (with answers) about {format_subject(name)}.\n\n"


def choice_text(question, options):
    lines = [question] + [f"{letter}. {text}" for letter, text in zip(LETTERS, options)]
    return "\n".join(lines) + "\nAnswer:"


class Corpus:
    def __init__(self, facts, templates):
        self.facts, self.templates = facts, templates
        self.by_relation, self.by_topic, self.by_subject = defaultdict(list), defaultdict(list), defaultdict(list)
        for f in facts:
            self.by_relation[f["relation"]].append(f)
            self.by_topic[templates[f["relation"]]["subject"]].append(f)
            self.by_subject[self.theme(f)].append(f)
        self.objects = {r: sorted({f["object"] for f in fs}) for r, fs in self.by_relation.items()}
        self.region = {f["subject"]: f["object"] for f in self.by_relation["country.subregion"]}
        self.near = {}
        self.topics, self.themes = sorted(self.by_topic), sorted(self.by_subject)
        self.topic_weights = [sum(f["weight"] for f in self.by_topic[t]) for t in self.topics]
        self.theme_weights = [sum(f["weight"] for f in self.by_subject[t]) for t in self.themes]
        pools = [facts, *self.by_topic.values(), *self.by_subject.values()]
        self.sums = {id(pool): list(accumulate(f["weight"] for f in pool)) for pool in pools}

    def theme(self, fact):
        """The topic of paragraphs with this fact: a country, element or state; a shared object; codes of an initial."""
        kind, relation = fact["relation"].split(".")[0], fact["relation"]
        if kind in ("country", "element", "us_state"):
            return f"{kind}:{fact['subject']}"
        if kind in ("language", "currency", "script", "constellation", "airport"):
            return f"{relation}:{fact['subject'][0]}"
        return f"{kind}:{fact['object']}"

    def pick(self, rng, n, pool=None):
        pool = self.facts if pool is None else pool
        return rng.choices(pool, cum_weights=self.sums[id(pool)], k=n)

    def answer(self, rng, fact):
        if fact["relation"] == "country.border":
            return rng.choice([fact["object"], fact["object"], *fact["aliases"]])
        return fact["object"]

    def note(self, form, fact):
        """Called for each fact that a training document states or asks for; check.py overrides it to count."""

    def sentence(self, template, fact, obj, link=""):
        """Segments of one statement. The object has a high weight only after the subject, when it can be predicted."""
        text = template.replace("{s}", fact["subject"])
        before, after = text.split("{o}")
        if link and not before:
            link = ""
        if link:
            before = link + (before if before.startswith(fact["subject"]) else before[0].lower() + before[1:])
        told = template.index("{s}") < template.index("{o}")
        lead = before.rstrip(" ")
        return [(lead, STATE), (before[len(lead):] + obj, OBJECT if told else STATE), (after, STATE)]

    def train_wordings(self, fact):
        return [t for i, t in enumerate(self.templates[fact["relation"]]["S"]) if reserved_for(fact, i) == "train"]

    def statements(self, rng, facts, links=False):
        doc = []
        for f in facts:
            wordings = self.train_wordings(f)
            if not wordings:
                continue
            self.note("statement", f)
            doc += [(" ", STATE)] if doc else []
            doc += self.sentence(rng.choice(wordings), f, self.answer(rng, f), rng.choice(LINKS) if links and doc else "")
        return doc

    def statement_document(self, rng):
        return self.statements(rng, self.pick(rng, rng.randint(4, 10)))

    def paragraph(self, rng):
        pool = self.by_subject[rng.choices(self.themes, self.theme_weights)[0]]
        facts = list({f["id"]: f for f in self.pick(rng, rng.randint(4, 10), pool)}.values())
        return self.statements(rng, facts, links=True)

    def questions(self, rng):
        pool = self.by_topic[rng.choices(self.topics, self.topic_weights)[0]] if rng.random() < 0.3 else None
        doc = []
        for f in self.pick(rng, rng.randint(3, 9), pool):
            question = rng.choice(self.templates[f["relation"]]["Q"]).replace("{s}", f["subject"])
            self.note("question", f)
            doc += [(f"Q: {question}\nA:", LITTLE), (" " + self.answer(rng, f), ANSWER), ("\n\n", STOP)]
        return doc

    def rivals(self, fact):
        """The twelve objects of the relation that are nearest to the fact's own."""
        relation, answer = fact["relation"], fact["object"]
        key = (relation, answer, fact["subject"] if relation.startswith("country.") else "")
        if key not in self.near:
            others = [o for o in self.objects[relation] if o not in {answer, fact["subject"], *fact["aliases"]}]
            distance = self.distance(fact)
            self.near[key] = sorted(others, key=lambda o: (distance(o), unit(f"near:{answer}:{o}")))[:12]
        return self.near[key]

    def distance(self, fact):
        """A function of an object: difference of numbers, other region or not, or minus the common prefix's length."""
        answer, relation = fact["object"], fact["relation"]
        if answer.isdigit():
            return lambda o: abs(int(o) - int(answer))
        if answer in self.region:
            return lambda o: self.region.get(o) != self.region[answer]
        if relation in ("country.capital", "country.currency", "country.language", "country.calling_code"):
            home = self.region[fact["subject"]]
            beside = {f["object"] for f in self.by_relation[relation] if self.region[f["subject"]] == home}
            return lambda o: o not in beside
        return lambda o: -len(os.path.commonprefix([o.lower(), answer.lower()]))

    def options(self, rng, fact, answer, hard=0.5):
        """(four choices, letter of the answer). With probability `hard`, the wrong choices are from the rivals."""
        if rng.random() < hard:
            others = self.rivals(fact)
        else:
            pool, right = self.objects[fact["relation"]], {fact["object"], fact["subject"], *fact["aliases"]}
            others = [o for o in rng.sample(pool, min(24, len(pool))) if o not in right]
        options = rng.sample(others, 3) + [answer]
        rng.shuffle(options)
        return options, LETTERS[options.index(answer)]

    def worked(self, rng, options, letter):
        """Lines between the options and the answer that spell out which letter belongs to which choice."""
        lines = list(zip(options, LETTERS))
        if rng.random() < 0.5:
            right = options[LETTERS.index(letter)]
            return [("\nRight:", LITTLE), (f" {right}", ANSWER), (" is", LITTLE), (f" {letter}", LOOKUP), (".", 0.0)]
        rng.shuffle(lines)
        doc = [("\n", 0.0)]
        for n, (text, name) in enumerate(lines):
            doc += [(f"{' ' if n else ''}{text} is", 0.0), (f" {name}", LOOKUP), (".", 0.0)]
        return doc

    def choices(self, rng, matching=0.0, most=6, lookup=0.0):
        topic = rng.choices(self.topics, self.topic_weights)[0]
        matches = rng.random() < matching
        works = lookup > 0 and rng.random() < lookup
        doc = [(header(topic), 0.0)] if rng.random() < 0.7 else []
        for n, f in enumerate(self.pick(rng, rng.randint(3, most), self.by_topic[topic])):
            self.note("choice", f)
            answer = self.answer(rng, f)
            options, letter = self.options(rng, f, answer)
            question = rng.choice(self.templates[f["relation"]]["Q"]).replace("{s}", f["subject"])
            if matches and rng.random() < 0.5:
                question = f"{question} It is {answer}."
            text = choice_text(question, options)
            middle = self.worked(rng, options, letter) if works else []
            if middle:
                doc += [("\n\n" if n else "", 0.0), (text.removesuffix("\nAnswer:"), 0.0), *middle, ("\nAnswer:", 0.0)]
            else:
                doc += [("\n\n" if n else "", 0.0), (text, 0.0)]
            doc += [(" " + letter, LETTER)]
        return doc + [("\n\n", LITTLE)]

    def document(self, rng, shares, matching=0.0, lookup=0.0, most=6):
        kind = rng.choices(("statement", "paragraph", "questions", "choices"), shares)[0]
        if kind == "choices":
            return self.choices(rng, matching, most, lookup)
        return {"statement": self.statement_document, "paragraph": self.paragraph, "questions": self.questions}[kind](rng)
