/* Measures of the model as it is masked now. */
#include "internal.h"

#include <math.h>

espl_status espl_measure_corpus(job *j, const espl_corpus *corpus, int64_t window, int64_t limit,
                                espl_perplexity *out) {
    double *window_nll;
    ESPL_TRY(espl_comm_agree(
        j->c, espl_mem_alloc(&window_nll, corpus->n / window + 1, sizeof *window_nll, "window results")));
    espl_status st = espl_eval_perplexity(j->c, j->m, corpus, window, limit, window_nll, out);
    espl_mem_free(&window_nll);
    return st;
}

static espl_status questions(job *j, const knowledge *k, espl_mmlu_result *mmlu, espl_freebaseqa_result *freebaseqa) {
    if (k->has_mmlu) ESPL_TRY(espl_eval_mmlu(j->c, j->m, &k->mmlu, mmlu));
    if (k->has_freebaseqa) ESPL_TRY(espl_eval_freebaseqa(j->c, j->m, &k->freebaseqa, freebaseqa));
    return ESPL_OK;
}

espl_status espl_measure_perplexity(job *j, espl_probe *out) {
    espl_perplexity p = {0};
    double start = espl_clock_now();
    *out = (espl_probe){0};
    ESPL_TRY(espl_measure_corpus(j, &j->data.validation, j->o->validation_window, 0, &p));
    *out = (espl_probe){.perplexity = p.perplexity, .nll = p.nll, .nll_stderr = p.nll_stderr};
    espl_region_add(ESPL_REGION_JUDGE, espl_clock_now() - start);
    return ESPL_OK;
}

espl_status espl_measure_knowledge(job *j, espl_probe *out) {
    espl_mmlu_result mmlu = {0};
    espl_freebaseqa_result freebaseqa = {0};
    double start = espl_clock_now();
    espl_status st = questions(j, &j->data.probe, &mmlu, &freebaseqa);
    out->mmlu_right = mmlu.micro.hits;
    out->mmlu_total = mmlu.micro.n;
    out->freebaseqa_right = freebaseqa.exact.hits;
    out->freebaseqa_total = freebaseqa.exact.n;
    espl_mmlu_result_free(&mmlu);
    espl_freebaseqa_result_free(&freebaseqa);
    espl_region_add(ESPL_REGION_PROBE, espl_clock_now() - start);
    return st;
}

espl_status espl_measure_all(job *j, measures *out) {
    *out = (measures){0};
    ESPL_TRY(espl_measure_corpus(j, &j->data.validation, j->o->validation_window, 0, &out->validation));
    if (j->data.report.n > 0)
        ESPL_TRY(espl_measure_corpus(j, &j->data.report, j->o->report_window, j->o->report_limit, &out->test));
    if (isnan(out->validation.nll) || isnan(out->test.nll))
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: the model's perplexity on %s is not a number: its weights hold NaN or infinity",
                         j->o->model_path, isnan(out->test.nll) ? j->o->report_text : j->o->validation_text);
    return questions(j, &j->data.final, &out->mmlu, &out->freebaseqa);
}

void espl_measures_free(measures *m) {
    espl_mmlu_result_free(&m->mmlu);
    espl_freebaseqa_result_free(&m->freebaseqa);
}
