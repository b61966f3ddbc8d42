/* The end of a run: dense against pruned, the exported model, summary.json and timing.json. */
#include "internal.h"

#include <math.h>
#include <string.h>

/* --------------------------------------------------------------- patterns */

/* With prune.mixed: the linears that were pruned without an N:M pattern, then those of each pattern of
 * espl_pattern_choices. */
enum { PATTERN_COUNTS = 1 + ESPL_PATTERN_CHOICES };
typedef struct pattern_count {
    int64_t linears, pruned; /* linears that lost any; weights */
} pattern_count;

/* Collective. counts [PATTERN_COUNTS], filled on rank 0. */
static espl_status count_patterns(job *j, pattern_count *counts) {
    int64_t *pruned = NULL, total;
    espl_status st = j->root ? espl_mem_alloc(&pruned, j->linears, sizeof *pruned, "counts") : ESPL_OK;
    st = espl_comm_agree(j->c, st);
    if (st == ESPL_OK) st = espl_masks_count_pruned(&j->masks, pruned, &total);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, espl_masks_check_patterns(&j->masks, j->patterns, NULL));
    for (int64_t i = 0; st == ESPL_OK && pruned && i < j->linears; i++) {
        pattern_count *c = &counts[1 + espl_pattern_choice(j->patterns[i])];
        c->linears += pruned[i] > 0;
        c->pruned += pruned[i];
    }
    espl_mem_free(&pruned);
    return st;
}

static double share_of(const job *j, const pattern_count *c) {
    return j->pruned > 0 ? (double)c->pruned / (double)j->pruned : 0;
}

static const char *name_of(int count, char *buf) {
    return espl_pattern_name(count > 0 ? espl_pattern_choices[count - 1] : (espl_pattern){0}, buf);
}

static void put_patterns(espl_str *s, const job *j, const pattern_count *counts) {
    char name[ESPL_PATTERN_NAME_MAX];
    if (!j->o->prune_mixed) return;
    espl_str_puts(s, "  \"patterns\": {");
    for (int p = 0; p < PATTERN_COUNTS; p++) {
        espl_str_printf(s, "%s\"%s\": {\"linears\": %lld, \"pruned_weights\": %lld, \"share\": ", p ? ", " : "",
                        name_of(p, name), (long long)counts[p].linears, (long long)counts[p].pruned);
        espl_put_double(s, share_of(j, &counts[p]));
        espl_str_puts(s, "}");
    }
    espl_str_puts(s, "},\n");
}

static void print_patterns(const job *j, const pattern_count *counts) {
    char name[ESPL_PATTERN_NAME_MAX];
    if (!j->o->prune_mixed) return;
    printf("patterns:");
    for (int p = 0; p < PATTERN_COUNTS; p++)
        printf("%s %lld linears %s (%.1f %% of the pruned weights)", p ? "," : "", (long long)counts[p].linears,
               name_of(p, name), 100 * share_of(j, &counts[p]));
    printf("\n");
}

/* ------------------------------------------------------------------ JSON */

static void put_perplexity(espl_str *s, const char *key, const espl_perplexity *p) {
    if (p->windows == 0) return;
    espl_str_printf(s, "\"%s\": {\"perplexity\": ", key);
    espl_put_double(s, p->perplexity);
    espl_str_puts(s, ", \"stderr\": ");
    espl_put_double(s, p->perplexity_stderr);
    espl_str_puts(s, ", \"nll\": ");
    espl_put_double(s, p->nll);
    espl_str_printf(s, ", \"window\": %lld, \"windows\": %lld}, ", (long long)p->window, (long long)p->windows);
}

static void put_share(espl_str *s, const char *key, const espl_proportion *h) {
    espl_str_printf(s, "\"%s\": {\"right\": %lld, \"questions\": %lld, \"rate\": ", key, (long long)h->hits,
                    (long long)h->n);
    espl_put_double(s, h->rate);
    espl_str_puts(s, ", \"low\": ");
    espl_put_double(s, h->low);
    espl_str_puts(s, ", \"high\": ");
    espl_put_double(s, h->high);
    espl_str_puts(s, "}, ");
}

static void put_measures(espl_str *s, const job *j, const char *key, const measures *m) {
    espl_str_printf(s, "  \"%s\": {", key);
    put_perplexity(s, "validation", &m->validation);
    put_perplexity(s, "test", &m->test);
    if (j->data.final.has_mmlu) put_share(s, "mmlu", &m->mmlu.micro);
    if (j->data.final.has_freebaseqa) {
        put_share(s, "freebaseqa", &m->freebaseqa.exact);
        put_share(s, "freebaseqa_contains", &m->freebaseqa.contains);
    }
    s->len -= 2; /* the last ", " */
    espl_str_puts(s, "},\n");
}

static void put_result(espl_str *s, const job *j) {
    double target = j->o->prune_target;
    espl_str_printf(s, "  \"end\": \"%s\",\n  \"iterations\": %lld,\n  \"rollbacks\": %lld,\n  \"target\": ", j->end,
                    (long long)j->iteration, (long long)j->rollbacks);
    espl_put_double(s, target);
    espl_str_puts(s, ",\n  \"sparsity\": ");
    espl_put_double(s, espl_job_sparsity(j, j->pruned));
    espl_str_puts(s, ",\n  \"sparsity_with_embeddings\": ");
    espl_put_double(s, espl_job_sparsity_of_model(j, j->pruned));
    espl_str_printf(s, ",\n  \"pruned_weights\": %lld,\n  \"prunable_weights\": %lld,\n  \"parameters\": %lld,\n",
                    (long long)j->pruned, (long long)j->weights, (long long)espl_model_parameters(&j->config));
}

static void put_agent(espl_str *s, const job *j) {
    espl_agent_stats a = espl_agent_stats_get(j->agent);
    espl_str_printf(s,
                    "  \"agent\": {\"backend\": \"%s\", \"requests\": %lld, \"retries\": %lld, \"invalid\": %lld, "
                    "\"fallbacks\": %lld, \"prompt_tokens\": %lld, \"completion_tokens\": %lld},\n",
                    espl_agent_backend_name(j->o->agent_backend), (long long)a.requests, (long long)a.retries,
                    (long long)a.invalid, (long long)a.fallbacks, (long long)a.prompt_tokens,
                    (long long)a.completion_tokens);
}

static espl_status write_file(const job *j, const char *name, espl_str *s) {
    espl_str path = {0};
    espl_status st = espl_str_status(s);
    if (st == ESPL_OK) st = espl_job_path(j, name, &path);
    if (st == ESPL_OK) st = espl_file_replace(path.data, s->data, s->len);
    espl_str_free(&path);
    espl_str_free(s);
    return st;
}

/* No times and no ranks: equal runs have equal summaries. */
static espl_status write_summary(const job *j, const measures *dense, const measures *pruned,
                                 const pattern_count *patterns) {
    espl_str s = {0};
    espl_str_puts(&s, "{\n");
    put_result(&s, j);
    put_patterns(&s, j, patterns);
    put_measures(&s, j, "dense", dense);
    put_measures(&s, j, "pruned", pruned);
    put_agent(&s, j);
    espl_str_printf(&s, "  \"masks\": \"checkpoints/iteration-%06lld.h5\",\n", (long long)j->iteration);
    espl_str_printf(&s, "  \"identity\": %s\n}\n", j->identity.data);
    return write_file(j, "summary.json", &s);
}

/* ---------------------------------------------------------------- timing */

/* Collective. Seconds of each region, [3 * ESPL_REGION_COUNT]: least, mean and most over the ranks. */
static espl_status gather_regions(job *j, double *out) {
    int n = espl_comm_size(j->c);
    double *all;
    ESPL_TRY(espl_comm_agree(j->c, espl_mem_alloc(&all, n, sizeof *all, "timings")));
    for (int r = 0; r < ESPL_REGION_COUNT; r++) {
        double least = INFINITY, most = 0, sum = 0;
        espl_comm_gather_f64(j->c, espl_region_seconds((espl_region)r), all);
        for (int i = 0; i < n; i++) {
            least = fmin(least, all[i]);
            most = fmax(most, all[i]);
            sum += all[i];
        }
        out[3 * r] = least;
        out[3 * r + 1] = sum / n;
        out[3 * r + 2] = most;
    }
    espl_mem_free(&all);
    return ESPL_OK;
}

static espl_status write_timing(const job *j, const double *regions) {
    espl_str s = {0};
    espl_str_printf(&s, "{\n  \"seconds\": %.3f,\n  \"ranks\": %d,\n  \"threads\": %d,\n  \"first_iteration\": %lld,\n",
                    espl_clock_now() - j->start, espl_comm_size(j->c), espl_tensor_threads(),
                    (long long)j->first_iteration + 1);
    espl_str_puts(&s, "  \"regions\": {");
    for (int r = 0; r < ESPL_REGION_COUNT; r++)
        espl_str_printf(&s, "%s\n    \"%s\": {\"min\": %.3f, \"mean\": %.3f, \"max\": %.3f}", r ? "," : "",
                        espl_region_label((espl_region)r), regions[3 * r], regions[3 * r + 1], regions[3 * r + 2]);
    espl_str_puts(&s, "\n  }\n}\n");
    return write_file(j, "timing.json", &s);
}

/* ---------------------------------------------------------------- people */

static void print_pair(const char *name, double dense, double pruned) {
    printf("  %-28s %12.4f %12.4f   %+.2f %%\n", name, dense, pruned, 100 * (pruned / dense - 1));
}

static void print_shares(const char *name, const espl_proportion *dense, const espl_proportion *pruned) {
    printf("  %-28s %10.1f %% %10.1f %%   [%.1f, %.1f] of %lld\n", name, 100 * dense->rate, 100 * pruned->rate,
           100 * pruned->low, 100 * pruned->high, (long long)pruned->n);
}

static void print_summary(const job *j, const measures *dense, const measures *pruned, const pattern_count *patterns) {
    printf("%s: %s after %lld iterations, %lld rolled back\n", j->o->run_dir, j->end, (long long)j->iteration,
           (long long)j->rollbacks);
    printf("sparsity: %.3f %% of the linears, %.3f %% of all parameters\n", 100 * espl_job_sparsity(j, j->pruned),
           100 * espl_job_sparsity_of_model(j, j->pruned));
    print_patterns(j, patterns);
    printf("  %-28s %12s %12s\n", "", "dense", "pruned");
    print_pair("perplexity, validation", dense->validation.perplexity, pruned->validation.perplexity);
    if (dense->test.windows) print_pair("perplexity, test", dense->test.perplexity, pruned->test.perplexity);
    if (j->data.final.has_mmlu) print_shares("MMLU", &dense->mmlu.micro, &pruned->mmlu.micro);
    if (j->data.final.has_freebaseqa)
        print_shares("FreebaseQA, exact match", &dense->freebaseqa.exact, &pruned->freebaseqa.exact);
}

static void print_timing(const double *regions, double seconds) {
    printf("time: %.1f s;", seconds);
    for (int r = ESPL_REGION_PHASES; r < ESPL_REGION_COUNT; r++)
        printf(" %s %.1f%s", espl_region_label((espl_region)r), regions[3 * r + 2],
               r + 1 < ESPL_REGION_COUNT ? "," : "\n");
}

/* ------------------------------------------------------------------ report */

static espl_status export_model(job *j) {
    espl_str dir = {0};
    double start = espl_clock_now();
    if (!j->o->run_export) return ESPL_OK;
    espl_status st = espl_comm_agree(j->c, espl_job_path(j, "model", &dir));
    if (st == ESPL_OK) st = espl_export_model(j->c, j->m, j->o->model_path, dir.data);
    if (st == ESPL_OK) ESPL_INFO("exported %s", dir.data);
    espl_str_free(&dir);
    espl_region_add(ESPL_REGION_EXPORT, espl_clock_now() - start);
    return st;
}

static espl_status measure_both(job *j, measures *dense, measures *pruned) {
    ESPL_INFO("measuring the pruned and the dense model for the report");
    ESPL_TRY(espl_measure_all(j, pruned));
    ESPL_TRY(espl_stop_check(j, false));
    espl_masks_apply_dense(&j->masks);
    ESPL_TRY(espl_measure_all(j, dense));
    espl_masks_apply(&j->masks);
    return ESPL_OK;
}

/* summary.json is written last: it says that the run is finished. */
static espl_status publish(job *j, const measures *dense, const measures *pruned, const pattern_count *patterns,
                           const double *regions) {
    ESPL_TRY(write_timing(j, regions));
    ESPL_TRY(espl_event_text(j, "end", j->end));
    ESPL_TRY(write_summary(j, dense, pruned, patterns));
    print_summary(j, dense, pruned, patterns);
    print_timing(regions, espl_clock_now() - j->start);
    return ESPL_OK;
}

espl_status espl_report(job *j) {
    measures dense = {0}, pruned = {0};
    pattern_count patterns[PATTERN_COUNTS] = {0};
    double regions[3 * ESPL_REGION_COUNT], start = espl_clock_now();
    espl_status st = espl_stop_check(j, false);
    if (st == ESPL_OK) st = measure_both(j, &dense, &pruned);
    espl_region_add(ESPL_REGION_REPORT, espl_clock_now() - start);
    if (st == ESPL_OK) st = export_model(j);
    if (st == ESPL_OK && j->o->prune_mixed) st = count_patterns(j, patterns);
    if (st == ESPL_OK) st = gather_regions(j, regions);
    if (st == ESPL_OK) st = espl_comm_agree(j->c, j->root ? publish(j, &dense, &pruned, patterns, regions) : ESPL_OK);
    espl_measures_free(&dense);
    espl_measures_free(&pruned);
    return st;
}
