/* SPDX-License-Identifier: Apache-2.0 */
/* espalier score: the log-probability of every token of standard input, one JSON line each. */
#include <stdio.h>

#include "commands.h"
#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/str.h"
#include "espalier/eval/perplexity.h"
#include "model.h"
#include "options.h"

enum { LOGPROB_DIGITS = 9 }; /* a float needs 9 to be told from its neighbours */

static const struct argp_option score_argp_options[] = {{0}};

static error_t score_parse(int key, char *value, struct argp_state *state) {
    (void)value;
    return key == ARGP_KEY_INIT ? cli_share(state, state->input) : ARGP_ERR_UNKNOWN;
}

static const struct argp_child score_children[] = {{&cli_argp_model, 0, NULL, 0},    {&cli_argp_mask, 0, NULL, 0},
                                                   {&cli_argp_window, 0, NULL, 0},   {&cli_argp_batch, 0, NULL, 0},
                                                   {&cli_argp_replicas, 0, NULL, 0}, {&cli_argp_output, 0, NULL, 0},
                                                   {&cli_argp_help, 0, NULL, 0},     {0}};
const struct argp cli_score_argp = {
    .options = score_argp_options,
    .parser = score_parse,
    .doc = "Prints the log-probability of every token of standard input, given the tokens before it in its window.\v"
           "One JSON object per token: {\"id\": ..., \"text\": ..., \"logprob\": ...}. The first token of a window "
           "has nothing before it: its logprob is null.",
    .children = score_children};

/* Rank 0 only. One line per token, from buffers that are used again: a text may have millions. */
static espl_status score_print(const espl_tokenizer *t, const espl_corpus *corpus, const double *logprob) {
    espl_str text = {0}, line = {0};
    espl_status st = ESPL_OK;
    for (int64_t i = 0; i < corpus->n; i++) {
        text.len = line.len = 0;
        ESPL_CHECK(st, done, espl_tokenizer_token_bytes(t, corpus->ids[i], &text));
        espl_json_writer w = espl_json_writer_on(&line);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_i64(&w, "id", corpus->ids[i]);
        espl_json_put_bytes(&w, "text", text.len ? text.data : "", text.len);
        espl_json_put_rounded(&w, "logprob", logprob[i], LOGPROB_DIGITS);
        espl_json_close(&w);
        espl_str_puts(&line, "\n");
        ESPL_CHECK(st, done, espl_str_status(&line));
        fputs(line.data, stdout);
    }
done:
    espl_str_free(&text);
    espl_str_free(&line);
    return st;
}

espl_status cli_score(espl_comm *c, int argc, char **argv) {
    cli_shared o = {.batch = CLI_DEFAULT_BATCH};
    espl_tokenizer *t = NULL;
    espl_corpus corpus = {0};
    espl_model_config config = {0};
    cli_model model = {0};
    double *logprob = NULL;
    espl_comm *working;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_score_argp, argc, argv, &o, &o));
    if (o.done) return ESPL_OK;
    if (!o.model) return ESPL_FAIL(ESPL_USAGE, "score: --model is required");
    ESPL_TRY(cli_arrange(c, &o, false, &working));
    if (!working) return ESPL_OK;
    c = working;

    ESPL_CHECK(st, done, cli_tokenizer_open(c, o.model, &t));
    ESPL_CHECK(st, done, espl_corpus_read_stdin(c, t, &corpus));
    if (corpus.n == 0) goto done; /* no tokens, no lines */
    ESPL_CHECK(st, done, espl_comm_agree(c, espl_model_config_read(o.model, &config)));
    int64_t window = o.window ? o.window : config.max_positions ? config.max_positions : CLI_DEFAULT_WINDOW;
    window = espl_min_i64(window, espl_max_i64(corpus.n, 2)); /* a short text needs no more memory than it fills */
    espl_model_options mo = {.context = window, .batch_tokens = espl_min_i64(o.batch, window), .slots = 1};
    ESPL_CHECK(st, done, cli_model_open(c, &o, &mo, &model));
    st = espl_mem_alloc(&logprob, corpus.n, sizeof *logprob, "log-probabilities");
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_eval_logprobs(c, model.m, &corpus, window, "score", logprob));
    if (espl_comm_rank(c) == 0) st = score_print(t, &corpus, logprob);
done:
    espl_mem_free(&logprob);
    cli_model_close(&model);
    espl_model_config_free(&config);
    espl_corpus_free(&corpus);
    espl_tokenizer_close(&t);
    espl_comm_release(&working);
    return st;
}
