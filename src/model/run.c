/* Micro-batches through the pipeline. */
#include "internal.h"

#include <math.h>
#include <string.h>

static int64_t batch_tokens(const espl_batch *b) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++) n += b->segments[i].n;
    return n;
}

static bool rows_fit(const espl_model *m, int64_t slot, int64_t row, int64_t n) {
    return slot >= 0 && slot < m->options.slots && row >= 0 && n >= 0 && row <= m->options.context - n;
}

static espl_status check_place(const espl_model *m, const espl_segment *s) {
    bool tokens = s->n >= 1 && s->pos >= 0 && s->pos <= m->options.context - s->n;
    if (!tokens || s->pos < s->prefix_n || !rows_fit(m, s->slot, s->row, s->pos - s->prefix_n + s->n) ||
        !rows_fit(m, s->prefix_slot, s->prefix_row, s->prefix_n))
        return ESPL_FAIL(ESPL_USAGE, "tokens %lld to %lld of slot %lld do not fit %lld slots of %lld positions",
                         (long long)s->pos, (long long)(s->pos + s->n - 1), (long long)s->slot,
                         (long long)m->options.slots, (long long)m->options.context);
    return ESPL_OK;
}

static espl_status check_ids(const espl_model *m, const char *what, const int32_t *ids, int64_t n, int32_t least) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < least || ids[i] >= m->config.vocab)
            return ESPL_FAIL(ESPL_USAGE, "%s id %d is outside the model's vocabulary of %lld", what, ids[i],
                             (long long)m->config.vocab);
    return ESPL_OK;
}

static espl_status check_segment(const espl_model *m, const espl_segment *s) {
    ESPL_TRY(check_place(m, s));
    ESPL_TRY(check_ids(m, "token", s->ids, s->n, 0));
    if (s->targets) ESPL_TRY(check_ids(m, "target", s->targets, s->n, INT32_MIN)); /* below 0: none */
    return s->selected ? check_ids(m, "selected", s->selected, s->n_selected, 0) : ESPL_OK;
}

static bool wants_row(const espl_segment *s) { return s->logits || s->greedy; }

static espl_status check_batch(const espl_model *m, const espl_batch *b) {
    int64_t rows = 0;
    for (int64_t i = 0; i < b->n; i++) {
        ESPL_TRY(check_segment(m, &b->segments[i]));
        rows += wants_row(&b->segments[i]);
    }
    if (b->n < 1 || batch_tokens(b) > m->options.batch_tokens || rows > m->options.logits_rows)
        return ESPL_FAIL(ESPL_USAGE, "a micro-batch of %lld tokens and %lld rows of logits exceeds %lld and %lld",
                         (long long)batch_tokens(b), (long long)rows, (long long)m->options.batch_tokens,
                         (long long)m->options.logits_rows);
    return ESPL_OK;
}

/* Ids, targets and positions of all segments, one row per token. */
static void flatten(espl_model *m, const espl_batch *b) {
    int64_t row = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        for (int64_t t = 0; t < s->n; t++, row++) {
            m->b.ids[row] = s->ids[t];
            m->b.targets[row] = s->targets ? s->targets[t] : -1;
            m->b.positions[row] = s->pos + t;
        }
    }
}

/* Packs the rows of the segments with targets, and their targets, at the front of `packed`; returns their number. The
 * others would only cost time in the head. */
static int64_t pack_scored(espl_model *m, const espl_batch *b, float *packed) {
    int64_t row = 0, rows = 0, C = m->config.hidden;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (s->targets) {
            memcpy(packed + rows * C, m->b.normed + row * C, (size_t)(s->n * C) * sizeof(float));
            memmove(m->b.targets + rows, m->b.targets + row, (size_t)s->n * sizeof *m->b.targets);
            rows += s->n;
        }
        row += s->n;
    }
    return rows;
}

/* `spare` [T, hidden] is overwritten. */
static void score_targets(espl_model *m, const espl_batch *b, float *spare) {
    int64_t rows = pack_scored(m, b, spare), row = 0;
    if (!rows) return;
    espl_tensor_logprob(&m->head, spare, rows, m->b.targets, m->b.logprob, m->b.partial, m->workspace);
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (!s->targets) continue;
        memcpy(s->logprob, m->b.logprob + row, (size_t)s->n * sizeof *s->logprob);
        row += s->n;
    }
}

/* A few rows of the head for one token: the selected ids' logits, whatever else is in the micro-batch. */
static void select_logits(espl_model *m, const espl_segment *s, const float *x) {
    size_t row_bytes = (size_t)m->config.hidden * espl_dtype_size(m->head.dtype);
    for (int64_t i = 0; i < s->n_selected; i++) {
        espl_linear one = m->head;
        float *y = &s->selected_logits[i];
        one.weight = (const char *)m->head.weight + (size_t)s->selected[i] * row_bytes;
        one.out = 1;
        espl_tensor_linear(&one, 1, x, 1, &y, false, m->workspace);
    }
}

static void write_selected(espl_model *m, const espl_batch *b) {
    const float *x = m->b.normed - m->config.hidden;
    for (int64_t i = 0; i < b->n; i++) {
        x += b->segments[i].n * m->config.hidden;
        if (b->segments[i].selected) select_logits(m, &b->segments[i], x);
    }
}

/* The lowest index of the largest; -1: they are not numbers. In lanes, so that the compiler can vectorise it. */
static int32_t greatest(const float *logits, int64_t vocab) {
    enum { LANES = 16 };
    float lane[LANES], most = logits[0];
    int64_t i = 0, best = 0;
    for (int j = 0; j < LANES; j++) lane[j] = most;
    for (; i + LANES <= vocab; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    for (; i < vocab; i++) most = logits[i] > most ? logits[i] : most;
    for (int j = 0; j < LANES; j++) most = lane[j] > most ? lane[j] : most;
    if (isnan(most)) return -1;
    while (best < vocab - 1 && logits[best] != most) best++;
    return (int32_t)best;
}

/* Logits of the last token of the segments that ask for them: their rows are packed first. */
static void write_logits(espl_model *m, const espl_batch *b) {
    int64_t row = 0, rows = 0, C = m->config.hidden, V = m->config.vocab;
    for (int64_t i = 0; i < b->n; i++) {
        row += b->segments[i].n;
        if (wants_row(&b->segments[i]))
            memmove(m->b.normed + rows++ * C, m->b.normed + (row - 1) * C, (size_t)C * sizeof(float));
    }
    if (!rows) return;
    espl_tensor_linear(&m->head, 1, m->b.normed, rows, &m->b.logits, false, m->workspace);
    const float *logits = m->b.logits;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (s->logits) memcpy(s->logits, logits, (size_t)V * sizeof(float));
        if (s->greedy) *s->greedy = greatest(logits, V);
        if (wants_row(s)) logits += V;
    }
}

/* x is used up. */
static void finish(espl_model *m, const espl_batch *b, float *x, int64_t T) {
    double start = espl_clock_now();
    espl_tensor_rmsnorm(x, m->final_norm, T, m->config.hidden, (float)m->config.rms_eps, m->b.normed);
    if (m->tap) m->tap(m->tap_context, m->config.layers, m->b.normed, T);
    score_targets(m, b, x);
    write_selected(m, b);
    write_logits(m, b);
    espl_region_add(ESPL_REGION_HEAD, espl_clock_now() - start);
}

static float *stream(espl_model *m, int64_t i) {
    float *const streams[STREAMS] = {m->b.stream0, m->b.stream1, m->b.stream2};
    return streams[i % STREAMS];
}

static void wait_for(espl_model *m, espl_transfer *t) {
    double start = espl_clock_now();
    espl_comm_wait(m->comm, t);
    espl_region_add(ESPL_REGION_TRANSFER, espl_clock_now() - start);
}

static int64_t stream_bytes(const espl_model *m, const espl_batch *b) {
    return batch_tokens(b) * m->config.hidden * (int64_t)sizeof(float);
}

/* Starts receiving micro-batch i; its buffer may still be on its way out from i - STREAMS. */
static espl_status expect(espl_model *m, const espl_batch *b, int64_t i) {
    if (m->first) return ESPL_OK;
    wait_for(m, &m->sends[i % STREAMS]);
    return espl_comm_receive(m->comm, stream(m, i), stream_bytes(m, b), espl_comm_rank(m->comm) - 1,
                             &m->receives[i % STREAMS]);
}

static void compute(espl_model *m, const espl_batch *b, float *x, int64_t T) {
    flatten(m, b);
    if (m->first) {
        espl_tensor_embed(m->embed->data, m->embed->dtype, m->config.hidden, m->b.ids, T, x);
        if (m->tap) m->tap(m->tap_context, -1, x, T);
    }
    for (int64_t l = 0; l < espl_range_count(m->slice); l++) {
        espl_model_layer_forward(m, l, b, x, T);
        espl_comm_progress(m->comm);
    }
    if (m->last) finish(m, b, x, T);
}

static espl_status step(espl_model *m, const espl_batch *b, int64_t i) {
    /* The first and the last rank of several use the streams only on one side; a single rank has stream 0 alone. */
    float *x = stream(m, m->first && m->last ? 0 : i);
    wait_for(m, m->first ? &m->sends[i % STREAMS] : &m->receives[i % STREAMS]);
    compute(m, b, x, batch_tokens(b));
    if (m->last) return ESPL_OK;
    return espl_comm_send(m->comm, x, stream_bytes(m, b), espl_comm_rank(m->comm) + 1, &m->sends[i % STREAMS]);
}

/* One micro-batch of a stream. */
typedef struct turn {
    espl_batch batch; /* n = 0: nothing to compute */
    bool end;
} turn;

static espl_status fetch(espl_model *m, const espl_stream *s, int64_t i, turn *t) {
    *t = (turn){0};
    ESPL_TRY(s->next(s->context, i, &t->batch, &t->end));
    if (t->end || t->batch.n == 0) return ESPL_OK;
    ESPL_TRY(check_batch(m, &t->batch)); /* the same verdict on every rank */
    return expect(m, &t->batch, i);
}

static espl_status take(espl_model *m, const espl_stream *s, int64_t i, const turn *t) {
    if (t->batch.n > 0) ESPL_TRY(step(m, &t->batch, i));
    return s->done(s->context, i);
}

/* A rank that receives must know the next micro-batch's size before it computes this one; the first rank need not, and
 * so can wait for the results of this one. */
espl_status espl_model_stream(espl_model *m, const espl_stream *s) {
    turn now, ahead = {0};
    espl_status st = fetch(m, s, 0, &now);
    for (int64_t i = 0; st == ESPL_OK && !now.end; i++) {
        if (!m->first) st = fetch(m, s, i + 1, &ahead);
        if (st == ESPL_OK) st = take(m, s, i, &now);
        if (m->first && st == ESPL_OK) st = fetch(m, s, i + 1, &ahead);
        now = ahead;
    }
    for (int i = 0; i < STREAMS; i++) wait_for(m, &m->sends[i]);
    return st;
}

/* Micro-batches that are all known. */
typedef struct list {
    const espl_batch *batches;
    int64_t n;
    espl_model_progress progress;
    void *context;
} list;

static espl_status next_listed(void *context, int64_t i, espl_batch *batch, bool *end) {
    const list *l = context;
    *end = i >= l->n;
    if (!*end) *batch = l->batches[i];
    return ESPL_OK;
}

static espl_status done_listed(void *context, int64_t i) {
    const list *l = context;
    if (l->progress) l->progress(l->context, i + 1, l->n);
    return ESPL_OK;
}

espl_status espl_model_run(espl_model *m, const espl_batch *batches, int64_t n, espl_model_progress progress,
                           void *context) {
    list l = {.batches = batches, .n = n, .progress = progress, .context = context};
    for (int64_t i = 0; i < n; i++) ESPL_TRY(check_batch(m, &batches[i])); /* before anything is computed */
    return espl_model_stream(m, &(espl_stream){.next = next_listed, .done = done_listed, .context = &l});
}

const espl_model_options *espl_model_options_of(const espl_model *m) { return &m->options; }
