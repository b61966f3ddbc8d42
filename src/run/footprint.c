/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of a job's ranks: what --dry-run prints, and what the grid of ranks is chosen by. Bytes come from the
 * rooms that spend them.
 */
#include "footprint.h"

#include "allocation.h"
#include "espalier/methods/cost.h"
#include "espalier/methods/distill.h"
#include "espalier/methods/update.h"
#include "espalier/model/shape.h"
#include "inputs.h"

/* The widest dtype of the model's matrices. A plan can be made where only the config is. */
static void footprint_read_dtype(espl_footprint *f) {
    espl_weights *w;
    f->bytes_per_weight = 2;
    if (espl_weights_open(f->o->model_path, &w) != ESPL_OK) {
        ESPL_INFO("note: %s; two bytes a weight are assumed", espl_base_error_text());
        return;
    }
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        if (t->n_dims == 2) f->bytes_per_weight = espl_max_i64(f->bytes_per_weight, (int64_t)espl_dtype_size(t->dtype));
    }
    espl_weights_close(&w);
}

espl_status espl_footprint_of(const espl_job *j, espl_footprint *out) {
    const espl_config *o = j->o;
    *out = (espl_footprint){.o = o,
                            .config = &j->config,
                            .options = espl_inputs_model_options(j),
                            .calibration = {.window = o->calibration_window,
                                            .forward = o->calibration_forward,
                                            .backward = o->calibration_backward},
                            .oneshot = espl_config_is_oneshot(o),
                            .threads = espl_tensor_threads(),
                            .distilled = j->inputs.distilled +
                                         (o->distill_share > 0 ? j->inputs.profile.first[ESPL_TOPICS] : 0)};
    ESPL_TRY(espl_config_method(o, &out->method));
    out->method.caps = j->inputs.caps;
    if (j->inputs.allocation) out->method.target = espl_allocation_sparsity(out->config, j->inputs.allocation);
    footprint_read_dtype(out);
    return ESPL_OK;
}

bool espl_footprint_tries_powers(const espl_footprint *f) {
    return f->o->prune_score == ESPL_SCORE_CURVATURE && f->o->prune_curvature_power < 0;
}

espl_method_options espl_footprint_trial(const espl_footprint *f) {
    espl_method_options trial = f->method;
    trial.allocation = ESPL_ALLOCATION_GLOBAL;
    trial.update = ESPL_UPDATE_NONE;
    trial.pattern = (espl_pattern){.group = ESPL_GROUP_LAYER};
    return trial;
}

espl_model_memory espl_footprint_model(const espl_footprint *f, espl_range slice) {
    return espl_model_memory_of(f->config, &f->options, slice, f->threads, f->bytes_per_weight);
}

/* A step's backward passes, the weights in training, and the weights before the step; on the last stage the dense
 * model's final states, in f32. */
static int64_t footprint_distillation(const espl_footprint *f, espl_range slice, const espl_grid *g) {
    static const float *const teacher[1] = {NULL}; /* say that there are some */
    static float *const gradients[1] = {NULL};
    const espl_config *o = f->o;
    espl_calibration_options step = {.window = o->calibration_window,
                                     .backward = espl_min_i64(o->distill_batch, f->distilled),
                                     .gradient_sums = gradients,
                                     .teacher = teacher};
    int64_t weights = espl_range_count(slice) * espl_model_layer_linear_weights(f->config), states = 0;
    if (g->stage == g->stages - 1)
        states = f->distilled * o->calibration_window * f->config->hidden * (int64_t)sizeof(float);
    return espl_model_calibration_bytes(f->config, &step, slice, g) + espl_distill_bytes(f->config, slice) +
           weights * f->bytes_per_weight + states;
}

/* An update's buffers, and the weights before the step. */
static int64_t footprint_update(const espl_footprint *f, espl_range slice, int stage, int ranks) {
    int64_t weights = espl_range_count(slice) * espl_model_layer_linear_weights(f->config);
    return espl_method_update_bytes(f->config, &f->method, stage, ranks) + weights * f->bytes_per_weight;
}

int64_t espl_footprint_pruning(const espl_footprint *f, espl_range slice, const espl_grid *g) {
    int ranks = g->replicas * g->stages; /* the first replica, whose ranks have the most samples of a method */
    int64_t bytes;
    if (f->oneshot)
        bytes = espl_method_bytes(f->config, &f->method, slice, g->stage, ranks, g->replicas);
    else
        bytes = espl_model_calibration_bytes(f->config, &f->calibration, slice, g);
    if (espl_footprint_tries_powers(f)) {
        espl_method_options trial = espl_footprint_trial(f);
        bytes = espl_max_i64(bytes, espl_method_bytes(f->config, &trial, slice, g->stage, ranks, g->replicas));
    }
    if (espl_config_updates_masked(f->o)) bytes = espl_max_i64(bytes, footprint_update(f, slice, g->stage, ranks));
    if (espl_config_distills(f->o)) bytes = espl_max_i64(bytes, footprint_distillation(f, slice, g));
    if (f->method.update != ESPL_UPDATE_NONE || espl_config_distills(f->o))
        bytes += espl_range_count(slice) * espl_model_layer_linear_weights(f->config) * f->bytes_per_weight;
    return bytes;
}

espl_status espl_footprint_rank(const espl_footprint *f, const espl_grid *g, int64_t *bytes) {
    espl_grid at = *g;
    int stages = g->stages;
    espl_range *slices;
    *bytes = 0;
    ESPL_TRY(espl_mem_alloc(&slices, stages, sizeof *slices, "slices"));
    espl_status st = espl_model_partition(f->config, f->options.context, stages, slices);
    for (int s = 0; st == ESPL_OK && s < stages; s++) {
        espl_model_memory m = espl_footprint_model(f, slices[s]);
        at.stage = s;
        int64_t sum = m.activations + m.kv_cache + m.workspace + m.tables + m.libraries +
                      espl_masks_bytes(f->config, slices[s]) + espl_footprint_pruning(f, slices[s], &at);
        *bytes = espl_max_i64(*bytes, sum);
    }
    espl_mem_free(&slices);
    return st;
}
