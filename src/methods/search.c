/* SPDX-License-Identifier: Apache-2.0 */
/*
 * EvoPress (Sieberling et al. 2410.14649): evolution of an allocation by level switches, with a selection in stages.
 * One parent per generation; it competes with its offspring in the last stage.
 */
#include "espalier/methods/allocate.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const uint64_t SEARCH_STREAM = 0x5EA2C4; /* purpose of the random numbers: no other use of a seed has it */
enum { SWITCHES_MAX = 3 };                      /* of an offspring: min(U{1..3}, U{1..3}), EvoPress */

typedef struct evolution {
    const espl_search_options *o;
    const int64_t *max;
    int64_t n, level;    /* linears; weights of a level */
    int64_t *candidates; /* [offspring + 1, n], the parent last */
    int64_t *order;      /* [offspring + 1] candidates, the best first once sorted */
    double *fitness;     /* [offspring + 1] */
    espl_rng rng;
} evolution;

/* Whether linear i of an allocation can lose (sign 1) or gain back (-1) a level. */
static bool evolution_may(const evolution *e, const int64_t *counts, int64_t i, int sign) {
    return sign > 0 ? counts[i] + e->level <= e->max[i] : counts[i] >= e->level;
}

/* A random linear other than `other` that can; -1 if no linear can. One random number per draw, whatever the
 * allocation. */
static int64_t evolution_draw(evolution *e, const int64_t *counts, int sign, int64_t other) {
    int64_t left = 0;
    for (int64_t i = 0; i < e->n; i++) left += i != other && evolution_may(e, counts, i, sign);
    if (left == 0) return -1;
    left = espl_rng_below(&e->rng, left);
    for (int64_t i = 0;; i++)
        if (i != other && evolution_may(e, counts, i, sign) && left-- == 0) return i;
}

/* All candidates of a generation from its parent. */
static void evolution_breed(evolution *e, const int64_t *parent) {
    for (int64_t k = 0; k <= e->o->offspring; k++) {
        int64_t *child = e->candidates + k * e->n;
        memcpy(child, parent, (size_t)e->n * sizeof *child);
        e->order[k] = k;
        if (k == e->o->offspring) return; /* the parent itself */
        int64_t a = espl_rng_below(&e->rng, SWITCHES_MAX), b = espl_rng_below(&e->rng, SWITCHES_MAX);
        for (int64_t s = 1 + espl_min_i64(a, b); s > 0; s--) {
            int64_t loses = evolution_draw(e, child, 1, -1);
            int64_t gains = loses < 0 ? -1 : evolution_draw(e, child, -1, loses);
            if (gains < 0) break;
            child[loses] += e->level;
            child[gains] -= e->level;
        }
    }
}

/* Sorts the first n of the order by fitness, by insertion: the earlier candidate wins among equals, NaN loses. */
static void evolution_sort(evolution *e, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        int64_t k = e->order[i], j = i;
        double mine = isnan(e->fitness[k]) ? INFINITY : e->fitness[k];
        for (; j > 0 && !(e->fitness[e->order[j - 1]] <= mine); j--) e->order[j] = e->order[j - 1];
        e->order[j] = k;
    }
}

static espl_status check_search(const espl_search_options *o) {
    if (o->offspring < 1 || o->stages < 1 || o->stages > ESPL_SEARCH_STAGES || !(o->step > 0 && o->step <= 1))
        return ESPL_FAIL(ESPL_CONFIG,
                         "a search with %" PRId64 " offspring (expected 1 or more), %" PRId64
                         " stages (1 to %d) and a step of %g (above 0 to 1)",
                         o->offspring, o->stages, ESPL_SEARCH_STAGES, o->step);
    for (int64_t s = 0; s < o->stages; s++) {
        bool last = s == o->stages - 1;
        if (o->survivors[s] < 1 || (last && o->survivors[s] != 1))
            return ESPL_FAIL(ESPL_CONFIG, "%" PRId64 " survivors of stage %" PRId64 " of the search; expected %s",
                             o->survivors[s], s, last ? "1" : "1 or more");
    }
    return ESPL_OK;
}

espl_status espl_allocate_search(const espl_search_options *o, int64_t evaluations, const int64_t *weights,
                                 const int64_t *max, int64_t n, espl_search_fitness fitness, void *context,
                                 int64_t *counts, double *best) {
    evolution e = {.o = o, .max = max, .n = n};
    int64_t smallest = weights[0], slots = o->offspring + 1, spent = 0;
    espl_status st;
    *best = NAN;
    ESPL_TRY(check_search(o));
    for (int64_t i = 1; i < n; i++) smallest = espl_min_i64(smallest, weights[i]);
    e.level = espl_max_i64((int64_t)(o->step * (double)smallest), 1);
    espl_rng_seed(&e.rng, o->seed, 0, SEARCH_STREAM);
    ESPL_CHECK(st, done, espl_mem_alloc(&e.candidates, slots * n, sizeof *e.candidates, "candidates"));
    ESPL_CHECK(st, done, espl_mem_alloc(&e.order, slots, sizeof *e.order, "candidates"));
    ESPL_CHECK(st, done, espl_mem_alloc(&e.fitness, slots, sizeof *e.fitness, "candidates"));
    /* A stage ranks candidates on more data than the one before, so it sees fewer of them. The parent is added in the
     * last stage only: there its fitness is comparable, and a generation cannot make things worse. */
    while (spent < evaluations) {
        int64_t alive = o->offspring;
        evolution_breed(&e, counts);
        for (int64_t stage = 0; stage < o->stages; stage++) {
            if (stage == o->stages - 1) e.order[alive++] = o->offspring; /* the parent */
            for (int64_t i = 0; i < alive; i++, spent++) {
                int64_t k = e.order[i];
                ESPL_CHECK(st, done, fitness(context, e.candidates + k * n, stage, &e.fitness[k]));
            }
            evolution_sort(&e, alive);
            alive = espl_min_i64(alive, o->survivors[stage]);
        }
        memcpy(counts, e.candidates + e.order[0] * n, (size_t)n * sizeof *counts);
        *best = e.fitness[e.order[0]];
    }
done:
    espl_mem_free(&e.candidates);
    espl_mem_free(&e.order);
    espl_mem_free(&e.fitness);
    return st;
}

int64_t espl_search_bytes(const espl_search_options *o, int64_t n) {
    return (o->offspring + 1) * (n * (int64_t)sizeof(int64_t) + (int64_t)(sizeof(int64_t) + sizeof(double)));
}
