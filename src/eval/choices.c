/* Multiple choice by likelihood: the log-probabilities of the choices' tokens, summed; the largest sum, and the largest
 * per character (lm-evaluation-harness's acc and acc_norm). */
#include "internal.h"

#include <math.h>

void espl_choices_result_free(espl_choices_result *r) {
    espl_mem_free(&r->logprob);
    espl_mem_free(&r->choice);
    espl_mem_free(&r->choice_norm);
}

/* by_id [prompts.n_ids]: the log-probability of each id's target. */
static void ask_targets(const espl_choices *set, const packing *k, double *by_id) {
    for (int64_t i = 0; i < k->n; i++) {
        espl_segment *s = &k->segments[i];
        if (k->owner[i] < 0) continue;
        s->targets = set->targets + (s->ids - set->prompts.ids);
        s->logprob = by_id + (s->ids - set->prompts.ids);
    }
}

static espl_status run(espl_comm *c, espl_model *m, const espl_choices *set, double *by_id) {
    packing k;
    ESPL_TRY(espl_comm_agree(c, packing_create(&set->prompts, espl_model_options_of(m), &k)));
    ask_targets(set, &k, by_id);
    espl_status st = packing_run(c, m, &k, "choices");
    packing_free(&k);
    if (st == ESPL_OK)
        espl_comm_broadcast(c, by_id, set->prompts.n_ids * (int64_t)sizeof *by_id, espl_comm_size(c) - 1);
    return st;
}

static void sum_choices(const espl_choices *set, const double *by_id, double *logprob) {
    for (int64_t i = 0; i < set->prompts.n; i++) {
        const espl_prompt *p = &set->prompts.prompts[i];
        logprob[i] = 0;
        for (int64_t k = p->at; k < p->at + p->n; k++)
            if (set->targets[k] >= 0) logprob[i] += by_id[k];
    }
}

/* The first among equals, as numpy's argmax; -1 if one is not a number: a ruined model gives no answer. */
static int32_t best(const espl_choices *set, const espl_choice_question *q, const double *logprob, bool per_character) {
    int32_t at = 0;
    double most = 0;
    for (int64_t k = 0; k < q->count; k++) {
        double v = logprob[q->first + k];
        if (isnan(v)) return -1;
        if (per_character) v /= (double)set->characters[q->first + k];
        if (k > 0 && v <= most) continue;
        most = v;
        at = (int32_t)k;
    }
    return at;
}

static void summarise(const espl_choices *set, espl_choices_result *r) {
    int64_t hits = 0, hits_norm = 0;
    for (int64_t i = 0; i < set->n; i++) {
        const espl_choice_question *q = &set->questions[i];
        r->choice[i] = best(set, q, r->logprob, false);
        r->choice_norm[i] = best(set, q, r->logprob, true);
        r->unanswered += r->choice[i] < 0;
        hits += r->choice[i] == q->answer;
        hits_norm += r->choice_norm[i] == q->answer;
    }
    r->acc = espl_proportion_of(hits, set->n);
    r->acc_norm = espl_proportion_of(hits_norm, set->n);
}

espl_status espl_eval_choices(espl_comm *c, espl_model *m, const espl_choices *set, espl_choices_result *out) {
    double start = espl_clock_now(), *by_id = NULL;
    *out = (espl_choices_result){0};
    espl_status st = espl_mem_alloc(&by_id, set->prompts.n_ids, sizeof *by_id, "log-probabilities");
    if (st == ESPL_OK) st = espl_mem_alloc(&out->logprob, set->prompts.n, sizeof *out->logprob, "log-probabilities");
    if (st == ESPL_OK) st = espl_mem_alloc(&out->choice, set->n, sizeof *out->choice, "answers");
    if (st == ESPL_OK) st = espl_mem_alloc(&out->choice_norm, set->n, sizeof *out->choice_norm, "answers");
    st = espl_comm_agree(c, st);
    if (st == ESPL_OK) st = run(c, m, set, by_id);
    if (st == ESPL_OK) {
        sum_choices(set, by_id, out->logprob);
        summarise(set, out);
    } else {
        espl_choices_result_free(out);
    }
    espl_mem_free(&by_id);
    out->seconds = espl_clock_now() - start;
    return st;
}

static void put_choice(const char *before, int32_t choice, espl_str *out) {
    text_put_number(before, choice < 0 ? NAN : (double)choice, 9, out);
}

void espl_choices_details(const espl_choices *set, const espl_choices_result *r, espl_str *out) {
    for (int64_t i = 0; i < set->n; i++) {
        const espl_choice_question *q = &set->questions[i];
        espl_str_printf(out, "{\"task\": \"choices\", \"line\": %lld, \"answer\": %d", (long long)q->line, q->answer);
        put_choice(", \"choice\": ", r->choice[i], out);
        put_choice(", \"choice_norm\": ", r->choice_norm[i], out);
        espl_str_printf(out, ", \"cut\": %d, \"logprob\": [", q->cut);
        for (int64_t k = 0; k < q->count; k++) text_put_number(k ? ", " : "", r->logprob[q->first + k], 12, out);
        espl_str_puts(out, "]}\n");
    }
}
