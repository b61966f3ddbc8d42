/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New weights for given masks (methods/update.h), in a pass over the blocks like that of a one-shot method: each rank
 * runs its samples, the owner of an input solves for the linears of that input, and the new weights travel to all ranks
 * before the next block. Masks and weights of the state before come from the slice that holds the block.
 *
 * Two states of each sample go through the model side by side: in the pruned model, as updated so far, and with `shift`
 * in the dense one. A block goes in four stages (model/block.h): o_proj learns from what the new q, k and v make, and
 * so on. With the inputs of the dense block instead, a pruned sapling's perplexity is 0.2 to 0.3 higher at 60 %.
 */
#include "espalier/methods/update.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "driver.h"
#include "espalier/prune/linear.h"
#include "espalier/prune/sparsegpt.h"
#include "espalier/prune/update.h"

enum { HELD_OUT = 4, KEPT = -1 }; /* one group of samples in so many is held out; no damping was chosen */

/* Where the reconstruction ends: the error is above its minimum by a share of the residual's square. */
static const double RESIDUAL_TO_COMPARE = 1e-2, RESIDUAL_TO_KEEP = 1e-4;

const double espl_update_dampings[ESPL_UPDATE_DAMPINGS] = {100, 10, 1, 0.1, 0.01};

/* Of an input at its owner; A and D of prune/update.h in f32. */
typedef struct input_moments {
    float *gram, *drift; /* [in, in]; drift NULL: none */
} input_moments;

/* A linear of the loaded block. */
typedef struct updated_linear {
    uint64_t *mask;       /* of the store; zeros of the source are pruned here, so that they stay 0 */
    void *before, *after; /* [out, in] weights in the source's dtype */
    int32_t choice;       /* of the dampings, or KEPT */
    bool pruned;          /* has pruned weights */
    double least;         /* error on held-out windows: of the weights before, or of the best damping so far */
    bool searching;       /* a smaller damping may be better */
} updated_linear;

typedef struct updater {
    espl_comm *comm;
    espl_masks *masks;
    espl_model *m;
    espl_block *block;
    method_plan plan;
    pass_plan wanted;
    block_pass pass;
    bool holds_out, factors;        /* chooses the damping on held-out samples; solves with the factor of the Hessian */
    espl_range learned, held;       /* groups of samples */
    float *dense;                   /* [local, window, hidden] states in the dense model; NULL without shift */
    updated_linear *linears;        /* [places] */
    espl_linear *sources, *current; /* [places] of the loaded block: dense; pruned, and updated so far */
    input_moments *tested;          /* [inputs] of the held-out samples */
    input_moments fitted;           /* of the input that is worked on */
    double *hessian;                /* [largest in, largest in] */
    float *factor;                  /* the same */
    bool *dead;                     /* [largest in] */
    float *matrix;                  /* [most weights of a linear] */
    double *rows;                   /* [most outputs] */
    espl_range *slices;             /* [stages] */
} updater;

/* ----------------------------------------------------------------- buffers */

static void moments_take(input_moments *to, int64_t in, bool drift, pool *buffers) {
    to->gram = espl_pool_take(buffers, in, (size_t)in * sizeof *to->gram, "Hessian");
    to->drift = drift ? espl_pool_take(buffers, in, (size_t)in * sizeof *to->drift, "drift of the inputs") : NULL;
}

static void updater_plan(updater *u, const espl_model_config *config, const espl_method_options *o, int rank,
                         int ranks) {
    u->plan = espl_plan_make(config, o, rank, ranks);
    u->holds_out = espl_update_holds_out(o->update);
    u->factors = o->update != ESPL_UPDATE_RECONSTRUCT;
    u->wanted = (pass_plan){.grams = true, .drifts = u->holds_out && o->shift, .staged = true, .owner = OWNER_INPUT};
    int64_t held = u->holds_out ? espl_max_i64(u->plan.groups / HELD_OUT, 1) : 0;
    u->learned = (espl_range){0, u->plan.groups - held};
    u->held = (espl_range){u->plan.groups - held, u->plan.groups};
}

static void updater_take(updater *u, pool *buffers) {
    const method_plan *plan = &u->plan;
    int64_t in, out, weights;
    espl_plan_largest(plan->config, &in, &out, &weights);
    espl_pass_take(&u->pass, plan, &u->wanted, u->comm, u->block, buffers);
    if (u->wanted.drifts)
        u->dense =
            espl_pool_take(buffers, plan->local, (size_t)(plan->o->window * plan->config->hidden) * sizeof *u->dense,
                           "hidden states of the dense model");
    u->linears = espl_pool_take(buffers, plan->places, sizeof *u->linears, "linears of a block");
    u->sources = espl_pool_take(buffers, plan->places, sizeof *u->sources, "linears of a block");
    u->current = espl_pool_take(buffers, plan->places, sizeof *u->current, "linears of a block");
    u->pass.s.sources = u->sources;
    u->pass.s.current = u->current;
    for (int k = 0; k < plan->places; k++) {
        int64_t rows, columns;
        espl_plan_shape(plan->config, k, &rows, &columns);
        updated_linear none, *l = u->linears ? &u->linears[k] : &none;
        l->mask = espl_pool_take(buffers, 1, (size_t)espl_mask_bytes(rows, columns), "block masks");
        l->before = espl_pool_take(buffers, rows * columns, sizeof(float), "block weights");
        l->after = espl_pool_take(buffers, rows * columns, sizeof(float), "block weights");
    }
    u->tested = espl_pool_take(buffers, plan->inputs, sizeof *u->tested, "Hessian");
    for (int i = 0; i < plan->inputs && u->holds_out; i++) {
        input_moments none, *to = u->tested ? &u->tested[i] : &none;
        if (espl_plan_may_own(plan, &u->wanted, i))
            moments_take(to, espl_input_size(plan->config, i), espl_plan_drifts(plan, &u->wanted, i), buffers);
    }
    moments_take(&u->fitted, in, u->wanted.drifts, buffers);
    if (u->factors) {
        u->hessian = espl_pool_take(buffers, in, (size_t)in * sizeof *u->hessian, "Hessian");
        u->factor = espl_pool_take(buffers, in, (size_t)in * sizeof *u->factor, "Hessian factor");
        u->dead = espl_pool_take(buffers, in, sizeof *u->dead, "dead features");
    }
    u->matrix = espl_pool_take(buffers, weights, sizeof *u->matrix, "a linear");
    u->rows = espl_pool_take(buffers, out, sizeof *u->rows, "errors of rows");
}

int64_t espl_method_update_bytes(const espl_model_config *c, const espl_method_options *o, int rank, int ranks) {
    updater u = {0};
    pool buffers = {.counting = true};
    int64_t kernel = 0;
    updater_plan(&u, c, o, rank, ranks);
    updater_take(&u, &buffers);
    for (int k = 0; k < u.plan.places; k++) {
        int64_t out, in, bytes;
        if (!espl_plan_may_own(&u.plan, &u.wanted, espl_input_of(k))) continue;
        espl_plan_shape(c, k, &out, &in);
        bytes = espl_update_bytes(in);
        if (u.factors)
            bytes = espl_max_i64(
                bytes, espl_max_i64(espl_prune_factor_bytes(in), espl_prune_sparsegpt_bytes(out, in, o->block)));
        kernel = espl_max_i64(kernel, bytes);
    }
    return buffers.bytes + kernel + espl_block_bytes(c, o->window, false);
}

/* -------------------------------------------------------------- the solver */

/* The sums of an input's samples as f32: the Gram matrix whole, from its lower triangle. */
static void moments_read(const updater *u, int input, const input_moments *to) {
    const double *gram = u->pass.s.grams[input].total, *drift = u->pass.s.drifts[input].total;
    int64_t in = espl_input_size(u->plan.config, input);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in; i++)
        for (int64_t j = 0; j < in; j++) to->gram[i * in + j] = (float)(j <= i ? gram[i * in + j] : gram[j * in + i]);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < in * in * (drift != NULL); i++) to->drift[i] = (float)drift[i];
}

/* The held-out sums join those of the other samples. */
static void moments_join(const updater *u, int input) {
    double *gram = u->pass.s.grams[input].total, *drift = u->pass.s.drifts[input].total;
    int64_t in = espl_input_size(u->plan.config, input);
    for (int64_t i = 0; i < in; i++)
        for (int64_t j = 0; j <= i; j++) gram[i * in + j] += (double)u->tested[input].gram[i * in + j];
    for (int64_t i = 0; i < in * in * (drift != NULL); i++) drift[i] += (double)u->tested[input].drift[i];
}

static espl_moments moments_of(const updater *u, int input, const input_moments *m) {
    return (espl_moments){.gram = m->gram, .drift = espl_plan_drifts(&u->plan, &u->wanted, input) ? m->drift : NULL};
}

/* The source's linear under the mask that it is updated for. */
static espl_linear updater_source(const updater *u, int k) {
    espl_linear l = u->sources[k];
    l.mask = u->linears[k].mask;
    return l;
}

/* Mean of the diagonal of the Gram matrix that espl_prune_factor adds to; a dead feature counts as 1 there. */
static double updater_mean(const updater *u, int input) {
    const double *gram = u->pass.s.grams[input].total;
    int64_t in = espl_input_size(u->plan.config, input);
    double sum = 0;
    for (int64_t i = 0; i < in; i++) sum += gram[i * in + i] == 0 ? 1 : gram[i * in + i];
    return sum / (double)in;
}

/* Prepares an input of the loaded block for a damping. */
static espl_status updater_factor(updater *u, int input, double damping) {
    const double *gram = u->pass.s.grams[input].total;
    int64_t in = espl_input_size(u->plan.config, input);
    if (!u->factors) return ESPL_OK;
    memcpy(u->hessian, gram, (size_t)(in * in) * sizeof *gram);
    return espl_prune_factor(u->hessian, in, 1, damping, u->factor, u->dead);
}

/* matrix = new weights of a linear for a damping, whose factor is prepared. residual: reconstruct's. */
static espl_status updater_solve(updater *u, int k, double damping, double residual) {
    int input = espl_input_of(k);
    const espl_linear l = updater_source(u, k);
    const espl_moments of = moments_of(u, input, &u->fitted);
    double loss;
    if (!u->factors) {
        espl_linear prior = l;
        prior.weight = u->linears[k].before;
        return espl_update_reconstruct(&l, &prior, &of, damping * updater_mean(u, input), residual, u->matrix);
    }
    espl_sparsegpt_options by = {.factor = u->factor, .dead = u->dead, .given = true, .block = u->plan.o->block};
    ESPL_TRY(espl_update_shift(&l, &of, u->factor, u->matrix));
    return espl_prune_sparsegpt(&l, &by, u->linears[k].mask, u->matrix, &loss, espl_model_workspace(u->m));
}

static espl_status updater_test(updater *u, int k, const float *weight, double *error) {
    const espl_linear l = updater_source(u, k);
    int input = espl_input_of(k);
    const espl_moments of = moments_of(u, input, &u->tested[input]);
    return espl_update_error(&l, weight, &of, u->rows, error);
}

/* Rounds the new weights; where the mask prunes, the source's stand: they are what a later step may put back. */
static void updater_store(updater *u, int k) {
    const espl_linear l = updater_source(u, k);
    size_t size = espl_dtype_size(l.dtype);
    char *to = u->linears[k].after;
    espl_tensor_narrow(u->matrix, l.out * l.in, l.dtype, to);
    for (int64_t r = 0; r < l.out; r++)
        for (int64_t c = 0; c < l.in; c++) {
            size_t at = (size_t)(r * l.in + c) * size;
            if (!espl_mask_row_get(l.mask + r * espl_mask_words(l.in), c))
                memcpy(to + at, (const char *)l.weight + at, size);
        }
}

/* Chooses the damping of each linear of an input, from the largest down while the error falls. */
static espl_status updater_choose(updater *u, int input) {
    int first = espl_input_first(input), last = espl_input_first(input + 1);
    moments_read(u, input, &u->fitted);
    for (int k = first; k < last; k++) {
        updated_linear *l = &u->linears[k];
        espl_linear before = updater_source(u, k);
        l->choice = KEPT;
        l->searching = l->pruned;
        if (!l->pruned) continue;
        espl_tensor_widen(l->before, before.dtype, before.out * before.in, u->matrix);
        ESPL_TRY(updater_test(u, k, u->matrix, &l->least));
    }
    for (int d = 0; d < ESPL_UPDATE_DAMPINGS; d++) {
        double damping = espl_update_dampings[d] * u->plan.o->damping, error;
        bool searching = false;
        for (int k = first; k < last; k++) searching = searching || u->linears[k].searching;
        if (!searching) break;
        /* Sums in f32 may need more damping than this where one feature is much larger than the others. */
        espl_status st = updater_factor(u, input, damping);
        if (st == ESPL_FAILED) break;
        ESPL_TRY(st);
        for (int k = first; k < last; k++) {
            updated_linear *l = &u->linears[k];
            if (!l->searching) continue;
            ESPL_TRY(updater_solve(u, k, damping, RESIDUAL_TO_COMPARE));
            ESPL_TRY(updater_test(u, k, u->matrix, &error));
            bool better = error < l->least; /* false for NaN */
            l->searching = better || l->choice == KEPT;
            if (better) l->least = error, l->choice = d;
        }
        espl_comm_progress(u->comm);
    }
    return ESPL_OK;
}

/* Solves for the linears of an input with what was chosen, from all samples. */
static espl_status updater_finish(updater *u, int input) {
    int first = espl_input_first(input), last = espl_input_first(input + 1);
    if (u->holds_out) moments_join(u, input);
    moments_read(u, input, &u->fitted);
    for (int d = 0; d < ESPL_UPDATE_DAMPINGS; d++) {
        double damping = (u->holds_out ? espl_update_dampings[d] : 1) * u->plan.o->damping;
        bool prepared = false;
        for (int k = first; k < last; k++) {
            if (u->linears[k].choice != d) continue;
            if (!prepared) ESPL_TRY(updater_factor(u, input, damping));
            prepared = true;
            ESPL_TRY(updater_solve(u, k, damping, RESIDUAL_TO_KEEP));
            updater_store(u, k);
        }
        espl_comm_progress(u->comm);
    }
    return ESPL_OK;
}

/* ---------------------------------------------------------------- the pass */

/* Is a block in this rank's slice? */
static bool updater_holds(const updater *u, int64_t layer) {
    espl_range slice = espl_model_slice(u->m);
    return layer >= slice.first && layer < slice.last;
}

/* Collective. The masks and weights of a block to all ranks. Zeros of the source become pruned in this copy. */
static void updater_fetch(updater *u, int64_t layer) {
    const pass_plan slice = {.owner = OWNER_SLICE};
    int holder = espl_plan_owner(&u->plan, &slice, layer, 0);
    bool mine = updater_holds(u, layer);
    for (int k = 0; k < u->plan.places; k++) {
        const espl_linear *l = &u->sources[k];
        updated_linear *to = &u->linears[k];
        int64_t index = espl_linear_index(espl_model_layout(u->plan.config), layer, k), n = l->out * l->in;
        int64_t mask_bytes = espl_mask_bytes(l->out, l->in), weight_bytes = n * (int64_t)espl_dtype_size(l->dtype);
        if (mine) memcpy(to->mask, espl_masks_of(u->masks, index), (size_t)mask_bytes);
        if (mine) memcpy(to->before, espl_masks_update_of(u->masks, index), (size_t)weight_bytes);
        espl_comm_broadcast(u->comm, to->mask, mask_bytes, holder);
        espl_comm_broadcast(u->comm, to->before, weight_bytes, holder);
        to->pruned = espl_mask_count(to->mask, l->out, l->in) < n;
        to->choice = to->pruned ? 0 : KEPT;
        espl_tensor_widen(l->weight, l->dtype, n, u->matrix);
        for (int64_t r = 0; r < l->out; r++)
            for (int64_t c = 0; c < l->in; c++)
                if (u->matrix[r * l->in + c] == 0) espl_mask_row_clear(to->mask + r * espl_mask_words(l->in), c);
        u->current[k] = *l;
        u->current[k].mask = to->mask;
        u->current[k].weight = to->before;
    }
}

/* Local. What is done with the inputs of a stage that this rank owns. */
static espl_status updater_work(updater *u, espl_block_stage stage, espl_status (*work)(updater *u, int input)) {
    for (int i = 0; i < u->plan.inputs; i++)
        if (espl_input_stage(i) == stage && espl_plan_owner(&u->plan, &u->wanted, 0, i) == u->plan.rank)
            ESPL_TRY(work(u, i));
    return ESPL_OK;
}

/* Held-out sums are kept while those of the other samples are made. */
static espl_status updater_keep_held(updater *u, int input) {
    moments_read(u, input, &u->tested[input]);
    return ESPL_OK;
}

/* Collective. The new weights of a stage from their owners to all, who go on with them. */
static void updater_publish(updater *u, int64_t layer, espl_block_stage stage, espl_update_result *out) {
    for (int k = 0; k < u->plan.places; k++) {
        updated_linear *of = &u->linears[k];
        int64_t index = espl_linear_index(espl_model_layout(u->plan.config), layer, k);
        int64_t bytes = u->sources[k].out * u->sources[k].in * (int64_t)espl_dtype_size(u->sources[k].dtype);
        int owner = espl_plan_owner(&u->plan, &u->wanted, layer, espl_input_of(k));
        if (espl_input_stage(espl_input_of(k)) != stage) continue;
        espl_comm_broadcast(u->comm, &of->choice, sizeof of->choice, owner);
        out->linears += of->pruned;
        out->kept += of->pruned && of->choice == KEPT;
        if (of->choice == KEPT) continue;
        out->chosen[of->choice]++;
        espl_comm_broadcast(u->comm, of->after, bytes, owner);
        u->current[k].weight = of->after;
        if (updater_holds(u, layer)) memcpy(espl_masks_update_of(u->masks, index), of->after, (size_t)bytes);
    }
}

/* Collective. Updates a block, stage after stage, and takes the samples through it. */
static espl_status updater_block(updater *u, int64_t layer, espl_update_result *out) {
    block_statistics *s = &u->pass.s;
    int64_t floats = u->plan.o->window * u->plan.config->hidden;
    ESPL_TRY(espl_comm_agree(u->comm, espl_block_load(u->block, layer)));
    for (int k = 0; k < u->plan.places; k++) u->sources[k] = *espl_block_linear(u->block, k);
    updater_fetch(u, layer);
    for (s->stage = ESPL_BLOCK_QKV; s->stage < ESPL_BLOCK_STAGES; s->stage++) {
        espl_status st = ESPL_OK;
        if (u->holds_out) {
            ESPL_TRY(espl_statistics_collect(s, layer, u->pass.states, u->dense, u->held));
            st = updater_work(u, s->stage, updater_keep_held);
        }
        ESPL_TRY(espl_statistics_collect(s, layer, u->pass.states, u->dense, u->learned));
        if (u->holds_out && st == ESPL_OK) st = updater_work(u, s->stage, updater_choose);
        if (st == ESPL_OK) st = updater_work(u, s->stage, updater_finish);
        ESPL_TRY(espl_comm_agree(u->comm, st));
        updater_publish(u, layer, s->stage, out);
    }
    for (int k = 0; k < u->plan.places; k++) *espl_block_linear(u->block, k) = u->current[k];
    for (int64_t i = 0; i < u->plan.local && layer + 1 < u->plan.config->layers; i++) {
        float *x = u->pass.states + i * floats; /* between attention and MLP */
        espl_block_trace(u->block, ESPL_BLOCK_DOWN, x, s->seen);
        espl_block_add(u->block, ESPL_BLOCK_DOWN, x);
        espl_comm_progress(u->comm);
    }
    return ESPL_OK;
}

espl_status espl_method_update(espl_comm *comm, const espl_method_options *o, const int32_t *ids, espl_masks *masks,
                               espl_update_result *out) {
    updater u = {.comm = comm, .masks = masks, .m = masks->m};
    const espl_model_config *config = espl_model_config_of(u.m);
    int stages = espl_comm_grid(comm)->stages;
    int64_t floats = o->window * config->hidden;
    pool buffers = {0};
    espl_status st;
    *out = (espl_update_result){0};
    if (!masks->updated) return ESPL_FAIL(ESPL_USAGE, "an update without weights before it");
    ESPL_TRY(espl_method_check(o));
    updater_plan(&u, config, o, espl_comm_rank(comm), espl_comm_size(comm));
    u.plan.stages = stages;
    u.slices = espl_pool_take(&buffers, stages, sizeof *u.slices, "slices");
    u.plan.slices = u.slices;
    st = buffers.st;
    if (st == ESPL_OK) st = espl_model_partition(config, espl_model_options_of(u.m)->context, stages, u.slices);
    if (st == ESPL_OK) st = espl_block_create(u.m, o->window, false, &u.block);
    if (st == ESPL_OK) updater_take(&u, &buffers);
    if (st == ESPL_OK) st = espl_pass_embed(&u.pass, ids);
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    if (!u.linears || !u.sources || !u.current) goto done; /* never: the ranks agreed that all buffers are there */
    if (u.dense) memcpy(u.dense, u.pass.states, (size_t)(u.plan.local * floats) * sizeof *u.dense);
    for (int64_t layer = 0; layer < config->layers; layer++) {
        ESPL_CHECK(st, done, updater_block(&u, layer, out));
        if (o->progress) o->progress(o->context, layer + 1, config->layers);
    }
done:
    espl_pool_free(&buffers);
    espl_block_destroy(&u.block);
    return st;
}

/* -------------------------------------------------------------------- cost */

/* FLOPs of solving for all linears of a block with one damping, and of what it takes to compare them. */
static double solve_flops(const updater *u) {
    const espl_method_options *o = u->plan.o;
    double flops = 0;
    for (int i = 0; i < u->plan.inputs && u->factors; i++)
        flops += espl_prune_factor_flops(espl_input_size(u->plan.config, i));
    for (int k = 0; k < u->plan.places; k++) {
        int64_t out, in;
        bool drift = espl_plan_drifts(&u->plan, &u->wanted, espl_input_of(k));
        espl_plan_shape(u->plan.config, k, &out, &in);
        int64_t count = espl_pattern_is_n_m(o->pattern) ? espl_prune_pattern_count(&o->pattern, out, in)
                                                        : (int64_t)(o->target * (double)(out * in));
        if (!u->factors)
            flops += espl_update_reconstruct_flops(out, in, ESPL_UPDATE_STEPS, drift);
        else
            flops +=
                espl_prune_sparsegpt_flops(out, in, o->block, count) + (drift ? espl_update_shift_flops(out, in) : 0);
    }
    return flops;
}

double espl_method_update_flops(const espl_model_config *c, const espl_method_options *o) {
    updater u = {0};
    updater_plan(&u, c, o, 0, 1);
    double errors = 0, solves = u.holds_out ? ESPL_UPDATE_DAMPINGS + 1 : 1;
    for (int k = 0; k < u.plan.places && u.holds_out; k++) {
        int64_t out, in;
        espl_plan_shape(c, k, &out, &in);
        errors += espl_update_error_flops(out, in, espl_plan_drifts(&u.plan, &u.wanted, espl_input_of(k)));
    }
    return espl_pass_flops(&u.plan, &u.wanted) +
           (double)c->layers * (solves * solve_flops(&u) + (ESPL_UPDATE_DAMPINGS + 1) * errors);
}
