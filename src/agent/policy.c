/*
 * The embedded gardener. From the history it learns what each linear costs (costs.c) and where each should end
 * (allocate.c); here it chooses how much to prune this time, and where: cheapest first. Linears that become N:M are
 * chosen before (policy_mixed.c).
 */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------- lessons of the past */

/* Factor on amount and steps after the rollbacks and successes so far. */
static double scale_of(const espl_policy *p) {
    double scale = 1;
    for (int64_t k = 0; k < p->v->n_history; k++)
        scale = p->v->history[k].accepted ? fmin(1, scale * p->o->recover) : fmax(p->o->finest, scale * p->o->backoff);
    return scale;
}

/* How near the last accepted step came to the threshold: 0 .. 1. */
static double tension_of(const espl_policy *p) {
    for (int64_t k = p->v->n_history - 1; k >= 0; k--) {
        if (!p->v->history[k].accepted) continue;
        double rise = espl_outcome_rise(&p->v->history[k]);
        return isnan(rise) || p->v->budget.threshold <= 0 ? 0 : fmax(0, fmin(1, rise / p->v->budget.threshold));
    }
    return 0;
}

/* The linears of a rollback that are expected to have done at least their share of its damage rest. */
static void rest_culprits(espl_policy *p, const espl_outcome *o) {
    double sum = 0, most = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t k = 0; k < o->decision.n; k++) {
            int64_t i = o->decision.items[k].linear;
            if (i < 0 || i >= p->n) continue;
            double now = espl_row_sparsity(&p->v->rows[i]);
            double d = espl_pattern_damage(p->o, o->decision.items[k].pattern) *
                       espl_costs_step(&p->costs, p->v, p->o, i, now, now + o->decision.items[k].step);
            if (pass == 0) {
                sum += d;
                most = fmax(most, d);
            } else if (d >= most || d * (double)o->decision.n >= sum) {
                p->resting[i] = o->iteration + (int64_t)p->o->cooldown;
                espl_mixed_deny(p, &o->decision.items[k]);
            }
        }
}

/* ------------------------------------------------------------------ amounts */

/* Weights to prune now if all is well: the horizon's schedule, faster when iterations run short. */
static double planned_amount(const espl_policy *p) {
    double target = p->v->budget.target, total = p->costs.total;
    double now = fmax(0, target * total - (double)p->left) / total;
    double t = pow(now / target, 1 / p->o->schedule);
    double after = (double)(p->v->budget.max_iterations - p->v->iteration); /* iterations after this one */
    double dt = fmax(1 / p->o->horizon, (1 - t) / fmax(1, 0.8 * after));
    return (target * pow(fmin(1, t + dt), p->o->schedule) - now) * total;
}

/* Damage that this step may be expected to do: `safety` of the threshold, more (to 0.9) when at that pace the
 * iterations would not suffice for all the damage that the goals are expected to do. */
static double bearable(const espl_policy *p) {
    double threshold = log1p(p->v->budget.threshold), ahead = 0;
    double after = (double)(p->v->budget.max_iterations - p->v->iteration);
    for (int64_t i = 0; i < p->n; i++)
        ahead += espl_costs_step(&p->costs, p->v, p->o, i, espl_row_sparsity(&p->v->rows[i]), p->goal[i]);
    double needed = ahead / fmax(1, 0.8 * after);
    return fmax(p->o->safety * threshold, fmin(needed, 0.9 * threshold));
}

/* ------------------------------------------------------------------- choice */

/* How strict the choice is: each level drops a wish of the one before. */
enum { WISH_ALL, WISH_NO_REST, WISH_NO_GOAL, WISHES };

/* Steps are round numbers for the reader's sake, as long as that costs little. */
static double round_step(double step) { return step >= 0.002 ? floor(step * 1000 + 1e-9) / 1000 : step; }

/* The step of linear i at this level of strictness, 0 for none. */
static int64_t possible(const espl_policy *p, int64_t i, int wish, bool finish, double *step) {
    const espl_profile_row *r = &p->v->rows[i];
    double w = (double)r->weights, gap = p->goal[i] - espl_row_sparsity(r);
    int64_t room = espl_view_room(p->v, i);
    if (r->weights <= 0 || (wish < WISH_NO_REST && p->resting[i] >= p->v->iteration)) return 0;
    if (!espl_mixed_spares(p, i, wish < WISH_NO_GOAL)) return 0;
    if (wish < WISH_NO_REST && !finish && gap < p->o->min_step) return 0;
    *step = wish < WISH_NO_GOAL ? fmin(p->step_max, gap) : p->step_max;
    *step = finish && *step < p->step_max ? *step : round_step(*step);
    int64_t count = llround(*step * w);
    if (finish && wish < WISH_NO_GOAL && count == 0 && gap > 0) count = 1;
    if (count > room) count = room;
    if (count != llround(*step * w) || *step <= 0) *step = (double)count / w;
    return *step <= p->v->budget.max_step ? count : (int64_t)floor(p->v->budget.max_step * w);
}

static int by_score(const void *a, const void *b) {
    const espl_pick *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->linear < y->linear ? -1 : x->linear > y->linear;
}

/* All that may be pruned at this level and brings at least `least` weights, cheapest per weight first. */
static int64_t list_candidates(espl_policy *p, int wish, bool finish, double least) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double step, now = espl_row_sparsity(&p->v->rows[i]);
        int64_t count = possible(p, i, wish, finish, &step);
        if (count <= 0 || (double)count < least) continue;
        double damage = espl_costs_step(&p->costs, p->v, p->o, i, now, now + step);
        p->picks[n++] = (espl_pick){i, count, step, damage / (double)count, {0}};
    }
    qsort(p->picks, (size_t)n, sizeof *p->picks, by_score);
    return n;
}

/* The last linear gives only what is still needed; a crumb is left for later. */
static bool trim_pick(const espl_policy *p, espl_pick *c, int64_t needed, bool finish) {
    if (c->count <= needed) return true;
    double w = (double)p->v->rows[c->linear].weights;
    c->count = needed;
    c->step = (double)needed / w;
    if (finish || c->step < p->o->min_step) return finish || p->n_picks == 0;
    c->step = round_step(c->step);
    c->count = llround(c->step * w);
    return c->count > 0 && c->count <= needed;
}

/* Goals add up to the target, their rounded counts to a few weights less: these go with the first pick that can have
 * them, instead of an iteration of their own. */
static void add_crumbs(espl_policy *p) {
    int64_t rest = p->left - p->picked;
    if (rest <= 0 || rest > p->left / 100) return;
    for (int64_t k = 0; k < p->n_picks; k++) {
        espl_pick *c = &p->picks[k];
        double w = (double)p->v->rows[c->linear].weights;
        int64_t count = c->count + rest;
        if (count > espl_view_room(p->v, c->linear) || (double)count / w > p->v->budget.max_step) continue;
        c->count = count;
        c->step = (double)count / w;
        p->picked += rest;
        return;
    }
}

/* The cheapest candidates that make up `amount`, no more than the budget lets. */
static void take(espl_policy *p, int64_t candidates, int64_t amount) {
    bool finish = amount >= p->left;
    p->n_picks = p->picked = 0;
    p->expected = 0;
    for (int64_t k = 0; k < candidates && p->n_picks < p->places && p->picked < amount; k++) {
        espl_pick c = p->picks[k];
        if (!trim_pick(p, &c, amount - p->picked, finish)) break;
        double now = espl_row_sparsity(&p->v->rows[c.linear]);
        p->picks[p->n_picks++] = c; /* n_picks <= k */
        p->picked += c.count;
        p->expected += espl_costs_step(&p->costs, p->v, p->o, c.linear, now, now + c.step);
    }
    if (finish) add_crumbs(p);
}

/* With few linears per decision, small ones waste a place: raise the least contribution until the amount is reached. */
static void choose_at(espl_policy *p, int wish, int64_t amount) {
    static const double shares[] = {0, 0.25, 0.5, 0.75, 1};
    bool finish = amount >= p->left;
    int best = 0;
    int64_t most = -1;
    for (int s = 0; s < 5 && most < amount * 9 / 10; s++) {
        double least = shares[s] * (double)amount / (double)p->places;
        take(p, list_candidates(p, wish, finish, least), amount);
        if (p->picked <= most) continue;
        most = p->picked;
        best = s;
        if (p->n_picks < p->places) break; /* places are not what is short */
    }
    double least = shares[best] * (double)amount / (double)p->places;
    take(p, list_candidates(p, wish, finish, least), amount);
}

static void choose(espl_policy *p, int64_t amount) {
    int wishes = p->mixed.n_picks > 0 ? WISH_NO_REST : WISHES; /* beside patterns there is no need */
    for (int wish = WISH_ALL; wish < wishes; wish++) {
        choose_at(p, wish, amount);
        if (p->picked > 0 && p->picked >= amount / 10) return;
    }
}

/* Less and less until the expected damage is bearable, or the amount is the finest. */
static void choose_bearable(espl_policy *p) {
    double planned = planned_amount(p), finest = fmax(1, planned * p->o->finest);
    double amount = fmax(finest, planned * p->scale);
    if ((double)p->left - amount < 0.1 * amount) amount = (double)p->left;
    amount -= (double)espl_mixed_take(p, amount);
    if (p->mixed.n_picks > 0 && (p->places <= 0 || amount < 0.25 * planned)) return; /* patterns alone will do */
    for (;;) {
        int64_t whole = (int64_t)fmin((double)p->left, fmax(1, floor(amount)));
        choose(p, whole);
        if (p->expected <= p->allowed || amount <= finest) break;
        amount *= 0.7;
        p->step_max = fmax(p->step_max * 0.85, p->v->budget.max_step * p->o->finest);
    }
    if (p->mixed.n_picks > 0 && p->expected > p->allowed) {
        p->n_picks = p->picked = 0;
        p->expected = 0;
    }
}

/* ------------------------------------------------------------------- policy */

/* Twice in a row accepted without a weight pruned: steps are finer than the pruning can follow. */
static bool stuck(const espl_policy *p) {
    int64_t n = p->v->n_history;
    for (int64_t k = n - 1; k >= 0 && k >= n - 2; k--) {
        const espl_outcome *o = &p->v->history[k];
        if (!o->accepted || o->decision.n == 0 || o->sparsity_after > o->sparsity_before) return false;
    }
    return n >= 2;
}

static espl_status decide(espl_policy *p) {
    p->left = espl_view_left(p->v);
    p->places = p->v->budget.max_linears;
    p->scale = scale_of(p);
    for (int64_t k = 0; k < p->v->n_history; k++)
        if (!p->v->history[k].accepted) rest_culprits(p, &p->v->history[k]);
    if (p->left <= 0)
        p->stop = "the target is reached";
    else if (stuck(p))
        p->stop = "the last two steps pruned nothing: they are finer than the pruning can follow";
    if (p->stop) return ESPL_OK;
    ESPL_TRY(espl_policy_goals(p));
    p->step_max = p->v->budget.max_step * p->scale * (1 - 0.7 * tension_of(p));
    p->allowed = bearable(p);
    choose_bearable(p);
    espl_mixed_join(p);
    if (p->n_picks == 0) p->stop = "nothing can be pruned any more under the cap";
    return ESPL_OK;
}

espl_status espl_policy_propose(const espl_agent_view *view, const espl_policy_options *o, espl_str *json) {
    espl_policy p = {.v = view, .o = o, .n = espl_view_linears(view)};
    ESPL_TRY(espl_view_check(view));
    ESPL_TRY(espl_costs_learn(&p.costs, view, o));
    espl_status st = espl_mem_alloc(&p.goal, p.n, sizeof *p.goal, "policy");
    if (st == ESPL_OK) st = espl_mem_alloc(&p.resting, p.n, sizeof *p.resting, "policy");
    if (st == ESPL_OK) st = espl_mem_alloc(&p.picks, p.n, sizeof *p.picks, "policy");
    if (st == ESPL_OK) st = espl_mixed_create(&p);
    if (st == ESPL_OK) st = decide(&p);
    if (st == ESPL_OK) {
        espl_policy_put_reply(json, &p);
        st = espl_str_status(json);
    }
    espl_mem_free(&p.goal);
    espl_mem_free(&p.resting);
    espl_mem_free(&p.picks);
    espl_mixed_free(&p);
    espl_costs_free(&p.costs);
    return st;
}
