/*
 * prune: which weights go. Scores, patterns, allocations, updates - and the masks they end in. A mask bit that is clear
 * is a pruned weight (espl_linear). docs/methods.md has the definitions, their sources and what was compared.
 */
#ifndef ESPALIER_PRUNE_H
#define ESPALIER_PRUNE_H

#include "espalier/loop/loop.h"
#include "espalier/loop/pattern.h"
#include "espalier/tensor/linear.h"
#include "espalier/tensor/workspace.h"

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

/* "row", "layer", "2:4" (two of four stay; 1 <= N < M <= 64), or "unstructured": the group that the method's authors
 * use - the layer for magnitude, RIA and SparseGPT (which compares within 128 columns), else the row. */
bool espl_prune_pattern_parse(const char *text, espl_score score, espl_update update, espl_pattern *out);
/* Weights that a linear [out, in] loses under an N:M pattern. */
int64_t espl_pattern_count(const espl_pattern *p, int64_t out, int64_t in);

/* --------------------------------------------------------------- one linear */

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

/* ---------------------------------------------------------------------- LSA */

/* Local. LSA's error of a dense linear: groups of 128 inputs lose half of their weights greedily, row by row, by the
 * growth of the output's error. hessian [in, in]: f32, symmetric, full, (2 / samples) * sum of x x^T. */
espl_status espl_prune_lsa_error(const espl_linear *l, const float *hessian, double *error, espl_workspace *ws);

#endif
