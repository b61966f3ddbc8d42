/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evaluates multiple choice by likelihood: the log-probabilities of each choice's tokens are added up. acc takes the
 * choice with the largest sum, acc_norm the one with the largest sum per character, as lm-evaluation-harness does.
 */
#include "espalier/eval/choices.h"

#include <math.h>

#include "espalier/base/json_writer.h"
#include "packing.h"
#include "run_batches.h"

enum { LOGPROB_DIGITS = 12 }; /* significant digits in the details: a sum of floats has no more */

void espl_choices_result_free(espl_choices_result *r) {
    espl_mem_free(&r->logprob);
    espl_mem_free(&r->choice);
    espl_mem_free(&r->choice_norm);
}

/* The first among equals, like numpy's argmax; -1 if a value is NaN: a ruined model gives no answer. */
static int32_t choices_best(const espl_choices *set, const espl_choice_question *q, const double *logprob,
                            bool per_character) {
    int32_t best = 0;
    double max = 0;
    for (int64_t k = 0; k < q->count; k++) {
        double v = logprob[q->first + k];
        if (isnan(v)) return -1;
        if (per_character) v /= (double)set->characters[q->first + k];
        if (k > 0 && v <= max) continue;
        max = v;
        best = (int32_t)k;
    }
    return best;
}

/* Log-probabilities are added up in the order of the tokens, in double, on every rank alike. */
espl_status espl_eval_choices(espl_comm *c, espl_model *m, const espl_choices *set, espl_choices_result *out) {
    double start = espl_clock_now(), *by_id = NULL; /* by_id [p->n_ids]: the log-probability of each id's target */
    const espl_prompts *p = &set->prompts;
    int64_t hits = 0, hits_norm = 0;
    const espl_grid *grid = espl_comm_grid(c);
    espl_packing packing = {0};
    espl_packing_part part = {0};
    espl_status st;
    *out = (espl_choices_result){0};
    ESPL_CHECK(st, planned, espl_mem_alloc(&by_id, p->n_ids, sizeof *by_id, "log-probabilities"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&out->logprob, p->n, sizeof *out->logprob, "log-probabilities"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&out->choice, set->n, sizeof *out->choice, "answers"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&out->choice_norm, set->n, sizeof *out->choice_norm, "answers"));
    ESPL_CHECK(st, planned, espl_packing_create(p, espl_model_options_of(m), &packing));
    for (int64_t i = 0; i < packing.n; i++) {
        if (packing.owner[i] < 0) continue; /* a shared prefix has no targets */
        int64_t at = packing.segments[i].ids - p->ids;
        packing.segments[i].targets = set->targets + at;
        packing.segments[i].logprob = by_id + at;
    }
    ESPL_CHECK(st, planned, espl_packing_share(&packing, p, grid->replicas, grid->replica, &part));
    for (int r = 0; r <= grid->replicas; r++) /* prompts and their ids are in the same order */
        part.prompts[r] = part.prompts[r] < p->n ? p->prompts[part.prompts[r]].at : p->n_ids;
planned:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_eval_run_batches(c, m, part.batches, part.n, part.tokens, "choices"));
    espl_eval_share_results(c, by_id, part.prompts, 0, sizeof *by_id);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t at = p->prompts[i].at; at < p->prompts[i].at + p->prompts[i].n; at++)
            if (set->targets[at] >= 0) out->logprob[i] += by_id[at];
    for (int64_t i = 0; i < set->n; i++) {
        const espl_choice_question *q = &set->questions[i];
        out->choice[i] = choices_best(set, q, out->logprob, false);
        out->choice_norm[i] = choices_best(set, q, out->logprob, true);
        out->unanswered += out->choice[i] < 0;
        hits += out->choice[i] == q->answer;
        hits_norm += out->choice_norm[i] == q->answer;
    }
    out->acc = espl_proportion_of(hits, set->n);
    out->acc_norm = espl_proportion_of(hits_norm, set->n);
done:
    if (st != ESPL_OK) espl_choices_result_free(out);
    espl_mem_free(&by_id);
    espl_packing_part_free(&part);
    espl_packing_free(&packing);
    out->seconds = espl_clock_now() - start;
    return st;
}

/* A member with the index of a choice, or null. */
static void choices_put_choice(espl_json_writer *w, const char *key, int32_t choice) {
    if (choice < 0)
        espl_json_put_text(w, key, NULL);
    else
        espl_json_put_i64(w, key, choice);
}

void espl_choices_details(const espl_choices *set, const espl_choices_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_choice_question *q = &set->questions[i];
        espl_json_writer w = espl_json_writer_on(out);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(&w, "task", "choices");
        espl_json_put_i64(&w, "line", q->line);
        espl_json_put_i64(&w, "answer", q->answer);
        choices_put_choice(&w, "choice", r->choice[i]);
        choices_put_choice(&w, "choice_norm", r->choice_norm[i]);
        espl_json_put_i64(&w, "cut", q->cut);
        espl_json_open_array(&w, "logprob", ESPL_JSON_SPACED);
        for (int64_t k = 0; k < q->count; k++)
            espl_json_put_rounded(&w, NULL, r->logprob[q->first + k], LOGPROB_DIGITS);
        espl_json_close(&w);
        espl_json_close(&w);
        espl_str_puts(out, "\n");
    }
}
