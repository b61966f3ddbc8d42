/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Selection of the lowest keys.
 *
 * Within a row: bisection on the key's value by counting, which vectorises, over keys that stay in L1 or L2. A
 * quickselect would move data and mispredict its branches.
 *
 * Among all rows: radix selection in two passes over keys that are computed twice rather than stored. The first pass
 * counts the upper 16 of a key's 31 bits, the second the lower 15 bits of the keys in the wanted bin. Counts are
 * integers: no order of summation has to be kept for equal results on any number of threads.
 */
#include "espalier/tensor/select.h"

#include "espalier/base/integer.h"
#include "scratch.h"

void espl_select_mark_pruned(const uint64_t *row, int64_t in, int32_t *keys) {
    enum { HALF = 32 }; /* columns of half a word: a loop over 32-bit lanes vectorises */
    for (int64_t c0 = 0; c0 < in; c0 += HALF) {
        uint32_t bits = (uint32_t)espl_mask_row_bits(row, c0, HALF);
        if (bits == UINT32_MAX) continue;
        for (int64_t c = 0; c < espl_min_i64(HALF, in - c0); c++)
            keys[c0 + c] = bits >> c & 1 ? keys[c0 + c] : ESPL_KEY_PRUNED;
    }
}

/* ------------------------------------------------------------------ a row */

static int64_t select_count_up_to(const int32_t *keys, int64_t n, int32_t limit) {
    enum { PIECE = 1 << 15 }; /* int32 counts vectorise better than int64 ones */
    int64_t count = 0;
    for (int64_t c0 = 0; c0 < n; c0 += PIECE) {
        int32_t part = 0;
#pragma GCC unroll 4 /* as one vector at a time, the speed depends on where the linker puts the loop */
        for (int64_t c = c0; c < espl_min_i64(c0 + PIECE, n); c++) part += keys[c] <= limit;
        count += part;
    }
    return count;
}

void espl_select_smallest(const int32_t *keys, int64_t n, int64_t k, uint64_t *row) {
    if (k <= 0) return;
    int32_t lo = keys[0], hi = keys[0];
    for (int64_t c = 1; c < n; c++) {
        lo = keys[c] < lo ? keys[c] : lo;
        hi = keys[c] > hi ? keys[c] : hi;
    }
    /* Invariant: fewer than k keys are <= lo, and at least k are <= hi. lo may become -1: keys are >= 0. */
    lo--;
    while (hi > lo + 1) {
        int32_t middle = (int32_t)(((int64_t)lo + hi) / 2);
        int64_t count = select_count_up_to(keys, n, middle);
        if (count == k) {
            espl_select_below(keys, n, middle + 1, row);
            return;
        }
        if (count > k)
            hi = middle;
        else
            lo = middle;
    }
    /* hi is the k-th lowest key, and more keys equal it than may go. */
    espl_select_below(keys, n, hi, row);
    espl_select_equal(keys, n, hi, k - select_count_up_to(keys, n, lo), row);
}

void espl_select_equal(const int32_t *keys, int64_t n, int32_t key, int64_t count, uint64_t *row) {
    for (int64_t c = 0; c < n && count > 0; c++) {
        if (keys[c] != key) continue;
        espl_mask_row_clear(row, c);
        count--;
    }
}

void espl_select_below(const int32_t *keys, int64_t n, int32_t limit, uint64_t *row) {
    for (int64_t c0 = 0; c0 < n; c0 += ESPL_MASK_BITS) {
        uint8_t below[ESPL_MASK_BITS] = {0};
        uint64_t word = 0, eight;
        for (int64_t c = 0; c < espl_min_i64(ESPL_MASK_BITS, n - c0); c++) below[c] = keys[c0 + c] < limit;
        for (int b = 0; b < 8; b++) {
            memcpy(&eight, below + 8 * b, 8);
            word |= (eight * UINT64_C(0x0102040810204080) >> 56) << (8 * b); /* gathers the low bits of eight bytes */
        }
        espl_mask_row_clear_bits(row, c0, word);
    }
}

void espl_select_n_m(const int32_t *keys, int64_t in, int64_t n, int64_t m, uint64_t *row) {
    for (int64_t c0 = 0; c0 < in; c0 += m) {
        int64_t width = espl_min_i64(m, in - c0), go = espl_mask_n_m_pruned(n, m, width);
        uint64_t left = espl_mask_low_bits(width); /* of the group: not pruned yet */
        for (int64_t c = 0; c < width; c++) {
            if (keys[c0 + c] != ESPL_KEY_PRUNED) continue;
            left &= ~(UINT64_C(1) << c);
            go--;
        }
        for (; go > 0 && left; go--) {
            unsigned lowest = (unsigned)__builtin_ctzll(left); /* left is not 0 */
            for (unsigned c = lowest + 1; c < (unsigned)width; c++)
                if (left >> c & 1 && keys[c0 + c] < keys[c0 + lowest]) lowest = c;
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): lowest is a bit of left, below 64 */
            left &= ~(UINT64_C(1) << lowest);
            espl_mask_row_clear(row, c0 + lowest);
        }
    }
}

/* --------------------------------------------------------------- all rows */

enum { LOWER_BITS = ESPL_SELECT_LOWER_BITS, BINS = ESPL_SELECT_BINS };
/* A thread's counts and, on the main thread, the sums behind them. */
_Static_assert(BINS *(sizeof(uint32_t) + sizeof(int64_t)) <= TILE_OUT * TILE_IN * sizeof(float),
               "counts and sums fit a panel");

void espl_select_count(const espl_select_matrix *m, int32_t upper, int64_t *sums, espl_workspace *ws) {
    memset(sums, 0, BINS * sizeof *sums);
#pragma omp parallel
    {
        scratch mine = espl_workspace_mine(ws);
        uint32_t *counts = (uint32_t *)(void *)mine.panel;
        memset(counts, 0, BINS * sizeof *counts);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < m->rows; r++) {
            const int32_t *keys = m->row(m->context, r, (int32_t *)(void *)mine.tile);
            if (upper == ESPL_SELECT_ANY)
                for (int64_t c = 0; c < m->columns; c++) counts[keys[c] >> LOWER_BITS]++;
            else
                for (int64_t c = 0; c < m->columns; c++)
                    if (keys[c] >> LOWER_BITS == upper) counts[keys[c] & ((1 << LOWER_BITS) - 1)]++;
        }
#pragma omp critical(espl_select)
        for (int64_t b = 0; b < BINS; b++) sums[b] += counts[b];
    }
}

/* The bin of the key of rank *k; *k becomes its rank inside the bin. */
static int32_t select_find_bin(const int64_t *counts, int64_t *k) {
    int32_t bin = 0;
    while (bin < BINS - 1 && *k >= counts[bin]) *k -= counts[bin++];
    return bin;
}

int32_t espl_select_rank(const espl_select_matrix *m, int64_t k, int64_t *below, espl_workspace *ws) {
    int64_t *sums = (int64_t *)(void *)(espl_workspace_mine(ws).panel + BINS), rank = k;
    espl_select_count(m, ESPL_SELECT_ANY, sums, ws);
    int32_t upper = select_find_bin(sums, &rank);
    espl_select_count(m, upper, sums, ws);
    int32_t key = upper << LOWER_BITS | select_find_bin(sums, &rank);
    *below = k - rank;
    return key;
}
