/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log-probabilities and perplexity of a corpus, in windows that do not see each other.
 *
 * A window is one sequence. It passes through the model in pieces of at most a micro-batch, each piece a segment and a
 * micro-batch of its own: a window's bits then depend neither on its neighbours nor on how many windows there are.
 */
#include "espalier/eval/perplexity.h"

#include <inttypes.h>
#include <math.h>

#include "run_batches.h"

typedef struct corpus_pass {
    espl_segment *segments; /* [n] */
    espl_batch *batches;    /* [n] one segment each */
    int64_t n;
    int32_t *targets; /* [corpus->n] the next token of the window, -1 at its end */
} corpus_pass;

static void corpus_pass_free(corpus_pass *p) {
    espl_mem_free(&p->segments);
    espl_mem_free(&p->batches);
    espl_mem_free(&p->targets);
}

/* logprob [corpus->n]: the model writes at the position that predicts a token, not at the token's own. */
static espl_status corpus_pass_create(const espl_corpus *corpus, int64_t window, int64_t piece, double *logprob,
                                      corpus_pass *p) {
    int64_t windows = (corpus->n + window - 1) / window;
    int64_t pieces = windows * ((window + piece - 1) / piece); /* an upper bound: the last window may be shorter */
    ESPL_TRY(espl_mem_alloc(&p->segments, pieces, sizeof *p->segments, "segments"));
    ESPL_TRY(espl_mem_alloc(&p->batches, pieces, sizeof *p->batches, "micro-batches"));
    ESPL_TRY(espl_mem_alloc(&p->targets, corpus->n, sizeof *p->targets, "targets"));
    for (int64_t w = 0; w < corpus->n; w += window) {
        int64_t end = espl_min_i64(w + window, corpus->n);
        for (int64_t at = w; at < end; at += piece) {
            int64_t i = p->n++;
            p->segments[i] = (espl_segment){.pos = at - w,
                                            .n = espl_min_i64(piece, end - at),
                                            .ids = corpus->ids + at,
                                            .targets = p->targets + at,
                                            .logprob = logprob + at};
            p->batches[i] = (espl_batch){.segments = &p->segments[i], .n = 1};
        }
        for (int64_t t = w; t < end; t++) p->targets[t] = t + 1 < end ? corpus->ids[t + 1] : -1;
    }
    return ESPL_OK;
}

espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out) {
    corpus_pass p = {0};
    espl_status st = espl_comm_agree(c, corpus_pass_create(corpus, window, espl_model_batch_tokens(m), out, &p));
    if (st == ESPL_OK) st = espl_eval_run_batches(c, m, p.batches, p.n, what);
    corpus_pass_free(&p);
    ESPL_TRY(st);
    espl_comm_broadcast(c, out, corpus->n * (int64_t)sizeof *out, espl_comm_size(c) - 1);
    /* From the predicting position to the predicted token; backwards, so that nothing is overwritten too early. */
    for (int64_t i = corpus->n - 1; i >= 0; i--) out[i] = i % window == 0 ? NAN : out[i - 1];
    return ESPL_OK;
}

/* Fills r->nll .. r->perplexity_stderr from the log-probabilities of r->windows windows. */
static void perplexity_summarise(const double *logprob, espl_perplexity *r, double *window_nll) {
    double sum = 0, squares = 0;
    for (int64_t w = 0; w < r->windows; w++) {
        const double *x = logprob + w * r->window;
        double nll = 0;
        for (int64_t i = 1; i < r->window; i++) nll -= x[i];
        window_nll[w] = nll / (double)(r->window - 1);
        sum += window_nll[w];
    }
    r->nll = sum / (double)r->windows;
    for (int64_t w = 0; w < r->windows; w++) squares += (window_nll[w] - r->nll) * (window_nll[w] - r->nll);
    r->nll_stderr = r->windows > 1 ? sqrt(squares / (double)(r->windows - 1) / (double)r->windows) : NAN;
    r->perplexity = exp(r->nll);
    r->perplexity_stderr = r->perplexity * r->nll_stderr;
}

espl_status espl_eval_perplexity(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, int64_t limit,
                                 double *window_nll, espl_perplexity *out) {
    int64_t n = limit > 0 ? espl_min_i64(limit, corpus->n) : corpus->n;
    *out = (espl_perplexity){.window = window, .windows = n / window};
    if (out->windows < 1) /* the same on every rank */
        return ESPL_FAIL(ESPL_CONFIG,
                         "%" PRId64 " tokens are fewer than one window of %" PRId64 ": use a smaller --window", n,
                         window);
    espl_corpus whole = {.ids = corpus->ids, .n = out->windows * window};
    double *logprob, start = espl_clock_now();
    out->tokens = whole.n;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&logprob, whole.n, sizeof *logprob, "log-probabilities")));
    espl_status st = espl_eval_logprobs(c, m, &whole, window, "perplexity", logprob);
    if (st == ESPL_OK) {
        perplexity_summarise(logprob, out, window_nll);
        out->seconds = espl_clock_now() - start;
        out->tokens_per_second = (double)out->tokens / fmax(out->seconds, 1e-9);
    }
    espl_mem_free(&logprob);
    return st;
}
