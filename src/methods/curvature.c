/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Score curvature: statistics of the dense model from one calibration pass with gradients, the global allocation over
 * them, and masks straight from them.
 *
 * Norms stay with the slice that they belong to. Row factors are few, and SparseGPT works on the linears of all blocks
 * on all ranks, so every rank has those of the whole model.
 */
#include "driver.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "espalier/methods/allocate.h"
#include "espalier/methods/curvature.h"
#include "espalier/model/calibration.h"
#include "espalier/prune/linear.h"
#include "espalier/tensor/statistics.h"

/* Offsets of the linear at a place of a block, in the norms and in the row factors of its layer. */
static int64_t norms_at(const espl_model_config *c, int64_t at) {
    int input = espl_input_of(at);
    int64_t floats = 0, mlp = (input - ATTENTION_INPUTS) / MLP_INPUTS;
    if (input >= ATTENTION_INPUTS) floats = mlp * (c->hidden + c->ffn);
    for (int i = 0; i < (input < ATTENTION_INPUTS ? input : input - MLP_INPUTS * (int)mlp); i++)
        floats += espl_input_size(c, i);
    return floats;
}

static int64_t rows_at(const espl_model_config *c, int64_t at) {
    int64_t out, in, floats = 0, mlp = at < ESPL_GATE_PROJ ? 0 : (at - ESPL_GATE_PROJ) / ESPL_MLP_LINEARS;
    for (int64_t k = 0; k < at - ESPL_MLP_LINEARS * mlp; k++) {
        espl_plan_shape(c, k, &out, &in);
        floats += out;
    }
    return floats + mlp * (2 * c->ffn + c->hidden);
}

void espl_curvature_take(method_driver *driver, const method_plan *plan, espl_range slice, pool *buffers) {
    if (!plan->outputs) return;
    driver->norms = espl_pool_take(buffers, espl_range_count(slice),
                                   (size_t)norms_at(plan->config, plan->places) * sizeof *driver->norms,
                                   "norms of the dense model");
    driver->rows = espl_pool_take(buffers, plan->config->layers,
                                  (size_t)rows_at(plan->config, plan->places) * sizeof *driver->rows, "row factors");
}

const float *espl_curvature_rows(const method_driver *driver, int64_t index) {
    const method_plan *p = &driver->plan;
    return driver->rows + index / p->places * rows_at(p->config, p->places) + rows_at(p->config, index % p->places);
}

static float *curvature_norms(const method_driver *driver, int64_t index) {
    const method_plan *p = &driver->plan;
    int64_t layer = index / p->places - espl_model_slice(driver->m).first;
    return driver->norms + layer * norms_at(p->config, p->places) + norms_at(p->config, index % p->places);
}

static espl_scoring curvature_scoring(const method_driver *driver, int64_t index) {
    return (espl_scoring){.score = ESPL_SCORE_CURVATURE,
                          .norm = curvature_norms(driver, index),
                          .rows = espl_curvature_rows(driver, index)};
}

static espl_status curvature_calibrate(method_driver *driver, espl_calibration *c) {
    const espl_method_options *o = driver->plan.o;
    espl_calibration_options wanted = {.window = o->window, .forward = o->samples, .backward = o->gradient_samples};
    ESPL_TRY(espl_model_calibrate(driver->m, &wanted, driver->ids, NULL, NULL, c));
    if (!o->topics) return ESPL_OK;
    return espl_model_calibrate_knowledge(driver->m, o->topics, o->topic_window, o->knowledge_share, c);
}

/* Collective. Fills norms and row factors from a calibration. */
static espl_status curvature_fill(method_driver *driver, const espl_calibration *c, double power) {
    espl_range mine = espl_model_slice(driver->m);
    int64_t in, out, weights, stride = rows_at(driver->plan.config, driver->plan.places);
    double *importance;
    espl_plan_largest(driver->plan.config, &in, &out, &weights);
    ESPL_TRY(espl_comm_agree(driver->comm, espl_mem_alloc(&importance, out, sizeof *importance, "importance")));
    for (int64_t index = c->linears.first; index < c->linears.last; index++) {
        const espl_linear *l = espl_model_linear(driver->m, index);
        float *rows = driver->rows + (espl_curvature_rows(driver, index) - driver->rows);
        espl_calibration_norms(c, index, l->in, curvature_norms(driver, index));
        espl_calibration_importance(c, index, l->out, importance);
        espl_tensor_row_factors(importance, l->out, 1, power, rows);
    }
    espl_mem_free(&importance);
    espl_comm *pipeline = espl_comm_grid(driver->comm)->pipeline;
    espl_status st =
        espl_comm_gather_records(pipeline, driver->rows + mine.first * stride, espl_range_count(mine),
                                 (size_t)stride * sizeof *driver->rows, driver->plan.config->layers, driver->rows);
    ESPL_TRY(espl_comm_agree(driver->comm, st));
    espl_comm_broadcast(pipeline, driver->rows, driver->plan.config->layers * stride * (int64_t)sizeof *driver->rows,
                        0);
    return ESPL_OK;
}

espl_status espl_curvature_measure(method_driver *driver) {
    espl_calibration c;
    ESPL_TRY(curvature_calibrate(driver, &c));
    espl_status st = curvature_fill(driver, &c, driver->plan.o->curvature_power);
    espl_calibration_free(&c);
    return st;
}

espl_status espl_curvature_allocate(method_driver *driver) {
    espl_range mine = driver->masks->linears;
    int64_t n = espl_range_count(mine), linears = driver->plan.linears, *max;
    espl_scored_linear *own;
    pool buffers = {0};
    espl_status st;
    max = espl_pool_take(&buffers, linears, sizeof *max, "limits of the linears");
    own = espl_pool_take(&buffers, n, sizeof *own, "scored linears");
    ESPL_CHECK(st, done, espl_comm_agree(driver->comm, buffers.st));
    int64_t wanted = espl_plan_limits(&driver->plan, driver->weights, max);
    for (int64_t i = 0; i < linears; i++) max[i] = espl_min_i64(max[i], driver->weights[i] - 1);
    espl_masks_clear(driver->masks);
    for (int64_t i = 0; i < n; i++)
        own[i] = (espl_scored_linear){.l = espl_model_linear(driver->m, mine.first + i),
                                      .mask = espl_masks_of(driver->masks, mine.first + i),
                                      .by = curvature_scoring(driver, mine.first + i)};
    st = espl_allocate_global(driver->comm, own, mine.first, n, max, linears, wanted, driver->counts,
                              espl_model_workspace(driver->m));
done:
    espl_pool_free(&buffers);
    return st;
}

espl_status espl_curvature_prune(method_driver *driver) {
    const espl_method_options *o = driver->plan.o;
    espl_range mine = driver->masks->linears;
    char name[ESPL_LINEAR_NAME_MAX];
    espl_masks_clear(driver->masks);
    for (int64_t index = mine.first; index < mine.last; index++) {
        const espl_linear *l = espl_model_linear(driver->m, index);
        uint64_t *mask = espl_masks_of(driver->masks, index);
        espl_scoring by = curvature_scoring(driver, index);
        ESPL_TRY(espl_prune_linear(l, &by, &o->pattern, driver->counts[index], mask, espl_model_workspace(driver->m)));
        int64_t lost = l->out * l->in - espl_mask_count(mask, l->out, l->in);
        if (lost != driver->counts[index])
            return ESPL_FAIL(ESPL_INTERNAL, "%s lost %" PRId64 " weights; expected %" PRId64,
                             espl_linear_name(espl_model_layout(driver->plan.config), index, name), lost,
                             driver->counts[index]);
        espl_comm_progress(driver->comm);
    }
    return ESPL_OK;
}

int64_t espl_curvature_allocation_bytes(const method_plan *plan, espl_range slice) {
    int64_t n = espl_range_count(slice) * plan->places;
    return plan->linears * (int64_t)sizeof(int64_t) + n * (int64_t)sizeof(espl_scored_linear) +
           espl_allocate_global_bytes(n, plan->linears);
}

/* ---------------------------------------------------------------- exponent */

const double espl_curvature_powers[ESPL_CURVATURE_POWERS] = {0, 0.25, 0.5, 0.75, 1};

espl_status espl_curvature_choose_power(espl_comm *comm, const espl_method_options *o, const int32_t *ids,
                                        espl_masks *masks, double *losses, double *power) {
    espl_method_options global = *o;
    method_driver driver = {.comm = comm, .masks = masks, .m = masks->m, .ids = ids};
    const espl_model_config *config = espl_model_config_of(driver.m);
    espl_calibration c = {0};
    pool buffers = {0};
    espl_status st;
    int best = ESPL_CURVATURE_POWERS - 1;
    global.score = ESPL_SCORE_CURVATURE;
    global.update = ESPL_UPDATE_NONE;
    global.allocation = ESPL_ALLOCATION_GLOBAL;
    global.pattern = (espl_pattern){.group = ESPL_GROUP_LAYER};
    driver.plan = espl_plan_make(config, &global, espl_comm_rank(comm), espl_comm_size(comm));
    driver.counts = espl_pool_take(&buffers, driver.plan.linears, sizeof *driver.counts, "counts");
    driver.weights = espl_pool_take(&buffers, driver.plan.linears, sizeof *driver.weights, "counts");
    espl_curvature_take(&driver, &driver.plan, espl_model_slice(driver.m), &buffers);
    ESPL_CHECK(st, done, espl_comm_agree(comm, buffers.st));
    for (int64_t i = 0; i < driver.plan.linears; i++) {
        int64_t out, in;
        espl_plan_shape(config, i % driver.plan.places, &out, &in);
        driver.weights[i] = out * in;
    }
    espl_masks_apply_dense(masks);
    ESPL_CHECK(st, done, curvature_calibrate(&driver, &c));
    for (int k = ESPL_CURVATURE_POWERS - 1; k >= 0; k--) {
        ESPL_CHECK(st, done, curvature_fill(&driver, &c, espl_curvature_powers[k]));
        ESPL_CHECK(st, done, espl_curvature_allocate(&driver));
        ESPL_CHECK(st, done, espl_comm_agree(comm, espl_curvature_prune(&driver)));
        espl_masks_apply(masks);
        st = o->fitness(o->context, 0, &losses[k]);
        espl_masks_apply_dense(masks);
        ESPL_CHECK(st, done, st);
        if (losses[k] < losses[best] || isnan(losses[best])) best = k;
    }
    *power = espl_curvature_powers[best];
done:
    espl_masks_clear(masks);
    espl_masks_apply_dense(masks);
    espl_calibration_free(&c);
    espl_pool_free(&buffers);
    return st;
}
