/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The named choices of a pruning method: score, update and pattern. docs/methods.md has their definitions. All
 * functions are Local.
 */
#ifndef ESPALIER_PRUNE_CHOICES_H
#define ESPALIER_PRUNE_CHOICES_H

#include "espalier/loop/pattern.h"

/* What orders the weights of a linear: the lowest scores are pruned. Scores without gradients come first.
 * X(name, name in a configuration, needs activations, needs a gradient per weight, needs one per output feature) */
#define ESPL_SCORE_LIST(X)                                                                                             \
    X(MAGNITUDE, "magnitude", false, false, false) /* |W| */                                                           \
    X(WANDA, "wanda", true, false, false)          /* |W| * ||X_j||_2 (Sun et al. 2306.11695) */                       \
    X(RIA, "ria", true, false, false)              /* relative importance and activations (Zhang et al., ICLR 2024) */ \
    X(GBLM, "gblm", true, true, false) /* |W| * (||X_j|| + 100 sqrt(sum g^2)), g of the model's loss (2311.04902) */   \
    X(RGS, "rgs", true, true, false)   /* |W| * (||X_j|| + 100 rms(g)), g of ||block output|| (Wanda++ 2503.04992) */  \
    X(CURVATURE, "curvature", true, false, true) /* |W| * ||X_j|| * rms(g_i)^p, g of the model's loss at output i:     \
                                                  * diagonal Gauss-Newton (Optimal Brain Damage, K-FAC) */
typedef enum espl_score {
#define X(name, text, activations, gradients, outputs) ESPL_SCORE_##name,
    ESPL_SCORE_LIST(X)
#undef X
        ESPL_SCORE_COUNT
} espl_score;
/* "wanda". Static storage. */
const char *espl_score_name(espl_score s);
/* False if no score has this name. */
bool espl_score_parse(const char *name, espl_score *out);
bool espl_score_needs_activations(espl_score s);
bool espl_score_needs_gradients(espl_score s); /* of each weight */
bool espl_score_needs_outputs(espl_score s);   /* gradients of the linear's output */

/* How the surviving weights change. X(name, name in a configuration) */
#define ESPL_UPDATE_LIST(X)                                                                                            \
    X(NONE, "none")                                                                                                    \
    X(SPARSEGPT, "sparsegpt")     /* optimal brain surgeon, column by column; in one shot it selects its own mask      \
                                   * (2301.00774) */                                                                   \
    X(OBS, "obs")                 /* the same for a given mask, from weights shifted towards the dense outputs */      \
    X(RECONSTRUCT, "reconstruct") /* least squares to the dense outputs for a given mask */
typedef enum espl_update {
#define X(name, text) ESPL_UPDATE_##name,
    ESPL_UPDATE_LIST(X)
#undef X
        ESPL_UPDATE_COUNT
} espl_update;
/* "none". Static storage. */
const char *espl_update_name(espl_update u);
/* False if no update has this name. */
bool espl_update_parse(const char *name, espl_update *out);
/* Is its strength chosen on windows that it does not learn from? */
bool espl_update_holds_out(espl_update u);

/* Reads "row", "layer", "2:4" (N:M of loop/pattern.h) or "unstructured", which is the group that the method's authors
 * use: the layer for magnitude, RIA, curvature and SparseGPT (which compares within a block of columns), else the row.
 * False for any other text; *out is undefined then. */
bool espl_prune_pattern_parse(const char *text, espl_score score, espl_update update, espl_pattern *out);

#endif
