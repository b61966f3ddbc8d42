/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the prune room: the keys that weights are selected by. score.c computes them for linear.c; sparsegpt.c has
 * keys of its own; choices.c, factor.c and lsa.c need none.
 */
#ifndef ESPL_PRUNE_INTERNAL_H
#define ESPL_PRUNE_INTERNAL_H

#include "espalier/prune/linear.h"
#include "espalier/tensor/select.h"

/* n weights of row r from column c0 on, as f32. */
static inline void espl_prune_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *w) {
    espl_tensor_widen((const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype), l->dtype, n, w);
}

typedef struct scorer {
    const espl_linear *l;
    const espl_scoring *by;
    const uint64_t *mask; /* survivors [out, words] */
    int64_t words;
    float *column_sums; /* [in] RIA: sums of |W| over the survivors of each column; owned */
    float *row_sums;    /* [out] RIA: and of each row; owned */
    float *scale;       /* [in] RIA: ||X_j||^0.5; owned */
} scorer;

/* Local. ESPL_USAGE: a statistic is missing; ESPL_UNSUPPORTED: a row's keys do not fit the workspace's scratch. */
espl_status espl_scorer_create(const espl_linear *l, const espl_scoring *by, const uint64_t *mask, scorer *out);
void espl_scorer_destroy(scorer *s);
/* Bytes that a scorer of this score allocates for a linear [out, in]. */
int64_t espl_scorer_bytes(espl_score score, int64_t out, int64_t in);
/* keys [in] of row r (espalier/tensor/select.h). */
void espl_scorer_keys(const scorer *s, int64_t r, int32_t *keys);

#endif
