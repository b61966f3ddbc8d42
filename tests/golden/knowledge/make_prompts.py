#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes prompts.json: the prompts that the published protocols make from the small data sets here.

Follows the text of hendrycks/test (evaluate_flan.py: format_subject, format_example, gen_prompt), of lm-evaluation-harness
(tasks/mmlu/default: description, doc_to_text, few-shot examples joined by blank lines) and of llm-kick
(factoid_qa/main_freebase.py). Standard library only; the output is always the same.
"""
import csv
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))
CHOICES = ["A", "B", "C", "D"]


def rows(split, subject):
    with open(f"{HERE}/mmlu/{split}/{subject}_{split}.csv", newline="", encoding="utf-8-sig") as f:
        return [r for r in csv.reader(f) if r]


# --- hendrycks/test


def format_subject(subject):
    s = ""
    for entry in subject.split("_"):
        s += " " + entry
    return s


def format_example(row, include_answer):
    prompt = row[0]
    for j in range(4):
        prompt += "\n{}. {}".format(CHOICES[j], row[j + 1])
    prompt += "\nAnswer:"
    if include_answer:
        prompt += " {}\n\n".format(row[5])
    return prompt


def hendrycks(subject, dev, row, k):
    prompt = "The following are multiple choice questions (with answers) about {}.\n\n".format(format_subject(subject))
    for i in range(k):
        prompt += format_example(dev[i], True)
    return prompt + format_example(row, False)


# --- lm-evaluation-harness


def lm_eval(subject, dev, row, k):
    def doc_to_text(r):
        return f"{r[0].strip()}\nA. {r[1]}\nB. {r[2]}\nC. {r[3]}\nD. {r[4]}\nAnswer:"

    description = f"The following are multiple choice questions (with answers) about {' '.join(subject.split('_'))}.\n\n"
    return description + "".join(doc_to_text(r) + " " + r[5] + "\n\n" for r in dev[:k]) + doc_to_text(row)


def main():
    mmlu = []
    for subject in ("abstract_algebra", "odd"):
        dev, test = rows("dev", subject), rows("test", subject)
        for style, make in (("hendrycks", hendrycks), ("lm-eval", lm_eval)):
            for k in (0, 2):
                mmlu += [dict(subject=subject, row=i, style=style, shots=k, prompt=make(subject, dev, r, k))
                         for i, r in enumerate(test)]
    with open(f"{HERE}/freebaseqa.json", encoding="utf-8") as f:
        questions = json.load(f)["Questions"]

    def answer(q):
        return q["Parses"][0]["Answers"][0]["AnswersName"][0]

    examples = "".join(f"Q: {q['RawQuestion']}\nA: {answer(q)}\n\n" for q in questions[:2])
    standard = [examples + f"Q: {q['RawQuestion']}\nA:" for q in questions[2:]]
    kick = [f"Please give answer to this question: {q['RawQuestion']}\nThe answer is " for q in questions]
    with open(f"{HERE}/prompts.json", "w", encoding="utf-8") as f:
        json.dump(dict(mmlu=mmlu, freebaseqa=standard, llm_kick=kick), f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
