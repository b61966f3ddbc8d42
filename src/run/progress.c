/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Progress for people: a line per step, with a bar and the estimated time to the target. Times are for people and for
 * the time limit; no decision depends on them.
 */
#include "progress.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "judge.h"

enum { BAR_CELLS = 24, REASON_BYTES_MAX = 160 }; /* so that a line fits a terminal, and a reason two of its lines */

void espl_progress_start(const espl_job *j, bool resumed) {
    const espl_config *o = j->o;
    ESPL_INFO("%s: %" PRId64 " layers, %" PRId64 " prunable weights; %d rank(s) x %d thread(s)%s", o->model_path,
              j->config.layers, j->weights, espl_comm_size(j->comm), espl_tensor_threads(), resumed ? "; resumed" : "");
    if (espl_config_is_oneshot(o))
        ESPL_INFO("one shot: score %s, allocation %s, pattern %s, update %s", espl_score_name(o->prune_score),
                  espl_allocation_name(o->prune_allocation), o->prune_pattern, espl_update_name(o->prune_update));
    else
        ESPL_INFO(
            "target %.1f %% of the linears (%.1f %% of all parameters), rollback at +%.1f %% perplexity; agent: %s",
            100 * o->prune_target, 100 * espl_job_sparsity_of_model(j, (int64_t)(o->prune_target * (double)j->weights)),
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

/* Two significant digits are enough: an estimate that moves with every step should not look exact. */
static void progress_format_time(double seconds, char *buf, size_t size) {
    if (seconds < 90)
        snprintf(buf, size, "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(buf, size, "%.0f min", seconds / 60);
    else
        snprintf(buf, size, "%.1f h", seconds / 3600);
}

void espl_progress_experiment(const espl_job *j, const espl_outcome *o) {
    double rise = espl_quality_rise(&o->before, &o->after, j->o->knowledge_share);
    ESPL_INFO("      the agent tries %" PRId64
              " linears to %.2f %%: perplexity %.4f (%+.2f %%), loss %+.2f %% of %.2f %%; "
              "taken back",
              o->decision.n, 100 * o->sparsity_after, o->after.perplexity,
              100 * (o->after.perplexity / o->before.perplexity - 1), 100 * expm1(rise), 100 * j->o->prune_threshold);
}

void espl_progress_outcome(const espl_job *j, const espl_outcome *o, double seconds) {
    char bar[BAR_CELLS + 1], took[32], left[32] = "";
    progress_draw_bar(o->sparsity_before, o->sparsity_after, j->o->prune_target, bar);
    progress_format_time(seconds, took, sizeof took);
    /* The time to the target, at the pace of this process so far. */
    double now = espl_job_sparsity(j, j->pruned), done = now - j->first_sparsity;
    double remaining = (espl_clock_now() - j->start) * (j->o->prune_target - now) / done;
    if (done > 0 && remaining > 0) progress_format_time(remaining, left, sizeof left);
    ESPL_INFO("%4" PRId64 "  [%s] %5.2f %%  perplexity %.4f (%+.2f %%)  %s, took %s%s%s%s", o->iteration, bar,
              100 * o->sparsity_after, o->after.perplexity, 100 * (o->after.perplexity / o->before.perplexity - 1),
              o->accepted ? "accepted" : "ROLLED BACK", took, *left ? ", " : "", left, *left ? " left" : "");
    if (isfinite(o->after.answers) && !espl_config_is_oneshot(j->o)) {
        double rise = espl_quality_rise(&o->before, &o->after, j->o->knowledge_share);
        ESPL_INFO("      answers %.4f (%+.4f), loss %+.2f %% of %.2f %%%s", o->after.answers,
                  o->after.answers - o->before.answers, 100 * expm1(rise), 100 * j->o->prune_threshold,
                  espl_judge_is_beyond_limit(j, &o->after) ? "; beyond prune.max_rise" : "");
    }
    const char *reason = o->decision.reason;
    const char *source = j->root ? espl_agent_source(j->agent) : ""; /* empty for a one-shot method */
    if (j->root && reason && *reason) {                              /* one line of it, cut between words */
        int n = (int)strnlen(reason, REASON_BYTES_MAX + 1);
        bool whole = n <= REASON_BYTES_MAX;
        while (!whole && n > REASON_BYTES_MAX / 2 && reason[n - 1] != ' ') n--;
        ESPL_INFO("      %s%s%.*s%s", source, *source ? ": " : "", n, reason, whole ? "" : "...");
    }
    if (o->after.mmlu_total > 0 || o->after.freebaseqa_total > 0)
        ESPL_INFO("      MMLU %" PRId64 "/%" PRId64 ", FreebaseQA %" PRId64 "/%" PRId64, o->after.mmlu_right,
                  o->after.mmlu_total, o->after.freebaseqa_right, o->after.freebaseqa_total);
}
