/*
 * tokenizer: Hugging Face tokenizer.json (https://github.com/huggingface/tokenizers): normalise, pre-tokenise, BPE,
 * added tokens, post-process, decode. Ids are identical to the `tokenizers` library's. All functions are Local.
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

#include "espalier/base.h"

typedef struct espl_tokenizer espl_tokenizer;

/* Zero-initialise; free with espl_ids_free. */
typedef struct espl_ids {
    int32_t *data;
    int64_t len, cap;
} espl_ids;
void espl_ids_free(espl_ids *ids);

/* Reads dir/tokenizer.json, at most 100 MiB. ESPL_IO, ESPL_FORMAT, ESPL_UNSUPPORTED, ESPL_NOMEM; messages name the file
 * and the component. Owned by the caller: espl_tokenizer_close. Read-only after opening: any number of threads may
 * encode and decode. */
espl_status espl_tokenizer_open(const char *dir, espl_tokenizer **out);
/* The same from JSON text; `name` is used in messages. */
espl_status espl_tokenizer_parse(const char *json, int64_t len, const char *name, espl_tokenizer **out);
void espl_tokenizer_close(espl_tokenizer **t);

/* Highest id + 1, added tokens included. */
int64_t espl_tokenizer_vocab_size(const espl_tokenizer *t);

/* Appends the ids of text[0..len) to *ids. Special tokens written in the text are recognised as such, as the library
 * does. With add_special, the template post-processor's tokens (BOS ...) are added.
 * Bytes that are not UTF-8: each maximal invalid subsequence is replaced by U+FFFD first (as Python's
 * errors="replace" does).
 * ESPL_FAILED: a pattern ran into its match limit on this text; ESPL_FORMAT: the text needs an unknown token that the
 * vocabulary lacks; ESPL_UNSUPPORTED: a word of 2 GiB; ESPL_NOMEM. On failure *ids is as before. */
espl_status espl_tokenizer_encode(const espl_tokenizer *t, const char *text, int64_t len, bool add_special,
                                  espl_ids *ids);
/* Appends the text of ids[0..n) to *out as the library's decode() does (without clean_up_tokenization_spaces);
 * skip_special leaves special tokens out. Byte sequences that are not UTF-8 become U+FFFD. An id outside the vocabulary
 * is ESPL_FORMAT. */
espl_status espl_tokenizer_decode(const espl_tokenizer *t, const int32_t *ids, int64_t n, bool skip_special,
                                  espl_str *out);
/* The bytes one token stands for inside a text (before any UTF-8 repair; a leading space stays), appended to *out: for
 * streaming and per-token display. An id outside the vocabulary is ESPL_FORMAT. */
espl_status espl_tokenizer_token_bytes(const espl_tokenizer *t, int32_t id, espl_str *out);
/* Id of a token by its content (an added token's or a vocabulary entry's), -1 if there is none. */
int32_t espl_tokenizer_token_id(const espl_tokenizer *t, const char *content);
/* An added token marked special; false for an id that does not exist. */
bool espl_tokenizer_is_special(const espl_tokenizer *t, int32_t id);

#endif
