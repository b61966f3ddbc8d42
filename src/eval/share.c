/* What evaluations share: proportions, samples, arrays that all ranks need. */
#include "internal.h"

#include <math.h>

espl_proportion espl_proportion_of(int64_t hits, int64_t n) {
    const double z = 1.96, zz = z * z;
    espl_proportion s = {.hits = hits, .n = n, .rate = NAN, .low = 0, .high = 1};
    if (n < 1) return s;
    double p = (double)hits / (double)n, d = 1 + zz / (double)n, middle = p + zz / (2 * (double)n);
    double half = z * sqrt(p * (1 - p) / (double)n + zz / (4 * (double)n * (double)n));
    s.rate = p;
    s.low = hits == 0 ? 0 : (middle - half) / d;
    s.high = hits == n ? 1 : (middle + half) / d;
    return s;
}

/* Selection sampling (Knuth, TAOCP 2, algorithm S). */
int64_t espl_eval_sample(int64_t n, int64_t want, uint64_t seed, int64_t *chosen) {
    enum { PURPOSE_QUESTIONS = 0xE7 };
    espl_rng rng;
    int64_t taken = 0, most = want > 0 && want < n ? want : n;
    espl_rng_seed(&rng, seed, 0, PURPOSE_QUESTIONS);
    for (int64_t i = 0; i < n && taken < most; i++)
        if (most == n || espl_rng_below(&rng, n - i) < most - taken) chosen[taken++] = i;
    return taken;
}

espl_status espl_eval_share_array(espl_comm *c, void *inout, int64_t n, size_t size, const char *what) {
    void **array = inout;
    espl_status st = espl_comm_rank(c) == 0 ? ESPL_OK : espl_mem_alloc(array, n, size, what);
    ESPL_TRY(espl_comm_agree(c, st));
    espl_comm_broadcast(c, *array, n * (int64_t)size, 0);
    return ESPL_OK;
}
