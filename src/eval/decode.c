/* Greedy decoding of many prompts at once.
 *
 * Sequences live in cells of the KV cache behind one shared prefix. They are dealt to groups; a micro-batch is one
 * turn of a group: the next token of its running sequences and, as far as the micro-batch has room, tokens of prompts
 * that are being read. Groups take turns: with R ranks a token is known R turns later, so R groups keep all ranks at
 * work. There are 4 groups for 1 to 4 ranks, so that the micro-batches, and with them the rounding, are the same for
 * all of these; beyond, the next power of two. Every rank keeps the same books: what each turn feeds follows from the
 * tokens picked before, which the last rank sends to the others. */
#include "internal.h"

#include <string.h>

enum { WIDTH = 64, LEAST_GROUPS = 4, MOST_GROUPS = 32 };

/* KV cache for continuations that espl_decode_need asks for at most, over all ranks. */
static const int64_t CACHE_BYTES = (int64_t)4 << 30;

/* A sequence in its cell. */
typedef struct cell {
    int64_t prompt; /* -1: free */
    int64_t fed;    /* of its own ids and continuation, in the cache */
    int64_t made;   /* tokens of the continuation */
    int32_t last;   /* the newest of them: fed next */
} cell;

typedef struct group {
    cell *cells;
    espl_segment *segments;
    int64_t *segment_cell; /* cell of each segment */
    int32_t *picked;       /* [width] greedy id of each segment */
    int64_t n_segments;
    espl_transfer incoming;
} group;

typedef struct decoder {
    espl_comm *c;
    espl_model *m;
    const espl_model_options *o;
    const espl_prompts *p;
    const espl_decoding *d;
    int32_t *out;
    int64_t *n_out, *at; /* at [prompts]: where a continuation starts in out */
    group groups[MOST_GROUPS];
    int64_t n_groups, width, cell_rows;
    int64_t queue;               /* next prompt to begin with */
    int64_t idle;                /* turns since something was computed */
    int64_t finished, senseless; /* continuations: done; ended by logits that are not numbers */
    bool last;
} decoder;

static int64_t groups_for(int ranks) {
    int64_t n = LEAST_GROUPS;
    while (n < ranks && n < MOST_GROUPS) n *= 2;
    return n;
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Sequences per group: no more than there are prompts. */
static int64_t width_for(int64_t prompts, int64_t groups, int64_t width) {
    return min64(ceil_div(prompts > 0 ? prompts : 1, groups), width > 0 ? width : WIDTH);
}

/* Slot 0 begins with the prefix, and cells fill the rest. */
static int64_t cells_of(const espl_model_options *o, int64_t prefix, int64_t rows) {
    return (o->context - prefix) / rows + (o->slots - 1) * (o->context / rows);
}

/* Rows of a cell: the longest prompt and its continuation. */
static int64_t longest_cell(const espl_prompts *p, const int64_t *most_tokens) {
    int64_t most = 1;
    for (int64_t i = 0; i < p->n; i++)
        if (p->prompts[i].n + most_tokens[i] > most) most = p->prompts[i].n + most_tokens[i];
    return most;
}

void espl_decode_need(const espl_prompts *p, const espl_decoding *d, const espl_model_config *c, int ranks,
                      espl_model_options *o) {
    if (p->n == 0) return;
    int64_t prefix = p->families[0].n, rows = longest_cell(p, d->max_tokens), groups = groups_for(ranks);
    int64_t width = width_for(p->n, groups, d->width), row_bytes = 8 * c->layers * c->kv_heads * c->head_dim;
    int64_t affordable = CACHE_BYTES / (row_bytes * rows) / groups;
    if (d->width <= 0 && affordable < width) width = affordable > 1 ? affordable : 1;
    if (o->context < prefix + rows) o->context = prefix + rows;
    while (cells_of(o, prefix, rows) < width * groups) o->slots++;
    if (o->logits_rows < width) o->logits_rows = width;
}

/* ------------------------------------------------------------- one turn */

static void place(const decoder *k, int64_t index, espl_segment *s) {
    int64_t prefix = k->p->families[0].n, first = (k->o->context - prefix) / k->cell_rows;
    int64_t per = k->o->context / k->cell_rows;
    s->prefix_n = prefix;
    s->slot = index < first ? 0 : 1 + (index - first) / per;
    s->row = index < first ? prefix + index * k->cell_rows : (index - first) % per * k->cell_rows;
}

/* The tokens a cell feeds in this turn: what is left of its prompt, or its newest token. */
static int64_t feed(decoder *k, int64_t g, int64_t i, int64_t room) {
    group *u = &k->groups[g];
    cell *x = &u->cells[i];
    const espl_prompt *q = &k->p->prompts[x->prompt];
    bool reading = x->fed < q->n;
    int64_t n = reading ? q->n - x->fed : 1;
    n = n < room ? n : room;
    espl_segment *s = &u->segments[u->n_segments];
    *s = (espl_segment){.pos = k->p->families[0].n + x->fed, .n = n};
    place(k, g * k->width + i, s);
    s->ids = reading ? k->p->ids + q->at + x->fed : &x->last;
    x->fed += n;
    if (x->fed >= q->n) s->greedy = &u->picked[u->n_segments];
    u->segment_cell[u->n_segments++] = i;
    return n;
}

static bool admit(decoder *k, cell *x) {
    if (k->queue == k->p->n) return false;
    *x = (cell){.prompt = k->queue++};
    return true;
}

static void plan_turn(decoder *k, int64_t g) {
    group *u = &k->groups[g];
    int64_t room = k->o->batch_tokens;
    u->n_segments = 0;
    for (int64_t i = 0; i < k->width && room > 0; i++) /* sequences under way go first */
        if (u->cells[i].prompt >= 0) room -= feed(k, g, i, room);
    for (int64_t i = 0; i < k->width && room > 0; i++)
        if (u->cells[i].prompt < 0 && admit(k, &u->cells[i])) room -= feed(k, g, i, room);
}

/* A picked token: joins the continuation, or ends it. */
static void take(decoder *k, cell *x, int32_t id) {
    int64_t i = x->prompt;
    if (id < 0) k->senseless++;
    uint8_t stop = id < 0 ? ESPL_STOP_DROP : id < k->d->n_stops ? k->d->stops[id] : 0;
    if (stop != ESPL_STOP_DROP) k->out[k->at[i] + x->made++] = id;
    x->last = id;
    if (!stop && x->made < k->d->max_tokens[i]) return;
    k->n_out[i] = x->made;
    x->prompt = -1;
    k->finished++;
}

/* What the group's last turn brought. */
static void collect(decoder *k, group *u) {
    espl_comm_wait(k->c, &u->incoming);
    for (int64_t i = 0; i < u->n_segments; i++)
        if (u->segments[i].greedy) take(k, &u->cells[u->segment_cell[i]], u->picked[i]);
    u->n_segments = 0;
}

static espl_status next(void *context, int64_t i, espl_batch *batch, bool *end) {
    decoder *k = context;
    group *u = &k->groups[i % k->n_groups];
    collect(k, u);
    plan_turn(k, i % k->n_groups);
    k->idle = u->n_segments ? 0 : k->idle + 1;
    *batch = (espl_batch){.segments = u->segments, .n = u->n_segments};
    *end = k->idle == k->n_groups; /* a whole round without work: nothing is under way */
    return ESPL_OK;
}

static espl_status send_picked(decoder *k, const group *u) {
    int64_t bytes = u->n_segments * (int64_t)sizeof *u->picked;
    for (int peer = 0; peer < espl_comm_size(k->c) - 1; peer++) {
        espl_transfer t = {0};
        ESPL_TRY(espl_comm_send(k->c, u->picked, bytes, peer, &t));
        espl_comm_wait(k->c, &t); /* short: the peer has asked for it before it sent its own part on */
    }
    return ESPL_OK;
}

static espl_status done(void *context, int64_t i) {
    decoder *k = context;
    group *u = &k->groups[i % k->n_groups];
    if (u->n_segments == 0) return ESPL_OK;
    if (i % 16 == 0)
        espl_log_progress(false, "decode: %lld / %lld continuations", (long long)k->finished, (long long)k->p->n);
    if (k->last) return send_picked(k, u);
    return espl_comm_receive(k->c, u->picked, u->n_segments * (int64_t)sizeof *u->picked, espl_comm_size(k->c) - 1,
                             &u->incoming);
}

/* ---------------------------------------------------------------- setup */

static espl_status make_groups(decoder *k) {
    for (int64_t g = 0; g < k->n_groups; g++) {
        group *u = &k->groups[g];
        ESPL_TRY(espl_mem_alloc(&u->cells, k->width, sizeof *u->cells, "decoding cells"));
        ESPL_TRY(espl_mem_alloc(&u->segments, k->width, sizeof *u->segments, "segments"));
        ESPL_TRY(espl_mem_alloc(&u->segment_cell, k->width, sizeof *u->segment_cell, "segments"));
        ESPL_TRY(espl_mem_alloc(&u->picked, k->width, sizeof *u->picked, "picked ids"));
        for (int64_t i = 0; i < k->width; i++) u->cells[i].prompt = -1;
    }
    return ESPL_OK;
}

static void free_groups(decoder *k) {
    for (int64_t g = 0; g < k->n_groups; g++) {
        espl_mem_free(&k->groups[g].cells);
        espl_mem_free(&k->groups[g].segments);
        espl_mem_free(&k->groups[g].segment_cell);
        espl_mem_free(&k->groups[g].picked);
    }
    espl_mem_free(&k->at);
}

/* As wide as the model was opened for. */
static espl_status choose_width(decoder *k) {
    int64_t prefix = k->p->families[0].n, groups = groups_for(espl_comm_size(k->c));
    if (k->p->n_families != 1) return ESPL_FAIL(ESPL_INTERNAL, "decoding wants one family of prompts");
    k->cell_rows = longest_cell(k->p, k->d->max_tokens);
    int64_t cells = prefix + k->cell_rows <= k->o->context ? cells_of(k->o, prefix, k->cell_rows) : 0;
    if (cells < 1 || k->o->logits_rows < 1)
        return ESPL_FAIL(ESPL_CONFIG, "a prompt and continuation of %lld tokens do not fit the model's context of %lld",
                         (long long)(prefix + k->cell_rows), (long long)k->o->context);
    k->n_groups = min64(groups, cells);
    k->width = min64(width_for(k->p->n, groups, k->d->width), cells / k->n_groups);
    k->width = min64(k->width, min64(k->o->batch_tokens, k->o->logits_rows));
    return ESPL_OK;
}

static espl_status set_up(decoder *k) {
    ESPL_TRY(choose_width(k));
    if (k->n_groups < 2 && espl_comm_size(k->c) > 1) /* a turn is planned one ahead */
        return ESPL_FAIL(ESPL_CONFIG, "decoding on several ranks needs room for two sequences: more slots");
    ESPL_TRY(espl_mem_alloc(&k->at, k->p->n, sizeof *k->at, "continuations"));
    for (int64_t i = 1; i < k->p->n; i++) k->at[i] = k->at[i - 1] + k->d->max_tokens[i - 1];
    return make_groups(k);
}

/* The shared prefix, at the front of slot 0. */
static espl_status read_prefix(decoder *k) {
    const espl_prompt_family *f = &k->p->families[0];
    for (int64_t at = 0, n; at < f->n; at += n) {
        n = f->n - at < k->o->batch_tokens ? f->n - at : k->o->batch_tokens;
        espl_segment s = {.pos = at, .n = n, .ids = k->p->ids + f->at + at};
        espl_batch b = {.segments = &s, .n = 1};
        ESPL_TRY(espl_model_run(k->m, &b, 1, NULL, NULL));
    }
    return ESPL_OK;
}

espl_status espl_eval_decode(espl_comm *c, espl_model *m, const espl_prompts *p, const espl_decoding *d, int32_t *out,
                             int64_t *n_out) {
    decoder k = {.c = c, .m = m, .o = espl_model_options_of(m), .p = p, .d = d, .out = out, .n_out = n_out};
    k.last = espl_comm_rank(c) == espl_comm_size(c) - 1;
    if (p->n == 0) return ESPL_OK;
    espl_status st = espl_comm_agree(c, set_up(&k));
    if (st == ESPL_OK) st = read_prefix(&k);
    if (st == ESPL_OK) st = espl_model_stream(m, &(espl_stream){.next = next, .done = done, .context = &k});
    if (st == ESPL_OK) espl_log_progress(true, "decode: %lld / %lld continuations", (long long)p->n, (long long)p->n);
    free_groups(&k);
    if (st == ESPL_OK && k.senseless > 0) /* on every rank, whose books are the same */
        st = ESPL_FAIL(ESPL_FORMAT,
                       "the model's logits are not numbers behind %lld prompts: its weights hold NaN or infinity, or "
                       "overflow",
                       (long long)k.senseless);
    return espl_comm_agree(c, st);
}
