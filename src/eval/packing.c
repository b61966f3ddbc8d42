/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs prompt families into micro-batches. Prompts are not padded: a micro-batch is full when no more tokens fit.
 *
 * A small family, one that fits into a micro-batch as a whole, is placed there with its prefix: all segments of a
 * micro-batch are stored in the KV cache before any of them is read, so its prompts can read a prefix that is computed
 * in the same micro-batch. A large family keeps its prefix at the front of a slot, and its prompts pass behind the
 * prefix, micro-batch after micro-batch, each overwriting the rows of the one before. Two slots alternate so that the
 * prefix of the next large family can share a micro-batch with the last prompts of the family before it.
 *
 * The order of segments decides the rounding of results: changing the packing changes outputs in the last bits.
 */
#include "packing.h"

#include <inttypes.h>

typedef struct packer {
    const espl_prompts *p;
    const espl_model_options *o;
    espl_packing *out;
    int64_t tokens, first; /* of the open micro-batch: its tokens and its first segment */
    int64_t slot;          /* slot in use */
    int64_t base;          /* rows of the slot that must survive the micro-batch: the prefix of a large family */
    int64_t cursor;        /* next free row of the slot */
    bool busy[2];          /* slots that the open micro-batch uses */
} packer;

void espl_packing_free(espl_packing *k) {
    espl_mem_free(&k->segments);
    espl_mem_free(&k->owner);
    espl_mem_free(&k->batches);
    *k = (espl_packing){0};
}

/* Closes the open micro-batch. Its rows behind `base` are free again. `segments` may still be moved by a resize, so
 * that batches get their pointers only when the packing is complete. */
static espl_status packer_flush(packer *k) {
    espl_packing *out = k->out;
    if (out->n == k->first) return ESPL_OK;
    if (out->n_batches == out->cap_batches) {
        int64_t cap = out->cap_batches ? out->cap_batches * 2 : 64;
        ESPL_TRY(espl_mem_resize(&out->batches, cap, sizeof *out->batches, "micro-batches"));
        out->cap_batches = cap;
    }
    out->batches[out->n_batches++] = (espl_batch){.n = out->n - k->first};
    k->first = out->n;
    k->tokens = 0;
    k->cursor = k->base;
    k->busy[0] = k->busy[1] = false;
    return ESPL_OK;
}

/* Adds a run of ids of one owner, cut into as many segments as the micro-batches require. */
static espl_status packer_add_run(packer *k, int64_t owner, espl_segment run) {
    espl_packing *out = k->out;
    run.slot = run.prefix_slot = k->slot;
    while (run.n > 0) {
        if (k->tokens == k->o->batch_tokens) ESPL_TRY(packer_flush(k));
        if (out->n == out->cap) {
            int64_t cap = out->cap ? out->cap * 2 : 256;
            ESPL_TRY(espl_mem_resize(&out->segments, cap, sizeof *out->segments, "segments"));
            ESPL_TRY(espl_mem_resize(&out->owner, cap, sizeof *out->owner, "segments"));
            out->cap = cap;
        }
        espl_segment piece = run;
        piece.n = espl_min_i64(run.n, k->o->batch_tokens - k->tokens);
        out->segments[out->n] = piece;
        out->owner[out->n++] = owner;
        k->tokens += piece.n;
        k->busy[k->slot] = true;
        run.pos += piece.n;
        run.ids += piece.n;
        run.n -= piece.n;
    }
    return ESPL_OK;
}

/* Adds prompt i behind its family's prefix, which occupies the rows from prefix_row on. A prompt that fits into a
 * micro-batch is not split: if the rest of the open one is too short, the next one is started. Only prompts longer than
 * a whole micro-batch are cut. */
static espl_status packer_add_prompt(packer *k, const espl_prompt_family *f, int64_t i, int64_t prefix_row) {
    const espl_prompt *q = &k->p->prompts[i];
    int64_t context = k->o->context;
    if (k->tokens + q->n > k->o->batch_tokens || k->cursor + q->n > context) ESPL_TRY(packer_flush(k));
    if (k->cursor + q->n > context || f->n + q->n > context)
        return ESPL_FAIL(ESPL_CONFIG,
                         "a prompt of %" PRId64 " tokens does not fit the model's context of %" PRId64 " tokens",
                         f->n + q->n, context);
    espl_segment s = {.row = k->cursor, .prefix_row = prefix_row, .prefix_n = f->n, .pos = f->n, .n = q->n};
    s.ids = k->p->ids + q->at;
    ESPL_TRY(packer_add_run(k, i, s));
    k->cursor = s.row + q->n; /* a flush within a long prompt has moved the cursor */
    return ESPL_OK;
}

static espl_status packer_add_family(packer *k, const espl_prompt_family *f) {
    int64_t tokens = f->n, batch = k->o->batch_tokens, context = k->o->context;
    for (int64_t i = f->first; i < f->first + f->count; i++) tokens += k->p->prompts[i].n;
    if (tokens <= batch && tokens <= context) { /* small: whole, in one micro-batch */
        if (k->tokens + tokens > batch || k->cursor + tokens > context) ESPL_TRY(packer_flush(k));
    } else { /* large: at the front of the other slot */
        if (k->busy[1 - k->slot]) ESPL_TRY(packer_flush(k));
        if (f->n > context)
            return ESPL_FAIL(ESPL_CONFIG,
                             "a prompt of more than %" PRId64 " tokens does not fit the model's context of %" PRId64
                             " tokens",
                             f->n, context);
        k->slot = 1 - k->slot;
        k->cursor = 0;
        k->base = f->n;
    }
    int64_t prefix_row = k->cursor;
    ESPL_TRY(packer_add_run(k, -1, (espl_segment){.row = prefix_row, .n = f->n, .ids = k->p->ids + f->at}));
    k->cursor = prefix_row + f->n;
    for (int64_t i = f->first; i < f->first + f->count; i++) ESPL_TRY(packer_add_prompt(k, f, i, prefix_row));
    k->base = 0; /* the next flush gives the rows of the prefix back */
    return ESPL_OK;
}

espl_status espl_packing_create(const espl_prompts *p, const espl_model_options *o, espl_packing *out) {
    espl_status st;
    *out = (espl_packing){0};
    packer k = {.p = p, .o = o, .out = out};
    if (o->slots < 2) return ESPL_FAIL(ESPL_CONFIG, "the model was opened with one slot, packed prompts need two");
    for (int64_t f = 0; f < p->n_families; f++) ESPL_CHECK(st, failed, packer_add_family(&k, &p->families[f]));
    ESPL_CHECK(st, failed, packer_flush(&k));
    espl_segment *at = out->segments;
    for (int64_t i = 0; i < out->n_batches; at += out->batches[i++].n) out->batches[i].segments = at;
    return ESPL_OK;
failed:
    espl_packing_free(out);
    return st;
}

/* ------------------------------------------------------------- replicas */

void espl_packing_part_free(espl_packing_part *part) {
    espl_mem_free(&part->batches);
    espl_mem_free(&part->prompts);
    *part = (espl_packing_part){0};
}

/* The first micro-batch from b on that does not begin with the rest of a prompt or prefix. */
static int64_t packing_next_cut(const espl_packing *k, int64_t b) {
    while (b < k->n_batches && b > 0 && k->batches[b].segments->pos > k->batches[b].segments->prefix_n) b++;
    return b;
}

/* Prompts that end in the micro-batches before b. */
static int64_t packing_prompts_before(const espl_packing *k, const espl_prompts *p, int64_t b) {
    if (b == k->n_batches) return p->n;
    for (int64_t i = k->batches[b].segments - k->segments; i < k->n; i++)
        if (k->owner[i] >= 0) return k->owner[i];
    return p->n;
}

/* Whether micro-batch b holds a piece of the prefix of family f. */
static bool packing_has_prefix(const espl_packing *k, const espl_prompts *p, int64_t b, const espl_prompt_family *f) {
    const espl_batch *batch = &k->batches[b];
    for (int64_t i = 0; i < batch->n; i++) {
        int64_t at = batch->segments[i].ids - p->ids;
        if (at >= f->at && at < f->at + f->n) return true;
    }
    return false;
}

espl_status espl_packing_share(const espl_packing *k, const espl_prompts *p, int replicas, int replica,
                               espl_packing_part *out) {
    int64_t first = packing_next_cut(k, espl_part_begin(k->n_batches, replicas, replica));
    int64_t last = packing_next_cut(k, espl_part_begin(k->n_batches, replicas, replica + 1)), family = 0;
    espl_status st;
    *out = (espl_packing_part){0};
    ESPL_CHECK(st, failed, espl_mem_alloc(&out->batches, k->n_batches, sizeof *out->batches, "micro-batches"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&out->prompts, replicas + 1, sizeof *out->prompts, "shares of the replicas"));
    for (int r = 0; r <= replicas; r++)
        out->prompts[r] = packing_prompts_before(k, p, packing_next_cut(k, espl_part_begin(k->n_batches, replicas, r)));
    for (int64_t i = 0; i < k->n; i++) out->tokens += k->segments[i].n;
    if (first == last) return ESPL_OK;
    /* Only a large family reaches over micro-batches, and only if the first segment is one of its prompts. */
    int64_t prompt = k->owner[k->batches[first].segments - k->segments];
    while (prompt >= 0 && p->families[family].first + p->families[family].count <= prompt) family++;
    for (int64_t b = 0; b < first && prompt >= 0; b++)
        if (packing_has_prefix(k, p, b, &p->families[family])) out->batches[out->n++] = k->batches[b];
    for (int64_t b = first; b < last; b++) out->batches[out->n++] = k->batches[b];
    return ESPL_OK;
failed:
    espl_packing_part_free(out);
    return st;
}

/* Compares addresses of ids: segments of a prompt cover its ids without gaps, whatever pieces they were cut into. */
bool espl_packing_ends_prompt(const espl_packing *k, const espl_prompts *p, int64_t segment) {
    if (k->owner[segment] < 0) return false;
    const espl_prompt *q = &p->prompts[k->owner[segment]];
    const espl_segment *s = &k->segments[segment];
    return s->ids + s->n == p->ids + q->at + q->n;
}

/* Must stay in step with the packer: a small family needs a row per token; a large one needs its prefix and, behind it,
 * a micro-batch of prompts or its longest prompt. */
void espl_prompts_need(const espl_prompts *p, espl_model_options *o) {
    int64_t context = o->batch_tokens;
    for (int64_t f = 0; f < p->n_families; f++) {
        const espl_prompt_family *g = &p->families[f];
        int64_t longest = 0, all = g->n;
        for (int64_t i = g->first; i < g->first + g->count; i++) {
            longest = espl_max_i64(longest, p->prompts[i].n);
            all += p->prompts[i].n;
        }
        int64_t behind = espl_max_i64(longest, o->batch_tokens);
        context = espl_max_i64(context, all <= o->batch_tokens ? all : espl_min_i64(all, g->n + behind));
    }
    o->context = espl_max_i64(context, o->context);
    o->slots = espl_max_i64(o->slots, 2);
}
