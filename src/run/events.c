/* events.jsonl for machines, and progress for people. */
#include "internal.h"

#include <math.h>
#include <string.h>

void espl_put_double(espl_str *s, double v) {
    if (isfinite(v))
        espl_str_printf(s, "%.17g", v);
    else
        espl_str_puts(s, "null");
}

static void put_member(espl_str *s, const char *key, double v) {
    espl_str_printf(s, ",\"%s\":", key);
    espl_put_double(s, v);
}

void espl_put_probe(espl_str *s, const espl_probe *p) {
    espl_str_puts(s, "{\"perplexity\":");
    espl_put_double(s, p->perplexity);
    put_member(s, "nll", p->nll);
    put_member(s, "nll_stderr", p->nll_stderr);
    if (p->mmlu_total > 0)
        espl_str_printf(s, ",\"mmlu\":[%lld,%lld]", (long long)p->mmlu_right, (long long)p->mmlu_total);
    if (p->freebaseqa_total > 0)
        espl_str_printf(s, ",\"freebaseqa\":[%lld,%lld]", (long long)p->freebaseqa_right,
                        (long long)p->freebaseqa_total);
    espl_str_puts(s, "}");
}

espl_status espl_event_text(job *j, const char *type, const char *text) {
    espl_str s = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, j->iteration, type);
    espl_json_put_bytes(&w, "text", text, text ? (int64_t)strlen(text) : 0);
    return espl_journal_end(j->events, &w);
}

espl_status espl_event_start(job *j, bool resumed) {
    espl_str s = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, j->iteration, resumed ? "resume" : "start");
    espl_str_printf(&s, ",\"ranks\":%d,\"threads\":%d,\"layers\":%lld,\"weights\":%lld,\"pruned\":%lld",
                    espl_comm_size(j->c), espl_tensor_threads(), (long long)j->config.layers, (long long)j->weights,
                    (long long)j->pruned);
    espl_str_puts(&s, ",\"dense\":");
    espl_put_probe(&s, &j->dense);
    return espl_journal_end(j->events, &w);
}

/* One array per column, in the order of espl_linear_index. */
static void put_column(espl_str *s, const char *key, const job *j, size_t at) {
    espl_str_printf(s, ",\"%s\":[", key);
    for (int64_t i = 0; i < j->linears; i++) {
        double v;
        memcpy(&v, (const char *)&j->rows[i] + at, sizeof v);
        if (i) espl_str_puts(s, ",");
        espl_put_double(s, v);
    }
    espl_str_puts(s, "]");
}

espl_status espl_event_profile(job *j) {
    espl_str s = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, j->iteration + 1, "profile");
    espl_str_puts(&s, ",\"sparsity\":[");
    for (int64_t i = 0; i < j->linears; i++) {
        if (i) espl_str_puts(&s, ",");
        espl_put_double(&s, (double)j->rows[i].pruned / (double)j->rows[i].weights);
    }
    espl_str_puts(&s, "]");
    put_column(&s, "s", j, offsetof(espl_profile_row, s));
    put_column(&s, "g", j, offsetof(espl_profile_row, g));
    put_column(&s, "z_s", j, offsetof(espl_profile_row, z_s));
    put_column(&s, "z_g", j, offsetof(espl_profile_row, z_g));
    put_column(&s, "damage_half", j, offsetof(espl_profile_row, damage[ESPL_DAMAGE_LEVELS / 2 - 1]));
    return espl_journal_end(j->events, &w);
}

espl_status espl_event_outcome(job *j, const espl_outcome *o, double seconds) {
    espl_str s = {0};
    if (!j->root) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, o->iteration, "outcome");
    espl_str_printf(&s, ",\"accepted\":%s,\"source\":\"%s\"", o->accepted ? "true" : "false",
                    espl_agent_source(j->agent));
    put_member(&s, "sparsity_before", o->sparsity_before);
    put_member(&s, "sparsity_after", o->sparsity_after);
    espl_str_puts(&s, ",\"before\":");
    espl_put_probe(&s, &o->before);
    espl_str_puts(&s, ",\"after\":");
    espl_put_probe(&s, &o->after);
    put_member(&s, "seconds", seconds);
    espl_str_puts(&s, ",\"decision\":");
    espl_agent_put_decision(&s, &o->decision);
    return espl_journal_end(j->events, &w);
}

/* ---------------------------------------------------------------- people */

enum { BAR = 24 };

/* "[#####----|---]": what is pruned, what this step tries, the target. */
static void draw_bar(double before, double after, double target, char *bar) {
    for (int i = 0; i < BAR; i++) {
        double at = ((double)i + 0.5) / BAR;
        bar[i] = at <= before ? '#' : at <= after ? '+' : '.';
    }
    int mark = (int)(target * BAR);
    if (mark < BAR && bar[mark] == '.') bar[mark] = '|';
    bar[BAR] = '\0';
}

static void describe_time(double seconds, char *buf, size_t size) {
    if (seconds < 90)
        snprintf(buf, size, "%.0f s", seconds);
    else if (seconds < 5400)
        snprintf(buf, size, "%.0f min", seconds / 60);
    else
        snprintf(buf, size, "%.1f h", seconds / 3600);
}

/* Time to the target at this process's pace so far. */
static double seconds_to_go(const job *j) {
    double done = espl_job_sparsity(j, j->pruned) - j->first_sparsity;
    double left = j->o->prune_target - espl_job_sparsity(j, j->pruned);
    return done > 0 ? (espl_clock_now() - j->start) * left / done : NAN;
}

void espl_show_start(const job *j, bool resumed) {
    ESPL_INFO("%s: %lld layers, %lld prunable weights; %d rank(s) x %d thread(s)%s", j->o->model_path,
              (long long)j->config.layers, (long long)j->weights, espl_comm_size(j->c), espl_tensor_threads(),
              resumed ? "; resumed" : "");
    ESPL_INFO("target %.1f %% of the linears (%.1f %% of all parameters), rollback at +%.1f %% perplexity; agent: %s",
              100 * j->o->prune_target,
              100 * espl_job_sparsity_of_model(j, (int64_t)(j->o->prune_target * (double)j->weights)),
              100 * j->o->prune_threshold, espl_agent_backend_name(j->o->agent_backend));
    ESPL_INFO("dense: perplexity %.4f", j->dense.perplexity);
}

static void show_knowledge(const espl_probe *p) {
    if (p->mmlu_total > 0 || p->freebaseqa_total > 0)
        ESPL_INFO("      MMLU %lld/%lld, FreebaseQA %lld/%lld", (long long)p->mmlu_right, (long long)p->mmlu_total,
                  (long long)p->freebaseqa_right, (long long)p->freebaseqa_total);
}

/* One line of it, cut between words. */
static void show_reason(const char *source, const char *reason) {
    enum { MOST = 160 };
    int n = (int)strnlen(reason, MOST + 1);
    bool whole = n <= MOST;
    while (!whole && n > MOST / 2 && reason[n - 1] != ' ') n--;
    ESPL_INFO("      %s: %.*s%s", source, n, reason, whole ? "" : "...");
}

void espl_show_outcome(const job *j, const espl_outcome *o, double seconds) {
    char bar[BAR + 1], took[32], left[32] = "";
    draw_bar(o->sparsity_before, o->sparsity_after, j->o->prune_target, bar);
    describe_time(seconds, took, sizeof took);
    double togo = seconds_to_go(j);
    if (isfinite(togo) && togo > 0) describe_time(togo, left, sizeof left);
    ESPL_INFO("%4lld  [%s] %5.2f %%  perplexity %.4f (%+.2f %%)  %s  %s%s%s", (long long)o->iteration, bar,
              100 * o->sparsity_after, o->after.perplexity, 100 * (o->after.perplexity / o->before.perplexity - 1),
              o->accepted ? "accepted" : "ROLLED BACK", took, *left ? ", to go " : "", left);
    if (j->root && o->decision.reason && *o->decision.reason)
        show_reason(espl_agent_source(j->agent), o->decision.reason);
    show_knowledge(&o->after);
}
