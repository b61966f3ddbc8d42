/* The policy's reply: the JSON that an LLM would write, with reasons a person can follow. */
#include "internal.h"

#include <math.h>
#include <string.h>

static void put_linear(espl_str *s, int64_t i) {
    char name[64];
    espl_str_puts(s, espl_linear_name(i, name));
}

static void put_z(espl_str *s, const char *name, double z) {
    if (isfinite(z))
        espl_str_printf(s, "%s %+.2f", name, z);
    else
        espl_str_printf(s, "%s ?", name);
}

static void put_example(espl_str *s, const espl_policy *p, const espl_pick *c) {
    const espl_profile_row *r = &p->v->rows[c->linear];
    put_linear(s, c->linear);
    espl_str_puts(s, " (");
    put_z(s, "z_s", r->z_s);
    espl_str_puts(s, ", ");
    put_z(s, "z_g", r->z_g);
    espl_str_printf(s, ", %.1f %% now, aim %.1f %%)", 100 * espl_row_sparsity(r), 100 * p->goal[c->linear]);
}

/* Those that become N:M stand behind the others. */
static void put_patterns(espl_str *s, const espl_policy *p) {
    const espl_pick *picks = p->picks + p->n_picks - p->mixed.n_picks;
    char name[ESPL_PATTERN_NAME_MAX];
    for (int choice = 0; choice < ESPL_PATTERN_CHOICES; choice++) {
        int64_t n = 0;
        for (int64_t k = 0; k < p->mixed.n_picks; k++) {
            if (!espl_pattern_equal(picks[k].pattern, espl_pattern_choices[choice])) continue;
            if (n > 0 && n < 3) espl_str_puts(s, ", ");
            if (n++ < 3) put_example(s, p, &picks[k]);
        }
        if (n > 3) espl_str_puts(s, ", ...");
        if (n > 0)
            espl_str_printf(s, " become%s %s for good. ", n == 1 ? "s" : "",
                            espl_pattern_name(espl_pattern_choices[choice], name));
    }
}

static void put_steps(espl_str *s, const espl_policy *p) {
    int64_t n = p->n_picks - p->mixed.n_picks;
    double lo = INFINITY, hi = 0;
    if (n == 0) return;
    for (int64_t k = 0; k < n; k++) {
        lo = fmin(lo, p->picks[k].step);
        hi = fmax(hi, p->picks[k].step);
    }
    espl_str_printf(s,
                    "Now %.3g %% of all weights from the %lld cheapest linears that have room, %.3g to %.3g %% each: ",
                    100 * (double)(p->picked - p->mixed.picked) / p->costs.total, (long long)n, 100 * lo, 100 * hi);
    for (int64_t k = 0; k < n && k < 3; k++) {
        if (k) espl_str_puts(s, ", ");
        put_example(s, p, &p->picks[k]);
    }
    espl_str_puts(s, n > 3 ? ", .... " : ". ");
}

static void put_reason(espl_str *s, const espl_policy *p) {
    double target = p->v->budget.target, now = fmax(0, target - (double)p->left / p->costs.total);
    if (p->stop) {
        espl_str_printf(s, "Stop at %.2f %% of %.2f %%: %s.", 100 * now, 100 * target, p->stop);
        return;
    }
    espl_str_printf(s, "%.2f %% pruned, target %.2f %%. ", 100 * now, 100 * target);
    put_patterns(s, p);
    put_steps(s, p);
    espl_str_printf(s, "Expected perplexity %+.2f %%, bearable up to %.1f %%.", 100 * expm1(p->expected),
                    100 * p->v->budget.threshold);
}

/* Kinds that proved dearer or cheaper than their z-scores said. */
static void put_kinds(espl_str *s, const espl_policy *p) {
    int dear = 0, cheap = 0;
    for (int k = 1; k < ESPL_LINEAR_KINDS; k++) {
        if (p->costs.kind[k] > p->costs.kind[dear]) dear = k;
        if (p->costs.kind[k] < p->costs.kind[cheap]) cheap = k;
    }
    if (p->costs.kind[dear] - p->costs.kind[cheap] < 0.1) return;
    espl_str_printf(s, " For their z-scores, %s proves dear and %s cheap.", espl_linear_path((espl_linear_kind)dear),
                    espl_linear_path((espl_linear_kind)cheap));
}

static void put_rollback(espl_str *s, const espl_policy *p, const espl_outcome *o) {
    int64_t shown = 0;
    espl_str_printf(s, " and was rolled back. Amount and steps are now %.3g of the plan; resting for %g iterations:",
                    p->scale, p->o->cooldown);
    for (int64_t k = 0; k < o->decision.n && shown < 4; k++) {
        int64_t i = o->decision.items[k].linear;
        if (i < 0 || i >= p->n || p->resting[i] < p->v->iteration) continue;
        espl_str_puts(s, shown++ ? ", " : " ");
        put_linear(s, i);
    }
    espl_str_puts(s, ".");
}

static void put_reflection(espl_str *s, const espl_policy *p) {
    if (p->v->n_history == 0) {
        espl_str_puts(s, "No outcome yet: costs are guessed from z-scores alone.");
        return;
    }
    const espl_outcome *o = &p->v->history[p->v->n_history - 1];
    double rise = espl_outcome_rise(o);
    if (isnan(rise))
        espl_str_printf(s, "Iteration %lld: perplexity was not measured", (long long)o->iteration);
    else
        espl_str_printf(s, "Iteration %lld changed perplexity by %+.2f %%", (long long)o->iteration, 100 * rise);
    if (o->accepted)
        espl_str_puts(s, " and was accepted.");
    else
        put_rollback(s, p, o);
    put_kinds(s, p);
}

static void put_prune(espl_str *s, const espl_policy *p) {
    char pattern[ESPL_PATTERN_NAME_MAX];
    for (int64_t k = 0; k < p->n_picks; k++) {
        espl_str_puts(s, k ? ", \"" : "\"");
        put_linear(s, p->picks[k].linear);
        espl_str_puts(s, "\": ");
        if (espl_pattern_is_n_m(p->picks[k].pattern))
            espl_str_printf(s, "\"%s\"", espl_pattern_name(p->picks[k].pattern, pattern));
        else
            espl_put_number(s, p->picks[k].step);
    }
}

static void put_text(espl_str *s, const char *key, const espl_policy *p,
                     void (*write)(espl_str *, const espl_policy *)) {
    espl_str text = {0};
    write(&text, p);
    espl_str_printf(s, "\"%s\": ", key);
    espl_str_put_json(s, text.data ? text.data : "", text.len);
    espl_str_puts(s, ", ");
    s->failed = s->failed || text.failed;
    espl_str_free(&text);
}

void espl_policy_put_reply(espl_str *s, const espl_policy *p) {
    espl_str_puts(s, "{");
    put_text(s, "reasoning", p, put_reason);
    put_text(s, "reflection", p, put_reflection);
    espl_str_puts(s, "\"prune\": {");
    if (!p->stop) put_prune(s, p);
    espl_str_printf(s, "}, \"stop\": %s}", p->stop ? "true" : "false");
}
