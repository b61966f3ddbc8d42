/*
 * Where each linear should end: the sparsities that reach the target with the least expected damage.
 *
 * It is least where a further weight costs the same in all linears (Lagrange), except where a bound holds: what is
 * pruned already, the cap, and `spread` above the target. The damage of a linear is taken as convex: where the next
 * weights would cost less than those before, they are taken to cost the same.
 */
#include "internal.h"

#include <math.h>

enum { CELLS = 64 };

/* log of the damage per weight at the middle of each cell of sparsity, not falling. */
static void write_marginals(espl_policy *p) {
    for (int64_t i = 0; i < p->n; i++) {
        double most = -INFINITY, weights = (double)p->v->rows[i].weights / CELLS;
        for (int k = 0; k < CELLS; k++) {
            double d = espl_costs_step(&p->costs, p->v, p->o, i, (double)k / CELLS, (k + 1.0) / CELLS);
            most = fmax(most, log(fmax(d, 1e-300) / weights));
            p->marginal[i * CELLS + k] = most;
        }
    }
}

/* The sparsity up to which a weight costs less than e^level. */
static double sparsity_at(const double *marginal, double level) {
    int k = 0;
    while (k < CELLS && marginal[k] < level) k++;
    if (k == 0) return 0.5 * exp(level - marginal[0]) / CELLS;
    if (k == CELLS) return 1;
    return (k - 0.5 + (level - marginal[k - 1]) / (marginal[k] - marginal[k - 1])) / CELLS;
}

static double goal_at(const espl_policy *p, double level, int64_t i) {
    double done = espl_row_sparsity(&p->v->rows[i]);
    double most = fmax(done, fmin(p->v->budget.cap, p->v->budget.target + p->o->spread));
    if (espl_pattern_is_n_m(espl_view_pattern(p->v, i))) return done;
    return fmax(done, fmin(most, sparsity_at(p->marginal + i * CELLS, level)));
}

static double weights_at(const espl_policy *p, double level) {
    double sum = 0;
    for (int64_t i = 0; i < p->n; i++) sum += (double)p->v->rows[i].weights * goal_at(p, level, i);
    return sum;
}

espl_status espl_policy_goals(espl_policy *p) {
    double lo = INFINITY, hi = -INFINITY, wanted = p->v->budget.target * p->costs.total;
    ESPL_TRY(espl_mem_alloc(&p->marginal, p->n * CELLS, sizeof *p->marginal, "policy"));
    write_marginals(p);
    for (int64_t i = 0; i < p->n; i++) {
        lo = fmin(lo, p->marginal[i * CELLS]);
        hi = fmax(hi, p->marginal[i * CELLS + CELLS - 1]);
    }
    lo -= 20; /* next to nothing */
    hi += 1;
    for (int step = 0; step < 80; step++) {
        double middle = (lo + hi) / 2;
        if (weights_at(p, middle) < wanted)
            lo = middle;
        else
            hi = middle;
    }
    for (int64_t i = 0; i < p->n; i++) p->goal[i] = goal_at(p, hi, i);
    espl_mem_free(&p->marginal);
    return ESPL_OK;
}
