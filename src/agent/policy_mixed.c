/*
 * The mixed strategy: which dense linears become N:M in one go, instead of being pruned step by step.
 *
 * A pattern's price is what it is expected to do beyond the plan: factor * D(0, 1/2) - D(0, goal), and the damage of
 * pruning elsewhere what it prunes less than the goal (or minus, more), at the rate of this linear's own curve at the
 * goal. Dense linears with goals near 1/2 and more are gone through by price per weight. Each becomes 2:4, else 4:8, if
 * the prices of all together stay within `pattern_extra` of the plan's damage, if one step may do its damage, and if
 * that pattern of it was not rolled back. All of it is decided anew each time from costs and history: what is planned,
 * but has no place in this step, waits.
 */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

double espl_pattern_damage(const espl_policy_options *o, espl_pattern pattern) {
    int64_t k = espl_pattern_choice(pattern);
    return k == ESPL_PATTERN_CHOICE_2_4 ? o->damage_2_4 : k == ESPL_PATTERN_CHOICE_4_8 ? o->damage_4_8 : 1;
}

espl_status espl_mixed_create(espl_policy *p) {
    ESPL_TRY(espl_mem_alloc(&p->mixed.plan, p->n, sizeof *p->mixed.plan, "mixed strategy"));
    ESPL_TRY(espl_mem_alloc(&p->mixed.denied, p->n, sizeof *p->mixed.denied, "mixed strategy"));
    return espl_mem_alloc(&p->mixed.picks, p->n, sizeof *p->mixed.picks, "mixed strategy");
}

void espl_mixed_free(espl_policy *p) {
    espl_mem_free(&p->mixed.plan);
    espl_mem_free(&p->mixed.denied);
    espl_mem_free(&p->mixed.picks);
}

void espl_mixed_deny(espl_policy *p, const espl_decision_item *item) {
    int64_t k = espl_pattern_choice(item->pattern);
    if (k >= 0) p->mixed.denied[item->linear] |= (int64_t)1 << k;
}

/* --------------------------------------------------------------- planning */

static double damage(const espl_policy *p, int64_t i, double before, double after) {
    return espl_costs_step(&p->costs, p->v, p->o, i, before, after);
}

static double pattern_damage(const espl_policy *p, int64_t i, espl_pattern pattern) {
    return espl_pattern_damage(p->o, pattern) * damage(p, i, 0, ESPL_PATTERN_CHOICE_SPARSITY);
}

static double price(const espl_policy *p, int64_t i, espl_pattern pattern) {
    const double near = 0.01;
    double goal = p->goal[i], rate = damage(p, i, goal, goal + near) / near;
    return pattern_damage(p, i, pattern) - damage(p, i, 0, goal) + rate * (goal - ESPL_PATTERN_CHOICE_SPARSITY);
}

/* Damage that patterns may still be planned to add. */
static double spare_damage(const espl_policy *p) {
    double plan = 0, spent = 0;
    for (int64_t i = 0; i < p->n; i++) {
        espl_pattern pattern = espl_view_pattern(p->v, i);
        double d = damage(p, i, 0, p->goal[i]);
        plan += d;
        spent += (espl_pattern_damage(p->o, pattern) - 1) * d;
    }
    return p->o->pattern_extra * plan - spent;
}

/* The pattern of pick c, all zero if there is none for it. */
static espl_pattern find_pattern(const espl_policy *p, const espl_pick *c, double spare) {
    for (int k = 0; k < ESPL_PATTERN_CHOICES; k++) {
        espl_pattern pattern = espl_pattern_choices[k];
        bool denied = p->mixed.denied[c->linear] >> k & 1;
        if (!denied && espl_view_fits(p->v, c->linear, pattern) && price(p, c->linear, pattern) <= spare &&
            pattern_damage(p, c->linear, pattern) <= p->allowed)
            return pattern;
    }
    return (espl_pattern){0};
}

static int by_price(const void *a, const void *b) {
    const espl_pick *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return x->linear < y->linear ? -1 : x->linear > y->linear;
}

static int64_t list_dense(const espl_policy *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n; i++) {
        int64_t half = llround(ESPL_PATTERN_CHOICE_SPARSITY * (double)p->v->rows[i].weights);
        if (half == 0 || p->v->rows[i].pruned > 0 || p->goal[i] < ESPL_PATTERN_CHOICE_SPARSITY - p->o->pattern_near)
            continue;
        if (half > espl_view_room(p->v, i) || half > p->left) continue;
        double score = price(p, i, espl_pattern_choices[0]) / (double)half;
        p->mixed.picks[n++] =
            (espl_pick){.linear = i, .count = half, .step = ESPL_PATTERN_CHOICE_SPARSITY, .score = score};
    }
    qsort(p->mixed.picks, (size_t)n, sizeof *p->mixed.picks, by_price);
    return n;
}

/* ----------------------------------------------------------------- taking */

static bool has_place(const espl_policy *p, const espl_pick *c, double amount) {
    const espl_mixed *m = &p->mixed;
    return p->resting[c->linear] < p->v->iteration && m->n_picks < p->places && (double)m->picked < amount &&
           c->count <= p->left - m->picked && m->expected + pattern_damage(p, c->linear, c->pattern) <= p->allowed;
}

int64_t espl_mixed_take(espl_policy *p, double amount) {
    espl_mixed *m = &p->mixed;
    if (!p->v->mixed) return 0;
    double spare = spare_damage(p);
    int64_t dense = list_dense(p);
    for (int64_t k = 0; k < dense; k++) {
        espl_pick c = m->picks[k];
        c.pattern = find_pattern(p, &c, spare);
        if (!espl_pattern_is_n_m(c.pattern)) continue;
        spare -= price(p, c.linear, c.pattern);
        m->plan[c.linear] = MIXED_WAITING;
        if (!has_place(p, &c, amount)) continue;
        m->plan[c.linear] = MIXED_TAKEN;
        m->expected += pattern_damage(p, c.linear, c.pattern);
        m->picked += c.count;
        m->picks[m->n_picks++] = c; /* n_picks <= k */
    }
    p->left -= m->picked;
    p->places -= m->n_picks;
    p->allowed -= m->expected;
    return m->picked;
}

bool espl_mixed_spares(const espl_policy *p, int64_t i, bool strict) {
    return p->mixed.plan[i] == MIXED_FREE || (p->mixed.plan[i] == MIXED_WAITING && !strict);
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
