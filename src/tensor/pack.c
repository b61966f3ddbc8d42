/* SPDX-License-Identifier: Apache-2.0 */
/* Rounding to bf16 and masking on the way into a panel. */
#include "pack.h"

#include <string.h>

#include "espalier/base/integer.h"
#include "widen.h"

enum { GROUP = 8 };

/* keep_rows[b][i] is all ones where bit i of b is set. */
static uint16_t keep_rows[1 << GROUP][GROUP];

__attribute__((constructor)) static void fill_keep_rows(void) {
    for (int b = 0; b < 1 << GROUP; b++)
        for (int i = 0; i < GROUP; i++) keep_rows[b][i] = (b >> i & 1) ? UINT16_MAX : 0;
}

/* To nearest even. A NaN stays one: its upper bits are kept, and a bit is set that they always may have. */
static inline void round_row(const float *x, int64_t n, float factor, uint16_t *to) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float f = x[i] * factor;
        uint32_t u;
        memcpy(&u, &f, sizeof u);
        uint32_t rounded = (u + 0x7FFF + (u >> 16 & 1)) >> 16, quiet = u >> 16 | 0x40;
        to[i] = (uint16_t)(f == f ? rounded : quiet);
    }
}

void espl_pack_rows(const float *x, int64_t ldx, int64_t rows, int64_t n, float factor, uint16_t *to, int64_t ld,
                    int64_t padded_rows) {
    for (int64_t r = 0; r < rows; r++) {
        round_row(x + r * ldx, n, factor, to + r * ld);
        memset(to + r * ld + n, 0, (size_t)(ld - n) * sizeof *to);
    }
    memset(to + rows * ld, 0, (size_t)((padded_rows - rows) * ld) * sizeof *to);
}

static void mask_row(const char *from, const uint64_t *mask, int64_t c0, int64_t n, uint16_t *to) {
    for (int64_t c = 0; c < n; c += GROUP) {
        int64_t width = espl_min_i64(GROUP, n - c);
        const uint16_t *keep = keep_rows[espl_mask_row_bits(mask, c0 + c, GROUP)];
        uint16_t w[GROUP] = {0};
        memcpy(w, from + c * (int64_t)sizeof *w, (size_t)width * sizeof *w);
        for (int i = 0; i < GROUP; i++) w[i] &= keep[i];
        memcpy(to + c, w, (size_t)width * sizeof *w);
    }
}

static void pack_weight_row(const espl_linear *l, int64_t r, int64_t c0, int64_t n, uint16_t *to, float *piece) {
    const char *from = (const char *)l->weight + (size_t)(r * l->in + c0) * sizeof *to;
    if (l->dtype != ESPL_DTYPE_BF16) {
        espl_linear_widen(l, r, c0, n, piece);
        round_row(piece, n, 1, to);
    } else if (l->mask) {
        mask_row(from, l->mask + r * espl_mask_words(l->in), c0, n, to);
    } else {
        memcpy(to, from, (size_t)n * sizeof *to);
    }
}

void espl_pack_weights(const espl_linear *l, int64_t r0, int64_t rows, int64_t c0, int64_t n, uint16_t *to, int64_t ld,
                       int64_t padded_rows, float *piece) {
    for (int64_t r = 0; r < rows; r++) {
        pack_weight_row(l, r0 + r, c0, n, to + r * ld, piece);
        memset(to + r * ld + n, 0, (size_t)(ld - n) * sizeof *to);
    }
    memset(to + rows * ld, 0, (size_t)((padded_rows - rows) * ld) * sizeof *to);
}

void espl_pack_product(const scratch *mine, bf16_shape s, const uint16_t *a, const uint16_t *b, float *c) {
    int64_t rest = s.m % BF16_STEP, whole = s.m - rest;
    s.m = whole;
    if (whole > 0) espl_bf16_product(mine->bf16, &s, a, b, c);
    if (rest == 0) return;
    bf16_shape tail = s;
    tail.m = BF16_STEP;
    tail.ldc = s.n;
    tail.add = false;
    espl_bf16_product(mine->bf16, &tail, a + whole * s.lda, b, mine->tail);
    for (int64_t r = 0; r < rest; r++)
        for (int64_t i = 0; i < s.n; i++) {
            float *to = &c[(whole + r) * s.ldc + i];
            *to = mine->tail[r * s.n + i] + (s.add ? *to : 0);
        }
}
