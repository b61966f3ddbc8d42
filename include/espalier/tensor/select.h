/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exact selection of the lowest scores, within a row of a linear or among all of its weights. Scores are compared as
 * integer keys. All functions are Local.
 */
#ifndef ESPALIER_TENSOR_SELECT_H
#define ESPALIER_TENSOR_SELECT_H

#include <string.h>

#include "espalier/tensor/mask.h"
#include "espalier/tensor/workspace.h"

/* The key of a score is its bits as f32 without the sign: floats >= 0 order as their bits do. NaN comes after all
 * numbers. Weights that do not compete, because they are already pruned, get the highest key of all. */
enum { ESPL_KEY_NAN = INT32_MAX - 1, ESPL_KEY_PRUNED = INT32_MAX };

/* keys [n] of scores [n] >= 0. */
static inline void espl_select_keys(const float *scores, int64_t n, int32_t *keys) {
    memcpy(keys, scores, (size_t)n * sizeof *keys);
    for (int64_t c = 0; c < n; c++) {
        int32_t key = keys[c] & INT32_MAX;
        keys[c] = key < ESPL_KEY_NAN ? key : ESPL_KEY_NAN;
    }
}
/* The score of a key; NaN for ESPL_KEY_NAN. */
static inline float espl_select_score(int32_t key) {
    float score;
    memcpy(&score, &key, sizeof score);
    return score;
}
/* keys [in] of a row: those whose bit in the mask's row is clear become ESPL_KEY_PRUNED. */
void espl_select_mark_pruned(const uint64_t *row, int64_t in, int32_t *keys);

/* ------------------------------------------------------------------ a row */

/* Clears the bits of the k lowest of n keys in `row` [espl_mask_words(n)], the lower columns among equals. 0 <= k <=
 * number of keys below ESPL_KEY_PRUNED. */
void espl_select_smallest(const int32_t *keys, int64_t n, int64_t k, uint64_t *row);
/* Clears the bits of the first `count` of n keys that equal `key`. */
void espl_select_equal(const int32_t *keys, int64_t n, int32_t key, int64_t count, uint64_t *row);
/* Clears the bits of the keys below limit. */
void espl_select_below(const int32_t *keys, int64_t n, int32_t limit, uint64_t *row);
/* Clears the bits of one row of `in` keys that an N:M pattern prunes: of every m <= 64 keys all but the n highest, the
 * lower columns among equals; weights that are already pruned count among them. */
void espl_select_n_m(const int32_t *keys, int64_t in, int64_t n, int64_t m, uint64_t *row);

/* --------------------------------------------------------------- all rows */

/* A matrix of keys, computed row by row when they are needed: `row` returns the keys [columns] of row r, in `scratch`
 * [columns] or in memory of its own. It is called by several threads at once, twice for each row. */
typedef struct espl_select_matrix {
    int64_t rows, columns; /* columns <= ESPL_SELECT_COLUMNS_MAX; rows * columns < 2^32 */
    const int32_t *(*row)(const void *context, int64_t r, int32_t *scratch);
    const void *context;
} espl_select_matrix;
enum { ESPL_SELECT_COLUMNS_MAX = ESPL_WORKSPACE_SCRATCH / (int)sizeof(int32_t) };

/* Radix selection takes a key's 31 bits in two digits: upper 16, lower 15. */
enum { ESPL_SELECT_LOWER_BITS = 15, ESPL_SELECT_BINS = 1 << 16, ESPL_SELECT_ANY = -1 };
/* counts [ESPL_SELECT_BINS], written: how many keys fall into each bin: of all keys by their upper digit (upper =
 * ESPL_SELECT_ANY), or of those with this upper digit by their lower one. Uses the workspace, allocates nothing. Counts
 * are integers: the same for any number of threads. */
void espl_select_count(const espl_select_matrix *m, int32_t upper, int64_t *counts, espl_workspace *ws);

/* Returns the key of rank k (from 0) among all keys of the matrix in ascending order; *below: number of lower keys. 0
 * <= k < rows * columns. Uses the workspace, allocates nothing. The result does not depend on the number of threads. */
int32_t espl_select_rank(const espl_select_matrix *m, int64_t k, int64_t *below, espl_workspace *ws);

#endif
