/* Micro-batches through the pipeline. */
#include "internal.h"

#include <string.h>

static int64_t batch_tokens(const espl_batch *b) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++) n += b->segments[i].n;
    return n;
}

static espl_status check_segment(const espl_model *m, const espl_segment *s) {
    int64_t vocab = m->config.vocab;
    if (s->slot < 0 || s->slot >= m->options.slots || s->n < 1 || s->pos < 0 || s->pos > m->options.context - s->n)
        return ESPL_FAIL(ESPL_USAGE, "tokens %lld to %lld of slot %lld do not fit %lld slots of %lld positions",
                         (long long)s->pos, (long long)(s->pos + s->n - 1), (long long)s->slot,
                         (long long)m->options.slots, (long long)m->options.context);
    for (int64_t i = 0; i < s->n; i++) {
        if (s->ids[i] < 0 || s->ids[i] >= vocab)
            return ESPL_FAIL(ESPL_USAGE, "token id %d is outside the model's vocabulary of %lld", s->ids[i],
                             (long long)vocab);
        if (s->targets && s->targets[i] >= vocab)
            return ESPL_FAIL(ESPL_USAGE, "target id %d is outside the model's vocabulary of %lld", s->targets[i],
                             (long long)vocab);
    }
    return ESPL_OK;
}

static espl_status check_batch(const espl_model *m, const espl_batch *b) {
    int64_t rows = 0;
    for (int64_t i = 0; i < b->n; i++) {
        ESPL_TRY(check_segment(m, &b->segments[i]));
        rows += b->segments[i].logits != NULL;
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

static void score_targets(espl_model *m, const espl_batch *b, int64_t T) {
    bool any = false;
    int64_t row = 0;
    for (int64_t i = 0; i < b->n; i++) any = any || b->segments[i].targets;
    if (!any) return;
    espl_tensor_logprob(&m->head, m->b.normed, T, m->b.targets, m->b.logprob, m->b.partial, m->workspace);
    for (int64_t i = 0; i < b->n; i++) {
        const espl_segment *s = &b->segments[i];
        if (s->targets) memcpy(s->logprob, m->b.logprob + row, (size_t)s->n * sizeof *s->logprob);
        row += s->n;
    }
}

/* Logits of the last token of the segments that ask for them: their rows are packed first. */
static void write_logits(espl_model *m, const espl_batch *b) {
    int64_t row = 0, rows = 0, C = m->config.hidden, V = m->config.vocab;
    for (int64_t i = 0; i < b->n; i++) {
        row += b->segments[i].n;
        if (b->segments[i].logits)
            memmove(m->b.normed + rows++ * C, m->b.normed + (row - 1) * C, (size_t)C * sizeof(float));
    }
    if (!rows) return;
    espl_tensor_linear(&m->head, 1, m->b.normed, rows, &m->b.logits, false, m->workspace);
    rows = 0;
    for (int64_t i = 0; i < b->n; i++)
        if (b->segments[i].logits) memcpy(b->segments[i].logits, m->b.logits + rows++ * V, (size_t)V * sizeof(float));
}

static void finish(espl_model *m, const espl_batch *b, const float *x, int64_t T) {
    double start = espl_clock_now();
    espl_tensor_rmsnorm(x, m->final_norm, T, m->config.hidden, (float)m->config.rms_eps, m->b.normed);
    if (m->tap) m->tap(m->tap_context, m->config.layers, m->b.normed, T);
    score_targets(m, b, T);
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
static espl_status expect(espl_model *m, const espl_batch *batches, int64_t n, int64_t i) {
    if (i >= n || m->first) return ESPL_OK;
    wait_for(m, &m->sends[i % STREAMS]);
    return espl_comm_receive(m->comm, stream(m, i), stream_bytes(m, &batches[i]), espl_comm_rank(m->comm) - 1,
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

static espl_status step(espl_model *m, const espl_batch *batches, int64_t n, int64_t i) {
    const espl_batch *b = &batches[i];
    /* The first and the last rank of several use the streams only on one side; a single rank has stream 0 alone. */
    float *x = stream(m, m->first && m->last ? 0 : i);
    ESPL_TRY(expect(m, batches, n, i + 1));
    wait_for(m, m->first ? &m->sends[i % STREAMS] : &m->receives[i % STREAMS]);
    compute(m, b, x, batch_tokens(b));
    if (m->last) return ESPL_OK;
    return espl_comm_send(m->comm, x, stream_bytes(m, b), espl_comm_rank(m->comm) + 1, &m->sends[i % STREAMS]);
}

espl_status espl_model_run(espl_model *m, const espl_batch *batches, int64_t n, espl_model_progress progress,
                           void *context) {
    for (int64_t i = 0; i < n; i++) ESPL_TRY(check_batch(m, &batches[i])); /* the same verdict on every rank */
    espl_status st = expect(m, batches, n, 0);
    for (int64_t i = 0; i < n && st == ESPL_OK; i++) {
        st = step(m, batches, n, i);
        if (progress) progress(context, i + 1, n);
    }
    for (int i = 0; i < STREAMS; i++) wait_for(m, &m->sends[i]);
    return st;
}
