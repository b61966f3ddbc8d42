/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The time left: the steps to the target (pace.h) at the mean time of the last ones, distillation at the end, and the
 * report.
 */
#include "forecast.h"

#include <math.h>

#include "espalier/base/integer.h"

/* Adds a step to the pace. seconds below 0: unknown. */
static void forecast_add_step(espl_job *j, const espl_outcome *o, double seconds) {
    struct espl_pace_step step = {.items = o->decision.n, .seconds = seconds, .accepted = o->accepted};
    for (int64_t i = 0; i < o->decision.n; i++) step.removed += o->decision.items[i].step;
    if (o->accepted) step.gain = o->sparsity_after - o->sparsity_before;
    espl_pace_add(&j->pace, &step);
}

/* Seconds of the report: the dense model was measured with the same means. A resumed process has measured less, and
 * takes the questions for free. */
static double forecast_report(const espl_job *j) {
    const espl_inputs *in = &j->inputs;
    double validation = (double)(j->validation_windows * j->o->validation_window), answers = 0;
    double test = (double)(j->o->report_limit ? espl_min_i64(j->o->report_limit, in->test.n) : in->test.n);
    for (int64_t i = 0; i < in->judge.first[ESPL_TOPICS]; i++) answers += (double)in->judge.lengths[i];
    double read = test + (j->o->report_arithmetic == j->o->compute_arithmetic ? 0 : validation);
    double text = espl_region_seconds(ESPL_REGION_JUDGE) * read / fmax(1, validation + answers);
    double probed = (double)(j->dense.mmlu_total + j->dense.freebaseqa_total);
    double asked = (double)(in->report.mmlu.n + in->report.freebaseqa.n);
    double questions = probed > 0 ? espl_region_seconds(ESPL_REGION_PROBE) * asked / probed : 0;
    return 2 * (text + questions); /* the pruned and the dense model */
}

/* *left: seconds to the end of the run; NaN: unknown. The profile's rows are those before the step `o`. */
static espl_status forecast_agent(const espl_job *j, const espl_outcome *o, double *left) {
    double *sparsity = NULL, *weights = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&sparsity, j->linears, sizeof *sparsity, "forecast"));
    ESPL_CHECK(st, done, espl_mem_alloc(&weights, j->linears, sizeof *weights, "forecast"));
    for (int64_t i = 0; i < j->linears; i++) {
        weights[i] = (double)j->rows[i].weights;
        sparsity[i] = (double)j->rows[i].pruned / weights[i];
    }
    for (int64_t i = 0; o->accepted && i < o->decision.n; i++)
        sparsity[o->decision.items[i].linear] += o->decision.items[i].step;
    espl_pace_goal goal = {.sparsity = sparsity,
                           .weights = weights,
                           .linears = j->linears,
                           .max_linears = j->o->prune_max_linears,
                           .target = j->target};
    bool reached = j->pruned >= llround(j->target * (double)j->weights);
    double steps = reached ? 0 : espl_pace_steps_left(&j->pace, &goal);
    double distilled = j->distill_steps > 0 ? j->distill_seconds / (double)j->distill_steps : 0;
    double allowed = (double)(j->o->prune_max_iterations - j->iteration);
    if (steps > allowed) steps = allowed;
    double measured = (double)(j->n_milestones - j->milestones_passed) / 2; /* the report measures two models */
    *left = steps * espl_pace_seconds(&j->pace) + (1 + measured) * j->report_seconds;
    if (!reached) *left += distilled * (double)(espl_job_final_distillation(j) - j->o->distill_steps);
done:
    espl_mem_free(&sparsity);
    espl_mem_free(&weights);
    return st;
}

void espl_forecast_start(espl_job *j) {
    j->report_seconds = forecast_report(j);
    for (int64_t i = 0; i < j->n_history; i++) forecast_add_step(j, &j->history[i], -1);
}

espl_status espl_forecast_step(espl_job *j, const espl_outcome *o, double seconds) {
    forecast_add_step(j, o, seconds);
    j->seconds_left = j->report_seconds; /* a one-shot method has no further step */
    return espl_config_is_oneshot(j->o) ? ESPL_OK : forecast_agent(j, o, &j->seconds_left);
}
