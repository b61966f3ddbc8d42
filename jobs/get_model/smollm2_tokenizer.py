# SPDX-License-Identifier: Apache-2.0
"""Reconstructs SmolLM2's tokenizer.json and tokenizer_config.json from the tokenizer fields of its GGUF file."""

CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


def added_token(content):
    """A special token with the flags that all special tokens of SmolLM2 have."""
    return {"content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True}


def special_ids(token_types):
    """Ids of the control tokens, ascending."""
    return [i for i, kind in enumerate(token_types) if kind == CONTROL_TOKEN]


def byte_level(add_prefix_space):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def tokenizer_json(tokens, token_types, merges):
    """Byte-level BPE: every digit is a piece of its own, then GPT-2's split; no normaliser, no post-processor."""
    if len(set(tokens)) != len(tokens):
        raise ValueError("the GGUF lists a token twice")
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {token: i for i, token in enumerate(tokens)},
        "merges": list(merges),
    }
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, **added_token(tokens[i])} for i in special_ids(token_types)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level(add_prefix_space=False)],
        },
        "post_processor": None,
        "decoder": byte_level(add_prefix_space=True),
        "model": model,
    }


def tokenizer_config(tokens, token_types, fields):
    """fields: the GGUF's special ids, chat template and context length.

    The generic tokenizer class makes transformers use tokenizer.json unchanged.
    """
    bos, eos = tokens[fields["bos_token_id"]], tokens[fields["eos_token_id"]]
    return {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): added_token(tokens[i]) for i in special_ids(token_types)},
        "additional_special_tokens": [bos, eos],
        "bos_token": bos,
        "eos_token": eos,
        "unk_token": tokens[fields["unknown_token_id"]],
        "pad_token": tokens[fields["padding_token_id"]],
        "chat_template": fields["chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": fields["context_length"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
