/* SPDX-License-Identifier: Apache-2.0 */
/* Answers to the questions of a language model: predictions, measurements, and all that is known of some linears. */
#include "tools.h"

#include "clean.h"
#include "predict.h"
#include "view.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum {
    TRIALS_SHOWN = 8,      /* of a linear */
    ITEMS_SHOWN = 48,      /* linears of a plan */
    INSPECTED_MAX = 28,    /* linears of one answer: four layers */
    PATTERN_SHOWN_MAX = 64 /* bytes of an unknown name that are repeated */
};
/* Further sparsities of a linear at which its damage is told. */
static const double INSPECTED_STEPS[] = {0.02, 0.05, 0.1, 0.2};

static double tools_percent(double nats) { return 100 * expm1(nats); }

void espl_tools_put_change(espl_str *s, const espl_quality *before, const espl_quality *after, double expected_text,
                           double expected_answers) {
    if (isfinite(before->perplexity) && isfinite(after->perplexity)) {
        espl_str_printf(s, ", perplexity %.6g -> %.6g (%+.2f %%", before->perplexity, after->perplexity,
                        100 * (after->perplexity / before->perplexity - 1));
        if (isfinite(expected_text)) espl_str_printf(s, ", expected %+.3g %%", tools_percent(expected_text));
        espl_str_puts(s, ")");
    } else if (isfinite(before->perplexity) && after->perplexity != 0) {
        espl_str_printf(s, ", perplexity %.6g -> not a number", before->perplexity);
    }
    if (before->answers > 0 && after->answers > 0) {
        espl_str_printf(s, ", loss of answers %.4g -> %.4g (%+.3g", before->answers, after->answers,
                        after->answers - before->answers);
        if (isfinite(expected_answers)) espl_str_printf(s, ", expected %+.3g", expected_answers);
        espl_str_puts(s, ")");
    }
}

/* Whether two items are of experts of one layer, of the same kind and alike but for the step. */
static bool tools_same_group(espl_layout l, const espl_decision_item *a, const espl_decision_item *b) {
    return espl_linear_expert(l, a->linear) >= 0 && espl_linear_expert(l, b->linear) >= 0 &&
           espl_linear_layer(l, a->linear) == espl_linear_layer(l, b->linear) &&
           espl_linear_kind_of(l, a->linear) == espl_linear_kind_of(l, b->linear) &&
           espl_pattern_equal(a->pattern, b->pattern);
}

/* The experts' items of a layer and kind as one: there are hundreds of them. Returns how many there are, 0 if items
 * before k have said it. */
static int64_t tools_put_group(espl_str *s, espl_layout l, const espl_decision *plan, int64_t k) {
    const espl_decision_item *first = &plan->items[k];
    char pattern[ESPL_PATTERN_NAME_MAX];
    double lo = first->step, hi = first->step;
    int64_t n = 0, layer = espl_linear_layer(l, first->linear);
    for (int64_t i = k - 1; i >= 0 && espl_linear_layer(l, plan->items[i].linear) == layer; i--)
        if (tools_same_group(l, first, &plan->items[i])) return 0;
    for (int64_t i = k; i < plan->n && espl_linear_layer(l, plan->items[i].linear) == layer; i++) {
        const espl_decision_item *item = &plan->items[i];
        if (!tools_same_group(l, first, item)) continue;
        lo = fmin(lo, item->step);
        hi = fmax(hi, item->step);
        n++;
    }
    espl_str_printf(s, " layers.%" PRId64 ".%s (%" PRId64 " experts) ", layer,
                    espl_linear_pattern(l, espl_linear_kind_of(l, first->linear)), n);
    if (espl_pattern_is_n_m(first->pattern))
        espl_str_puts(s, espl_pattern_name(first->pattern, pattern));
    else if (lo < hi)
        espl_str_printf(s, "%.4g to %.4g", lo, hi);
    else
        espl_str_printf(s, "%.4g", lo);
    return n;
}

void espl_tools_put_items(espl_str *s, espl_layout layout, const espl_decision *plan) {
    char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
    int64_t shown = 0, covered = 0;
    for (int64_t k = 0; k < plan->n && shown < ITEMS_SHOWN; k++) {
        const espl_decision_item *item = &plan->items[k];
        if (espl_linear_expert(layout, item->linear) >= 0) {
            int64_t n = tools_put_group(s, layout, plan, k);
            covered += n;
            shown += n > 0;
            continue;
        }
        espl_str_printf(s, " %s ", espl_linear_name(layout, item->linear, name));
        if (espl_pattern_is_n_m(item->pattern))
            espl_str_puts(s, espl_pattern_name(item->pattern, pattern));
        else
            espl_str_printf(s, "%.4g", item->step);
        covered++;
        shown++;
    }
    if (plan->n > covered) espl_str_printf(s, " and %" PRId64 " more", plan->n - covered);
}

void espl_tools_put_prediction(espl_str *s, const espl_agent_view *v, const espl_policy_options *policy,
                               const espl_decision *plan, const espl_str *notes) {
    espl_prediction p = espl_predict(v, policy, plan);
    double bias = espl_predict_bias(v);
    espl_str_printf(s,
                    "This plan prunes %" PRId64 " weights of %" PRId64
                    " linears: overall sparsity %.3f %% -> %.3f %%, target %.3f %%.\nSteps:",
                    p.weights, plan->n, 100 * v->sparsity, 100 * p.sparsity, 100 * v->budget.target);
    espl_tools_put_items(s, v->layout, plan);
    espl_str_puts(s, "\n");
    if (isfinite(p.together)) {
        espl_str_printf(s, "Expected: perplexity %+.3g %%", tools_percent(p.text));
        if (isfinite(p.answers)) espl_str_printf(s, ", loss of answers %+.3g nats", p.answers);
        espl_str_printf(s, "; together %+.3g %%, rolled back above %+.3g %%.", tools_percent(p.together),
                        100 * v->budget.threshold);
        if (isfinite(bias))
            espl_str_printf(s, " The rises measured so far were %.2g times the expected ones in sum.", bias);
    } else {
        espl_str_puts(s, "The profile has no gradients, so nothing can be said of its cost.");
    }
    if (notes->len > 0) {
        espl_str_puts(s, "\nNote: ");
        espl_agent_put_joined(s, notes);
    }
}

void espl_tools_put_measurement(espl_str *s, const espl_agent_view *v, const espl_policy_options *policy,
                                const espl_decision *plan, const espl_quality *after, bool accepted, int64_t left) {
    espl_prediction p = espl_predict(v, policy, plan);
    double rise = espl_quality_rise(&v->last, after, v->budget.share);
    espl_str_printf(s, "Measured and taken back: sparsity %.3f %% -> %.3f %%", 100 * v->sparsity, 100 * p.sparsity);
    espl_tools_put_change(s, &v->last, after, p.text, p.answers);
    if (isfinite(rise)) espl_str_printf(s, "; together %+.3g %%", tools_percent(rise));
    if (isfinite(p.together)) espl_str_printf(s, " (expected %+.3g %%)", tools_percent(p.together));
    espl_str_printf(s, ". It would be %s. %" PRId64 " measurement(s) left in this iteration.",
                    accepted ? "accepted" : "rolled back", left);
}

/* --------------------------------------------------------------- inspect */

static void tools_put_z(espl_str *s, const char *name, double z) {
    if (isfinite(z)) espl_str_printf(s, " %s %+.2f", name, z);
}

/* What was tried on a linear, and what came of it, newest first. */
static void tools_put_trials(espl_str *s, const espl_agent_view *v, int64_t linear) {
    int64_t shown = 0;
    for (int64_t k = v->n_history - 1; k >= 0 && shown < TRIALS_SHOWN; k--)
        for (int64_t i = 0; i < v->history[k].decision.n; i++) {
            const espl_decision_item *item = &v->history[k].decision.items[i];
            if (item->linear != linear) continue;
            espl_str_printf(s, "%s iteration %" PRId64 " %+.4g %s", shown++ ? "," : "; tried:", v->history[k].iteration,
                            item->step, v->history[k].accepted ? "accepted" : "ROLLED BACK");
        }
}

static void tools_put_linear(espl_str *s, const espl_agent_view *v, int64_t i) {
    const espl_profile_row *r = &v->rows[i];
    char name[ESPL_LINEAR_NAME_MAX], pattern[ESPL_PATTERN_NAME_MAX];
    double now = espl_row_sparsity(r), room = (double)espl_view_room(v, i) / fmax(1, (double)r->weights);
    espl_str_printf(s, "%s: %.3g %% of all weights, sparsity %.4g, room %.4g;", espl_linear_name(v->layout, i, name),
                    100 * (double)r->weights / fmax(1, (double)espl_view_weights(v)), now, room);
    if (espl_pattern_is_n_m(espl_view_pattern(v, i)))
        espl_str_printf(s, " %s and finished;", espl_pattern_name(espl_view_pattern(v, i), pattern));
    if (espl_linear_expert(v->layout, i) >= 0) espl_str_printf(s, " %" PRId64 " tokens were routed to it;", r->tokens);
    tools_put_z(s, "z_s", r->z_s);
    tools_put_z(s, "z_g", r->z_g);
    tools_put_z(s, "z_k", r->z_k);
    for (int t = 0; t < ESPL_TOPICS; t++) tools_put_z(s, espl_topic_name((espl_topic)t), r->z_topic[t]);
    for (size_t k = 0; espl_view_has_damage(v) && k < sizeof INSPECTED_STEPS / sizeof *INSPECTED_STEPS; k++) {
        double after = now + INSPECTED_STEPS[k];
        if (INSPECTED_STEPS[k] > room) break;
        espl_str_printf(s, "%s %g: %.3g %%", k ? "," : "; a further", INSPECTED_STEPS[k],
                        tools_percent(espl_row_damage_text(r, after) - espl_row_damage_text(r, now)));
        double answers = espl_row_damage_answers(r, after) - espl_row_damage_answers(r, now);
        if (isfinite(answers)) espl_str_printf(s, " and %.3g nats", answers);
    }
    tools_put_trials(s, v, i);
    espl_str_puts(s, "\n");
}

void espl_tools_put_inspection(espl_str *s, const espl_agent_view *v, const char *linears) {
    int64_t matches = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        if (!espl_linear_matches(v->layout, i, linears) || matches++ >= INSPECTED_MAX) continue;
        if (matches == 1)
            espl_str_puts(s, "room: what can still be pruned; a further step: expected rise of perplexity, and of the "
                             "loss of answers\n");
        tools_put_linear(s, v, i);
    }
    if (matches > INSPECTED_MAX)
        espl_str_printf(s, "%" PRId64 " more linears match: ask for fewer.\n", matches - INSPECTED_MAX);
    if (matches > 0) return;
    espl_str_puts(s, "No linear matches \"");
    espl_agent_put_clean(s, linears, (int64_t)strlen(linears), PATTERN_SHOWN_MAX);
    espl_str_puts(s, "\". Names are as in the table of profiles; a star stands for any characters.");
}
