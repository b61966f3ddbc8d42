/* What the endpoint's model reads: the rules once, and in each iteration the state, all profiles and the past. */
#include "internal.h"

#include <math.h>
#include <string.h>

static const double PRICED = 0.05; /* sparsity */

/* ------------------------------------------------------------------- system */

static void put_pattern_rule(espl_str *s, const espl_agent_view *v) {
    char name[ESPL_PATTERN_NAME_MAX];
    if (!v->mixed) return;
    espl_str_printf(
        s,
        "- Instead of a step, a linear that is still dense (sparsity 0) may be given \"2:4\" or \"4:8\", in "
        "quotes: of every 4 (8) consecutive inputs of a row exactly 2 (4) stay. It is %.6g %% sparse at "
        "once, whatever the largest step, and finished: it must not be named again.\n",
        100 * ESPL_PATTERN_CHOICE_SPARSITY);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++)
        for (int p = 0; p < ESPL_PATTERN_CHOICES; p++)
            if (!espl_view_fits(v, k, espl_pattern_choices[p]))
                espl_str_printf(s, "- \"%s\" does not fit the inputs of %s.\n",
                                espl_pattern_name(espl_pattern_choices[p], name),
                                espl_linear_path((espl_linear_kind)k));
}

static void put_rules(espl_str *s, const espl_agent_view *v) {
    const espl_budget *b = &v->budget;
    espl_str_puts(s, "Rules:\n- Use only names from the table of profiles.\n");
    espl_str_printf(s,
                    "- A step is the sparsity to add to a linear now, as a fraction of its weights: above 0, at most "
                    "%.6g. Name at most %lld linears.\n",
                    b->max_step, (long long)b->max_linears);
    put_pattern_rule(s, v);
    espl_str_printf(s, "- No linear may end above sparsity %.6g; pruned weights do not come back.\n", b->cap);
    espl_str_printf(s,
                    "- If perplexity rises by more than %.6g %% over the last accepted state, the step is rolled back "
                    "and you are told.\n",
                    100 * b->threshold);
    espl_str_printf(s, "- There are at most %lld iterations; rolled back ones count.\n", (long long)b->max_iterations);
}

static void put_pattern_advice(espl_str *s, const espl_agent_view *v) {
    if (v->mixed)
        espl_str_puts(s, "Hardware computes \"2:4\" faster, some also \"4:8\", nothing else. It costs more perplexity "
                         "than the same sparsity without a pattern: \"4:8\" perhaps half more, \"2:4\" more than "
                         "twice. Make robust linears that should end near 50 % so, \"2:4\" where it does little "
                         "harm, before you prune them otherwise; leave the others unstructured.\n");
}

void espl_agent_put_system(espl_str *out, const espl_agent_view *view, const char *model_name) {
    espl_str_puts(out, "You are a gardener who prunes a large language model");
    if (model_name) {
        espl_str_puts(out, " (");
        espl_put_clean(out, model_name, (int64_t)strlen(model_name), 128);
        espl_str_puts(out, ")");
    }
    espl_str_printf(out,
                    " step by step until %.6g %% of the weights of its linear layers are zero, while perplexity stays "
                    "low and its factual knowledge is kept. Nothing is retrained. In each iteration you choose which "
                    "linears to prune further and by how much; within a linear, the least important weights go "
                    "first.\n\n",
                    100 * view->budget.target);
    put_rules(out, view);
    espl_str_puts(
        out, "\nProfiles: z_s is the z-score of how much even the weakest surviving weights of a linear matter "
             "(weight times activation), z_g that of the loss gradient. High means sensitive: prune less. Low "
             "means robust: prune more. price, where given, is the rise of perplexity in % that pruning a further 0.05 "
             "of a linear is expected to cause; trust its proportions more than its size. Learn from the outcomes: "
             "what preceded a rollback is dear, what was pruned "
             "at no cost is cheap. Damage grows faster than sparsity, so spread the pruning.\n");
    put_pattern_advice(out, view);
    espl_str_printf(out,
                    "\nAnswer with one JSON object and nothing else:\n"
                    "{\"reasoning\": \"why these linears\", \"reflection\": \"what the last outcome taught you\", "
                    "\"prune\": {\"layers.0.mlp.up_proj\": %.6g%s}, \"stop\": false}\n",
                    espl_view_example(view), view->mixed ? ", \"layers.3.mlp.down_proj\": \"2:4\"" : "");
    espl_str_puts(out,
                  "\"stop\": true ends the work for good; use it only if going on would do more harm than good.\n");
}

/* -------------------------------------------------------------------- state */

static void put_perplexity(espl_str *s, const espl_agent_view *v) {
    if (!isfinite(v->last.perplexity)) return;
    espl_str_printf(s, "Perplexity: %.6g", v->last.perplexity);
    if (isfinite(v->dense.perplexity) && v->dense.perplexity > 0)
        espl_str_printf(s, " (dense %.6g, %+.2f %%)", v->dense.perplexity,
                        100 * (v->last.perplexity / v->dense.perplexity - 1));
    espl_str_puts(s, ".\n");
}

static void put_knowledge(espl_str *s, const char *name, int64_t right, int64_t total, int64_t dense_right,
                          int64_t dense_total) {
    if (total <= 0) return;
    espl_str_printf(s, "%s: %lld of %lld right", name, (long long)right, (long long)total);
    if (dense_total > 0) espl_str_printf(s, " (dense %lld of %lld)", (long long)dense_right, (long long)dense_total);
    espl_str_puts(s, ".\n");
}

static void put_state(espl_str *s, const espl_agent_view *v) {
    const espl_budget *b = &v->budget;
    int64_t remaining = b->max_iterations - v->iteration + 1;
    espl_str_printf(s, "Iteration %lld of at most %lld.\n", (long long)v->iteration, (long long)b->max_iterations);
    espl_str_printf(s, "Overall sparsity of the linears: %.3f %%; target %.3f %%.", 100 * v->sparsity, 100 * b->target);
    if (isfinite(v->sparsity_model)) espl_str_printf(s, " With embeddings: %.3f %%.", 100 * v->sparsity_model);
    if (remaining > 0)
        espl_str_printf(s, " An even pace adds %.3f %% per iteration.", 100 * (b->target - v->sparsity) / remaining);
    espl_str_puts(s, "\n");
    put_perplexity(s, v);
    put_knowledge(s, "FreebaseQA", v->last.freebaseqa_right, v->last.freebaseqa_total, v->dense.freebaseqa_right,
                  v->dense.freebaseqa_total);
    put_knowledge(s, "MMLU", v->last.mmlu_right, v->last.mmlu_total, v->dense.mmlu_right, v->dense.mmlu_total);
}

static void put_z(espl_str *s, double z) {
    if (isfinite(z))
        espl_str_printf(s, " %.2f", z);
    else
        espl_str_puts(s, " ?");
}

/* What a further PRICED of the linear is expected to do to perplexity. */
static void put_price(espl_str *s, const espl_profile_row *r) {
    double now = espl_row_sparsity(r);
    espl_str_printf(s, " %.3g", 100 * expm1(espl_row_damage(r, now + PRICED) - espl_row_damage(r, now)));
}

static void put_table(espl_str *s, const espl_agent_view *v) {
    char name[64], pattern[ESPL_PATTERN_NAME_MAX];
    bool prices = espl_view_has_damage(v);
    double total = fmax(1, (double)espl_view_weights(v));
    espl_str_printf(s, "\nProfiles (name, share of all weights in %%, z_s, z_g, sparsity%s%s):\n",
                    prices ? ", price" : "", v->mixed ? ", pattern if it has one" : "");
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const espl_profile_row *r = &v->rows[i];
        espl_str_printf(s, "%s %.3g", espl_linear_name(i, name), 100 * (double)r->weights / total);
        put_z(s, r->z_s);
        put_z(s, r->z_g);
        espl_str_printf(s, " %.4g", espl_row_sparsity(r));
        if (prices) put_price(s, r);
        if (espl_pattern_is_n_m(espl_view_pattern(v, i)))
            espl_str_printf(s, " %s", espl_pattern_name(espl_view_pattern(v, i), pattern));
        espl_str_puts(s, "\n");
    }
}

/* ------------------------------------------------------------------ history */

static void put_outcome_line(espl_str *s, const espl_outcome *o) {
    double rise = espl_outcome_rise(o);
    espl_str_printf(s, "iteration %lld: %s, %lld linears, sparsity %.3f %% -> %.3f %%", (long long)o->iteration,
                    o->accepted ? "accepted" : "ROLLED BACK", (long long)o->decision.n, 100 * o->sparsity_before,
                    100 * o->sparsity_after);
    if (isfinite(rise))
        espl_str_printf(s, ", perplexity %.6g -> %.6g (%+.2f %%)", o->before.perplexity, o->after.perplexity,
                        100 * rise);
    else if (isinf(rise))
        espl_str_printf(s, ", perplexity %.6g -> not a number", o->before.perplexity);
    espl_str_puts(s, "\n");
}

static void put_items(espl_str *s, const espl_outcome *o) {
    enum { SHOWN = 48 };
    char name[64], pattern[ESPL_PATTERN_NAME_MAX];
    espl_str_puts(s, "  pruned:");
    for (int64_t k = 0; k < o->decision.n && k < SHOWN; k++) {
        const espl_decision_item *item = &o->decision.items[k];
        espl_str_printf(s, " %s ", espl_linear_name(item->linear, name));
        if (espl_pattern_is_n_m(item->pattern))
            espl_str_puts(s, espl_pattern_name(item->pattern, pattern));
        else
            espl_str_printf(s, "%.4g", item->step);
    }
    if (o->decision.n > SHOWN) espl_str_printf(s, " and %lld more", (long long)(o->decision.n - SHOWN));
    espl_str_puts(s, "\n");
}

static void put_said(espl_str *s, const char *what, const char *text) {
    if (!text || !*text) return;
    espl_str_printf(s, "  %s: ", what);
    espl_put_clean(s, text, (int64_t)strlen(text), 600);
    espl_str_puts(s, "\n");
}

/* An outcome at level 2: all of it; 1: one line; 0: nothing. Returns its length at that level. */
static int64_t put_outcome(espl_str *s, const espl_outcome *o, int level) {
    int64_t before = s->len;
    if (level >= 1) put_outcome_line(s, o);
    if (level >= 2) {
        put_items(s, o);
        put_said(s, "reasoning", o->decision.reason);
        put_said(s, "reflection", o->decision.reflection);
    }
    return s->len - before;
}

/* Levels from the newest back: all of it in half the room, then lines. *lines and *whole: first outcome shown so. */
static void fit_history(const espl_agent_view *v, int64_t bytes, espl_str *scratch, int64_t *lines, int64_t *whole) {
    int64_t used = 0;
    *lines = *whole = v->n_history;
    for (int64_t k = v->n_history - 1; k >= 0; k--) {
        scratch->len = 0;
        int64_t full = put_outcome(scratch, &v->history[k], 2);
        scratch->len = 0;
        int64_t line = put_outcome(scratch, &v->history[k], 1);
        bool in_full = *whole == k + 1 && used + full <= bytes / 2;
        used += in_full ? full : line;
        if (used > bytes) break;
        if (in_full) *whole = k;
        *lines = k;
    }
}

static void put_summary(espl_str *s, const espl_agent_view *v, int64_t n) {
    int64_t back = 0;
    for (int64_t k = 0; k < n; k++) back += !v->history[k].accepted;
    if (n > 0)
        espl_str_printf(s, "%lld older iterations: %lld accepted, %lld rolled back.\n", (long long)n,
                        (long long)(n - back), (long long)back);
}

static void put_history(espl_str *s, const espl_agent_view *v, int64_t bytes) {
    espl_str scratch = {0};
    int64_t lines, whole;
    if (v->n_history == 0) {
        espl_str_puts(s, "\nNo step was taken yet.\n");
        return;
    }
    espl_str_puts(s, "\nHistory, oldest first:\n");
    fit_history(v, bytes, &scratch, &lines, &whole);
    put_summary(s, v, lines);
    for (int64_t k = lines; k < v->n_history; k++) put_outcome(s, &v->history[k], k >= whole ? 2 : 1);
    s->failed = s->failed || scratch.failed;
    espl_str_free(&scratch);
}

espl_status espl_agent_put_user(espl_str *out, const espl_agent_view *view, int64_t max_bytes) {
    ESPL_TRY(espl_view_check(view));
    int64_t start = out->len;
    put_state(out, view);
    int64_t head = out->len - start;
    put_table(out, view);
    put_history(out, view, max_bytes - head - 256);
    espl_str_puts(out, "\nYour decision, as one JSON object:");
    return espl_str_status(out);
}
