/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation. Functions take a T ** as void * so that callers need no cast; the pointer is copied with memcpy because
 * void * and T * may not alias. Every live allocation is counted, for the leak checks of the tests.
 */
#include "espalier/base/memory.h"

#include "espalier/base/fault.h"
#include "espalier/base/integer.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic int64_t mem_balance;

/* At least 1, because calloc(0) and realloc(p, 0) may return NULL, which would look like a failure. */
static espl_status mem_checked_bytes(int64_t n, size_t size, const char *what, size_t *bytes) {
    int64_t total;
    if (size > INT64_MAX || !espl_mul_i64(n, (int64_t)size, &total))
        return ESPL_FAIL(ESPL_NOMEM, "%s: cannot allocate %" PRId64 " items of %zu bytes", what, n, size);
    *bytes = total > 0 ? (size_t)total : 1;
    return ESPL_OK;
}

espl_status espl_mem_alloc(void *out, int64_t n, size_t size, const char *what) {
    void *p = NULL;
    size_t bytes = 0;
    memcpy(out, &p, sizeof p);
    ESPL_TRY(mem_checked_bytes(n, size, what, &bytes));
    p = espl_fault("memory.alloc") ? NULL : calloc(1, bytes);
    if (!p) return ESPL_FAIL(ESPL_NOMEM, "%s: no memory for %zu bytes", what, bytes);
    atomic_fetch_add(&mem_balance, 1);
    memcpy(out, &p, sizeof p);
    return ESPL_OK;
}

espl_status espl_mem_resize(void *inout, int64_t n, size_t size, const char *what) {
    void *p;
    size_t bytes = 0;
    memcpy(&p, inout, sizeof p);
    ESPL_TRY(mem_checked_bytes(n, size, what, &bytes));
    void *q = espl_fault("memory.alloc") ? NULL : realloc(p, bytes);
    if (!q) return ESPL_FAIL(ESPL_NOMEM, "%s: no memory for %zu bytes", what, bytes);
    if (!p) atomic_fetch_add(&mem_balance, 1);
    memcpy(inout, &q, sizeof q);
    return ESPL_OK;
}

void espl_mem_free(void *p) {
    void *q, *null = NULL;
    if (!p) return;
    memcpy(&q, p, sizeof q);
    if (q) atomic_fetch_sub(&mem_balance, 1);
    free(q);
    memcpy(p, &null, sizeof null);
}

int64_t espl_mem_balance(void) { return atomic_load(&mem_balance); }

/* ----------------------------------------------------------------- arena */

/* A cache line, and the width of an AVX-512 register: pieces neither share lines nor need unaligned loads. */
enum { ARENA_ALIGNMENT = 64 };

/* Pieces are zero from the start, and no page is touched before its first use: the system then places it in the NUMA
 * domain of the thread that uses it, not of the one that creates the arena. */
struct espl_arena {
    size_t size, used;
    void *allocated;
    unsigned char *data; /* aligned, within what was allocated */
};

size_t espl_arena_piece(size_t bytes) { return (bytes + ARENA_ALIGNMENT - 1) / ARENA_ALIGNMENT * ARENA_ALIGNMENT; }

espl_status espl_arena_create(espl_arena **out, size_t bytes, const char *what) {
    *out = NULL;
    espl_arena *a;
    ESPL_TRY(espl_mem_alloc(&a, 1, sizeof *a, what));
    a->size = espl_arena_piece(bytes);
    size_t wanted = a->size + ARENA_ALIGNMENT; /* never 0 */
    a->allocated = espl_fault("memory.alloc") ? NULL : calloc(1, wanted);
    if (!a->allocated) {
        espl_mem_free(&a);
        return ESPL_FAIL(ESPL_NOMEM, "%s: no memory for %zu bytes", what, wanted);
    }
    size_t beyond = (uintptr_t)a->allocated % ARENA_ALIGNMENT;
    a->data = (unsigned char *)a->allocated + (beyond > 0 ? ARENA_ALIGNMENT - beyond : 0);
    *out = a;
    return ESPL_OK;
}

void *espl_arena_take(espl_arena *a, size_t bytes) {
    size_t piece = espl_arena_piece(bytes); /* less than `bytes` if rounding up overflowed */
    if (piece < bytes || piece > a->size - a->used) return NULL;
    void *p = a->data + a->used;
    a->used += piece;
    return p;
}

void espl_arena_destroy(espl_arena **a) {
    if (!a || !*a) return;
    free((*a)->allocated);
    espl_mem_free(a);
}
