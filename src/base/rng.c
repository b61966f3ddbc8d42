#include "espalier/base.h"

#include <math.h>

static uint64_t splitmix64(uint64_t *x) {
    uint64_t z = (*x += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

void espl_rng_seed(espl_rng *r, uint64_t seed, uint64_t stream, uint64_t purpose) {
    uint64_t key[3] = {seed, stream, purpose};
    uint64_t x = espl_hash64(key, sizeof key, 0);
    for (int i = 0; i < 4; i++) r->s[i] = splitmix64(&x);
}

static uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t espl_rng_next(espl_rng *r) {
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double espl_rng_uniform(espl_rng *r) { return (double)(espl_rng_next(r) >> 11) * 0x1p-53; }

int64_t espl_rng_below(espl_rng *r, int64_t n) {
    uint64_t bound = (uint64_t)n, threshold = (0 - bound) % bound, x;
    do x = espl_rng_next(r);
    while (x < threshold);
    return (int64_t)(x % bound);
}

double espl_rng_normal(espl_rng *r) {
    double u = 1.0 - espl_rng_uniform(r), v = espl_rng_uniform(r);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586476925287 * v);
}
