/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The judge: means and paired differences of losses, and the verdict on a step.
 */
#include "judge.h"

#include <math.h>
#include <string.h>

#include "espalier/eval/perplexity.h"

/* How sure an early rejection must be. Accepted steps are always measured in full: later steps are compared with them.
 */
static const double STDERRS = 3;
enum { FIRST_PART = 4, WINDOWS_MIN = 3 }; /* a quarter; a standard error of fewer windows says nothing */

espl_status espl_judge_create(espl_job *j) {
    j->validation_windows = j->inputs.validation.n / j->o->validation_window;
    int64_t n = j->validation_windows;
    ESPL_TRY(espl_mem_alloc(&j->accepted_windows, n, sizeof *j->accepted_windows, "losses of windows"));
    ESPL_TRY(espl_mem_alloc(&j->judged_windows, n, sizeof *j->judged_windows, "losses of windows"));
    return espl_mem_alloc(&j->judged_answers, j->inputs.judge.n, sizeof *j->judged_answers, "losses of answers");
}

void espl_judge_free(espl_job *j) {
    espl_mem_free(&j->accepted_windows);
    espl_mem_free(&j->judged_windows);
    espl_mem_free(&j->judged_answers);
}

/* ---------------------------------------------------------------- measures */

/* A mean and its standard error. */
typedef struct judge_mean {
    double mean, error;
} judge_mean;

/* Of x [n], or of x - minus. The error needs two values. */
static judge_mean judge_mean_of(const double *x, const double *minus, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] - (minus ? minus[i] : 0);
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        double d = x[i] - (minus ? minus[i] : 0) - mean;
        squares += d * d;
    }
    return (judge_mean){mean, n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : NAN};
}

/* Of the answers, over the topics by their weights; NAN without any. */
static judge_mean judge_mean_of_answers(const espl_knowledge *k, const double *losses) {
    judge_mean topics[ESPL_TOPICS] = {0}, all = {NAN, NAN};
    bool present[ESPL_TOPICS] = {false};
    double weights[ESPL_TOPICS], mean = 0, squares = 0;
    if (k->n == 0) return all;
    for (int64_t t = 0, at = 0; t < ESPL_TOPICS; t++) {
        int64_t first = at; /* questions are in the order of their windows, and those in the order of topics */
        while (at < k->n && k->questions[at].window < k->first[t + 1]) at++;
        present[t] = at > first;
        if (present[t]) topics[t] = judge_mean_of(losses + first, NULL, at - first);
    }
    espl_topic_weights(present, weights);
    for (int t = 0; t < ESPL_TOPICS; t++) {
        if (!present[t]) continue;
        mean += weights[t] * topics[t].mean;
        squares += weights[t] * weights[t] * topics[t].error * topics[t].error;
    }
    return (judge_mean){mean, sqrt(squares)};
}

/* Validation windows first .. last - 1 into j->judged. */
static espl_status judge_windows(espl_job *j, int64_t first, int64_t last) {
    int64_t window = j->o->validation_window;
    espl_corpus part = {.ids = j->inputs.validation.ids + first * window, .n = (last - first) * window};
    espl_perplexity p = {0};
    if (last <= first) return ESPL_OK;
    return espl_eval_perplexity(j->comm, j->model, &part, window, 0, j->judged_windows + first, &p);
}

static espl_quality judge_quality(const espl_job *j) {
    judge_mean text = judge_mean_of(j->judged_windows, NULL, j->validation_windows);
    judge_mean answers = judge_mean_of_answers(&j->inputs.judge, j->judged_answers);
    return (espl_quality){.perplexity = exp(text.mean),
                          .nll = text.mean,
                          .nll_stderr = text.error,
                          .answers = answers.mean,
                          .answers_stderr = answers.error};
}

static espl_status judge_rest(espl_job *j, int64_t measured, espl_quality *out) {
    ESPL_TRY(judge_windows(j, measured, j->validation_windows));
    if (j->inputs.judge.n > 0) ESPL_TRY(espl_eval_knowledge(j->comm, j->model, &j->inputs.judge, j->judged_answers));
    *out = judge_quality(j);
    return ESPL_OK;
}

espl_status espl_judge_measure(espl_job *j, espl_quality *out) {
    ESPL_REGION_SCOPE(ESPL_REGION_JUDGE);
    return judge_rest(j, 0, out);
}

espl_perplexity espl_judge_accepted_text(const espl_job *j) {
    if (!j->has_accepted) return (espl_perplexity){0};
    return espl_perplexity_of(j->accepted_windows, j->validation_windows, j->o->validation_window);
}

/* ----------------------------------------------------------------- verdict */

bool espl_judge_is_beyond_limit(const espl_job *j, const espl_quality *after) {
    double limit = j->o->prune_max_rise;
    return limit > 0 && !(espl_quality_rise(&j->dense, after, j->o->knowledge_share) <= log1p(limit));
}

/* Whether the first part of the windows alone rules the step out, if knowledge gains nothing. *after is then what the
 * whole is expected to be. */
static bool judge_is_ruled_out(const espl_job *j, int64_t windows, espl_quality *after) {
    bool knows = j->inputs.judge.n > 0;
    double share = knows ? j->o->knowledge_share : 0, bound = log1p(j->o->prune_threshold);
    judge_mean rise = judge_mean_of(j->judged_windows, j->accepted_windows, windows);
    if (isfinite(rise.mean) && !((1 - share) * (rise.mean - STDERRS * rise.error) > bound)) return false;
    *after = j->last;
    after->nll += rise.mean;
    after->nll_stderr = rise.error;
    after->perplexity = exp(after->nll);
    after->answers = after->answers_stderr = NAN;
    after->mmlu_right = after->mmlu_total = after->freebaseqa_right = after->freebaseqa_total = 0;
    memset(after->mmlu_category_right, 0, sizeof after->mmlu_category_right);
    memset(after->mmlu_category_total, 0, sizeof after->mmlu_category_total);
    return true;
}

espl_status espl_judge_step(espl_job *j, espl_quality *after, bool *accepted) {
    ESPL_REGION_SCOPE(ESPL_REGION_JUDGE);
    int64_t first = j->validation_windows / FIRST_PART;
    if (first < WINDOWS_MIN) first = 0;
    *accepted = false;
    ESPL_TRY(judge_windows(j, 0, first));
    if (first > 0 && judge_is_ruled_out(j, first, after)) return ESPL_OK;
    ESPL_TRY(judge_rest(j, first, after));
    double rise = espl_quality_rise(&j->last, after, j->o->knowledge_share);
    bool answered = j->inputs.judge.n == 0 || isfinite(after->answers); /* else the rise would be that of text alone */
    *accepted = answered && rise <= log1p(j->o->prune_threshold) && !espl_judge_is_beyond_limit(j, after);
    return ESPL_OK;
}

void espl_judge_accept(espl_job *j) {
    double *judged = j->judged_windows;
    j->has_accepted = true;
    j->judged_windows = j->accepted_windows;
    j->accepted_windows = judged;
}
