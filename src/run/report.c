/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The report: dense against pruned. Nothing in summary.json depends on time, place or the number of ranks, so equal
 * runs have equal summaries; times go to timing.json.
 */
#include "report.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "allocation.h"
#include "dense.h"
#include "espalier/base/json.h"
#include "espalier/model/shape.h"
#include "events.h"
#include "judge.h"
#include "milestones.h"
#include "model_export.h"
#include "quality.h"
#include "stop.h"
#include "summary.h"

/* With prune.mixed: linears without an N:M pattern, then those of each pattern of espl_pattern_choices. */
enum { PATTERN_COUNTS = 1 + ESPL_PATTERN_CHOICES };
typedef struct pattern_count {
    int64_t linears, pruned; /* linears that lost any weights, and those weights */
} pattern_count;

typedef struct region_seconds {
    double min, mean, max; /* over the ranks */
} region_seconds;

/* Everything that the report is made of. */
typedef struct report {
    const espl_report_quality *dense; /* the job's */
    espl_report_quality pruned;
    int64_t *lost;                             /* [linears] pruned weights of each; rank 0, owned */
    pattern_count patterns[PATTERN_COUNTS];    /* rank 0 */
    region_seconds regions[ESPL_REGION_COUNT]; /* on every rank */
} report;

/* --------------------------------------------------------------- collect */

/* The pruned model first: it is the state that the masks are in, and a failure shows before the dense model costs time.
 */
static espl_status report_measure(espl_job *j, report *r) {
    espl_log_status("report");
    ESPL_INFO("measuring the pruned and the dense model for the report");
    {
        ESPL_REGION_SCOPE(ESPL_REGION_REPORT);
        ESPL_TRY(espl_quality_report(j, espl_judge_accepted_text(j), &r->pruned));
    }
    ESPL_TRY(espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES));
    return espl_dense_report(j, &r->dense);
}

/* Counts from the masks, not from the decisions: the summary says what the model is, not what was meant. */
static espl_status report_count_pruned(espl_job *j, report *r) {
    int64_t total;
    ESPL_TRY(
        espl_comm_agree(j->comm, j->root ? espl_mem_alloc(&r->lost, j->linears, sizeof *r->lost, "counts") : ESPL_OK));
    ESPL_TRY(espl_masks_count_pruned(&j->masks, r->lost, &total));
    if (!j->o->prune_mixed) return ESPL_OK;
    ESPL_TRY(espl_comm_agree(j->comm, espl_masks_check_patterns(&j->masks, j->patterns, NULL)));
    for (int64_t i = 0; r->lost && i < j->linears; i++) {
        pattern_count *c = &r->patterns[1 + espl_pattern_choice(j->patterns[i])];
        c->linears += r->lost[i] > 0;
        c->pruned += r->lost[i];
    }
    return ESPL_OK;
}

static espl_status report_gather_regions(espl_job *j, report *r) {
    int ranks = espl_comm_size(j->comm);
    double *all = NULL;
    ESPL_TRY(espl_comm_agree(j->comm, espl_mem_alloc(&all, ranks, sizeof *all, "timings")));
    for (int k = 0; k < ESPL_REGION_COUNT; k++) {
        region_seconds s = {.min = INFINITY};
        espl_comm_gather_f64(j->comm, espl_region_seconds((espl_region)k), all);
        for (int i = 0; i < ranks; i++) {
            s.min = fmin(s.min, all[i]);
            s.max = fmax(s.max, all[i]);
            s.mean += all[i] / ranks;
        }
        r->regions[k] = s;
    }
    espl_mem_free(&all);
    return ESPL_OK;
}

/* ----------------------------------------------------------------- files */

static double report_pattern_fraction(const espl_job *j, const pattern_count *c) {
    return j->pruned > 0 ? (double)c->pruned / (double)j->pruned : 0;
}

static const char *report_pattern_name(int k, char *buf) {
    return espl_pattern_name(k > 0 ? espl_pattern_choices[k - 1] : (espl_pattern){0}, buf);
}

static void report_put_patterns(espl_json_writer *w, const espl_job *j, const report *r) {
    char name[ESPL_PATTERN_NAME_MAX];
    espl_json_open_object(w, "patterns", ESPL_JSON_SPACED);
    for (int k = 0; k < PATTERN_COUNTS; k++) {
        espl_json_open_object(w, report_pattern_name(k, name), ESPL_JSON_SPACED);
        espl_json_put_i64(w, "linears", r->patterns[k].linears);
        espl_json_put_i64(w, "pruned_weights", r->patterns[k].pruned);
        espl_json_put_f64(w, "share", report_pattern_fraction(j, &r->patterns[k]));
        espl_json_close(w);
    }
    espl_json_close(w);
}

static void report_put_milestones(espl_json_writer *w, const espl_job *j) {
    espl_str list = {0};
    if (j->n_milestones == 0) return;
    espl_milestones_put(j, &list);
    if (list.failed)
        w->out->failed = true;
    else
        espl_json_put_raw(w, "milestones", list.data, list.len);
    espl_str_free(&list);
}

static void report_put_agent(espl_json_writer *w, const espl_job *j) {
    espl_agent_stats a = espl_agent_stats_get(j->agent);
    espl_json_open_object(w, "agent", ESPL_JSON_SPACED);
    espl_json_put_text(w, "backend", espl_agent_backend_name(j->o->agent_backend));
    espl_json_put_text(w, "decided_by", espl_agent_decided_by(j->agent));
    espl_json_put_i64(w, "decisions", a.decisions);
    espl_json_put_i64(w, "questions", a.questions);
    espl_json_put_i64(w, "experiments", a.experiments);
    espl_json_put_i64(w, "requests", a.requests);
    espl_json_put_i64(w, "retries", a.retries);
    espl_json_put_i64(w, "invalid", a.invalid);
    espl_json_put_i64(w, "fallbacks", a.fallbacks);
    espl_json_put_i64(w, "prompt_tokens", a.prompt_tokens);
    espl_json_put_i64(w, "completion_tokens", a.completion_tokens);
    espl_json_close(w);
}

/* Rank 0 only. What the run is, beyond complete: a one-shot method has no target to miss and no agent. */
static espl_status report_verdict(const espl_job *j) {
    if (espl_config_is_oneshot(j->o)) return ESPL_OK;
    if (j->pruned < llround(j->target * (double)j->weights)) return ESPL_OFF_TARGET;
    return strcmp(espl_agent_decided_by(j->agent), espl_agent_backend_name(j->o->agent_backend)) == 0 ? ESPL_OK
                                                                                                      : ESPL_FELL_BACK;
}

static void report_put_summary(espl_json_writer *w, const espl_job *j, const report *r) {
    espl_json_open_object(w, NULL, ESPL_JSON_LINES);
    espl_json_put_text(w, "end", j->end);
    espl_json_put_text(w, "state", espl_status_name(report_verdict(j)));
    espl_json_put_i64(w, "iterations", j->iteration);
    espl_json_put_i64(w, "rollbacks", j->rollbacks);
    espl_json_put_f64(w, "target", j->o->prune_target);
    espl_json_put_f64(w, "sparsity", espl_job_sparsity(j, j->pruned));
    espl_json_put_f64(w, "sparsity_with_embeddings", espl_job_sparsity_of_model(j, j->pruned));
    espl_json_put_i64(w, "pruned_weights", j->pruned);
    espl_json_put_i64(w, "prunable_weights", j->weights);
    espl_json_put_i64(w, "parameters", espl_model_parameters(&j->config));
    if (j->o->prune_mixed) report_put_patterns(w, j, r);
    espl_quality_put_report(w, "dense", j, r->dense);
    espl_quality_put_report(w, "pruned", j, &r->pruned);
    report_put_milestones(w, j);
    report_put_agent(w, j);
    espl_json_put_printf(w, "masks", "checkpoints/iteration-%06" PRId64 ".h5", j->iteration);
    espl_json_put_raw(w, "identity", j->identity.data, j->identity.len);
    espl_summary_put_checksum(w);
    espl_json_close(w);
}

static void report_put_timing(espl_json_writer *w, const espl_job *j, const report *r) {
    espl_json_open_object(w, NULL, ESPL_JSON_LINES);
    espl_json_put_fixed(w, "seconds", espl_clock_now() - j->start, 3);
    espl_json_put_i64(w, "ranks", espl_comm_size(j->comm));
    espl_json_put_i64(w, "threads", espl_tensor_threads());
    espl_json_put_i64(w, "first_iteration", j->first_iteration + 1);
    espl_json_open_object(w, "distillation", ESPL_JSON_SPACED); /* a part of region "prune" */
    espl_json_put_fixed(w, "seconds", j->distill_seconds, 3);
    espl_json_put_i64(w, "steps", j->distill_steps);
    espl_json_put_i64(w, "final", espl_config_distills(j->o) ? espl_job_final_distillation(j) : 0);
    espl_json_close(w);
    espl_json_open_object(w, "regions", ESPL_JSON_LINES);
    for (int k = 0; k < ESPL_REGION_COUNT; k++) {
        espl_json_open_object(w, espl_region_label((espl_region)k), ESPL_JSON_SPACED);
        espl_json_put_fixed(w, "min", r->regions[k].min, 3);
        espl_json_put_fixed(w, "mean", r->regions[k].mean, 3);
        espl_json_put_fixed(w, "max", r->regions[k].max, 3);
        espl_json_close(w);
    }
    espl_json_close(w);
    espl_json_close(w);
}

static void report_put_allocation(espl_json_writer *w, const espl_job *j, const report *r) {
    espl_allocation_put(w, NULL, j, r->lost);
}

static espl_status report_write_file(const espl_job *j, const char *name, const report *r,
                                     void (*put)(espl_json_writer *, const espl_job *, const report *)) {
    espl_str text = {0}, path = {0};
    espl_json_writer w = espl_json_writer_on(&text);
    espl_status st;
    put(&w, j, r);
    espl_str_puts(&text, "\n");
    ESPL_CHECK(st, done, espl_str_status(&text));
    ESPL_CHECK(st, done, espl_job_path(j, name, &path));
    st = espl_file_replace(path.data, text.data, text.len);
done:
    espl_str_free(&path);
    espl_str_free(&text);
    return st;
}

/* -------------------------------------------------------------- terminal */

static void report_print_perplexity(const char *name, const espl_perplexity *dense, const espl_perplexity *pruned) {
    if (dense->windows == 0) return;
    printf("  %-28s %12.4f %12.4f   %+.2f %%\n", name, dense->perplexity, pruned->perplexity,
           100 * (pruned->perplexity / dense->perplexity - 1));
}

static void report_print_proportion(const char *name, const espl_proportion *dense, const espl_proportion *pruned) {
    printf("  %-28s %10.1f %% %10.1f %%   [%.1f, %.1f] of %" PRId64 "\n", name, 100 * dense->rate, 100 * pruned->rate,
           100 * pruned->low, 100 * pruned->high, pruned->n);
}

/* "decisions: 17 by qwen3-32b, 2 by the policy (fallback)". */
static void report_print_agent(const espl_job *j) {
    espl_agent_stats a = espl_agent_stats_get(j->agent);
    const char *backend = espl_agent_backend_name(j->o->agent_backend);
    const char *model = j->o->agent_backend == ESPL_BACKEND_OPENAI  ? j->o->agent_model
                        : j->o->agent_backend == ESPL_BACKEND_LOCAL ? j->o->agent_model_path
                                                                    : "";
    printf("decisions: %" PRId64 " by %s%s%s", a.decisions - a.fallbacks, backend, *model ? ", " : "", model);
    if (a.fallbacks > 0)
        printf(", %" PRId64 " by fallback (%s)", a.fallbacks, espl_agent_fallback_name(j->o->agent_fallback));
    if (a.questions > 0) printf("; %" PRId64 " questions, %" PRId64 " of them measured", a.questions, a.experiments);
    printf("\n");
}

/* "  at 30 %: perplexity 6.1234 (+2.10 %), MMLU 31.0 %, FreebaseQA 12.0 %". */
static void report_print_milestones(const espl_job *j, const report *r) {
    const bool tested = r->pruned.test.windows > 0;
    double dense = tested ? r->dense->test.perplexity : r->dense->validation.perplexity;
    espl_str text = {0};
    cJSON *list = NULL;
    espl_milestones_put(j, &text);
    if (j->n_milestones > 0 && !text.failed && espl_json_parse(text.data, text.len, "milestones", &list) == ESPL_OK)
        for (const cJSON *m = list->child; m; m = m->next) {
            const cJSON *q = espl_json_member(m, "pruned");
            const cJSON *p = espl_json_member(q, tested ? "test" : "validation");
            double perplexity = cJSON_GetNumberValue(espl_json_member(p, "perplexity"));
            printf("  at %.4g %%: perplexity %.4f (%+.2f %%)",
                   100 * cJSON_GetNumberValue(espl_json_member(m, "target")), perplexity,
                   100 * (perplexity / dense - 1));
            for (int k = 0; k < 2; k++) {
                const cJSON *rate = espl_json_member(espl_json_member(q, k ? "freebaseqa" : "mmlu"), "rate");
                if (rate) printf(", %s %.1f %%", k ? "FreebaseQA" : "MMLU", 100 * cJSON_GetNumberValue(rate));
            }
            printf("\n");
        }
    espl_json_free(&list);
    espl_str_free(&text);
}

static void report_print(const espl_job *j, const report *r) {
    char name[ESPL_PATTERN_NAME_MAX];
    printf("%s: %s after %" PRId64 " iterations, %" PRId64 " rolled back\n", j->o->run_dir, j->end, j->iteration,
           j->rollbacks);
    if (!espl_config_is_oneshot(j->o)) report_print_agent(j);
    printf("sparsity: %.3f %% of the linears, %.3f %% of all parameters\n", 100 * espl_job_sparsity(j, j->pruned),
           100 * espl_job_sparsity_of_model(j, j->pruned));
    if (j->o->prune_mixed) {
        printf("patterns:");
        for (int k = 0; k < PATTERN_COUNTS; k++)
            printf("%s %" PRId64 " linears %s (%.1f %% of the pruned weights)", k ? "," : "", r->patterns[k].linears,
                   report_pattern_name(k, name), 100 * report_pattern_fraction(j, &r->patterns[k]));
        printf("\n");
    }
    printf("  %-28s %12s %12s\n", "", "dense", "pruned");
    report_print_perplexity("perplexity, validation", &r->dense->validation, &r->pruned.validation);
    report_print_perplexity("perplexity, test", &r->dense->test, &r->pruned.test);
    if (j->inputs.report.has_mmlu) report_print_proportion("MMLU", &r->dense->mmlu.micro, &r->pruned.mmlu.micro);
    if (j->inputs.report.has_freebaseqa)
        report_print_proportion("FreebaseQA, exact match", &r->dense->freebaseqa.exact, &r->pruned.freebaseqa.exact);
    report_print_milestones(j, r);
    printf("time: %.1f s;", espl_clock_now() - j->start);
    for (int k = ESPL_REGION_PHASES; k < ESPL_REGION_COUNT; k++) {
        bool half = k + 1 == (ESPL_REGION_PHASES + ESPL_REGION_COUNT) / 2; /* two lines of less than 80 columns */
        printf(" %s %.1f%s", espl_region_label((espl_region)k), r->regions[k].max,
               k + 1 == ESPL_REGION_COUNT ? "\n"
               : half                     ? ",\n     "
                                          : ",");
    }
}

/* Rank 0 only. summary.json comes last: a run that is killed before it has no result, and --resume repeats the report.
 */
static espl_status report_publish(espl_job *j, const report *r) {
    ESPL_TRY(espl_run_lock_check(j->lock));
    ESPL_TRY(espl_weights_check_unchanged(espl_model_weights(j->model)));
    ESPL_TRY(report_write_file(j, "timing.json", r, report_put_timing));
    ESPL_TRY(report_write_file(j, "allocation.json", r, report_put_allocation));
    ESPL_TRY(espl_event_text(j, "end", j->end));
    ESPL_TRY(espl_events_seal(j));
    ESPL_TRY(report_write_file(j, "summary.json", r, report_put_summary));
    /* Once more: the directory may have been replaced meanwhile, and the result be in one that is gone. */
    ESPL_TRY(espl_run_lock_check(j->lock));
    espl_log_status("%s", ""); /* ends the progress line before the results */
    report_print(j, r);
    return ESPL_OK;
}

espl_status espl_report_fail(espl_status verdict, const char *run_dir) {
    if (verdict == ESPL_OFF_TARGET) /* whoever decided: decided_by in summary.json says so */
        return ESPL_FAIL(verdict, "%s: the run ended before its target was reached", run_dir);
    if (verdict == ESPL_FELL_BACK)
        return ESPL_FAIL(
            verdict,
            "%s: more decisions than agent.max_fallback_share are fallbacks: this is a run of the policy, not "
            "of the agent that was asked for",
            run_dir);
    return ESPL_OK;
}

espl_status espl_report_write(espl_job *j) {
    report r = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_stop_check(j, ESPL_STOP_BETWEEN_PHASES));
    ESPL_CHECK(st, done, report_measure(j, &r));
    ESPL_CHECK(st, done, report_count_pruned(j, &r));
    if (j->o->run_export) ESPL_CHECK(st, done, espl_model_export(j, "model", &r.pruned));
    ESPL_CHECK(st, done, report_gather_regions(j, &r));
    ESPL_CHECK(st, done, espl_comm_agree(j->comm, j->root ? report_publish(j, &r) : ESPL_OK));
    st = espl_comm_agree(j->comm, j->root ? espl_report_fail(report_verdict(j), j->o->run_dir) : ESPL_OK);
done:
    espl_mem_free(&r.lost);
    espl_report_quality_free(&r.pruned);
    return st;
}
