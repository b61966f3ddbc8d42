/*
 * The plain data of the pruning loop: linears, profile rows, decisions, outcomes, the budget. No behaviour beyond
 * naming and counting. All functions are Local.
 */
#ifndef ESPALIER_LOOP_LOOP_H
#define ESPALIER_LOOP_LOOP_H

#include "espalier/base.h"

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

/* What a linear may become in one go instead of being pruned step by step: of every m consecutive inputs of a row
 * exactly n stay. All take half of the weights. X(name, text, n, m), the ones that more hardware runs first */
#define ESPL_N_M_LIST(X)                                                                                               \
    X(2_4, "2:4", 2, 4)                                                                                                \
    X(4_8, "4:8", 4, 8)
typedef enum espl_n_m {
    ESPL_N_M_NONE, /* unstructured */
#define X(name, text, n, m) ESPL_N_M_##name,
    ESPL_N_M_LIST(X)
#undef X
        ESPL_N_M_COUNT
} espl_n_m;
#define ESPL_N_M_SPARSITY 0.5

/* "2:4"; "unstructured" for ESPL_N_M_NONE. Static storage. */
const char *espl_n_m_name(espl_n_m p);
/* False for a text that is none of the list's. */
bool espl_n_m_parse(const char *text, espl_n_m *out);
/* The numbers of a pattern, 0 and 0 for ESPL_N_M_NONE; and back: false for a pair that is no pattern's. */
int64_t espl_n_m_stay(espl_n_m p);
int64_t espl_n_m_group(espl_n_m p);
bool espl_n_m_of(int64_t n, int64_t m, espl_n_m *out);

typedef struct espl_decision_item {
    int64_t linear;  /* espl_linear_index */
    double step;     /* sparsity to add, > 0; ESPL_N_M_SPARSITY with a pattern */
    int64_t pattern; /* espl_n_m that the linear, dense until now, becomes at once (8 bytes: no padding) */
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

/* Which linears the accepted ones of n outcomes made N:M: patterns [linears] of espl_n_m, all written. */
void espl_outcome_patterns(const espl_outcome *history, int64_t n, int64_t *patterns, int64_t linears);

#endif
