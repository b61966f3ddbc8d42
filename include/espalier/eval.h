/*
 * eval: corpora and the measures taken on them. Results are the same on every rank, whatever their number.
 */
#ifndef ESPALIER_EVAL_H
#define ESPALIER_EVAL_H

#include "espalier/comm.h"
#include "espalier/model.h"
#include "espalier/tokenizer.h"

/* A text as token ids, the same on every rank. */
typedef struct espl_corpus {
    int32_t *ids; /* [n], owned */
    int64_t n;
} espl_corpus;

/* Collective. Rank 0 reads the file (or "-") and encodes it with the directory's tokenizer, special tokens as the
 * tokenizer adds them by default; the ids go to all ranks. t is used on rank 0 only (NULL elsewhere).
 * ESPL_IO, ESPL_FORMAT. Free with espl_corpus_free. */
espl_status espl_corpus_read(espl_comm *c, const espl_tokenizer *t, const char *path, espl_corpus *out);
/* Collective. The same from bytes that rank 0 holds. */
espl_status espl_corpus_encode(espl_comm *c, const espl_tokenizer *t, const char *text, int64_t len, espl_corpus *out);
void espl_corpus_free(espl_corpus *c);

/* Collective. Log-probability of each token given the tokens before it in its window: the corpus is cut into
 * consecutive windows of `window` tokens, the last one shorter. out [n] (natural log, double); the first token of a
 * window has NAN. Micro-batches are the model's batch_tokens long. `what` names the work in the progress line. */
espl_status espl_eval_logprobs(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, const char *what,
                               double *out);

typedef struct espl_perplexity {
    int64_t window, windows, tokens; /* tokens = window * windows: what was evaluated */
    double nll;                      /* mean over windows of the mean negative log-likelihood, nats */
    double nll_stderr;               /* standard error of that mean over windows; NAN for one window */
    double perplexity;               /* exp(nll) */
    double perplexity_stderr;        /* delta method: perplexity * nll_stderr */
    double seconds, tokens_per_second;
} espl_perplexity;

/* Collective. WikiText-2 convention of the Wanda and SparseGPT code: n = tokens / window independent windows, the tail
 * dropped, `window - 1` predictions each, perplexity = exp(mean of window means). limit > 0: only the first `limit`
 * tokens. window_nll [corpus->n / window] takes each window's mean. ESPL_CONFIG: fewer tokens than one window. */
espl_status espl_eval_perplexity(espl_comm *c, espl_model *m, const espl_corpus *corpus, int64_t window, int64_t limit,
                                 double *window_nll, espl_perplexity *out);

/* Called on rank 0 with the generated ids so far; false ends the generation (on every rank). */
typedef bool (*espl_on_token)(void *context, const int32_t *ids, int64_t n);

/* Collective. Continues `prompt` (n >= 1) by up to max_tokens tokens: greedy or sampled, KV-cached, ending after an
 * end-of-sequence token of the model, which is not appended. out [max_tokens]; *n_out on every rank. The model must be
 * opened with logits_rows >= 1 and context >= prompt + max_tokens. */
espl_status espl_eval_generate(espl_comm *c, espl_model *m, const espl_corpus *prompt, int64_t max_tokens,
                               const espl_sampling *s, uint64_t seed, espl_on_token on_token, void *context,
                               int32_t *out, int64_t *n_out);

#endif
