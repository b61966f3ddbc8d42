/*
 * What pruning a linear costs, learned from the history of outcomes.
 *
 * The damage of a linear at a sparsity is a shape times its cost. The shape is the profile's damage curve, or where the
 * profile has none (no gradients) weights * sparsity ^ power, with the z-scores as a first guess of the cost. The log
 * of a linear's cost is a sum: global + slope_s z_s + slope_g z_g + kind + layer + own, at first 0. Each outcome is an
 * equation: what a group of steps did to the mean negative log-likelihood. All terms have Gaussian priors (the doubt_*
 * options are their standard deviations), and the equations' log ratios are believed up to `noise`; the terms are then
 * the maximum a posteriori estimate, by Gauss-Newton in the dual (one row per equation): terms = prior + P J^T (J P J^T
 * + noise^2 I)^-1 (residual + J (terms - prior)). So blame is spread by shares of the expected damage, an innocent
 * linear in a bad group is cleared by later good groups, and what is seen on a kind or a layer helps its relatives.
 */
#include "internal.h"

#include <math.h>
#include <string.h>

/* One outcome as an equation: sum over items of exp(log_cost) * x = seen. */
typedef struct equation {
    const espl_decision *d;
    int64_t first; /* of its items in x */
    double seen;
} equation;

enum { TERM_GLOBAL, TERM_S, TERM_G, TERM_KIND, TERM_LAYER = TERM_KIND + ESPL_LINEAR_KINDS };
enum { MAX_EQUATIONS = 256 }; /* the newest */

typedef struct lesson {
    espl_costs *c;
    const espl_agent_view *v;
    const espl_policy_options *o;
    equation *eq; /* [n_eq], newest first */
    int64_t n_eq, n_terms;
    double *x;        /* [items of all outcomes] */
    double *sparsity; /* [n] scratch */
    double *term;     /* [n_terms] departure from the prior: global, slopes, kinds, layers, own */
    double *variance; /* [n_terms] of the prior */
    double *next;     /* [n_terms] scratch */
    double *jacobian; /* [n_eq][n_terms] */
    double *matrix;   /* [n_eq][n_eq] */
    double *right;    /* [n_eq] */
    double floor;     /* nats that do not matter */
    double guess;     /* factor on the doubts: 1 with curves */
    double noise;
} lesson;

static double z_of(double z, const espl_policy_options *o) {
    return isfinite(z) ? fmax(-o->z_clip, fmin(o->z_clip, z)) : 0;
}

static double log_cost(const lesson *l, const double *term, int64_t i) {
    const espl_profile_row *r = &l->v->rows[i];
    double guess = l->c->curves ? 0 : l->o->weight_s * z_of(r->z_s, l->o) + l->o->weight_g * z_of(r->z_g, l->o);
    return guess + term[TERM_GLOBAL] + term[TERM_S] * z_of(r->z_s, l->o) + term[TERM_G] * z_of(r->z_g, l->o) +
           term[TERM_KIND + espl_linear_kind_of(i)] + term[TERM_LAYER + espl_linear_layer(i)] +
           term[TERM_LAYER + l->c->layers + i];
}

/* ------------------------------------------------------------------ shapes */

/* Damage at cost 1. */
static double shape(const espl_costs *c, const espl_agent_view *v, const espl_policy_options *o, int64_t i,
                    double before, double after) {
    const espl_profile_row *r = &v->rows[i];
    if (c->curves) return espl_row_damage(r, after) - espl_row_damage(r, before);
    return (double)r->weights / c->total * (pow(fmin(after, 1), o->power) - pow(fmax(before, 0), o->power));
}

double espl_costs_step(const espl_costs *c, const espl_agent_view *v, const espl_policy_options *o, int64_t i,
                       double before, double after) {
    return exp(c->log_cost[i]) * shape(c, v, o, i, before, after);
}

/* --------------------------------------------------------------- equations */

static bool known(const lesson *l, int64_t linear) { return linear >= 0 && linear < l->c->n; }

/* From the newest outcome back: the rows tell where an accepted step ended. sparsity [n] is scratch. */
static void write_equation(lesson *l, const espl_outcome *out, double *sparsity, int64_t first) {
    const espl_decision *d = &out->decision;
    double rise = espl_outcome_rise(out);
    for (int64_t k = 0; k < d->n; k++) {
        int64_t i = d->items[k].linear;
        if (!known(l, i)) continue;
        double after = out->accepted ? sparsity[i] : fmin(1, sparsity[i] + d->items[k].step);
        double before = fmax(0, after - d->items[k].step);
        l->x[first + k] =
            espl_pattern_damage(l->o, d->items[k].pattern) * fmax(0, shape(l->c, l->v, l->o, i, before, after));
        if (out->accepted) sparsity[i] = before;
    }
    if (isnan(rise) || d->n == 0 || l->n_eq == MAX_EQUATIONS) return;
    l->eq[l->n_eq++] = (equation){d, first, fmin(2, fmax(0, log1p(rise)))};
}

static void write_equations(lesson *l) {
    const espl_agent_view *v = l->v;
    double *sparsity = l->sparsity;
    int64_t first = 0;
    for (int64_t i = 0; i < l->c->n; i++) sparsity[i] = espl_row_sparsity(&v->rows[i]);
    for (int64_t k = v->n_history - 1; k >= 0; k--) {
        write_equation(l, &v->history[k], sparsity, first);
        first += v->history[k].decision.n;
    }
}

/* ---------------------------------------------------------------- learning */

/* Fills the row of an equation: the derivative of log(expected + floor). Returns its residual. */
static double linearise(const lesson *l, const equation *e, double *row) {
    double expected = 0;
    memset(row, 0, (size_t)l->n_terms * sizeof *row);
    for (int64_t k = 0; k < e->d->n; k++) {
        int64_t i = e->d->items[k].linear;
        if (!known(l, i)) continue;
        const espl_profile_row *r = &l->v->rows[i];
        double d = exp(log_cost(l, l->term, i)) * l->x[e->first + k];
        expected += d;
        row[TERM_S] += d * z_of(r->z_s, l->o);
        row[TERM_G] += d * z_of(r->z_g, l->o);
        row[TERM_KIND + espl_linear_kind_of(i)] += d;
        row[TERM_LAYER + espl_linear_layer(i)] += d;
        row[TERM_LAYER + l->c->layers + i] += d;
    }
    row[TERM_GLOBAL] = expected;
    for (int64_t j = 0; j < l->n_terms; j++) row[j] /= expected + l->floor;
    return log((e->seen + l->floor) / (expected + l->floor));
}

/* The lower triangle of J P J^T + noise^2 I, and the right-hand side. */
static void write_system(const lesson *l) {
    int64_t n = l->n_eq, m = l->n_terms;
    for (int64_t k = 0; k < n; k++) {
        double *row = l->jacobian + k * m;
        l->right[k] = linearise(l, &l->eq[k], row);
        for (int64_t j = 0; j < m; j++) l->right[k] += row[j] * l->term[j];
        for (int64_t q = 0; q <= k; q++) {
            const double *other = l->jacobian + q * m;
            double sum = k == q ? l->noise * l->noise : 0;
            for (int64_t j = 0; j < m; j++) sum += row[j] * l->variance[j] * other[j];
            l->matrix[k * n + q] = sum;
        }
    }
}

/* Cholesky: right becomes the solution. The matrix is positive definite thanks to the noise. */
static void solve_system(double *a, double *b, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        for (int64_t q = 0; q <= k; q++) {
            double sum = a[k * n + q];
            for (int64_t j = 0; j < q; j++) sum -= a[k * n + j] * a[q * n + j];
            a[k * n + q] = q == k ? sqrt(fmax(sum, 1e-12)) : sum / a[q * n + q];
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

/* Moves the terms towards the solution, no log cost by more than 1 at a time: the equations are far from linear. */
static void move_terms(const lesson *l) {
    int64_t m = l->n_terms;
    double most = 0;
    for (int64_t j = 0; j < m; j++) {
        l->next[j] = 0;
        for (int64_t k = 0; k < l->n_eq; k++) l->next[j] += l->jacobian[k * m + j] * l->right[k];
        l->next[j] *= l->variance[j];
    }
    for (int64_t i = 0; i < l->c->n; i++) most = fmax(most, fabs(log_cost(l, l->next, i) - log_cost(l, l->term, i)));
    double part = most > 1 ? 1 / most : 1;
    for (int64_t j = 0; j < m; j++) l->term[j] += part * (l->next[j] - l->term[j]);
}

static void set_prior(const lesson *l) {
    const espl_policy_options *o = l->o;
    for (int64_t j = 0; j < l->n_terms; j++) {
        double doubt = j == TERM_GLOBAL                ? o->doubt_global
                       : j < TERM_KIND                 ? o->doubt_slope
                       : j < TERM_LAYER                ? o->doubt_kind
                       : j < TERM_LAYER + l->c->layers ? o->doubt_layer
                                                       : o->doubt_own;
        l->variance[j] = l->guess * doubt * l->guess * doubt;
    }
}

static void learn(lesson *l) {
    set_prior(l);
    write_equations(l);
    for (int64_t pass = 0; pass < (int64_t)l->o->passes && l->n_eq > 0; pass++) {
        write_system(l);
        solve_system(l->matrix, l->right, l->n_eq);
        move_terms(l);
    }
    for (int64_t i = 0; i < l->c->n; i++) l->c->log_cost[i] = log_cost(l, l->term, i);
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) l->c->kind[k] = l->term[TERM_KIND + k];
}

/* ------------------------------------------------------------------ memory */

typedef struct piece {
    void *out; /* T ** */
    int64_t n;
} piece;

static espl_status create_lesson(lesson *l) {
    int64_t items = 0, most = l->v->n_history < MAX_EQUATIONS ? l->v->n_history : MAX_EQUATIONS;
    for (int64_t k = 0; k < l->v->n_history; k++) items += l->v->history[k].decision.n;
    l->n_terms = TERM_LAYER + l->c->layers + l->c->n;
    piece pieces[] = {{&l->x, items},
                      {&l->sparsity, l->c->n},
                      {&l->term, l->n_terms},
                      {&l->variance, l->n_terms},
                      {&l->next, l->n_terms},
                      {&l->jacobian, most * l->n_terms},
                      {&l->matrix, most * most},
                      {&l->right, most}};
    ESPL_TRY(espl_mem_alloc(&l->eq, most, sizeof *l->eq, "cost model"));
    for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++)
        ESPL_TRY(espl_mem_alloc(pieces[k].out, pieces[k].n, sizeof(double), "cost model"));
    return ESPL_OK;
}

static void free_lesson(lesson *l) {
    espl_mem_free(&l->eq);
    espl_mem_free(&l->x);
    espl_mem_free(&l->sparsity);
    espl_mem_free(&l->term);
    espl_mem_free(&l->variance);
    espl_mem_free(&l->next);
    espl_mem_free(&l->jacobian);
    espl_mem_free(&l->matrix);
    espl_mem_free(&l->right);
}

espl_status espl_costs_learn(espl_costs *c, const espl_agent_view *v, const espl_policy_options *o) {
    lesson l = {.c = c, .v = v, .o = o, .floor = fmax(1e-6, 0.01 * log1p(v->budget.threshold))};
    *c = (espl_costs){.n = espl_view_linears(v),
                      .layers = v->layers,
                      .total = fmax(1, (double)espl_view_weights(v)),
                      .curves = espl_view_has_damage(v)};
    l.guess = c->curves ? 1 : o->guess;
    l.noise = o->noise / l.guess;
    espl_status st = espl_mem_alloc(&c->log_cost, c->n, sizeof *c->log_cost, "cost model");
    if (st == ESPL_OK) st = create_lesson(&l);
    if (st == ESPL_OK) learn(&l);
    free_lesson(&l);
    if (st != ESPL_OK) espl_costs_free(c);
    return st;
}

void espl_costs_free(espl_costs *c) { espl_mem_free(&c->log_cost); }
