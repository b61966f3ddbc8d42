/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The embedded policy. espl_policy_propose (policy.c) learns the costs (costs.c) and the lessons of the past, plans a
 * final sparsity for each linear (goals.c), chooses what to prune now (choice.c), with patterns first (mixed.c), and
 * writes the reply (text.c). The files pass this state along, each filling the part that is named after it.
 */
#ifndef ESPL_AGENT_POLICY_H
#define ESPL_AGENT_POLICY_H

#include "policy/costs.h"

/* A linear to prune in this iteration. */
typedef struct espl_pick {
    int64_t linear, count; /* weights to prune */
    double step;           /* count / weights, or the round number that means the same count */
    double score;          /* cheapest first: expected damage per weight */
    espl_pattern pattern;  /* N:M, then step is the pattern's sparsity; else all zero */
} espl_pick;

/* What the mixed strategy intends for a linear. */
typedef enum espl_mixed_plan {
    ESPL_MIXED_FREE,    /* no pattern */
    ESPL_MIXED_WAITING, /* to get a pattern in a later iteration */
    ESPL_MIXED_TAKEN    /* gets one now */
} espl_mixed_plan;

typedef struct espl_mixed {
    espl_mixed_plan *plan; /* [n] */
    int64_t *denied;       /* [n] bit k: this linear with espl_pattern_choices[k] was blamed for a rollback */
    espl_pick *picks;      /* [n] scratch, then the choice: [n_picks] */
    int64_t n_picks, picked;
    double expected; /* damage of the choice */
} espl_mixed;

typedef struct espl_policy {
    const espl_agent_view *v;
    const espl_policy_options *o;
    espl_costs costs;
    int64_t n;      /* linears */
    int64_t left;   /* weights to prune until the target */
    int64_t places; /* linears that may still be chosen */
    /* policy.c */
    int64_t *resting; /* [n] last iteration in which a linear rests */
    double scale;     /* factor on amount and steps: 1, less after rollbacks */
    double planned;   /* weights to prune now if nothing spoke against it */
    double step_max;  /* largest step in this iteration */
    double allowed;   /* expected damage that this iteration may do */
    const char *stop; /* the reason to stop, or NULL; static storage */
    /* goals.c */
    double aim;   /* the target, of the linears that may be pruned */
    double *goal; /* [n] planned final sparsity */
    /* choice.c */
    espl_pick *picks; /* [n] scratch, then the choice: [n_picks], patterns last */
    int64_t n_picks, picked;
    double expected; /* damage of the choice */
    /* mixed.c */
    espl_mixed mixed;
} espl_policy;

/* policy.c: appends the policy's answer to *json, as the JSON that a language model would write. A pure function of its
 * arguments: all that it learns is in view->history. */
espl_status espl_policy_propose(const espl_agent_view *view, const espl_policy_options *o, espl_str *json);

/* goals.c: fills p->goal with the sparsities that reach the target with the least expected damage. */
espl_status espl_policy_set_goals(espl_policy *p);

/* mixed.c: sorts by score, cheapest first; by linear among equals. */
void espl_policy_sort_picks(espl_pick *picks, int64_t n);
/* Plans patterns, and takes as many of them now as `amount` weights, p->places and p->allowed let. What is left of
 * p->left, p->places and p->allowed is for steps. */
void espl_mixed_take(espl_policy *p, double amount);
/* Appends the patterns that were taken to the choice of steps, and gives p->left, p->places and p->allowed back. */
void espl_mixed_join(espl_policy *p);

/* choice.c: chooses the picks of this iteration. */
void espl_policy_choose(espl_policy *p);

/* text.c: appends the reply. */
espl_status espl_policy_put_reply(espl_str *s, const espl_policy *p);

#endif
