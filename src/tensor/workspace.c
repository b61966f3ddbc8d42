#include "internal.h"

#include <cblas.h>

#ifdef _OPENMP
#include <omp.h>
static int max_threads(void) { return omp_get_max_threads(); }
static int my_thread(void) { return omp_get_thread_num(); }
#else
static int max_threads(void) { return 1; }
static int my_thread(void) { return 0; }
#endif

struct espl_workspace {
    espl_arena *arena;
    scratch *threads;
};

enum { PANEL_FLOATS = TILE_OUT * TILE_IN, TILE_FLOATS = TILE_T * TILE_OUT };
_Static_assert(PANEL_FLOATS >= BLOCK_Q * BLOCK_K, "attention scores fit the panel");
_Static_assert(TILE_FLOATS >= 2 * BLOCK_Q * MAX_HEAD_DIM, "attention queries and outputs fit the tile");

int espl_tensor_threads(void) { return max_threads(); }

int espl_tensor_thread(void) { return my_thread(); }

int64_t espl_workspace_bytes(int threads) {
    return (int64_t)threads * (int64_t)(espl_arena_piece(PANEL_FLOATS * 4) + espl_arena_piece(TILE_FLOATS * 4));
}

static espl_status carve(espl_workspace *w, int threads) {
    ESPL_TRY(espl_arena_create(&w->arena, (size_t)espl_workspace_bytes(threads), "kernel workspace"));
    ESPL_TRY(espl_mem_alloc(&w->threads, threads, sizeof *w->threads, "kernel workspace"));
    for (int i = 0; i < threads; i++) {
        w->threads[i].panel = espl_arena_take(w->arena, PANEL_FLOATS * 4);
        w->threads[i].tile = espl_arena_take(w->arena, TILE_FLOATS * 4);
        if (!w->threads[i].tile) return ESPL_FAIL(ESPL_INTERNAL, "kernel workspace sized wrongly");
    }
    return ESPL_OK;
}

espl_status espl_workspace_create(espl_workspace **out) {
    *out = NULL;
    espl_workspace *w;
    ESPL_TRY(espl_mem_alloc(&w, 1, sizeof *w, "kernel workspace"));
    espl_status st = carve(w, max_threads());
    if (st != ESPL_OK) espl_workspace_destroy(&w);
    *out = w;
    return st;
}

void espl_workspace_destroy(espl_workspace **w) {
    if (!w || !*w) return;
    espl_mem_free(&(*w)->threads);
    espl_arena_destroy(&(*w)->arena);
    espl_mem_free(w);
}

_Static_assert(ESPL_WORKSPACE_SCRATCH <= TILE_FLOATS * 4, "the scratch is a tile");
void *espl_workspace_scratch(espl_workspace *ws) { return espl_workspace_mine(ws).tile; }

scratch espl_workspace_mine(espl_workspace *ws) { return ws->threads[my_thread()]; }

/* OpenBLAS extensions; declared here because another CBLAS's cblas.h may lack them. */
extern char *openblas_get_corename(void);
extern int openblas_get_parallel(void);
extern void openblas_set_num_threads(int);

const char *espl_tensor_blas_init(void) {
    static char text[96];
    static const char *const flavours[] = {"serial", "pthreads", "OpenMP"};
    int flavour = openblas_get_parallel();
    if (flavour == 1) openblas_set_num_threads(1);
    snprintf(text, sizeof text, "%s, %s", openblas_get_corename(),
             flavour >= 0 && flavour < 3 ? flavours[flavour] : "unknown threading");
    return text;
}
