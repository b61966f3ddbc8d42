/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The description of a one-shot method: score, pattern, update, allocation, and their parameters. docs/methods.md has
 * the definitions and their sources. All functions are Local.
 */
#ifndef ESPALIER_METHODS_OPTIONS_H
#define ESPALIER_METHODS_OPTIONS_H

#include "espalier/model/calibration.h"
#include "espalier/model/model.h"
#include "espalier/prune/choices.h"

/* How the pruned weights are shared out among the linears. X(name, name in a configuration) */
#define ESPL_ALLOCATION_LIST(X)                                                                                        \
    X(UNIFORM, "uniform")       /* every linear gets the target sparsity */                                            \
    X(OWL, "owl")               /* per block, by outliers of the Wanda score (2310.05175) */                           \
    X(LSA, "lsa")               /* per block, by the error of a greedy pruning (ICLR 2026) */                          \
    X(LSA_LINEAR, "lsa-linear") /* the same per linear */                                                              \
    X(SEARCH, "search")         /* per linear, evolution by level switches (EvoPress, 2410.14649) */                   \
    X(GLOBAL, "global")         /* all weights of the model compared by one score: equal marginal damage */            \
    X(GIVEN, "file")            /* sparsities from the caller */                                                       \
    X(AGENT, "agent")           /* step by step, by an agent: not a one-shot method */
typedef enum espl_allocation {
#define X(name, text) ESPL_ALLOCATION_##name,
    ESPL_ALLOCATION_LIST(X)
#undef X
        ESPL_ALLOCATION_COUNT
} espl_allocation;
/* "owl". Static storage. */
const char *espl_allocation_name(espl_allocation a);
/* False if no allocation has this name. */
bool espl_allocation_parse(const char *name, espl_allocation *out);

/* Numeric options of the methods, with the same names in section "prune" of the configuration. This list is the only
 * place of their defaults and ranges: it generates the fields of espl_method_options, espl_method_defaults() and rows
 * of the configuration's option table. X(type, key, default, lowest, highest, meaning), type INTEGER or REAL. */
#define ESPL_METHOD_GOAL_LIST(X)                                                                                       \
    X(REAL, target, 0.45, 0, 1, "sparsity of all prunable linears to reach")                                           \
    X(REAL, cap, 0.8, 0, 1, "maximum sparsity of one linear")
#define ESPL_METHOD_TUNING_LIST(X)                                                                                     \
    X(REAL, damping, 0.01, 0, 1e6,                                                                                     \
      "updates: share of the Hessian's mean diagonal that is added to it; obs and "                                    \
      "reconstruct choose from 0.01 to 100 times it")                                                                  \
    X(REAL, owl_outlier, 5, 0, 1e9, "OWL: a score so many times the mean is an outlier (M)")                           \
    X(REAL, owl_lambda, 0.08, 0, 1, "OWL: how far a block's sparsity may lie from the target")                         \
    X(REAL, lsa_beta, -1, -1, 1, "LSA: the same; below 0: the published value for the target")                         \
    X(INTEGER, search_evaluations, 400, 1, 100000000, "search: allocations that are tried")
#define ESPL_METHOD_OPTION_LIST(X)                                                                                     \
    ESPL_METHOD_GOAL_LIST(X)                                                                                           \
    ESPL_METHOD_TUNING_LIST(X)

enum { ESPL_SEARCH_STAGES = 3 }; /* maximum */

/* The evolution of ESPL_ALLOCATION_SEARCH. */
typedef struct espl_search_options {
    int64_t offspring;                     /* candidates per generation */
    int64_t stages;                        /* 1 .. ESPL_SEARCH_STAGES selections, each on more data */
    int64_t survivors[ESPL_SEARCH_STAGES]; /* of each stage; of the last one: 1 */
    double step;                           /* weights of a level, as a fraction of the smallest linear */
    uint64_t seed;
} espl_search_options;

typedef struct espl_method_options {
    espl_score score; /* ignored with SparseGPT, except by the search and, to weight rows, curvature */
    espl_update update;
    espl_allocation allocation;
    espl_pattern pattern;     /* N:M fixes the sparsity: the allocation must be uniform and the target is ignored */
    int64_t samples, window;  /* calibration data: `samples` windows of `window` tokens */
    int64_t gradient_samples; /* curvature: windows whose gradients are taken */
    double curvature_power;   /* curvature: exponent p of E[g^2], 0 .. 1 */
    bool shift;               /* obs, reconstruct: towards the outputs of the dense model on its own inputs */
    int64_t block;            /* SparseGPT, obs: columns per block, a multiple of M for N:M */
#define ESPL_METHOD_TYPE_REAL double
#define ESPL_METHOD_TYPE_INTEGER int64_t
#define X(type, key, value, lowest, highest, meaning) ESPL_METHOD_TYPE_##type key; /* meaning */
    ESPL_METHOD_OPTION_LIST(X)
#undef X
    const espl_topic_samples *topics; /* curvature: [ESPL_TOPICS] probe questions, or NULL: text alone; borrowed */
    int64_t topic_window;             /* tokens of their windows */
    double knowledge_share;           /* their weight (espl_calibration_importance) */
    const double *caps;  /* [linears of the model] maximum sparsities, 0: not pruned, and not counted by the target;
                          * NULL: `cap` for all; borrowed */
    const double *given; /* ESPL_ALLOCATION_GIVEN: sparsities [linears of the model]; borrowed */
    espl_search_options search;
    /* Collective. ESPL_ALLOCATION_SEARCH: fitness, lower is better, of the model with its current masks, on
     * espl_method_search_windows(o, stage) calibration windows. The same number on every rank. */
    espl_status (*fitness)(void *context, int64_t stage, double *value);
    espl_model_progress progress; /* called with the number of finished blocks; NULL: not called */
    void *context;                /* argument of fitness and progress */
} espl_method_options;

/* The defaults: Wanda, row, uniform, and those of ESPL_METHOD_OPTION_LIST. samples, gradient_samples and window are 0:
 * the caller sets them. */
espl_method_options espl_method_defaults(void);

/* The maximum sparsity of a linear. */
static inline double espl_method_cap(const espl_method_options *o, int64_t linear) {
    return o->caps ? o->caps[linear] : o->cap;
}

/* Checks options against each other, as far as they are known before a run: what espl_method_run would refuse.
 * ESPL_CONFIG. */
espl_status espl_method_check(const espl_method_options *o);

/* Calibration windows that the fitness of a search stage is computed on: all of them in the last stage, a quarter in
 * the stage before, and so on. */
int64_t espl_method_search_windows(const espl_method_options *o, int64_t stage);

#endif
