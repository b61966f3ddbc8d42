/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning by row: exactly so many more weights of a linear, with all rows kept level.
 */
#include "internal.h"

#include <inttypes.h>

/* Weights that bring all rows up to `level` pruned weights, given what each has. */
static int64_t rows_missing(const int64_t *pruned, int64_t rows, int64_t level) {
    int64_t sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += pruned[r] < level ? level - pruned[r] : 0;
    return sum;
}

/* more [rows]: on input the pruned weights of each row of `in`, on output how many more each loses, `count` in all.
 * Rows are filled like connected vessels: up to the highest level that `count` reaches, and the remainder goes one by
 * one to the first rows that are not above it. */
static void rows_share(int64_t *more, int64_t rows, int64_t in, int64_t count) {
    int64_t level = 0, above = in + 1; /* `level` is reached, `above` is not */
    while (level + 1 < above) {
        int64_t middle = level + (above - level) / 2;
        if (rows_missing(more, rows, middle) <= count)
            level = middle;
        else
            above = middle;
    }
    int64_t remainder = count - rows_missing(more, rows, level);
    for (int64_t r = 0; r < rows; r++) {
        bool extra = more[r] <= level && remainder > 0;
        remainder -= extra;
        more[r] = more[r] <= level ? level - more[r] + extra : 0;
    }
}

espl_status espl_prune_rows(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws) {
    int64_t rows = s->l->out, in = s->l->in, survivors = 0, *more;
    espl_status st;
    ESPL_TRY(espl_mem_alloc(&more, rows, sizeof *more, "row counts"));
    for (int64_t r = 0; r < rows; r++) {
        int64_t n = espl_mask_row_count(mask + r * s->words, in);
        survivors += n;
        more[r] = in - n;
    }
    if (count < 0 || count > survivors) {
        st = ESPL_FAIL(ESPL_USAGE, "cannot prune %" PRId64 " of %" PRId64 " surviving weights", count, survivors);
        goto done;
    }
    rows_share(more, rows, in, count);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        if (more[r] == 0) continue;
        espl_scorer_keys(s, r, keys);
        espl_select_smallest(keys, in, more[r], mask + r * s->words);
    }
    st = ESPL_OK;
done:
    espl_mem_free(&more);
    return st;
}
