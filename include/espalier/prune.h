/*
 * prune: which weights go. Scores, patterns, allocations, updates - and the masks they end in. A mask bit that is clear
 * is a pruned weight (espl_linear). docs/methods.md has the definitions, their sources and what was compared.
 */
#ifndef ESPALIER_PRUNE_H
#define ESPALIER_PRUNE_H

#include "espalier/model.h"
#include "espalier/loop/loop.h"

/* ---------------------------------------------------------------- choices */

/* X(name, name in a configuration, needs activations, needs gradients) */
#define ESPL_SCORE_LIST(X)                                                                                             \
    X(MAGNITUDE, "magnitude", false, false) /* |W| */                                                                  \
    X(WANDA, "wanda", true, false)          /* |W| * ||X_j||_2 (Sun et al. 2306.11695) */                              \
    X(RIA, "ria", true, false)              /* relative importance and activations (Zhang et al., ICLR 2024) */        \
    X(GBLM, "gblm", true, true) /* |W| * (||X_j|| + 100 sqrt(sum g^2)), g of the model's loss (2311.04902) */          \
    X(RGS, "rgs", true, true)   /* |W| * (||X_j|| + 100 rms(g)), g of ||block output|| (2503.04992) */
typedef enum espl_score {
#define X(name, text, activations, gradients) ESPL_SCORE_##name,
    ESPL_SCORE_LIST(X)
#undef X
        ESPL_SCORE_COUNT
} espl_score;
const char *espl_score_name(espl_score s); /* "wanda" */
bool espl_score_parse(const char *name, espl_score *out);
bool espl_score_needs_activations(espl_score s);
bool espl_score_needs_gradients(espl_score s);

/* What becomes of the weights that stay. X(name, name in a configuration) */
#define ESPL_UPDATE_LIST(X)                                                                                            \
    X(NONE, "none")                                                                                                    \
    X(SPARSEGPT, "sparsegpt") /* optimal brain surgeon, column by column; chooses its own mask (2301.00774) */
typedef enum espl_update {
#define X(name, text) ESPL_UPDATE_##name,
    ESPL_UPDATE_LIST(X)
#undef X
        ESPL_UPDATE_COUNT
} espl_update;
const char *espl_update_name(espl_update u);
bool espl_update_parse(const char *name, espl_update *out);

/* How much each linear loses. X(name, name in a configuration) */
#define ESPL_ALLOCATION_LIST(X)                                                                                        \
    X(UNIFORM, "uniform")                                                                                              \
    X(OWL, "owl")               /* by outliers of the Wanda score, per block (2310.05175) */                           \
    X(LSA, "lsa")               /* by the error of a greedy pruning, per block (ICLR 2026) */                          \
    X(LSA_LINEAR, "lsa-linear") /* the same per linear */                                                              \
    X(SEARCH, "search")         /* evolution by level switches (EvoPress, 2410.14649) */                               \
    X(GIVEN, "given")           /* by the caller */
typedef enum espl_allocation {
#define X(name, text) ESPL_ALLOCATION_##name,
    ESPL_ALLOCATION_LIST(X)
#undef X
        ESPL_ALLOCATION_COUNT
} espl_allocation;
const char *espl_allocation_name(espl_allocation a);
bool espl_allocation_parse(const char *name, espl_allocation *out);

/* Which weights compete with each other. */
typedef enum espl_group {
    ESPL_GROUP_ROW,   /* those of an output row; all rows lose the same */
    ESPL_GROUP_LAYER, /* all of a linear */
    ESPL_GROUP_N_M    /* M consecutive inputs of a row, of which N stay */
} espl_group;

typedef struct espl_pattern {
    espl_group group;
    int64_t n, m; /* of ESPL_GROUP_N_M: n of m stay. A rest of t < m inputs at a row's end loses floor(t (m - n) / m) */
} espl_pattern;

/* "row", "layer", "2:4" (two of four stay; 1 <= N < M <= 64), or "unstructured": the group that the method's authors
 * use - the layer for magnitude, RIA and SparseGPT (which compares within 128 columns), else the row. */
bool espl_pattern_parse(const char *text, espl_score score, espl_update update, espl_pattern *out);
/* Weights that a linear [out, in] loses under an N:M pattern. */
int64_t espl_pattern_count(const espl_pattern *p, int64_t out, int64_t in);

/* Local. Is the mask [out, words] of this N:M pattern: do exactly n of every m inputs of every row stay (of a rest,
 * what the pattern says)? */
bool espl_mask_is_n_m(const uint64_t *mask, int64_t out, int64_t in, const espl_pattern *p);

/* --------------------------------------------------------------- one linear */

/* Local. mask [out, words] of a dense linear: all bits set but those beyond `in`. */
void espl_mask_fill(uint64_t *mask, int64_t out, int64_t in);

/* Local. Prunes `count` more of a linear's surviving weights: clears bits of `mask` [out, words], which must be what
 * l->mask is or will be. Scores in f32; RIA's sums are over the weights that survive. Per output row the surviving
 * weights of least score go first, the lower column among equals; after the call all rows have the same number of
 * pruned weights, the first rows one more where it does not divide (rows that an earlier pattern left fuller than that
 * keep theirs, and the others share the rest). Exactly `count` bits are cleared. norm [in]: ||X_j||_2, or NULL for
 * scores without activations. The same bits for any number of threads. ESPL_USAGE: more than survive, or a score that
 * needs gradients; ESPL_UNSUPPORTED: more than 262144 input features. */
espl_status espl_prune_more(const espl_linear *l, espl_score score, const float *norm, int64_t count, uint64_t *mask,
                            espl_workspace *ws);

/* What a score is made of. Borrowed. */
typedef struct espl_scoring {
    espl_score score;
    const float *norm;     /* [in] or NULL */
    const float *gradient; /* [out, in], >= 0, added to the norm: score |W| * (norm + gradient); or NULL */
} espl_scoring;

/* Local. The same under any pattern. Row: espl_prune_more. Layer: the least scores of the whole linear, the lower row
 * and then the lower column among equals. N:M: every group of m inputs keeps its n greatest, or fewer that survive (the
 * lower columns go among equals); `count` is not read. */
espl_status espl_prune_linear(const espl_linear *l, const espl_scoring *s, const espl_pattern *p, int64_t count,
                              uint64_t *mask, espl_workspace *ws);

/* ---------------------------------------------------------------- SparseGPT */

/* Local. From the lower triangle of hessian [n, n] = sum of x x^T over all tokens (overwritten) to factor [n, n], the
 * upper triangular U with U^T U = (scale * H + damping * mean(diag) I)^-1; the rest of factor is not written. A feature
 * that never was anything but 0 is `dead` [n]: its diagonal counts as 1. In f64, in tiles of fixed size: the same bits
 * for any number of threads. ESPL_FAILED: not positive definite. */
espl_status espl_prune_factor(double *hessian, int64_t n, double scale, double damping, float *factor, bool *dead);

/* Local. Prunes exactly `count` weights of a dense linear (N:M: what the pattern says) and makes up for them with those
 * to their right, in blocks of `block` columns: weight [out, in] f32 is written, zeros where pruned; `mask`, all set
 * before, is cleared there. Weights compete by w^2 / U_jj^2 within a block of columns: all rows of the block (layer),
 * each row of it (row), or M columns with the weights as updated so far (N:M). loss: sum of (w / U_jj)^2 / 2 over what
 * was pruned. The same bits for any number of threads. */
typedef struct espl_obs {
    const float *factor; /* [in, in] and dead [in]: of espl_prune_factor */
    const bool *dead;
    espl_pattern pattern;
    int64_t count, block;
} espl_obs;
espl_status espl_prune_sparsegpt(const espl_linear *l, const espl_obs *o, uint64_t *mask, float *weight, double *loss,
                                 espl_workspace *ws);

/* -------------------------------------------------------------- allocations */

/* Local. From wished sparsities [n] of linears with weights [n] to counts [n] with sum(counts) = round(target *
 * sum(weights)) exactly and each at most floor(cap * weights): all sparsities are shifted by one number, clipped to
 * [0, cap], and the remainders go to the largest fractions first (the lower index among equals). ESPL_CONFIG: the cap
 * does not let the target be reached. */
espl_status espl_allocate_exact(const double *sparsity, const int64_t *weights, int64_t n, double target, double cap,
                                int64_t *counts);

/* Local. OWL: s_b = target + mean(d) - d_b, d = (D - min D) / (max D - min D) * 2 lambda; D [blocks]: share of
 * outliers. All equal: uniform. */
void espl_allocate_owl(const double *outliers, int64_t blocks, double target, double lambda, double *sparsity);
/* Local. LSA: d = the importance 1 - E / sum E, min-max scaled to 2 beta; s = target + (mean(d) - d) * mean(weights) /
 * weights. errors [n]; weights [n], or NULL: all the same (blocks). */
void espl_allocate_lsa(const double *errors, const int64_t *weights, int64_t n, double target, double beta,
                       double *sparsity);
/* Local. Its published beta for a target. */
double espl_lsa_beta(double target);
/* Local. LSA's error of a dense linear: groups of 128 inputs lose half of their weights greedily, row by row, by the
 * growth of the output's error. hessian [in, in]: f32, symmetric, full, (2 / samples) * sum of x x^T. */
espl_status espl_prune_lsa_error(const espl_linear *l, const float *hessian, double *error, espl_workspace *ws);

typedef struct espl_search_options {
    int64_t evaluations;  /* calls of the fitness in all, at least */
    int64_t offspring;    /* candidates of a generation */
    int64_t stages;       /* 1 .. ESPL_SEARCH_STAGES steps of selection, each on more data */
    int64_t survivors[3]; /* of each stage; the last is 1 */
    double step;          /* weights of a level, as a share of the smallest linear */
    uint64_t seed;
} espl_search_options;
enum { ESPL_SEARCH_STAGES = 3 };

/* Fitness, lower is better, of the allocation counts [n] on the data of a stage. The same everywhere if Collective. */
typedef espl_status (*espl_search_fitness)(void *context, const int64_t *counts, int64_t stage, double *fitness);

/* Local (Collective if the fitness is). counts [n] is the start and becomes the best found; sum(counts) never changes.
 * An offspring makes min(U{1..3}, U{1..3}) switches: one linear loses a level, another gains it, within 0 .. most [n].
 * The parent competes in the last stage. *best: its fitness there. */
espl_status espl_allocate_search(const espl_search_options *o, const int64_t *weights, const int64_t *most, int64_t n,
                                 espl_search_fitness fitness, void *context, int64_t *counts, double *best);

/* ----------------------------------------------------------------- one shot */

typedef struct espl_prune_options {
    espl_score score; /* not read with SparseGPT */
    espl_update update;
    espl_allocation allocation;
    espl_pattern pattern; /* an N:M pattern fixes the sparsity: uniform allocation, target not read */
    double target, cap;   /* overall sparsity; most of one linear */
    int64_t samples, window;
    double damping;                 /* SparseGPT */
    int64_t block;                  /* SparseGPT: columns */
    double owl_outlier, owl_lambda; /* M and lambda */
    double lsa_beta;                /* below 0: espl_lsa_beta */
    const double *given;            /* [linears of the model] sparsities for ESPL_ALLOCATION_GIVEN; borrowed */
    espl_search_options search;
    /* Collective. For ESPL_ALLOCATION_SEARCH: fitness (perplexity, divergence, ...) of the model with the masks that it
     * has now, on the data of a stage; the same number on every rank. */
    espl_status (*fitness)(void *context, int64_t stage, double *value);
    espl_model_progress progress; /* blocks done of all, or NULL */
    void *context;                /* of both */
} espl_prune_options;

/* The defaults of docs/methods.md: Wanda, row, uniform, target 0.45, 128 samples of 2048 tokens. */
espl_prune_options espl_prune_defaults(void);

/* Collective. Prunes the dense model in one go, block by block as published: statistics of a block come from inputs
 * that went through the already pruned blocks before it. The samples ids [samples, window], the same on every rank, are
 * dealt out to the ranks; sums over them are formed in groups of fixed size and added in order, so that the result is
 * the same for any number of ranks and threads. masks [slice linears], each [out, words], are written. updates [slice
 * linears], each [out, in] of the linear's dtype, are written by an updating method (else they may be NULL). Both are
 * then in effect in m. counts [linears of the model] or NULL: weights that each linear lost. Extra memory:
 * espl_prune_bytes. ESPL_CONFIG: options that do not fit together; ESPL_USAGE: ids; ESPL_FAILED naming the linear: a
 * Hessian that cannot be factored. */
espl_status espl_prune_oneshot(espl_comm *comm, espl_model *m, const espl_prune_options *o, const int32_t *ids,
                               uint64_t *const *masks, void *const *updates, int64_t *counts);

/* Local. Bytes that rank `rank` of `ranks` takes during espl_prune_oneshot, results not included. */
int64_t espl_prune_bytes(const espl_model_config *c, const espl_prune_options *o, int rank, int ranks);

#endif
