/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mixed strategy: which dense linears get an N:M pattern in one step, instead of being pruned step by step.
 *
 * A pattern's price is the damage that it is expected to add to the plan: factor * D(0, s) - D(0, goal) for the linear
 * itself, s being the pattern's sparsity, and for the others what the pattern prunes less than the goal (or minus,
 * more), at the rate of this linear's own curve at its goal, which is the rate of all (goals.c). Dense linears with
 * goals near s and above are visited by price per weight. Each is planned to get 2:4, else 4:8, if the prices of all
 * together stay within `pattern_extra` of the plan's damage, if one iteration may do its damage, and if it was not
 * blamed for a rollback with that pattern. All of it is decided anew in each iteration, from costs and history; a
 * planned pattern that has no place in this iteration waits.
 */
#include "policy/policy.h"

#include "view.h"

#include <math.h>
#include <stdlib.h>

/* Width of the difference that stands for the derivative of the damage at the goal. */
static const double RATE_WIDTH = 0.01;

static int mixed_by_score(const void *a, const void *b) {
    const espl_pick *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->linear < y->linear ? -1 : x->linear > y->linear; /* qsort is not stable */
}

void espl_policy_sort_picks(espl_pick *picks, int64_t n) { qsort(picks, (size_t)n, sizeof *picks, mixed_by_score); }

static double mixed_damage(const espl_policy *p, int64_t i, espl_pattern pattern) {
    return espl_costs_pattern_factor(&p->costs, pattern) *
           espl_costs_step(&p->costs, i, 0, ESPL_PATTERN_CHOICE_SPARSITY);
}

static double mixed_price(const espl_policy *p, int64_t i, espl_pattern pattern) {
    double goal = p->goal[i];
    double rate = espl_costs_step(&p->costs, i, goal, goal + RATE_WIDTH) / RATE_WIDTH;
    return mixed_damage(p, i, pattern) - espl_costs_step(&p->costs, i, 0, goal) +
           rate * (goal - ESPL_PATTERN_CHOICE_SPARSITY);
}

/* Lists the dense linears that could get a pattern, cheapest first, in p->mixed.picks. Returns their number. */
static int64_t mixed_list_dense(espl_policy *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const espl_profile_row *r = &p->v->rows[i];
        int64_t count = llround(ESPL_PATTERN_CHOICE_SPARSITY * (double)r->weights);
        if (count == 0 || r->pruned > r->zeros || p->goal[i] < ESPL_PATTERN_CHOICE_SPARSITY - p->o->pattern_near)
            continue;
        if (count > espl_view_room(p->v, i) || count > p->left) continue;
        p->mixed.picks[n++] = (espl_pick){.linear = i,
                                          .count = count,
                                          .step = ESPL_PATTERN_CHOICE_SPARSITY,
                                          .score = mixed_price(p, i, espl_pattern_choices[0]) / (double)count};
    }
    espl_policy_sort_picks(p->mixed.picks, n);
    return n;
}

void espl_mixed_take(espl_policy *p, double amount) {
    espl_mixed *m = &p->mixed;
    if (!p->v->mixed) return;

    /* The damage that patterns may still add: their share of the plan's, less what existing ones added. */
    double plan = 0, spent = 0;
    for (int64_t i = 0; i < p->n; i++) {
        double d = espl_costs_step(&p->costs, i, 0, p->goal[i]);
        plan += d;
        spent += (espl_costs_pattern_factor(&p->costs, espl_view_pattern(p->v, i)) - 1) * d;
    }
    double spare = p->o->pattern_extra * plan - spent;

    int64_t dense = mixed_list_dense(p);
    for (int64_t k = 0; k < dense; k++) {
        espl_pick c = m->picks[k];
        for (int q = 0; q < ESPL_PATTERN_CHOICES && !espl_pattern_is_n_m(c.pattern); q++) {
            espl_pattern pattern = espl_pattern_choices[q];
            bool denied = m->denied[c.linear] >> q & 1;
            if (!denied && espl_view_fits(p->v, c.linear, pattern) && mixed_price(p, c.linear, pattern) <= spare &&
                mixed_damage(p, c.linear, pattern) <= p->allowed)
                c.pattern = pattern;
        }
        if (!espl_pattern_is_n_m(c.pattern)) continue;
        double damage = mixed_damage(p, c.linear, c.pattern);
        spare -= mixed_price(p, c.linear, c.pattern);
        m->plan[c.linear] = ESPL_MIXED_WAITING;
        bool has_place = p->resting[c.linear] < p->v->iteration && m->n_picks < p->places &&
                         (double)m->picked < amount && c.count <= p->left - m->picked &&
                         m->expected + damage <= p->allowed;
        if (!has_place) continue;
        m->plan[c.linear] = ESPL_MIXED_TAKEN;
        m->expected += damage;
        m->picked += c.count;
        m->picks[m->n_picks++] = c; /* n_picks <= k: overwrites only what was visited */
    }
    p->left -= m->picked;
    p->places -= m->n_picks;
    p->allowed -= m->expected;
}

void espl_mixed_join(espl_policy *p) {
    espl_mixed *m = &p->mixed;
    for (int64_t k = 0; k < m->n_picks; k++) p->picks[p->n_picks++] = m->picks[k]; /* no linear is in both */
    p->picked += m->picked;
    p->left += m->picked;
    p->places += m->n_picks;
    p->expected += m->expected;
    p->allowed += m->expected;
}
