/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pruning one linear by a score: within rows, within the linear, or within groups of N:M.
 */
#include "internal.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include <inttypes.h>

/* -------------------------------------------------------------------- row */

/* Weights that bring all rows up to `level` pruned weights, given what each has. */
static int64_t rows_missing(const int64_t *pruned, int64_t rows, int64_t level) {
    int64_t sum = 0;
    for (int64_t r = 0; r < rows; r++) sum += pruned[r] < level ? level - pruned[r] : 0;
    return sum;
}

/* Group row: exactly `count` more weights, with all rows kept level. Rows are filled like connected vessels: up to the
 * highest level that `count` reaches, and the remainder goes one by one to the first rows that are not above it. A row
 * above the level keeps what it has. */
static espl_status prune_rows(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws) {
    int64_t rows = s->l->out, in = s->l->in, survivors = 0, *pruned;
    int64_t level = 0, above = in + 1; /* bisection: `level` is reached, `above` is not */
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&pruned, rows, sizeof *pruned, "row counts"));
    for (int64_t r = 0; r < rows; r++) {
        int64_t n = espl_mask_row_count(mask + r * s->words, in);
        survivors += n;
        pruned[r] = in - n;
    }
    if (count < 0 || count > survivors) {
        st = ESPL_FAIL(ESPL_USAGE, "cannot prune %" PRId64 " of %" PRId64 " surviving weights", count, survivors);
        goto done;
    }
    while (level + 1 < above) {
        int64_t middle = level + (above - level) / 2;
        if (rows_missing(pruned, rows, middle) <= count)
            level = middle;
        else
            above = middle;
    }
    int64_t *more = pruned, remainder = count - rows_missing(pruned, rows, level);
    for (int64_t r = 0; r < rows; r++) {
        bool extra = pruned[r] <= level && remainder > 0;
        remainder -= extra;
        more[r] = pruned[r] <= level ? level - pruned[r] + extra : 0;
    }
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        if (more[r] == 0) continue;
        espl_scorer_keys(s, r, keys);
        espl_select_smallest(keys, in, more[r], mask + r * s->words);
    }
done:
    espl_mem_free(&pruned);
    return st;
}

/* ------------------------------------------------------- layer, and all */

/* espl_select_matrix.row. */
static const int32_t *scorer_row(const void *context, int64_t r, int32_t *keys) {
    espl_scorer_keys(context, r, keys);
    return keys;
}

/* Layer: two passes over the rows, whose keys are computed each time rather than stored. */
static espl_status prune_layer(const scorer *s, int64_t count, uint64_t *mask, espl_workspace *ws) {
    int64_t out = s->l->out, in = s->l->in, survivors = espl_mask_count(mask, out, in), *equal, below;
    if (count < 0 || count > survivors)
        return ESPL_FAIL(ESPL_USAGE, "cannot prune %" PRId64 " of %" PRId64 " surviving weights", count, survivors);
    if (count == 0) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(&equal, out, sizeof *equal, "ties"));
    /* All keys below the count-th lowest one go, and as many of its equals as are missing. Which equals go must not
     * depend on the threads: each row counts its own, then the rows are given their shares in order. */
    espl_select_matrix keys_of_all = {.rows = out, .columns = in, .row = scorer_row, .context = s};
    int32_t key = espl_select_rank(&keys_of_all, count - 1, &below, ws);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        espl_scorer_keys(s, r, keys);
        for (int64_t c = 0; c < in; c++) equal[r] += keys[c] == key;
        espl_select_below(keys, in, key, mask + r * s->words);
    }
    for (int64_t r = 0, ties = count - below; r < out; r++) {
        equal[r] = espl_min_i64(equal[r], ties);
        ties -= equal[r];
    }
    /* What the first pass cleared has the key of a pruned weight now and is not equal. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++) {
        int32_t *keys = espl_workspace_scratch(ws);
        if (equal[r] == 0) continue;
        espl_scorer_keys(s, r, keys);
        espl_select_equal(keys, in, key, equal[r], mask + r * s->words);
    }
    espl_mem_free(&equal);
    return ESPL_OK;
}

espl_status espl_prune_linear(const espl_linear *l, const espl_scoring *by, const espl_pattern *p, int64_t count,
                              uint64_t *mask, espl_workspace *ws) {
    scorer s;
    espl_status st = ESPL_OK;
    ESPL_TRY(espl_scorer_create(l, by, mask, &s));
    if (p->group == ESPL_GROUP_ROW) {
        st = prune_rows(&s, count, mask, ws);
    } else if (p->group == ESPL_GROUP_LAYER) {
        st = prune_layer(&s, count, mask, ws);
    } else {
#pragma omp parallel for schedule(static)
        for (int64_t r = 0; r < l->out; r++) {
            int32_t *keys = espl_workspace_scratch(ws);
            espl_scorer_keys(&s, r, keys);
            espl_select_n_m(keys, l->in, p->n, p->m, mask + r * s.words);
        }
    }
    espl_scorer_destroy(&s);
    return st;
}

espl_status espl_prune_count_keys(const espl_linear *l, const espl_scoring *by, const uint64_t *mask, int32_t upper,
                                  int64_t *counts, espl_workspace *ws) {
    scorer s;
    ESPL_TRY(espl_scorer_create(l, by, mask, &s));
    espl_select_matrix keys = {.rows = l->out, .columns = l->in, .row = scorer_row, .context = &s};
    espl_select_count(&keys, upper, counts, ws);
    espl_scorer_destroy(&s);
    return ESPL_OK;
}

int64_t espl_prune_linear_bytes(espl_score score, const espl_pattern *p, int64_t out, int64_t in) {
    int64_t bytes = espl_scorer_bytes(score, out, in), row = out * (int64_t)sizeof(int64_t);
    return espl_pattern_is_n_m(*p) ? bytes : bytes + row;
}

int64_t espl_prune_pattern_count(const espl_pattern *p, int64_t out, int64_t in) {
    return out * (in / p->m * espl_mask_n_m_pruned(p->n, p->m, p->m) + espl_mask_n_m_pruned(p->n, p->m, in % p->m));
}
