/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic on int64_t, the type of all counts, sizes and offsets.
 */
#ifndef ESPALIER_BASE_INTEGER_H
#define ESPALIER_BASE_INTEGER_H

#include <stdbool.h>
#include <stdint.h>

/* *out = a * b for factors >= 0. False on overflow or a negative factor; sizes read from a file go through here. */
static inline bool espl_mul_i64(int64_t a, int64_t b, int64_t *out) {
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

static inline int64_t espl_min_i64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t espl_max_i64(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
