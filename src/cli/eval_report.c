/* SPDX-License-Identifier: Apache-2.0 */
/* What `eval` prints. Programs read the JSON form: its keys and their order stay (docs/evaluation.md). */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "espalier/base/json_writer.h"
#include "espalier/base/str.h"
#include "eval.h"

enum { DIGITS = 10 }; /* significant digits of measures in JSON */

/* ------------------------------------------------------------------- JSON */

/* Counts go with every rate: a reader can compute another interval, or pool runs. */
static void json_put_proportion(espl_json_writer *w, const char *key, const espl_proportion *v) {
    espl_json_open_object(w, key, ESPL_JSON_SPACED);
    espl_json_put_i64(w, "hits", v->hits);
    espl_json_put_i64(w, "questions", v->n);
    espl_json_put_rounded(w, "rate", v->rate, DIGITS);
    espl_json_put_rounded(w, "low", v->low, DIGITS);
    espl_json_put_rounded(w, "high", v->high, DIGITS);
    espl_json_close(w);
}

static void json_put_mmlu(espl_json_writer *w, const cli_eval_options *o, const espl_mmlu *m,
                          const espl_mmlu_result *r) {
    int64_t subjects_asked = 0; /* a sample need not have questions of all subjects */
    for (int64_t i = 0; i < m->n_subjects; i++) subjects_asked += r->subjects[i].n > 0;

    espl_json_open_object(w, "mmlu", ESPL_JSON_SPACED);
    espl_json_put_text(w, "data", o->mmlu);
    espl_json_put_text(w, "split", espl_mmlu_split_name(o->mmlu_split));
    espl_json_put_text(w, "style", espl_mmlu_style_name(o->mmlu_style));
    espl_json_put_i64(w, "shots", o->shots);
    json_put_proportion(w, "micro", &r->micro);
    espl_json_open_object(w, "macro", ESPL_JSON_SPACED);
    espl_json_put_i64(w, "subjects", subjects_asked);
    espl_json_put_rounded(w, "rate", r->macro, DIGITS);
    espl_json_put_rounded(w, "low", r->macro_low, DIGITS);
    espl_json_put_rounded(w, "high", r->macro_high, DIGITS);
    espl_json_close(w);
    espl_json_open_object(w, "categories", ESPL_JSON_SPACED);
    for (int i = 0; i < ESPL_MMLU_CATEGORY_COUNT; i++)
        json_put_proportion(w, espl_mmlu_category_name((espl_mmlu_category)i), &r->categories[i]);
    espl_json_close(w);
    espl_json_open_object(w, "subjects", ESPL_JSON_SPACED);
    for (int64_t i = 0; i < m->n_subjects; i++) json_put_proportion(w, m->subjects[i].name, &r->subjects[i]);
    espl_json_close(w);
    espl_json_put_i64(w, "near_ties", r->near_ties);
    espl_json_put_i64(w, "dropped_shots", r->dropped_shots);
    espl_json_put_i64(w, "cut", r->cut);
    espl_json_put_i64(w, "unanswered", r->unanswered);
    espl_json_put_rounded(w, "seconds", r->seconds, DIGITS);
    espl_json_close(w);
}

/* In llm-kick mode there is no exact match, and the other measure has another name: it is looser. */
static void json_put_freebaseqa(espl_json_writer *w, const cli_eval_options *o, const espl_freebaseqa *set,
                                const espl_freebaseqa_result *r) {
    bool standard = set->mode == ESPL_FREEBASEQA_STANDARD;
    espl_json_open_object(w, "freebaseqa", ESPL_JSON_SPACED);
    espl_json_put_text(w, "data", o->freebaseqa);
    espl_json_put_text(w, "mode", espl_freebaseqa_mode_name(set->mode));
    espl_json_put_i64(w, "shots", set->shots);
    if (standard) json_put_proportion(w, "exact", &r->exact);
    json_put_proportion(w, standard ? "contains" : "match", &r->contains);
    espl_json_put_i64(w, "tokens", r->tokens);
    espl_json_put_rounded(w, "seconds", r->seconds, DIGITS);
    espl_json_close(w);
}

/* The perplexity of a text alone makes a flat object; beside benchmarks, each measure is a member. */
static espl_status eval_print_json(const espl_comm *c, const cli_eval_options *o, const cli_eval_results *r) {
    bool benchmark = o->mmlu || o->freebaseqa || o->choices;
    const espl_perplexity *p = &r->perplexity;
    espl_str out = {0};
    espl_json_writer w = espl_json_writer_on(&out);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "model", o->shared.model);
    if (o->shared.mask) espl_json_put_text(&w, "mask", o->shared.mask);
    if (o->arithmetic != ESPL_ARITHMETIC_F32) espl_json_put_text(&w, "arithmetic", espl_arithmetic_name(o->arithmetic));
    if (o->text) {
        if (benchmark) espl_json_open_object(&w, "perplexity", ESPL_JSON_SPACED);
        espl_json_put_text(&w, "text", o->text);
        espl_json_put_i64(&w, "window", p->window);
        espl_json_put_i64(&w, "windows", p->windows);
        espl_json_put_i64(&w, "tokens", p->tokens);
        espl_json_put_rounded(&w, "perplexity", p->perplexity, DIGITS);
        espl_json_put_rounded(&w, "perplexity_stderr", p->perplexity_stderr, DIGITS);
        espl_json_put_rounded(&w, "nll", p->nll, DIGITS);
        espl_json_put_rounded(&w, "nll_stderr", p->nll_stderr, DIGITS);
        espl_json_put_rounded(&w, "seconds", p->seconds, DIGITS);
        espl_json_put_rounded(&w, "tokens_per_second", p->tokens_per_second, DIGITS);
        if (benchmark) espl_json_close(&w);
    }
    if (o->questions) { /* a sample: the numbers are not those of the whole set */
        espl_json_put_i64(&w, "sample", o->questions);
        espl_json_put_i64(&w, "seed", o->seed);
    }
    if (o->mmlu) json_put_mmlu(&w, o, &r->mmlu, &r->mmlu_result);
    if (o->freebaseqa) json_put_freebaseqa(&w, o, &r->freebaseqa, &r->freebaseqa_result);
    if (o->choices) {
        espl_json_open_object(&w, "choices", ESPL_JSON_SPACED);
        espl_json_put_text(&w, "data", o->choices);
        json_put_proportion(&w, "acc", &r->choices_result.acc);
        json_put_proportion(&w, "acc_norm", &r->choices_result.acc_norm);
        espl_json_put_i64(&w, "unanswered", r->choices_result.unanswered);
        espl_json_put_rounded(&w, "seconds", r->choices_result.seconds, DIGITS);
        espl_json_close(&w);
    }
    /* What the times depend on. */
    espl_json_put_i64(&w, "ranks", espl_comm_size(c));
    espl_json_put_i64(&w, "threads", espl_tensor_threads());
    espl_json_close(&w);
    espl_status st = espl_str_status(&out);
    if (st == ESPL_OK) puts(out.data);
    espl_str_free(&out);
    return st;
}

/* ----------------------------------------------------------------- tables */

static const char TEXT_UNANSWERED[] = "questions without an answer: the model's logits are not numbers";

static void print_proportion(const char *name, const espl_proportion *v) {
    if (v->n == 0) return; /* no question of the sample */
    printf("  %-38s %6.2f %%  [%5.2f, %5.2f]  %" PRId64 " / %" PRId64 "\n", name, 100 * v->rate, 100 * v->low,
           100 * v->high, v->hits, v->n);
}

/* Counts of what should not happen, or should be known, are printed only where there is something to say. */
static void print_unusual(int64_t n, const char *what) {
    if (n > 0) printf("  %" PRId64 " %s\n", n, what);
}

/* Subjects first, then what they add up to: the micro average counts questions, the macro average counts subjects. */
static void print_mmlu(const cli_eval_options *o, const espl_mmlu *m, const espl_mmlu_result *r) {
    printf("MMLU, %s split, %s prompts, up to %" PRId64 " shots (95 %% Wilson intervals)\n",
           espl_mmlu_split_name(o->mmlu_split), espl_mmlu_style_name(o->mmlu_style), o->shots);
    for (int64_t i = 0; i < m->n_subjects; i++) print_proportion(m->subjects[i].name, &r->subjects[i]);
    for (int i = 0; i < ESPL_MMLU_CATEGORY_COUNT; i++)
        print_proportion(espl_mmlu_category_name((espl_mmlu_category)i), &r->categories[i]);
    print_proportion("all questions (micro average)", &r->micro);
    printf("  %-38s %6.2f %%  [%5.2f, %5.2f]\n", "mean of subjects (macro average)", 100 * r->macro, 100 * r->macro_low,
           100 * r->macro_high);
    print_unusual(r->dropped_shots, "questions had no room for all examples");
    print_unusual(r->cut, "questions were cut from the left to fit the context");
    print_unusual(r->near_ties, "near ties: two best letters within 1e-4");
    print_unusual(r->unanswered, TEXT_UNANSWERED);
}

espl_status cli_eval_print(const espl_comm *c, const cli_eval_options *o, const cli_eval_results *r) {
    if (o->shared.json) return eval_print_json(c, o, r);
    if (o->text) {
        const espl_perplexity *p = &r->perplexity;
        printf("perplexity %.4f", p->perplexity);
        if (isfinite(p->perplexity_stderr)) printf(" +- %.4f", p->perplexity_stderr); /* not for a single window */
        printf(" (%" PRId64 " windows of %" PRId64 " tokens; nll %.6f", p->windows, p->window, p->nll);
        if (isfinite(p->nll_stderr)) printf(" +- %.6f", p->nll_stderr);
        printf("; %.1f tokens/s)\n", p->tokens_per_second);
    }
    if (o->mmlu) print_mmlu(o, &r->mmlu, &r->mmlu_result);
    if (o->freebaseqa) {
        bool standard = r->freebaseqa.mode == ESPL_FREEBASEQA_STANDARD;
        printf("FreebaseQA, %s mode, %" PRId64 " shots (95 %% Wilson intervals)\n",
               espl_freebaseqa_mode_name(r->freebaseqa.mode), r->freebaseqa.shots);
        if (standard) print_proportion("exact match", &r->freebaseqa_result.exact);
        print_proportion(standard ? "contains an answer" : "answer found in prompt or output",
                         &r->freebaseqa_result.contains);
    }
    if (o->choices) {
        puts("multiple choice by likelihood (95 % Wilson intervals)");
        print_proportion("acc", &r->choices_result.acc);
        print_proportion("acc_norm", &r->choices_result.acc_norm);
        print_unusual(r->choices_result.unanswered, TEXT_UNANSWERED);
    }
    return ESPL_OK;
}
