/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of the one-shot methods: gradients of the model's loss if the score needs them, the allocation, then one
 * pass that prunes block after block.
 *
 * All ranks work on the same block: each runs its share of the samples through it, the owner of an input prunes the
 * linears of that input, and masks and weights travel to all ranks before the next block. Only the ranks whose slice
 * holds the block keep them, one of each replica.
 */
#include "espalier/methods/oneshot.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "driver.h"
#include "espalier/model/calibration.h"
#include "espalier/prune/linear.h"
#include "espalier/prune/sparsegpt.h"

static const float GRADIENT_WEIGHT = 100; /* GBLM's scale and Wanda++'s alpha */

/* ----------------------------------------------------------- pruning pass */

typedef struct pruning_pass {
    method_driver *driver;
    block_pass pass;
    uint64_t **masks; /* [places] of the block */
    void **weights;   /* [places] SparseGPT: updated weights, in the linear's dtype (at most f32) */
    float *norm;      /* [largest in] of the input that is worked on */
    float *matrix;    /* [most weights of a linear] updated weights, or regional gradients */
    float *factor;    /* [largest in, largest in] */
    bool *dead;       /* [largest in] */
} pruning_pass;

static void pruning_take(pruning_pass *p, const method_plan *plan, espl_comm *comm, espl_block *block, pool *buffers) {
    const espl_model_config *config = plan->config;
    int64_t in, out, weights;
    espl_pass_take(&p->pass, plan, &plan->prune, comm, block, buffers);
    p->masks = espl_pool_take(buffers, plan->places, sizeof *p->masks, "block masks");
    p->weights = espl_pool_take(buffers, plan->places, sizeof *p->weights, "block weights");
    for (int k = 0; k < plan->places; k++) {
        espl_plan_shape(config, k, &out, &in);
        void *mask = espl_pool_take(buffers, 1, (size_t)espl_mask_bytes(out, in), "block masks"), *updated = NULL;
        if (plan->updating) updated = espl_pool_take(buffers, out * in, sizeof(float), "block weights");
        if (p->masks) p->masks[k] = mask;
        if (p->weights) p->weights[k] = updated;
    }
    espl_plan_largest(config, &in, &out, &weights);
    if (plan->prune.squares) p->norm = espl_pool_take(buffers, in, sizeof *p->norm, "activation norms");
    if (plan->updating || plan->prune.gradients)
        p->matrix = espl_pool_take(buffers, weights, sizeof *p->matrix, "a linear");
    if (!plan->updating) return;
    p->factor = espl_pool_take(buffers, in, (size_t)in * sizeof *p->factor, "Hessian factor");
    p->dead = espl_pool_take(buffers, in, sizeof *p->dead, "dead features");
}

/* Local. Prunes one linear of the loaded block, whose input is prepared: the mask, and with SparseGPT the weights. */
static espl_status prune_linear(pruning_pass *p, int64_t index) {
    method_driver *driver = p->driver;
    const espl_method_options *o = driver->plan.o;
    espl_layout layout = espl_model_layout(driver->plan.config);
    int64_t kind = espl_linear_place_of(layout, index);
    const espl_linear *l = espl_block_linear(driver->block, kind);
    int64_t n = l->out * l->in, lost;
    espl_workspace *ws = espl_model_workspace(driver->m);
    char name[ESPL_LINEAR_NAME_MAX];
    espl_mask_fill(p->masks[kind], l->out, l->in);
    if (espl_method_cap(o, index) == 0) { /* an N:M pattern would prune it, whatever its count */
        if (driver->plan.updating) memcpy(p->weights[kind], l->weight, (size_t)n * espl_dtype_size(l->dtype));
    } else if (driver->plan.updating) {
        double loss;
        espl_sparsegpt_options by = {.factor = p->factor, .dead = p->dead, .pattern = o->pattern};
        by.count = driver->counts[index], by.block = o->block;
        if (driver->plan.outputs) by.rows = espl_curvature_rows(driver, index);
        ESPL_TRY(espl_prune_sparsegpt(l, &by, p->masks[kind], p->matrix, &loss, ws));
        espl_tensor_narrow(p->matrix, n, l->dtype, p->weights[kind]);
        ESPL_DEBUG("%s: SparseGPT loss %g", espl_linear_name(layout, index, name), loss);
    } else {
        espl_scoring by = {.score = o->score, .norm = p->norm};
        if (driver->plan.prune.gradients) {
            const double *sum = p->pass.s.gradients[kind].total;
            by.gradient = p->matrix;
#pragma omp parallel for schedule(static)
            for (int64_t i = 0; i < n; i++)
                p->matrix[i] = (float)((double)GRADIENT_WEIGHT * sqrt(sum[i] / (double)o->samples));
        }
        if (driver->gradients) by.gradient = driver->gradients[index - driver->masks->linears.first];
        ESPL_TRY(espl_prune_linear(l, &by, &o->pattern, driver->counts[index], p->masks[kind], ws));
    }
    /* Every count is exact by construction: anything else is a bug, found here rather than in a result. */
    lost = n - espl_mask_count(p->masks[kind], l->out, l->in);
    if (lost != driver->counts[index])
        return ESPL_FAIL(ESPL_INTERNAL, "%s lost %" PRId64 " weights; expected %" PRId64,
                         espl_linear_name(layout, index, name), lost, driver->counts[index]);
    return ESPL_OK;
}

/* Local. Prunes the linears of the inputs that this rank owns. */
static espl_status pruning_block(void *context, int64_t layer) {
    pruning_pass *p = context;
    const method_plan *plan = &p->driver->plan;
    const espl_method_options *o = plan->o;
    espl_layout layout = espl_model_layout(plan->config);
    for (int i = 0; i < plan->inputs; i++) {
        if (espl_plan_owner(plan, &plan->prune, layer, i) != plan->rank) continue;
        if (plan->prune.grams)
            ESPL_TRY(espl_prune_factor(p->pass.s.grams[i].total, espl_input_size(plan->config, i),
                                       2.0 / (double)o->samples, o->damping, p->factor, p->dead));
        /* Scores that add a gradient use the norm averaged over samples: there its scale matters. */
        if (plan->prune.squares) espl_statistics_norm(&p->pass.s, i, espl_score_needs_gradients(o->score), p->norm);
        for (int k = espl_input_first(i); k < espl_input_first(i + 1); k++)
            ESPL_TRY(prune_linear(p, espl_linear_index(layout, layer, k)));
    }
    return ESPL_OK;
}

/* Collective. Broadcasts the block's masks and updated weights from their owners. All ranks compute the block's outputs
 * with them; the ranks of its slice keep them. */
static void pruning_publish(void *context, int64_t layer) {
    pruning_pass *p = context;
    method_driver *driver = p->driver;
    const method_plan *plan = &driver->plan;
    for (int k = 0; k < plan->places; k++) {
        espl_linear *l = espl_block_linear(driver->block, k);
        int owner = espl_plan_owner(plan, &plan->prune, layer, espl_input_of(k));
        int64_t index = espl_linear_index(espl_model_layout(plan->config), layer, k),
                mask_bytes = espl_mask_bytes(l->out, l->in);
        espl_comm_broadcast(driver->comm, p->masks[k], mask_bytes, owner);
        l->mask = p->masks[k];
        if (espl_driver_mine(driver, layer)) memcpy(espl_masks_of(driver->masks, index), l->mask, (size_t)mask_bytes);
        if (!plan->updating) continue;
        int64_t weight_bytes = l->out * l->in * (int64_t)espl_dtype_size(l->dtype);
        espl_comm_broadcast(driver->comm, p->weights[k], weight_bytes, owner);
        l->weight = p->weights[k];
        if (espl_driver_mine(driver, layer))
            memcpy(espl_masks_update_of(driver->masks, index), l->weight, (size_t)weight_bytes);
    }
}

int64_t espl_pruning_bytes(const method_plan *plan) {
    const espl_method_options *o = plan->o;
    pruning_pass p = {0};
    pool buffers = {.counting = true};
    int64_t kernel = 0;
    if (!plan->direct) pruning_take(&p, plan, NULL, NULL, &buffers);
    for (int k = 0; k < plan->places; k++) {
        int64_t out, in;
        if (!plan->direct && !espl_plan_may_own(plan, &plan->prune, espl_input_of(k))) continue;
        espl_plan_shape(plan->config, k, &out, &in);
        int64_t bytes = plan->updating
                            ? espl_max_i64(espl_prune_factor_bytes(in), espl_prune_sparsegpt_bytes(out, in, o->block))
                            : espl_prune_linear_bytes(o->score, &o->pattern, out, in);
        kernel = espl_max_i64(kernel, bytes);
    }
    return buffers.bytes + kernel;
}

/* ------------------------------------------------------------------ driver */

static espl_status check_options(const method_driver *driver) {
    const espl_method_options *o = driver->plan.o;
    const int64_t vocab = driver->plan.config->vocab;
    ESPL_TRY(espl_method_check(o));
    if (espl_score_needs_outputs(o->score) && !(o->curvature_power >= 0 && o->curvature_power <= 1))
        return ESPL_FAIL(ESPL_CONFIG, "score \"%s\" with power %g, expected 0 to 1", espl_score_name(o->score),
                         o->curvature_power);
    if (o->allocation == ESPL_ALLOCATION_GIVEN && !o->given)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"file\" without sparsities");
    if (o->allocation == ESPL_ALLOCATION_SEARCH && !o->fitness)
        return ESPL_FAIL(ESPL_CONFIG, "allocation \"search\" without a fitness");
    if (driver->plan.updating && !driver->masks->updates)
        return ESPL_FAIL(ESPL_USAGE, "SparseGPT without buffers for updated weights");
    for (int64_t i = 0; i < o->samples * o->window; i++)
        if (driver->ids[i] < 0 || driver->ids[i] >= vocab)
            return ESPL_FAIL(ESPL_USAGE, "token id %" PRId32 " is outside the model's vocabulary of %" PRId64,
                             driver->ids[i], vocab);
    return ESPL_OK;
}

/* Buffers of the driver. GBLM: a float for every weight of the slice; curvature: one for every input and output. */
static void driver_take(method_driver *driver, const method_plan *plan, espl_range slice, pool *buffers) {
    int64_t out, in, n = espl_range_count(slice) * plan->places;
    driver->slices = espl_pool_take(buffers, plan->ranks, sizeof *driver->slices, "slices");
    driver->counts = espl_pool_take(buffers, plan->linears, sizeof *driver->counts, "counts");
    driver->weights = espl_pool_take(buffers, plan->linears, sizeof *driver->weights, "counts");
    espl_curvature_take(driver, plan, slice, buffers);
    if (!plan->model_gradients) return;
    float *all = espl_pool_take(buffers, espl_range_count(slice),
                                (size_t)espl_model_layer_linear_weights(plan->config) * sizeof *all, "gradients");
    driver->gradients = espl_pool_take(buffers, n, sizeof *driver->gradients, "gradients");
    if (!all || !driver->gradients) return;
    for (int64_t i = 0; i < n; i++) {
        espl_plan_shape(plan->config, i % plan->places, &out, &in);
        driver->gradients[i] = all;
        all += out * in;
    }
}

int64_t espl_driver_bytes(const method_plan *plan, espl_range slice) {
    method_driver driver;
    pool buffers = {.counting = true};
    driver_take(&driver, plan, slice, &buffers);
    return buffers.bytes + espl_block_bytes(plan->config, plan->o->window, plan->prune.gradients);
}

/* Collective. GBLM: 100 sqrt(sum over the samples of g^2) of each weight of the slice, g of the dense model's loss. */
static espl_status model_gradients(method_driver *driver) {
    espl_calibration_options o = {.window = driver->plan.o->window, .backward = driver->plan.o->samples};
    espl_calibration c;
    o.gradient_squares = driver->gradients;
    ESPL_TRY(espl_model_calibrate(driver->m, &o, driver->ids, NULL, NULL, &c));
    espl_calibration_free(&c);
    for (int64_t i = 0; driver->gradients && i < espl_range_count(driver->masks->linears); i++) {
        float *g = driver->gradients[i];
        int64_t n = driver->weights[i]; /* blocks are alike: those of the slice have the weights of the first ones */
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < n; j++) g[j] = GRADIENT_WEIGHT * sqrtf(g[j]);
    }
    return ESPL_OK;
}

/* Local. Everything that the driver holds through all phases. */
static espl_status driver_prepare(method_driver *driver, pool *buffers) {
    const espl_model_config *config = driver->plan.config;
    driver_take(driver, &driver->plan, espl_model_slice(driver->m), buffers);
    ESPL_TRY(buffers->st);
    ESPL_TRY(
        espl_model_partition(config, espl_model_options_of(driver->m)->context, driver->plan.stages, driver->slices));
    ESPL_TRY(espl_block_create(driver->m, driver->plan.o->window, driver->plan.prune.gradients, &driver->block));
    for (int64_t i = 0; i < driver->plan.linears; i++) {
        int64_t out, in;
        espl_plan_shape(config, i % driver->plan.places, &out, &in);
        driver->weights[i] = out * in;
    }
    return ESPL_OK;
}

espl_status espl_method_run(espl_comm *comm, const espl_method_options *o, const int32_t *ids, espl_masks *masks,
                            int64_t *counts) {
    method_driver driver = {.comm = comm, .masks = masks, .m = masks->m, .ids = ids};
    pruning_pass pruning = {.driver = &driver,
                            .pass = {.context = &pruning, .work = pruning_block, .publish = pruning_publish}};
    pool buffers = {0}, pass_buffers = {0};
    espl_status st;
    driver.plan = espl_plan_make(espl_model_config_of(driver.m), o, espl_comm_rank(comm), espl_comm_size(comm));
    driver.plan.stages = espl_comm_grid(comm)->stages;
    st = check_options(&driver);
    if (st == ESPL_OK) st = driver_prepare(&driver, &buffers);
    driver.plan.slices = driver.slices;
    /* Local so far; each phase below agrees by itself. The masks stay as they are unless every rank is prepared. */
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    /* Every method starts from the dense model: its gradients, and what the survey and the search measure. */
    masks->updated = false;
    espl_masks_apply_dense(masks);
    if (driver.plan.model_gradients) ESPL_CHECK(st, done, model_gradients(&driver));
    if (driver.plan.outputs) ESPL_CHECK(st, done, espl_curvature_measure(&driver));
    ESPL_CHECK(st, done, espl_driver_allocate(&driver));
    if (driver.plan.direct) {
        ESPL_CHECK(st, done, espl_comm_agree(comm, espl_curvature_prune(&driver)));
    } else {
        pruning_take(&pruning, &driver.plan, comm, driver.block, &pass_buffers);
        ESPL_CHECK(st, done, espl_pass_run(&pruning.pass, ids));
    }
    masks->updated = driver.plan.updating;
    espl_masks_apply(masks);
    if (counts) memcpy(counts, driver.counts, (size_t)driver.plan.linears * sizeof *counts);
done:
    espl_pool_free(&pass_buffers);
    espl_pool_free(&buffers);
    espl_block_destroy(&driver.block);
    return st;
}
