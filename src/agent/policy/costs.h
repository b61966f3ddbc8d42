/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cost model: how much damage a step on a linear is expected to do, learned from profile and history. Damage is the
 * rise of the mean negative log-likelihood, in nats.
 */
#ifndef ESPL_AGENT_POLICY_COSTS_H
#define ESPL_AGENT_POLICY_COSTS_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"

typedef struct espl_costs {
    const espl_agent_view *v;       /* borrowed */
    const espl_policy_options *o;   /* borrowed */
    int64_t n;                      /* linears */
    bool curves;                    /* the profile has damage curves */
    double total;                   /* weights of all linears */
    double kind[ESPL_LINEAR_KINDS]; /* learned log factor of each kind of linear; 0 before */
    double *log_cost;               /* [n] */
} espl_costs;

/* Learns from the history. Owned by the caller: espl_costs_free. */
espl_status espl_costs_learn(espl_costs *c, const espl_agent_view *v, const espl_policy_options *o);
void espl_costs_free(espl_costs *c);

/* Expected damage of taking linear i from one sparsity to another without a pattern:
 * exp(log_cost[i]) * (shape_i(after) - shape_i(before)); shape_i is the profile's damage curve, or
 * weights_i / total * sparsity ^ power. */
double espl_costs_step(const espl_costs *c, int64_t i, double before, double after);
/* Damage of an N:M pattern as a multiple of that of the same sparsity without one; 1 for other patterns. */
double espl_costs_pattern_factor(const espl_costs *c, espl_pattern pattern);

#endif
