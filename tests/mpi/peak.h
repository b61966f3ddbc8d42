/* SPDX-License-Identifier: Apache-2.0 */
/* Peak of the bytes that the program holds through espl_mem_alloc and espl_arena_create. The program must be linked
 * with -Wl,--wrap for the four functions below; then every call from another object file comes here first. */
#ifndef ESPL_TEST_MPI_PEAK_H
#define ESPL_TEST_MPI_PEAK_H

#include <string.h>

#include "espalier/base.h"

enum { PEAK_SLOTS = 1 << 14 };
static struct {
    struct {
        const void *p;
        int64_t bytes;
    } slots[PEAK_SLOTS]; /* live allocations */
    int64_t used, live, peak;
    const char *ignored; /* allocations of this name are not counted */
} peak;

static inline void peak_begin(const char *ignored) {
    peak.live = peak.peak = 0;
    peak.ignored = ignored;
}

static inline void peak_add(const void *p, int64_t bytes, const char *what) {
    if (!p || peak.used == PEAK_SLOTS || (peak.ignored && strcmp(what, peak.ignored) == 0)) return;
    peak.slots[peak.used].p = p;
    peak.slots[peak.used++].bytes = bytes;
    peak.live += bytes;
    peak.peak = espl_max_i64(peak.peak, peak.live);
}

static inline void peak_remove(const void *p) {
    for (int64_t i = peak.used - 1; p && i >= 0; i--) {
        if (peak.slots[i].p != p) continue;
        peak.live -= peak.slots[i].bytes;
        peak.slots[i] = peak.slots[--peak.used];
        return;
    }
}

espl_status __real_espl_mem_alloc(void *out, int64_t n, size_t size, const char *what);
espl_status __wrap_espl_mem_alloc(void *out, int64_t n, size_t size, const char *what);
void __real_espl_mem_free(void *p);
void __wrap_espl_mem_free(void *p);
espl_status __real_espl_arena_create(espl_arena **out, size_t bytes, const char *what);
espl_status __wrap_espl_arena_create(espl_arena **out, size_t bytes, const char *what);
void __real_espl_arena_destroy(espl_arena **a);
void __wrap_espl_arena_destroy(espl_arena **a);

espl_status __wrap_espl_mem_alloc(void *out, int64_t n, size_t size, const char *what) {
    void *p;
    espl_status st = __real_espl_mem_alloc(out, n, size, what);
    memcpy(&p, out, sizeof p);
    if (st == ESPL_OK) peak_add(p, n * (int64_t)size, what);
    return st;
}

void __wrap_espl_mem_free(void *p) {
    void *q = NULL;
    if (p) memcpy(&q, p, sizeof q);
    peak_remove(q);
    __real_espl_mem_free(p);
}

espl_status __wrap_espl_arena_create(espl_arena **out, size_t bytes, const char *what) {
    espl_status st = __real_espl_arena_create(out, bytes, what);
    if (st == ESPL_OK) peak_add(*out, (int64_t)bytes, what);
    return st;
}

void __wrap_espl_arena_destroy(espl_arena **a) {
    if (a) peak_remove(*a);
    __real_espl_arena_destroy(a);
}

#endif
