/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to the methods room: buffers that are allocated and freed together. One function takes all of them; called
 * with a counting pool it only adds up their sizes, so espl_method_bytes cannot drift from what a run allocates.
 * Buffers are zeroed lazily by the system: what is never written takes no memory.
 */
#ifndef ESPL_METHODS_POOL_H
#define ESPL_METHODS_POOL_H

#include <stdbool.h>

#include "espalier/base/memory.h"

typedef struct pool {
    bool counting;  /* set by the caller: allocate nothing */
    int64_t bytes;  /* taken so far */
    espl_status st; /* of the first failure; nothing is taken after it */
    int64_t n;
    void **pieces; /* [n] and some room; owned */
} pool;

/* Local. n * size zeroed bytes; NULL when counting and after a failure, which the caller reads in p->st once at the
 * end. Owned by the pool. */
void *espl_pool_take(pool *p, int64_t n, size_t size, const char *what);
/* Local. Frees all buffers. */
void espl_pool_free(pool *p);

#endif
