/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calibration pass through the pipeline: statistics forward, gradients backward.
 *
 * Every rank runs its passes in the order of espl_pass_order, which the options alone decide; sums over samples are
 * added in sample order, each on the one rank that holds the layer.
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

/* A single rank has one buffer per direction: nothing is on its way while it computes. */
static float *pass_buffer(const calibrator *c, const espl_pass *p) {
    float *const all[2][STREAMS] = {{c->b.stream0, c->b.stream1, c->b.stream2}, {c->b.grad0, c->b.grad1, c->b.grad2}};
    return all[p->backward][c->d.several ? p->turn % STREAMS : 0];
}

/* A sample's slot is free again once its backward pass is done, before the sample in_flight later comes. */
static float *saved_input(const calibrator *c, int64_t sample, int64_t local_layer) {
    return c->b.saved + (sample % c->d.in_flight * c->d.layers + local_layer) * c->d.T * c->d.C;
}

/* Samples with a backward pass save the input of every layer. */
static void pass_forward(calibrator *c, const espl_pass *p) {
    espl_model *m = c->m;
    int64_t T = c->d.T, C = c->d.C;
    float *x = pass_buffer(c, p);
    if (m->first) {
        espl_layer_embed(m, m->ends.embed, c->ids + p->window * T, T, x);
        if (m->tap) m->tap(m->tap_context, -1, x, T);
    }
    for (int64_t l = 0; l < c->d.layers; l++) {
        if (p->window < c->o->backward) memcpy(saved_input(c, p->window, l), x, (size_t)(T * C) * sizeof *x);
        espl_calibrate_layer_forward(c, l, x, p->window < c->o->forward);
        espl_comm_progress(m->comm);
    }
    if (m->last && c->o->final_states && p->window < c->o->forward) espl_calibrate_final_states(c, p->window, x);
}

/* On the last rank the sample's forward pass came just before: its output is still in the stream. */
static void pass_backward(calibrator *c, const espl_pass *p, const espl_pass *before) {
    float *dy = pass_buffer(c, p);
    if (c->m->last) espl_calibrate_head(c, p->window, pass_buffer(c, before), dy);
    for (int64_t l = c->d.layers - 1; l >= 0; l--) {
        espl_calibrate_layer_backward(c, l, saved_input(c, p->window, l), dy);
        espl_comm_progress(c->m->comm);
    }
}

/* Starts receiving the input of pass p; the buffer may still be sending an earlier one. */
static espl_status pass_receive(calibrator *c, const espl_pass *p) {
    int at = (int)(p->turn % STREAMS), from = espl_comm_rank(c->m->comm) + (p->backward ? 1 : -1);
    if (p->backward ? c->m->last : c->m->first) return ESPL_OK;
    espl_model_wait(c->m, &c->sends[p->backward][at]);
    return espl_comm_receive(c->m->comm, pass_buffer(c, p), c->d.T * c->d.C * (int64_t)sizeof(float), from,
                             &c->receives[p->backward][at]);
}

static espl_status calibration_run(calibrator *c, const espl_pass *passes, int64_t n, espl_model_progress progress,
                                   void *context) {
    espl_comm *comm = c->m->comm;
    espl_status st = pass_receive(c, passes);
    for (int64_t i = 0; i < n && st == ESPL_OK; i++) {
        const espl_pass *p = &passes[i];
        int at = (int)(p->turn % STREAMS), to = espl_comm_rank(comm) + (p->backward ? -1 : 1);
        if (i + 1 < n) ESPL_CHECK(st, done, pass_receive(c, p + 1)); /* arrives while this pass is computed */
        espl_model_wait(c->m, &c->sends[p->backward][at]);
        espl_model_wait(c->m, &c->receives[p->backward][at]);
        if (p->backward)
            pass_backward(c, p, p - 1);
        else
            pass_forward(c, p);
        if (p->backward ? !c->m->first : !c->m->last)
            st = espl_comm_send(comm, pass_buffer(c, p), c->d.T * c->d.C * (int64_t)sizeof(float), to,
                                &c->sends[p->backward][at]);
        if (progress) progress(context, i + 1, n);
    }
done:
    for (int i = 0; i < STREAMS; i++) {
        espl_model_wait(c->m, &c->sends[false][i]);
        espl_model_wait(c->m, &c->sends[true][i]);
    }
    return st;
}

/* ------------------------------------------------------------------ entry */

espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out) {
    int rank = espl_comm_rank(m->comm), ranks = espl_comm_size(m->comm);
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

    calibrator c = {.m = m, .o = o, .ids = ids, .out = out, .gradient_squares = o->gradient_squares};
    c.d = espl_calibration_dims_of(&m->config, o, m->slice, rank, ranks);
    /* All memory is taken before the first transfer: no rank can fail while others wait for it. */
    espl_status st = calibration_create(&c, out);
    if (st == ESPL_OK) st = espl_mem_alloc(&passes, o->forward + 2 * o->backward, sizeof *passes, "schedule");
    if (st == ESPL_OK) st = espl_calibration_buffers_create(&c.d, &c.arena, &c.b);
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, st));
    if (!passes) goto done; /* never: the ranks agreed that all memory is there */
    int64_t n = espl_pass_order(o->forward, o->backward, espl_pass_ahead(o->backward, rank, ranks), passes);
    ESPL_CHECK(st, done, espl_comm_agree(m->comm, calibration_run(&c, passes, n, progress, context)));
    /* Sums over samples and weights become means. */
    for (int64_t i = 0; i < espl_range_count(out->linears); i++) {
        int64_t weights = espl_linear_survivors(espl_model_linear(m, out->linears.first + i)) * o->backward;
        out->gradient[i] = weights > 0 ? out->gradient[i] / (double)weights : NAN;
    }
    espl_calibration_finish_experts(m, out);
    espl_comm_broadcast(m->comm, out->loss, out->samples * (int64_t)sizeof *out->loss, ranks - 1);
done:
    if (st != ESPL_OK) espl_calibration_free(out);
    espl_mem_free(&passes);
    espl_arena_destroy(&c.arena);
    return st;
}
