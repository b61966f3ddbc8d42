/* EvoPress (Sieberling et al. 2410.14649): evolution of an allocation by level switches, selection in steps. */
#include "espalier/methods/allocate.h"

#include <math.h>
#include <string.h>

typedef struct evolution {
    const espl_search_options *o;
    const int64_t *max;
    int64_t n, level; /* linears; weights of a level */
    espl_search_fitness evaluate;
    void *context;
    int64_t *candidates; /* [offspring + 1, n], the parent last */
    int64_t *order;      /* [offspring + 1] */
    double *fitness;     /* [offspring + 1] */
    int64_t spent;
    espl_rng rng;
} evolution;

static bool may_lose(const evolution *e, const int64_t *counts, int64_t i) { return counts[i] + e->level <= e->max[i]; }

static bool may_gain(const evolution *e, const int64_t *counts, int64_t i) { return counts[i] >= e->level; }

/* A linear that may, at random; -1 if there is none but `other`. */
static int64_t draw(evolution *e, const int64_t *counts, bool (*may)(const evolution *, const int64_t *, int64_t),
                    int64_t other) {
    int64_t left = 0;
    for (int64_t i = 0; i < e->n; i++) left += i != other && may(e, counts, i);
    if (left == 0) return -1;
    left = espl_rng_below(&e->rng, left);
    for (int64_t i = 0;; i++)
        if (i != other && may(e, counts, i) && left-- == 0) return i;
}

static void switch_levels(evolution *e, int64_t *counts) {
    int64_t a = espl_rng_below(&e->rng, 3), b = espl_rng_below(&e->rng, 3);
    for (int64_t k = 1 + (a < b ? a : b); k > 0; k--) {
        int64_t loses = draw(e, counts, may_lose, -1), gains = loses < 0 ? -1 : draw(e, counts, may_gain, loses);
        if (gains < 0) return;
        counts[loses] += e->level;
        counts[gains] -= e->level;
    }
}

static void breed(evolution *e, const int64_t *parent) {
    for (int64_t k = 0; k <= e->o->offspring; k++) {
        int64_t *child = e->candidates + k * e->n;
        memcpy(child, parent, (size_t)e->n * sizeof *child);
        if (k < e->o->offspring) switch_levels(e, child);
        e->order[k] = k;
    }
}

/* Sorts the first n of the order by fitness; earlier candidates win among equals, what is not a number loses. */
static void sort_order(evolution *e, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        int64_t k = e->order[i], j = i;
        double mine = isnan(e->fitness[k]) ? INFINITY : e->fitness[k];
        for (; j > 0 && !(e->fitness[e->order[j - 1]] <= mine); j--) e->order[j] = e->order[j - 1];
        e->order[j] = k;
    }
}

/* One step of selection among the first n of the order. */
static espl_status select_stage(evolution *e, int64_t n, int64_t stage) {
    for (int64_t i = 0; i < n; i++) {
        int64_t k = e->order[i];
        ESPL_TRY(e->evaluate(e->context, e->candidates + k * e->n, stage, &e->fitness[k]));
        e->spent++;
    }
    sort_order(e, n);
    return ESPL_OK;
}

static espl_status generation(evolution *e, int64_t *counts, double *best) {
    int64_t alive = e->o->offspring;
    breed(e, counts);
    for (int64_t s = 0; s < e->o->stages; s++) {
        if (s == e->o->stages - 1) e->order[alive++] = e->o->offspring; /* the parent */
        ESPL_TRY(select_stage(e, alive, s));
        alive = espl_min_i64(alive, e->o->survivors[s]);
    }
    memcpy(counts, e->candidates + e->order[0] * e->n, (size_t)e->n * sizeof *counts);
    *best = e->fitness[e->order[0]];
    return ESPL_OK;
}

static espl_status prepare(evolution *e, const int64_t *weights) {
    const espl_search_options *o = e->o;
    int64_t smallest = weights[0], slots = o->offspring + 1;
    if (o->offspring < 1 || o->stages < 1 || o->stages > ESPL_SEARCH_STAGES || o->survivors[o->stages - 1] != 1 ||
        !(o->step > 0 && o->step <= 1))
        return ESPL_FAIL(ESPL_CONFIG, "a search of %lld offspring, %lld stages and steps of %g",
                         (long long)o->offspring, (long long)o->stages, o->step);
    for (int64_t s = 0; s < o->stages; s++)
        if (o->survivors[s] < 1)
            return ESPL_FAIL(ESPL_CONFIG, "no survivors of stage %lld of the search", (long long)s);
    for (int64_t i = 1; i < e->n; i++) smallest = espl_min_i64(smallest, weights[i]);
    e->level = (int64_t)(o->step * (double)smallest) > 1 ? (int64_t)(o->step * (double)smallest) : 1;
    espl_rng_seed(&e->rng, o->seed, 0, 0x5EA2C4);
    ESPL_TRY(espl_mem_alloc(&e->candidates, slots * e->n, sizeof *e->candidates, "candidates"));
    ESPL_TRY(espl_mem_alloc(&e->order, slots, sizeof *e->order, "candidates"));
    return espl_mem_alloc(&e->fitness, slots, sizeof *e->fitness, "candidates");
}

espl_status espl_allocate_search(const espl_search_options *o, int64_t evaluations, const int64_t *weights,
                                 const int64_t *max, int64_t n, espl_search_fitness fitness, void *context,
                                 int64_t *counts, double *best) {
    evolution e = {.o = o, .max = max, .n = n, .evaluate = fitness, .context = context};
    espl_status st = prepare(&e, weights);
    *best = NAN;
    while (st == ESPL_OK && e.spent < evaluations) st = generation(&e, counts, best);
    espl_mem_free(&e.candidates);
    espl_mem_free(&e.order);
    espl_mem_free(&e.fitness);
    return st;
}

int64_t espl_search_bytes(const espl_search_options *o, int64_t n) {
    return (o->offspring + 1) * (n * (int64_t)sizeof(int64_t) + (int64_t)(sizeof(int64_t) + sizeof(double)));
}
