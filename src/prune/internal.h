/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the prune room, lowest layer first: keys and selection within a row (select.c), scores (score.c), rows of
 * a linear (rows.c). pattern.c (espl_prune_linear) and sparsegpt.c stand on these; factor.c and lsa.c on none.
 */
#ifndef ESPL_PRUNE_INTERNAL_H
#define ESPL_PRUNE_INTERNAL_H

#include "espalier/prune/linear.h"

/* n weights of row r from column c0 on, as f32. */
static inline void espl_prune_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *w) {
    espl_tensor_widen((const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype), l->dtype, n, w);
}

/* ------------------------------------------------------------------- keys
 *
 * A key is a score's bits without the sign: floats >= 0 order as their bits do, NaN last. Pruned weights get the
 * highest key of all, so that the k lowest of a row are among its survivors. */
enum { KEY_NAN = INT32_MAX - 1, KEY_PRUNED = INT32_MAX };

/* Clears the bits of the k lowest of n keys in `row` [espl_mask_words(n)], the lower columns among equals. 0 <= k <=
 * number of keys below KEY_PRUNED. */
void espl_select_smallest(const int32_t *keys, int64_t n, int64_t k, uint64_t *row);
/* Clears the bits of the first `count` of n keys that equal `key`. */
void espl_select_equal(const int32_t *keys, int64_t n, int32_t key, int64_t count, uint64_t *row);
/* Clears the bits of the keys < limit; returns their number. */
int64_t espl_select_below(const int32_t *keys, int64_t n, int32_t limit, uint64_t *row);
/* Clears the bits of one row that an N:M pattern prunes: of every m keys all but the n highest; weights that are
 * already pruned count among them. */
void espl_select_n_m(const int32_t *keys, int64_t in, const espl_pattern *p, uint64_t *row);

/* ----------------------------------------------------------------- scores */

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
/* keys [in] of row r. */
void espl_scorer_keys(const scorer *s, int64_t r, int32_t *keys);

/* ------------------------------------------------------------------- rows */

/* espl_prune_linear with group row. Allocates `out` int64_t. */
espl_status espl_prune_rows(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws);

#endif
