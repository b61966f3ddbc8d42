/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calibration pass through the pipeline: statistics forward, gradients backward.
 *
 * Every rank runs its passes in the order of espl_pass_order, which the options alone decide.
 *
 * Replicas share the windows in rounds of one window each. The statistics of a window are summed by themselves, then
 * added to those of the windows before it, in the order of windows: after each pass, the peers of a stage exchange the
 * statistics of their windows, and each adds up its part of the layer's features (espl_comm_add_round). So the bits of
 * a sum depend on the windows alone. The exchanges follow the order of the passes, which is that of every replica:
 * stage s waits for its peers only where one pipeline would wait for an earlier pass.
 *
 * A team of replicas takes a window together (team.h), each rank some of its tokens. Of a window's statistics each then
 * has some features and leaves 0 for the others, to which adding changes nothing: the exchange between peers is the
 * same.
 */
#include "espalier/model/calibration.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "calibrator.h"
#include "espalier/base/integer.h"
#include "espalier/base/region.h"
#include "espalier/model/shape.h"
#include "espalier/schedule/pipeline.h"
#include "layer.h"

/* ----------------------------------------------------------------- result */

static void calibration_count_predictions(const espl_calibration_options *o, espl_calibration *out) {
    int64_t targets = 0;
    out->predictions = (double)(o->window - 1);
    out->tokens = (double)o->window;
    if (!o->targets || o->backward == 0) return;
    for (int64_t i = 0; i < o->backward * o->window; i++) targets += o->targets[i] >= 0;
    out->predictions = out->tokens = (double)espl_max_i64(targets, 1) / (double)o->backward;
}

static espl_status calibration_create(const calibrator *c, espl_calibration *out) {
    const espl_model_config *g = &c->m->config;
    int64_t q = g->heads * g->head_dim;
    *out = (espl_calibration){.layout = espl_model_layout(g),
                              .linears = espl_model_linears(c->m),
                              .window = c->o->window,
                              .forward_tokens = c->o->forward * c->o->window,
                              .samples = c->o->backward};
    calibration_count_predictions(c->o, out);
    /* Linears with the same input share its squares. */
    out->at[ESPL_O_PROJ] = g->hidden;
    out->at[ESPL_GATE_PROJ] = out->at[ESPL_UP_PROJ] = g->hidden + q;
    out->at[ESPL_DOWN_PROJ] = 2 * g->hidden + q;
    out->expert_stride = g->hidden + g->ffn;
    out->stride = g->hidden + q + espl_layout_mlps(out->layout) * out->expert_stride;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t features, in;
        espl_model_linear_shape(g, (espl_linear_kind)k, &features, &in);
        out->output_at[k] = out->output_stride;
        out->output_stride += features;
        if (k >= ESPL_GATE_PROJ) out->output_expert_stride += features;
    }
    out->output_stride += (espl_layout_mlps(out->layout) - 1) * out->output_expert_stride;
    ESPL_TRY(espl_mem_alloc(&out->loss, c->o->backward, sizeof *out->loss, "losses"));
    ESPL_TRY(espl_mem_alloc(&out->gradient, espl_range_count(out->linears), sizeof *out->gradient, "gradients"));
    ESPL_TRY(espl_mem_alloc(&out->reached, espl_range_count(out->linears), sizeof *out->reached, "tokens of linears"));
    ESPL_TRY(espl_mem_alloc(&out->reached_backward, espl_range_count(out->linears), sizeof *out->reached_backward,
                            "tokens of linears"));
    ESPL_TRY(espl_mem_alloc(&out->squares, c->d.layers * out->stride, sizeof *out->squares, "activation statistics"));
    return espl_mem_alloc(&out->output_squares, c->d.layers * out->output_stride, sizeof *out->output_squares,
                          "gradient statistics");
}

/* ----------------------------------------------------------------- passes */

/* One window's way through this rank, forward or backward. */
typedef struct calibration_pass {
    bool backward;
    int64_t window;   /* -1: the last round has none for this replica */
    int64_t round;    /* of samples */
    int64_t turn;     /* counts the passes of a direction */
    int contributors; /* replicas, from the first on, whose windows in this round are measured; whole teams */
} calibration_pass;

/* Replicas that take one window together count once. */
static int64_t calibration_teams(const calibrator *c) { return c->grid->replicas / c->team.parts; }

/* Windows that the teams take in rounds: those with a backward pass, and the others, by which a pipeline begins. */
static int64_t calibration_sample_rounds(const calibrator *c) {
    return (c->o->backward + calibration_teams(c) - 1) / calibration_teams(c);
}

static int64_t calibration_rounds(const calibrator *c) {
    int64_t others = espl_max_i64(c->o->forward - c->o->backward, 0);
    return calibration_sample_rounds(c) + (others + calibration_teams(c) - 1) / calibration_teams(c);
}

/* The pass in which this replica takes part in a round: espl_pass_order counts rounds as one pipeline does windows. */
static calibration_pass pass_of_round(const calibrator *c, const espl_pass *order) {
    const espl_calibration_options *o = c->o;
    int64_t teams = calibration_teams(c), samples = calibration_sample_rounds(c);
    bool sample = order->window < samples;
    int64_t first = sample ? order->window * teams : o->backward + (order->window - samples) * teams;
    int64_t end = sample ? o->backward : o->forward, window = first + c->grid->replica / c->team.parts;
    int64_t measured = espl_min_i64(order->backward ? o->backward : o->forward, end);
    return (calibration_pass){.backward = order->backward,
                              .window = window < end ? window : -1,
                              .round = order->window,
                              .turn = order->turn,
                              .contributors =
                                  c->team.parts * (int)espl_max_i64(espl_min_i64(measured - first, teams), 0)};
}

/* A single rank has one buffer per direction: nothing is on its way while it computes. */
static float *pass_buffer(const calibrator *c, const calibration_pass *p) {
    float *const all[2][STREAMS] = {{c->b.stream0, c->b.stream1, c->b.stream2}, {c->b.grad0, c->b.grad1, c->b.grad2}};
    return all[p->backward][c->d.several ? p->turn % STREAMS : 0];
}

/* A sample's slot is free again once its backward pass is done, before the sample in_flight rounds later comes. */
static float *saved_input(const calibrator *c, const calibration_pass *p, int64_t local_layer) {
    return c->b.saved + (p->round % c->d.in_flight * c->d.layers + local_layer) * c->d.n * c->d.C;
}

/* Samples with a backward pass save the input of every layer. */
static void pass_forward(calibrator *c, const calibration_pass *p) {
    espl_model *m = c->m;
    const window_team *t = &c->team;
    float *x = pass_buffer(c, p);
    if (m->first) {
        for (int64_t k = 0; k < t->blocks; k++)
            espl_layer_embed(m, m->ends.embed, c->ids + p->window * t->T + espl_team_block_first(t, k),
                             espl_team_block_rows(t, k), x + k * t->block * c->d.C);
        if (m->tap) m->tap(m->tap_context, -1, x, t->rows);
    }
    for (int64_t l = 0; l < c->d.layers; l++) {
        if (p->window < c->o->backward) memcpy(saved_input(c, p, l), x, (size_t)(t->rows * c->d.C) * sizeof *x);
        espl_calibrate_layer_forward(c, l, x, p->window < c->o->forward);
        espl_comm_progress(m->grid->pipeline);
    }
    if (m->last && c->o->final_states && p->window < c->o->forward) espl_calibrate_final_states(c, p->window, x);
}

/* On the last rank the sample's forward pass came just before: its output is still in the stream. */
static void pass_backward(calibrator *c, const calibration_pass *p, const calibration_pass *before) {
    float *dy = pass_buffer(c, p);
    if (c->m->last) espl_calibrate_head(c, p->window, pass_buffer(c, before), dy);
    for (int64_t l = c->d.layers - 1; l >= 0; l--) {
        espl_calibrate_layer_backward(c, l, saved_input(c, p, l), dy);
        espl_comm_progress(c->grid->pipeline);
    }
}

/* Starts receiving the input of pass p; the buffer may still be sending an earlier one. */
static espl_status pass_receive(calibrator *c, const calibration_pass *p) {
    int at = (int)(p->turn % STREAMS), from = c->grid->stage + (p->backward ? 1 : -1);
    if (p->window < 0 || (p->backward ? c->m->last : c->m->first)) return ESPL_OK;
    espl_model_wait(c->m, &c->sends[p->backward][at]);
    return espl_comm_receive(c->grid->pipeline, pass_buffer(c, p), c->team.rows * c->d.C * (int64_t)sizeof(float), from,
                             &c->receives[p->backward][at]);
}

/* Adds the statistics that the replicas have measured in a round. */
static void pass_add_statistics(calibrator *c, const calibration_pass *p) {
    calibration_buffers *b = &c->b;
    int64_t outputs = c->d.layers * c->d.output_stride, linears = c->d.layers * c->d.linears;
    if (p->contributors == 0) return;
    if (!p->backward) {
        espl_comm_add_round_f64(c->grid->peers, b->part_squares, c->d.layers * c->d.stride, p->contributors, b->round,
                                c->out->squares);
    } else if (linears > 0) {
        espl_comm_add_round_f64(c->grid->peers, b->part_outputs, outputs, p->contributors, b->round,
                                c->out->output_squares);
        espl_comm_add_round_f64(c->grid->peers, b->part_gradients, linears, p->contributors, b->round,
                                c->out->gradient);
    }
}

/* This rank's part of a pass, and its result on its way to the next rank. */
static espl_status pass_run(calibrator *c, const calibration_pass *p, const calibration_pass *before) {
    calibration_buffers *b = &c->b;
    int64_t layers = c->d.layers;
    int at = (int)(p->turn % STREAMS), to = c->grid->stage + (p->backward ? -1 : 1);
    c->contributors = p->contributors;
    if (p->window < 0) {
        for (int64_t l = layers - 1; p->backward && l >= 0; l--) espl_calibrate_layer_absent(c, l);
        return ESPL_OK;
    }
    espl_model_wait(c->m, &c->sends[p->backward][at]);
    espl_model_wait(c->m, &c->receives[p->backward][at]);
    if (p->backward) {
        memset(b->part_outputs, 0, (size_t)(layers * c->d.output_stride) * sizeof *b->part_outputs);
        memset(b->part_gradients, 0, (size_t)(layers * c->d.linears) * sizeof *b->part_gradients);
        pass_backward(c, p, before);
    } else {
        memset(b->part_squares, 0, (size_t)(layers * c->d.stride) * sizeof *b->part_squares);
        pass_forward(c, p);
    }
    if (p->backward ? c->m->first : c->m->last) return ESPL_OK;
    return espl_comm_send(c->grid->pipeline, pass_buffer(c, p), c->team.rows * c->d.C * (int64_t)sizeof(float), to,
                          &c->sends[p->backward][at]);
}

static espl_status calibration_run(calibrator *c, const espl_pass *order, int64_t n, espl_model_progress progress,
                                   void *context) {
    calibration_pass before = {0}, now = pass_of_round(c, &order[0]), next = now;
    espl_status st = pass_receive(c, &now);
    for (int64_t i = 0; i < n && st == ESPL_OK; i++, before = now, now = next) {
        if (i + 1 < n) next = pass_of_round(c, &order[i + 1]);
        if (i + 1 < n) ESPL_CHECK(st, done, pass_receive(c, &next)); /* arrives while this pass is computed */
        ESPL_CHECK(st, done, pass_run(c, &now, &before));
        pass_add_statistics(c, &now);
        if (progress) progress(context, i + 1, n);
    }
done:
    for (int i = 0; i < STREAMS; i++) {
        espl_model_wait(c->m, &c->sends[false][i]);
        espl_model_wait(c->m, &c->sends[true][i]);
    }
    return st;
}

/* Adds up the counts [n] of all replicas, on each of them. Numbers of tokens are exact as doubles. */
static void share_counts(const calibrator *c, int64_t *counts, int64_t n) {
    espl_comm *peers = c->grid->peers;
    double *mine = c->b.part_squares, *scratch = c->b.round, *total = scratch + n + c->grid->replicas;
    for (int64_t i = 0; i < n; i++) {
        mine[i] = (double)counts[i];
        total[i] = 0;
    }
    espl_comm_add_round_f64(peers, mine, n, c->grid->replicas, scratch, total);
    espl_comm_share_parts(peers, total, NULL, n, sizeof *total);
    for (int64_t i = 0; i < n; i++) counts[i] = (int64_t)total[i];
}

/* Every replica gets the sums, of which it has formed its part, and the final states of the others' windows. */
static void calibration_share(const calibrator *c) {
    espl_comm *peers = c->grid->peers;
    const espl_calibration *out = c->out;
    float *const *weights = c->gradient_squares ? c->gradient_squares : c->o->gradient_sums;
    int64_t floats = c->d.T * c->d.C, backward = c->o->backward;
    if (c->grid->replicas == 1) return;
    share_counts(c, out->reached, espl_range_count(out->linears));
    share_counts(c, out->reached_backward, espl_range_count(out->linears));
    espl_comm_share_parts(peers, out->squares, NULL, c->d.layers * out->stride, sizeof *out->squares);
    espl_comm_share_parts(peers, out->output_squares, NULL, c->d.layers * c->d.output_stride,
                          sizeof *out->output_squares);
    espl_comm_share_parts(peers, out->gradient, NULL, c->d.layers * c->d.linears, sizeof *out->gradient);
    for (int64_t i = 0; weights && i < espl_range_count(out->linears); i++) {
        const espl_linear *l = espl_model_linear(c->m, out->linears.first + i);
        espl_comm_share_parts(peers, weights[i], NULL, l->out * l->in, sizeof *weights[i]);
    }
    for (int64_t i = 0; c->m->last && c->o->final_states && i < c->o->forward; i++) {
        int64_t owner = (i < backward ? i : i - backward) % c->grid->replicas;
        espl_comm_broadcast(peers, c->o->final_states + i * floats, floats * (int64_t)sizeof(float), (int)owner);
    }
}

/* ------------------------------------------------------------------ entry */

espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out) {
    const espl_grid *grid = m->grid;
    int64_t windows = espl_max_i64(o->forward, o->backward);
    espl_pass *passes = NULL;
    *out = (espl_calibration){0};
    /* The same verdict on every rank: no agreement is needed. */
    if (o->forward < 0 || o->backward < 0 || windows < 1 || o->window < 2 || o->window > m->options.context)
        return ESPL_FAIL(ESPL_USAGE,
                         "calibration with %" PRId64 " forward and %" PRId64 " backward windows of %" PRId64
                         " tokens, expected at least one window of 2 to %" PRId64,
                         o->forward, o->backward, o->window, m->options.context);
    ESPL_TRY(espl_calibration_check_backward(m));
    ESPL_TRY(espl_model_check_ids(m, "token", ids, windows * o->window, 0));
    if (o->targets) ESPL_TRY(espl_model_check_ids(m, "target", o->targets, o->backward * o->window, INT32_MIN));
    if (o->choices) ESPL_TRY(espl_model_check_ids(m, "choice", o->choices, o->n_choices, 0));

    calibrator c = {.m = m, .o = o, .ids = ids, .out = out, .grid = grid, .gradient_squares = o->gradient_squares};
    int parts = espl_calibration_parts(&m->config, o, grid);
    c.d = espl_calibration_dims_of(&m->config, o, m->slice, grid);
    c.team = espl_team_of(grid->team, grid->replica % parts, parts, o->window);
    /* All memory is taken before the first transfer: no rank can fail while others wait for it. */
    espl_status st = calibration_create(&c, out);
    if (st == ESPL_OK) st = espl_mem_alloc(&passes, o->forward + 2 * o->backward, sizeof *passes, "schedule");
    if (st == ESPL_OK) st = espl_calibration_buffers_create(&c.d, &c.team, &c.arena, &c.b);
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, st));
    const calibration_buffers *b = &c.b;
    if (!passes || !b->part_squares || !b->part_outputs || !b->part_gradients)
        goto done; /* never: the ranks agreed that all memory is there */
    int64_t n = espl_pass_order(calibration_rounds(&c), calibration_sample_rounds(&c),
                                espl_max_i64(c.d.in_flight - 1, 0), passes);
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, calibration_run(&c, passes, n, progress, context)));
    calibration_share(&c);
    /* Sums over samples and weights become means. */
    for (int64_t i = 0; i < espl_range_count(out->linears); i++) {
        int64_t weights = espl_linear_survivors(espl_model_linear(m, out->linears.first + i)) * o->backward;
        out->gradient[i] = weights > 0 ? out->gradient[i] / (double)weights : NAN;
    }
    espl_calibration_finish_experts(m, out);
    espl_comm_broadcast(grid->pipeline, out->loss, out->samples * (int64_t)sizeof *out->loss, grid->stages - 1);
    espl_comm_merge(grid->peers, out->loss, out->samples * (int64_t)sizeof *out->loss);
done:
    if (st != ESPL_OK) espl_calibration_free(out);
    espl_mem_free(&passes);
    espl_arena_destroy(&c.arena);
    return st;
}
