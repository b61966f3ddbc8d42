/* The k smallest of a row's keys: bisection on the key's value by counting, which vectorises, over a row that stays in
 * L1 or L2. A quickselect moves data and mispredicts its branches. */
#include "internal.h"

#include <string.h>

/* Keys <= limit. */
static int64_t count_up_to(const int32_t *keys, int64_t n, int32_t limit) {
    int64_t count = 0;
    for (int64_t c0 = 0; c0 < n; c0 += 1 << 15) { /* int32 counts vectorise better */
        int32_t part = 0;
        for (int64_t c = c0; c < espl_min_i64(c0 + (1 << 15), n); c++) part += keys[c] <= limit;
        count += part;
    }
    return count;
}

/* All keys are in (lo, hi]; lo may be -1. */
static void range_of(const int32_t *keys, int64_t n, int32_t *lo, int32_t *hi) {
    int32_t least = keys[0], most = keys[0];
    for (int64_t c = 1; c < n; c++) {
        least = keys[c] < least ? keys[c] : least;
        most = keys[c] > most ? keys[c] : most;
    }
    *lo = least - 1;
    *hi = most;
}

/* Either exactly k keys are <= *limit (true), or *limit is the k-th smallest key and others equal it (false). 1 <= k.
 * Invariant: fewer than k keys are <= lo, and at least k are <= hi. */
static bool split(const int32_t *keys, int64_t n, int64_t k, int32_t *limit) {
    int32_t lo, hi;
    range_of(keys, n, &lo, &hi);
    while (hi > lo + 1) {
        int32_t middle = (int32_t)(((int64_t)lo + hi) / 2);
        int64_t count = count_up_to(keys, n, middle);
        if (count == k) return *limit = middle, true;
        if (count > k)
            hi = middle;
        else
            lo = middle;
    }
    *limit = hi;
    return false;
}

/* Bit i of the result: keys[i] < limit; n <= 64. */
static uint64_t word_below(const int32_t *keys, int64_t n, int32_t limit) {
    uint8_t flags[64] = {0};
    uint64_t word = 0, eight;
    for (int64_t c = 0; c < n; c++) flags[c] = keys[c] < limit;
    for (int b = 0; b < 8; b++) {
        memcpy(&eight, flags + 8 * b, 8);
        word |= (eight * UINT64_C(0x0102040810204080) >> 56) << (8 * b); /* gathers the low bits of eight bytes */
    }
    return word;
}

void espl_select_equal(const int32_t *keys, int64_t n, int32_t key, int64_t count, uint64_t *row) {
    for (int64_t c = 0; c < n && count > 0; c++) {
        if (keys[c] != key) continue;
        row[c / 64] &= ~(UINT64_C(1) << (c % 64));
        count--;
    }
}

int64_t espl_select_below(const int32_t *keys, int64_t n, int32_t limit, uint64_t *row) {
    int64_t count = 0;
    for (int64_t c0 = 0; c0 < n; c0 += 64) {
        uint64_t word = word_below(keys + c0, espl_min_i64(64, n - c0), limit);
        count += __builtin_popcountll(word);
        row[c0 / 64] &= ~word;
    }
    return count;
}

void espl_select_smallest(const int32_t *keys, int64_t n, int64_t k, uint64_t *row) {
    int32_t limit;
    if (k <= 0) return;
    if (split(keys, n, k, &limit)) limit++;
    espl_select_equal(keys, n, limit, k - espl_select_below(keys, n, limit, row), row);
}

/* The lowest column of the least key among those of a group whose bit is still in `left`. */
static int64_t least(const int32_t *keys, int64_t n, uint64_t left) {
    int64_t best = __builtin_ctzll(left);
    for (int64_t c = best + 1; c < n; c++)
        if (left >> c & 1 && keys[c] < keys[best]) best = c;
    return best;
}

void espl_select_n_m(const int32_t *keys, int64_t in, const espl_pattern *p, uint64_t *row) {
    for (int64_t c0 = 0; c0 < in; c0 += p->m) {
        int64_t width = espl_min_i64(p->m, in - c0), go = espl_mask_n_m_pruned(p->n, p->m, width);
        uint64_t left = width == 64 ? ~UINT64_C(0) : (UINT64_C(1) << width) - 1;
        for (int64_t c = 0; c < width; c++) {
            if (keys[c0 + c] != KEY_PRUNED) continue;
            left &= ~(UINT64_C(1) << c);
            go--;
        }
        for (; go > 0 && left; go--) {
            int64_t c = least(keys + c0, width, left);
            left &= ~(UINT64_C(1) << c);
            row[(c0 + c) / 64] &= ~(UINT64_C(1) << ((c0 + c) % 64));
        }
    }
}
