/* SPDX-License-Identifier: Apache-2.0 */
/* Text as this room passes it around: bytes with a length, because a text may hold NUL, and UTF-8. */
#ifndef ESPL_TOKENIZER_TEXT_H
#define ESPL_TOKENIZER_TEXT_H

#include "espalier/base/str.h"

#include <string.h>

#define ESPL_TOK_REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* Owned when a member of a parsed component, borrowed elsewhere. */
typedef struct espl_bytes {
    char *p;
    int64_t n;
} espl_bytes;

/* A piece of a text on its way through the pipeline, borrowed. */
typedef struct espl_piece {
    const char *p;
    int64_t n;
    bool first; /* it starts where the text given to encode starts: Metaspace's "first" asks for it */
} espl_piece;

void espl_tok_bytes_free(espl_bytes *b);

/* The code point at p and its length *n. p must be valid UTF-8: nothing is checked here. */
static inline int32_t espl_tok_decode_char(const char *s, int *n) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) return *n = 1, p[0];
    if (p[0] < 0xE0) return *n = 2, (p[0] & 0x1F) << 6 | (p[1] & 0x3F);
    if (p[0] < 0xF0) return *n = 3, (p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F);
    return *n = 4, (p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F);
}

/* True when the eight bytes at p are ASCII: most texts are, and are skipped eight bytes at a time. */
static inline bool espl_tok_is_ascii8(const char *p) {
    uint64_t eight;
    memcpy(&eight, p, 8);
    return (eight & 0x8080808080808080u) == 0;
}

/* Writes cp as UTF-8 to dst (up to 4 bytes); returns the length. */
int espl_tok_encode_char(int32_t cp, char *dst);
/* True when s is exactly one character. s is valid UTF-8. */
bool espl_tok_is_one_char(const espl_bytes *s);
/* Start of the last code point of p[0..n), n >= 1. */
int64_t espl_tok_last_char(const char *p, int64_t n);
/* Length of the longest valid UTF-8 prefix of s. */
int64_t espl_tok_valid_prefix(const char *s, int64_t n);
/* Appends s with each maximal ill-formed subsequence replaced by U+FFFD, as Python's errors="replace" does. */
void espl_tok_put_repaired(espl_str *out, const char *s, int64_t n);

/* GPT-2's byte alphabet, in which byte-level vocabularies spell each byte as a printable character
 * (https://github.com/openai/gpt-2/blob/master/src/encoder.py, bytes_to_unicode). The character of a byte: */
int32_t espl_tok_byte_to_char(uint8_t byte);
/* Writes the bytes that s spells to dst, which has room for n, and returns how many; -1, and nothing written, when a
 * character of s is not in the alphabet. */
int64_t espl_tok_undo_byte_chars(const char *s, int64_t n, char *dst);

#endif
