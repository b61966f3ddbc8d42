/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The single step of a one-shot method. The method chooses while it prunes, so the decision is written down afterwards,
 * as if an agent had asked for it: history, checkpoints and analysis then need not know the difference.
 */
#include <inttypes.h>
#include <math.h>

#include "allocation.h"
#include "espalier/methods/oneshot.h"
#include "espalier/model/shape.h"
#include "judge.h"
#include "loop.h"
#include "quality.h"
#include "recovery.h"

static const char *method_reason_to_end(const espl_job *j) { return j->iteration > 0 ? "one shot" : NULL; }

/* The items are not known before the method has run; every rank needs the decision, but only rank 0 fills it in. */
static espl_status method_propose(espl_job *j, espl_outcome *o) {
    espl_str reason = {0};
    int64_t items = j->root ? j->linears : 0;
    espl_str_printf(&reason, "one shot: score %s, allocation %s, pattern %s, update %s",
                    espl_score_name(j->o->prune_score), espl_allocation_name(j->o->prune_allocation),
                    j->o->prune_pattern, espl_update_name(j->o->prune_update));
    espl_status st = espl_str_status(&reason);
    if (st == ESPL_OK) st = espl_decision_init(&o->decision, items);
    if (st == ESPL_OK) {
        espl_mem_free(&o->decision.reason);
        o->decision.reason = reason.data;
    } else {
        espl_str_free(&reason);
    }
    return espl_comm_agree(j->comm, st);
}

/* The fitness of the search: loss on calibration windows, more of them in each stage of the selection. The search must
 * not see the validation or report texts. */
static espl_status method_fitness(void *context, int64_t stage, double *value) {
    espl_job *j = context;
    espl_method_options o;
    ESPL_TRY(espl_config_method(j->o, &o));
    espl_corpus windows = {.ids = j->inputs.calibration, .n = espl_method_search_windows(&o, stage) * o.window};
    return espl_quality_loss(j, &windows, o.window, value);
}

static void method_show_blocks(void *context, int64_t done, int64_t n) {
    (void)context;
    espl_log_progress(done == n, "pruning: block %" PRId64 " of %" PRId64, done, n);
}

/* Collective. Zeros that the source has and the method did not ask for count as pruned, too: the sparsity that is told
 * is that of the model. */
static espl_status method_count_zeros(espl_job *j, int64_t *counts) {
    int64_t *zeros, pruned;
    ESPL_TRY(espl_comm_agree(
        j->comm, espl_mem_alloc(&zeros, espl_range_count(j->masks.linears), sizeof *zeros, "zeros of the model")));
    espl_status st = espl_comm_agree(j->comm, espl_masks_take_zeros(&j->masks, zeros));
    if (st == ESPL_OK) st = espl_masks_count_pruned(&j->masks, counts, &pruned);
    espl_mem_free(&zeros);
    return st;
}

/* A file says what each linear loses, and so what all of them lose: neither target nor cap moves it. */
static void method_take_allocation(const espl_job *j, espl_method_options *o) {
    if (!j->inputs.allocation) return;
    o->given = j->inputs.allocation;
    o->target = espl_allocation_sparsity(&j->config, o->given);
    o->cap = 1;
}

/* Collective, with an agreed status. */
static espl_status method_apply(espl_job *j, espl_outcome *o, int64_t *expected) {
    espl_method_options options;
    ESPL_TRY(espl_config_method(j->o, &options));
    options.curvature_power = j->curvature_power;
    options.fitness = method_fitness;
    options.progress = method_show_blocks;
    options.context = j;
    options.caps = j->inputs.caps;
    method_take_allocation(j, &options);
    espl_topic_samples topics[ESPL_TOPICS];
    espl_knowledge_samples(&j->inputs.profile, topics);
    options.topics = topics;
    options.topic_window = j->inputs.profile.window;
    ESPL_TRY(espl_method_run(j->comm, &options, j->inputs.calibration, &j->masks, expected));
    ESPL_TRY(method_count_zeros(j, expected));
    ESPL_TRY(espl_recovery_run(j, o->iteration, INT64_MAX)); /* the only step is the last one */
    espl_decision *d = &o->decision;                         /* from what each linear lost */
    for (int64_t i = 0; expected && i < j->linears; i++) {
        int kind = (int)espl_linear_kind_of(espl_model_layout(&j->config), i);
        double weights = (double)(j->shape.out[kind] * j->shape.in[kind]);
        if (expected[i] > 0)
            d->items[d->n++] = (espl_decision_item){.linear = i, .step = (double)expected[i] / weights};
    }
    return ESPL_OK;
}

/* A one-shot step is always accepted. */
static espl_status method_judge(espl_job *j, espl_quality *after, bool *accepted) {
    *accepted = true;
    ESPL_TRY(espl_judge_measure(j, after));
    if (!isnan(after->nll)) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT,
                     "%s: the pruned model's perplexity is not a number: NaN or infinity in its weights or on "
                     "calibration.text",
                     j->o->model_path);
}

const espl_proposer espl_method_proposer = {.reason_to_end = method_reason_to_end,
                                            .propose = method_propose,
                                            .apply = method_apply,
                                            .judge = method_judge,
                                            .always_probes = true};
