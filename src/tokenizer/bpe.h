/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BPE model of tokenizer.json (bpe_model.c) and the encoding of one word with it (bpe.c).
 *
 * Byte-level pipelines never spell out GPT-2's byte alphabet ("byte mode"): words stay raw bytes, and the vocabulary is
 * kept in raw bytes too, which is the same mapping applied to both sides.
 */
#ifndef ESPL_TOKENIZER_BPE_H
#define ESPL_TOKENIZER_BPE_H

#include "espalier/base/hash.h"
#include "espalier/base/status.h"
#include "espalier/tokenizer.h"
#include "json.h"

#include <string.h>

#define ESPL_BPE_MARKER "\xE2\x96\x81" /* U+2581, which stands for a space in SentencePiece's vocabularies */
/* Code points with an entry in char_id: the first plane, where nearly all characters of texts are. */
#define ESPL_BPE_CHARS 0x10000
#define ESPL_BPE_NO_PAIR UINT64_MAX
#define ESPL_BPE_NO_RANK UINT32_MAX

/* A vocabulary entry as the file spells it. s is NULL where no entry has the id. */
typedef struct espl_bpe_token {
    const char *s;
    int32_t n;
} espl_bpe_token;

typedef struct espl_bpe_merge {
    uint64_t pair; /* left << 32 | right; ESPL_BPE_NO_PAIR: an empty slot */
    uint32_t rank, id;
} espl_bpe_merge;

typedef struct espl_bpe_model {
    espl_where where;       /* "tokenizer.json: model" */
    char *arena;            /* the bytes of the entries */
    char *raw_arena;        /* the same as the raw bytes they spell, in byte mode only */
    espl_bpe_token *tokens; /* [n_ids] */
    int64_t n_ids, count;   /* highest id + 1; entries */
    int64_t max_bytes;      /* of the longest entry */
    espl_map *vocab;        /* entry -> id */
    espl_map *raw_vocab;    /* raw bytes -> id, in byte mode only */
    espl_bpe_merge *merges; /* [merge_mask + 1], an open hash table */
    uint64_t merge_mask;
    int merge_shift;
    int32_t byte_id[256];     /* of a byte's character in the byte alphabet, -1 */
    int32_t *char_id;         /* [ESPL_BPE_CHARS] of a one-character token, -1 */
    int32_t fallback_id[256]; /* of <0xNN>, -1 */
    int32_t unk_id;           /* -1: none */
    bool has_unk, fuse_unk, byte_fallback, ignore_merges, byte_mode;
    /* No merge makes a token with ESPL_BPE_MARKER behind anything but itself: a text without a pre-tokeniser (Llama-2)
     * can then be encoded word by word, with the same result and in linear time. */
    bool cuts_at_marker;
    /* What encoding makes of a vocabulary entry, found out when first met: see bpe.c. A cache that every thread would
     * fill alike, hence relaxed atomics and no lock. */
    _Atomic uint8_t *whole; /* [n_ids] */
} espl_bpe_model;

espl_status espl_bpe_model_parse(espl_bpe_model *m, const struct cJSON *model, const char *file);
/* Builds what depends on whether words come as raw bytes. */
espl_status espl_bpe_model_finish(espl_bpe_model *m, bool byte_mode);
void espl_bpe_model_free(espl_bpe_model *m);
/* -1: no such entry. */
int32_t espl_bpe_model_find(const espl_bpe_model *m, const char *s, int64_t n);

/* First slot of a pair in the table of merges: Fibonacci hashing, by the upper bits of the product with 2^64 / phi. */
static inline uint64_t espl_bpe_merge_slot(const espl_bpe_model *m, uint64_t pair) {
    return (pair * 0x9E3779B97F4A7C15u) >> m->merge_shift;
}

/* Scratch of one encode call; zero-initialise. Never shared between threads. */
typedef struct espl_bpe_scratch {
    uint32_t *sym, *rank, *next, *prev; /* [sym_capacity] */
    int64_t n_sym, sym_capacity;
    uint64_t *heap;
    int64_t n_heap, heap_capacity;
    bool unk_pending; /* an unknown token waits to be added, fused with the next */
} espl_bpe_scratch;
void espl_bpe_scratch_free(espl_bpe_scratch *s);

/* Appends the ids of one word. */
espl_status espl_bpe_encode(const espl_bpe_model *m, espl_bpe_scratch *s, const char *p, int64_t n, espl_ids *ids);

/* Bytes of the run of markers that s begins with. */
static inline int64_t espl_bpe_markers(const char *s, int64_t n) {
    const int64_t len = sizeof ESPL_BPE_MARKER - 1;
    int64_t i = 0;
    while (i + len <= n && memcmp(s + i, ESPL_BPE_MARKER, (size_t)len) == 0) i += len;
    return i;
}

#endif
