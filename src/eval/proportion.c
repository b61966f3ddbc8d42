/* SPDX-License-Identifier: Apache-2.0 */
/* Wilson's score interval for a proportion. */
#include "espalier/eval/proportion.h"

#include <math.h>

espl_proportion espl_proportion_of(int64_t hits, int64_t n) {
    const double z = ESPL_PROPORTION_Z, zz = z * z;
    espl_proportion s = {.hits = hits, .n = n, .rate = NAN, .low = 0, .high = 1};
    if (n < 1) return s;
    double p = (double)hits / (double)n, d = 1 + zz / (double)n, middle = p + zz / (2 * (double)n);
    double half = z * sqrt(p * (1 - p) / (double)n + zz / (4 * (double)n * (double)n));
    s.rate = p;
    /* At the ends the formula gives exactly 0 and 1, but for rounding. */
    s.low = hits == 0 ? 0 : (middle - half) / d;
    s.high = hits == n ? 1 : (middle + half) / d;
    return s;
}
