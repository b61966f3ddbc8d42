/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain data that the rooms of the pruning loop exchange: profile rows, quality, budget, decisions, outcomes. The
 * rooms agent, sensitivity, prune and checkpoint do not know each other; they share these types. All functions are
 * Local.
 */
#ifndef ESPALIER_LOOP_H
#define ESPALIER_LOOP_H

#include <stdbool.h>

#include "espalier/base.h"
#include "espalier/loop/linear.h"
#include "espalier/loop/pattern.h"

/* What probe questions are about. X(name, label) */
#define ESPL_TOPIC_LIST(X)                                                                                             \
    X(FACTS, "freebaseqa")                                                                                             \
    X(STEM, "mmlu_stem")                                                                                               \
    X(HUMANITIES, "mmlu_humanities")                                                                                   \
    X(SOCIAL, "mmlu_social_sciences")                                                                                  \
    X(OTHER, "mmlu_other")
typedef enum espl_topic {
#define X(name, label) ESPL_TOPIC_##name,
    ESPL_TOPIC_LIST(X)
#undef X
        ESPL_TOPICS
} espl_topic;
enum { ESPL_MMLU_TOPICS = ESPL_TOPICS - ESPL_TOPIC_STEM }; /* the last ones: the categories of MMLU, in its order */
/* "mmlu_stem". Static storage. */
const char *espl_topic_name(espl_topic t);
/* Shares of the topics in one measure of knowledge: half for each of the two question sets, in equal parts for the
 * topics that are present; all of it for a set alone. weights [ESPL_TOPICS] add up to 1, or are 0 if none is present.
 */
void espl_topic_weights(const bool present[ESPL_TOPICS], double weights[ESPL_TOPICS]);

/* Sparsities for which the damage is predicted: (k + 1) / 16. */
enum { ESPL_DAMAGE_LEVELS = 16 };

/* The sensitivity profile of one linear (arXiv 2601.09694: P = {z(s), z(g), rho}; the damage is ours). */
typedef struct espl_profile_row {
    int64_t zeros;                     /* weights that are 0 in the source; they count as pruned from the start */
    int64_t weights, pruned;           /* counts; sparsity = pruned / weights */
    int64_t tokens;                    /* of the calibration's forward windows that came to it; 0: not measured */
    double s;                          /* 10th percentile of |W| * ||X||_2 over the kept weights; NAN if none is kept */
    double g;                          /* mean |dL/dW| over calibration samples and weights; NAN where not computed */
    double k[ESPL_TOPICS];             /* mean |dL/dW| as in g, but L the loss of the answers of a topic's questions */
    double z_s, z_g;                   /* (x - mean) / (std + 1e-12) over all linears with a finite x; NAN otherwise */
    double damage[ESPL_DAMAGE_LEVELS]; /* nats: expected rise of the loss if only this linear goes from dense to
                                        * sparsity (k + 1) / ESPL_DAMAGE_LEVELS, from the same weights, activations and
                                        * gradients (espalier/sensitivity.h); NAN where not computed */
    double z_k;                        /* knowledge sensitivity: of the mean of the topics' own z-scores, by
                                        * espl_topic_weights; NAN without topics */
    double z_topic[ESPL_TOPICS];       /* z-scores of k */
    double damage_k[ESPL_DAMAGE_LEVELS]; /* as damage, of the loss per answer token of the topics together */
} espl_profile_row;

/* Quality of a whole model: perplexity on the validation text, and answers to the probe questions. NAN or 0 where it
 * was not measured. */
typedef struct espl_quality {
    double perplexity, nll, nll_stderr; /* nll: nats per token */
    double answers, answers_stderr;     /* loss of the answers to the judge's questions, nats per answer token, topics
                                         * by espl_topic_weights; NAN without such questions */
    int64_t freebaseqa_right, freebaseqa_total, mmlu_right, mmlu_total;
    /* The same of MMLU's categories, ESPL_TOPIC_STEM first. */
    int64_t mmlu_category_right[ESPL_MMLU_TOPICS], mmlu_category_total[ESPL_MMLU_TOPICS];
} espl_quality;

/* Limits that a decision must respect. Sparsities are fractions of the weights of one linear, or of all linears. */
typedef struct espl_budget {
    double target;       /* overall sparsity to reach, 0 .. 1 */
    double cap;          /* maximum sparsity of one linear */
    double max_step;     /* maximum sparsity added to one linear in one iteration */
    int64_t max_linears; /* maximum number of linears in one decision */
    double threshold;    /* an iteration is rolled back if the loss rises by more than log(1 + threshold) over the last
                          * accepted state: perplexity by more than this fraction, if text alone counts */
    int64_t max_iterations;
    double share; /* of knowledge in damage and judgement: (1 - share) * text + share * answers, in nats */
    double limit; /* maximum rise over the dense model, as a fraction like threshold; 0: no limit */
} espl_budget;

/* Rise of the loss from one quality to another in nats: (1 - share) times that of log(perplexity) plus share times that
 * of answers; the first alone where no answers are measured, and (1 - share) times it where a step was rolled back
 * before they were. NAN if the perplexity was not measured; INFINITY if it is not finite after. */
double espl_quality_rise(const espl_quality *before, const espl_quality *after, double share);

typedef struct espl_decision_item {
    int64_t linear;       /* espl_linear_index */
    double step;          /* sparsity to add, > 0; the pattern's sparsity if it is N:M */
    espl_pattern pattern; /* N:M: what the linear, dense until now, becomes in one step; else all zero: prune by step */
} espl_decision_item;

/* A validated answer of the agent. */
typedef struct espl_decision {
    espl_decision_item *items; /* [n], by ascending linear, each at most once; owned */
    int64_t n;
    bool stop;                 /* the agent wants to end the run */
    char *reason, *reflection; /* texts, never NULL after espl_decision_init; owned */
    double power;              /* exponent of the curvature score for this decision; NAN: the run's */
    /* Rise of the two losses that the profile's curves predict, in nats; NAN where they are not known. */
    double expected_text, expected_answers;
} espl_decision;
/* An empty decision with room for `capacity` items. ESPL_NOMEM. Free with espl_decision_free. */
espl_status espl_decision_init(espl_decision *d, int64_t capacity);
void espl_decision_free(espl_decision *d);

/* The result of one iteration. */
typedef struct espl_outcome {
    int64_t iteration; /* 1, 2, ... */
    espl_decision decision;
    bool accepted;                          /* false: rolled back */
    double sparsity_before, sparsity_after; /* overall; after: as tried, even if rolled back */
    espl_quality before, after;
} espl_outcome;

/* The N:M patterns that the accepted ones of n outcomes gave to linears: patterns [linears], all written; all zero for
 * a linear without one. */
void espl_outcome_patterns(const espl_outcome *history, int64_t n, espl_pattern *patterns, int64_t linears);

#endif
