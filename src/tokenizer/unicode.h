/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of code points as the tokenizers library sees them. It holds several versions of Unicode: its pattern
 * engine (Oniguruma) has 16, its normaliser 9, its table of punctuation 8, Rust's own functions 17. PCRE2 and utf8proc,
 * which this room uses, have others; unicode_tables.h, made by measuring the library, lists where they differ.
 */
#ifndef ESPL_TOKENIZER_UNICODE_H
#define ESPL_TOKENIZER_UNICODE_H

#include "espalier/base/str.h"

typedef enum espl_char_class { ESPL_CHAR_SPACE, ESPL_CHAR_NUMERIC, ESPL_CHAR_PUNCT, ESPL_CHAR_WORD } espl_char_class;

bool espl_tok_char_is(espl_char_class c, int32_t cp);
/* Appends the members of Oniguruma's \w, for use inside [ ] of a PCRE2 pattern. */
void espl_tok_put_word_class(espl_str *out);
/* A code point of the same general category and UTF-8 length that PCRE2 knows, for one that it classifies unlike
 * Oniguruma does; cp itself for nearly every code point. */
int32_t espl_tok_proxy(int32_t cp);
/* True when the library's normaliser knows no decomposition, composition or combining class for cp. */
bool espl_tok_is_norm_inert(int32_t cp);
/* True when NFC leaves cp alone whatever precedes it. False says nothing: only a step is saved. */
bool espl_tok_nfc_keeps(int32_t cp);
/* Lower case as 1 or 2 code points; returns how many. */
int espl_tok_lower(int32_t cp, int32_t out[2]);

#endif
