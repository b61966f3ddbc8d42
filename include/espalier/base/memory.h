/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation with overflow checks and named errors, and arenas. All functions are Local.
 */
#ifndef ESPALIER_BASE_MEMORY_H
#define ESPALIER_BASE_MEMORY_H

#include "espalier/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Sets *out (a T **) to n * size zeroed bytes. n may be 0: *out is then still a unique pointer to free. ESPL_NOMEM
 * naming `what`; *out is then NULL. Owned by the caller: espl_mem_free(&p). */
espl_status espl_mem_alloc(void *out, int64_t n, size_t size, const char *what);
/* Grows or shrinks *inout (a T **) to n * size bytes; new bytes are not zeroed. On failure *inout is unchanged. */
espl_status espl_mem_resize(void *inout, int64_t n, size_t size, const char *what);
/* Frees *p (p is a T **) and sets it to NULL. p and *p may be NULL. */
void espl_mem_free(void *p);
/* Live allocations of this process: allocated minus freed. Tests compare it before and after to find leaks. */
int64_t espl_mem_balance(void);

/* An arena: one allocation, handed out in 64-byte aligned pieces and freed at once. */
typedef struct espl_arena espl_arena;
/* `bytes`: the sum of espl_arena_piece over all pieces to be taken. ESPL_NOMEM naming `what`. Owned by the caller. */
espl_status espl_arena_create(espl_arena **out, size_t bytes, const char *what);
/* A zeroed, 64-byte aligned piece that nothing has touched, borrowed from the arena. NULL if the arena is too small: a
 * sizing bug that the caller reports as ESPL_INTERNAL. */
void *espl_arena_take(espl_arena *a, size_t bytes);
/* Bytes that a piece of `bytes` occupies in an arena: rounded up to 64. */
size_t espl_arena_piece(size_t bytes);
void espl_arena_destroy(espl_arena **a);

#endif
