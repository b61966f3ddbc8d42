/* What `eval` prints. */
#include "cli.h"

#include <math.h>
#include <string.h>

static void put_number(espl_str *s, const char *key, double v) {
    if (isfinite(v))
        espl_str_printf(s, ", \"%s\": %.10g", key, v);
    else
        espl_str_printf(s, ", \"%s\": null", key);
}

static void put_text(espl_str *s, const char *key, const char *value) {
    espl_str_printf(s, "\"%s\": ", key);
    espl_str_put_json(s, value, (int64_t)strlen(value));
}

static void put_share(espl_str *s, const espl_proportion *v) {
    espl_str_printf(s, "{\"hits\": %lld, \"questions\": %lld", (long long)v->hits, (long long)v->n);
    put_number(s, "rate", v->rate);
    put_number(s, "low", v->low);
    put_number(s, "high", v->high);
    espl_str_puts(s, "}");
}

static void put_ranks(espl_str *s, const espl_comm *c) {
    espl_str_printf(s, ", \"ranks\": %d, \"threads\": %d}", espl_comm_size(c), espl_tensor_threads());
}

/* ----------------------------------------------------------- perplexity */

static void put_perplexity(espl_str *s, const cli_options *o, const espl_perplexity *r) {
    put_text(s, "text", o->text);
    espl_str_printf(s, ", \"window\": %lld, \"windows\": %lld, \"tokens\": %lld", (long long)r->window,
                    (long long)r->windows, (long long)r->tokens);
    put_number(s, "perplexity", r->perplexity);
    put_number(s, "perplexity_stderr", r->perplexity_stderr);
    put_number(s, "nll", r->nll);
    put_number(s, "nll_stderr", r->nll_stderr);
    put_number(s, "seconds", r->seconds);
    put_number(s, "tokens_per_second", r->tokens_per_second);
}

static void print_perplexity(const espl_perplexity *r) {
    printf("perplexity %.4f", r->perplexity);
    if (isfinite(r->perplexity_stderr)) printf(" +- %.4f", r->perplexity_stderr);
    printf(" (%lld windows of %lld tokens; nll %.6f", (long long)r->windows, (long long)r->window, r->nll);
    if (isfinite(r->nll_stderr)) printf(" +- %.6f", r->nll_stderr);
    printf("; %.1f tokens/s)\n", r->tokens_per_second);
}

static void print_count(int64_t n, const char *what) {
    if (n) printf("  %lld %s\n", (long long)n, what);
}

/* ----------------------------------------------------------------- MMLU */

/* A sample need not touch all. */
static int64_t asked_subjects(const espl_mmlu *m, const espl_mmlu_result *r) {
    int64_t n = 0;
    for (int64_t s = 0; s < m->n_subjects; s++) n += r->subjects[s].n > 0;
    return n;
}

static void put_mmlu_shares(espl_str *s, const espl_mmlu *m, const espl_mmlu_result *r) {
    const char *comma = "";
    espl_str_puts(s, ", \"micro\": ");
    put_share(s, &r->micro);
    espl_str_puts(s, ", \"macro\": {\"subjects\": ");
    espl_str_printf(s, "%lld", (long long)asked_subjects(m, r));
    put_number(s, "rate", r->macro);
    put_number(s, "low", r->macro_low);
    put_number(s, "high", r->macro_high);
    espl_str_puts(s, "}, \"categories\": {");
    for (int i = 0; i < ESPL_MMLU_CATEGORY_COUNT; i++, comma = ", ") {
        espl_str_printf(s, "%s\"%s\": ", comma, espl_mmlu_category_name((espl_mmlu_category)i));
        put_share(s, &r->categories[i]);
    }
    espl_str_puts(s, "}, \"subjects\": {");
    comma = "";
    for (int64_t i = 0; i < m->n_subjects; i++, comma = ", ") {
        espl_str_puts(s, comma);
        espl_str_put_json(s, m->subjects[i].name, (int64_t)strlen(m->subjects[i].name));
        espl_str_puts(s, ": ");
        put_share(s, &r->subjects[i]);
    }
    espl_str_puts(s, "}");
}

static void put_mmlu(espl_str *s, const cli_options *o, const cli_results *all) {
    const espl_mmlu_result *r = &all->mmlu_result;
    espl_str_puts(s, "\"mmlu\": {");
    put_text(s, "data", o->mmlu);
    espl_str_printf(s, ", \"split\": \"%s\", \"style\": \"%s\", \"shots\": %lld",
                    o->mmlu_split ? o->mmlu_split : "test", o->mmlu_style ? o->mmlu_style : "hendrycks",
                    (long long)o->shots);
    put_mmlu_shares(s, &all->mmlu, r);
    espl_str_printf(s, ", \"near_ties\": %lld, \"dropped_shots\": %lld, \"cut\": %lld, \"unanswered\": %lld",
                    (long long)r->near_ties, (long long)r->dropped_shots, (long long)r->cut, (long long)r->unanswered);
    put_number(s, "seconds", r->seconds);
    espl_str_puts(s, "}");
}

static void print_share(const char *name, const espl_proportion *s) {
    if (s->n == 0) return;
    printf("  %-38s %6.2f %%  [%5.2f, %5.2f]  %lld / %lld\n", name, 100 * s->rate, 100 * s->low, 100 * s->high,
           (long long)s->hits, (long long)s->n);
}

static void print_mmlu(const cli_options *o, const cli_results *all) {
    const espl_mmlu *m = &all->mmlu;
    const espl_mmlu_result *r = &all->mmlu_result;
    printf("MMLU, %s split, %s prompts, up to %lld shots (95 %% Wilson intervals)\n",
           o->mmlu_split ? o->mmlu_split : "test", o->mmlu_style ? o->mmlu_style : "hendrycks", (long long)o->shots);
    for (int64_t i = 0; i < m->n_subjects; i++) print_share(m->subjects[i].name, &r->subjects[i]);
    for (int i = 0; i < ESPL_MMLU_CATEGORY_COUNT; i++)
        print_share(espl_mmlu_category_name((espl_mmlu_category)i), &r->categories[i]);
    print_share("all questions (micro average)", &r->micro);
    printf("  %-38s %6.2f %%  [%5.2f, %5.2f]\n", "mean of subjects (macro average)", 100 * r->macro, 100 * r->macro_low,
           100 * r->macro_high);
    print_count(r->dropped_shots, "questions had no room for all examples");
    print_count(r->cut, "questions were cut from the left to fit the context");
    print_count(r->near_ties, "near ties: two best letters within 1e-4");
    print_count(r->unanswered, "questions without an answer: the model's logits are not numbers");
}

/* ----------------------------------------------------------- FreebaseQA */

static void put_freebaseqa(espl_str *s, const cli_options *o, const cli_results *all) {
    const espl_freebaseqa_result *r = &all->freebaseqa_result;
    bool standard = all->freebaseqa.mode == ESPL_FREEBASEQA_STANDARD;
    espl_str_puts(s, "\"freebaseqa\": {");
    put_text(s, "data", o->freebaseqa);
    espl_str_printf(s, ", \"mode\": \"%s\", \"shots\": %lld, ", espl_freebaseqa_mode_name(all->freebaseqa.mode),
                    (long long)all->freebaseqa.shots);
    if (standard) {
        espl_str_puts(s, "\"exact\": ");
        put_share(s, &r->exact);
        espl_str_puts(s, ", ");
    }
    espl_str_printf(s, "\"%s\": ", standard ? "contains" : "match");
    put_share(s, &r->contains);
    espl_str_printf(s, ", \"tokens\": %lld", (long long)r->tokens);
    put_number(s, "seconds", r->seconds);
    espl_str_puts(s, "}");
}

static void print_freebaseqa(const cli_results *all) {
    const espl_freebaseqa_result *r = &all->freebaseqa_result;
    bool standard = all->freebaseqa.mode == ESPL_FREEBASEQA_STANDARD;
    printf("FreebaseQA, %s mode, %lld shots (95 %% Wilson intervals)\n",
           espl_freebaseqa_mode_name(all->freebaseqa.mode), (long long)all->freebaseqa.shots);
    if (standard) print_share("exact match", &r->exact);
    print_share(standard ? "contains an answer" : "answer found in prompt or output", &r->contains);
}

/* -------------------------------------------------------------- choices */

static void put_choices(espl_str *s, const cli_options *o, const espl_choices_result *r) {
    espl_str_puts(s, "\"choices\": {");
    put_text(s, "data", o->choices);
    espl_str_puts(s, ", \"acc\": ");
    put_share(s, &r->acc);
    espl_str_puts(s, ", \"acc_norm\": ");
    put_share(s, &r->acc_norm);
    espl_str_printf(s, ", \"unanswered\": %lld", (long long)r->unanswered);
    put_number(s, "seconds", r->seconds);
    espl_str_puts(s, "}");
}

static void print_choices(const espl_choices_result *r) {
    puts("multiple choice by likelihood (95 % Wilson intervals)");
    print_share("acc", &r->acc);
    print_share("acc_norm", &r->acc_norm);
    print_count(r->unanswered, "questions without an answer: the model's logits are not numbers");
}

/* ------------------------------------------------------------------ all */

/* A text alone is one flat object; otherwise each measure is a member. */
static void put_all(espl_str *s, const espl_comm *c, const cli_options *o, const cli_results *r) {
    bool benchmark = o->mmlu || o->freebaseqa || o->choices;
    espl_str_puts(s, "{");
    put_text(s, "model", o->model);
    if (o->mask) espl_str_puts(s, ", ");
    if (o->mask) put_text(s, "mask", o->mask);
    if (o->text) {
        espl_str_puts(s, benchmark ? ", \"perplexity\": {" : ", ");
        put_perplexity(s, o, &r->text);
        if (benchmark) espl_str_puts(s, "}");
    }
    if (o->questions)
        espl_str_printf(s, ", \"sample\": %lld, \"seed\": %lld", (long long)o->questions, (long long)o->seed);
    if (o->mmlu) espl_str_puts(s, ", ");
    if (o->mmlu) put_mmlu(s, o, r);
    if (o->freebaseqa) espl_str_puts(s, ", ");
    if (o->freebaseqa) put_freebaseqa(s, o, r);
    if (o->choices) espl_str_puts(s, ", ");
    if (o->choices) put_choices(s, o, &r->choices_result);
    put_ranks(s, c);
    espl_str_puts(s, "\n");
}

espl_status cli_print_results(const espl_comm *c, const cli_options *o, const cli_results *r) {
    if (o->json) {
        espl_str s = {0};
        put_all(&s, c, o, r);
        espl_status st = espl_str_status(&s);
        if (st == ESPL_OK) fputs(s.data, stdout);
        espl_str_free(&s);
        return st;
    }
    if (o->text) print_perplexity(&r->text);
    if (o->mmlu) print_mmlu(o, r);
    if (o->freebaseqa) print_freebaseqa(r);
    if (o->choices) print_choices(&r->choices_result);
    return ESPL_OK;
}
