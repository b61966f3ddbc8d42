/* SPDX-License-Identifier: Apache-2.0 */
/* Runs micro-batches and reports tokens per second and the remaining time. */
#include "run_batches.h"

#include <inttypes.h>
#include <math.h>

typedef struct batch_progress {
    const char *what;
    const espl_batch *batches;
    int64_t tokens, total;
    double scale; /* tokens of all replicas per token of this one */
    double start;
} batch_progress;

static int64_t progress_batch_tokens(const espl_batch *b) {
    int64_t n = 0;
    for (int64_t i = 0; i < b->n; i++) n += b->segments[i].n;
    return n;
}

/* espl_model_progress: called on every rank after each of its micro-batches; only rank 0 prints. */
static void batch_progress_show(void *context, int64_t done, int64_t n) {
    batch_progress *g = context;
    g->tokens += progress_batch_tokens(&g->batches[done - 1]);
    /* The first micro-batch may take less than a tick of the clock. */
    double seconds = espl_clock_now() - g->start, rate = (double)g->tokens / fmax(seconds, 1e-9);
    espl_log_progress(done == n, "%s: %.0f / %.0f tokens, %.1f tokens/s, %.0f s to go", g->what,
                      (double)g->tokens * g->scale, (double)g->total * g->scale, rate * g->scale,
                      (double)(g->total - g->tokens) / rate);
}

espl_status espl_eval_run_batches(espl_comm *c, espl_model *m, const espl_batch *batches, int64_t n, int64_t tokens,
                                  const char *what) {
    batch_progress g = {.what = what, .batches = batches, .start = espl_clock_now()};
    for (int64_t i = 0; i < n; i++) g.total += progress_batch_tokens(&batches[i]);
    g.scale = (double)tokens / fmax((double)g.total, 1);
    return espl_comm_agree(c, espl_model_run(m, batches, n, batch_progress_show, &g));
}

void espl_eval_share_results(espl_comm *c, void *array, const int64_t *begin, int64_t n, size_t size) {
    const espl_grid *grid = espl_comm_grid(c);
    int64_t first = begin ? begin[grid->replica] : espl_part_begin(n, grid->replicas, grid->replica);
    int64_t last = begin ? begin[grid->replica + 1] : espl_part_begin(n, grid->replicas, grid->replica + 1);
    espl_comm_broadcast(grid->pipeline, (char *)array + first * (int64_t)size, (last - first) * (int64_t)size,
                        grid->stages - 1);
    espl_comm_share_parts(grid->peers, array, begin, n, size);
}
