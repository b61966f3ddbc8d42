# SPDX-License-Identifier: Apache-2.0
"""Trains the byte-level BPE tokenizer on a sample of the corpus.
Usage: python -m sapling.tokenizer FACTS TEMPLATES OUT_DIR"""
import json
import random
import sys
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from .corpus import END, Corpus, load_templates
from .facts import load

# The pre-tokenisation of Qwen: contractions, words with a leading space, single digits, punctuation, line ends.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")
SPECIAL = [END, "<|im_start|>", "<|im_end|>"]


def sample_texts(corpus, n, seed=11):
    rng = random.Random(seed)
    for _ in range(n):
        yield "".join(t for t, _ in corpus.document(rng, (0.3, 0.3, 0.2, 0.2)))
    for f in corpus.facts:
        yield f" {f['subject']} {f['object']} {' '.join(f['aliases'])}"
    for t in corpus.templates.values():
        yield " ".join(line for k in "SHQDEM" for line in t[k])


def train(corpus, vocab=4096):
    tok = Tokenizer(models.BPE())
    tok.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False)
    tok.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(sample_texts(corpus, 6000), trainer)
    return tok


def main():
    facts, templates, out = sys.argv[1:4]
    tok = train(Corpus(load(facts), load_templates(templates)))
    Path(out).mkdir(parents=True, exist_ok=True)
    tok.save(f"{out}/tokenizer.json")
    config = dict(tokenizer_class="Qwen2Tokenizer", eos_token=END, pad_token=END, bos_token=None, unk_token=None,
                  model_max_length=512, add_bos_token=False, add_prefix_space=False, clean_up_tokenization_spaces=False)
    Path(out, "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    print("vocabulary", tok.get_vocab_size(), tok.encode("\nAnswer: C\n\nQ: What?\nA: Paris\n\n").tokens)


if __name__ == "__main__":
    main()
