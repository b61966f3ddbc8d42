#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Converts FreebaseQA's 2017 pre-release table (FreebaseQA-dev.tab: entity, mention, MID, two chains, answer MID,
answer, question) to the JSON format of version 1.0. Results on it must be reported as "pre-release split", not as v1.0.
usage: prerelease_to_json.py FreebaseQA-dev.tab OUT.json"""
import csv
import json
import sys

questions = {}
with open(sys.argv[1], newline="", encoding="utf-8") as f:
    for entity, mention, mid, chain, chain2, answer_mid, answer, question in csv.reader(f, delimiter="\t"):
        parses = questions.setdefault(question, {})
        inferential = chain if chain2 == "null" else f"{chain}..{chain2}"
        parse = parses.setdefault((entity, mention, mid, inferential), {})
        names = parse.setdefault(answer_mid, [])
        if answer not in names:
            names.append(answer)

out = []
for i, (question, parses) in enumerate(questions.items()):
    qid = f"FreebaseQA-prerelease-dev-{i}"
    listed = [{"Parse-Id": f"{qid}.P{k}", "PotentialTopicEntityMention": mention, "TopicEntityName": entity,
               "TopicEntityMid": mid, "InferentialChain": chain,
               "Answers": [{"AnswersMid": m, "AnswersName": names} for m, names in answers.items()]}
              for k, ((entity, mention, mid, chain), answers) in enumerate(parses.items())]
    out.append({"Question-ID": qid, "RawQuestion": question, "ProcessedQuestion": question.lower(), "Parses": listed})
with open(sys.argv[2], "w", encoding="utf-8") as f:
    json.dump({"Dataset": "FreebaseQA-dev", "Version": "2017 pre-release", "Questions": out}, f, indent=1, ensure_ascii=False)
print(len(out), "questions")
