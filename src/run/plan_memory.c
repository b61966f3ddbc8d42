/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of a rank, from the rooms that allocate it. */
#include "plan_memory.h"

#include "espalier/base/integer.h"
#include "espalier/methods/cost.h"
#include "espalier/methods/distill.h"
#include "espalier/model/shape.h"

/* Distillation: a step's backward passes, the weights in training, and the weights before the step; on the last rank
 * the dense model's final states, in f32. */
static int64_t memory_of_distillation(const espl_plan_work *w, const espl_plan_place *at) {
    static const float *const teacher[1] = {NULL}; /* says that there is one */
    const espl_config *o = w->o;
    espl_calibration_options step = {
        .window = o->calibration_window, .backward = espl_min_i64(o->distill_batch, w->distilled), .teacher = teacher};
    int64_t weights = espl_range_count(at->slice) * espl_model_layer_linear_weights(w->config), states = 0;
    if (at->stage == at->stages - 1)
        states = w->distilled * o->calibration_window * w->config->hidden * (int64_t)sizeof(float);
    return espl_model_calibration_bytes(w->config, &step, at->slice, (int)at->replicas, (int)at->stage,
                                        (int)at->stages) +
           espl_distill_bytes(w->config, at->slice) + weights * at->bytes_per_weight + states;
}

/* What pruning takes besides the model and its masks: calibration for the agent, or the method, with the updated
 * weights of its slice. */
static int64_t memory_of_pruning(const espl_plan_work *w, const espl_plan_place *at) {
    const espl_config *o = w->o;
    int stage = (int)at->stage, stages = (int)at->stages, replicas = (int)at->replicas, ranks = stages * replicas;
    espl_calibration_options calibration = {
        .window = o->calibration_window, .forward = o->calibration_forward, .backward = o->calibration_backward};
    espl_method_options trial;
    int64_t bytes = w->oneshot
                        ? espl_method_bytes(w->config, &w->method, at->slice, stage, ranks, replicas)
                        : espl_model_calibration_bytes(w->config, &calibration, at->slice, replicas, stage, stages);
    if (espl_plan_tries_powers(w, &trial))
        bytes = espl_max_i64(bytes, espl_method_bytes(w->config, &trial, at->slice, stage, ranks, replicas));
    if (espl_config_distills(o)) bytes = espl_max_i64(bytes, memory_of_distillation(w, at));
    if (w->method.update != ESPL_UPDATE_NONE || espl_config_distills(o))
        bytes += espl_range_count(at->slice) * espl_model_layer_linear_weights(w->config) * at->bytes_per_weight;
    return bytes;
}

espl_plan_memory espl_plan_memory_of(const espl_plan_work *w, const espl_model_options *o, espl_plan_place at) {
    espl_model_memory m = espl_model_memory_of(w->config, o, at.slice, at.threads, at.bytes_per_weight);
    return (espl_plan_memory){.weights = m.weights,
                              .masks = espl_masks_bytes(w->config, at.slice),
                              .activations = m.activations,
                              .pruning = memory_of_pruning(w, &at),
                              .kv_cache = m.kv_cache,
                              .other = m.workspace + m.tables + m.libraries};
}

int64_t espl_plan_memory_private(const espl_plan_memory *m) {
    return m->masks + m->activations + m->pruning + m->kv_cache + m->other;
}
