/*
 * The plain data of the pruning loop: linears, profile rows, decisions, outcomes, the budget. No behaviour beyond
 * naming and counting. All functions are Local.
 */
#ifndef ESPALIER_LOOP_LOOP_H
#define ESPALIER_LOOP_LOOP_H

#include "espalier/base.h"
#include "espalier/loop/pattern.h"

/* The linear layers of a decoder layer, in the order of Hugging Face's modules. X(name, path inside the layer) */
#define ESPL_LINEAR_LIST(X)                                                                                            \
    X(Q_PROJ, "self_attn.q_proj")                                                                                      \
    X(K_PROJ, "self_attn.k_proj")                                                                                      \
    X(V_PROJ, "self_attn.v_proj")                                                                                      \
    X(O_PROJ, "self_attn.o_proj")                                                                                      \
    X(GATE_PROJ, "mlp.gate_proj")                                                                                      \
    X(UP_PROJ, "mlp.up_proj")                                                                                          \
    X(DOWN_PROJ, "mlp.down_proj")

typedef enum espl_linear_kind {
#define X(name, path) ESPL_##name,
    ESPL_LINEAR_LIST(X)
#undef X
        ESPL_LINEAR_KINDS
} espl_linear_kind;

/* "self_attn.q_proj". Static storage. */
const char *espl_linear_path(espl_linear_kind kind);

/* A linear of the whole model by one number: layer * ESPL_LINEAR_KINDS + kind. */
static inline int64_t espl_linear_index(int64_t layer, espl_linear_kind kind) {
    return layer * ESPL_LINEAR_KINDS + kind;
}
static inline int64_t espl_linear_layer(int64_t index) { return index / ESPL_LINEAR_KINDS; }
static inline espl_linear_kind espl_linear_kind_of(int64_t index) {
    return (espl_linear_kind)(index % ESPL_LINEAR_KINDS);
}
/* "layers.3.mlp.up_proj" into buf (at least 64 bytes); returns buf. What agents read and write. */
const char *espl_linear_name(int64_t index, char *buf);
/* The index of such a name in a model of `layers` layers, -1 if it names none. A leading "model." is accepted. */
int64_t espl_linear_parse(const char *name, int64_t layers);

/* ------------------------------------------------- the pruning loop's data */

enum { ESPL_DAMAGE_LEVELS = 16 };

/* What is known of one linear: one row of the sensitivity profile (arXiv 2601.09694: P = {z(s), z(g), rho}; the damage
 * is ours). */
typedef struct espl_profile_row {
    int64_t weights, pruned; /* counts; sparsity = pruned / weights */
    double s;                /* 10th percentile of |W| * ||X||_2 over surviving weights; NAN if none survives */
    double g;                /* mean |dL/dW| over calibration samples and weights; NAN where not computed */
    double z_s, z_g;         /* (x - mean) / (std + 1e-12) over all linears with a finite x; NAN otherwise */
    double damage[ESPL_DAMAGE_LEVELS]; /* nats that the loss is expected to rise when this linear alone goes from dense
                                        * to sparsity (k + 1) / levels, by the same weights, activations and gradients
                                        * (espl_sensitivity_row); NAN where not computed */
} espl_profile_row;

/* Measures of a whole model. NAN / 0 where a probe is switched off. */
typedef struct espl_probe {
    double perplexity, nll, nll_stderr;
    int64_t freebaseqa_right, freebaseqa_total, mmlu_right, mmlu_total;
} espl_probe;

/* The rules a decision must keep. Sparsities are fractions of a linear's (or of all linears') weights. */
typedef struct espl_budget {
    double target;       /* overall sparsity to reach, 0 .. 1 */
    double cap;          /* most sparsity of one linear */
    double max_step;     /* most sparsity added to one linear in one iteration */
    int64_t max_linears; /* most linears in one decision */
    double threshold;    /* relative perplexity increase over the last accepted state that is rolled back */
    int64_t max_iterations;
} espl_budget;

typedef struct espl_decision_item {
    int64_t linear;       /* espl_linear_index */
    double step;          /* sparsity to add, > 0; the pattern's sparsity if it is N:M */
    espl_pattern pattern; /* N:M: what the linear, dense until now, becomes in one step; else all zero: prune by step */
} espl_decision_item;

/* What the agent answered, validated. */
typedef struct espl_decision {
    espl_decision_item *items; /* [n], by ascending linear, each at most once; owned */
    int64_t n;
    bool stop;                 /* the agent wants to end here */
    char *reason, *reflection; /* texts, never NULL after espl_decision_init; owned */
} espl_decision;
espl_status espl_decision_init(espl_decision *d, int64_t capacity);
void espl_decision_free(espl_decision *d);

/* What came of one iteration. */
typedef struct espl_outcome {
    int64_t iteration; /* 1, 2, ... */
    espl_decision decision;
    bool accepted;                          /* false: rolled back */
    double sparsity_before, sparsity_after; /* overall; after = what was tried */
    espl_probe before, after;
} espl_outcome;

/* The N:M patterns that the accepted ones of n outcomes gave to linears: patterns [linears], all written; all zero for
 * a linear without one. */
void espl_outcome_patterns(const espl_outcome *history, int64_t n, espl_pattern *patterns, int64_t linears);

#endif
