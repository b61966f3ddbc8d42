/*
 * Byte pair encoding of one word: merge the adjacent pair of lowest rank, leftmost first, until no pair has one.
 * Short words keep the rank of every pair in an array and look for the least; long ones (there may be a megabyte
 * without a space) use a linked list and a heap, O(n log n).
 */
#include "internal.h"

#include <stdatomic.h>
#include <string.h>

enum { SHORT_WORD = 96 };
#define NONE UINT32_MAX

static const espl_merge *find_merge(const espl_model *m, uint32_t left, uint32_t right) {
    uint64_t pair = (uint64_t)left << 32 | right;
    uint64_t i = (pair * 0x9E3779B97F4A7C15u) >> m->merge_shift;
    while (m->merges[i].pair != pair) {
        if (m->merges[i].pair == ESPL_TOK_NO_PAIR) return NULL;
        i = (i + 1) & m->merge_mask;
    }
    return &m->merges[i];
}

static uint32_t rank_of(const espl_model *m, uint32_t left, uint32_t right) {
    const espl_merge *f = find_merge(m, left, right);
    return f ? f->rank : ESPL_TOK_NO_RANK;
}

espl_status espl_tok_push(espl_ids *ids, int32_t id) {
    if (ids->len == ids->cap) {
        int64_t cap = ids->cap < 64 ? 128 : ids->cap + ids->cap / 2;
        ESPL_TRY(espl_mem_resize(&ids->data, cap, sizeof *ids->data, "token ids"));
        ids->cap = cap;
    }
    ids->data[ids->len++] = id;
    return ESPL_OK;
}

/* ------------------------------------------------------------ a word's first symbols */

static espl_status reserve_symbols(espl_work *w, int64_t n) {
    if (n <= w->sym_cap) return ESPL_OK;
    if (n >= INT32_MAX) return ESPL_FAIL(ESPL_UNSUPPORTED, "a word of %lld bytes is too long to encode", (long long)n);
    int64_t cap = n < 256 ? 256 : n;
    w->sym_cap = 0;
    ESPL_TRY(espl_mem_resize(&w->sym, cap, sizeof *w->sym, "word"));
    ESPL_TRY(espl_mem_resize(&w->rank, cap, sizeof *w->rank, "word"));
    ESPL_TRY(espl_mem_resize(&w->next, cap, sizeof *w->next, "word"));
    ESPL_TRY(espl_mem_resize(&w->prev, cap, sizeof *w->prev, "word"));
    w->sym_cap = cap;
    return ESPL_OK;
}

static void flush_unknown(espl_work *w) {
    if (w->unk_pending) w->sym[w->n_sym++] = (uint32_t)w->t->model.unk_id;
    w->unk_pending = 0;
}

/* <0xNN> for each byte of the character, if the vocabulary has them all. */
static bool add_fallback(espl_work *w, const char *c, int n) {
    const espl_model *m = &w->t->model;
    for (int i = 0; i < n; i++)
        if (m->fallback_id[(uint8_t)c[i]] < 0) return false;
    for (int i = 0; i < n; i++) w->sym[w->n_sym++] = (uint32_t)m->fallback_id[(uint8_t)c[i]];
    return true;
}

/* A character that is no token: bytes, the unknown token, or (the library's choice when there is none) nothing. */
static espl_status add_unknown(espl_work *w, const char *c, int n) {
    const espl_model *m = &w->t->model;
    if (m->byte_fallback && add_fallback(w, c, n)) return ESPL_OK;
    if (!m->has_unk) return ESPL_OK;
    if (m->unk_id < 0)
        return ESPL_FAIL(ESPL_FORMAT, "%s: model.unk_token is not in the vocabulary, and the text needs it",
                         w->t->name.p);
    if (!m->fuse_unk) flush_unknown(w);
    w->unk_pending = 1;
    return ESPL_OK;
}

static espl_status add_bytes(espl_work *w, const char *p, int64_t n) {
    const espl_model *m = &w->t->model;
    for (int64_t i = 0; i < n; i++) {
        int32_t id = m->byte_id[(uint8_t)p[i]];
        if (id >= 0) {
            flush_unknown(w);
            w->sym[w->n_sym++] = (uint32_t)id;
        } else {
            char c[4];
            ESPL_TRY(add_unknown(w, c, espl_tok_encode_char(espl_tok_byte_char((uint8_t)p[i]), c)));
        }
    }
    return ESPL_OK;
}

static int32_t character_id(const espl_model *m, const char *p, int n, int32_t cp) {
    int64_t id = -1;
    if (cp < 65536) return m->char_id[cp];
    return espl_map_get(m->vocab, p, n, &id) ? (int32_t)id : -1;
}

static espl_status add_characters(espl_work *w, const char *p, int64_t n) {
    const espl_model *m = &w->t->model;
    int len;
    for (int64_t i = 0; i < n; i += len) {
        int32_t cp = espl_tok_decode_char(p + i, &len);
        int32_t id = character_id(m, p + i, len, cp);
        if (id >= 0) {
            flush_unknown(w);
            w->sym[w->n_sym++] = (uint32_t)id;
        } else {
            ESPL_TRY(add_unknown(w, p + i, len));
        }
    }
    return ESPL_OK;
}

/* A byte makes at most one symbol, or two where its character of the byte alphabet falls back to bytes; and there may
 * be one unknown token at the end. */
static espl_status first_symbols(espl_work *w, const char *p, int64_t n) {
    ESPL_TRY(reserve_symbols(w, (w->t->model.byte_fallback ? 2 * n : n) + 1));
    w->n_sym = w->unk_pending = 0;
    ESPL_TRY(w->t->model.byte_mode ? add_bytes(w, p, n) : add_characters(w, p, n));
    flush_unknown(w);
    return ESPL_OK;
}

/* ------------------------------------------------------------ short words */

static void merge_short(espl_work *w) {
    const espl_model *m = &w->t->model;
    uint32_t *sym = w->sym, *rank = w->rank;
    int64_t n = w->n_sym;
    for (int64_t i = 0; i + 1 < n; i++) rank[i] = rank_of(m, sym[i], sym[i + 1]);
    while (n > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == ESPL_TOK_NO_RANK) break;
        sym[best] = find_merge(m, sym[best], sym[best + 1])->id;
        n--;
        size_t tail = (size_t)(n - best - 1);
        memmove(sym + best + 1, sym + best + 2, tail * sizeof *sym);
        memmove(rank + best, rank + best + 1, tail * sizeof *rank);
        if (best > 0) rank[best - 1] = rank_of(m, sym[best - 1], sym[best]);
        if (best + 1 < n) rank[best] = rank_of(m, sym[best], sym[best + 1]);
    }
    w->n_sym = n;
}

/* ------------------------------------------------------------ long words */

/* The heap holds rank << 32 | position: the least is the pair to merge, leftmost among equals. */
static void sift_down(uint64_t *h, int64_t n, int64_t i) {
    uint64_t v = h[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && h[child + 1] < h[child]) child++;
        if (h[child] >= v) break;
        h[i] = h[child];
    }
    h[i] = v;
}

static uint64_t heap_pop(espl_work *w) {
    uint64_t top = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 0) sift_down(w->heap, w->n_heap, 0);
    return top;
}

static void heap_push(espl_work *w, uint64_t v) {
    int64_t i = w->n_heap++;
    for (int64_t up; i > 0 && w->heap[up = (i - 1) / 2] > v; i = up) w->heap[i] = w->heap[up];
    w->heap[i] = v;
}

static void push_pair(espl_work *w, uint32_t left) {
    uint32_t right = w->next[left];
    w->rank[left] = right == NONE ? ESPL_TOK_NO_RANK : rank_of(&w->t->model, w->sym[left], w->sym[right]);
    if (w->rank[left] != ESPL_TOK_NO_RANK) heap_push(w, (uint64_t)w->rank[left] << 32 | left);
}

/* Each merge takes one entry out and adds at most two, and there are fewer merges than symbols. */
static espl_status start_heap(espl_work *w) {
    const espl_model *m = &w->t->model;
    uint32_t n = (uint32_t)w->n_sym;
    if (2 * w->n_sym > w->heap_cap) {
        ESPL_TRY(espl_mem_resize(&w->heap, 2 * w->n_sym, sizeof *w->heap, "word"));
        w->heap_cap = 2 * w->n_sym;
    }
    w->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        w->prev[i] = i ? i - 1 : NONE;
        w->next[i] = i + 1 < n ? i + 1 : NONE;
        w->rank[i] = i + 1 < n ? rank_of(m, w->sym[i], w->sym[i + 1]) : ESPL_TOK_NO_RANK;
        if (w->rank[i] != ESPL_TOK_NO_RANK) w->heap[w->n_heap++] = (uint64_t)w->rank[i] << 32 | i;
    }
    for (int64_t i = w->n_heap / 2; i-- > 0;) sift_down(w->heap, w->n_heap, i);
    return ESPL_OK;
}

static void merge_at(espl_work *w, uint32_t i) {
    uint32_t gone = w->next[i];
    w->sym[i] = find_merge(&w->t->model, w->sym[i], w->sym[gone])->id;
    w->next[i] = w->next[gone];
    if (w->next[i] != NONE) w->prev[w->next[i]] = i;
    w->rank[gone] = ESPL_TOK_NO_RANK; /* its entries are void */
    if (w->prev[i] != NONE) push_pair(w, w->prev[i]);
    push_pair(w, i);
}

static espl_status merge_long(espl_work *w) {
    ESPL_TRY(start_heap(w));
    while (w->n_heap > 0) {
        uint64_t top = heap_pop(w);
        uint32_t i = (uint32_t)top;
        if (w->rank[i] == top >> 32) merge_at(w, i); /* else the pair has changed since */
    }
    int64_t n = 0;
    for (uint32_t i = 0; i != NONE; i = w->next[i]) w->sym[n++] = w->sym[i];
    w->n_sym = n;
    return ESPL_OK;
}

/* ------------------------------------------------------------ a word */

static espl_status encode_word(espl_work *w, const char *p, int64_t n) {
    ESPL_TRY(first_symbols(w, p, n));
    if (w->n_sym > SHORT_WORD) return merge_long(w);
    merge_short(w);
    return ESPL_OK;
}

static int32_t whole_word(const espl_model *m, const char *p, int64_t n) {
    int64_t id = -1;
    const espl_map *map = m->byte_mode ? m->raw_vocab : m->vocab;
    return n <= m->longest && espl_map_get(map, p, n, &id) ? (int32_t)id : -1;
}

static espl_status encode_part(espl_work *w, const char *p, int64_t n) {
    const espl_model *m = &w->t->model;
    int32_t id = whole_word(m, p, n);
    uint8_t known = id < 0 ? 2 : m->ignore_merges ? 1 : atomic_load_explicit(&m->whole[id], memory_order_relaxed);
    if (known == 1) return espl_tok_push(w->ids, id);
    ESPL_TRY(encode_word(w, p, n));
    if (known == 0) {
        known = w->n_sym == 1 && w->sym[0] == (uint32_t)id ? 1 : 2;
        atomic_store_explicit(&m->whole[id], known, memory_order_relaxed);
    }
    for (int64_t i = 0; i < w->n_sym; i++) ESPL_TRY(espl_tok_push(w->ids, (int32_t)w->sym[i]));
    return ESPL_OK;
}

/* Where the next part of p begins: at the next word marker that follows something else. */
static int64_t next_part(const char *p, int64_t n) {
    const int64_t len = sizeof ESPL_TOK_MARKER - 1;
    int64_t i = 0;
    while (i + len <= n && memcmp(p + i, ESPL_TOK_MARKER, (size_t)len) == 0) i += len;
    const char *hit = memmem(p + i, (size_t)(n - i), ESPL_TOK_MARKER, (size_t)len);
    return hit ? hit - p : n;
}

espl_status espl_tok_bpe(espl_work *w, const char *p, int64_t n) {
    if (!w->t->model.cuts_at_marker) return encode_part(w, p, n);
    while (n > 0) {
        int64_t part = next_part(p, n);
        ESPL_TRY(encode_part(w, p, part));
        p += part;
        n -= part;
    }
    return ESPL_OK;
}
