/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where each linear should end: the sparsities that reach the target with the least expected damage.
 *
 * It is least where a further weight costs the same in all linears (Lagrange), except where a bound holds: what is
 * pruned already, the cap, and `spread` above the target. So the goals are functions of one number, the log of the cost
 * of a weight (`level`), which is found by bisection. A linear's damage is taken as convex: where the next weights
 * would cost less than those before, they count as costing the same.
 */
#include "policy/policy.h"

#include "view.h"

#include "espalier/base/memory.h"

#include <math.h>

/* Marginal costs are tabulated in cells of sparsity: 1/64 is finer than the profile's 16 levels. */
enum { CELLS = 64 };
/* Bisections of an interval of logs that is at most a few hundred wide: exact to a double's last bits. */
enum { BISECTIONS = 80 };
/* A damage of 0 has no logarithm. */
static const double DAMAGE_MIN = 1e-300;
/* The search begins so far (in log cost) below and above all marginals, where all goals are at their bounds. */
static const double LEVEL_BELOW = 20, LEVEL_ABOVE = 1;

/* The goal of linear i if weights are pruned that cost less than e^level; marginal [CELLS]: log of the damage per
 * weight at the middle of each cell, not falling. */
static double goal_at(const espl_policy *p, const double *marginal, double level, int64_t i) {
    double done = espl_row_sparsity(&p->v->rows[i]), sparsity = 1;
    double most = fmax(done, fmin(espl_view_cap(p->v, i), p->aim + p->o->spread));
    if (espl_pattern_is_n_m(espl_view_pattern(p->v, i))) return done;
    int k = 0;
    while (k < CELLS && marginal[k] < level) k++;
    if (k == 0) /* below the first middle the marginal falls to 0 at sparsity 0 */
        sparsity = 0.5 * exp(level - marginal[0]) / CELLS;
    else if (k < CELLS)
        sparsity = (k - 0.5 + (level - marginal[k - 1]) / (marginal[k] - marginal[k - 1])) / CELLS;
    return fmax(done, fmin(most, sparsity));
}

/* All weights of the model share one level; the bisection finds where the goals add up to the target. */
espl_status espl_policy_set_goals(espl_policy *p) {
    double lo = INFINITY, hi = -INFINITY, wanted = p->v->budget.target * p->costs.total, *marginals;
    p->aim = espl_view_aim(p->v);
    ESPL_TRY(espl_mem_alloc(&marginals, p->n * CELLS, sizeof *marginals, "policy"));
    for (int64_t i = 0; i < p->n; i++) {
        double most = -INFINITY, weights = (double)p->v->rows[i].weights / CELLS;
        for (int k = 0; k < CELLS; k++) {
            double d = espl_costs_step(&p->costs, i, (double)k / CELLS, (k + 1.0) / CELLS);
            most = fmax(most, log(fmax(d, DAMAGE_MIN) / weights));
            marginals[i * CELLS + k] = most;
        }
        lo = fmin(lo, marginals[i * CELLS]);
        hi = fmax(hi, most);
    }
    lo -= LEVEL_BELOW;
    hi += LEVEL_ABOVE;
    for (int step = 0; step < BISECTIONS; step++) {
        double middle = (lo + hi) / 2, sum = 0;
        for (int64_t i = 0; i < p->n; i++)
            sum += (double)p->v->rows[i].weights * goal_at(p, marginals + i * CELLS, middle, i);
        if (sum < wanted)
            lo = middle;
        else
            hi = middle;
    }
    for (int64_t i = 0; i < p->n; i++) p->goal[i] = goal_at(p, marginals + i * CELLS, hi, i);
    espl_mem_free(&marginals);
    return ESPL_OK;
}
