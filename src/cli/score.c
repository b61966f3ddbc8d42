#include "cli.h"

#include <math.h>

static espl_status print_line(const espl_tokenizer *t, int32_t id, double logprob, espl_str *text, espl_str *line) {
    text->len = line->len = 0;
    ESPL_TRY(espl_tokenizer_token_bytes(t, id, text));
    espl_str_printf(line, "{\"id\": %d, \"text\": ", id);
    espl_str_put_json(line, text->len ? text->data : "", text->len);
    if (isfinite(logprob))
        espl_str_printf(line, ", \"logprob\": %.9g}\n", logprob);
    else
        espl_str_puts(line, ", \"logprob\": null}\n");
    ESPL_TRY(espl_str_status(line));
    fputs(line->data, stdout);
    return ESPL_OK;
}

static espl_status print_all(const espl_tokenizer *t, const espl_corpus *corpus, const double *logprob) {
    espl_str text = {0}, line = {0};
    espl_status st = ESPL_OK;
    for (int64_t i = 0; i < corpus->n && st == ESPL_OK; i++)
        st = print_line(t, corpus->ids[i], logprob[i], &text, &line);
    espl_str_free(&text);
    espl_str_free(&line);
    return st;
}

static espl_status score(espl_comm *c, const espl_tokenizer *t, espl_model *m, const espl_corpus *corpus,
                         int64_t window) {
    double *logprob;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&logprob, corpus->n, sizeof *logprob, "log-probabilities")));
    espl_status st = espl_eval_logprobs(c, m, corpus, window, "score", logprob);
    if (st == ESPL_OK && espl_comm_rank(c) == 0) st = print_all(t, corpus, logprob);
    espl_mem_free(&logprob);
    return st;
}

/* Longest context: --window, else what the model was made for; no more than there are tokens. */
static espl_status choose_window(const cli_options *o, const espl_corpus *corpus, int64_t *window) {
    espl_model_config config;
    ESPL_TRY(espl_model_config_read(o->model, &config));
    *window = o->window ? o->window : config.max_positions ? config.max_positions : 2048;
    if (*window > corpus->n) *window = corpus->n < 2 ? 2 : corpus->n;
    espl_model_config_free(&config);
    return ESPL_OK;
}

static espl_status with_corpus(espl_comm *c, const cli_options *o, const espl_tokenizer *t, const espl_corpus *corpus) {
    int64_t window = 0;
    espl_model *m;
    espl_masks mask;
    if (corpus->n == 0) return ESPL_OK; /* no tokens, no lines */
    ESPL_TRY(espl_comm_agree(c, choose_window(o, corpus, &window)));
    espl_model_options mo = {.context = window, .batch_tokens = o->batch < window ? o->batch : window, .slots = 1};
    ESPL_TRY(espl_model_open(c, o->model, &mo, &m));
    espl_status st = cli_mask_apply(c, o, m, &mask);
    if (st == ESPL_OK) st = score(c, t, m, corpus, window);
    espl_model_close(&m);
    espl_masks_free(&mask);
    return st;
}

espl_status cli_score(espl_comm *c, const cli_options *o) {
    espl_tokenizer *t;
    espl_corpus corpus = {0};
    espl_status st = cli_open_tokenizer(c, o->model, &t);
    if (st == ESPL_OK) st = espl_corpus_read(c, t, "-", &corpus);
    if (st == ESPL_OK) st = with_corpus(c, o, t, &corpus);
    espl_corpus_free(&corpus);
    espl_tokenizer_close(&t);
    return st;
}
