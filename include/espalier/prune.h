/*
 * prune: which weights go. Scores, patterns, allocations, updates - and the masks they end in. A mask bit that is clear
 * is a pruned weight (espl_linear).
 */
#ifndef ESPALIER_PRUNE_H
#define ESPALIER_PRUNE_H

#include "espalier/model.h"
#include "espalier/plan.h"

/* X(name, name in a configuration, needs activations) */
#define ESPL_SCORE_LIST(X)                                                                                             \
    X(MAGNITUDE, "magnitude", false) /* |W| */                                                                         \
    X(WANDA, "wanda", true)          /* |W| * ||X_j||_2 (Sun et al. 2306.11695) */                                     \
    X(RIA, "ria", true)              /* relative importance and activations (Zhang et al., ICLR 2024) */
typedef enum espl_score {
#define X(name, text, activations) ESPL_SCORE_##name,
    ESPL_SCORE_LIST(X)
#undef X
        ESPL_SCORE_COUNT
} espl_score;
const char *espl_score_name(espl_score s); /* "wanda" */
bool espl_score_parse(const char *name, espl_score *out);

/* Local. Prunes `count` more of a linear's surviving weights: clears bits of `mask` [out, words], which must be what
 * l->mask is or will be. Scores in f32; RIA's sums are over the weights that survive. Per output row the surviving
 * weights of least score go first, the lower column among equals; after the call all rows have the same number of
 * pruned weights, the first rows one more where it does not divide (rows that an earlier pattern left fuller than that
 * keep theirs, and the others share the rest). Exactly `count` bits are cleared. norm [in]: ||X_j||_2, or NULL for
 * scores without activations. The same bits for any number of threads. ESPL_USAGE: more than survive; ESPL_UNSUPPORTED:
 * more than 262144 input features. */
espl_status espl_prune_more(const espl_linear *l, espl_score score, const float *norm, int64_t count, uint64_t *mask,
                            espl_workspace *ws);

#endif
