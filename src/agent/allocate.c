/*
 * Where each linear should end: the sparsities that reach the target with the least expected damage.
 *
 * With damage_i = cost_i * weights_i * sparsity_i ^ power, the damage is least when cost_i * sparsity_i ^ (power - 1)
 * is the same for all (Lagrange), except where a bound holds: what is pruned already, the cap, and `spread` above the
 * target.
 */
#include "internal.h"

#include <math.h>

static double goal_at(const espl_policy *p, double level, int64_t i) {
    double done = espl_row_sparsity(&p->v->rows[i]);
    double most = fmax(done, fmin(p->v->budget.cap, p->v->budget.target + p->o->spread));
    if (espl_view_pattern(p->v, i)) return done;
    double free_goal = exp((level - p->costs.log_cost[i]) / (p->o->power - 1));
    return fmax(done, fmin(most, free_goal));
}

static double weights_at(const espl_policy *p, double level) {
    double sum = 0;
    for (int64_t i = 0; i < p->n; i++) sum += (double)p->v->rows[i].weights * goal_at(p, level, i);
    return sum;
}

void espl_policy_goals(espl_policy *p) {
    double lo = INFINITY, hi = -INFINITY, wanted = p->v->budget.target * p->costs.total;
    for (int64_t i = 0; i < p->n; i++) {
        lo = fmin(lo, p->costs.log_cost[i]);
        hi = fmax(hi, p->costs.log_cost[i]);
    }
    lo -= (p->o->power - 1) * 20; /* sparsity e^-20 */
    for (int step = 0; step < 80; step++) {
        double middle = (lo + hi) / 2;
        if (weights_at(p, middle) < wanted)
            lo = middle;
        else
            hi = middle;
    }
    for (int64_t i = 0; i < p->n; i++) p->goal[i] = goal_at(p, hi, i);
}
