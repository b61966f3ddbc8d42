# SPDX-License-Identifier: Apache-2.0
"""Packs documents into rows of tokens with loss weights. The rows depend only on seed, step and rank."""
import random

import numpy as np

from .corpus import END

# First step; shares of statement, paragraph, question and four-choice documents; of the four-choice documents, the
# share that states the answer in the question and the share that spells out which letter belongs to which choice.
PHASES = (
    (0, (0.22, 0.18, 0.20, 0.40), 0.6, 0.4),
    (300, (0.16, 0.15, 0.25, 0.44), 0.3, 0.45),
    (900, (0.16, 0.16, 0.28, 0.40), 0.15, 0.25),
    (1500, (0.17, 0.17, 0.32, 0.34), 0.05, 0.06),
    (2100, (0.18, 0.20, 0.38, 0.24), 0.0, 0.0),
)


def phase(step):
    """(shares, matching, lookup) of the phase that the step is in."""
    return [p for p in PHASES if step >= p[0]][-1][1:]


def tokens_of(tokenizer, doc):
    """(ids, weights). The text is encoded as a whole; a token takes the weight of its first character."""
    text = "".join(t for t, _ in doc)
    enc = tokenizer.encode(text, add_special_tokens=False)
    weight = [w for t, w in doc for _ in t]
    return enc.ids, [weight[a] for a, _ in enc.offsets]


def block(corpus, tokenizer, seed, step, rank, rows, length):
    """(ids, weights), each [rows, length + 1], of one step of one rank."""
    rng = random.Random(f"{seed}:{step}:{rank}")
    shares, matching, lookup = phase(step)
    end = tokenizer.token_to_id(END)
    ids = np.zeros((rows, length + 1), np.int64)
    weights = np.zeros((rows, length + 1), np.float32)
    for r in range(rows):
        a, w = [end], [0.0]
        while len(a) < length + 1:
            i, x = tokens_of(tokenizer, corpus.document(rng, shares, matching, lookup, 6 if length <= 256 else 10))
            a += i + [end]
            w += x + [0.4]
        ids[r], weights[r] = a[: length + 1], w[: length + 1]
    return ids, weights
