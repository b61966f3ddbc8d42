/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of the kernels and their scratch.
 *
 * OpenBLAS runs single-threaded inside our own OpenMP tiles: one pool of threads does everything, and what a thread
 * computes does not depend on how many there are (docs/architecture.md, "Threads").
 */
#include "espalier/tensor/workspace.h"

#include <cblas.h>
#include <stdio.h>

#include "espalier/base/memory.h"
#include "scratch.h"

#ifdef _OPENMP
#include <omp.h>
#else /* fuzz targets */
static int omp_get_max_threads(void) { return 1; }
static void omp_set_num_threads(int n) { (void)n; }
static int omp_get_thread_num(void) { return 0; }
#endif

struct espl_workspace {
    espl_arena *arena;
    int n;            /* threads when it was created */
    scratch *threads; /* [n] */
    espl_arithmetic arithmetic;
};

void espl_tensor_set_threads(int threads) { omp_set_num_threads(threads); }

int espl_tensor_threads(void) { return omp_get_max_threads(); }

int espl_tensor_thread(void) { return omp_get_thread_num(); }

static int64_t arena_bytes(int threads) {
    return threads * (int64_t)(espl_arena_piece(PANEL_FLOATS * 4) + espl_arena_piece(TILE_FLOATS * 4) +
                               espl_arena_piece(TAIL_FLOATS * 4));
}

int64_t espl_workspace_bytes(int threads) { return arena_bytes(threads) + threads * espl_bf16_engine_bytes(); }

espl_status espl_workspace_create(espl_workspace **out) {
    int threads = espl_tensor_threads();
    espl_workspace *w;
    espl_status st;
    *out = NULL;
    ESPL_TRY(espl_mem_alloc(&w, 1, sizeof *w, "kernel workspace"));
    ESPL_CHECK(st, failed, espl_arena_create(&w->arena, (size_t)arena_bytes(threads), "kernel workspace"));
    ESPL_CHECK(st, failed, espl_mem_alloc(&w->threads, threads, sizeof *w->threads, "kernel workspace"));
    w->n = threads;
    for (int i = 0; i < threads; i++) {
        if (espl_bf16_is_available()) ESPL_CHECK(st, failed, espl_bf16_engine_create(&w->threads[i].bf16));
        w->threads[i].panel = espl_arena_take(w->arena, PANEL_FLOATS * 4);
        w->threads[i].tile = espl_arena_take(w->arena, TILE_FLOATS * 4);
        w->threads[i].tail = espl_arena_take(w->arena, TAIL_FLOATS * 4);
        if (w->threads[i].tail) continue;
        st = ESPL_FAIL(ESPL_INTERNAL, "kernel workspace sized wrongly");
        goto failed;
    }
    *out = w;
    return ESPL_OK;
failed:
    espl_workspace_destroy(&w);
    return st;
}

void espl_workspace_destroy(espl_workspace **w) {
    if (!w || !*w) return;
    for (int i = 0; i < (*w)->n; i++) espl_bf16_engine_destroy(&(*w)->threads[i].bf16);
    espl_mem_free(&(*w)->threads);
    espl_arena_destroy(&(*w)->arena);
    espl_mem_free(w);
}

espl_arithmetic espl_workspace_use(espl_workspace *ws, espl_arithmetic a) {
    espl_arithmetic before = ws->arithmetic;
    ws->arithmetic = a;
    return before;
}

scratch espl_workspace_mine(espl_workspace *ws) {
    scratch mine = ws->threads[omp_get_thread_num()];
    if (ws->arithmetic == ESPL_ARITHMETIC_F32) mine.bf16 = NULL;
    return mine;
}

_Static_assert(ESPL_WORKSPACE_SCRATCH <= TILE_FLOATS * 4, "the scratch is a tile");
void *espl_workspace_scratch(espl_workspace *ws) { return espl_workspace_mine(ws).tile; }

/* OpenBLAS extensions, declared here because another CBLAS's cblas.h may lack them. */
extern char *openblas_get_corename(void);
extern int openblas_get_parallel(void);
extern void openblas_set_num_threads(int);

const char *espl_tensor_blas_init(void) {
    enum { PTHREADS = 1 };
    static char text[96];
    static const char *const flavours[] = {"serial", "pthreads", "OpenMP"};
    int flavour = openblas_get_parallel();
    /* The pthread flavour would start threads of its own inside our parallel regions. */
    if (flavour == PTHREADS) openblas_set_num_threads(1);
    snprintf(text, sizeof text, "%s, %s", openblas_get_corename(),
             flavour >= 0 && flavour < 3 ? flavours[flavour] : "unknown threading");
    return text;
}
