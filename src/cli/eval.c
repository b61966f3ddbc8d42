#include "cli.h"

#include <math.h>

static int64_t window_of(const cli_options *o) { return o->window ? o->window : 2048; }

static void put_number(espl_str *s, const char *key, double v) {
    if (isfinite(v))
        espl_str_printf(s, ", \"%s\": %.10g", key, v);
    else
        espl_str_printf(s, ", \"%s\": null", key);
}

static void put_text(espl_str *s, const char *key, const char *value) {
    espl_str_printf(s, "\"%s\": ", key);
    espl_str_put_json(s, value, (int64_t)__builtin_strlen(value));
}

static espl_status print_json(const espl_comm *c, const cli_options *o, const espl_perplexity *r) {
    espl_str s = {0};
    espl_str_puts(&s, "{");
    put_text(&s, "model", o->model);
    espl_str_puts(&s, ", ");
    put_text(&s, "text", o->text);
    espl_str_printf(&s, ", \"window\": %lld, \"windows\": %lld, \"tokens\": %lld", (long long)r->window,
                    (long long)r->windows, (long long)r->tokens);
    put_number(&s, "perplexity", r->perplexity);
    put_number(&s, "perplexity_stderr", r->perplexity_stderr);
    put_number(&s, "nll", r->nll);
    put_number(&s, "nll_stderr", r->nll_stderr);
    put_number(&s, "seconds", r->seconds);
    put_number(&s, "tokens_per_second", r->tokens_per_second);
    espl_str_printf(&s, ", \"ranks\": %d, \"threads\": %d}\n", espl_comm_size(c), espl_tensor_threads());
    espl_status st = espl_str_status(&s);
    if (st == ESPL_OK) fputs(s.data, stdout);
    espl_str_free(&s);
    return st;
}

static void print_text(const espl_perplexity *r) {
    printf("perplexity %.4f", r->perplexity);
    if (isfinite(r->perplexity_stderr)) printf(" +- %.4f", r->perplexity_stderr);
    printf(" (%lld windows of %lld tokens; nll %.6f", (long long)r->windows, (long long)r->window, r->nll);
    if (isfinite(r->nll_stderr)) printf(" +- %.6f", r->nll_stderr);
    printf("; %.1f tokens/s)\n", r->tokens_per_second);
}

/* Seconds per region: the mean over ranks, and the slowest rank. Collective. */
static void print_regions(espl_comm *c) {
    double *all = NULL;
    int n = espl_comm_size(c);
    if (espl_comm_agree(c, espl_mem_alloc(&all, n, sizeof *all, "timings")) != ESPL_OK) return;
    for (int r = 0; r < ESPL_REGION_COUNT; r++) {
        double sum = 0, most = 0;
        espl_comm_gather_f64(c, espl_region_seconds((espl_region)r), all);
        for (int i = 0; i < n; i++) {
            sum += all[i];
            most = fmax(most, all[i]);
        }
        ESPL_DEBUG("  %-14s %8.2f s mean, %8.2f s at most", espl_region_label((espl_region)r), sum / n, most);
    }
    espl_mem_free(&all);
}

static espl_status measure(espl_comm *c, const cli_options *o, const espl_corpus *corpus, espl_model *m) {
    double *window_nll;
    espl_perplexity r;
    int64_t most = corpus->n / window_of(o) + 1;
    ESPL_TRY(espl_comm_agree(c, espl_mem_alloc(&window_nll, most, sizeof *window_nll, "window results")));
    espl_status st = espl_eval_perplexity(c, m, corpus, window_of(o), o->limit, window_nll, &r);
    espl_mem_free(&window_nll);
    ESPL_TRY(st);
    print_regions(c);
    if (espl_comm_rank(c) != 0) return ESPL_OK;
    if (o->json) return print_json(c, o, &r);
    print_text(&r);
    return ESPL_OK;
}

static espl_status with_corpus(espl_comm *c, const cli_options *o, const espl_corpus *corpus) {
    espl_model *m;
    espl_model_options mo = {.context = window_of(o), .batch_tokens = o->batch, .slots = 1};
    if (mo.batch_tokens > mo.context) mo.batch_tokens = mo.context;
    if (corpus->n < mo.context)
        return ESPL_FAIL(ESPL_CONFIG, "%s: %lld tokens are fewer than one window of %lld: use a smaller --window",
                         o->text, (long long)corpus->n, (long long)mo.context);
    ESPL_TRY(espl_model_open(c, o->model, &mo, &m));
    ESPL_INFO("%s: %d rank(s) x %d thread(s), %lld tokens of text", o->model, espl_comm_size(c), espl_tensor_threads(),
              (long long)corpus->n);
    cli_warn_threads(c);
    espl_status st = measure(c, o, corpus, m);
    espl_model_close(&m);
    return st;
}

espl_status cli_eval(espl_comm *c, const cli_options *o) {
    espl_tokenizer *t;
    espl_corpus corpus = {0};
    espl_status st = cli_open_tokenizer(c, o->model, &t);
    if (st == ESPL_OK) st = espl_corpus_read(c, t, o->text, &corpus);
    espl_tokenizer_close(&t);
    if (st == ESPL_OK) st = with_corpus(c, o, &corpus);
    espl_corpus_free(&corpus);
    return st;
}
