/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection of the lowest scores of a whole model, whose linears are spread over the stages; every replica makes its
 * own.
 *
 * With n_i(key) the number of keys of linear i that are not above `key`, a threshold takes min(n_i(key), max_i) weights
 * of each linear. This total grows with the key, so the threshold that reaches the wanted number is found digit by
 * digit (radix selection, tensor/select.h), and the maxima need no iteration: clipping each linear's cumulative counts
 * before they are added gives the fixed point of "cap what is over, select again from the rest". A rank holds the
 * counts of one of its linears at a time, never its keys.
 */
#include <inttypes.h>
#include <string.h>

#include "espalier/methods/allocate.h"
#include "espalier/tensor/select.h"

enum { BINS = ESPL_SELECT_BINS };

typedef struct global_selection {
    espl_comm *comm;
    const espl_scored_linear *own; /* [n] */
    int64_t n;
    const int64_t *max;   /* [n] of the own linears */
    int64_t *below;       /* [n] keys below the bins that are counted */
    int64_t *keys;        /* [BINS] of one linear */
    double *mine, *total; /* [BINS] clipped cumulative counts of this rank and of all; exact below 2^53 */
    espl_workspace *ws;
} global_selection;

static espl_status global_count(const global_selection *g, int64_t i, int32_t upper) {
    return espl_prune_count_keys(g->own[i].l, &g->own[i].by, g->own[i].mask, upper, g->keys, g->ws);
}

/* Collective. The first bin at which all linears together reach `wanted` weights. */
static espl_status global_find_bin(global_selection *g, int32_t upper, int64_t wanted, int32_t *bin) {
    espl_status st = ESPL_OK;
    memset(g->mine, 0, BINS * sizeof *g->mine);
    memset(g->total, 0, BINS * sizeof *g->total);
    for (int64_t i = 0; i < g->n && st == ESPL_OK; i++) {
        int64_t sum = g->below[i];
        st = global_count(g, i, upper);
        for (int64_t b = 0; b < BINS && st == ESPL_OK; b++) {
            sum += g->keys[b];
            g->mine[b] += (double)espl_min_i64(sum, g->max[i]);
        }
    }
    espl_comm *pipeline = espl_comm_grid(g->comm)->pipeline;
    ESPL_TRY(espl_comm_agree(g->comm, st));
    st = espl_comm_add_f64(pipeline, g->mine, BINS, espl_comm_size(pipeline), 0, g->total);
    ESPL_TRY(espl_comm_agree(g->comm, st));
    espl_comm_broadcast(pipeline, g->total, BINS * (int64_t)sizeof *g->total, 0);
    for (*bin = 0; *bin < BINS - 1 && g->total[*bin] < (double)wanted;) ++*bin;
    return ESPL_OK;
}

/* Local. Adds the keys of each linear in the bins below `bin` to below [n], and those in it to inside [n] (or NULL). */
static espl_status global_add_below(global_selection *g, int32_t upper, int32_t bin, int64_t *inside) {
    for (int64_t i = 0; i < g->n; i++) {
        ESPL_TRY(global_count(g, i, upper));
        for (int32_t b = 0; b < bin; b++) g->below[i] += g->keys[b];
        if (inside) inside[i] = g->keys[bin];
    }
    return ESPL_OK;
}

/* Weights that a linear loses below the threshold, and with those that equal it. */
typedef struct global_share {
    int64_t below, up_to;
} global_share;

espl_status espl_allocate_global(espl_comm *comm, const espl_scored_linear *own, int64_t first, int64_t n,
                                 const int64_t *max, int64_t linears, int64_t wanted, int64_t *counts,
                                 espl_workspace *ws) {
    global_selection g = {.comm = comm, .own = own, .n = n, .max = max + first, .ws = ws};
    int64_t possible = 0, *equal = NULL, left = wanted;
    global_share *shares = NULL, *all = NULL;
    int32_t upper, lower;
    espl_status st;
    for (int64_t i = 0; i < linears; i++) {
        possible += max[i];
        counts[i] = 0;
    }
    if (wanted < 0 || wanted > possible)
        return ESPL_FAIL(ESPL_CONFIG,
                         "%" PRId64 " weights cannot be pruned: the linears may lose %" PRId64 " of them in all",
                         wanted, possible);
    if (wanted == 0) return ESPL_OK;
    st = espl_mem_alloc(&g.below, n, sizeof *g.below, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&equal, n, sizeof *equal, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&shares, n, sizeof *shares, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&all, linears, sizeof *all, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&g.keys, BINS, sizeof *g.keys, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&g.mine, BINS, sizeof *g.mine, "counts of keys");
    if (st == ESPL_OK) st = espl_mem_alloc(&g.total, BINS, sizeof *g.total, "counts of keys");
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    if (!shares || !all) goto done; /* never: the ranks agreed that all memory is there */
    ESPL_CHECK(st, done, global_find_bin(&g, ESPL_SELECT_ANY, wanted, &upper));
    ESPL_CHECK(st, done, espl_comm_agree(comm, global_add_below(&g, ESPL_SELECT_ANY, upper, NULL)));
    ESPL_CHECK(st, done, global_find_bin(&g, upper, wanted, &lower));
    ESPL_CHECK(st, done, espl_comm_agree(comm, global_add_below(&g, upper, lower, equal)));
    for (int64_t i = 0; i < n; i++) {
        shares[i].below = espl_min_i64(g.below[i], g.max[i]);
        shares[i].up_to = espl_min_i64(g.below[i] + equal[i], g.max[i]);
    }
    espl_comm *pipeline = espl_comm_grid(comm)->pipeline;
    st = espl_comm_gather_records(pipeline, shares, n, sizeof *shares, linears, all);
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    espl_comm_broadcast(pipeline, all, linears * (int64_t)sizeof *all, 0);
    /* All keys below the threshold go, and as many of its equals as are missing, the lower linear first. */
    for (int64_t i = 0; i < linears; i++) left -= all[i].below;
    for (int64_t i = 0; i < linears; i++) {
        int64_t ties = espl_min_i64(left, all[i].up_to - all[i].below);
        counts[i] = all[i].below + ties;
        left -= ties;
    }
    if (left != 0)
        st =
            ESPL_FAIL(ESPL_INTERNAL, "the global selection is off by %" PRId64 " of %" PRId64 " weights", left, wanted);
done:
    espl_mem_free(&g.below);
    espl_mem_free(&equal);
    espl_mem_free(&shares);
    espl_mem_free(&all);
    espl_mem_free(&g.keys);
    espl_mem_free(&g.mine);
    espl_mem_free(&g.total);
    return st;
}

int64_t espl_allocate_global_bytes(int64_t n, int64_t linears) {
    return n * (int64_t)(2 * sizeof(int64_t) + sizeof(global_share)) + linears * (int64_t)sizeof(global_share) +
           BINS * (int64_t)(sizeof(int64_t) + 2 * sizeof(double));
}
