/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward pass: micro-batches through the pipeline of ranks.
 *
 * A rank has three buffers for the residual stream, used in turn: one micro-batch is being received, one computed, one
 * being sent. The first rank embeds, the last one computes results from the final hidden states. Results of a segment
 * depend on its own tokens and cache and on the number of tokens of its micro-batch, not on where layers are.
 */
#include "espalier/model/forward.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "espalier/base/region.h"
#include "layer.h"
#include "state.h"

static int64_t batch_tokens(const espl_batch *b) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++) n += b->segments[i].n;
    return n;
}

/* ----------------------------------------------------------------- checks */

static bool wants_row(const espl_segment *s) { return s->logits || s->greedy; }

/* Rows `row` .. row + n - 1 of a slot exist. Written so that no sum overflows. */
static bool rows_fit(const espl_model *m, int64_t slot, int64_t row, int64_t n) {
    return slot >= 0 && slot < m->options.slots && row >= 0 && n >= 0 && row <= m->options.context - n;
}

/* The same verdict on every rank: it depends on what all ranks have. */
static espl_status batch_check(const espl_model *m, const espl_batch *b) {
    int64_t rows = 0, tokens = batch_tokens(b);
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        bool positions = s->n >= 1 && s->pos >= s->prefix_n && s->pos >= 0 && s->pos <= m->options.context - s->n;
        if (!positions || !rows_fit(m, s->slot, s->row, s->pos - s->prefix_n + s->n) ||
            !rows_fit(m, s->prefix_slot, s->prefix_row, s->prefix_n))
            return ESPL_FAIL(ESPL_USAGE,
                             "tokens %" PRId64 " to %" PRId64 " of slot %" PRId64 " do not fit %" PRId64
                             " slots of %" PRId64 " positions",
                             s->pos, s->pos + s->n - 1, s->slot, m->options.slots, m->options.context);
        ESPL_TRY(espl_model_check_ids(m, "token", s->ids, s->n, 0));
        if (s->targets) ESPL_TRY(espl_model_check_ids(m, "target", s->targets, s->n, INT32_MIN)); /* below 0: none */
        if (s->selected) ESPL_TRY(espl_model_check_ids(m, "selected", s->selected, s->n_selected, 0));
        if (s->choices && (s->n_choices < 1 || s->n_choices > ESPL_CHOICES_MAX))
            return ESPL_FAIL(ESPL_USAGE, "%" PRId64 " choices, expected 1 to %d", s->n_choices, ESPL_CHOICES_MAX);
        if (s->choices) ESPL_TRY(espl_model_check_ids(m, "choice", s->choices, s->n_choices, 0));
        rows += wants_row(s);
    }
    if (b->n < 1 || tokens > m->options.batch_tokens || rows > m->options.logits_rows)
        return ESPL_FAIL(ESPL_USAGE,
                         "a micro-batch of %" PRId64 " tokens and %" PRId64 " rows of logits exceeds %" PRId64
                         " and %" PRId64,
                         tokens, rows, m->options.batch_tokens, m->options.logits_rows);
    return ESPL_OK;
}

/* ---------------------------------------------------------------- results */

static bool wants_vocabulary(const espl_segment *s) { return s->targets && !s->choices; }

/* A segment with few targets sends only their rows through the head; of one with many, such as a window of text, all
 * rows go. */
static bool has_few_targets(const espl_segment *s) {
    int64_t targets = 0;
    for (int64_t t = 0; t < s->n; t++) targets += s->targets[t] >= 0;
    return 2 * targets < s->n;
}

/* Log-probabilities of the targets. The rows that go through the head, and their targets, are packed at the front of
 * `packed` [T, hidden], which is overwritten. */
static void write_logprobs(espl_model *m, const espl_batch *b, float *packed) {
    int64_t row = 0, rows = 0, C = m->config.hidden;
    for (int64_t i = 0; i < b->n; row += b->segments[i++].n) {
        const espl_segment *s = &b->segments[i];
        if (!wants_vocabulary(s)) continue;
        bool few = has_few_targets(s);
        for (int64_t t = 0; t < s->n; t++) {
            if (few && s->targets[t] < 0) continue;
            memcpy(packed + rows * C, m->b.normed + (row + t) * C, (size_t)C * sizeof(float));
            m->b.targets[rows++] = s->targets[t];
        }
    }
    if (rows > 0)
        espl_tensor_logprob(&m->ends.head, packed, rows, m->b.targets, m->b.logprob, m->b.partial, m->workspace);
    const double *logprob = m->b.logprob;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (!wants_vocabulary(s)) continue;
        bool few = has_few_targets(s);
        for (int64_t t = 0; t < s->n; t++) s->logprob[t] = few && s->targets[t] < 0 ? 0 : *logprob++;
    }
}

/* Log-probabilities of targets that compete with a few choices. */
static void write_choices(espl_model *m, const espl_batch *b) {
    const float *x = m->b.normed;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (s->targets && s->choices)
            espl_tensor_choices(&m->ends.head, x, s->n, s->targets, s->choices, s->n_choices, 0, s->logprob, NULL,
                                m->workspace);
        x += s->n * m->config.hidden;
    }
}

/* Logits of selected ids after the last token. Each is computed alone, as a row of the head times one token, so that it
 * has the same bits whatever else is in the micro-batch. */
static void write_selected(espl_model *m, const espl_batch *b) {
    const espl_linear *head = &m->ends.head;
    size_t row_bytes = (size_t)m->config.hidden * espl_dtype_size(head->dtype);
    const float *x = m->b.normed;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        x += s->n * m->config.hidden; /* behind the last token */
        for (int64_t k = 0; s->selected && k < s->n_selected; k++) {
            espl_linear one = *head;
            float *y = &s->selected_logits[k];
            one.weight = (const char *)head->weight + (size_t)s->selected[k] * row_bytes;
            one.out = 1;
            espl_tensor_linear(&one, 1, x - m->config.hidden, 1, &y, false, m->workspace);
        }
    }
}

/* The lowest index of the largest logit, -1 if it is NaN. In lanes, so that the compiler can vectorise it. */
static int32_t greedy_id(const float *logits, int64_t vocab) {
    enum { LANES = 16 };
    float lane[LANES], max = logits[0]; /* NaN first stays the maximum, NaN elsewhere never becomes it */
    int64_t i = 0, best = 0;
    for (int j = 0; j < LANES; j++) lane[j] = max;
    for (; i + LANES <= vocab; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] = logits[i + j] > lane[j] ? logits[i + j] : lane[j];
    for (; i < vocab; i++) max = logits[i] > max ? logits[i] : max;
    for (int j = 0; j < LANES; j++) max = lane[j] > max ? lane[j] : max;
    if (isnan(max)) return -1;
    while (best < vocab - 1 && logits[best] != max) best++;
    return (int32_t)best;
}

/* All logits after the last token of the segments that ask for them, whose rows are packed at the front of normed. */
static void write_logits(espl_model *m, const espl_batch *b) {
    int64_t row = 0, rows = 0, C = m->config.hidden, V = m->config.vocab;
    for (int64_t i = 0; i < b->n; i++) {
        row += b->segments[i].n;
        if (wants_row(&b->segments[i]))
            memmove(m->b.normed + rows++ * C, m->b.normed + (row - 1) * C, (size_t)C * sizeof(float));
    }
    if (!rows) return;
    espl_tensor_linear(&m->ends.head, 1, m->b.normed, rows, &m->b.logits, false, m->workspace);
    const float *logits = m->b.logits;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (s->logits) memcpy(s->logits, logits, (size_t)V * sizeof(float));
        if (s->greedy) *s->greedy = greedy_id(logits, V);
        if (wants_row(s)) logits += V;
    }
}

/* --------------------------------------------------------------- pipeline */

/* This rank's part of a micro-batch: x [T, hidden] is its input, unless it embeds, and becomes its output; the last
 * rank writes results instead. */
static void batch_compute(espl_model *m, const espl_batch *b, float *x, int64_t T) {
    int64_t row = 0;
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        for (int64_t t = 0; t < s->n; t++, row++) {
            m->b.ids[row] = s->ids[t];
            m->b.targets[row] = s->targets ? s->targets[t] : -1;
            m->b.positions[row] = s->pos + t;
        }
    }
    if (m->first) {
        espl_layer_embed(m, m->ends.embed, m->b.ids, T, x);
        if (m->tap) m->tap(m->tap_context, -1, x, T);
    }
    for (int64_t l = 0; l < espl_range_count(m->slice); l++) {
        espl_model_layer_forward(m, l, b, x, T);
        espl_comm_progress(m->grid->pipeline); /* MPI moves data only when it is called */
    }
    if (!m->last) return;
    ESPL_REGION_SCOPE(ESPL_REGION_HEAD);
    espl_tensor_rmsnorm(x, m->ends.final_norm, T, m->config.hidden, (float)m->config.rms_eps, m->b.normed);
    if (m->tap) m->tap(m->tap_context, m->config.layers, m->b.normed, T);
    write_logprobs(m, b, x);
    write_choices(m, b);
    write_selected(m, b);
    write_logits(m, b); /* last: it reorders the normed rows */
}

/* A single rank has the first buffer only: nothing is on its way while it computes. */
static float *stream_buffer(espl_model *m, int64_t i) {
    float *const streams[STREAMS] = {m->b.stream0, m->b.stream1, m->b.stream2};
    return streams[m->first && m->last ? 0 : i % STREAMS];
}

/* Of the residual stream of a micro-batch, which is all that travels between ranks. */
static int64_t stream_bytes(const espl_model *m, const espl_batch *b) {
    return batch_tokens(b) * m->config.hidden * (int64_t)sizeof(float);
}

/* One micro-batch of a stream. */
typedef struct stream_turn {
    espl_batch batch; /* n = 0: nothing to compute */
    bool end;
} stream_turn;

/* Asks the stream for micro-batch i and starts receiving it. */
static espl_status stream_fetch(espl_model *m, const espl_stream *s, int64_t i, stream_turn *t) {
    *t = (stream_turn){0};
    ESPL_TRY(s->next(s->context, i, &t->batch, &t->end));
    if (t->end || t->batch.n == 0) return ESPL_OK;
    ESPL_TRY(batch_check(m, &t->batch));
    if (m->first) return ESPL_OK;
    espl_model_wait(m, &m->sends[i % STREAMS]); /* its buffer may still be sending micro-batch i - STREAMS */
    return espl_comm_receive(m->grid->pipeline, stream_buffer(m, i), stream_bytes(m, &t->batch), m->grid->stage - 1,
                             &m->receives[i % STREAMS]);
}

/* A rank that receives must know the next micro-batch's size before it computes this one. The first rank need not, and
 * so can let the next one depend on the results of this one. */
espl_status espl_model_stream(espl_model *m, const espl_stream *s) {
    stream_turn now, ahead = {0};
    espl_status st = stream_fetch(m, s, 0, &now);
    for (int64_t i = 0; st == ESPL_OK && !now.end; i++) {
        if (!m->first) ESPL_CHECK(st, done, stream_fetch(m, s, i + 1, &ahead));
        if (now.batch.n > 0) {
            float *x = stream_buffer(m, i);
            /* The first rank overwrites what it sent STREAMS turns ago, the others need their input. */
            espl_model_wait(m, m->first ? &m->sends[i % STREAMS] : &m->receives[i % STREAMS]);
            batch_compute(m, &now.batch, x, batch_tokens(&now.batch));
            if (!m->last)
                ESPL_CHECK(st, done,
                           espl_comm_send(m->grid->pipeline, x, stream_bytes(m, &now.batch), m->grid->stage + 1,
                                          &m->sends[i % STREAMS]));
        }
        ESPL_CHECK(st, done, s->done(s->context, i));
        if (m->first) ESPL_CHECK(st, done, stream_fetch(m, s, i + 1, &ahead));
        now = ahead;
    }
done:
    for (int i = 0; i < STREAMS; i++) espl_model_wait(m, &m->sends[i]); /* the next stream reuses the buffers */
    return st;
}

/* ----------------------------------------------------------- known batches */

/* espl_model_run is a stream of batches that are all known. */
typedef struct batch_list {
    const espl_batch *batches;
    int64_t n;
    espl_model_progress progress;
    void *context;
} batch_list;

static espl_status batch_list_next(void *context, int64_t i, espl_batch *batch, bool *end) {
    const batch_list *l = context;
    *end = i >= l->n;
    if (!*end) *batch = l->batches[i];
    return ESPL_OK;
}

static espl_status batch_list_done(void *context, int64_t i) {
    const batch_list *l = context;
    if (l->progress) l->progress(l->context, i + 1, l->n);
    return ESPL_OK;
}

espl_status espl_model_run(espl_model *m, const espl_batch *batches, int64_t n, espl_model_progress progress,
                           void *context) {
    batch_list l = {.batches = batches, .n = n, .progress = progress, .context = context};
    for (int64_t i = 0; i < n; i++) ESPL_TRY(batch_check(m, &batches[i])); /* all, before anything is computed */
    return espl_model_stream(m, &(espl_stream){.next = batch_list_next, .done = batch_list_done, .context = &l});
}
