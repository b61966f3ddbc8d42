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

espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out) {
    const espl_grid *grid = espl_comm_grid(c);
    int64_t piece = espl_model_options_of(m)->batch_tokens, n = 0;
    int64_t windows = (corpus->n + window - 1) / window;
    int64_t pieces = windows * ((window + piece - 1) / piece); /* an upper bound: the last window may be shorter */
    int64_t *begin = NULL; /* [replicas + 1] tokens: each replica has some of the windows */
    espl_segment *segments = NULL;
    espl_batch *batches = NULL;
    int32_t *targets = NULL; /* [corpus->n] the next token of the window, -1 at its end */
    espl_status st;
    ESPL_CHECK(st, planned, espl_mem_alloc(&segments, pieces, sizeof *segments, "segments"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&batches, pieces, sizeof *batches, "micro-batches"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&targets, corpus->n, sizeof *targets, "targets"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&begin, grid->replicas + 1, sizeof *begin, "shares of the replicas"));
    for (int r = 0; r <= grid->replicas; r++)
        begin[r] = espl_min_i64(espl_part_begin(windows, grid->replicas, r) * window, corpus->n);
    for (int64_t w = begin[grid->replica]; w < begin[grid->replica + 1]; w += window) {
        int64_t end = espl_min_i64(w + window, corpus->n);
        for (int64_t at = w; at < end; at += piece, n++) {
            segments[n] = (espl_segment){.pos = at - w,
                                         .n = espl_min_i64(piece, end - at),
                                         .ids = corpus->ids + at,
                                         .targets = targets + at,
                                         .logprob = out + at};
            batches[n] = (espl_batch){.segments = &segments[n], .n = 1};
        }
        for (int64_t t = w; t < end; t++) targets[t] = t + 1 < end ? corpus->ids[t + 1] : -1;
    }
planned:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_eval_run_batches(c, m, batches, n, corpus->n, what));
    espl_eval_share_results(c, out, begin, 0, sizeof *out);
    /* The model writes at the position that predicts a token. Move each value to the token itself; backwards, so that
     * none is overwritten before it has moved. */
    for (int64_t i = corpus->n - 1; i >= 0; i--) out[i] = i % window == 0 ? NAN : out[i - 1];
done:
    espl_mem_free(&segments);
    espl_mem_free(&batches);
    espl_mem_free(&targets);
    espl_mem_free(&begin);
    return st;
}

/* The standard error treats windows, not tokens, as independent: tokens of one text are correlated. It needs two
 * windows. */
espl_perplexity espl_perplexity_of(const double *window_nll, int64_t windows, int64_t window) {
    espl_perplexity r = {.window = window, .windows = windows, .tokens = windows * window};
    double sum = 0, squares = 0;
    for (int64_t w = 0; w < windows; w++) sum += window_nll[w];
    r.nll = sum / (double)windows;
    for (int64_t w = 0; w < windows; w++) squares += (window_nll[w] - r.nll) * (window_nll[w] - r.nll);
    r.nll_stderr = windows > 1 ? sqrt(squares / (double)(windows - 1) / (double)windows) : NAN;
    r.perplexity = exp(r.nll);
    r.perplexity_stderr = r.perplexity * r.nll_stderr;
    return r;
}

/* window_nll [windows] from the log-probabilities of the windows, whose first tokens nothing predicts. */
static void perplexity_take_means(const double *logprob, int64_t windows, int64_t window, double *window_nll) {
    for (int64_t w = 0; w < windows; w++) {
        const double *x = logprob + w * window;
        double nll = 0;
        for (int64_t i = 1; i < window; i++) nll -= x[i];
        window_nll[w] = nll / (double)(window - 1);
    }
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
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&logprob, whole.n, sizeof *logprob, "log-probabilities")));
    espl_status st = espl_eval_logprobs(c, m, &whole, window, "perplexity", logprob);
    if (st == ESPL_OK) {
        perplexity_take_means(logprob, out->windows, window, window_nll);
        *out = espl_perplexity_of(window_nll, out->windows, window);
        out->seconds = espl_clock_now() - start;
        out->tokens_per_second = (double)out->tokens / fmax(out->seconds, 1e-9);
    }
    espl_mem_free(&logprob);
    return st;
}
