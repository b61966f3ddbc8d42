/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress for people: a line per step, with a bar and the estimated time to the end of the run. Times are for people
 * and for the time limit; no decision depends on them.
 */
#include "progress.h"

#include <inttypes.h>
#include <math.h>

#include "espalier/base/integer.h"
#include "judge.h"

enum { BAR_CELLS = 24 }; /* so that a line fits a terminal */

static void progress_log_start(const espl_job *j, bool resumed) {
    const espl_config *o = j->o;
    ESPL_INFO("%s: %" PRId64 " layers, %" PRId64 " prunable weights; %d rank(s) x %d thread(s)%s", o->model_path,
              j->config.layers, j->weights, espl_comm_size(j->comm), espl_tensor_threads(), resumed ? "; resumed" : "");
    if (espl_config_is_oneshot(o))
        ESPL_INFO("one shot: score %s, allocation %s, pattern %s, update %s", espl_score_name(o->prune_score),
                  espl_allocation_name(o->prune_allocation), o->prune_pattern, espl_update_name(o->prune_update));
    else
        ESPL_INFO(
            "target %.1f %% of the linears (%.1f %% of all parameters), rollback at +%.1f %% perplexity; agent: %s",
            100 * j->target, 100 * espl_job_sparsity_of_model(j, (int64_t)(j->target * (double)j->weights)),
            100 * o->prune_threshold, espl_agent_backend_name(o->agent_backend));
    if (!espl_config_is_oneshot(o) && j->inputs.judge.n > 0)
        ESPL_INFO("judged by text (%.3g %%) and answers (%.3g %%); over the dense model at most +%.3g %%",
                  100 * (1 - o->knowledge_share), 100 * o->knowledge_share, 100 * o->prune_max_rise);
    if (j->source_pruned > 0)
        ESPL_INFO("note: %" PRId64 " prunable weights of the source (%.2f %%) are 0 already; they count as pruned",
                  j->source_pruned, 100 * espl_job_sparsity(j, j->source_pruned));
    if (isfinite(j->dense.answers))
        ESPL_INFO("dense: perplexity %.4f, loss of answers %.4f", j->dense.perplexity, j->dense.answers);
    else
        ESPL_INFO("dense: perplexity %.4f", j->dense.perplexity);
}

/* "[#####++..|..]": pruned so far, what this step tries, the target. */
static void progress_draw_bar(double before, double after, double target, char *bar) {
    for (int i = 0; i < BAR_CELLS; i++) {
        double cell = ((double)i + 0.5) / BAR_CELLS;
        bar[i] = cell <= before ? '#' : cell <= after ? '+' : '.';
    }
    int mark = (int)(target * BAR_CELLS);
    if (mark < BAR_CELLS && bar[mark] == '.') bar[mark] = '|';
    bar[BAR_CELLS] = '\0';
}

/* ----------------------------------------------------------------- time left */

/* Adds a step to the pace. seconds below 0: unknown. */
static void progress_add_step(espl_job *j, const espl_outcome *o, double seconds) {
    struct espl_pace_step step = {.items = o->decision.n, .seconds = seconds, .accepted = o->accepted};
    for (int64_t i = 0; i < o->decision.n; i++) step.removed += o->decision.items[i].step;
    if (o->accepted) step.gain = o->sparsity_after - o->sparsity_before;
    espl_pace_add(&j->pace, &step);
}

/* Seconds of the report: the dense model was measured with the same means. A resumed process has measured less, and
 * takes the questions for free. */
static double progress_forecast_report(const espl_job *j) {
    const espl_inputs *in = &j->inputs;
    double validation = (double)(j->validation_windows * j->o->validation_window), answers = 0;
    double test = (double)(j->o->report_limit ? espl_min_i64(j->o->report_limit, in->test.n) : in->test.n);
    for (int64_t i = 0; i < in->judge.first[ESPL_TOPICS]; i++) answers += (double)in->judge.lengths[i];
    double text = espl_region_seconds(ESPL_REGION_JUDGE) * (validation + test) / fmax(1, validation + answers);
    double probed = (double)(j->dense.mmlu_total + j->dense.freebaseqa_total);
    double asked = (double)(in->report.mmlu.n + in->report.freebaseqa.n);
    double questions = probed > 0 ? espl_region_seconds(ESPL_REGION_PROBE) * asked / probed : 0;
    return 2 * (text + questions); /* the pruned and the dense model */
}

/* Rank 0 only. *left: seconds to the end of the run; NaN: unknown. The profile's rows are those before the step `o`. */
static espl_status progress_estimate(const espl_job *j, const espl_outcome *o, double *left) {
    double *sparsity = NULL, *weights = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&sparsity, j->linears, sizeof *sparsity, "progress"));
    ESPL_CHECK(st, done, espl_mem_alloc(&weights, j->linears, sizeof *weights, "progress"));
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
    *left = steps * espl_pace_seconds(&j->pace) + j->report_seconds;
    if (!reached) *left += distilled * (double)(espl_job_final_distillation(j) - j->o->distill_steps);
done:
    espl_mem_free(&sparsity);
    espl_mem_free(&weights);
    return st;
}

/* --------------------------------------------------------------------- lines */

void espl_progress_start(espl_job *j, bool resumed) {
    progress_log_start(j, resumed);
    j->report_seconds = progress_forecast_report(j);
    for (int64_t i = 0; i < j->n_history; i++) progress_add_step(j, &j->history[i], -1);
    if (espl_config_is_oneshot(j->o))
        espl_log_status("one shot");
    else
        espl_log_status("iteration %" PRId64 ": %.1f %% of %.0f %%", j->iteration + 1,
                        100 * espl_job_sparsity(j, j->pruned), 100 * j->target);
}

void espl_progress_experiment(const espl_job *j, const espl_outcome *o) {
    double rise = espl_quality_rise(&o->before, &o->after, j->o->knowledge_share);
    if (!j->root) return;
    espl_log_more(
        "the agent tries %" PRId64 " linears to %.2f %%: perplexity %.4f (%+.2f %%), loss %+.2f %% of %.2f %%; "
        "taken back",
        o->decision.n, 100 * o->sparsity_after, o->after.perplexity,
        100 * (o->after.perplexity / o->before.perplexity - 1), 100 * expm1(rise), 100 * j->o->prune_threshold);
}

/* What stands below the line of a step: answers, counted questions, and the whole reason. */
static void progress_log_details(const espl_job *j, const espl_outcome *o) {
    espl_str text = {0};
    if (isfinite(o->after.answers) && !espl_config_is_oneshot(j->o)) {
        double rise = espl_quality_rise(&o->before, &o->after, j->o->knowledge_share);
        espl_str_printf(&text, "answers %.4f (%+.4f), loss %+.2f %% of %.2f %%%s; ", o->after.answers,
                        o->after.answers - o->before.answers, 100 * expm1(rise), 100 * j->o->prune_threshold,
                        espl_judge_is_beyond_limit(j, &o->after) ? ", beyond prune.max_rise" : "");
    }
    if (o->after.mmlu_total > 0 || o->after.freebaseqa_total > 0)
        espl_str_printf(&text, "MMLU %" PRId64 "/%" PRId64 ", FreebaseQA %" PRId64 "/%" PRId64 "; ",
                        o->after.mmlu_right, o->after.mmlu_total, o->after.freebaseqa_right, o->after.freebaseqa_total);
    if (text.len > 2 && !text.failed) espl_log_more("%.*s", (int)text.len - 2, text.data);
    espl_str_free(&text);
    const char *reason = o->decision.reason, *source = espl_agent_source(j->agent); /* empty for a one-shot method */
    if (reason && *reason) espl_log_more("%s%s%s", source, *source ? ": " : "", reason);
}

espl_status espl_progress_outcome(espl_job *j, const espl_outcome *o, double seconds) {
    char bar[BAR_CELLS + 1], took[32], left[32] = "";
    if (!j->root) return ESPL_OK;
    progress_draw_bar(o->sparsity_before, o->sparsity_after, j->target, bar);
    espl_clock_format(seconds, took, sizeof took);
    progress_add_step(j, o, seconds);
    j->seconds_left = j->report_seconds; /* a one-shot method has no further step */
    if (!espl_config_is_oneshot(j->o)) ESPL_TRY(progress_estimate(j, o, &j->seconds_left));
    if (isfinite(j->seconds_left)) espl_clock_format(j->seconds_left, left, sizeof left);
    ESPL_INFO("%4" PRId64 "  [%s] %5.2f %%  perplexity %.4f (%+.2f %%)  %s%s%s, took %s%s%s%s", o->iteration, bar,
              100 * o->sparsity_after, o->after.perplexity, 100 * (o->after.perplexity / o->before.perplexity - 1),
              espl_log_colour_code(o->accepted ? ESPL_COLOUR_GOOD : ESPL_COLOUR_BAD),
              o->accepted ? "accepted" : "ROLLED BACK", espl_log_colour_code(ESPL_COLOUR_OFF), took,
              *left ? ", about " : "", left, *left ? " left" : "");
    progress_log_details(j, o);
    espl_log_status("iteration %" PRId64 ": %.1f %% of %.0f %%%s%s%s", o->iteration + 1,
                    100 * espl_job_sparsity(j, j->pruned), 100 * j->target, *left ? ", about " : "", left,
                    *left ? " left" : "");
    return ESPL_OK;
}
