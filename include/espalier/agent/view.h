/* SPDX-License-Identifier: Apache-2.0 */
/* The state of a run as the agent sees it before it decides. */
#ifndef ESPALIER_AGENT_VIEW_H
#define ESPALIER_AGENT_VIEW_H

#include "espalier/loop/loop.h"

/* Sparsities are fractions of a linear's weights, 0 .. 1. Pointers are borrowed by every function that takes a view. */
typedef struct espl_agent_view {
    int64_t iteration; /* the one to decide on: 1, 2, ... */
    espl_budget budget;
    espl_layout layout;
    const espl_profile_row *rows;    /* [linears], by espl_linear_index; of the last accepted state */
    double sparsity, sparsity_model; /* overall: of the linears' weights, and of all parameters with embeddings */
    espl_quality dense, last;        /* of the unpruned model, and of the last accepted state */
    const espl_outcome *history;     /* [n_history] all iterations so far, oldest first, rolled back ones included */
    int64_t n_history;
    double power;  /* exponent of the curvature score, which a decision may change; NAN: another score */
    bool distills; /* surviving weights learn the dense model's predictions (section distill) */
    bool updates;  /* each step gives the survivors new weights (prune.update) */
    bool mixed;    /* the agent may give a dense linear an N:M pattern in one step */
    int64_t in[ESPL_LINEAR_KINDS]; /* input features of the linears of each kind; 0: unknown, then no pattern fits */
    const double *caps;            /* [linears] maximum sparsity of a linear, 0: never pruned; NULL: budget.cap */
    const espl_pattern *patterns;  /* [linears] N:M pattern of a linear, which is finished then, else all zero; NULL:
                                    * no linear has one */
} espl_agent_view;

#endif
