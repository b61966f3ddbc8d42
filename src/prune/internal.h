/* Private to the prune room. */
#ifndef ESPL_PRUNE_INTERNAL_H
#define ESPL_PRUNE_INTERNAL_H

#include "espalier/prune.h"
#include "espalier/tensor/statistics.h"

/* A key is a score's bits without the sign: floats >= 0 order as their bits do, NaN last. Pruned weights get the
 * largest key of all, so that the k smallest of a row are among its survivors. */
enum { KEY_NAN = INT32_MAX - 1, KEY_PRUNED = INT32_MAX };

/* What the scores of a linear are made of. */
typedef struct scorer {
    const espl_linear *l;
    const uint64_t *mask; /* survivors [out, words] */
    int64_t words;
    espl_score score;
    const float *norm, *gradient; /* of espl_scoring */
    float *columns;               /* [in] RIA: sums of |W| over the survivors of each column; owned */
    float *rows;                  /* [out] RIA: and of each row; owned */
    float *scale;                 /* [in] RIA: ||X_j||^0.5; owned */
} scorer;

espl_status espl_scorer_create(const espl_linear *l, const espl_scoring *what, const uint64_t *mask, scorer *out);
void espl_scorer_destroy(scorer *s);
/* keys [in] of row r. */
void espl_scorer_keys(const scorer *s, int64_t r, int32_t *keys);

/* Clears the bits of the k smallest of n keys in `row` [espl_mask_words(n)], the lower columns among equals. 0 <= k <=
 * number of keys below KEY_PRUNED. */
void espl_select_smallest(const int32_t *keys, int64_t n, int64_t k, uint64_t *row);

/* Clears the bits of the first `count` of n keys that equal `key`. */
void espl_select_equal(const int32_t *keys, int64_t n, int32_t key, int64_t count, uint64_t *row);
/* Clears the bits of the keys < limit; returns their number. */
int64_t espl_select_below(const int32_t *keys, int64_t n, int32_t limit, uint64_t *row);
/* espl_prune_more of a scorer: rows kept level. */
espl_status espl_prune_rows(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws);
/* The mask of N:M for one row: of every m keys, all but the n largest go; pruned ones are among those that go. */
void espl_select_n_m(const int32_t *keys, int64_t in, const espl_pattern *p, uint64_t *row);

#endif
