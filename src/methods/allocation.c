/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many weights each linear loses: from the pattern, from measures of the dense model, or by search.
 */
#include "driver.h"

#include <math.h>
#include <string.h>

#include "espalier/methods/allocate.h"
#include "espalier/prune/linear.h"

/* ------------------------------------------------------------------ search */

typedef struct candidates {
    method_driver *driver;
    float **norms; /* [slice layers, inputs of a block], each [in], of the dense model */
    int64_t *max;  /* [linears] weights that each linear may lose */
} candidates;

/* [layers, inputs of a block] norms in one buffer. */
static void candidates_take(candidates *c, const method_plan *plan, int64_t layers, pool *buffers) {
    int64_t floats = 0;
    for (int i = 0; i < plan->inputs; i++) floats += espl_input_size(plan->config, i);
    float *all = espl_pool_take(buffers, layers, (size_t)floats * sizeof *all, "norms of the dense model");
    c->norms = espl_pool_take(buffers, layers * plan->inputs, sizeof *c->norms, "norms of the dense model");
    c->max = espl_pool_take(buffers, plan->linears, sizeof *c->max, "search limits");
    if (buffers->counting || buffers->st != ESPL_OK) return;
    for (int64_t i = 0; i < layers * plan->inputs; i++) {
        c->norms[i] = all;
        all += espl_input_size(plan->config, (int)(i % plan->inputs));
    }
}

/* Collective. Fitness of the model with the masks of an allocation, by the score on the dense model's activations. */
static espl_status candidate_fitness(void *context, const int64_t *counts, int64_t stage, double *fitness) {
    const candidates *c = context;
    method_driver *driver = c->driver;
    const espl_method_options *o = driver->plan.o;
    espl_range linears = driver->masks->linears;
    espl_status st = ESPL_OK;
    for (int64_t index = linears.first; index < linears.last && st == ESPL_OK; index++) {
        int64_t i = index - linears.first;
        const espl_linear *l = espl_model_linear(driver->m, index);
        uint64_t *mask = espl_masks_of(driver->masks, index);
        espl_scoring by = {.score = o->score, .gradient = driver->gradients ? driver->gradients[i] : NULL};
        if (driver->rows) by.rows = espl_curvature_rows(driver, index);
        by.norm = c->norms[i / driver->plan.places * driver->plan.inputs + espl_input_of(i % driver->plan.places)];
        /* The same count means the same mask: most linears keep that of the candidate before. */
        if (l->out * l->in - espl_mask_count(mask, l->out, l->in) == counts[index]) continue;
        espl_mask_fill(mask, l->out, l->in);
        st = espl_prune_linear(l, &by, &o->pattern, counts[index], mask, espl_model_workspace(driver->m));
    }
    ESPL_TRY(espl_comm_agree(driver->comm, st));
    return o->fitness(o->context, stage, fitness);
}

/* Collective. Evolves driver->counts, from a uniform allocation on. The model is dense again afterwards. */
static espl_status allocate_by_search(method_driver *driver) {
    const method_plan *plan = &driver->plan;
    candidates c = {.driver = driver};
    pool buffers = {0};
    int64_t layers = espl_range_count(espl_model_slice(driver->m));
    double best;
    espl_status st;
    candidates_take(&c, plan, layers, &buffers);
    ESPL_CHECK(st, done, espl_comm_agree(driver->comm, buffers.st));
    ESPL_CHECK(st, done, espl_survey_run(driver, NULL, c.norms));
    for (int64_t i = 0; i < layers * plan->inputs; i++) /* the first replica has measured them */
        espl_comm_broadcast(espl_comm_grid(driver->comm)->peers, c.norms[i],
                            espl_input_size(plan->config, (int)(i % plan->inputs)) * (int64_t)sizeof *c.norms[i], 0);
    (void)espl_plan_limits(plan, driver->weights, c.max);
    /* The candidates' masks are in effect in the model while its fitness is computed, also those of the other ranks. */
    espl_masks_clear(driver->masks);
    espl_masks_apply(driver->masks);
    st = espl_comm_agree(driver->comm,
                         espl_allocate_search(&plan->o->search, plan->o->search_evaluations, driver->weights, c.max,
                                              plan->linears, candidate_fitness, &c, driver->counts, &best));
    espl_masks_apply_dense(driver->masks);
done:
    espl_pool_free(&buffers);
    return st;
}

/* -------------------------------------------------------------- allocation */

/* Sparsities [linears] from what the survey measured. blocks [layers] and by_block [layers] are scratch. */
static void from_survey(const method_driver *driver, const double *values, double *blocks, double *by_block,
                        double *sparsity) {
    const espl_method_options *o = driver->plan.o;
    int64_t layers = driver->plan.config->layers, linears = driver->plan.linears, places = driver->plan.places;
    double beta = o->lsa_beta < 0 ? espl_lsa_beta(o->target) : o->lsa_beta;
    if (o->allocation == ESPL_ALLOCATION_LSA_LINEAR) {
        espl_allocate_lsa(values, driver->weights, linears, o->target, beta, sparsity);
        return;
    }
    /* Per block: OWL has one value at the first linear and zeros after it; LSA sums its errors (the mean over a block's
     * linears is the same up to a factor, which the scaling removes). */
    memset(blocks, 0, (size_t)layers * sizeof *blocks);
    for (int64_t i = 0; i < linears; i++) blocks[i / places] += values[i];
    if (o->allocation == ESPL_ALLOCATION_OWL)
        espl_allocate_owl(blocks, layers, o->target, o->owl_lambda, by_block);
    else
        espl_allocate_lsa(blocks, NULL, layers, o->target, beta, by_block);
    for (int64_t i = 0; i < linears; i++) sparsity[i] = by_block[i / places];
}

espl_status espl_driver_allocate(method_driver *driver) {
    const method_plan *plan = &driver->plan;
    const espl_method_options *o = plan->o;
    int64_t layers = plan->config->layers, linears = plan->linears;
    pool buffers = {0};
    espl_status st;
    if (espl_pattern_is_n_m(o->pattern)) {
        for (int64_t i = 0; i < linears; i++) {
            int64_t out, in;
            espl_plan_shape(plan->config, i % plan->places, &out, &in);
            driver->counts[i] = espl_method_cap(o, i) > 0 ? espl_prune_pattern_count(&o->pattern, out, in) : 0;
        }
        return ESPL_OK;
    }
    if (o->allocation == ESPL_ALLOCATION_GLOBAL) return espl_curvature_allocate(driver);
    double *values = espl_pool_take(&buffers, linears, sizeof *values, "allocation");
    double *sparsity = espl_pool_take(&buffers, linears, sizeof *sparsity, "allocation");
    double *blocks = espl_pool_take(&buffers, 2 * layers, sizeof *blocks, "allocation");
    int64_t *max = espl_pool_take(&buffers, linears, sizeof *max, "allocation");
    ESPL_CHECK(st, done, espl_comm_agree(driver->comm, buffers.st));
    for (int64_t i = 0; i < linears; i++)
        sparsity[i] = o->allocation == ESPL_ALLOCATION_GIVEN ? o->given[i] : o->target;
    if (plan->surveys && o->allocation != ESPL_ALLOCATION_SEARCH) {
        ESPL_CHECK(st, done, espl_survey_run(driver, values, NULL));
        from_survey(driver, values, blocks, blocks + layers, sparsity);
    }
    int64_t total = espl_plan_limits(plan, driver->weights, max);
    ESPL_CHECK(st, done, espl_allocate_exact(sparsity, driver->weights, max, linears, total, driver->counts));
    if (o->allocation == ESPL_ALLOCATION_SEARCH) ESPL_CHECK(st, done, allocate_by_search(driver));
done:
    espl_pool_free(&buffers);
    return st;
}

int64_t espl_allocation_bytes(const method_plan *plan, espl_range slice) {
    const espl_method_options *o = plan->o;
    int64_t bytes = (3 * plan->linears + 2 * plan->config->layers) * (int64_t)sizeof(double), linear = 0;
    if (espl_pattern_is_n_m(o->pattern)) return 0;
    if (o->allocation == ESPL_ALLOCATION_GLOBAL) return espl_curvature_allocation_bytes(plan, slice);
    if (!plan->surveys) return bytes;
    if (o->allocation != ESPL_ALLOCATION_SEARCH) return bytes + espl_survey_bytes(plan);
    candidates c;
    pool buffers = {.counting = true};
    candidates_take(&c, plan, espl_range_count(slice), &buffers);
    for (int k = 0; k < plan->places; k++) {
        int64_t out, in;
        espl_plan_shape(plan->config, k, &out, &in);
        linear = espl_max_i64(linear, espl_prune_linear_bytes(o->score, &o->pattern, out, in));
    }
    return bytes + buffers.bytes +
           espl_max_i64(espl_survey_bytes(plan), espl_search_bytes(&o->search, plan->linears) + linear);
}
