/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buffers that are allocated and freed together.
 */
#include "pool.h"

enum { ROOM = 64 }; /* pieces that the list grows by */

void *espl_pool_take(pool *p, int64_t n, size_t size, const char *what) {
    void *piece = NULL;
    if (p->st != ESPL_OK) return NULL;
    if (!p->counting) {
        if (p->n % ROOM == 0) p->st = espl_mem_resize(&p->pieces, p->n + ROOM, sizeof *p->pieces, what);
        if (p->st == ESPL_OK) p->st = espl_mem_alloc(&piece, n, size, what); /* checks n * size for overflow */
        if (p->st != ESPL_OK) return NULL;
        p->pieces[p->n++] = piece;
    }
    p->bytes += n * (int64_t)size;
    return piece;
}

void espl_pool_free(pool *p) {
    for (int64_t i = 0; i < p->n; i++) espl_mem_free(&p->pieces[i]);
    espl_mem_free(&p->pieces);
    *p = (pool){0};
}
