/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Widening and masking of weights, at the speed of reading them: eight weights are masked with one row of a table,
 * which the compiler makes one vector instruction.
 */
#include "widen.h"

#include <string.h>

enum { GROUP = 8 };

/* keep_rows[b][i] is all ones where bit i of b is set. */
static uint32_t keep_rows[1 << GROUP][GROUP];

__attribute__((constructor)) static void fill_keep_rows(void) {
    for (int b = 0; b < 1 << GROUP; b++)
        for (int i = 0; i < GROUP; i++) keep_rows[b][i] = (b >> i & 1) ? UINT32_MAX : 0;
}

/* n <= GROUP floats. Masking bits rather than multiplying by 0 makes NaN and infinity 0 too. */
static inline void mask_group(float *p, const uint32_t *keep, size_t n) {
    uint32_t u[GROUP] = {0};
    memcpy(u, p, n * sizeof *u);
    for (int j = 0; j < GROUP; j++) u[j] &= keep[j];
    memcpy(p, u, n * sizeof *u);
}

void espl_mask_apply(float *p, const uint64_t *row, int64_t c0, int64_t n) {
    int64_t i = 0;
    for (; i + GROUP <= n; i += GROUP) mask_group(p + i, keep_rows[espl_mask_row_bits(row, c0 + i, GROUP)], GROUP);
    if (i < n) mask_group(p + i, keep_rows[espl_mask_row_bits(row, c0 + i, GROUP)], (size_t)(n - i));
}

void espl_linear_widen(const espl_linear *l, int64_t r, int64_t c0, int64_t n, float *dst) {
    const char *w = (const char *)l->weight + (size_t)(r * l->in + c0) * espl_dtype_size(l->dtype);
    espl_tensor_widen(w, l->dtype, n, dst);
    if (l->mask) espl_mask_apply(dst, l->mask + r * espl_mask_words(l->in), c0, n);
}
