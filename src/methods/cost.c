/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory and FLOPs of a one-shot method, from the same plan that the driver carries out.
 */
#include "espalier/methods/cost.h"

#include "driver.h"
#include "espalier/model/calibration.h"
#include "espalier/prune/linear.h"
#include "espalier/prune/lsa.h"
#include "espalier/prune/sparsegpt.h"

int64_t espl_method_bytes(const espl_model_config *c, const espl_method_options *o, espl_range slice, int rank,
                          int ranks, int replicas) {
    static float *const squares[1] = {NULL}; /* says that there are sums of gradients by weight */
    const espl_grid grid = {
        .replicas = replicas, .stages = ranks / replicas, .members = 1, .stage = rank % (ranks / replicas)};
    method_plan plan = espl_plan_make(c, o, rank, ranks);
    /* The phases follow each other; what the driver holds lasts through all of them. */
    int64_t phase = espl_max_i64(espl_allocation_bytes(&plan, slice), espl_pruning_bytes(&plan));
    if (plan.model_gradients || plan.outputs) {
        /* The buffers of the calibration and its results, in f64: one per input and output feature, three numbers per
         * linear of the slice, and a loss per sample. */
        espl_calibration_options calibration = {.window = o->window,
                                                .forward = plan.outputs ? o->samples : 0,
                                                .backward = plan.outputs ? o->gradient_samples : o->samples,
                                                .gradient_squares = plan.outputs ? NULL : squares};
        int64_t results = 3 * plan.places, out, in;
        for (int i = 0; i < plan.inputs; i++) results += espl_input_size(c, i);
        for (int k = 0; k < plan.places; k++) {
            espl_plan_shape(c, k, &out, &in);
            results += out;
        }
        results = espl_range_count(slice) * results + calibration.backward;
        phase = espl_max_i64(phase, espl_model_calibration_bytes(c, &calibration, slice, &grid) +
                                        results * (int64_t)sizeof(double));
    }
    return espl_driver_bytes(&plan, slice) + phase;
}

/* Parts of a decoder layer's FLOPs per token. */
typedef struct layer_flops {
    double forward;
    double trace;    /* forward up to the input of down_proj: what statistics of the inputs take */
    double gradient; /* forward again up to there, or to the end if a norm reads down_proj's output, then backward: 2
                        products for each linear (dX and dW), 5 for the 2 of attention, whose probabilities are
                        recomputed */
} layer_flops;

static layer_flops layer_flops_of(const method_plan *p, int64_t layer) {
    const espl_model_config *c = p->config;
    double linears = 2 * (double)espl_model_layer_active_weights(c);
    layer_flops f = {.forward = espl_model_layer_flops(c, layer, p->o->window)};
    f.trace = f.forward - 2 * (double)(c->hidden * c->ffn * espl_max_i64(c->experts_per_token, 1));
    f.gradient =
        (c->family->norms[ESPL_NORM_MLP_OUT] ? f.forward : f.trace) + 2 * linears + 2.5 * (f.forward - linears);
    return f;
}

/* A pass over the blocks without the work on each block: per token and layer the trace, the lower triangles of the Gram
 * matrices, the regional gradient (a forward for the block's output, then backward), and, but for the last layer, the
 * forward that makes the next layer's inputs. */
double espl_pass_flops(const method_plan *p, const pass_plan *pass) {
    const espl_model_config *c = p->config;
    double grams = 0, per_token = 0, routed = c->experts > 0 ? (double)c->experts_per_token / (double)c->experts : 1;
    for (int i = 0; i < p->inputs && pass->grams; i++) {
        double in = (double)espl_input_size(p->config, i);
        grams += in * (in + 1) * (i < ATTENTION_INPUTS ? 1 : routed);
    }
    for (int i = 0; i < p->inputs && pass->drifts; i++) {
        double in = (double)espl_input_size(p->config, i);
        if (espl_plan_drifts(p, pass, i)) grams += 2 * in * in;
    }
    for (int64_t layer = 0; layer < p->config->layers; layer++) {
        layer_flops f = layer_flops_of(p, layer);
        if (pass->drifts) per_token += f.forward; /* of the dense model */
        if (pass->squares || pass->grams) per_token += f.trace + grams;
        if (pass->gradients) per_token += f.forward + f.gradient;
        if (layer + 1 < p->config->layers) per_token += f.forward;
    }
    return (double)(p->o->samples * p->o->window) * per_token;
}

double espl_method_flops(const espl_model_config *c, const espl_method_options *o) {
    method_plan p = espl_plan_make(c, o, 0, 1);
    double model = espl_model_head_flops(c), backward = 3 * espl_model_head_flops(c), block_work = 0;
    double flops = (p.direct ? 0 : espl_pass_flops(&p, &p.prune)) + (p.surveys ? espl_pass_flops(&p, &p.survey) : 0),
           forward = 0;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        layer_flops f = layer_flops_of(&p, layer);
        model += f.forward;
        backward += f.forward + f.gradient;
        forward += f.forward;
    }
    if (p.model_gradients) flops += (double)(o->samples * o->window) * backward;
    if (p.outputs)
        flops += (double)(espl_max_i64(o->samples - o->gradient_samples, 0) * o->window) * forward +
                 (double)(o->gradient_samples * o->window) * backward;
    if (o->allocation == ESPL_ALLOCATION_SEARCH && p.surveys) {
        /* Whole generations: all offspring in the first stage, the survivors of a stage in the next one, in the last
         * one with the parent. */
        double tokens = 0;
        int64_t alive = o->search.offspring, evaluations = 0;
        for (int64_t stage = 0; stage < o->search.stages; stage++) {
            if (stage == o->search.stages - 1) alive++;
            evaluations += alive;
            tokens += (double)(alive * espl_method_search_windows(o, stage) * o->window);
            alive = espl_min_i64(alive, o->search.survivors[stage]);
        }
        /* at least one candidate per stage */
        int64_t generations = (o->search_evaluations + evaluations - 1) / espl_max_i64(evaluations, 1);
        flops += (double)generations * tokens * model;
    }
    /* Work on the linears of a block, at the target sparsity: an allocation moves weights between linears, and with
     * them little of SparseGPT's cost. */
    for (int i = 0; i < p.inputs && p.updating; i++) block_work += espl_prune_factor_flops(espl_input_size(c, i));
    for (int k = 0; k < p.places; k++) {
        int64_t out, in;
        espl_plan_shape(c, k, &out, &in);
        int64_t count = espl_pattern_is_n_m(o->pattern) ? espl_prune_pattern_count(&o->pattern, out, in)
                                                        : (int64_t)(o->target * (double)(out * in));
        if (p.updating) block_work += espl_prune_sparsegpt_flops(out, in, o->block, count);
        if (p.surveys && p.survey.grams) block_work += espl_prune_lsa_flops(out, in);
    }
    return flops + (double)c->layers * block_work;
}
