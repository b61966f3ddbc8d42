/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chooses what to prune in this iteration: patterns first (mixed.c), then steps, cheapest per weight first, as many as
 * the planned amount needs and the allowed damage permits.
 */
#include "policy/policy.h"

#include "view.h"

#include <math.h>

/* Steps are rounded down to a multiple of 1 / STEPS_PER_UNIT, so that a person can read them, as long as that costs
 * little: below STEP_ROUNDED_MIN it would take up to half of the step. STEP_ROUNDING undoes the rounding error of the
 * product (0.003 * 1000 < 3). */
static const double STEPS_PER_UNIT = 1000, STEP_ROUNDED_MIN = 0.002, STEP_ROUNDING = 1e-9;
/* A choice with this part of the amount is as good as complete: no further way to fill the places is tried. */
enum { ENOUGH_PERCENT = 90 };
/* With less than this part of the amount, the next, less strict, level of choice is tried. */
enum { LITTLE_PERCENT = 10 };
/* A remainder of less than this part of what is left goes with another pick instead of with an iteration of its own. */
enum { CRUMBS_PERCENT = 1 };
/* A rest of less than this part of the amount is pruned along: another iteration for it is not worth its measurements.
 */
static const double REST_SHARE = 0.1;
/* Steps are not added to patterns if these leave less than this part of the planned amount. */
static const double PATTERNS_ENOUGH = 0.25;
/* While the expected damage is more than allowed, amount and largest step shrink by these factors. The amount shrinks
 * faster: fewer linears, of which each still gets a step that is worth its place. */
static const double AMOUNT_SHRINK = 0.7, STEP_SHRINK = 0.85;

/* What a choice respects: each level drops one wish of the level before. */
typedef enum choice_level {
    CHOICE_STRICT,   /* rest after rollbacks, smallest step, goals */
    CHOICE_NO_REST,  /* goals */
    CHOICE_NO_GOALS, /* nothing but the cap */
    CHOICE_LEVELS
} choice_level;

static double choice_round_step(double step) {
    return step >= STEP_ROUNDED_MIN ? floor(step * STEPS_PER_UNIT + STEP_ROUNDING) / STEPS_PER_UNIT : step;
}

/* Lists in p->picks all steps that the level permits and that prune at least `least` weights, cheapest first. `finish`:
 * the last step to the target, which must be exact. Returns their number. */
static int64_t choice_list(espl_policy *p, choice_level level, bool finish, double least) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const espl_profile_row *r = &p->v->rows[i];
        double weights = (double)r->weights, now = espl_row_sparsity(r), gap = p->goal[i] - now;
        int64_t room = espl_view_room(p->v, i);
        espl_mixed_plan plan = p->mixed.plan[i];
        if (r->weights <= 0 || (level < CHOICE_NO_REST && p->resting[i] >= p->v->iteration)) continue;
        /* A linear that is to get a pattern must stay dense until then. */
        if (plan == ESPL_MIXED_TAKEN || (plan == ESPL_MIXED_WAITING && level < CHOICE_NO_GOALS)) continue;
        if (level < CHOICE_NO_REST && !finish && gap < p->o->min_step) continue;

        double step = level < CHOICE_NO_GOALS ? fmin(p->step_max, gap) : p->step_max;
        if (!(finish && step < p->step_max)) step = choice_round_step(step);
        int64_t count = llround(step * weights);
        if (finish && level < CHOICE_NO_GOALS && count == 0 && gap > 0) count = 1;
        if (count > room) count = room;
        if (count != llround(step * weights) || step <= 0) step = (double)count / weights;
        if (step > p->v->budget.max_step) count = (int64_t)floor(p->v->budget.max_step * weights);
        if (count <= 0 || (double)count < least) continue;
        double damage = espl_costs_step(&p->costs, i, now, now + step);
        p->picks[n++] = (espl_pick){.linear = i, .count = count, .step = step, .score = damage / (double)count};
    }
    espl_policy_sort_picks(p->picks, n);
    return n;
}

/* Takes the cheapest steps that make up `amount`, as far as places go. Each prunes at least share * amount / places
 * weights. */
static void choice_take(espl_policy *p, choice_level level, int64_t amount, double share) {
    bool finish = amount >= p->left;
    int64_t candidates = choice_list(p, level, finish, share * (double)amount / (double)p->places);
    p->n_picks = p->picked = 0;
    p->expected = 0;
    for (int64_t k = 0; k < candidates && p->n_picks < p->places && p->picked < amount; k++) {
        espl_pick c = p->picks[k];
        const espl_profile_row *r = &p->v->rows[c.linear];
        int64_t needed = amount - p->picked;
        if (c.count > needed) { /* the last one gives only what is needed */
            c.count = needed;
            c.step = (double)needed / (double)r->weights;
            if (!finish && c.step < p->o->min_step) {
                if (p->n_picks > 0) break; /* too small to matter now */
            } else if (!finish) {
                c.step = choice_round_step(c.step);
                c.count = llround(c.step * (double)r->weights);
                if (c.count <= 0 || c.count > needed) break;
            }
        }
        double now = espl_row_sparsity(r);
        p->picks[p->n_picks++] = c; /* n_picks <= k: overwrites only what was visited */
        p->picked += c.count;
        p->expected += espl_costs_step(&p->costs, c.linear, now, now + c.step);
    }

    /* Goals add up to the target, their rounded counts to a few weights less. */
    int64_t rest = p->left - p->picked;
    if (!finish || rest <= 0 || rest > p->left * CRUMBS_PERCENT / 100) return;
    for (int64_t k = 0; k < p->n_picks; k++) {
        espl_pick *c = &p->picks[k];
        int64_t count = c->count + rest;
        double step = (double)count / (double)p->v->rows[c->linear].weights;
        if (count > espl_view_room(p->v, c->linear) || step > p->v->budget.max_step) continue;
        c->count = count;
        c->step = step;
        p->picked += rest;
        return;
    }
}

/* Makes the strictest choice that reaches a fair part of `amount`. */
static void choice_make(espl_policy *p, int64_t amount) {
    /* With few places, small linears waste them: contributions below these shares of amount / places are left out. */
    static const double shares[] = {0, 0.25, 0.5, 0.75, 1};
    enum { SHARES = sizeof shares / sizeof *shares };
    /* Beside patterns there is no need for steps, and so none to break rest or goals for. */
    choice_level levels = p->mixed.n_picks > 0 ? CHOICE_NO_REST : CHOICE_LEVELS;
    for (choice_level level = CHOICE_STRICT; level < levels; level++) {
        int best = 0;
        int64_t most = -1;
        for (int s = 0; s < SHARES && most < amount * ENOUGH_PERCENT / 100; s++) {
            choice_take(p, level, amount, shares[s]);
            if (p->picked <= most) continue;
            most = p->picked;
            best = s;
            if (p->n_picks < p->places) break; /* places are not what is short */
        }
        choice_take(p, level, amount, shares[best]);
        if (p->picked > 0 && p->picked >= amount * LITTLE_PERCENT / 100) return;
    }
}

/* The amount follows the plan and the lessons of rollbacks, and then shrinks until its expected damage is allowed. At
 * its finest it is tried even so: without any step nothing would be learned. */
void espl_policy_choose(espl_policy *p) {
    double finest = fmax(1, p->planned * p->o->finest);
    double amount = fmax(finest, p->planned * p->scale);
    if ((double)p->left - amount < REST_SHARE * amount) amount = (double)p->left;
    espl_mixed_take(p, amount);
    amount -= (double)p->mixed.picked;
    bool patterns_only = p->mixed.n_picks > 0 && (p->places <= 0 || amount < PATTERNS_ENOUGH * p->planned);
    while (!patterns_only) {
        choice_make(p, (int64_t)fmin((double)p->left, fmax(1, floor(amount))));
        if (p->expected <= p->allowed || amount <= finest) break;
        amount *= AMOUNT_SHRINK;
        p->step_max = fmax(p->step_max * STEP_SHRINK, p->v->budget.max_step * p->o->finest);
    }
    if (p->mixed.n_picks > 0 && p->expected > p->allowed) { /* patterns alone are progress enough */
        p->n_picks = p->picked = 0;
        p->expected = 0;
    }
    espl_mixed_join(p);
}
