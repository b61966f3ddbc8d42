/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte pair encoding of one word: merge the adjacent pair of lowest rank, leftmost first, until no pair has a rank.
 * Short words keep the rank of every pair in an array and search it; long ones (a text may have a megabyte without a
 * space) use a linked list and a heap, O(n log n). Both give the same ids. Everything here runs once per word of a
 * text.
 */
#include "bpe.h"

#include "espalier/base/hash.h"
#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/status.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

/* Up to this many symbols a word is short: searching an array costs less than keeping a heap. */
enum { MAX_SHORT_WORD = 96 };
#define NO_SYMBOL UINT32_MAX

/* What is known of a vocabulary entry that comes as a word (espl_bpe_model.whole). */
enum { WHOLE_UNKNOWN, WHOLE_ITSELF, WHOLE_OTHER };

void espl_bpe_scratch_free(espl_bpe_scratch *s) {
    espl_mem_free(&s->sym);
    espl_mem_free(&s->rank);
    espl_mem_free(&s->next);
    espl_mem_free(&s->prev);
    espl_mem_free(&s->heap);
}

/* The merge of two symbols, NULL if there is none. Linear probing ends at an empty slot, and half of them are empty. */
static const espl_bpe_merge *find_merge(const espl_bpe_model *m, uint32_t left, uint32_t right) {
    uint64_t pair = (uint64_t)left << 32 | right, i = espl_bpe_merge_slot(m, pair);
    while (m->merges[i].pair != pair) {
        if (m->merges[i].pair == ESPL_BPE_NO_PAIR) return NULL;
        i = (i + 1) & m->merge_mask;
    }
    return &m->merges[i];
}

static uint32_t pair_rank(const espl_bpe_model *m, uint32_t left, uint32_t right) {
    const espl_bpe_merge *f = find_merge(m, left, right);
    return f ? f->rank : ESPL_BPE_NO_RANK;
}

/* ------------------------------------------------------------ a word's first symbols */

/* Adds the unknown token that waits. It waits so that neighbouring unknown characters can become one (fuse_unk). */
static void flush_unknown(const espl_bpe_model *m, espl_bpe_scratch *s) {
    if (s->unk_pending) s->sym[s->n_sym++] = (uint32_t)m->unk_id;
    s->unk_pending = false;
}

/* Adds what stands for the character c[0..n), which is no token: the tokens <0xNN> of its bytes if the vocabulary has
 * them all, else the unknown token, else nothing, as in the library. */
static espl_status add_unknown(const espl_bpe_model *m, espl_bpe_scratch *s, const char *c, int n) {
    bool bytes = m->byte_fallback;
    for (int i = 0; bytes && i < n; i++) bytes = m->fallback_id[(uint8_t)c[i]] >= 0;
    if (bytes) {
        for (int i = 0; i < n; i++) s->sym[s->n_sym++] = (uint32_t)m->fallback_id[(uint8_t)c[i]];
        return ESPL_OK;
    }
    if (!m->has_unk) return ESPL_OK;
    if (m->unk_id < 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s.unk_token is not in the vocabulary, and the text needs it", m->where.text);
    if (!m->fuse_unk) flush_unknown(m, s);
    s->unk_pending = true;
    return ESPL_OK;
}

/* Spells the word in the smallest tokens, which merges then join: one for each byte or character. */
static espl_status first_symbols(const espl_bpe_model *m, espl_bpe_scratch *s, const char *p, int64_t n) {
    /* Reserved once, so that adding needs no check. A byte makes at most one symbol, or two where its character of the
     * byte alphabet falls back to bytes; and there may be one unknown token at the end. */
    int64_t need = (m->byte_fallback ? 2 * n : n) + 1, capacity = espl_max_i64(need, 256);
    if (need >= INT32_MAX) return ESPL_FAIL(ESPL_UNSUPPORTED, "a word of %" PRId64 " bytes is too long to encode", n);
    if (need > s->sym_capacity) {
        s->sym_capacity = 0; /* until all four have grown */
        ESPL_TRY(espl_mem_resize(&s->sym, capacity, sizeof *s->sym, "word"));
        ESPL_TRY(espl_mem_resize(&s->rank, capacity, sizeof *s->rank, "word"));
        ESPL_TRY(espl_mem_resize(&s->next, capacity, sizeof *s->next, "word"));
        ESPL_TRY(espl_mem_resize(&s->prev, capacity, sizeof *s->prev, "word"));
        s->sym_capacity = capacity;
    }
    s->n_sym = 0;
    s->unk_pending = false;
    int len = 1;
    for (int64_t i = 0; i < n; i += len) {
        int32_t id;
        if (m->byte_mode) {
            id = m->byte_id[(uint8_t)p[i]];
        } else {
            int32_t cp = espl_tok_decode_char(p + i, &len);
            id = cp < ESPL_BPE_CHARS ? m->char_id[cp] : espl_bpe_model_find(m, p + i, len);
        }
        if (id >= 0) {
            flush_unknown(m, s);
            s->sym[s->n_sym++] = (uint32_t)id;
        } else if (m->byte_mode) {
            char c[4];
            ESPL_TRY(add_unknown(m, s, c, espl_tok_encode_char(espl_tok_byte_to_char((uint8_t)p[i]), c)));
        } else {
            ESPL_TRY(add_unknown(m, s, p + i, len));
        }
    }
    flush_unknown(m, s);
    return ESPL_OK;
}

/* ------------------------------------------------------------ short words */

/* O(n^2), but without a heap's overhead: nearly all words have a few symbols only. */
static void merge_short(const espl_bpe_model *m, espl_bpe_scratch *s) {
    uint32_t *sym = s->sym, *rank = s->rank; /* rank[i]: of the pair (i, i + 1) */
    int64_t n = s->n_sym;
    for (int64_t i = 0; i + 1 < n; i++) rank[i] = pair_rank(m, sym[i], sym[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == ESPL_BPE_NO_RANK) break;
        sym[best] = find_merge(m, sym[best], sym[best + 1])->id;
        n--;
        size_t tail = (size_t)(n - best - 1);
        memmove(sym + best + 1, sym + best + 2, tail * sizeof *sym);
        memmove(rank + best, rank + best + 1, tail * sizeof *rank);
        if (best > 0) rank[best - 1] = pair_rank(m, sym[best - 1], sym[best]);
        if (best + 1 < n) rank[best] = pair_rank(m, sym[best], sym[best + 1]);
    }
    s->n_sym = n;
}

/* ------------------------------------------------------------ long words */

/* The heap holds rank << 32 | position: its minimum is the pair to merge, leftmost among equals. An entry whose rank is
 * no longer that of its position is void. */
static void heap_sift_down(uint64_t *h, int64_t n, int64_t i) {
    uint64_t v = h[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h[child + 1] < h[child]) child++;
        if (h[child] >= v) break;
        h[i] = h[child];
    }
    h[i] = v;
}

/* Sets the rank of the pair that begins at `left`, and enters it in the heap if it has one. */
static void push_pair(const espl_bpe_model *m, espl_bpe_scratch *s, uint32_t left) {
    uint32_t right = s->next[left];
    s->rank[left] = right == NO_SYMBOL ? ESPL_BPE_NO_RANK : pair_rank(m, s->sym[left], s->sym[right]);
    if (s->rank[left] == ESPL_BPE_NO_RANK) return;
    uint64_t v = (uint64_t)s->rank[left] << 32 | left;
    int64_t i = s->n_heap++;
    for (int64_t up; i > 0 && s->heap[up = (i - 1) / 2] > v; i = up) s->heap[i] = s->heap[up];
    s->heap[i] = v;
}

/* Symbols form a doubly linked list, so that a merge moves nothing; positions never change, so that "leftmost" stays
 * comparable. */
static espl_status merge_long(const espl_bpe_model *m, espl_bpe_scratch *s) {
    uint32_t n = (uint32_t)s->n_sym;
    /* Each merge takes one entry out and adds at most two, and there are fewer merges than symbols. */
    if (2 * s->n_sym > s->heap_capacity) {
        ESPL_TRY(espl_mem_resize(&s->heap, 2 * s->n_sym, sizeof *s->heap, "word"));
        s->heap_capacity = 2 * s->n_sym;
    }
    s->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->prev[i] = i ? i - 1 : NO_SYMBOL;
        s->next[i] = i + 1 < n ? i + 1 : NO_SYMBOL;
        s->rank[i] = i + 1 < n ? pair_rank(m, s->sym[i], s->sym[i + 1]) : ESPL_BPE_NO_RANK;
        if (s->rank[i] != ESPL_BPE_NO_RANK) s->heap[s->n_heap++] = (uint64_t)s->rank[i] << 32 | i;
    }
    for (int64_t i = s->n_heap / 2; i-- > 0;) heap_sift_down(s->heap, s->n_heap, i);

    while (s->n_heap > 0) {
        uint64_t top = s->heap[0];
        s->heap[0] = s->heap[--s->n_heap];
        if (s->n_heap > 0) heap_sift_down(s->heap, s->n_heap, 0);
        uint32_t i = (uint32_t)top, gone;
        if (s->rank[i] != top >> 32) continue; /* void */
        gone = s->next[i];
        s->sym[i] = find_merge(m, s->sym[i], s->sym[gone])->id;
        s->next[i] = s->next[gone];
        if (s->next[i] != NO_SYMBOL) s->prev[s->next[i]] = i;
        s->rank[gone] = ESPL_BPE_NO_RANK; /* voids the entry of its pair */
        if (s->prev[i] != NO_SYMBOL) push_pair(m, s, s->prev[i]);
        push_pair(m, s, i);
    }
    /* The first symbol always stays at position 0: merges keep the left position. */
    int64_t kept = 0;
    for (uint32_t i = 0; i != NO_SYMBOL; i = s->next[i]) s->sym[kept++] = s->sym[i];
    s->n_sym = kept;
    return ESPL_OK;
}

/* ------------------------------------------------------------ a word */

/* Encodes p[0..n). Most words are entries of the vocabulary, and nearly all of these encode to themselves: that is
 * remembered, so that such a word costs one look-up. */
static espl_status bpe_encode_word(const espl_bpe_model *m, espl_bpe_scratch *s, const char *p, int64_t n,
                                   espl_ids *ids) {
    int64_t id = -1;
    uint8_t known = WHOLE_OTHER;
    if (n <= m->max_bytes && espl_map_get(m->byte_mode ? m->raw_vocab : m->vocab, p, n, &id))
        known = m->ignore_merges ? WHOLE_ITSELF : atomic_load_explicit(&m->whole[id], memory_order_relaxed);
    if (known == WHOLE_ITSELF) return espl_ids_append(ids, &(int32_t){(int32_t)id}, 1);
    ESPL_TRY(first_symbols(m, s, p, n));
    if (s->n_sym > MAX_SHORT_WORD)
        ESPL_TRY(merge_long(m, s));
    else
        merge_short(m, s);
    if (known == WHOLE_UNKNOWN) {
        known = s->n_sym == 1 && s->sym[0] == (uint32_t)id ? WHOLE_ITSELF : WHOLE_OTHER;
        atomic_store_explicit(&m->whole[id], known, memory_order_relaxed);
    }
    return espl_ids_append(ids, (const int32_t *)s->sym, s->n_sym); /* ids are below 2^31 */
}

espl_status espl_bpe_encode(const espl_bpe_model *m, espl_bpe_scratch *s, const char *p, int64_t n, espl_ids *ids) {
    const size_t len = sizeof ESPL_BPE_MARKER - 1;
    while (n > 0) {
        int64_t part = n;
        if (m->cuts_at_marker) { /* up to the next marker that follows something else */
            int64_t head = espl_bpe_markers(p, n);
            const char *hit = memmem(p + head, (size_t)(n - head), ESPL_BPE_MARKER, len);
            if (hit) part = hit - p;
        }
        ESPL_TRY(bpe_encode_word(m, s, p, part, ids));
        p += part;
        n -= part;
    }
    return ESPL_OK;
}
