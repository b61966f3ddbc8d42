/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What pruning a linear costs, learned from the history of outcomes.
 *
 * The damage of a linear at a sparsity is a shape times its cost. The shape is the profile's damage curve, or, where
 * the profile has none (no gradients), weights * sparsity ^ power, with the z-scores as a first guess of the cost. The
 * log of a linear's cost is a sum of terms, all 0 at first:
 *
 *     log cost_i = global + slope_s z_s + slope_g z_g + kind + layer + own
 *
 * Each outcome is an equation: a group of steps changed the mean negative log-likelihood by so much. All terms have
 * Gaussian priors (the doubt_* options are their standard deviations), the log of an equation's ratio of seen to
 * expected damage has the standard error `noise`, and the terms are the maximum a posteriori estimate. It is found by
 * Gauss-Newton in the dual, with one row per equation, because there are fewer outcomes than terms:
 *
 *     terms = P J^T (J P J^T + noise^2 I)^-1 (residual + J terms)
 *
 * where P is the diagonal of prior variances and J the derivative of the log of expected damage. So blame is spread by
 * shares of the expected damage, an innocent linear in a bad group is cleared by later good groups, and what is seen of
 * a kind or a layer counts for its relatives.
 */
#include "policy/costs.h"

#include "view.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

#include <math.h>
#include <string.h>

/* Only the newest outcomes are used: the work grows with the square of their number, and old ones say little that the
 * newer ones do not. */
enum { EQUATIONS_MAX = 256 };
/* Damage below this share of the rollback threshold is noise of the measurement: it is added to both sides of an
 * equation before the logarithm. At least FLOOR_MIN nats, for a threshold of 0. */
static const double FLOOR_SHARE = 0.01, FLOOR_MIN = 1e-6;
/* Seen damage counts as at most this many nats: beyond a perplexity of 7 times the last one the size says nothing. */
static const double SEEN_MAX = 2;
/* No log cost moves further than this in a pass: the equations are far from linear. */
static const double MOVE_MAX = 1;
/* Smallest pivot of the Cholesky factorisation; the noise keeps them well above it. */
static const double PIVOT_MIN = 1e-12;

enum { TERM_GLOBAL, TERM_S, TERM_G, TERM_KIND, TERM_LAYER = TERM_KIND + ESPL_LINEAR_KINDS };

/* One outcome: sum over items of exp(log_cost) * shape = seen. */
typedef struct costs_equation {
    const espl_decision *d;
    const double *shape; /* [d->n] change of shape by each item */
    double seen;
} costs_equation;

typedef struct costs_lesson {
    espl_costs *c;
    costs_equation *equations; /* [n_equations], newest first */
    int64_t n_equations, n_terms;
    double *shape;    /* [items of all outcomes] */
    double *sparsity; /* [n] scratch */
    double *term;     /* [n_terms] global, slopes, kinds, layers, linears */
    double *variance; /* [n_terms] of the prior */
    double *next;     /* [n_terms] scratch */
    double *jacobian; /* [n_equations][n_terms] */
    double *matrix;   /* [n_equations][n_equations], lower triangle */
    double *right;    /* [n_equations] */
    double floor;     /* nats that do not matter */
    double noise;
} costs_lesson;

/* z-scores of a degenerate profile are not finite; extreme ones would dominate the slopes. */
static double costs_z(const espl_costs *c, double z) {
    return isfinite(z) ? fmax(-c->o->z_clip, fmin(c->o->z_clip, z)) : 0;
}

/* Do not reorder this sum: whether the compiler fuses a multiplication into it decides the last bits of a cost, and so
 * which of two equally good linears a recorded run has pruned. */
static double costs_log_cost(const espl_costs *c, const double *term, int64_t i) {
    const espl_profile_row *r = &c->v->rows[i];
    double guess = c->curves ? 0 : c->o->weight_s * costs_z(c, r->z_s) + c->o->weight_g * costs_z(c, r->z_g);
    return guess + term[TERM_GLOBAL] + term[TERM_S] * costs_z(c, r->z_s) + term[TERM_G] * costs_z(c, r->z_g) +
           term[TERM_KIND + espl_linear_kind_of(c->v->layout, i)] +
           term[TERM_LAYER + espl_linear_layer(c->v->layout, i)] + term[TERM_LAYER + c->v->layout.layers + i];
}

/* Damage at cost 1. */
static double costs_shape(const espl_costs *c, int64_t i, double before, double after) {
    const espl_profile_row *r = &c->v->rows[i];
    if (c->curves) return espl_view_damage(c->v, r, after) - espl_view_damage(c->v, r, before);
    return (double)r->weights / c->total * (pow(fmin(after, 1), c->o->power) - pow(fmax(before, 0), c->o->power));
}

double espl_costs_step(const espl_costs *c, int64_t i, double before, double after) {
    return exp(c->log_cost[i]) * costs_shape(c, i, before, after);
}

double espl_costs_pattern_factor(const espl_costs *c, espl_pattern pattern) {
    switch (espl_pattern_choice(pattern)) {
    case ESPL_PATTERN_CHOICE_2_4:
        return c->o->damage_2_4;
    case ESPL_PATTERN_CHOICE_4_8:
        return c->o->damage_4_8;
    default:
        return 1;
    }
}

/* -------------------------------------------------------------- learning */

/* Histories come from files: an item may name a linear that this model does not have. */
static bool costs_knows(const espl_costs *c, int64_t linear) { return linear >= 0 && linear < c->n; }

/* Turns outcomes into equations, from the newest back: the rows tell the sparsities now, and an accepted step is undone
 * to get those before it. */
static void costs_write_equations(costs_lesson *l) {
    const espl_costs *c = l->c;
    double *shape = l->shape;
    for (int64_t i = 0; i < c->n; i++) l->sparsity[i] = espl_row_sparsity(&c->v->rows[i]);
    for (int64_t q = c->v->n_history - 1; q >= 0; q--) {
        const espl_outcome *out = &c->v->history[q];
        const espl_decision *d = &out->decision;
        double damage = espl_outcome_damage(c->v, out);
        for (int64_t k = 0; k < d->n; k++) {
            int64_t i = d->items[k].linear;
            if (!costs_knows(c, i)) continue;
            double after = out->accepted ? l->sparsity[i] : fmin(1, l->sparsity[i] + d->items[k].step);
            double before = fmax(0, after - d->items[k].step);
            shape[k] = espl_costs_pattern_factor(c, d->items[k].pattern) * fmax(0, costs_shape(c, i, before, after));
            if (out->accepted) l->sparsity[i] = before;
        }
        /* A fall of the loss counts as no damage: a negative one has no logarithm. */
        if (!isnan(damage) && d->n > 0 && l->n_equations < EQUATIONS_MAX)
            l->equations[l->n_equations++] = (costs_equation){d, shape, fmin(SEEN_MAX, fmax(0, damage))};
        shape += d->n;
    }
}

/* Fills an equation's row of J, the derivative of log(expected + floor). Returns the residual. */
static double costs_linearise(const costs_lesson *l, const costs_equation *e, double *row) {
    const espl_costs *c = l->c;
    double expected = 0;
    memset(row, 0, (size_t)l->n_terms * sizeof *row);
    for (int64_t k = 0; k < e->d->n; k++) {
        int64_t i = e->d->items[k].linear;
        if (!costs_knows(c, i)) continue;
        const espl_profile_row *r = &c->v->rows[i];
        double d = exp(costs_log_cost(c, l->term, i)) * e->shape[k];
        expected += d;
        row[TERM_S] += d * costs_z(c, r->z_s);
        row[TERM_G] += d * costs_z(c, r->z_g);
        row[TERM_KIND + espl_linear_kind_of(c->v->layout, i)] += d;
        row[TERM_LAYER + espl_linear_layer(c->v->layout, i)] += d;
        row[TERM_LAYER + c->v->layout.layers + i] += d;
    }
    row[TERM_GLOBAL] = expected;
    for (int64_t j = 0; j < l->n_terms; j++) row[j] /= expected + l->floor;
    return log((e->seen + l->floor) / (expected + l->floor));
}

/* Solves a x = b for a positive definite a, of which the lower triangle is given, by Cholesky; b becomes x. Not
 * LAPACK's: its sums depend on the number of threads. */
static void costs_solve(double *a, double *b, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        for (int64_t q = 0; q <= k; q++) {
            double sum = a[k * n + q];
            for (int64_t j = 0; j < q; j++) sum -= a[k * n + j] * a[q * n + j];
            a[k * n + q] = q == k ? sqrt(fmax(sum, PIVOT_MIN)) : sum / a[q * n + q];
        }
    for (int64_t k = 0; k < n; k++) {
        for (int64_t j = 0; j < k; j++) b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
    for (int64_t k = n - 1; k >= 0; k--) {
        for (int64_t j = k + 1; j < n; j++) b[k] -= a[j * n + k] * b[j];
        b[k] /= a[k * n + k];
    }
}

/* One Gauss-Newton pass. */
static void costs_improve(costs_lesson *l) {
    const espl_costs *c = l->c;
    int64_t n = l->n_equations, m = l->n_terms;
    for (int64_t k = 0; k < n; k++) {
        double *row = l->jacobian + k * m;
        l->right[k] = costs_linearise(l, &l->equations[k], row);
        for (int64_t j = 0; j < m; j++) l->right[k] += row[j] * l->term[j];
        for (int64_t q = 0; q <= k; q++) {
            const double *other = l->jacobian + q * m;
            double sum = k == q ? l->noise * l->noise : 0;
            for (int64_t j = 0; j < m; j++) sum += row[j] * l->variance[j] * other[j];
            l->matrix[k * n + q] = sum;
        }
    }
    costs_solve(l->matrix, l->right, n);
    for (int64_t j = 0; j < m; j++) {
        l->next[j] = 0;
        for (int64_t k = 0; k < n; k++) l->next[j] += l->jacobian[k * m + j] * l->right[k];
        l->next[j] *= l->variance[j];
    }
    double most = 0;
    for (int64_t i = 0; i < c->n; i++)
        most = fmax(most, fabs(costs_log_cost(c, l->next, i) - costs_log_cost(c, l->term, i)));
    double part = most > MOVE_MAX ? MOVE_MAX / most : 1;
    for (int64_t j = 0; j < m; j++) l->term[j] += part * (l->next[j] - l->term[j]);
}

espl_status espl_costs_learn(espl_costs *c, const espl_agent_view *v, const espl_policy_options *o) {
    *c = (espl_costs){.v = v,
                      .o = o,
                      .n = espl_view_linears(v),
                      .total = fmax(1, (double)espl_view_weights(v)),
                      .curves = espl_view_has_damage(v)};
    /* Without curves much less is known: wider priors, and outcomes are trusted more. */
    double guess = c->curves ? 1 : o->guess;
    costs_lesson l = {.c = c,
                      .n_terms = TERM_LAYER + v->layout.layers + c->n,
                      .floor = fmax(FLOOR_MIN, FLOOR_SHARE * log1p(v->budget.threshold)),
                      .noise = o->noise / guess};
    int64_t items = 0, most = espl_min_i64(v->n_history, EQUATIONS_MAX);
    for (int64_t k = 0; k < v->n_history; k++) items += v->history[k].decision.n;
    const struct {
        double **out;
        int64_t n;
    } parts[] = {{&l.shape, items},        {&l.sparsity, c->n},  {&l.term, l.n_terms},
                 {&l.variance, l.n_terms}, {&l.next, l.n_terms}, {&l.jacobian, most * l.n_terms},
                 {&l.matrix, most * most}, {&l.right, most}};
    enum { PARTS = sizeof parts / sizeof *parts };
    double *memory = NULL;
    int64_t doubles = 0;
    espl_status st;
    for (int k = 0; k < PARTS; k++) doubles += parts[k].n;
    ESPL_CHECK(st, done, espl_mem_alloc(&c->log_cost, c->n, sizeof *c->log_cost, "cost model"));
    ESPL_CHECK(st, done, espl_mem_alloc(&l.equations, most, sizeof *l.equations, "cost model"));
    ESPL_CHECK(st, done, espl_mem_alloc(&memory, doubles, sizeof *memory, "cost model"));
    doubles = 0;
    for (int k = 0; k < PARTS; k++) {
        *parts[k].out = memory + doubles;
        doubles += parts[k].n;
    }

    for (int64_t j = 0; j < l.n_terms; j++) {
        double doubt = j == TERM_GLOBAL                    ? o->doubt_global
                       : j < TERM_KIND                     ? o->doubt_slope
                       : j < TERM_LAYER                    ? o->doubt_kind
                       : j < TERM_LAYER + v->layout.layers ? o->doubt_layer
                                                           : o->doubt_own;
        l.variance[j] = guess * doubt * guess * doubt;
    }
    costs_write_equations(&l);
    for (int64_t pass = 0; pass < (int64_t)o->passes && l.n_equations > 0; pass++) costs_improve(&l);
    for (int64_t i = 0; i < c->n; i++) c->log_cost[i] = costs_log_cost(c, l.term, i);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) c->kind[k] = l.term[TERM_KIND + k];
done:
    espl_mem_free(&memory);
    espl_mem_free(&l.equations);
    if (st != ESPL_OK) espl_costs_free(c);
    return st;
}

void espl_costs_free(espl_costs *c) { espl_mem_free(&c->log_cost); }
