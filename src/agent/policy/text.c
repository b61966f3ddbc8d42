/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy's reply: the JSON that a language model would write, so that one parser reads both, with reasons that a
 * person can follow. The texts are part of events.jsonl and dialogue.jsonl.
 */
#include "policy/policy.h"

#include "view.h"

#include "espalier/base/json_writer.h"

#include <inttypes.h>
#include <math.h>

enum {
    EXAMPLES_SHOWN = 3, /* linears of a choice */
    CULPRITS_SHOWN = 4  /* linears of a rollback */
};
/* Kinds of linears are compared in words once their learned log factors differ by this much. */
static const double KINDS_DIFFER = 0.1;

/* "?" where the profile has no z-score: no gradients, or all linears alike. */
static void text_put_z(espl_str *s, const char *name, double z) {
    if (isfinite(z))
        espl_str_printf(s, "%s %+.2f", name, z);
    else
        espl_str_printf(s, "%s ?", name);
}

static void text_put_example(espl_str *s, const espl_policy *p, const espl_pick *c) {
    const espl_profile_row *r = &p->v->rows[c->linear];
    char name[ESPL_LINEAR_NAME_MAX];
    espl_str_printf(s, "%s (", espl_linear_name(p->v->layout, c->linear, name));
    text_put_z(s, "z_s", r->z_s);
    espl_str_puts(s, ", ");
    text_put_z(s, "z_g", r->z_g);
    espl_str_printf(s, ", %.1f %% now, aim %.1f %%)", 100 * espl_row_sparsity(r), 100 * p->goal[c->linear]);
}

/* Why these linears: where the run stands, what gets patterns, what gets steps, and what that is expected to do. */
static void text_put_reason(espl_str *s, const espl_policy *p) {
    double target = p->v->budget.target, now = fmax(0, target - (double)p->left / p->costs.total);
    char name[ESPL_PATTERN_NAME_MAX];
    if (p->stop) {
        espl_str_printf(s, "Stop at %.2f %% of %.2f %%: %s.", 100 * now, 100 * target, p->stop);
        return;
    }
    espl_str_printf(s, "%.2f %% pruned, target %.2f %%. ", 100 * now, 100 * target);

    int64_t steps = p->n_picks - p->mixed.n_picks; /* patterns are the last picks */
    for (int choice = 0; choice < ESPL_PATTERN_CHOICES; choice++) {
        int64_t n = 0;
        for (int64_t k = steps; k < p->n_picks; k++) {
            if (!espl_pattern_equal(p->picks[k].pattern, espl_pattern_choices[choice])) continue;
            if (n > 0 && n < EXAMPLES_SHOWN) espl_str_puts(s, ", ");
            if (n++ < EXAMPLES_SHOWN) text_put_example(s, p, &p->picks[k]);
        }
        if (n > EXAMPLES_SHOWN) espl_str_puts(s, ", ...");
        if (n > 0)
            espl_str_printf(s, " become%s %s for good. ", n == 1 ? "s" : "",
                            espl_pattern_name(espl_pattern_choices[choice], name));
    }

    if (steps > 0) {
        double lo = INFINITY, hi = 0;
        for (int64_t k = 0; k < steps; k++) {
            lo = fmin(lo, p->picks[k].step);
            hi = fmax(hi, p->picks[k].step);
        }
        espl_str_printf(s,
                        "Now %.3g %% of all weights from the %" PRId64
                        " cheapest linears that have room, %.3g to %.3g %% each: ",
                        100 * (double)(p->picked - p->mixed.picked) / p->costs.total, steps, 100 * lo, 100 * hi);
        for (int64_t k = 0; k < steps && k < EXAMPLES_SHOWN; k++) {
            if (k) espl_str_puts(s, ", ");
            text_put_example(s, p, &p->picks[k]);
        }
        espl_str_puts(s, steps > EXAMPLES_SHOWN ? ", .... " : ". ");
    }
    espl_str_printf(s, "Expected perplexity %+.2f %%, bearable up to %.1f %%.", 100 * expm1(p->expected),
                    100 * p->v->budget.threshold);
}

/* What the last outcome taught: its effect, who rests for it, and which kinds of linears differ from their z-scores. */
static void text_put_reflection(espl_str *s, const espl_policy *p) {
    if (p->v->n_history == 0) {
        espl_str_puts(s, "No outcome yet: costs are guessed from z-scores alone.");
        return;
    }
    const espl_outcome *o = &p->v->history[p->v->n_history - 1];
    double rise = espl_outcome_rise(o);
    if (isnan(rise))
        espl_str_printf(s, "Iteration %" PRId64 ": perplexity was not measured", o->iteration);
    else
        espl_str_printf(s, "Iteration %" PRId64 " changed perplexity by %+.2f %%", o->iteration, 100 * rise);
    if (o->accepted) {
        espl_str_puts(s, " and was accepted.");
    } else {
        int64_t shown = 0;
        char name[ESPL_LINEAR_NAME_MAX];
        espl_str_printf(
            s, " and was rolled back. Amount and steps are now %.3g of the plan; resting for %g iterations:", p->scale,
            p->o->cooldown);
        for (int64_t k = 0; k < o->decision.n && shown < CULPRITS_SHOWN; k++) {
            int64_t i = o->decision.items[k].linear; /* histories come from files: it may be any number */
            if (i < 0 || i >= p->n || p->resting[i] < p->v->iteration) continue;
            espl_str_printf(s, "%s%s", shown++ ? ", " : " ", espl_linear_name(p->v->layout, i, name));
        }
        espl_str_puts(s, ".");
    }

    /* Kinds that proved dearer or cheaper than their z-scores said. */
    int dear = 0, cheap = 0;
    for (int k = 1; k < ESPL_LINEAR_KINDS; k++) {
        if (p->costs.kind[k] > p->costs.kind[dear]) dear = k;
        if (p->costs.kind[k] < p->costs.kind[cheap]) cheap = k;
    }
    if (p->costs.kind[dear] - p->costs.kind[cheap] >= KINDS_DIFFER)
        espl_str_printf(s, " For their z-scores, %s proves dear and %s cheap.",
                        espl_linear_pattern(p->v->layout, (espl_linear_kind)dear),
                        espl_linear_pattern(p->v->layout, (espl_linear_kind)cheap));
}

espl_status espl_policy_put_reply(espl_str *s, const espl_policy *p) {
    espl_str reason = {0}, reflection = {0};
    espl_status st;
    text_put_reason(&reason, p);
    text_put_reflection(&reflection, p);
    ESPL_CHECK(st, done, espl_str_status(&reason));
    ESPL_CHECK(st, done, espl_str_status(&reflection));
    /* Names of linears need no escaping, and each is picked once: the parser refuses repeated members. */
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_bytes(&w, "reasoning", reason.data, reason.len);
    espl_json_put_bytes(&w, "reflection", reflection.data, reflection.len);
    espl_json_open_object(&w, "prune", ESPL_JSON_SPACED);
    for (int64_t k = 0; k < p->n_picks && !p->stop; k++) {
        const espl_pick *c = &p->picks[k];
        char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
        espl_linear_name(p->v->layout, c->linear, name);
        if (espl_pattern_is_n_m(c->pattern))
            espl_json_put_text(&w, name, espl_pattern_name(c->pattern, pattern));
        else
            espl_json_put_shortest(&w, name, c->step);
    }
    espl_json_close(&w);
    espl_json_put_bool(&w, "stop", p->stop != NULL);
    espl_json_close(&w);
    st = espl_str_status(s);
done:
    espl_str_free(&reason);
    espl_str_free(&reflection);
    return st;
}
