/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan is expected to cost, from the curves of the profile. */
#include "predict.h"

#include "view.h"

#include <math.h>
#include <string.h>

/* Two plans are the same if they share this part of the weights that either prunes. */
static const double SAME_SHARE = 0.9;

static double predict_pattern_factor(const espl_policy_options *policy, espl_pattern p) {
    int64_t choice = espl_pattern_choice(p);
    return choice == ESPL_PATTERN_CHOICE_2_4   ? policy->damage_2_4
           : choice == ESPL_PATTERN_CHOICE_4_8 ? policy->damage_4_8
                                               : 1;
}

static double predict_together(const espl_agent_view *v, double text, double answers) {
    double share = v->budget.share;
    return share > 0 && isfinite(answers) ? (1 - share) * text + share * answers : text;
}

espl_prediction espl_predict(const espl_agent_view *v, const espl_policy_options *policy, const espl_decision *plan) {
    espl_prediction p = {0};
    bool curves = espl_view_has_damage(v);
    for (int64_t k = 0; k < plan->n; k++) {
        const espl_decision_item *item = &plan->items[k];
        const espl_profile_row *r = &v->rows[item->linear];
        bool whole = espl_pattern_is_n_m(item->pattern); /* a pattern's share has the zeros of the source among it */
        double now = espl_row_sparsity(r), after = whole ? item->step : now + item->step;
        double factor = predict_pattern_factor(policy, item->pattern);
        p.weights += llround(item->step * (double)r->weights) - (whole ? r->pruned : 0);
        if (!curves) continue;
        p.text += factor * (espl_row_damage_text(r, after) - espl_row_damage_text(r, now));
        p.answers += factor * (espl_row_damage_answers(r, after) - espl_row_damage_answers(r, now));
    }
    if (!curves) p.text = p.answers = NAN;
    p.together = predict_together(v, p.text, p.answers);
    int64_t weights = espl_view_weights(v);
    p.sparsity = v->sparsity + (weights > 0 ? (double)p.weights / (double)weights : 0);
    return p;
}

void espl_predict_note(const espl_agent_view *v, const espl_policy_options *policy, espl_decision *plan) {
    espl_prediction p = espl_predict(v, policy, plan);
    plan->expected_text = p.text;
    plan->expected_answers = p.answers;
}

double espl_predict_expected(const espl_agent_view *v, const espl_decision *d) {
    return predict_together(v, d->expected_text, d->expected_answers);
}

double espl_predict_bias(const espl_agent_view *v) {
    double expected = 0, measured = 0;
    for (int64_t k = 0; k < v->n_history; k++) {
        double e = espl_predict_expected(v, &v->history[k].decision), m = espl_outcome_damage(v, &v->history[k]);
        if (!(e > 0) || !isfinite(m)) continue;
        expected += e;
        measured += m;
    }
    return expected > 0 ? measured / expected : NAN;
}

/* Weights that both plans prune, as a share of those that either does. Items are in the order of linears. */
static double predict_shared(const espl_agent_view *v, const espl_decision *a, const espl_decision *b) {
    double both = 0, either = 0;
    for (int64_t i = 0, j = 0; i < a->n || j < b->n;) {
        int64_t la = i < a->n ? a->items[i].linear : INT64_MAX, lb = j < b->n ? b->items[j].linear : INT64_MAX;
        int64_t linear = la < lb ? la : lb;
        double sa = la == linear ? a->items[i].step : 0, sb = lb == linear ? b->items[j].step : 0;
        bool same = la != lb || espl_pattern_equal(a->items[i].pattern, b->items[j].pattern);
        double weights = linear < espl_view_linears(v) ? (double)v->rows[linear].weights : 0;
        both += same ? weights * fmin(sa, sb) : 0;
        either += weights * fmax(sa, sb);
        i += la == linear;
        j += lb == linear;
    }
    return either > 0 ? both / either : 0;
}

int64_t espl_predict_repeated(const espl_agent_view *v, const espl_decision *plan) {
    for (int64_t k = v->n_history - 1; k >= 0 && !v->history[k].accepted; k--) {
        const espl_decision *tried = &v->history[k].decision;
        double p = isnan(plan->power) ? v->power : plan->power, q = isnan(tried->power) ? v->power : tried->power;
        if ((p == q || (isnan(p) && isnan(q))) && predict_shared(v, plan, tried) >= SAME_SHARE)
            return v->history[k].iteration;
    }
    return 0;
}
