/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --dry-run: what a job would take. It reads all inputs, so missing files are found now, but only the headers of the
 * weights. Bytes and FLOPs come from the rooms that spend them.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "agent_host.h"
#include "allocation.h"
#include "espalier/methods/cost.h"
#include "espalier/methods/curvature.h"
#include "espalier/methods/distill.h"
#include "espalier/model/shape.h"
#include "espalier/prune/linear.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/run/job.h"
#include "inputs.h"

/* What the dry run is about, on rank 0. */
typedef struct forecast {
    const espl_config *o;
    const espl_model_config *config;
    espl_model_options options;
    espl_calibration_options calibration;
    espl_method_options method;
    bool oneshot;
    espl_range *slices; /* [ranks] */
    int64_t ranks, bytes_per_weight, validation_tokens;
    int64_t profile_windows, judge_windows; /* of probe questions */
    int64_t distilled;                      /* windows */
    double rate;                            /* FLOP/s of one rank */
} forecast;

/* ----------------------------------------------------------------- speed */

/* Runs a linear of the model's shape on this machine's threads and returns the best of a few rounds, in FLOP/s: the
 * first ones warm caches and threads. Larger matrices than RATE_WIDTH_MAX do not run faster, and take longer. */
static espl_status forecast_measure_rate(forecast *f) {
    enum { RATE_TOKENS = 512, RATE_WIDTH_MAX = 2048, RATE_ROUNDS = 8 };
    int64_t out = espl_min_i64(f->config->ffn, RATE_WIDTH_MAX), in = espl_min_i64(f->config->hidden, RATE_WIDTH_MAX);
    float *buffer = NULL;
    espl_workspace *ws = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&buffer, out * in + RATE_TOKENS * (in + out), sizeof *buffer, "speed test"));
    ESPL_CHECK(st, done, espl_workspace_create(&ws));
    espl_linear l = {.weight = buffer, .dtype = ESPL_DTYPE_F32, .out = out, .in = in};
    float *x = buffer + out * in, *y = x + RATE_TOKENS * in;
    double best = INFINITY;
    for (int i = 0; i < RATE_ROUNDS; i++) {
        double start = espl_clock_now();
        espl_tensor_linear(&l, 1, x, RATE_TOKENS, &y, false, ws);
        best = fmin(best, espl_clock_now() - start);
    }
    f->rate = 2.0 * RATE_TOKENS * (double)(out * in) / best;
done:
    espl_workspace_destroy(&ws);
    espl_mem_free(&buffer);
    return st;
}

/* Is the exponent of score curvature measured before the first step? */
static bool forecast_tries_powers(const forecast *f) {
    return f->o->prune_score == ESPL_SCORE_CURVATURE && f->o->prune_curvature_power < 0;
}

/* What the trials do (espl_curvature_choose_power): the method of a trial, whose calibration all trials share. */
static espl_method_options forecast_trial(const forecast *f) {
    espl_method_options trial = f->method;
    trial.allocation = ESPL_ALLOCATION_GLOBAL;
    trial.update = ESPL_UPDATE_NONE;
    trial.pattern = (espl_pattern){.group = ESPL_GROUP_LAYER};
    return trial;
}

static double forecast_forward_flops(const forecast *f, int64_t context) {
    double sum = 0;
    for (int64_t i = 0; i < f->config->layers; i++) sum += espl_model_layer_flops(f->config, i, context);
    return sum;
}

/* Distillation on so many windows: per window a forward, a recomputed forward and a backward pass (twice a forward),
 * and five products with the head: the logits of both models, twice, and the gradient. */
static double forecast_distill_flops(const forecast *f, double windows) {
    const espl_config *o = f->o;
    double layers = forecast_forward_flops(f, o->calibration_window), head = espl_model_head_flops(f->config);
    return windows * (double)o->calibration_window * (4 * layers + 5 * head);
}

/* A step without probe questions. Agent: one forward pass per forward window; per gradient sample a forward, a
 * recomputed forward and a backward pass (twice a forward), with the head. A method counts its own FLOPs. Then
 * validation: one forward pass with the head. */
static double forecast_step_flops(const forecast *f) {
    const espl_config *o = f->o;
    double head = espl_model_head_flops(f->config), pruning;
    if (f->oneshot) {
        pruning = espl_method_flops(f->config, &f->method);
    } else {
        double window = (double)o->calibration_window, layers = forecast_forward_flops(f, o->calibration_window);
        int64_t only_forward = espl_max_i64(o->calibration_forward - o->calibration_backward, 0);
        pruning =
            (double)only_forward * window * layers + (double)o->calibration_backward * window * (4 * layers + 4 * head);
    }
    double validation = (double)f->validation_tokens * (forecast_forward_flops(f, o->validation_window) + head);
    if (f->oneshot && forecast_tries_powers(f)) {
        espl_method_options trial = forecast_trial(f);
        pruning += espl_method_flops(f->config, &trial) + ESPL_CURVATURE_POWERS * validation;
    }
    if (!f->oneshot) { /* questions: gradients of one part, losses of the other */
        double layers = forecast_forward_flops(f, o->calibration_window), window = (double)o->calibration_window;
        pruning += window * ((double)f->profile_windows * 4 * (layers + head) + (double)f->judge_windows * layers);
    }
    double learned = f->oneshot ? 0 : (double)(o->distill_steps * espl_min_i64(o->distill_batch, f->distilled));
    return pruning + validation + forecast_distill_flops(f, learned);
}

/* ----------------------------------------------------------------- print */

static const char *format_megabytes(int64_t bytes, char *buf) {
    snprintf(buf, 32, "%.1f", (double)bytes / 1048576);
    return buf;
}

/* Distillation: a step's backward passes, the weights in training, and the weights before the step; on the last rank
 * the dense model's final states, in f32. */
static int64_t forecast_distill_bytes(const forecast *f, int64_t r) {
    static const float *const teacher[1] = {NULL}; /* says that there is one */
    const espl_config *o = f->o;
    espl_calibration_options step = {
        .window = o->calibration_window, .backward = espl_min_i64(o->distill_batch, f->distilled), .teacher = teacher};
    int64_t weights = espl_range_count(f->slices[r]) * espl_model_layer_linear_weights(f->config), states = 0;
    if (r == f->ranks - 1) states = f->distilled * o->calibration_window * f->config->hidden * (int64_t)sizeof(float);
    return espl_model_calibration_bytes(f->config, &step, f->slices[r], (int)r, (int)f->ranks) +
           espl_distill_bytes(f->config, f->slices[r]) + weights * f->bytes_per_weight + states;
}

/* What pruning takes on one rank besides the model and its masks: calibration for the agent, or the method, with the
 * updated weights of its slice. */
static int64_t forecast_pruning_bytes(const forecast *f, int64_t r) {
    int64_t bytes, trial_bytes = 0;
    if (forecast_tries_powers(f)) {
        espl_method_options trial = forecast_trial(f);
        trial_bytes = espl_method_bytes(f->config, &trial, f->slices[r], (int)r, (int)f->ranks);
    }
    if (f->oneshot)
        bytes = espl_method_bytes(f->config, &f->method, f->slices[r], (int)r, (int)f->ranks);
    else
        bytes = espl_model_calibration_bytes(f->config, &f->calibration, f->slices[r], (int)r, (int)f->ranks);
    bytes = espl_max_i64(bytes, trial_bytes);
    if (espl_config_distills(f->o)) bytes = espl_max_i64(bytes, forecast_distill_bytes(f, r));
    if (f->method.update != ESPL_UPDATE_NONE || espl_config_distills(f->o))
        bytes += espl_range_count(f->slices[r]) * espl_model_layer_linear_weights(f->config) * f->bytes_per_weight;
    return bytes;
}

static void forecast_print_memory(const forecast *f) {
    printf("MiB per rank, %d thread(s) each:\n", espl_tensor_threads());
    printf("%5s %13s %10s %8s %12s %12s %9s %9s %9s\n", "rank", "layers", "weights", "masks", "activations",
           f->oneshot ? "method" : "calibration", "KV cache", "other", "total");
    for (int64_t r = 0; r < f->ranks; r++) {
        espl_model_memory m =
            espl_model_memory_of(f->config, &f->options, f->slices[r], espl_tensor_threads(), f->bytes_per_weight);
        int64_t masks = espl_masks_bytes(f->config, f->slices[r]), pruning = forecast_pruning_bytes(f, r);
        int64_t other = m.workspace + m.tables + m.libraries;
        char layers[48], b[7][32];
        snprintf(layers, sizeof layers, "%" PRId64 "-%" PRId64 "%s", f->slices[r].first, f->slices[r].last - 1,
                 r == f->ranks - 1 ? "+head" : "");
        printf("%5" PRId64 " %13s %10s %8s %12s %12s %9s %9s %9s\n", r, layers, format_megabytes(m.weights, b[0]),
               format_megabytes(masks, b[1]), format_megabytes(m.activations, b[2]), format_megabytes(pruning, b[3]),
               format_megabytes(m.kv_cache, b[4]), format_megabytes(other, b[5]),
               format_megabytes(m.weights + masks + m.activations + pruning + m.kv_cache + other, b[6]));
    }
}

/* The model of backend local, which is opened beside the one that is pruned: on every rank a slice, on rank 0 what a
 * reply needs. */
static espl_status forecast_print_agent(const forecast *f) {
    espl_chat_options chat = espl_agent_host_chat_options(f->o);
    espl_model_options options = {0};
    espl_model_config c;
    espl_range *slices = NULL;
    int64_t weights = 0, other = 0;
    char b[2][32];
    espl_status st;
    if (f->oneshot || f->o->agent_backend != ESPL_BACKEND_LOCAL) return ESPL_OK;
    ESPL_TRY(espl_model_config_read(espl_agent_host_model_path(f->o), &c));
    espl_chat_need(&chat, &options);
    ESPL_CHECK(st, done, espl_mem_alloc(&slices, f->ranks, sizeof *slices, "slices"));
    ESPL_CHECK(st, done, espl_model_partition(&c, options.context, (int)f->ranks, slices));
    for (int64_t r = 0; r < f->ranks; r++) {
        espl_model_memory m = espl_model_memory_of(&c, &options, slices[r], espl_tensor_threads(), f->bytes_per_weight);
        weights = espl_max_i64(weights, m.weights);
        other = espl_max_i64(other, m.activations + m.kv_cache + m.workspace + m.tables);
    }
    printf("the agent's model beside it, on each rank at most: weights %s MiB%s, a context of %" PRId64
           " tokens %s MiB\n",
           format_megabytes(weights, b[0]), strcmp(f->o->agent_model_path, "self") == 0 ? " (mapped already)" : "",
           options.context, format_megabytes(other + espl_chat_bytes(&c), b[1]));
done:
    espl_mem_free(&slices);
    espl_model_config_free(&c);
    return st;
}

/* Weights that the job prunes. An N:M pattern fixes them, whatever the target. */
static double forecast_pruned_weights(const forecast *f) {
    double pruned = 0;
    int64_t out, in;
    bool n_m = espl_pattern_is_n_m(f->method.pattern);
    for (int64_t i = 0; i < espl_linear_index(f->config->layers, 0); i++) {
        espl_model_linear_shape(f->config, espl_linear_kind_of(i), &out, &in);
        if (espl_method_cap(&f->method, i) == 0) continue;
        pruned += n_m ? (double)espl_prune_pattern_count(&f->method.pattern, out, in) : (double)(out * in);
    }
    return n_m ? pruned : f->method.target * pruned;
}

static espl_status forecast_print(const forecast *f, const espl_checkpoint_shape *shape) {
    const espl_config *o = f->o;
    char b[32], name[ESPL_PATTERN_NAME_MAX];
    int64_t prunable = f->config->layers * espl_model_layer_linear_weights(f->config);
    double pruned = forecast_pruned_weights(f), flops = forecast_step_flops(f);
    printf("%s: %s, %" PRId64 " layers, %" PRId64 " prunable weights of %" PRId64 " parameters\n", o->model_path,
           f->config->family->type, f->config->layers, prunable, espl_model_parameters(f->config));
    if (f->oneshot)
        printf("one shot: score %s, allocation %s, pattern %s, update %s\n", espl_score_name(o->prune_score),
               espl_allocation_name(o->prune_allocation), o->prune_pattern, espl_update_name(o->prune_update));
    if (espl_pattern_is_n_m(f->method.pattern))
        printf("pattern %s: %.0f weights pruned, %.4g of the linears (prune.target is ignored)\n",
               espl_pattern_name(f->method.pattern, name), pruned, pruned / (double)prunable);
    else
        printf("target %.4g: %.0f weights pruned\n", f->method.target, pruned);
    printf("\n");
    forecast_print_memory(f);
    ESPL_TRY(forecast_print_agent(f));
    printf("\na checkpoint: %s MiB, %" PRId64 " of them kept\n",
           format_megabytes(espl_checkpoint_bytes(shape, o->checkpoint_alignment), b), o->run_keep);
    printf("\n%s without counting probe questions: %.3g FLOP; at %.1f GFLOP/s a rank (measured here): about %.1f s\n",
           f->oneshot ? "pruning in one shot" : "one iteration", flops, f->rate * 1e-9,
           flops / f->rate / (double)f->ranks);
    if (!espl_config_distills(o)) return ESPL_OK;
    double first = forecast_forward_flops(f, o->calibration_window) * (double)(f->distilled * o->calibration_window);
    flops = first + forecast_distill_flops(f, o->distill_passes * (double)f->distilled);
    printf("distillation, with a pass of the dense model first: %.3g FLOP: about %.1f s\n", flops,
           flops / f->rate / (double)f->ranks);
    return ESPL_OK;
}

/* ------------------------------------------------------------------- run */

/* The widest dtype of the model's matrices: mixed directories are counted as if all were of it. */
static espl_status forecast_read_dtype(forecast *f) {
    espl_weights *w;
    f->bytes_per_weight = 2;
    ESPL_TRY(espl_weights_open(f->o->model_path, &w));
    for (int64_t i = 0; i < espl_weights_count(w); i++) {
        const espl_tensor_info *t = espl_weights_at(w, i);
        if (t->n_dims == 2) f->bytes_per_weight = espl_max_i64(f->bytes_per_weight, (int64_t)espl_dtype_size(t->dtype));
    }
    espl_weights_close(&w);
    return ESPL_OK;
}

/* Rank 0 only. */
static espl_status forecast_run(const espl_job *j, int64_t ranks) {
    const espl_config *o = j->o;
    forecast f = {.o = o,
                  .config = &j->config,
                  .options = espl_inputs_model_options(j, (int)ranks),
                  .calibration = {.window = o->calibration_window,
                                  .forward = o->calibration_forward,
                                  .backward = o->calibration_backward},
                  .oneshot = espl_config_is_oneshot(o),
                  .ranks = ranks,
                  .profile_windows = j->inputs.profile.first[ESPL_TOPICS],
                  .judge_windows = j->inputs.judge.first[ESPL_TOPICS],
                  .distilled = j->inputs.distilled + (o->distill_share > 0 ? j->inputs.profile.first[ESPL_TOPICS] : 0),
                  .validation_tokens = j->inputs.validation.n / o->validation_window * o->validation_window};
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(f.config, (espl_range){0});
    espl_status st;
    ESPL_CHECK(st, done, espl_config_method(o, &f.method));
    f.method.caps = j->inputs.caps;
    if (j->inputs.allocation) f.method.target = espl_allocation_sparsity(f.config, j->inputs.allocation);
    ESPL_CHECK(st, done, forecast_read_dtype(&f));
    ESPL_CHECK(st, done, espl_mem_alloc(&f.slices, ranks, sizeof *f.slices, "slices"));
    ESPL_CHECK(st, done, espl_model_partition(f.config, f.options.context, (int)ranks, f.slices));
    ESPL_CHECK(st, done, forecast_measure_rate(&f));
    st = forecast_print(&f, &shape);
done:
    espl_mem_free(&f.slices);
    return st;
}

espl_status espl_run_dry(espl_comm *c, const espl_config *o, int64_t ranks) {
    espl_job j = {.comm = c, .o = o, .root = espl_comm_rank(c) == 0};
    espl_status st = espl_inputs_read(&j);
    if (ranks <= 0) ranks = espl_comm_size(c);
    if (st == ESPL_OK) st = espl_comm_agree(c, j.root ? forecast_run(&j, ranks) : ESPL_OK);
    espl_inputs_free(&j);
    return st;
}
