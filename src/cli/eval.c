/* SPDX-License-Identifier: Apache-2.0 */
/*
 * espalier eval: perplexity and benchmarks of one model. All inputs are read, and the details file is opened, before
 * the model: a wrong path must not show after hours of work. docs/evaluation.md describes what is measured.
 */
#include "eval.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "espalier/base/integer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/str.h"
#include "espalier/eval/corpus.h"
#include "model.h"

enum { DEFAULT_SHOTS = 5 };      /* as MMLU is published */
enum { FREEBASEQA_TOKENS = 32 }; /* longest answer in standard mode; the set's answers have a few words */

/* ---------------------------------------------------------------- options */

enum {
    KEY_TEXT = CLI_KEY_FIRST,
    KEY_MMLU,
    KEY_FREEBASEQA,
    KEY_CHOICES,
    KEY_MMLU_SPLIT,
    KEY_MMLU_STYLE,
    KEY_FREEBASEQA_MODE,
    KEY_FREEBASEQA_EXAMPLES,
    KEY_SHOTS,
    KEY_CONTEXT,
    KEY_QUESTIONS,
    KEY_SEED,
    KEY_LIMIT,
    KEY_ARITHMETIC,
    KEY_DETAILS
};
enum { GROUP_MEASURES = CLI_GROUP_COMMAND, GROUP_QUESTIONS };

static const struct argp_option eval_argp_options[] = {
    {NULL, 0, NULL, 0, "What to measure (at least one):", GROUP_MEASURES},
    {"text", KEY_TEXT, "FILE", 0, "perplexity of a text; - is standard input", GROUP_MEASURES},
    {"mmlu", KEY_MMLU, "DIR", 0, "MMLU: a directory with dev/, val/ and test/, one CSV file per subject",
     GROUP_MEASURES},
    {"freebaseqa", KEY_FREEBASEQA, "FILE", 0, "FreebaseQA: its JSON file, for example FreebaseQA-eval.json",
     GROUP_MEASURES},
    {"choices", KEY_CHOICES, "FILE", 0, "multiple choice by likelihood: a JSON Lines file", GROUP_MEASURES},
    {"limit", KEY_LIMIT, "N", 0, "evaluate only the first N tokens of --text; without --text the same as --questions",
     GROUP_MEASURES},
    {"arithmetic", KEY_ARITHMETIC, "NAME", 0, "matrix products in f32, or in bf16 by oneDNN (default: f32)",
     GROUP_MEASURES},
    {NULL, 0, NULL, 0, "Questions:", GROUP_QUESTIONS},
    {"questions", KEY_QUESTIONS, "N", 0, "ask a random sample of N questions of each benchmark (default: all)",
     GROUP_QUESTIONS},
    {"seed", KEY_SEED, "N", 0, "seed of the sample (default: 0)", GROUP_QUESTIONS},
    {"shots", KEY_SHOTS, "K", 0, "examples before a question, for MMLU and FreebaseQA (default: 5)", GROUP_QUESTIONS},
    {"context", KEY_CONTEXT, "TOKENS", 0, "maximum length of a prompt (default: the model's maximum context)",
     GROUP_QUESTIONS},
    {"mmlu-split", KEY_MMLU_SPLIT, "NAME", 0, "test, val or dev (default: test)", GROUP_QUESTIONS},
    {"mmlu-style", KEY_MMLU_STYLE, "NAME", 0, "wording of the prompts: hendrycks or lm-eval (default: hendrycks)",
     GROUP_QUESTIONS},
    {"freebaseqa-mode", KEY_FREEBASEQA_MODE, "NAME", 0, "protocol: standard or llm-kick (default: standard)",
     GROUP_QUESTIONS},
    {"freebaseqa-examples", KEY_FREEBASEQA_EXAMPLES, "FILE", 0,
     "take FreebaseQA's examples from FILE (default: the first questions, which are then not asked)", GROUP_QUESTIONS},
    {"details", KEY_DETAILS, "FILE", 0, "write one JSON line per question to FILE", CLI_GROUP_OUTPUT},
    {0}};

static error_t eval_parse(int key, char *value, struct argp_state *state) {
    cli_eval_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return cli_share(state, &o->shared);
    case KEY_TEXT:
        o->text = value;
        return 0;
    case KEY_MMLU:
        o->mmlu = value;
        return 0;
    case KEY_FREEBASEQA:
        o->freebaseqa = value;
        return 0;
    case KEY_CHOICES:
        o->choices = value;
        return 0;
    case KEY_MMLU_SPLIT:
        return espl_mmlu_split_parse(value, &o->mmlu_split)
                   ? 0
                   : cli_fail_choice("mmlu-split", value, ESPL_MMLU_SPLIT_LIST(CLI_LABEL));
    case KEY_MMLU_STYLE:
        return espl_mmlu_style_parse(value, &o->mmlu_style)
                   ? 0
                   : cli_fail_choice("mmlu-style", value, ESPL_MMLU_STYLE_LIST(CLI_LABEL));
    case KEY_FREEBASEQA_MODE:
        return espl_freebaseqa_mode_parse(value, &o->freebaseqa_mode)
                   ? 0
                   : cli_fail_choice("freebaseqa-mode", value, ESPL_FREEBASEQA_MODE_LIST(CLI_LABEL));
    case KEY_FREEBASEQA_EXAMPLES:
        o->freebaseqa_examples = value;
        return 0;
    case KEY_SHOTS:
        return cli_take_integer("shots", value, 0, 1000, &o->shots);
    case KEY_CONTEXT: /* from 16: no question fits into less */
        return cli_take_integer("context", value, 16, CLI_TOKENS_MAX, &o->context);
    case KEY_QUESTIONS:
        return cli_take_integer("questions", value, 1, CLI_COUNT_MAX, &o->questions);
    case KEY_SEED:
        return cli_take_integer("seed", value, 0, CLI_COUNT_MAX, &o->seed);
    case KEY_LIMIT:
        return cli_take_integer("limit", value, 1, CLI_COUNT_MAX, &o->limit);
    case KEY_ARITHMETIC:
        return espl_arithmetic_parse(value, &o->arithmetic)
                   ? 0
                   : cli_fail_choice("arithmetic", value, ESPL_ARITHMETIC_LIST(CLI_LABEL));
    case KEY_DETAILS:
        o->details = value;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child eval_children[] = {
    {&cli_argp_model, 0, NULL, 0},  {&cli_argp_mask, 0, NULL, 0},     {&cli_argp_window, 0, NULL, 0},
    {&cli_argp_batch, 0, NULL, 0},  {&cli_argp_replicas, 0, NULL, 0}, {&cli_argp_json, 0, NULL, 0},
    {&cli_argp_output, 0, NULL, 0}, {&cli_argp_help, 0, NULL, 0},     {0}};
const struct argp cli_eval_argp = {
    .options = eval_argp_options,
    .parser = eval_parse,
    .doc = "Measures a model: perplexity of a text (WikiText-2 convention), MMLU, FreebaseQA, multiple choice.\v"
           "docs/evaluation.md describes the protocols.",
    .children = eval_children};

/* -------------------------------------------------------------- evaluation */

/* An evaluation under way. */
typedef struct evaluation {
    espl_comm *c;
    const cli_eval_options *o;
    espl_tokenizer *t; /* rank 0 */
    espl_model_config config;
    espl_corpus corpus;
    cli_model model;
    FILE *details; /* rank 0 */
    cli_eval_results r;
} evaluation;

/* Collective. Reads everything but the model: the text and the questions, as token ids on every rank. */
static espl_status evaluation_read_inputs(evaluation *e) {
    const cli_eval_options *o = e->o;
    espl_status st = ESPL_OK;
    if (o->details && espl_comm_rank(e->c) == 0) {
        e->details = fopen(o->details, "w");
        if (!e->details) st = ESPL_FAIL(ESPL_IO, "%s: %s", o->details, strerror(errno));
    }
    ESPL_TRY(espl_comm_agree(e->c, st));
    ESPL_TRY(cli_tokenizer_open(e->c, o->shared.model, &e->t));
    ESPL_TRY(espl_comm_agree(e->c, espl_model_config_read(o->shared.model, &e->config)));
    if (o->text) {
        ESPL_TRY(espl_corpus_read(e->c, e->t, o->text, &e->corpus));
        if (e->corpus.n < o->shared.window) /* on every rank alike */
            return ESPL_FAIL(ESPL_CONFIG,
                             "%s: %" PRId64 " tokens are fewer than one window of %" PRId64 ": use a smaller --window",
                             o->text, e->corpus.n, o->shared.window);
    }

    int64_t context = o->context ? o->context : e->config.max_positions;
    if (context == 0) context = CLI_DEFAULT_WINDOW; /* config.json does not state it */
    if (o->mmlu) {
        espl_mmlu_options q = {.dir = o->mmlu,
                               .split = o->mmlu_split,
                               .style = o->mmlu_style,
                               .shots = o->shots,
                               .context = context,
                               .questions = o->questions,
                               .seed = (uint64_t)o->seed};
        ESPL_TRY(espl_mmlu_read(e->c, e->t, &q, &e->r.mmlu));
    }
    if (o->freebaseqa) {
        espl_freebaseqa_options q = {.path = o->freebaseqa,
                                     .shots_path = o->freebaseqa_examples,
                                     .mode = o->freebaseqa_mode,
                                     .shots = o->shots,
                                     .max_tokens = FREEBASEQA_TOKENS,
                                     .context = context,
                                     .questions = o->questions,
                                     .seed = (uint64_t)o->seed};
        ESPL_TRY(espl_freebaseqa_read(e->c, e->t, &q, &e->r.freebaseqa));
    }
    if (o->choices) { /* an empty context is BOS, else EOS, as in lm-evaluation-harness */
        int64_t start = e->config.bos >= 0 ? e->config.bos : e->config.n_eos ? e->config.eos[0] : 0;
        espl_choices_options q = {.path = o->choices,
                                  .context = context,
                                  .start = (int32_t)start,
                                  .questions = o->questions,
                                  .seed = (uint64_t)o->seed};
        ESPL_TRY(espl_choices_read(e->c, e->t, &q, &e->r.choices));
    }
    return ESPL_OK;
}

/* Collective. The text's perplexity, in the convention of Wanda and SparseGPT (espalier/eval/perplexity.h). */
static espl_status evaluation_measure_text(evaluation *e) {
    const cli_eval_options *o = e->o;
    int64_t window = o->shared.window;
    double *window_nll;
    ESPL_INFO("%s: %" PRId64 " tokens of text", o->text, e->corpus.n);
    if (e->config.max_positions > 0 && window > e->config.max_positions)
        ESPL_INFO("note: windows of %" PRId64 " tokens, but the model was trained for at most %" PRId64
                  " (max_position_embeddings)",
                  window, e->config.max_positions);
    espl_status st = espl_mem_alloc(&window_nll, e->corpus.n / window, sizeof *window_nll, "window results");
    ESPL_TRY(espl_comm_agree(e->c, st));
    st = espl_eval_perplexity(e->c, e->model.m, &e->corpus, window, o->limit, window_nll, &e->r.perplexity);
    espl_mem_free(&window_nll);
    if (st == ESPL_OK && !isfinite(e->r.perplexity.perplexity))
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: its perplexity on %s is not a number: its weights hold NaN or infinity, or overflow",
                       o->shared.model, o->text);
    return st;
}

/* Collective. For --verbose: seconds of each region, the mean over ranks and the slowest rank. */
static void evaluation_log_regions(espl_comm *c) {
    double *all = NULL;
    int n = espl_comm_size(c);
    if (espl_comm_agree(c, espl_mem_alloc(&all, n, sizeof *all, "timings")) != ESPL_OK) return;
    for (int r = 0; r < ESPL_REGION_COUNT; r++) {
        double sum = 0, max = 0;
        espl_comm_gather_f64(c, espl_region_seconds((espl_region)r), all);
        for (int i = 0; i < n; i++) {
            sum += all[i];
            max = fmax(max, all[i]);
        }
        ESPL_DEBUG("  %-14s %8.2f s mean, %8.2f s maximum", espl_region_label((espl_region)r), sum / n, max);
    }
    espl_mem_free(&all);
}

/* Rank 0 only. Writes the file of --details, then prints. A model whose logits are not numbers fails, but after the
 * report: it tells which questions. */
static espl_status evaluation_report(evaluation *e) {
    const cli_eval_options *o = e->o;
    espl_str lines = {0};
    espl_status st;
    if (e->details) {
        if (o->mmlu) espl_mmlu_details(&e->r.mmlu, &e->r.mmlu_result, &lines);
        if (o->freebaseqa) espl_freebaseqa_details(&e->r.freebaseqa, &e->r.freebaseqa_result, &lines);
        if (o->choices) espl_choices_details(&e->r.choices, &e->r.choices_result, &lines);
        ESPL_CHECK(st, done, espl_str_status(&lines));
        bool written = fwrite(lines.data, 1, (size_t)lines.len, e->details) == (size_t)lines.len;
        written = fclose(e->details) == 0 && written; /* a full disk may show only here */
        e->details = NULL;
        if (!written) {
            st = ESPL_FAIL(ESPL_IO, "%s: %s", o->details, strerror(errno));
            goto done;
        }
    }
    ESPL_CHECK(st, done, cli_eval_print(e->c, o, &e->r));
    int64_t unanswered = e->r.mmlu_result.unanswered + e->r.choices_result.unanswered;
    if (unanswered > 0)
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: its logits are not numbers for %" PRId64 " questions: its weights hold NaN or infinity, or "
                       "overflow",
                       o->shared.model, unanswered);
done:
    espl_str_free(&lines);
    return st;
}

espl_status cli_eval(espl_comm *c, int argc, char **argv) {
    cli_eval_options o = {.shared.batch = CLI_DEFAULT_BATCH,
                          .shots = DEFAULT_SHOTS,
                          .mmlu_split = ESPL_MMLU_SPLIT_TEST,
                          .mmlu_style = ESPL_MMLU_HENDRYCKS,
                          .freebaseqa_mode = ESPL_FREEBASEQA_STANDARD};
    evaluation e = {.c = c, .o = &o};
    cli_eval_results *r = &e.r;
    espl_status st;
    ESPL_TRY(cli_parse(c, &cli_eval_argp, argc, argv, &o, &o.shared));
    if (o.shared.done) return ESPL_OK;
    bool benchmark = o.mmlu || o.freebaseqa || o.choices;
    if (!o.shared.model) return ESPL_FAIL(ESPL_USAGE, "eval: --model is required");
    if (!benchmark && !o.text)
        return ESPL_FAIL(ESPL_USAGE, "eval: nothing to evaluate: one of --text, --mmlu, --freebaseqa, --choices");
    if (!o.text && !o.questions) o.questions = o.limit;
    if (!benchmark && (o.questions || o.details))
        return ESPL_FAIL(ESPL_USAGE, "--questions and --details belong to --mmlu, --freebaseqa and --choices");
    if (!o.shared.window) o.shared.window = CLI_DEFAULT_WINDOW;
    ESPL_TRY(espl_comm_agree(c, espl_arithmetic_check(o.arithmetic, "--arithmetic")));
    espl_comm *working;
    ESPL_TRY(cli_arrange(c, &o.shared, false, &working));
    if (!working) return ESPL_OK;
    e.c = c = working;
    ESPL_CHECK(st, done, evaluation_read_inputs(&e));

    /* One model for all measures: each raises what it needs. */
    espl_model_options mo = {.context = o.text ? o.shared.window : 1, .batch_tokens = o.shared.batch, .slots = 1};
    if (!benchmark) mo.batch_tokens = espl_min_i64(mo.batch_tokens, mo.context);
    if (o.mmlu) espl_prompts_need(&r->mmlu.prompts, &mo);
    if (o.choices) espl_prompts_need(&r->choices.prompts, &mo);
    if (o.freebaseqa) espl_freebaseqa_need(&r->freebaseqa, &e.config, &mo);
    ESPL_CHECK(st, done, cli_model_open(c, &o.shared, &mo, &e.model));
    espl_workspace_use(espl_model_workspace(e.model.m), o.arithmetic);

    if (o.text) ESPL_CHECK(st, done, evaluation_measure_text(&e));
    if (o.mmlu) ESPL_CHECK(st, done, espl_eval_mmlu(c, e.model.m, &r->mmlu, &r->mmlu_result));
    if (o.freebaseqa) ESPL_CHECK(st, done, espl_eval_freebaseqa(c, e.model.m, &r->freebaseqa, &r->freebaseqa_result));
    if (o.choices) ESPL_CHECK(st, done, espl_eval_choices(c, e.model.m, &r->choices, &r->choices_result));
    evaluation_log_regions(c);
    st = espl_comm_agree(c, espl_comm_rank(c) == 0 ? evaluation_report(&e) : ESPL_OK);
done:
    if (e.details) fclose(e.details);
    cli_model_close(&e.model);
    espl_corpus_free(&e.corpus);
    espl_mmlu_free(&r->mmlu);
    espl_mmlu_result_free(&r->mmlu_result);
    espl_freebaseqa_free(&r->freebaseqa);
    espl_freebaseqa_result_free(&r->freebaseqa_result);
    espl_choices_free(&r->choices);
    espl_choices_result_free(&r->choices_result);
    espl_model_config_free(&e.config);
    espl_tokenizer_close(&e.t);
    espl_comm_release(&working);
    return st;
}
