/* SPDX-License-Identifier: Apache-2.0 */
/* Simulates the phases of a job on a grid of ranks. */
#include "plan.h"

#include <math.h>

#include "espalier/base/integer.h"
#include "espalier/methods/cost.h"
#include "espalier/methods/curvature.h"
#include "espalier/methods/update.h"
#include "espalier/model/shape.h"
#include "espalier/run/checkpoint_shape.h"
#include "espalier/tensor/linear.h"

/* Tokens of a generated answer with the end of its line: FreebaseQA's are names. */
enum { ANSWER_TOKENS = 6 };
/* Steps beyond the policy's horizon, or beyond what prune.max_linears and prune.max_step need: rollbacks, and last
 * steps that find little room. Measured on recorded runs of the policy. */
static const double MORE_STEPS = 1.25;

/* ------------------------------------------------------------------ work */

static int64_t prompt_tokens(const espl_prompts *p) {
    int64_t n = 0;
    for (int64_t i = 0; i < p->n_families; i++) n += p->families[i].n;
    for (int64_t i = 0; i < p->n; i++) n += p->prompts[i].n;
    return n;
}

static void count_questions(const espl_questions *q, int64_t *read, int64_t *made) {
    *read = *made = 0;
    if (q->has_mmlu) *read += prompt_tokens(&q->mmlu.prompts);
    if (!q->has_freebaseqa) return;
    *read += prompt_tokens(&q->freebaseqa.prompts);
    for (int64_t i = 0; i < q->freebaseqa.n; i++)
        *made += espl_min_i64(q->freebaseqa.questions[i].max_tokens, ANSWER_TOKENS);
}

espl_status espl_plan_count_work(const espl_job *j, espl_plan_work *out) {
    const espl_config *o = j->o;
    const espl_inputs *in = &j->inputs;
    espl_checkpoint_shape shape = espl_run_checkpoint_shape(&j->config, (espl_range){0});
    *out = (espl_plan_work){.o = o,
                            .config = &j->config,
                            .oneshot = espl_config_is_oneshot(o),
                            .profile_windows = in->profile.first[ESPL_TOPICS],
                            .judge_windows = in->judge.first[ESPL_TOPICS],
                            .distilled = in->distilled + (o->distill_share > 0 ? in->profile.first[ESPL_TOPICS] : 0),
                            .validation_tokens = in->validation.n / o->validation_window * o->validation_window,
                            .test_tokens = o->report_limit ? espl_min_i64(o->report_limit, in->test.n) : in->test.n,
                            .checkpoint_bytes = espl_checkpoint_bytes(&shape, o->checkpoint_alignment)};
    for (int64_t i = 0; i < out->judge_windows; i++) out->answer_tokens += in->judge.lengths[i];
    count_questions(&in->probe, &out->probe_tokens, &out->probe_decoded);
    count_questions(&in->report, &out->report_tokens, &out->report_decoded);
    ESPL_TRY(espl_footprint_of(j, &out->needs));
    if (o->prune_update != ESPL_UPDATE_NONE || espl_config_distills(o)) /* checkpoints hold all weights of linears */
        out->checkpoint_bytes +=
            j->config.layers * espl_model_layer_linear_weights(&j->config) * out->needs.bytes_per_weight;
    out->export_bytes = espl_model_parameters(out->config) * out->needs.bytes_per_weight;
    return espl_config_milestones(o, &out->milestones, &out->n_milestones);
}

void espl_plan_work_free(espl_plan_work *w) { espl_mem_free(&w->milestones); }

/* ------------------------------------------------------------- simulation */

/* The busiest rank of a team, compared with one that has a window to itself: shares of its time for the parts of a
 * pass. And seconds that a layer's exchanges take. */
typedef struct plan_team {
    double tokens, forward, backward, head;   /* of the tokens, of both passes of a layer, of the head */
    double attention;                         /* FLOPs of a token that are computed twice, over those of attention */
    double forward_seconds, backward_seconds; /* of a layer */
} plan_team;

/* A grid being simulated. */
typedef struct plan {
    const espl_plan_work *w;
    const espl_machine *machine;
    espl_plan_grid g;
    double slower;                       /* than the machine that was measured */
    espl_range *slices;                  /* [stages] */
    double *flops;                       /* [stages] FLOPs of a token's forward pass, by plan_set_context */
    double *forward, *sample, *backward; /* [stages] seconds of a pass */
    plan_team team;                      /* of a calibration window */
} plan;

static void plan_free(plan *p) {
    espl_mem_free(&p->slices);
    espl_mem_free(&p->flops);
    espl_mem_free(&p->forward);
    espl_mem_free(&p->sample);
    espl_mem_free(&p->backward);
}

/* --------------------------------------------------------------- teams */

/* Linears that share an input. */
typedef struct plan_linears {
    int n;
    espl_linear l[3];
} plan_linears;

enum { PLAN_GROUPS = 4 };
static void plan_groups(const espl_model_config *c, plan_linears groups[PLAN_GROUPS]) {
    static const espl_linear_kind first[PLAN_GROUPS] = {ESPL_Q_PROJ, ESPL_O_PROJ, ESPL_GATE_PROJ, ESPL_DOWN_PROJ};
    static const int n[PLAN_GROUPS] = {3, 1, 2, 1};
    for (int g = 0; g < PLAN_GROUPS; g++) {
        groups[g] = (plan_linears){.n = n[g]};
        for (int i = 0; i < n[g]; i++) {
            espl_linear *l = &groups[g].l[i];
            espl_model_linear_shape(c, (espl_linear_kind)((int)first[g] + i), &l->out, &l->in);
        }
    }
}

/* Shares of the time of a layer's linears: fewer tokens or weights are also fewer units of work for the threads. */
static void plan_share_linears(const plan *p, int64_t T, int64_t rows, plan_team *t) {
    double own[3] = {0}, whole[3] = {0}; /* forward, dx, gradients of weights */
    plan_linears groups[PLAN_GROUPS];
    int64_t threads = p->g.threads;
    int members = (int)p->g.members;
    plan_groups(p->w->config, groups);
    for (int g = 0; g < PLAN_GROUPS; g++) {
        const espl_linear *l = groups[g].l;
        int n = groups[g].n;
        bool by_columns = espl_calibration_cuts_inputs(l, n);
        espl_weight_block blocks[3] = {0};
        double most = 0;
        own[0] += espl_linear_elapsed(l, n, rows, T, threads);
        whole[0] += espl_linear_elapsed(l, n, T, T, threads);
        own[1] += espl_linear_backward_elapsed(l, n, rows, T, threads);
        whole[1] += espl_linear_backward_elapsed(l, n, T, T, threads);
        for (int part = 0; part < members; part++) {
            espl_gradient_part(l, n, by_columns, members, part, blocks);
            most = fmax(most, espl_gradient_elapsed(l, n, blocks, T, threads));
        }
        espl_gradient_part(l, n, by_columns, 1, 0, blocks);
        own[2] += most;
        whole[2] += espl_gradient_elapsed(l, n, blocks, T, threads);
    }
    t->forward = own[0] / whole[0];
    t->backward = (own[0] / whole[0] + own[1] / whole[1] + own[2] / whole[2]) / 3; /* computed again, dx, gradients */
}

/* What a rank of a team receives in a layer: keys and values; in the backward pass those once more, queries and their
 * gradients, the whole input or output gradient of each group of linears, and its part of the other. */
static void plan_time_exchanges(const plan *p, int64_t T, int64_t rounds, plan_team *t) {
    enum { FORWARD_CALLS = 3, BACKWARD_CALLS = 21 }; /* exchanges, some of them of a few bytes */
    const espl_model_config *c = p->w->config;
    double S = (double)p->g.members, q = (double)(c->heads * c->head_dim), kv = (double)(c->kv_heads * c->head_dim);
    double gathered = 2 * q, columns = 0, others = (S - 1) / S * (double)T * sizeof(float);
    plan_linears groups[PLAN_GROUPS];
    plan_groups(c, groups);
    for (int g = 0; g < PLAN_GROUPS; g++) {
        double outputs = 0, inputs = (double)groups[g].l[0].in;
        for (int i = 0; i < groups[g].n; i++) outputs += (double)groups[g].l[i].out;
        bool by_columns = espl_calibration_cuts_inputs(groups[g].l, groups[g].n);
        gathered += by_columns ? outputs : inputs;
        columns += by_columns ? inputs : outputs;
    }
    double call = (double)rounds * (S - 1) * p->machine->latency;
    t->forward_seconds = FORWARD_CALLS * call + others * 2 * kv / p->machine->bandwidth;
    t->backward_seconds = BACKWARD_CALLS * call + others * (2 * kv + gathered + columns / S) / p->machine->bandwidth;
}

static void plan_create_team(plan *p) {
    const espl_model_config *c = p->w->config;
    int64_t T = p->w->o->calibration_window, block = espl_tensor_block(T), members = p->g.members;
    int64_t blocks = (T + block - 1) / block, rounds = (blocks + members - 1) / members;
    int64_t rows = espl_min_i64(rounds * block, T);
    plan_team *t = &p->team;
    *t = (plan_team){.tokens = (double)rows / (double)T, .forward = 1, .backward = 1, .head = 1};
    if (members == 1) return;
    const espl_linear head = {.out = espl_min_i64(c->vocab, ESPL_HEAD_PIECE), .in = c->hidden};
    double whole = 2 * espl_linear_elapsed(&head, 1, T, T, p->g.threads) +
                   espl_linear_backward_elapsed(&head, 1, T, T, p->g.threads);
    t->head = (2 * espl_linear_elapsed(&head, 1, rows, T, p->g.threads) +
               espl_linear_backward_elapsed(&head, 1, rows, T, p->g.threads)) /
              whole;
    t->attention = t->tokens * (double)(members - 1) / (double)members;
    plan_share_linears(p, T, rows, t);
    plan_time_exchanges(p, T, rounds, t);
}

static espl_status plan_create(plan *p) {
    const espl_config *o = p->w->o;
    int64_t n = p->g.stages, context = espl_max_i64(o->calibration_window, o->validation_window);
    double flops = espl_machine_flops(p->machine, p->g.threads);
    p->slower = flops > 0 ? p->w->speed.flops / flops : 1;
    ESPL_TRY(espl_mem_alloc(&p->slices, n, sizeof *p->slices, "plan"));
    ESPL_TRY(espl_mem_alloc(&p->flops, n, sizeof *p->flops, "plan"));
    ESPL_TRY(espl_mem_alloc(&p->forward, n, sizeof *p->forward, "plan"));
    ESPL_TRY(espl_mem_alloc(&p->sample, n, sizeof *p->sample, "plan"));
    ESPL_TRY(espl_mem_alloc(&p->backward, n, sizeof *p->backward, "plan"));
    plan_create_team(p);
    return espl_model_partition(p->w->config, context, (int)n, p->slices);
}

static void plan_set_context(plan *p, int64_t context) {
    for (int64_t s = 0; s < p->g.stages; s++) {
        p->flops[s] = 0;
        for (int64_t i = p->slices[s].first; i < p->slices[s].last; i++)
            p->flops[s] += espl_model_layer_flops(p->w->config, i, context);
    }
}

/* What one replica does of n. */
static int64_t plan_share(const plan *p, int64_t n) { return (n + p->g.replicas - 1) / p->g.replicas; }

static double plan_handoff(const plan *p, int64_t tokens) {
    double bytes = (double)(tokens * p->w->config->hidden) * sizeof(float);
    return p->g.stages > 1 ? espl_machine_transfer(p->machine, bytes) : 0;
}

/* Tokens through the layers in micro-batches, `headed` of them through the head. Replicas share them in sequences of
 * `unit` tokens; 0: in micro-batches. */
static espl_status plan_evaluate(plan *p, int64_t tokens, int64_t headed, int64_t context, int64_t unit,
                                 espl_timeline *out) {
    const espl_plan_speed *v = &p->w->speed;
    int64_t batch = espl_min_i64(p->w->o->run_batch, espl_max_i64(tokens, 1)), last = p->g.stages - 1;
    if (unit == 0) unit = batch;
    batch = espl_min_i64(batch, unit);
    int64_t batches = plan_share(p, (tokens + unit - 1) / unit) * ((unit + batch - 1) / batch);
    double head = espl_model_head_flops(p->w->config) * (double)headed / fmax(1, (double)tokens);
    plan_set_context(p, context);
    for (int64_t s = 0; s <= last; s++) p->forward[s] = p->slower * v->forward * p->flops[s] * (double)batch;
    p->forward[last] += p->slower * v->head * head * (double)batch;
    espl_pipeline line = {.stages = p->g.stages, .forward = p->forward, .handoff = plan_handoff(p, batch)};
    return espl_pipeline_simulate(&line, batches, 0, out);
}

/* The largest slice's layers, and the weights of their linears. */
static double plan_layers(const plan *p) {
    int64_t most = 0;
    for (int64_t s = 0; s < p->g.stages; s++) most = espl_max_i64(most, espl_range_count(p->slices[s]));
    return (double)most;
}

static double plan_weights(const plan *p) {
    return plan_layers(p) * (double)espl_model_layer_linear_weights(p->w->config);
}

/* Bytes of the statistics of a window in the largest slice: in f64, one for each input and output feature. */
static double plan_statistics(const plan *p) {
    const espl_model_config *c = p->w->config;
    double features = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in, n = espl_layout_kind_linears(espl_model_layout(c), (espl_linear_kind)k);
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        features += (double)(n * (out + in));
    }
    return plan_layers(p) * features * sizeof(double);
}

/* Seconds in which the peers of a stage exchange so many bytes each: every one sends its part of the sums to all. */
static double plan_exchange(const plan *p, double bytes) {
    double R = (double)p->g.replicas;
    return R > 1 ? espl_machine_transfer(p->machine, bytes * (R - 1) / R) : 0;
}

/* FLOPs of attention in a token's forward pass through layers of the model. */
static double plan_attention_flops(const plan *p, espl_range layers, int64_t context) {
    double flops = 0, linears = 2 * (double)espl_model_layer_active_weights(p->w->config);
    for (int64_t i = layers.first; i < layers.last; i++)
        flops += espl_model_layer_flops(p->w->config, i, context) - linears;
    return flops;
}

/* Windows of calibration: forward ones, and samples with a backward pass. Teams share them, if `shared`. */
static espl_status plan_calibrate(plan *p, int64_t forward, int64_t samples, bool shared, espl_timeline *out) {
    const espl_plan_speed *v = &p->w->speed;
    const plan_team alone = {.tokens = 1, .forward = 1, .backward = 1, .head = 1}, *t = shared ? &p->team : &alone;
    int64_t window = p->w->o->calibration_window, last = p->g.stages - 1, members = shared ? p->g.members : 1;
    int64_t teams = p->g.replicas / members, others = espl_max_i64(forward - samples, 0);
    double head = espl_model_head_flops(p->w->config) * (double)window;
    plan_set_context(p, window);
    for (int64_t s = 0; s <= last; s++) {
        double flops = p->slower * p->flops[s] * (double)window, layers = (double)espl_range_count(p->slices[s]);
        double again = p->slower * plan_attention_flops(p, p->slices[s], window) * (double)window * t->attention;
        p->forward[s] = p->sample[s] = v->look * flops * t->forward + layers * t->forward_seconds;
        p->backward[s] = v->backward * flops * t->backward + v->look * again + layers * t->backward_seconds;
    }
    p->backward[last] += p->slower * v->head_backward * head * t->head;
    espl_pipeline line = {.stages = p->g.stages,
                          .forward = p->forward,
                          .sample = p->sample,
                          .backward = p->backward,
                          .handoff = plan_handoff(p, (int64_t)((double)window * t->tokens))};
    int64_t rounds = (samples + teams - 1) / teams;
    others = (others + teams - 1) / teams;
    ESPL_TRY(espl_pipeline_simulate(&line, rounds + others, rounds, out));
    out->seconds += (double)(rounds + others) * plan_exchange(p, plan_statistics(p));
    return ESPL_OK;
}

static espl_status plan_profile(plan *p, espl_plan_time *t) {
    const espl_config *o = p->w->o;
    espl_timeline questions;
    ESPL_TRY(plan_calibrate(p, o->calibration_forward, o->calibration_backward, true, &t->pass));
    ESPL_TRY(plan_calibrate(p, 0, p->w->profile_windows, true, &questions));
    t->profile =
        t->pass.seconds + questions.seconds + p->slower * p->w->speed.rows * plan_weights(p) / (double)p->g.replicas;
    return ESPL_OK;
}

/* Validation text, and the answers to the judge's questions, few of whose tokens go through the head. */
static espl_status plan_judge(plan *p, double *seconds, espl_timeline *text) {
    const espl_plan_work *w = p->w;
    espl_timeline answers = {0};
    ESPL_TRY(plan_evaluate(p, w->validation_tokens, w->validation_tokens, w->o->validation_window,
                           w->o->validation_window, text));
    if (w->answer_tokens > 0)
        ESPL_TRY(plan_evaluate(p, w->answer_tokens, w->answer_tokens / ANSWER_TOKENS, w->o->calibration_window, 0,
                               &answers));
    *seconds = text->seconds + answers.seconds;
    return ESPL_OK;
}

/* Prompts are read like text; a generated token passes all stages, whose turns overlap with those of other sequences.
 */
static espl_status plan_ask(plan *p, int64_t read, int64_t made, double *seconds) {
    const espl_plan_work *w = p->w;
    espl_timeline prompts = {0};
    if (read > 0) ESPL_TRY(plan_evaluate(p, read, 0, w->o->calibration_window, 0, &prompts));
    double turns = (double)plan_share(p, (made + ESPL_PLAN_DECODED - 1) / ESPL_PLAN_DECODED);
    double head = p->slower * w->speed.head * espl_model_head_flops(w->config) * ESPL_PLAN_DECODED;
    *seconds = prompts.seconds + turns * (p->slower * w->speed.decode * plan_weights(p) + head);
    return ESPL_OK;
}

/* Steps of distillation: a batch of windows back and forth, and Adam's step on the slice. */
static espl_status plan_distill(plan *p, double steps, double *seconds) {
    const espl_plan_speed *v = &p->w->speed;
    int64_t window = p->w->o->calibration_window, last = p->g.stages - 1;
    int64_t batch = espl_min_i64(p->w->o->distill_batch, p->w->distilled);
    double head = espl_model_head_flops(p->w->config) * (double)window;
    espl_timeline step = {0};
    *seconds = 0;
    if (steps <= 0 || batch <= 0) return ESPL_OK;
    plan_set_context(p, window);
    for (int64_t s = 0; s <= last; s++) {
        double both = p->slower * v->learn * p->flops[s] * (double)window;
        p->sample[s] = fmin(p->slower * v->forward * p->flops[s] * (double)window, both);
        p->backward[s] = both - p->sample[s];
    }
    p->backward[last] += p->slower * v->head_learn * head;
    espl_pipeline line = {.stages = p->g.stages,
                          .forward = p->sample,
                          .sample = p->sample,
                          .backward = p->backward,
                          .handoff = plan_handoff(p, window)};
    int64_t rounds = plan_share(p, batch);
    ESPL_TRY(espl_pipeline_simulate(&line, 0, rounds, &step));
    /* Gradients of all weights travel after each window, and their sums at the end. */
    double exchange = (double)(rounds + 1) * plan_exchange(p, plan_weights(p) * sizeof(float));
    *seconds = steps * (step.seconds + exchange + p->slower * v->adam * plan_weights(p));
    return ESPL_OK;
}

/* A one-shot method, or an update, deals its samples to all ranks in rounds. */
static double plan_rounds(const plan *p, const espl_method_options *method, double flops) {
    double ranks = (double)(p->g.replicas * p->g.stages), samples = (double)espl_max_i64(method->samples, 1);
    return flops * p->w->speed.look * p->slower * ceil(samples / ranks) / samples;
}

static double plan_method(const plan *p, const espl_method_options *method) {
    return plan_rounds(p, method, espl_method_flops(p->w->config, method));
}

static double plan_update(const plan *p) {
    const espl_method_options *method = &p->w->needs.method;
    if (!espl_config_updates_masked(p->w->o)) return 0;
    return plan_rounds(p, method, espl_method_update_flops(p->w->config, method));
}

static double plan_exponent(const plan *p, double validation) {
    if (!espl_footprint_tries_powers(&p->w->needs)) return 0;
    espl_method_options trial = espl_footprint_trial(&p->w->needs);
    return plan_method(p, &trial) + ESPL_CURVATURE_POWERS * validation;
}

/* Accepted and rolled back steps to the target. The policy plans for one milestone after the other: from a sparsity of
 * a fraction f of the next one it takes the part 1 - f ^ (1 / schedule) of its horizon. */
static double plan_iterations(const espl_plan_work *w) {
    const espl_config *o = w->o;
    double linears = (double)espl_model_linears_of(w->config), steps = 0, from = 0;
    double at_once = fmin((double)o->prune_max_linears, linears) * o->prune_max_step / linears;
    for (int64_t i = 0; i <= w->n_milestones && o->prune_target > 0; i++) {
        double to = i < w->n_milestones ? w->milestones[i] : o->prune_target;
        double planned = o->policy.horizon * (1 - pow(from / to, 1 / o->policy.schedule));
        steps += fmax(planned, (to - from) / at_once);
        from = to;
    }
    return w->oneshot ? 1 : ceil(fmin(MORE_STEPS * steps, (double)o->prune_max_iterations));
}

/* Before the first iteration the dense model is measured and, for distillation, teaches. */
static espl_status plan_ends(plan *p, espl_plan_time *t) {
    const espl_plan_work *w = p->w;
    const espl_config *o = w->o;
    espl_timeline test = {0}, teach = {0}, text;
    double validation, asked, probes, learn = 0;
    ESPL_TRY(plan_judge(p, &validation, &text));
    ESPL_TRY(plan_ask(p, w->probe_tokens, w->probe_decoded, &probes));
    t->prepare = validation + probes + plan_exponent(p, text.seconds);
    if (w->test_tokens > 0)
        ESPL_TRY(plan_evaluate(p, w->test_tokens, w->test_tokens, o->report_window, o->report_window, &test));
    ESPL_TRY(plan_ask(p, w->report_tokens, w->report_decoded, &asked));
    /* The loop has measured the validation text already, if it computes as the report does. */
    double report = test.seconds + asked + (o->report_arithmetic == o->compute_arithmetic ? 0 : text.seconds),
           export = (double)w->export_bytes / p->machine->disk;
    t->milestones = (double)w->n_milestones * (report + (o->run_export_milestones ? export : 0));
    t->finish = 2 * report + (o->run_export ? export : 0);
    if (!w->oneshot && o->prune_update_when == ESPL_UPDATE_WHEN_END) t->finish += plan_update(p);
    if (!espl_config_distills(o)) return ESPL_OK;
    ESPL_TRY(plan_calibrate(p, w->distilled, 0, false, &teach));
    double steps = ceil(o->distill_passes * (double)w->distilled / (double)espl_max_i64(o->distill_batch, 1));
    ESPL_TRY(plan_distill(p, steps, &learn));
    t->prepare += teach.seconds;
    t->finish += learn;
    return ESPL_OK;
}

static espl_status plan_iteration(plan *p, espl_plan_time *t) {
    const espl_plan_work *w = p->w;
    espl_timeline text;
    if (w->oneshot) {
        t->pruning = plan_method(p, &w->needs.method) + plan_update(p);
    } else {
        ESPL_TRY(plan_profile(p, t));
        ESPL_TRY(plan_ask(p, w->probe_tokens, w->probe_decoded, &t->probes));
        t->probes /= (double)espl_max_i64(w->o->probes_every, 1);
        ESPL_TRY(plan_distill(p, (double)w->o->distill_steps, &t->recovery));
        if (w->o->prune_update_when == ESPL_UPDATE_WHEN_STEP) t->recovery += plan_update(p);
    }
    ESPL_TRY(plan_judge(p, &t->judge, &text));
    if (w->oneshot) t->pass = text;
    t->checkpoint = (double)w->checkpoint_bytes / p->machine->disk;
    t->iteration = t->profile + t->pruning + t->judge + t->probes + t->recovery + t->checkpoint;
    return ESPL_OK;
}

espl_status espl_plan_simulate(const espl_plan_work *w, const espl_machine *m, espl_plan_grid g, espl_plan_time *out) {
    plan p = {.w = w, .machine = m, .g = g};
    espl_status st;
    *out = (espl_plan_time){0};
    ESPL_CHECK(st, done, plan_create(&p));
    ESPL_CHECK(st, done, plan_iteration(&p, out));
    ESPL_CHECK(st, done, plan_ends(&p, out));
    out->iterations = plan_iterations(w);
    out->total = out->prepare + out->iterations * out->iteration + out->milestones + out->finish;
done:
    plan_free(&p);
    return st;
}
