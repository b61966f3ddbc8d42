/* Prompt families as segments of micro-batches. A family that fits one micro-batch goes into it whole: its prompts read
 * the prefix that was computed a moment before. A larger one keeps its prefix at the front of a slot, and its prompts
 * pass behind it, micro-batch after micro-batch, each in the rows of the one before. Prompts are not padded: a micro-
 * batch is full when no more tokens fit. */
#include "internal.h"

#include <math.h>

typedef struct packer {
    const espl_prompts *p;
    const espl_model_options *o;
    packing *out;
    int64_t tokens, first; /* of the open micro-batch: tokens; first segment */
    int64_t slot, base;    /* slot in use; rows of it that outlive a micro-batch */
    int64_t cursor;        /* next free row of the slot */
    bool busy[2];          /* slots that the open micro-batch uses */
} packer;

void packing_free(packing *p) {
    espl_mem_free(&p->segments);
    espl_mem_free(&p->owner);
    espl_mem_free(&p->batches);
    *p = (packing){0};
}

/* Ends the open micro-batch. Segments may still move: batches take their place at the end. */
static espl_status flush(packer *k) {
    packing *out = k->out;
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

static espl_status add_segment(packer *k, int64_t owner, espl_segment s) {
    packing *out = k->out;
    if (out->n == out->cap) {
        int64_t cap = out->cap ? out->cap * 2 : 256;
        ESPL_TRY(espl_mem_resize(&out->segments, cap, sizeof *out->segments, "segments"));
        ESPL_TRY(espl_mem_resize(&out->owner, cap, sizeof *out->owner, "segments"));
        out->cap = cap;
    }
    s.slot = k->slot;
    s.prefix_slot = k->slot;
    out->segments[out->n] = s;
    out->owner[out->n++] = owner;
    k->tokens += s.n;
    k->busy[k->slot] = true;
    return ESPL_OK;
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* A run of ids in as many pieces as the micro-batches have room for. */
static espl_status add_run(packer *k, int64_t owner, espl_segment whole) {
    for (int64_t done = 0; done < whole.n;) {
        if (k->tokens == k->o->batch_tokens) ESPL_TRY(flush(k));
        espl_segment s = whole;
        s.n = min64(whole.n - done, k->o->batch_tokens - k->tokens);
        s.pos += done;
        s.ids += done;
        ESPL_TRY(add_segment(k, owner, s));
        done += s.n;
    }
    return ESPL_OK;
}

/* A prompt behind its family's prefix, which is in rows prefix_row .. of the slot. */
static espl_status add_prompt(packer *k, const espl_prompt_family *f, int64_t i, int64_t prefix_row) {
    const espl_prompt *q = &k->p->prompts[i];
    if (k->tokens + q->n > k->o->batch_tokens || k->cursor + q->n > k->o->context) ESPL_TRY(flush(k));
    if (k->cursor + q->n > k->o->context || f->n + q->n > k->o->context)
        return ESPL_FAIL(ESPL_CONFIG, "a prompt of %lld tokens does not fit the model's context of %lld",
                         (long long)(f->n + q->n), (long long)k->o->context);
    espl_segment s = {.row = k->cursor, .prefix_row = prefix_row, .prefix_n = f->n, .pos = f->n, .n = q->n};
    s.ids = k->p->ids + q->at;
    ESPL_TRY(add_run(k, i, s));
    k->cursor = s.row + q->n;
    return ESPL_OK;
}

static espl_status add_prefix(packer *k, const espl_prompt_family *f) {
    espl_segment s = {.row = k->cursor, .n = f->n, .ids = k->p->ids + f->at};
    ESPL_TRY(add_run(k, -1, s));
    k->cursor = s.row + f->n;
    return ESPL_OK;
}

static int64_t family_tokens(const espl_prompts *p, const espl_prompt_family *f) {
    int64_t n = f->n;
    for (int64_t i = f->first; i < f->first + f->count; i++) n += p->prompts[i].n;
    return n;
}

static espl_status add_prompts(packer *k, const espl_prompt_family *f, int64_t prefix_row) {
    for (int64_t i = f->first; i < f->first + f->count; i++) ESPL_TRY(add_prompt(k, f, i, prefix_row));
    return ESPL_OK;
}

static espl_status add_small(packer *k, const espl_prompt_family *f, int64_t tokens) {
    if (k->tokens + tokens > k->o->batch_tokens || k->cursor + tokens > k->o->context) ESPL_TRY(flush(k));
    int64_t prefix_row = k->cursor;
    ESPL_TRY(add_prefix(k, f));
    return add_prompts(k, f, prefix_row);
}

/* Takes the other slot; base is given back when the family is done, at the next flush. */
static espl_status add_large(packer *k, const espl_prompt_family *f) {
    if (k->busy[1 - k->slot]) ESPL_TRY(flush(k));
    if (f->n > k->o->context)
        return ESPL_FAIL(ESPL_CONFIG, "a prompt of more than %lld tokens does not fit the model's context of %lld",
                         (long long)f->n, (long long)k->o->context);
    k->slot = 1 - k->slot;
    k->cursor = 0;
    k->base = f->n;
    ESPL_TRY(add_prefix(k, f));
    k->cursor = f->n; /* also when the prefix took several micro-batches */
    ESPL_TRY(add_prompts(k, f, 0));
    k->base = 0;
    return ESPL_OK;
}

static void place_batches(packing *out) {
    espl_segment *at = out->segments;
    for (int64_t i = 0; i < out->n_batches; i++) {
        out->batches[i].segments = at;
        at += out->batches[i].n;
    }
}

espl_status packing_create(const espl_prompts *p, const espl_model_options *o, packing *out) {
    *out = (packing){0};
    packer k = {.p = p, .o = o, .out = out};
    espl_status st = o->slots >= 2 ? ESPL_OK : ESPL_FAIL(ESPL_CONFIG, "the model has one slot, batches need two");
    for (int64_t f = 0; f < p->n_families && st == ESPL_OK; f++) {
        int64_t tokens = family_tokens(p, &p->families[f]);
        bool small = tokens <= o->batch_tokens && tokens <= o->context;
        st = small ? add_small(&k, &p->families[f], tokens) : add_large(&k, &p->families[f]);
    }
    if (st == ESPL_OK) st = flush(&k);
    if (st != ESPL_OK) packing_free(out);
    place_batches(out);
    return st;
}

bool packing_ends(const packing *k, const espl_prompts *p, int64_t segment) {
    if (k->owner[segment] < 0) return false;
    const espl_prompt *q = &p->prompts[k->owner[segment]];
    const espl_segment *s = &k->segments[segment];
    return s->ids + s->n == p->ids + q->at + q->n;
}

typedef struct progress {
    const char *what;
    const packing *k;
    int64_t tokens, total;
    double start;
} progress;

static void show(void *context, int64_t done, int64_t n) {
    progress *g = context;
    const espl_batch *b = &g->k->batches[done - 1];
    for (int64_t i = 0; i < b->n; i++) g->tokens += b->segments[i].n;
    double seconds = espl_clock_now() - g->start, rate = (double)g->tokens / fmax(seconds, 1e-9);
    espl_log_progress(done == n, "%s: %lld / %lld tokens, %.1f tokens/s, %.0f s to go", g->what, (long long)g->tokens,
                      (long long)g->total, rate, (double)(g->total - g->tokens) / rate);
}

espl_status packing_run(espl_comm *c, espl_model *m, const packing *k, const char *what) {
    progress g = {.what = what, .k = k, .start = espl_clock_now()};
    for (int64_t i = 0; i < k->n; i++) g.total += k->segments[i].n;
    return espl_comm_agree(c, espl_model_run(m, k->batches, k->n_batches, show, &g));
}
