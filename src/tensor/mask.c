/* SPDX-License-Identifier: Apache-2.0 */
/* Masks of whole linears; single rows are inline in the header, since kernels count and clear them in inner loops. */
#include "espalier/tensor/mask.h"

#include "espalier/base/integer.h"

int64_t espl_mask_count(const uint64_t *mask, int64_t out, int64_t in) {
    int64_t words = espl_mask_words(in), count = 0;
#pragma omp parallel for schedule(static) reduction(+ : count)
    for (int64_t r = 0; r < out; r++) count += espl_mask_row_count(mask + r * words, in);
    return count; /* an integer sum: the same in any order */
}

/* By all threads: a fresh mask is then spread over the NUMA domains that they run in. */
void espl_mask_fill(uint64_t *mask, int64_t out, int64_t in) {
    int64_t words = espl_mask_words(in);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < out; r++)
        for (int64_t w = 0; w < words; w++) mask[r * words + w] = espl_mask_columns(in, w);
}

/* Remainders at a row's end follow the rule of espl_mask_n_m_pruned. */
bool espl_mask_is_n_m(const uint64_t *mask, int64_t out, int64_t in, int64_t n, int64_t m) {
    for (int64_t r = 0; r < out; r++) {
        const uint64_t *row = mask + r * espl_mask_words(in);
        for (int64_t c0 = 0; c0 < in; c0 += m) {
            int64_t width = espl_min_i64(m, in - c0), survivors = 0;
            for (int64_t c = c0; c < c0 + width; c++) survivors += espl_mask_row_get(row, c);
            if (survivors != width - espl_mask_n_m_pruned(n, m, width)) return false;
        }
    }
    return true;
}
