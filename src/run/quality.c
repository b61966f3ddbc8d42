/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the model: perplexity and questions, with the room's clocks around them. */
#include "quality.h"

#include <math.h>

static espl_status quality_of_corpus(espl_job *j, const espl_corpus *corpus, int64_t window, int64_t limit,
                                     espl_perplexity *out) {
    double *window_nll = NULL; /* the caller of the evaluation owns it; only the means are of interest here */
    espl_status st = espl_mem_alloc(&window_nll, corpus->n / window + 1, sizeof *window_nll, "window results");
    st = espl_comm_agree(j->comm, st);
    if (st == ESPL_OK) st = espl_eval_perplexity(j->comm, j->model, corpus, window, limit, window_nll, out);
    espl_mem_free(&window_nll);
    return st;
}

static espl_status quality_of_questions(espl_job *j, const espl_questions *q, espl_mmlu_result *mmlu,
                                        espl_freebaseqa_result *freebaseqa) {
    if (q->has_mmlu) ESPL_TRY(espl_eval_mmlu(j->comm, j->model, &q->mmlu, mmlu));
    if (q->has_freebaseqa) ESPL_TRY(espl_eval_freebaseqa(j->comm, j->model, &q->freebaseqa, freebaseqa));
    return ESPL_OK;
}

_Static_assert((int)ESPL_MMLU_TOPICS == ESPL_MMLU_CATEGORY_COUNT, "the topics of MMLU are its categories");

espl_status espl_quality_probe(espl_job *j, espl_quality *out) {
    ESPL_REGION_SCOPE(ESPL_REGION_PROBE);
    espl_mmlu_result mmlu = {0};
    espl_freebaseqa_result freebaseqa = {0};
    espl_status st = quality_of_questions(j, &j->inputs.probe, &mmlu, &freebaseqa);
    out->mmlu_right = mmlu.micro.hits;
    out->mmlu_total = mmlu.micro.n;
    for (int c = 0; c < ESPL_MMLU_TOPICS; c++) {
        out->mmlu_category_right[c] = mmlu.categories[c].hits;
        out->mmlu_category_total[c] = mmlu.categories[c].n;
    }
    out->freebaseqa_right = freebaseqa.exact.hits;
    out->freebaseqa_total = freebaseqa.exact.n;
    espl_mmlu_result_free(&mmlu);
    espl_freebaseqa_result_free(&freebaseqa);
    return st;
}

espl_status espl_quality_loss(espl_job *j, const espl_corpus *corpus, int64_t window, double *nll) {
    espl_perplexity p = {0};
    ESPL_TRY(quality_of_corpus(j, corpus, window, 0, &p));
    *nll = p.nll;
    return ESPL_OK;
}

static espl_status quality_measure_report(espl_job *j, espl_report_quality *out) {
    const espl_config *o = j->o;
    if (out->validation.windows == 0)
        ESPL_TRY(quality_of_corpus(j, &j->inputs.validation, o->validation_window, 0, &out->validation));
    if (j->inputs.test.n > 0)
        ESPL_TRY(quality_of_corpus(j, &j->inputs.test, o->report_window, o->report_limit, &out->test));
    if (isnan(out->validation.nll) || isnan(out->test.nll))
        return ESPL_FAIL(ESPL_FORMAT, "%s: perplexity on %s is not a number: the weights hold NaN or infinity",
                         o->model_path, isnan(out->test.nll) ? o->report_text : o->validation_text);
    return quality_of_questions(j, &j->inputs.report, &out->mmlu, &out->freebaseqa);
}

espl_status espl_quality_report(espl_job *j, espl_perplexity validation, espl_report_quality *out) {
    espl_workspace *ws = espl_model_workspace(j->model);
    espl_arithmetic loop = espl_workspace_use(ws, j->o->report_arithmetic);
    *out = (espl_report_quality){0};
    if (loop == j->o->report_arithmetic) out->validation = validation;
    if (out->validation.windows > 0) ESPL_DEBUG("report: validation as the loop has measured it");
    espl_status st = quality_measure_report(j, out);
    espl_workspace_use(ws, loop);
    return st;
}

static void quality_put_perplexity(espl_json_writer *w, const char *key, const espl_perplexity *p) {
    if (p->windows == 0) return;
    espl_json_open_object(w, key, ESPL_JSON_SPACED);
    espl_json_put_f64(w, "perplexity", p->perplexity);
    espl_json_put_f64(w, "stderr", p->perplexity_stderr);
    espl_json_put_f64(w, "nll", p->nll);
    espl_json_put_i64(w, "window", p->window);
    espl_json_put_i64(w, "windows", p->windows);
    espl_json_close(w);
}

static void quality_put_proportion(espl_json_writer *w, const char *key, const espl_proportion *p) {
    espl_json_open_object(w, key, ESPL_JSON_SPACED);
    espl_json_put_i64(w, "right", p->hits);
    espl_json_put_i64(w, "questions", p->n);
    espl_json_put_f64(w, "rate", p->rate);
    espl_json_put_f64(w, "low", p->low);
    espl_json_put_f64(w, "high", p->high);
    espl_json_close(w);
}

void espl_quality_put_report(espl_json_writer *w, const char *key, const espl_job *j, const espl_report_quality *q) {
    espl_json_open_object(w, key, ESPL_JSON_SPACED);
    quality_put_perplexity(w, "validation", &q->validation);
    quality_put_perplexity(w, "test", &q->test);
    if (j->inputs.report.has_mmlu) quality_put_proportion(w, "mmlu", &q->mmlu.micro);
    if (j->inputs.report.has_freebaseqa) {
        quality_put_proportion(w, "freebaseqa", &q->freebaseqa.exact);
        quality_put_proportion(w, "freebaseqa_contains", &q->freebaseqa.contains);
    }
    espl_json_close(w);
}

void espl_report_quality_free(espl_report_quality *q) {
    espl_mmlu_result_free(&q->mmlu);
    espl_freebaseqa_result_free(&q->freebaseqa);
}
