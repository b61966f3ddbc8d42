/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Greedy decoding of many prompts at once.
 *
 * Sequences live in cells of the KV cache behind one shared prefix. Cells and prompts are dealt to groups. A
 * micro-batch is one turn of a group: the next token of each of its running sequences and, as far as the micro-batch
 * has room, tokens of prompts that are still being read. Groups take turns. With n stages a token is known n turns
 * later, so n groups keep all of them busy.
 *
 * There are 4 groups, whatever the grid of ranks, so that the micro-batches, and with them the rounding, are identical
 * everywhere. Replicas share the groups; a pipeline of more than 4 stages is not always busy. Every rank of a replica
 * keeps the same books: what a turn feeds follows from the tokens picked before, which the last stage sends to all
 * others. A decision that differed between them would deadlock the pipeline.
 */
#include "espalier/eval/decode.h"
#include "espalier/model/forward.h"

#include <inttypes.h>
#include <string.h>

enum {
    DEFAULT_WIDTH = 64, /* sequences per micro-batch; docs/evaluation.md has the measurements */
    GROUPS = 4,
    PROGRESS_TURNS = 16 /* turns between updates of the progress line */
};

/* espl_decode_need reduces the default width rather than ask for a larger KV cache, over all
 * stages. */
static const int64_t CACHE_BYTES = (int64_t)4 << 30;

/* A place for one sequence in the KV cache. */
typedef struct decode_cell {
    int64_t prompt; /* -1: free */
    int64_t fed;    /* ids of the prompt and the continuation that are in the cache */
    int64_t made;   /* tokens of the continuation */
    int32_t last;   /* the newest of them, fed in the next turn */
} decode_cell;

/* Sequences that take their turns together, and the turn that is in flight. The segments and picked ids must stay
 * untouched until the group's next turn collects them. */
typedef struct decode_group {
    decode_cell *cells;     /* [width] */
    espl_segment *segments; /* [width] of its last turn */
    int64_t *segment_cell;  /* [width] cell of each segment */
    int32_t *picked;        /* [width] greedy id after each segment */
    int64_t n_segments;
    int64_t next;           /* prompt to start */
    espl_transfer incoming; /* of picked, on all stages but the last */
} decode_group;

typedef struct decoder {
    const espl_grid *grid;
    espl_model *m;
    const espl_model_options *o;
    const espl_prompts *p;
    const espl_decoding *d;
    int32_t *out;
    int64_t *n_out, *at; /* at [prompts]: where a continuation starts in out */
    decode_group groups[GROUPS];
    int64_t n_groups, width, cell_rows;
    int64_t idle;     /* turns since something was computed */
    int64_t mine;     /* prompts of this replica */
    int64_t finished; /* continuations */
    int64_t nan;      /* continuations ended by logits that are not numbers */
} decoder;

/* All groups are equally wide. Sequences per group: `width`, or the default if it is 0, but no more than there are
 * prompts. */
static int64_t decode_width_for(int64_t prompts, int64_t width) {
    int64_t per_group = (espl_max_i64(prompts, 1) + GROUPS - 1) / GROUPS;
    return espl_min_i64(per_group, width > 0 ? width : DEFAULT_WIDTH);
}

/* Cells that fit into the cache: slot 0 starts with the prefix, all other rows are theirs. */
static int64_t decode_cells_of(const espl_model_options *o, int64_t prefix, int64_t rows) {
    return (o->context - prefix) / rows + (o->slots - 1) * (o->context / rows);
}

/* Rows of a cell: the longest prompt with its continuation. */
static int64_t decode_cell_rows(const espl_prompts *p, const int64_t *max_tokens) {
    int64_t rows = 1;
    for (int64_t i = 0; i < p->n; i++) rows = espl_max_i64(rows, p->prompts[i].n + max_tokens[i]);
    return rows;
}

/* Slots are added until all groups have their cells. A width that the caller asked for is not reduced: benchmarks
 * compare widths. */
void espl_decode_need(const espl_prompts *p, const espl_decoding *d, const espl_model_config *c,
                      espl_model_options *o) {
    if (p->n == 0) return;
    int64_t prefix = p->families[0].n, rows = decode_cell_rows(p, d->max_tokens);
    int64_t width = decode_width_for(p->n, d->width);
    int64_t row_bytes = 8 * c->layers * c->kv_heads * c->head_dim; /* a key and a value of 4 bytes each */
    int64_t affordable = CACHE_BYTES / (row_bytes * rows) / GROUPS;
    if (d->width <= 0 && affordable < width) width = espl_max_i64(affordable, 1);
    o->context = espl_max_i64(o->context, prefix + rows);
    while (decode_cells_of(o, prefix, rows) < width * GROUPS) o->slots++;
    o->logits_rows = espl_max_i64(o->logits_rows, width);
}

/* ------------------------------------------------------------- one turn */

/* Adds a segment for cell i of group g: the rest of its prompt, as far as there is room, or its newest token. Returns
 * the tokens used. The cell's slot and rows are the counterpart of decode_cells_of: cells are numbered through all
 * groups, the first ones behind the prefix in slot 0. */
static int64_t decoder_feed_cell(decoder *k, int64_t g, int64_t i, int64_t room) {
    decode_group *u = &k->groups[g];
    decode_cell *x = &u->cells[i];
    const espl_prompt *q = &k->p->prompts[x->prompt];
    bool reading = x->fed < q->n;
    int64_t n = espl_min_i64(reading ? q->n - x->fed : 1, room), prefix = k->p->families[0].n;
    int64_t cell = g * k->width + i, first_slot = (k->o->context - prefix) / k->cell_rows;
    int64_t later = cell - first_slot, per_slot = k->o->context / k->cell_rows;
    espl_segment *s = &u->segments[u->n_segments];
    *s = (espl_segment){.pos = prefix + x->fed, .n = n, .prefix_n = prefix};
    s->slot = later < 0 ? 0 : 1 + later / per_slot;
    s->row = later < 0 ? prefix + cell * k->cell_rows : later % per_slot * k->cell_rows;
    s->ids = reading ? k->p->ids + q->at + x->fed : &x->last;
    x->fed += n;
    if (x->fed >= q->n) s->greedy = &u->picked[u->n_segments];
    u->segment_cell[u->n_segments++] = i;
    return n;
}

/* Fills the group's micro-batch. Running sequences come first: new ones get what room is left. Another replica's group
 * has none. */
static void decoder_plan_turn(decoder *k, int64_t g) {
    decode_group *u = &k->groups[g];
    int64_t room = k->o->batch_tokens;
    u->n_segments = 0;
    if (g % k->grid->replicas != k->grid->replica) return;
    for (int64_t i = 0; i < k->width && room > 0; i++)
        if (u->cells[i].prompt >= 0) room -= decoder_feed_cell(k, g, i, room);
    for (int64_t i = 0; i < k->width && room > 0 && u->next < k->p->n; i++) {
        if (u->cells[i].prompt >= 0) continue;
        u->cells[i] = (decode_cell){.prompt = u->next};
        u->next += k->n_groups;
        room -= decoder_feed_cell(k, g, i, room);
    }
}

/* A picked token extends the continuation of its cell, or ends it and frees the cell. A negative id stands for logits
 * that are not numbers. It is only counted here: leaving the stream at once would strand ranks that have already
 * planned further turns. */
static void decoder_take_token(decoder *k, decode_cell *x, int32_t id) {
    int64_t i = x->prompt;
    if (id < 0) k->nan++;
    uint8_t stop = id < 0 ? ESPL_STOP_DROP : id < k->d->n_stops ? k->d->stops[id] : 0;
    if (stop != ESPL_STOP_DROP) k->out[k->at[i] + x->made++] = id;
    x->last = id;
    if (!stop && x->made < k->d->max_tokens[i]) return;
    k->n_out[i] = x->made;
    x->prompt = -1;
    k->finished++;
}

/* espl_stream.next: takes in what the group's last turn picked, and plans its next one. Waiting here is what orders
 * the turns: the tokens were sent n_groups turns ago, so that with enough groups they have already arrived. */
static espl_status decoder_next(void *context, int64_t i, espl_batch *batch, bool *end) {
    decoder *k = context;
    int64_t g = i % k->n_groups;
    decode_group *u = &k->groups[g];
    espl_comm_wait(k->grid->pipeline, &u->incoming);
    for (int64_t s = 0; s < u->n_segments; s++)
        if (u->segments[s].greedy) decoder_take_token(k, &u->cells[u->segment_cell[s]], u->picked[s]);
    decoder_plan_turn(k, g);
    k->idle = u->n_segments ? 0 : k->idle + 1;
    *batch = (espl_batch){.segments = u->segments, .n = u->n_segments};
    *end = k->idle == k->n_groups; /* no group has had work for a whole round: nothing is in flight */
    return ESPL_OK;
}

/* espl_stream.done: the last stage has picked and sends its tokens; the others start to receive them. */
static espl_status decoder_done(void *context, int64_t i) {
    decoder *k = context;
    decode_group *u = &k->groups[i % k->n_groups];
    int64_t bytes = u->n_segments * (int64_t)sizeof *u->picked;
    espl_comm *pipeline = k->grid->pipeline;
    int last = k->grid->stages - 1;
    if (u->n_segments == 0) return ESPL_OK;
    if (i % PROGRESS_TURNS == 0)
        espl_log_progress(false, "decode: %" PRId64 " / %" PRId64 " continuations", k->finished, k->mine);
    if (k->grid->stage != last) return espl_comm_receive(pipeline, u->picked, bytes, last, &u->incoming);
    for (int peer = 0; peer < last; peer++) {
        espl_transfer t = {0};
        ESPL_TRY(espl_comm_send(pipeline, u->picked, bytes, peer, &t));
        espl_comm_wait(pipeline, &t); /* short: the peer posted its receive before it passed its activations on */
    }
    return ESPL_OK;
}

/* ---------------------------------------------------------------- setup */

/* Local. Chooses how many sequences run at once: as many as fit into the model's cache and micro-batches. The model may
 * have been opened for other sets too, so that its options are bounds, not this set's sizes. What it
 * allocates is freed by the caller, also after a failure. */
static espl_status decoder_create(decoder *k) {
    if (k->p->n_families != 1)
        return ESPL_FAIL(ESPL_INTERNAL, "decoding takes one family of prompts, not %" PRId64, k->p->n_families);
    int64_t prefix = k->p->families[0].n;
    k->cell_rows = decode_cell_rows(k->p, k->d->max_tokens);
    int64_t cells = prefix + k->cell_rows <= k->o->context ? decode_cells_of(k->o, prefix, k->cell_rows) : 0;
    if (cells < 1 || k->o->logits_rows < 1)
        return ESPL_FAIL(ESPL_CONFIG,
                         "a prompt and continuation of %" PRId64 " tokens do not fit the model's context of %" PRId64,
                         prefix + k->cell_rows, k->o->context);
    k->n_groups = espl_min_i64(GROUPS, cells);
    k->width = espl_min_i64(decode_width_for(k->p->n, k->d->width), cells / k->n_groups);
    k->width = espl_min_i64(k->width, espl_min_i64(k->o->batch_tokens, k->o->logits_rows));
    if (k->n_groups < 2 && k->grid->stages > 1) /* stages but the first plan a turn before the last one is done */
        return ESPL_FAIL(ESPL_CONFIG, "decoding on several stages needs KV cache for two sequences: open more slots");
    ESPL_TRY(espl_mem_alloc(&k->at, k->p->n, sizeof *k->at, "continuations"));
    for (int64_t i = 1; i < k->p->n; i++) k->at[i] = k->at[i - 1] + k->d->max_tokens[i - 1];
    for (int64_t g = 0; g < k->n_groups; g++) {
        decode_group *u = &k->groups[g];
        ESPL_TRY(espl_mem_alloc(&u->cells, k->width, sizeof *u->cells, "decoding cells"));
        ESPL_TRY(espl_mem_alloc(&u->segments, k->width, sizeof *u->segments, "segments"));
        ESPL_TRY(espl_mem_alloc(&u->segment_cell, k->width, sizeof *u->segment_cell, "segments"));
        ESPL_TRY(espl_mem_alloc(&u->picked, k->width, sizeof *u->picked, "picked ids"));
        for (int64_t i = 0; i < k->width; i++) u->cells[i].prompt = -1;
        u->next = g;
        if (g % k->grid->replicas == k->grid->replica) k->mine += (k->p->n - g + k->n_groups - 1) / k->n_groups;
    }
    return ESPL_OK;
}

espl_status espl_eval_decode(espl_comm *c, espl_model *m, const espl_prompts *p, const espl_decoding *d, int32_t *out,
                             int64_t *n_out) {
    decoder k = {
        .grid = espl_comm_grid(c), .m = m, .o = espl_model_options_of(m), .p = p, .d = d, .out = out, .n_out = n_out};
    espl_status st;
    if (p->n == 0) return ESPL_OK;
    int64_t tokens = 0;
    for (int64_t i = 0; i < p->n; i++) tokens += d->max_tokens[i];
    ESPL_CHECK(st, done, espl_comm_agree(c, decoder_create(&k)));
    memset(out, 0, (size_t)tokens * sizeof *out); /* replicas are merged */
    memset(n_out, 0, (size_t)p->n * sizeof *n_out);
    const espl_prompt_family *f = &p->families[0];
    for (int64_t at = 0; at < f->n; at += k.o->batch_tokens) { /* the shared prefix, at the front of slot 0 */
        espl_segment s = {.pos = at, .n = espl_min_i64(f->n - at, k.o->batch_tokens), .ids = p->ids + f->at + at};
        espl_batch b = {.segments = &s, .n = 1};
        ESPL_CHECK(st, done, espl_model_run(m, &b, 1, NULL, NULL));
    }
    espl_stream stream = {.next = decoder_next, .done = decoder_done, .context = &k};
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_model_stream(m, &stream)));
    espl_log_progress(true, "decode: %" PRId64 " / %" PRId64 " continuations", k.mine, k.mine);
    espl_comm_merge(k.grid->peers, out, tokens * (int64_t)sizeof *out);
    espl_comm_merge(k.grid->peers, n_out, p->n * (int64_t)sizeof *n_out);
    if (k.nan > 0) /* on every rank of the replica alike */
        st = ESPL_FAIL(ESPL_FORMAT,
                       "the model's logits are not numbers after %" PRId64
                       " prompts: its weights hold NaN or infinity, or overflow",
                       k.nan);
done:
    for (int64_t g = 0; g < k.n_groups; g++) {
        espl_mem_free(&k.groups[g].cells);
        espl_mem_free(&k.groups[g].segments);
        espl_mem_free(&k.groups[g].segment_cell);
        espl_mem_free(&k.groups[g].picked);
    }
    espl_mem_free(&k.at);
    return espl_comm_agree(c, st);
}
