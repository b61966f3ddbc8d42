/* MMLU: one forward pass, four logits per question, proportions. */
#include "internal.h"

#include <math.h>
#include <string.h>

static const float NEAR_TIE = 1e-4f;

void espl_mmlu_result_free(espl_mmlu_result *r) {
    espl_mem_free(&r->subjects);
    espl_mem_free(&r->answers);
}

/* A ruined model's logits may be no numbers: then there is no answer, not even a lucky one. */
static int32_t largest(const float logits[4]) {
    int32_t best = 0;
    for (int32_t k = 0; k < 4; k++) {
        if (isnan(logits[k])) return -1;
        if (logits[k] > logits[best]) best = k;
    }
    return best;
}

static bool near_tie(const float logits[4], int32_t best) {
    for (int k = 0; k < 4 && best >= 0; k++)
        if (k != best && logits[best] - logits[k] < NEAR_TIE) return true;
    return false;
}

static void ask_letters(const espl_mmlu *set, const packing *k, espl_mmlu_answer *answers) {
    for (int64_t i = 0; i < k->n; i++) {
        if (!packing_ends(k, &set->prompts, i)) continue;
        k->segments[i].selected = set->letters;
        k->segments[i].n_selected = 4;
        k->segments[i].selected_logits = answers[k->owner[i]].logits;
    }
}

static espl_status run(espl_comm *c, espl_model *m, const espl_mmlu *set, espl_mmlu_answer *answers) {
    packing k;
    ESPL_TRY(espl_comm_agree(c, packing_create(&set->prompts, espl_model_options_of(m), &k)));
    ask_letters(set, &k, answers);
    espl_status st = packing_run(c, m, &k, "MMLU");
    packing_free(&k);
    if (st == ESPL_OK) espl_comm_broadcast(c, answers, set->n * (int64_t)sizeof *answers, espl_comm_size(c) - 1);
    return st;
}

/* Mean of the subjects' accuracies; its variance is that of independent binomials. */
static void average_subjects(const espl_mmlu *set, espl_mmlu_result *r) {
    double sum = 0, variance = 0;
    int64_t n = 0;
    for (int64_t s = 0; s < set->n_subjects; s++) {
        const espl_proportion *u = &r->subjects[s];
        if (u->n == 0) continue;
        sum += u->rate;
        variance += u->rate * (1 - u->rate) / (double)u->n;
        n++;
    }
    double half = 1.96 * sqrt(variance) / (double)n;
    r->macro = sum / (double)n;
    r->macro_low = fmax(0, r->macro - half);
    r->macro_high = fmin(1, r->macro + half);
}

static void count(espl_proportion *s, bool hit) {
    s->hits += hit;
    s->n++;
}

static void finish_shares(espl_proportion *s, int64_t n) {
    for (int64_t i = 0; i < n; i++) s[i] = espl_proportion_of(s[i].hits, s[i].n);
}

static void summarise(const espl_mmlu *set, espl_mmlu_result *r) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_mmlu_question *q = &set->questions[i];
        espl_mmlu_answer *a = &r->answers[i];
        a->choice = largest(a->logits);
        bool hit = a->choice == q->answer;
        count(&r->micro, hit);
        count(&r->categories[set->subjects[q->subject].category], hit);
        count(&r->subjects[q->subject], hit);
        r->unanswered += a->choice < 0;
        r->near_ties += near_tie(a->logits, a->choice);
        r->dropped_shots += q->dropped > 0;
        r->cut += q->cut > 0;
    }
    finish_shares(&r->micro, 1);
    finish_shares(r->categories, ESPL_MMLU_CATEGORY_COUNT);
    finish_shares(r->subjects, set->n_subjects);
    average_subjects(set, r);
}

espl_status espl_eval_mmlu(espl_comm *c, espl_model *m, const espl_mmlu *set, espl_mmlu_result *out) {
    double start = espl_clock_now();
    *out = (espl_mmlu_result){0};
    espl_status st = espl_mem_alloc(&out->answers, set->n, sizeof *out->answers, "answers");
    if (st == ESPL_OK) st = espl_mem_alloc(&out->subjects, set->n_subjects, sizeof *out->subjects, "subjects");
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = run(c, m, set, out->answers);
    if (st == ESPL_OK) summarise(set, out);
    if (st != ESPL_OK) espl_mmlu_result_free(out);
    out->seconds = espl_clock_now() - start;
    return st;
}

void espl_mmlu_details(const espl_mmlu *set, const espl_mmlu_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_mmlu_question *q = &set->questions[i];
        const espl_mmlu_answer *a = &r->answers[i];
        const char *subject = set->subjects[q->subject].name;
        espl_str_puts(out, "{\"task\": \"mmlu\", \"subject\": ");
        espl_str_put_json(out, subject, (int64_t)strlen(subject));
        espl_str_printf(out, ", \"row\": %lld, \"answer\": \"%c\", \"choice\": ", (long long)q->row, 'A' + q->answer);
        espl_str_printf(out, a->choice < 0 ? "null" : "\"%c\"", 'A' + a->choice);
        espl_str_printf(out, ", \"correct\": %s, \"shots\": %d, \"cut\": %d, \"logits\": [",
                        a->choice == q->answer ? "true" : "false", q->shots, q->cut);
        for (int k = 0; k < 4; k++) text_put_number(k ? ", " : "", (double)a->logits[k], 9, out);
        espl_str_puts(out, "]}\n");
    }
}
