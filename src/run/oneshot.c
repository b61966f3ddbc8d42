/* The one-shot baselines: all that the loop does in many iterations, in one. */
#include "internal.h"

#include <math.h>
#include <string.h>

/* -------------------------------------------------------------- fitness */

/* Perplexity on calibration windows, four times as many from stage to stage: what a search looks at must be neither
 * what iterations are judged by nor what is reported. */
static espl_status fitness(void *context, int64_t stage, double *value) {
    job *j = context;
    espl_method_options method;
    ESPL_TRY(espl_config_method(j->o, &method));
    int64_t windows = espl_method_search_windows(&method, stage);
    espl_corpus part = {.ids = j->data.calibration, .n = windows * j->o->calibration_window};
    espl_perplexity p = {0};
    ESPL_TRY(espl_measure_corpus(j, &part, j->o->calibration_window, 0, &p));
    *value = p.nll;
    return ESPL_OK;
}

static void show_blocks(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "pruning: block %lld of %lld", (long long)done, (long long)n);
}

/* -------------------------------------------------------------- outcome */

/* As if an agent had asked for it at once. Rank 0 only. */
static espl_status describe(job *j, const int64_t *counts, espl_outcome *o) {
    espl_str reason = {0};
    ESPL_TRY(espl_decision_init(&o->decision, j->linears));
    for (int64_t i = 0; i < j->linears; i++) {
        int64_t out = j->shape.out[espl_linear_kind_of(i)], in = j->shape.in[espl_linear_kind_of(i)];
        if (counts[i] > 0)
            o->decision.items[o->decision.n++] =
                (espl_decision_item){.linear = i, .step = (double)counts[i] / (double)(out * in)};
    }
    espl_str_printf(&reason, "one shot: score %s, allocation %s, pattern %s, update %s",
                    espl_score_name(j->o->prune_score), espl_allocation_name(j->o->prune_allocation),
                    j->o->prune_pattern, espl_update_name(j->o->prune_update));
    ESPL_TRY(espl_str_status(&reason));
    espl_mem_free(&o->decision.reason);
    o->decision.reason = reason.data;
    return ESPL_OK;
}

static espl_status prune_all(job *j, const espl_method_options *p, espl_outcome *o) {
    int64_t *counts = NULL;
    double start = espl_clock_now();
    espl_status st = espl_comm_agree(j->c, espl_mem_alloc(&counts, j->linears, sizeof *counts, "counts"));
    if (st == ESPL_OK) st = espl_method_run(j->c, p, j->data.calibration, &j->masks, counts);
    espl_region_add(ESPL_REGION_PRUNE, espl_clock_now() - start);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, j->root ? describe(j, counts, o) : ESPL_OK);
    espl_mem_free(&counts);
    return st;
}

/* Whatever the perplexity, it is accepted: a baseline does not look back. */
static espl_status settle(job *j, espl_outcome *o, double start) {
    ESPL_TRY(espl_masks_count_pruned(&j->masks, NULL, &j->pruned));
    o->sparsity_after = espl_job_sparsity(j, j->pruned);
    ESPL_TRY(espl_measure_perplexity(j, &o->after));
    if (isnan(o->after.nll))
        return ESPL_FAIL(ESPL_FORMAT,
                         "%s: the pruned model's perplexity is not a number: NaN or infinity in its weights "
                         "or on calibration.text",
                         j->o->model_path);
    ESPL_TRY(espl_measure_knowledge(j, &o->after));
    j->last = o->after;
    j->iteration = o->iteration;
    j->revision++;
    double seconds = espl_clock_now() - start;
    espl_show_outcome(j, o, seconds);
    espl_status st = j->root ? espl_event_outcome(j, o, seconds) : ESPL_OK;
    if (st == ESPL_OK && j->root) st = espl_job_remember(j, o);
    ESPL_TRY(espl_comm_agree(j->c, st));
    return espl_store_write(j);
}

espl_status espl_run_oneshot(job *j) {
    espl_method_options p;
    espl_outcome o = {.iteration = 1, .accepted = true, .before = j->last};
    double start = espl_clock_now();
    j->end = "one shot";
    if (j->iteration > 0) return ESPL_OK; /* resumed behind it */
    ESPL_TRY(espl_config_method(j->o, &p));
    p.fitness = fitness;
    p.progress = show_blocks;
    p.context = j;
    espl_status st = prune_all(j, &p, &o);
    if (st == ESPL_OK) st = settle(j, &o, start);
    espl_decision_free(&o.decision);
    return st;
}
