/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/corpus: a text as token ids, the same on every rank.
 *
 * Only rank 0 needs the tokenizer and the file; the ids are broadcast. Everything that reads a corpus (perplexity,
 * calibration, generation) can therefore run collectively without further communication about its input.
 */
#ifndef ESPALIER_EVAL_CORPUS_H
#define ESPALIER_EVAL_CORPUS_H

#include "espalier/comm.h"
#include "espalier/tokenizer.h"

/* Zero-initialise; free with espl_corpus_free. */
typedef struct espl_corpus {
    int32_t *ids; /* [n], owned */
    int64_t n;
} espl_corpus;

/* Collective. Rank 0 reads the file at `path` ("-": standard input) and encodes it with t, with the special tokens that
 * the tokenizer adds by default. t is used on rank 0 only; other ranks may pass NULL. Bytes that are not UTF-8 are
 * encoded as U+FFFD and counted in a note on stderr. Every rank returns the same status: ESPL_IO, or a status of
 * espl_tokenizer_encode. */
espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out);
/* Collective. Encodes text[0..len), which only rank 0 needs to hold. Otherwise like espl_corpus_read. */
espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out);
/* Local. */
void espl_corpus_free(espl_corpus *c);

#endif
