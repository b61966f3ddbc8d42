/* SPDX-License-Identifier: Apache-2.0 */
/* The estimate of the steps to the target (pace.h). */
#include "pace.h"

#include <math.h>

#include "espalier/base/integer.h"

/* Bisections of the level: exact to more digits than anyone reads. */
enum { LEVEL_BISECTIONS = 40 };
/* A decision with fewer linears than this share of prune.max_linears was not limited by their number. */
static const double PLACES_FULL = 0.8;
/* The last steps find too few linears with room to fill their places: so many steps per round through all linears.
 * Measured on recorded runs of the policy. */
static const double UNFILLED = 0.5;
/* Estimates from the gain alone look at the newest steps, because gains fall. */
enum { GAIN_STEPS = 3, MIXED_GAIN_STEPS = 8 };
/* A common level asks for too many visits where plans are far from even, and the gain of the last steps for too few.
 * Weight of the visits: with 0.6 to 0.8, recorded runs with even and with uneven plans are forecast within a quarter.
 */
static const double VISITS_WEIGHT = 0.6;

void espl_pace_add(espl_pace *p, const struct espl_pace_step *step) { p->steps[p->n++ % ESPL_PACE_STEPS] = *step; }

/* The sparsity to which all linears below it must be raised to reach the target. */
static double pace_level(const espl_pace_goal *g) {
    double lo = 0, hi = 1, all = 0, missing = 0;
    for (int64_t i = 0; i < g->linears; i++) {
        all += g->weights[i];
        missing += g->weights[i] * (g->target - g->sparsity[i]);
    }
    if (missing <= 0 || all <= 0) return 0;
    for (int step = 0; step < LEVEL_BISECTIONS; step++) {
        double middle = (lo + hi) / 2, raised = 0;
        for (int64_t i = 0; i < g->linears; i++) raised += g->weights[i] * fmax(0, middle - g->sparsity[i]);
        if (raised < missing)
            lo = middle;
        else
            hi = middle;
    }
    return hi;
}

/* Mean gain of at most `steps` of the newest steps. */
static double pace_gain(const espl_pace *p, int64_t steps) {
    int64_t n = espl_min_i64(p->n, steps);
    double gain = 0;
    for (int64_t k = p->n - n; k < p->n; k++) gain += p->steps[k % ESPL_PACE_STEPS].gain;
    return gain / (double)n;
}

double espl_pace_steps_left(const espl_pace *p, const espl_pace_goal *g) {
    int64_t n = espl_min_i64(p->n, ESPL_PACE_STEPS);
    double items = 0, removed = 0, accepted = 0, all = 0, missing = 0;
    for (int64_t k = 0; k < n; k++) {
        items += (double)p->steps[k].items;
        removed += p->steps[k].removed;
        accepted += p->steps[k].accepted;
    }
    for (int64_t i = 0; i < g->linears; i++) {
        all += g->weights[i];
        missing += g->weights[i] * (g->target - g->sparsity[i]);
    }
    if (missing <= 0) return 0;
    if (items == 0 || removed <= 0 || accepted == 0) return NAN;
    if (items < PLACES_FULL * (double)(n * g->max_linears)) {
        double gain = pace_gain(p, GAIN_STEPS);
        return gain > 0 ? fmax(1, missing / all / gain) : NAN;
    }
    double level = pace_level(g), visits = 0;
    for (int64_t i = 0; i < g->linears; i++) visits += ceil(fmax(0, level - g->sparsity[i]) / (removed / items));
    double rounds = fmax(1, (double)g->linears / (double)g->max_linears);
    double steps = fmax(1, visits / (items / (double)n)) / (accepted / (double)n),
           gain = pace_gain(p, MIXED_GAIN_STEPS);
    if (gain > 0) steps = VISITS_WEIGHT * steps + (1 - VISITS_WEIGHT) * missing / all / gain;
    return steps + fmin(visits, UNFILLED * (rounds - 1));
}

double espl_pace_seconds(const espl_pace *p) {
    int64_t n = espl_min_i64(p->n, ESPL_PACE_STEPS), known = 0;
    double sum = 0;
    for (int64_t k = 0; k < n; k++) {
        if (p->steps[k].seconds < 0) continue;
        sum += p->steps[k].seconds;
        known++;
    }
    return known ? sum / (double)known : NAN;
}
