/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many steps an agent's run still takes, from its last ones. For people: no decision depends on it. Local.
 *
 * Sparsity per step is no measure of it: steps become smaller on the way, because the large linears and the cheap
 * weights go first, and because the last steps find few linears with room. What stays nearly the same is how many
 * linears a decision names and how much each of them loses. So the estimate counts visits: each linear needs as many as
 * bring it to a common level at which the target is met, and a step has room for prune.max_linears of them. Plans that
 * are far from even need fewer, so that the gain of the last steps counts, too.
 */
#ifndef ESPL_RUN_PACE_H
#define ESPL_RUN_PACE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    ESPL_PACE_STEPS = 16
}; /* remembered: enough that a rollback, after which steps are finer, does not decide alone */

/* The last steps. Zero-initialise it. */
typedef struct espl_pace {
    int64_t n; /* steps added so far; step k is at k % ESPL_PACE_STEPS */
    struct espl_pace_step {
        int64_t items;  /* linears named */
        double removed; /* sum of the sparsities added to them */
        double gain;    /* sparsity of the model that the step added; 0 if it was rolled back */
        double seconds; /* below 0: unknown, of an earlier process */
        bool accepted;
    } steps[ESPL_PACE_STEPS];
} espl_pace;

/* Where the model is, and where it goes. */
typedef struct espl_pace_goal {
    const double *sparsity; /* [linears] */
    const double *weights;  /* [linears] */
    int64_t linears, max_linears;
    double target;
} espl_pace_goal;

void espl_pace_add(espl_pace *p, const struct espl_pace_step *step);
/* Steps to the target, rolled back ones included; 0 if it is reached. NaN without a step that gained anything. */
double espl_pace_steps_left(const espl_pace *p, const espl_pace_goal *goal);
/* Mean seconds of the remembered steps; NaN without any. */
double espl_pace_seconds(const espl_pace *p);

#endif
