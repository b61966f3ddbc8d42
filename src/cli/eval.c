#include "cli.h"
#include "espalier/eval/corpus.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum { DEFAULT_WINDOW = 2048, FREEBASEQA_TOKENS = 32 };

static int64_t window_of(const cli_options *o) { return o->window ? o->window : DEFAULT_WINDOW; }

/* Everything an evaluation needs besides its results. */
typedef struct evaluation {
    espl_comm *c;
    const cli_options *o;
    espl_tokenizer *t; /* rank 0 */
    espl_model_config config;
    espl_corpus corpus;
    espl_model *m;
    espl_masks mask;
    FILE *details; /* rank 0 */
    cli_results r;
} evaluation;

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

/* ---------------------------------------------------------------- names */

static espl_status unknown(const char *option, const char *value, const char *known) {
    return ESPL_FAIL(ESPL_USAGE, "--%s: \"%s\" is not one of %s", option, value, known);
}

static espl_status style_of(const cli_options *o, espl_mmlu_style *out) {
    *out = ESPL_MMLU_HENDRYCKS;
    for (int s = 0; o->mmlu_style && s < ESPL_MMLU_STYLE_COUNT; s++) {
        *out = (espl_mmlu_style)s;
        if (strcmp(o->mmlu_style, espl_mmlu_style_name(*out)) == 0) return ESPL_OK;
    }
    return o->mmlu_style ? unknown("mmlu-style", o->mmlu_style, "hendrycks, lm-eval") : ESPL_OK;
}

static espl_status mode_of(const cli_options *o, espl_freebaseqa_mode *out) {
    *out = ESPL_FREEBASEQA_STANDARD;
    for (int s = 0; o->freebaseqa_mode && s < ESPL_FREEBASEQA_MODE_COUNT; s++) {
        *out = (espl_freebaseqa_mode)s;
        if (strcmp(o->freebaseqa_mode, espl_freebaseqa_mode_name(*out)) == 0) return ESPL_OK;
    }
    return o->freebaseqa_mode ? unknown("freebaseqa-mode", o->freebaseqa_mode, "standard, llm-kick") : ESPL_OK;
}

static espl_status check_options(const cli_options *o) {
    espl_mmlu_style style;
    espl_freebaseqa_mode mode;
    const char *split = o->mmlu_split ? o->mmlu_split : "test";
    ESPL_TRY(style_of(o, &style));
    ESPL_TRY(mode_of(o, &mode));
    if (strcmp(split, "test") != 0 && strcmp(split, "val") != 0 && strcmp(split, "dev") != 0)
        return unknown("mmlu-split", split, "test, val, dev");
    bool benchmark = o->mmlu || o->freebaseqa || o->choices;
    if (!benchmark && !o->text)
        return ESPL_FAIL(ESPL_USAGE, "eval: nothing to evaluate: one of --text, --mmlu, --freebaseqa, --choices");
    if (!benchmark && (o->questions || o->details))
        return ESPL_FAIL(ESPL_USAGE, "--questions and --details belong to --mmlu, --freebaseqa and --choices");
    return ESPL_OK;
}

/* -------------------------------------------------------------- reading */

/* Longest prompt in tokens: as asked, else what the model was made for. */
static int64_t context_of(const evaluation *e) {
    if (e->o->context) return e->o->context;
    return e->config.max_positions ? e->config.max_positions : DEFAULT_WINDOW;
}

static espl_status read_mmlu(evaluation *e) {
    const cli_options *o = e->o;
    espl_mmlu_options q = {.dir = o->mmlu,
                           .split = ESPL_MMLU_SPLIT_TEST,
                           .shots = o->shots,
                           .context = context_of(e),
                           .questions = o->questions,
                           .seed = (uint64_t)o->seed};
    if (o->mmlu_split) (void)espl_mmlu_split_parse(o->mmlu_split, &q.split);
    return style_of(o, &q.style) == ESPL_OK ? espl_mmlu_read(e->c, e->t, &q, &e->r.mmlu) : ESPL_USAGE;
}

static espl_status read_freebaseqa(evaluation *e) {
    const cli_options *o = e->o;
    espl_freebaseqa_options q = {.path = o->freebaseqa,
                                 .shots_path = o->freebaseqa_examples,
                                 .shots = o->shots,
                                 .max_tokens = FREEBASEQA_TOKENS,
                                 .context = context_of(e),
                                 .questions = o->questions,
                                 .seed = (uint64_t)o->seed};
    return mode_of(o, &q.mode) == ESPL_OK ? espl_freebaseqa_read(e->c, e->t, &q, &e->r.freebaseqa) : ESPL_USAGE;
}

static espl_status read_choices(evaluation *e) {
    const cli_options *o = e->o;
    int64_t start = e->config.bos >= 0 ? e->config.bos : e->config.n_eos ? e->config.eos[0] : 0;
    espl_choices_options q = {.path = o->choices,
                              .context = context_of(e),
                              .start = (int32_t)start,
                              .questions = o->questions,
                              .seed = (uint64_t)o->seed};
    return espl_choices_read(e->c, e->t, &q, &e->r.choices);
}

static espl_status check_corpus(const evaluation *e) {
    if (e->corpus.n >= window_of(e->o)) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "%s: %lld tokens are fewer than one window of %lld: use a smaller --window",
                     e->o->text, (long long)e->corpus.n, (long long)window_of(e->o));
}

/* Opened first, so that a wrong path is known before hours of work. */
static espl_status open_details(evaluation *e) {
    if (!e->o->details || espl_comm_rank(e->c) != 0) return ESPL_OK;
    e->details = fopen(e->o->details, "w");
    return e->details ? ESPL_OK : ESPL_FAIL(ESPL_IO, "%s: %s", e->o->details, strerror(errno));
}

static espl_status read_all(evaluation *e) {
    const cli_options *o = e->o;
    ESPL_TRY(espl_comm_agree(e->c, open_details(e)));
    ESPL_TRY(cli_open_tokenizer(e->c, o->model, &e->t));
    ESPL_TRY(espl_comm_agree(e->c, espl_model_config_read(o->model, &e->config)));
    if (o->text) {
        ESPL_TRY(espl_corpus_read(e->c, e->t, o->text, &e->corpus));
        ESPL_TRY(check_corpus(e));
    }
    if (o->mmlu) ESPL_TRY(read_mmlu(e));
    if (o->freebaseqa) ESPL_TRY(read_freebaseqa(e));
    if (o->choices) ESPL_TRY(read_choices(e));
    return ESPL_OK;
}

/* ------------------------------------------------------------ measuring */

/* One model for everything that was asked. */
static espl_status open_model(evaluation *e) {
    const cli_options *o = e->o;
    espl_model_options mo = {.context = o->text ? window_of(o) : 1, .batch_tokens = o->batch, .slots = 1};
    bool benchmark = o->mmlu || o->freebaseqa || o->choices;
    if (!benchmark && mo.batch_tokens > mo.context) mo.batch_tokens = mo.context;
    if (o->mmlu) espl_prompts_need(&e->r.mmlu.prompts, &mo);
    if (o->choices) espl_prompts_need(&e->r.choices.prompts, &mo);
    if (o->freebaseqa) espl_freebaseqa_need(&e->r.freebaseqa, &e->config, espl_comm_size(e->c), &mo);
    ESPL_TRY(espl_model_open(e->c, o->model, &mo, &e->m));
    ESPL_INFO("%s: %d rank(s) x %d thread(s)", o->model, espl_comm_size(e->c), espl_tensor_threads());
    cli_warn_threads(e->c);
    return cli_mask_apply(e->c, o, e->m, &e->mask);
}

static espl_status measure_text(evaluation *e) {
    double *window_nll;
    int64_t most = e->corpus.n / window_of(e->o) + 1;
    ESPL_INFO("%s: %lld tokens of text", e->o->text, (long long)e->corpus.n);
    if (e->config.max_positions > 0 && window_of(e->o) > e->config.max_positions)
        ESPL_INFO("note: windows of %lld tokens, but the model was made for at most %lld (max_position_embeddings)",
                  (long long)window_of(e->o), (long long)e->config.max_positions);
    ESPL_TRY(espl_comm_agree(e->c, espl_mem_alloc(&window_nll, most, sizeof *window_nll, "window results")));
    espl_status st = espl_eval_perplexity(e->c, e->m, &e->corpus, window_of(e->o), e->o->limit, window_nll, &e->r.text);
    espl_mem_free(&window_nll);
    if (st == ESPL_OK && !isfinite(e->r.text.perplexity))
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: its perplexity on %s is not a number: its weights hold NaN or infinity, or overflow",
                       e->o->model, e->o->text);
    return st;
}

static espl_status measure_all(evaluation *e) {
    const cli_options *o = e->o;
    cli_results *r = &e->r;
    if (o->text) ESPL_TRY(measure_text(e));
    if (o->mmlu) ESPL_TRY(espl_eval_mmlu(e->c, e->m, &r->mmlu, &r->mmlu_result));
    if (o->freebaseqa) ESPL_TRY(espl_eval_freebaseqa(e->c, e->m, &r->freebaseqa, &r->freebaseqa_result));
    if (o->choices) ESPL_TRY(espl_eval_choices(e->c, e->m, &r->choices, &r->choices_result));
    print_regions(e->c);
    return ESPL_OK;
}

/* ------------------------------------------------------------ reporting */

static espl_status write_details(evaluation *e) {
    espl_str s = {0};
    if (!e->details) return ESPL_OK;
    if (e->o->mmlu) espl_mmlu_details(&e->r.mmlu, &e->r.mmlu_result, &s);
    if (e->o->freebaseqa) espl_freebaseqa_details(&e->r.freebaseqa, &e->r.freebaseqa_result, &s);
    if (e->o->choices) espl_choices_details(&e->r.choices, &e->r.choices_result, &s);
    espl_status st = espl_str_status(&s);
    bool written = st == ESPL_OK && fwrite(s.data, 1, (size_t)s.len, e->details) == (size_t)s.len;
    written = fclose(e->details) == 0 && written;
    e->details = NULL;
    if (st == ESPL_OK && !written) st = ESPL_FAIL(ESPL_IO, "%s: %s", e->o->details, strerror(errno));
    espl_str_free(&s);
    return st;
}

static espl_status check_answered(const evaluation *e) {
    int64_t n = e->r.mmlu_result.unanswered + e->r.choices_result.unanswered;
    if (n == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: its logits are not numbers for %lld questions: its weights hold NaN or infinity, "
                     "or overflow",
                     e->o->model, (long long)n);
}

static espl_status report(evaluation *e) {
    if (espl_comm_rank(e->c) != 0) return ESPL_OK;
    ESPL_TRY(write_details(e));
    ESPL_TRY(cli_print_results(e->c, e->o, &e->r));
    return check_answered(e);
}

static void evaluation_free(evaluation *e) {
    if (e->details) fclose(e->details);
    espl_model_close(&e->m);
    espl_masks_free(&e->mask);
    espl_corpus_free(&e->corpus);
    espl_mmlu_free(&e->r.mmlu);
    espl_mmlu_result_free(&e->r.mmlu_result);
    espl_freebaseqa_free(&e->r.freebaseqa);
    espl_freebaseqa_result_free(&e->r.freebaseqa_result);
    espl_choices_free(&e->r.choices);
    espl_choices_result_free(&e->r.choices_result);
    espl_model_config_free(&e->config);
    espl_tokenizer_close(&e->t);
}

/* --limit counts what there is: tokens of a text or, without one, questions. */
espl_status cli_eval(espl_comm *c, const cli_options *o) {
    cli_options meant = *o;
    evaluation e = {.c = c, .o = &meant};
    if (!o->text && !o->questions) meant.questions = o->limit;
    ESPL_TRY(check_options(&meant));
    espl_status st = read_all(&e);
    if (st == ESPL_OK) st = open_model(&e);
    if (st == ESPL_OK) st = measure_all(&e);
    if (st == ESPL_OK) st = espl_comm_agree(c, report(&e));
    evaluation_free(&e);
    return st;
}
