#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes answers.json: the answers of transformers to each question of the small data sets here, with the tiny model in
model/. test_answers.py compares espalier's answers with them. Needs ../requirements.txt.

usage: make_answers.py           answers with the existing model
       make_answers.py --model   first trains the model again, on this data, so that its answers are clear, right or wrong
       make_answers.py --check   compares new answers with the committed ones
"""
import argparse
import json
import os
import sys
from types import SimpleNamespace

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

import check_transformers as reference

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = f"{HERE}/model"
DATA = dict(mmlu=f"{HERE}/mmlu", freebaseqa=f"{HERE}/freebaseqa.json", choices=f"{HERE}/choices.jsonl")
SUBJECTS = ("abstract_algebra", "odd")
END = "<|endoftext|>"
PASSES = 60
MIN_GAP = 1e-2  # smallest difference between the two best candidates of any decision
TOLERANCE = 1e-4

# The runs: task, and the options of espalier eval besides the data.
RUNS = [("mmlu", {"shots": 2}), ("mmlu", {"shots": 2, "mmlu-style": "lm-eval"}), ("mmlu", {"shots": 0}),
        ("mmlu", {"shots": 2, "context": 130}), ("mmlu", {"shots": 1, "context": 60, "mmlu-style": "lm-eval"}),
        ("freebaseqa", {"shots": 2}), ("freebaseqa", {"freebaseqa-mode": "llm-kick"}),
        ("choices", {}), ("choices", {"context": 20})]


# ----------------------------------------------------------------- model


def texts():
    with open(f"{HERE}/prompts.json", encoding="utf-8") as f:
        prompts = json.load(f)
    mmlu = [p["prompt"] + " " + "DBCA"[i % 4] for i, p in enumerate(prompts["mmlu"])]
    kick = ["jupiter\n", "the city of paris\n", "hemingway, who else\n", "Mount Fuji\n"]
    with open(DATA["choices"], encoding="utf-8") as f:
        docs = [json.loads(line) for line in f if line.strip()]
    first = [d["context"] if isinstance(d["context"], str) else d["context"][1] for d in docs]
    choices = [c + d.get("delimiter", " ") + d["choices"][i % 2] for i, (c, d) in enumerate(zip(first, docs))]
    standard = [p + a for p, a in zip(prompts["freebaseqa"], (" Hemingway\n", " der Fuji\n"))]
    return mmlu + standard + [p + a for p, a in zip(prompts["llm_kick"], kick)] + choices


def make_tokenizer():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=448, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    t.train_from_iterator(texts() + [" A B C D"] * 20, trainer)
    t.save(f"{MODEL}/tokenizer.json")
    with open(f"{MODEL}/tokenizer_config.json", "w", encoding="utf-8") as f:
        json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", eos_token=END, clean_up_tokenization_spaces=False), f)
    return t


def make_model():
    torch.manual_seed(5)
    os.makedirs(MODEL, exist_ok=True)
    t = make_tokenizer()
    end = t.token_to_id(END)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=t.get_vocab_size(), hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=end, eos_token_id=end))
    sequences = [torch.tensor([[end] + t.encode(x).ids + [end]]) for x in texts()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, PASSES)
    for _ in range(PASSES):
        for ids in sequences:
            loss = model(input_ids=ids, labels=ids).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    print(f"loss of the last text {loss.item():.3f}")
    model.to(torch.bfloat16).save_pretrained(MODEL)


# --------------------------------------------------------------- answers


def questions(ref, task, o):
    """Yields (the fields that name the question in --details, answer, gap) of each question."""
    if task == "mmlu":
        letters = reference.letters_of(ref)
        for subject in SUBJECTS:
            dev, rows = reference.mmlu_files(o, subject)
            for i, row in enumerate(rows):
                yield dict(subject=subject, row=i), *reference.mmlu_answer(ref, o, letters, subject, dev, row)
    elif task == "freebaseqa":
        examples = reference.examples_of(o)
        for q in reference.questions_of(DATA[task])[o.shots if o.mode == "standard" else 0:]:
            yield dict(id=q["Question-ID"]), *reference.freebaseqa_answer(ref, o, examples, q)
    else:
        with open(DATA[task], encoding="utf-8") as f:
            for i, line in enumerate(f.read().split("\n")):
                if line.strip():
                    yield dict(line=i + 1), *reference.choices_answer(ref, json.loads(line))


def answer(ref, task, options):
    o = SimpleNamespace(**DATA, split="test", shots=options.get("shots", 5), style=options.get("mmlu-style", "hendrycks"),
                        mode=options.get("freebaseqa-mode", "standard"), freebaseqa_examples=None)
    whole, ref.limit = ref.limit, options.get("context", ref.limit)
    lines = []
    for name, line, gap in questions(ref, task, o):
        if gap < MIN_GAP:
            sys.exit(f"{task} {options} {name}: decided by {gap:.2g}: another seed")
        lines.append({**name, **line})
    ref.limit = whole
    return dict(task=task, options=options, lines=lines)


def same(a, b):
    if isinstance(a, float):
        return abs(a - b) <= TOLERANCE
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", action="store_true")
    p.add_argument("--check", action="store_true")
    o = p.parse_args()
    if o.model:
        make_model()
    ref = reference.Reference(MODEL)
    runs = [answer(ref, task, options) for task, options in RUNS]
    if o.check:
        with open(f"{HERE}/answers.json", encoding="utf-8") as f:
            sys.exit(0 if same(json.load(f)["runs"], runs) else "answers.json differs")
    with open(f"{HERE}/answers.json", "w", encoding="utf-8") as f:
        json.dump(dict(runs=runs), f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
