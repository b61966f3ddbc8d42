/* SPDX-License-Identifier: Apache-2.0 */
/* Order and simulation of the passes of a pipeline. */
#include "espalier/schedule/pipeline.h"

#include <math.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

int64_t espl_pass_order(int64_t forward, int64_t backward, int64_t ahead, espl_pass *passes) {
    int64_t n = 0, turn = 0;
    for (int64_t i = backward; i < forward; i++) passes[n++] = (espl_pass){false, i, turn++};
    for (int64_t i = 0; i < backward + ahead; i++) {
        if (i < backward) passes[n++] = (espl_pass){false, i, turn++};
        if (i >= ahead) passes[n++] = (espl_pass){true, i - ahead, i - ahead};
    }
    return n;
}

int64_t espl_pass_ahead(int64_t backward, int64_t stage, int64_t stages) {
    return espl_max_i64(espl_min_i64(backward, stages - stage) - 1, 0);
}

/* A simulation under way. `done` holds, by direction, stage and window, when a pass ends; NAN: not yet. */
typedef struct simulation {
    const espl_pipeline *p;
    int64_t backward, windows, passes; /* passes of each stage */
    espl_pass *order;                  /* [stages, passes] */
    double *done[2];                   /* [stages, windows] */
    int64_t *next;                     /* [stages] passes that ended */
    double *clock, *busy;              /* [stages] */
} simulation;

static void simulation_free(simulation *s) {
    espl_mem_free(&s->order);
    espl_mem_free(&s->done[false]);
    espl_mem_free(&s->done[true]);
    espl_mem_free(&s->next);
    espl_mem_free(&s->clock);
    espl_mem_free(&s->busy);
}

static espl_status simulation_create(simulation *s, int64_t forward) {
    int64_t stages = s->p->stages;
    ESPL_TRY(espl_mem_alloc(&s->order, stages * s->passes, sizeof *s->order, "schedule"));
    ESPL_TRY(espl_mem_alloc(&s->done[false], stages * s->windows, sizeof(double), "schedule"));
    ESPL_TRY(espl_mem_alloc(&s->done[true], stages * s->windows, sizeof(double), "schedule"));
    ESPL_TRY(espl_mem_alloc(&s->next, stages, sizeof *s->next, "schedule"));
    ESPL_TRY(espl_mem_alloc(&s->clock, stages, sizeof *s->clock, "schedule"));
    ESPL_TRY(espl_mem_alloc(&s->busy, stages, sizeof *s->busy, "schedule"));
    for (int64_t i = 0; i < stages * s->windows; i++) s->done[false][i] = s->done[true][i] = NAN;
    for (int64_t r = 0; r < stages; r++)
        espl_pass_order(forward, s->backward, espl_pass_ahead(s->backward, r, stages), s->order + r * s->passes);
    return ESPL_OK;
}

/* When the input of a pass is there; NAN: not known yet. The last stage turns around by itself. */
static double simulation_input(const simulation *s, int64_t stage, const espl_pass *pass) {
    bool last = stage == s->p->stages - 1;
    int64_t from = pass->backward ? stage + 1 : stage - 1;
    if (pass->backward && last) return s->done[false][stage * s->windows + pass->window];
    if (from < 0) return 0;
    return s->done[pass->backward][from * s->windows + pass->window] + s->p->handoff;
}

static double simulation_cost(const simulation *s, int64_t stage, const espl_pass *pass) {
    if (pass->backward) return s->p->backward[stage];
    return pass->window < s->backward ? s->p->sample[stage] : s->p->forward[stage];
}

/* Lets a stage run until it waits for an input that is not known yet. Returns whether it did anything. */
static bool simulation_advance(simulation *s, int64_t stage) {
    int64_t before = s->next[stage];
    while (s->next[stage] < s->passes) {
        const espl_pass *pass = &s->order[stage * s->passes + s->next[stage]];
        double input = simulation_input(s, stage, pass), cost = simulation_cost(s, stage, pass);
        if (isnan(input)) break;
        s->clock[stage] = fmax(s->clock[stage], input) + cost;
        s->busy[stage] += cost;
        s->done[pass->backward][stage * s->windows + pass->window] = s->clock[stage];
        s->next[stage]++;
    }
    return s->next[stage] > before;
}

espl_status espl_pipeline_simulate(const espl_pipeline *p, int64_t forward, int64_t backward, espl_timeline *out) {
    simulation s = {.p = p, .backward = backward, .windows = espl_max_i64(forward, backward)};
    espl_status st;
    *out = (espl_timeline){0};
    s.passes = s.windows + backward;
    if (s.windows == 0) return ESPL_OK;
    ESPL_CHECK(st, done, simulation_create(&s, forward));
    for (bool moved = true; moved;) {
        moved = false;
        for (int64_t r = 0; r < p->stages; r++) moved = simulation_advance(&s, r) || moved;
        for (int64_t r = p->stages - 1; r >= 0; r--) moved = simulation_advance(&s, r) || moved;
    }
    for (int64_t r = 0; r < p->stages; r++) {
        if (s.next[r] < s.passes) { /* never: every pass waits for earlier ones only */
            st = ESPL_FAIL(ESPL_INTERNAL, "the schedule of stage %d does not end", (int)r);
            goto done;
        }
        out->seconds = fmax(out->seconds, s.clock[r]);
        out->mean += s.busy[r] / (double)p->stages;
        if (s.busy[r] > s.busy[out->busiest]) out->busiest = r;
    }
    out->busy = s.busy[out->busiest];
done:
    simulation_free(&s);
    return st;
}
