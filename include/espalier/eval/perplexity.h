/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval/perplexity: log-probabilities of a corpus, and its perplexity.
 */
#ifndef ESPALIER_EVAL_PERPLEXITY_H
#define ESPALIER_EVAL_PERPLEXITY_H

#include "espalier/eval/corpus.h"
#include "espalier/model/model.h"

/* Collective. Log-probability (natural log) of each token given the tokens before it in its window. The corpus is cut
 * into consecutive windows of `window` tokens; the last one may be shorter. out [corpus->n] is the same on every rank;
 * the first token of each window, which nothing predicts, gets NAN. Micro-batches have at most the model's batch_tokens
 * tokens. `what` labels the progress line. ESPL_NOMEM, or a status of espl_model_run. */
espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out);

typedef struct espl_perplexity {
    int64_t window, windows, tokens; /* tokens = window * windows, all that was evaluated */
    double nll;                      /* mean over windows of the mean negative log-likelihood per prediction, nats */
    double nll_stderr;               /* standard error of nll over windows; NAN for a single window */
    double perplexity;               /* exp(nll) */
    double perplexity_stderr;        /* by the delta method: perplexity * nll_stderr */
    double seconds, tokens_per_second;
} espl_perplexity;

/* Local. From window_nll [windows], the means of windows of `window` tokens; without seconds. */
espl_perplexity espl_perplexity_of(const double *window_nll, int64_t windows, int64_t window);

/* Collective. Perplexity as the code of Wanda (arXiv 2306.11695) and SparseGPT (arXiv 2301.00774) computes it on
 * WikiText-2: n / window independent windows without overlap, the tail dropped, window - 1 predictions per window, and
 * perplexity = exp(mean of the windows' means). `limit` > 0 uses only the first `limit` tokens. window_nll
 * [corpus->n / window] receives the mean of each window. Results are the same on every rank. ESPL_CONFIG: fewer tokens
 * than one window. */
espl_status espl_eval_perplexity(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, int64_t limit,
                                 double *window_nll, espl_perplexity *out);

#endif
