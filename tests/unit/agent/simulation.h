/* SPDX-License-Identifier: Apache-2.0 */
/* A model that consists of damage curves only, to test the policy on. Each linear has a convex curve of its own, at
 * which its z-scores hint, with noise. */
#ifndef ESPL_TEST_SIMULATION_H
#define ESPL_TEST_SIMULATION_H

#include <math.h>
#include <string.h>

#include "../../normal.h"
#include "espalier/agent/agent.h"
#include "espalier/agent/reply.h"

enum { SIM_LAYERS = 12, SIM_LINEARS = SIM_LAYERS * ESPL_LINEAR_KINDS, SIM_HISTORY = 400 };
#define SIM_LAYOUT ((espl_layout){.layers = SIM_LAYERS})

typedef struct simulation {
    double cost[SIM_LINEARS], power[SIM_LINEARS]; /* nats at sparsity 1 per share of the weights */
    espl_profile_row rows[SIM_LINEARS];
    espl_outcome history[SIM_HISTORY];
    int64_t n_history, rollbacks, total;
    espl_budget budget;
    bool mixed;
    espl_pattern patterns[SIM_LINEARS];
} simulation;

static inline double sim_damage_of(const simulation *s, int64_t i, double sparsity) {
    return s->cost[i] * (double)s->rows[i].weights / (double)s->total * pow(sparsity, s->power[i]);
}

static inline double sim_damage(const simulation *s, const double *sparsity) {
    double sum = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) sum += sim_damage_of(s, i, sparsity[i]);
    return sum;
}

/* Other factors than the policy's priors. */
static inline double sim_factor(espl_pattern pattern) {
    int64_t k = espl_pattern_choice(pattern);
    return k == ESPL_PATTERN_CHOICE_2_4 ? 2.6 : k == ESPL_PATTERN_CHOICE_4_8 ? 1.4 : 1;
}

static inline double sim_damage_now(const simulation *s) {
    double sum = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++)
        sum += sim_factor(s->patterns[i]) * sim_damage_of(s, i, (double)s->rows[i].pruned / (double)s->rows[i].weights);
    return sum;
}

static inline double sim_damage_uniform(const simulation *s, double at) {
    double sparsity[SIM_LINEARS];
    for (int64_t i = 0; i < SIM_LINEARS; i++) sparsity[i] = at;
    return sim_damage(s, sparsity);
}

static inline void sim_normalise(simulation *s, bool gradient) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        double x = gradient ? s->rows[i].g : s->rows[i].s;
        sum += x;
        square += x * x;
    }
    double mean = sum / SIM_LINEARS, sd = sqrt(fmax(0, square / SIM_LINEARS - mean * mean));
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        espl_profile_row *r = &s->rows[i];
        *(gradient ? &r->z_g : &r->z_s) = ((gradient ? r->g : r->s) - mean) / (sd + 1e-12);
    }
}

/* spread: standard deviation of the log costs; hint: share of them that the z-scores show, 0 .. 1. */
static inline void sim_init(simulation *s, uint64_t seed, double spread, double hint) {
    static const int64_t shape[ESPL_LINEAR_KINDS] = {64 * 64, 64 * 16, 64 * 16, 64 * 64, 64 * 171, 64 * 171, 171 * 64};
    espl_rng r;
    memset(s, 0, sizeof *s);
    espl_rng_seed(&r, seed, 0, 0);
    double kind[ESPL_LINEAR_KINDS];
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) kind[k] = 0.6 * spread * test_normal(&r);
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        double own = 0.8 * spread * test_normal(&r) + kind[espl_linear_kind_of(SIM_LAYOUT, i)];
        s->cost[i] = 4 * exp(own);
        s->power[i] = 2.3 + 1.5 * espl_rng_uniform(&r);
        s->rows[i].weights = shape[espl_linear_kind_of(SIM_LAYOUT, i)];
        s->rows[i].s = hint * own + (1 - hint) * test_normal(&r);
        s->rows[i].g = hint * own + (1 - hint) * test_normal(&r);
        s->total += s->rows[i].weights;
    }
    sim_normalise(s, false);
    sim_normalise(s, true);
    s->budget = (espl_budget){.target = 0.45,
                              .cap = 0.9,
                              .max_step = 0.1,
                              .max_linears = SIM_LINEARS,
                              .threshold = 0.05,
                              .max_iterations = 60};
}

/* Adds damage curves to the profile: the true ones times 4, and each times a random factor, whose log has the standard
 * deviation `doubt`. */
static inline void sim_curves(simulation *s, uint64_t seed, double doubt) {
    espl_rng r;
    espl_rng_seed(&r, seed, 1, 0);
    for (int64_t i = 0; i < SIM_LINEARS; i++) {
        double share = (double)s->rows[i].weights / (double)s->total;
        double cost = 4 * s->cost[i] * exp(doubt * test_normal(&r)) * share;
        for (int k = 0; k < ESPL_DAMAGE_LEVELS; k++)
            s->rows[i].damage[k] = cost * pow((k + 1.0) / ESPL_DAMAGE_LEVELS, s->power[i]);
    }
}

static inline double sim_sparsity(const simulation *s) {
    int64_t pruned = 0;
    for (int64_t i = 0; i < SIM_LINEARS; i++) pruned += s->rows[i].pruned;
    return (double)pruned / (double)s->total;
}

static inline espl_agent_view sim_view(const simulation *s) {
    double ppl = 10 * exp(sim_damage_now(s));
    espl_agent_view v = {.iteration = s->n_history + 1,
                         .budget = s->budget,
                         .layout = SIM_LAYOUT,
                         .rows = s->rows,
                         .sparsity = sim_sparsity(s),
                         .sparsity_model = 0.8 * sim_sparsity(s),
                         .dense = {.perplexity = 10},
                         .last = {.perplexity = ppl},
                         .history = s->history,
                         .n_history = s->n_history,
                         .power = NAN,
                         .mixed = s->mixed,
                         .in = {64, 64, 64, 64, 64, 64, 171}, /* no N:M fits down_proj */
                         .patterns = s->patterns};
    return v;
}

/* Carries out a decision, and takes it back if it is not accepted. The simulation then owns it. */
static inline void sim_apply(simulation *s, espl_decision *d) {
    espl_outcome *o = &s->history[s->n_history];
    *o = (espl_outcome){.iteration = s->n_history + 1, .decision = *d, .sparsity_before = sim_sparsity(s)};
    s->n_history++;
    o->before.perplexity = 10 * exp(sim_damage_now(s));
    for (int64_t k = 0; k < d->n; k++) {
        espl_profile_row *r = &s->rows[d->items[k].linear];
        r->pruned += llround(d->items[k].step * (double)r->weights);
        if (espl_pattern_is_n_m(d->items[k].pattern)) s->patterns[d->items[k].linear] = d->items[k].pattern;
    }
    o->after.perplexity = 10 * exp(sim_damage_now(s));
    o->sparsity_after = sim_sparsity(s);
    o->accepted = o->after.perplexity <= o->before.perplexity * (1 + s->budget.threshold);
    if (o->accepted) return;
    s->rollbacks++;
    for (int64_t k = 0; k < d->n; k++) {
        espl_profile_row *r = &s->rows[d->items[k].linear];
        r->pruned -= llround(d->items[k].step * (double)r->weights);
        if (espl_pattern_is_n_m(d->items[k].pattern)) s->patterns[d->items[k].linear] = (espl_pattern){0};
    }
}

static inline void sim_free(simulation *s) {
    for (int64_t k = 0; k < s->n_history; k++) espl_decision_free(&s->history[k].decision);
}

#endif
