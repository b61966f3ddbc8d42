/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer: Hugging Face tokenizer.json (https://github.com/huggingface/tokenizers): normalise, pre-tokenise, BPE,
 * added tokens, post-process, decode. Ids are identical to those of the `tokenizers` library. All functions are Local.
 *
 * A component or option that this room does not implement is refused by name (ESPL_UNSUPPORTED), never ignored.
 * Implemented:
 *   model           BPE (byte_fallback, unk_token, fuse_unk, ignore_merges; no dropout, no subword prefix or suffix)
 *   normalizer      NFC NFD NFKC NFKD Lowercase Prepend Replace Sequence
 *   pre_tokenizer   ByteLevel Split Digits Metaspace Whitespace WhitespaceSplit Punctuation Sequence
 *   post_processor  TemplateProcessing (its template for one text) ByteLevel Sequence
 *   decoder         ByteLevel ByteFallback Fuse Metaspace Replace Strip Sequence
 * The file's "truncation" and "padding" are not applied: they are settings of a session, which `transformers` turns off
 * too unless asked. An added token whose id is not the one that the library would give it is ESPL_FORMAT.
 */
#ifndef ESPALIER_TOKENIZER_H
#define ESPALIER_TOKENIZER_H

#include "espalier/base/status.h"
#include "espalier/base/str.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct espl_tokenizer espl_tokenizer;

/* A growable list of token ids. Zero-initialise; free with espl_ids_free. */
typedef struct espl_ids {
    int32_t *data;
    int64_t len, cap;
} espl_ids;
/* Appends ids[0..n). to->data is not NULL afterwards, even if n is 0. ESPL_NOMEM: *to is as before. */
espl_status espl_ids_append(espl_ids *to, const int32_t *ids, int64_t n);
void espl_ids_free(espl_ids *ids);

/* Reads dir/tokenizer.json, at most 100 MiB. Logs notes on what tokenizer_config.json and added_tokens.json have and
 * tokenizer.json lacks. ESPL_IO, ESPL_FORMAT, ESPL_UNSUPPORTED, ESPL_NOMEM; messages name the file
 * and the component. Owned by the caller: espl_tokenizer_close. On failure *out is NULL. Read-only after opening: any
 * number of threads may encode and decode at once. */
espl_status espl_tokenizer_open(const char *dir, espl_tokenizer **out);
/* The same from JSON text; `name` stands for the file in messages. */
espl_status espl_tokenizer_parse(const char *json, int64_t len, const char *name, espl_tokenizer **out);
/* NULL-safe; sets *t to NULL. */
void espl_tokenizer_close(espl_tokenizer **t);

/* Highest id + 1, added tokens included. */
int64_t espl_tokenizer_vocab_size(const espl_tokenizer *t);

/* Appends the ids of text[0..len) to *ids. Special tokens written in the text are recognised as such, as the library
 * does. With add_special, the tokens of the template (BOS ...) are added.
 * Bytes that are not UTF-8: each maximal invalid subsequence is replaced by U+FFFD first (as Python's errors="replace"
 * does).
 * ESPL_FAILED: a pattern ran into its match limit on this text. ESPL_FORMAT: the text needs an unknown token that the
 * vocabulary lacks. ESPL_UNSUPPORTED: a word of 2 GiB. ESPL_NOMEM. On failure *ids is as before. */
espl_status espl_tokenizer_encode(const espl_tokenizer *t, const char *text, int64_t len, bool add_special,
                                  espl_ids *ids);
/* Appends the text of ids[0..n) to *out as the library's decode() does (without clean_up_tokenization_spaces);
 * skip_special leaves special tokens out. Byte sequences that are not UTF-8 become U+FFFD. ESPL_FORMAT: an id outside
 * the vocabulary. */
espl_status espl_tokenizer_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                                  espl_str *out);
/* Appends the bytes that one token stands for inside a text to *out (before any UTF-8 repair; a leading space stays):
 * for streaming and per-token display. ESPL_FORMAT: an id outside the vocabulary. */
espl_status espl_tokenizer_token_bytes(const espl_tokenizer *t, int32_t id, espl_str *out);
/* Id of a token by its content (an added token's or a vocabulary entry's), -1 if no token has it. */
int32_t espl_tokenizer_token_id(const espl_tokenizer *t, const char *content);
/* True for an added token that is marked special; false for an id that does not exist. */
bool espl_tokenizer_is_special(const espl_tokenizer *t, int32_t id);

#endif
