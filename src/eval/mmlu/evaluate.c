/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluates MMLU: one forward pass over packed prompts, four logits per question, and their statistics. */
#include "espalier/eval/mmlu.h"

#include <math.h>

#include "espalier/base/json_writer.h"
#include "packing.h"
#include "run_batches.h"

/* Below this difference of logits another order of summation could change the answer (mpi/knowledge finds differences
 * up to 2e-5): such questions are counted, so that a reader can judge comparisons with other programs. */
static const float NEAR_TIE = 1e-4f;

enum { FLOAT_DIGITS = 9 }; /* significant digits that read back as the same float */

void espl_mmlu_result_free(espl_mmlu_result *r) {
    espl_mem_free(&r->subjects);
    espl_mem_free(&r->answers);
}

/* Sets a->choice. A NaN is no answer: a ruined model must not score by luck. Returns whether a second letter is as
 * good as equal. */
static bool mmlu_choose_letter(espl_mmlu_answer *a) {
    a->choice = 0;
    for (int32_t k = 0; k < ESPL_MMLU_CHOICES; k++) {
        if (isnan(a->logits[k])) {
            a->choice = -1;
            return false;
        }
        if (a->logits[k] > a->logits[a->choice]) a->choice = k;
    }
    for (int k = 0; k < ESPL_MMLU_CHOICES; k++)
        if (k != a->choice && a->logits[a->choice] - a->logits[k] < NEAR_TIE) return true;
    return false;
}

/* Turns counts into proportions and averages the subjects. The average's variance is the one of independent
 * binomials. */
static void mmlu_finish_proportions(const espl_mmlu *set, espl_mmlu_result *r) {
    double sum = 0, variance = 0;
    int64_t n = 0;
    r->micro = espl_proportion_of(r->micro.hits, r->micro.n);
    for (int i = 0; i < ESPL_MMLU_CATEGORY_COUNT; i++)
        r->categories[i] = espl_proportion_of(r->categories[i].hits, r->categories[i].n);
    for (int64_t s = 0; s < set->n_subjects; s++) {
        espl_proportion *u = &r->subjects[s];
        *u = espl_proportion_of(u->hits, u->n);
        if (u->n == 0) continue; /* a sample need not touch every subject */
        sum += u->rate;
        variance += u->rate * (1 - u->rate) / (double)u->n;
        n++;
    }
    double half = ESPL_PROPORTION_Z * sqrt(variance) / (double)n;
    r->macro = sum / (double)n;
    r->macro_low = fmax(0, r->macro - half);
    r->macro_high = fmin(1, r->macro + half);
}

espl_status espl_eval_mmlu(espl_comm *c, espl_model *m, const espl_mmlu *set, espl_mmlu_result *out) {
    double start = espl_clock_now();
    espl_status st;
    espl_packing packing = {0};
    espl_packing_part part = {0};
    const espl_grid *grid = espl_comm_grid(c);
    *out = (espl_mmlu_result){0};
    ESPL_CHECK(st, planned, espl_mem_alloc(&out->answers, set->n, sizeof *out->answers, "answers"));
    ESPL_CHECK(st, planned, espl_mem_alloc(&out->subjects, set->n_subjects, sizeof *out->subjects, "subjects"));
    ESPL_CHECK(st, planned, espl_packing_create(&set->prompts, espl_model_options_of(m), &packing));
    for (int64_t i = 0; i < packing.n; i++) {
        if (!espl_packing_ends_prompt(&packing, &set->prompts, i)) continue;
        packing.segments[i].selected = set->letters;
        packing.segments[i].n_selected = ESPL_MMLU_CHOICES;
        packing.segments[i].selected_logits = out->answers[packing.owner[i]].logits;
    }
    st = espl_packing_share(&packing, &set->prompts, grid->replicas, grid->replica, &part);
planned:
    ESPL_CHECK(st, done, espl_comm_agree(c, st));
    ESPL_CHECK(st, done, espl_eval_run_batches(c, m, part.batches, part.n, part.tokens, "MMLU"));
    espl_eval_share_results(c, out->answers, part.prompts, 0, sizeof *out->answers); /* prompts are questions */
    for (int64_t i = 0; i < set->n; i++) {
        const espl_mmlu_question *q = &set->questions[i];
        espl_mmlu_answer *a = &out->answers[i];
        out->near_ties += mmlu_choose_letter(a);
        bool hit = a->choice == q->answer;
        espl_proportion *counts[] = {&out->micro, &out->categories[set->subjects[q->subject].category],
                                     &out->subjects[q->subject]};
        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            counts[k]->hits += hit;
            counts[k]->n++;
        }
        out->unanswered += a->choice < 0;
        out->dropped_shots += q->dropped > 0;
        out->cut += q->cut > 0;
    }
    mmlu_finish_proportions(set, out);
done:
    espl_packing_part_free(&part);
    espl_packing_free(&packing);
    if (st != ESPL_OK) espl_mmlu_result_free(out);
    out->seconds = espl_clock_now() - start;
    return st;
}

/* Members and their order are those of tests/golden/knowledge/answers.json and of analysis/. */
void espl_mmlu_details(const espl_mmlu *set, const espl_mmlu_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_mmlu_question *q = &set->questions[i];
        const espl_mmlu_answer *a = &r->answers[i];
        espl_json_writer w = espl_json_writer_on(out);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(&w, "task", "mmlu");
        espl_json_put_text(&w, "subject", set->subjects[q->subject].name);
        espl_json_put_i64(&w, "row", q->row);
        espl_json_put_printf(&w, "answer", "%c", 'A' + q->answer);
        if (a->choice < 0)
            espl_json_put_text(&w, "choice", NULL);
        else
            espl_json_put_printf(&w, "choice", "%c", 'A' + a->choice);
        espl_json_put_bool(&w, "correct", a->choice == q->answer);
        espl_json_put_i64(&w, "shots", q->shots);
        espl_json_put_i64(&w, "cut", q->cut);
        espl_json_open_array(&w, "logits", ESPL_JSON_SPACED);
        for (int k = 0; k < ESPL_MMLU_CHOICES; k++) espl_json_put_rounded(&w, NULL, (double)a->logits[k], FLOAT_DIGITS);
        espl_json_close(&w);
        espl_json_close(&w);
        espl_str_puts(out, "\n");
    }
}
