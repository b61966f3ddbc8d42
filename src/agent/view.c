/* SPDX-License-Identifier: Apache-2.0 */
/* Sums and curves of a view, shared by parser, prompt and policy so that all three count in the same way. */
#include "view.h"

#include "check.h"

#include <inttypes.h>
#include <math.h>

/* Weights of a linear: counts must be exact as doubles, and their sums must not overflow. */
static const int64_t WEIGHTS_MAX = (int64_t)1 << 50;
/* Step of the example in prompts: of the size that a language model should choose. */
static const double EXAMPLE_STEP = 0.05;
/* cap * weights may fall short of a whole number by rounding: 0.9 * 10 must leave room for 9. */
static const double WEIGHTS_ROUNDING = 1e-6;

/* A view comes from the run's own data, but also from a resumed history and, in tests, from anywhere. */
espl_status espl_view_check(const espl_agent_view *v) {
    const espl_budget *b = &v->budget;
    ESPL_TRY(espl_agent_check_range("target", b->target, 0, 1));
    ESPL_TRY(espl_agent_check_range("cap", b->cap, 0, 1));
    ESPL_TRY(espl_agent_check_range("max_step", b->max_step, 1e-9, 1));
    ESPL_TRY(espl_agent_check_range("max_linears", (double)b->max_linears, 1, 1e9));
    ESPL_TRY(espl_agent_check_range("threshold", b->threshold, 0, 1e9));
    ESPL_TRY(espl_agent_check_range("layers", (double)v->layout.layers, 1, 1e6));
    ESPL_TRY(espl_agent_check_range("experts", (double)v->layout.experts, 0, 1e6));
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const espl_profile_row *r = &v->rows[i];
        ESPL_TRY(espl_agent_check_range("cap", espl_view_cap(v, i), 0, 1));
        if (r->pruned < 0 || r->weights < r->pruned || r->weights > WEIGHTS_MAX)
            return ESPL_FAIL(ESPL_CONFIG,
                             "agent: profile row %" PRId64 " has %" PRId64 " of %" PRId64
                             " weights pruned, expected 0 <= pruned <= weights <= 2^50",
                             i, r->pruned, r->weights);
    }
    return ESPL_OK;
}

int64_t espl_view_weights(const espl_agent_view *v) {
    int64_t sum = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) sum += v->rows[i].weights;
    return sum;
}

/* In weights, rounded once for the whole model: sums of rounded linears would miss the target by a few. */
int64_t espl_view_left(const espl_agent_view *v) {
    int64_t pruned = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) pruned += v->rows[i].pruned;
    return llround(v->budget.target * (double)espl_view_weights(v)) - pruned;
}

double espl_view_aim(const espl_agent_view *v) {
    double wanted = v->budget.target * (double)espl_view_weights(v), weights = 0;
    if (!v->caps) return v->budget.target;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        if (v->caps[i] > 0)
            weights += (double)v->rows[i].weights;
        else
            wanted -= (double)v->rows[i].pruned;
    }
    return weights > 0 ? wanted / weights : 0;
}

int64_t espl_view_room(const espl_agent_view *v, int64_t i) {
    const espl_profile_row *r = &v->rows[i];
    if (espl_pattern_is_n_m(espl_view_pattern(v, i))) return 0;
    int64_t most = (int64_t)floor(espl_view_cap(v, i) * (double)r->weights + WEIGHTS_ROUNDING);
    return most > r->pruned ? most - r->pruned : 0;
}

/* A row of whole groups only: hardware does not run N:M with a rest. */
bool espl_view_fits(const espl_agent_view *v, int64_t i, espl_pattern p) {
    int64_t in = v->in[espl_linear_kind_of(v->layout, i)];
    return in > 0 && in % p.m == 0;
}

double espl_view_example(const espl_agent_view *v) {
    return v->budget.max_step < EXAMPLE_STEP ? v->budget.max_step : EXAMPLE_STEP;
}

bool espl_view_has_damage(const espl_agent_view *v) {
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        const double *d = v->rows[i].damage;
        double last = 0;
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++) {
            if (!(d[k] >= last && d[k] < INFINITY)) return false; /* falling, infinite or NAN */
            last = d[k];
        }
        if (last <= 0) return false; /* without damage there is no log cost to learn */
    }
    return true;
}

bool espl_view_has_knowledge(const espl_agent_view *v) {
    for (int64_t i = 0; i < espl_view_linears(v); i++)
        if (isfinite(v->rows[i].z_k)) return true;
    return false;
}

/* Between two levels a curve is a power of the sparsity; below the first level, the power of the first two. Damage
 * grows about as a power, so that straight lines would misjudge the small steps of the policy. */
static double curve_at(const double *d, double sparsity) {
    double x = fmin(sparsity, 1) * ESPL_DAMAGE_LEVELS;
    int k = (int)x;
    if (x <= 0) return 0;
    if (k >= ESPL_DAMAGE_LEVELS) return d[ESPL_DAMAGE_LEVELS - 1];
    if (k == 0) return d[0] > 0 ? d[0] * pow(x, log2(d[1] / d[0])) : 0;
    if (d[k - 1] <= 0) return d[k] * (x - k); /* no power passes through 0: a straight line */
    return d[k - 1] * pow(x / k, log(d[k] / d[k - 1]) / log((k + 1.0) / k));
}

double espl_row_damage_text(const espl_profile_row *r, double sparsity) { return curve_at(r->damage, sparsity); }

double espl_row_damage_answers(const espl_profile_row *r, double sparsity) {
    return isfinite(r->damage_k[0]) ? curve_at(r->damage_k, sparsity) : NAN;
}

double espl_view_damage(const espl_agent_view *v, const espl_profile_row *r, double sparsity) {
    double text = espl_row_damage_text(r, sparsity), share = v->budget.share;
    double answers = share > 0 ? espl_row_damage_answers(r, sparsity) : NAN;
    return isnan(answers) ? text : (1 - share) * text + share * answers;
}

double espl_outcome_rise(const espl_outcome *o) {
    double before = o->before.perplexity, after = o->after.perplexity;
    if (!isfinite(before) || before <= 0 || after == 0) return NAN;
    return isfinite(after) ? after / before - 1 : INFINITY;
}

double espl_outcome_damage(const espl_agent_view *v, const espl_outcome *o) {
    return espl_quality_rise(&o->before, &o->after, v->budget.share);
}
