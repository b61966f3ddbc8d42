# SPDX-License-Identifier: Apache-2.0
"""Reconstructs Gemma 3's tokenizer.json and tokenizer_config.json from the tokenizer fields of its GGUF file.

Checked against Google's tokenizer.json: the same vocabulary and added tokens, the same merges, and, but for one pair of merges
that cannot compete, in the same order.
"""

CONTROL_TOKEN, USER_TOKEN = 3, 4  # gguf.TokenType
SPACE = "▁"  # stands for a space in the vocabulary
RUNS = "\n▁\t"  # characters whose runs are tokens, in the order of their merges
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>")


def vocabulary(tokens):
    """{token: id}. llama.cpp writes runs of spaces as such."""
    vocab = {SPACE * len(token) if token.strip(" ") == "" else token: i for i, token in enumerate(tokens)}
    if len(vocab) != len(tokens):
        raise ValueError("the GGUF lists a token twice")
    return vocab


def added_tokens(vocab, token_types):
    """Tokens that are found in the text before anything else."""
    return [{"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": token in SPECIAL}
            for token, i in vocab.items() if token_types[i] in (CONTROL_TOKEN, USER_TOKEN)]


def merges(vocab, scores):
    """All pairs of tokens that make a token: those of runs, the longest first, then by the score of what they make."""
    runs, others = [], []
    for token, i in vocab.items():
        splits = ((token[:k], token[k:]) for k in range(len(token) - 1, 0, -1))
        pairs = [(left, right) for left, right in splits if left in vocab and right in vocab]
        if token[0] in RUNS and token == token[0] * len(token):
            runs += pairs
        else:
            others += [(scores[i], pair) for pair in pairs]
    runs.sort(key=lambda pair: (-len(pair[0]), -len(pair[1]), RUNS.index(pair[0][0])))
    others.sort(key=lambda entry: -entry[0])  # stable: of one token, the pair with the longest left part first
    return [list(pair) for pair in runs] + [list(pair) for _score, pair in others]


def tokenizer_json(tokens, token_types, scores):
    """BPE over characters, with bytes for unknown ones; spaces are letters; texts begin with <bos>."""
    vocab = vocabulary(tokens)
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": added_tokens(vocab, token_types),
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [bos, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<bos>", "type_id": 1}},
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [vocab["<bos>"]], "tokens": ["<bos>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                                                     {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": vocab, "merges": merges(vocab, scores),
        },
    }


def tokenizer_config(tokens, fields):
    """fields: the GGUF's special ids and context length. The generic class makes transformers use tokenizer.json unchanged."""
    return {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": tokens[fields["bos_token_id"]],
        "eos_token": tokens[fields["eos_token_id"]],
        "unk_token": tokens[fields["unknown_token_id"]],
        "pad_token": tokens[fields["padding_token_id"]],
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields["context_length"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
