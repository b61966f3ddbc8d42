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

/* Collective. Rank 0 reads the file at `path` ("-": standard input) as documents (eval/documents.h), and encodes them
 * with t, joined by empty lines, with the special tokens that the tokenizer adds by default. t is used on rank 0 only;
 * other ranks may pass NULL. Bytes that are not UTF-8 are encoded as U+FFFD and counted in a note on stderr. Every rank
 * returns the same status: one of espl_documents_read or of espl_tokenizer_encode. */
espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out);
/* Collective. Encodes standard input as it stands, JSON too: a prompt, not a file of documents. Otherwise like
 * espl_corpus_read. */
espl_status espl_corpus_read_stdin(espl_comm *c, const espl_tokenizer *t, espl_corpus *out);
/* Collective. Encodes text[0..len), which only rank 0 needs to hold. Otherwise like espl_corpus_read. */
espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out);

/* Windows that lie inside one document each. */
typedef struct espl_cut {
    int64_t window, windows; /* tokens of a window; how many */
    bool random;             /* at random places of random documents; else side by side from the first document on */
    uint64_t seed, stream;   /* of the random numbers */
} espl_cut;
/* Collective. Reads documents as espl_corpus_read does, encodes each on its own, and cuts windows inside them. *out
 * [windows, window] is owned by the caller: espl_mem_free. ESPL_CONFIG: the documents hold fewer windows. */
espl_status espl_corpus_cut(espl_comm *c, const espl_tokenizer *t, const char *path, const espl_cut *o, int32_t **out);

/* Local. */
void espl_corpus_free(espl_corpus *c);

#endif
