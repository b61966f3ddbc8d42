#include "espalier/eval.h"

#include <math.h>

/* The micro-batches of a corpus: each window in pieces of at most `piece` tokens, one segment each. */
typedef struct pass {
    espl_segment *segments;
    espl_batch *batches;
    int64_t n;
    int32_t *targets; /* [corpus]: the next token, -1 at a window's end */
} pass;

static void pass_free(pass *p) {
    espl_mem_free(&p->segments);
    espl_mem_free(&p->batches);
    espl_mem_free(&p->targets);
}

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* logprob[i] is written at the position that predicts token i + 1. */
static void cut(pass *p, const espl_corpus *corpus, int64_t window, int64_t piece, double *logprob) {
    for (int64_t w = 0; w < corpus->n; w += window) {
        int64_t end = min64(w + window, corpus->n);
        for (int64_t at = w; at < end; at += piece) {
            int64_t i = p->n++;
            p->segments[i] = (espl_segment){.pos = at - w,
                                            .n = min64(piece, end - at),
                                            .ids = corpus->ids + at,
                                            .targets = p->targets + at,
                                            .logprob = logprob + at};
            p->batches[i] = (espl_batch){.segments = &p->segments[i], .n = 1};
        }
        for (int64_t t = w; t < end; t++) p->targets[t] = t + 1 < end ? corpus->ids[t + 1] : -1;
    }
}

static espl_status pass_create(pass *p, const espl_corpus *corpus, int64_t window, int64_t piece, double *logprob) {
    int64_t windows = (corpus->n + window - 1) / window;
    int64_t pieces = windows * ((window + piece - 1) / piece);
    ESPL_TRY(espl_mem_alloc(&p->segments, pieces, sizeof *p->segments, "segments"));
    ESPL_TRY(espl_mem_alloc(&p->batches, pieces, sizeof *p->batches, "micro-batches"));
    ESPL_TRY(espl_mem_alloc(&p->targets, corpus->n, sizeof *p->targets, "targets"));
    cut(p, corpus, window, piece, logprob);
    return ESPL_OK;
}

typedef struct progress {
    const char *what;
    const pass *p;
    int64_t tokens, total;
    double start;
} progress;

static void show(void *context, int64_t done, int64_t n) {
    progress *g = context;
    g->tokens += g->p->segments[done - 1].n;
    double seconds = espl_clock_now() - g->start, rate = (double)g->tokens / fmax(seconds, 1e-9);
    espl_log_progress(done == n, "%s: %lld / %lld tokens, %.1f tokens/s, %.0f s to go", g->what, (long long)g->tokens,
                      (long long)g->total, rate, (double)(g->total - g->tokens) / rate);
}

/* Moves each value to the token it belongs to: from the predicting position to the predicted one. */
static void shift(double *out, int64_t n, int64_t window) {
    for (int64_t i = n - 1; i >= 0; i--) out[i] = i % window == 0 ? NAN : out[i - 1];
}

espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out) {
    pass p = {0};
    espl_status st = pass_create(&p, corpus, window, espl_model_batch_tokens(m), out);
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) {
        progress g = {.what = what, .p = &p, .total = corpus->n, .start = espl_clock_now()};
        st = espl_comm_agree(c, espl_model_run(m, p.batches, p.n, show, &g));
    }
    pass_free(&p);
    ESPL_TRY(st);
    espl_comm_broadcast(c, out, corpus->n * (int64_t)sizeof *out, espl_comm_size(c) - 1);
    shift(out, corpus->n, window);
    return ESPL_OK;
}

static double mean_nll(const double *logprob, int64_t window) {
    double sum = 0;
    for (int64_t i = 1; i < window; i++) sum -= logprob[i];
    return sum / (double)(window - 1);
}

static void summarise(const double *logprob, espl_perplexity *r, double *window_nll) {
    double sum = 0, squares = 0;
    for (int64_t w = 0; w < r->windows; w++) {
        window_nll[w] = mean_nll(logprob + w * r->window, r->window);
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
    int64_t n = limit > 0 ? min64(limit, corpus->n) : corpus->n;
    *out = (espl_perplexity){.window = window, .windows = n / window};
    if (out->windows < 1)
        return ESPL_FAIL(ESPL_CONFIG, "%lld tokens are fewer than one window of %lld: use a smaller --window",
                         (long long)n, (long long)window);
    espl_corpus whole = {.ids = corpus->ids, .n = out->windows * window};
    double *logprob, start = espl_clock_now();
    out->tokens = whole.n;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&logprob, whole.n, sizeof *logprob, "log-probabilities")));
    espl_status st = espl_eval_logprobs(c, m, &whole, window, "perplexity", logprob);
    if (st == ESPL_OK) {
        summarise(logprob, out, window_nll);
        out->seconds = espl_clock_now() - start;
        out->tokens_per_second = (double)out->tokens / fmax(out->seconds, 1e-9);
    }
    espl_mem_free(&logprob);
    return st;
}
