/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded policy from top to bottom: what rollbacks and successes teach about amounts, how much damage this
 * iteration may do, and the reply. Costs, goals and the choice itself are in the files beside this one.
 */
#include "policy/policy.h"

#include "view.h"

#include "espalier/base/memory.h"

#include <math.h>

/* Share of the remaining iterations that is expected to be accepted: one in five may be rolled back. */
static const double ACCEPTED_SHARE = 0.8;
/* When iterations run short, a step may be expected to use this share of the rollback threshold, rather than `safety`.
 * Not all of it: half of such steps would be rolled back. */
static const double SAFETY_MAX = 0.9;
/* Steps are finer by up to this share the nearer the last accepted rise came to the threshold. */
static const double TENSION_SHARE = 0.7;

/* Lets the linears rest that are expected to have done at least their share of a rollback's damage, and notes which
 * patterns were among them. */
static void policy_blame(espl_policy *p, const espl_outcome *o) {
    double sum = 0, most = 0;
    for (int pass = 0; pass < 2; pass++) /* the sum first */
        for (int64_t k = 0; k < o->decision.n; k++) {
            const espl_decision_item *item = &o->decision.items[k];
            if (item->linear < 0 || item->linear >= p->n) continue; /* histories come from files */
            double now = espl_row_sparsity(&p->v->rows[item->linear]);
            double d = espl_costs_pattern_factor(&p->costs, item->pattern) *
                       espl_costs_step(&p->costs, item->linear, now, now + item->step);
            if (pass == 0) {
                sum += d;
                most = fmax(most, d);
            } else if (d >= most || d * (double)o->decision.n >= sum) {
                int64_t choice = espl_pattern_choice(item->pattern);
                p->resting[item->linear] = o->iteration + (int64_t)p->o->cooldown;
                if (choice >= 0) p->mixed.denied[item->linear] |= (int64_t)1 << choice;
            }
        }
}

/* True if the last two iterations were accepted without pruning a weight: steps are finer than the pruning can follow,
 * and all further ones would be the same. */
static bool policy_is_stuck(const espl_agent_view *v) {
    for (int64_t k = v->n_history - 1; k >= 0 && k >= v->n_history - 2; k--) {
        const espl_outcome *o = &v->history[k];
        if (!o->accepted || o->decision.n == 0 || o->sparsity_after > o->sparsity_before) return false;
    }
    return v->n_history >= 2;
}

/* Sets the amount, the largest step and the allowed damage of this iteration. */
static void policy_set_amounts(espl_policy *p) {
    const espl_budget *b = &p->v->budget;
    const espl_policy_options *o = p->o;
    double after = (double)(b->max_iterations - p->v->iteration); /* iterations after this one */
    double accepted = fmax(1, ACCEPTED_SHARE * after);

    /* The schedule of the horizon, target * t ^ schedule, or a faster one if the iterations would not suffice. */
    double now = fmax(0, b->target * p->costs.total - (double)p->left) / p->costs.total;
    double t = pow(now / b->target, 1 / o->schedule);
    double dt = fmax(1 / o->horizon, (1 - t) / accepted);
    p->planned = (b->target * pow(fmin(1, t + dt), o->schedule) - now) * p->costs.total;

    /* How near the last accepted iteration came to the threshold: 0 .. 1. */
    double tension = 0;
    for (int64_t k = p->v->n_history - 1; k >= 0; k--) {
        if (!p->v->history[k].accepted) continue;
        double damage = espl_outcome_damage(p->v, &p->v->history[k]);
        if (!isnan(damage) && b->threshold > 0) tension = fmax(0, fmin(1, expm1(damage) / b->threshold));
        break;
    }
    p->step_max = b->max_step * p->scale * (1 - TENSION_SHARE * tension);

    /* `safety` of the threshold, or what is needed to do all the damage of the plan in the iterations that remain. */
    double threshold = log1p(b->threshold), ahead = 0;
    for (int64_t i = 0; i < p->n; i++)
        ahead += espl_costs_step(&p->costs, i, espl_row_sparsity(&p->v->rows[i]), p->goal[i]);
    p->allowed = fmax(o->safety * threshold, fmin(ahead / accepted, SAFETY_MAX * threshold));
}

/* Nothing is kept between calls: a resumed run has the same history and so decides the same. */
espl_status espl_policy_propose(const espl_agent_view *view, const espl_policy_options *o, espl_str *json) {
    espl_policy p = {.v = view, .o = o, .n = espl_view_linears(view), .scale = 1, .places = view->budget.max_linears};
    espl_status st;
    ESPL_TRY(espl_view_check(view));
    ESPL_CHECK(st, done, espl_costs_learn(&p.costs, view, o));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.goal, p.n, sizeof *p.goal, "policy"));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.resting, p.n, sizeof *p.resting, "policy"));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.picks, p.n, sizeof *p.picks, "policy"));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.mixed.plan, p.n, sizeof *p.mixed.plan, "policy"));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.mixed.denied, p.n, sizeof *p.mixed.denied, "policy"));
    ESPL_CHECK(st, done, espl_mem_alloc(&p.mixed.picks, p.n, sizeof *p.mixed.picks, "policy"));

    p.left = espl_view_left(view);
    for (int64_t k = 0; k < view->n_history; k++) {
        bool accepted = view->history[k].accepted;
        p.scale = accepted ? fmin(1, p.scale * o->recover) : fmax(o->finest, p.scale * o->backoff);
        if (!accepted) policy_blame(&p, &view->history[k]);
    }
    if (p.left <= 0) {
        p.stop = "the target is reached";
    } else if (policy_is_stuck(view)) {
        p.stop = "the last two steps pruned nothing: they are finer than the pruning can follow";
    } else {
        ESPL_CHECK(st, done, espl_policy_set_goals(&p));
        policy_set_amounts(&p);
        espl_policy_choose(&p);
        if (p.n_picks == 0) p.stop = "nothing can be pruned any more under the cap";
    }
    ESPL_CHECK(st, done, espl_policy_put_reply(json, &p));
done:
    espl_mem_free(&p.goal);
    espl_mem_free(&p.resting);
    espl_mem_free(&p.picks);
    espl_mem_free(&p.mixed.plan);
    espl_mem_free(&p.mixed.denied);
    espl_mem_free(&p.mixed.picks);
    espl_costs_free(&p.costs);
    return st;
}
