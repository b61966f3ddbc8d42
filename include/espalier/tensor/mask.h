/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Masks: one bit per weight of a linear [out, in], set where the weight survives. A row is padded to whole 64-bit
 * words: weight (r, c) is bit c % 64 of word r * espl_mask_words(in) + c / 64, and bits beyond `in` are clear. This
 * header is the only place that knows this layout, apart from the kernels that apply a mask while they widen weights.
 * All functions are Local; a `row` is the espl_mask_words(in) words of one output row.
 */
#ifndef ESPALIER_TENSOR_MASK_H
#define ESPALIER_TENSOR_MASK_H

#include <stdbool.h>
#include <stdint.h>

enum { ESPL_MASK_BITS = 64 }; /* bits per word */

/* 64-bit words of a row, and bytes of a whole mask. */
static inline int64_t espl_mask_words(int64_t in) { return (in + ESPL_MASK_BITS - 1) / ESPL_MASK_BITS; }
static inline int64_t espl_mask_bytes(int64_t out, int64_t in) {
    return out * espl_mask_words(in) * (int64_t)sizeof(uint64_t);
}

static inline bool espl_mask_row_get(const uint64_t *row, int64_t c) {
    return row[c / ESPL_MASK_BITS] >> (c % ESPL_MASK_BITS) & 1;
}
static inline void espl_mask_row_set(uint64_t *row, int64_t c) {
    row[c / ESPL_MASK_BITS] |= UINT64_C(1) << (c % ESPL_MASK_BITS);
}
static inline void espl_mask_row_clear(uint64_t *row, int64_t c) {
    row[c / ESPL_MASK_BITS] &= ~(UINT64_C(1) << (c % ESPL_MASK_BITS));
}

/* The lowest n bits: columns 0 .. n - 1 of a word, 0 <= n <= 64. */
static inline uint64_t espl_mask_low_bits(int64_t n) {
    return n >= ESPL_MASK_BITS ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1;
}
/* The bits of columns c .. c + n - 1, the lowest first. They must lie in one word: n is 8, 16, 32 or 64, and c a
 * multiple of n. */
static inline uint64_t espl_mask_row_bits(const uint64_t *row, int64_t c, int64_t n) {
    return row[c / ESPL_MASK_BITS] >> (c % ESPL_MASK_BITS) & espl_mask_low_bits(n);
}
/* Clears the bits of columns c .. c + 63 that are set in `bits`. c is a multiple of 64. */
static inline void espl_mask_row_clear_bits(uint64_t *row, int64_t c, uint64_t bits) {
    row[c / ESPL_MASK_BITS] &= ~bits;
}

/* The bits of word w of a row that stand for columns: all of them but in the last word of a row. */
static inline uint64_t espl_mask_columns(int64_t in, int64_t w) { return espl_mask_low_bits(in - w * ESPL_MASK_BITS); }

/* Survivors of a row. */
static inline int64_t espl_mask_row_count(const uint64_t *row, int64_t in) {
    int64_t n = 0;
    for (int64_t w = 0; w < espl_mask_words(in); w++) n += __builtin_popcountll(row[w] & espl_mask_columns(in, w));
    return n;
}

/* Survivors of a mask [out, words]. */
int64_t espl_mask_count(const uint64_t *mask, int64_t out, int64_t in);
/* Makes a mask [out, words] dense. */
void espl_mask_fill(uint64_t *mask, int64_t out, int64_t in);

/* Under N:M (of every m consecutive inputs of a row, n survive), how many of `width` <= m inputs are pruned: m - n of a
 * whole group, and floor(width (m - n) / m) of the remainder at a row's end. */
static inline int64_t espl_mask_n_m_pruned(int64_t n, int64_t m, int64_t width) { return width * (m - n) / m; }
/* Is the mask exactly N:M in every row, remainders included? */
bool espl_mask_is_n_m(const uint64_t *mask, int64_t out, int64_t in, int64_t n, int64_t m);

#endif
