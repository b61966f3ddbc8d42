# SPDX-License-Identifier: Apache-2.0
"""Turns documents into token rows with loss weights; a row stream is a pure function of its seed."""
import random

import numpy as np

from .corpus import END

# From which step: shares of statement, paragraph, question and four-choice documents; then of the four-choice
# documents, how many say the answer in the question and how many work from the choices to the letters.
PHASES = (
    (0, (0.22, 0.18, 0.20, 0.40), 0.6, 0.4),
    (300, (0.16, 0.15, 0.25, 0.44), 0.3, 0.45),
    (900, (0.16, 0.16, 0.28, 0.40), 0.15, 0.25),
    (1500, (0.17, 0.17, 0.32, 0.34), 0.05, 0.06),
    (2100, (0.18, 0.20, 0.38, 0.24), 0.0, 0.0),
)


def phase(step):
    return [p for p in PHASES if step >= p[0]][-1][1:]


def tokens_of(tokenizer, doc):
    """Ids and weights; the whole text is encoded at once, a token takes the weight of its first character."""
    text = "".join(t for t, _ in doc)
    enc = tokenizer.encode(text, add_special_tokens=False)
    weight = [w for t, w in doc for _ in t]
    return enc.ids, [weight[a] for a, _ in enc.offsets]


def block(corpus, tokenizer, seed, step, rank, rows, length):
    """Rows of length + 1 tokens for one step of one worker."""
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
