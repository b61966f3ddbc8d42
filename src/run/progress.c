/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress for people: a line per step, with a bar and the estimated time to the end of the run.
 */
#include "progress.h"

#include <inttypes.h>
#include <math.h>

#include "forecast.h"
#include "judge.h"

enum { BAR_CELLS = 10 }; /* so that a line fits a terminal of 80 columns */

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

/* --------------------------------------------------------------------- lines */

void espl_progress_start(espl_job *j, bool resumed) {
    progress_log_start(j, resumed);
    if (j->root) espl_forecast_start(j);
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
    ESPL_TRY(espl_forecast_step(j, o, seconds));
    if (isfinite(j->seconds_left)) espl_clock_format(j->seconds_left, left, sizeof left);
    bool told = !*left || espl_log_shows_status(); /* the last line of a terminal tells the time left */
    ESPL_INFO("%4" PRId64 " [%s] %5.2f %% perplexity %.4f (%+.2f %%) %s%s%s, took %s%s%s%s", o->iteration, bar,
              100 * o->sparsity_after, o->after.perplexity, 100 * (o->after.perplexity / o->before.perplexity - 1),
              espl_log_colour_code(o->accepted ? ESPL_COLOUR_GOOD : ESPL_COLOUR_BAD),
              o->accepted ? "accepted" : "ROLLED BACK", espl_log_colour_code(ESPL_COLOUR_OFF), took,
              told ? "" : ", about ", told ? "" : left, told ? "" : " left");
    progress_log_details(j, o);
    espl_log_status("iteration %" PRId64 ": %.1f %% of %.0f %%%s%s%s", o->iteration + 1,
                    100 * espl_job_sparsity(j, j->pruned), 100 * j->target, *left ? ", about " : "", left,
                    *left ? " left" : "");
    return ESPL_OK;
}
