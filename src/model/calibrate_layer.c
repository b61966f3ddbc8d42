/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer with everything that its backward pass needs, and that pass; then the head's.
 *
 * Only a layer's input outlives its forward pass; the backward pass computes the activations again (Chen et al. 2016).
 * A window is one sequence without a cache, so keys and values are those of the window. All sums are over the tokens of
 * one sample on one rank that holds the layer: they depend neither on ranks nor on threads.
 */
#include <string.h>

#include "calibrator.h"
#include "espalier/base/region.h"
#include "espalier/model/shape.h"
#include "espalier/tensor/statistics.h"
#include "experts.h"
#include "layer.h"

/* ---------------------------------------------------------------- experts */

static expert_routing calibrate_routing(const calibrator *c) {
    const calibration_buffers *b = &c->b;
    return (expert_routing){.probs = b->route_probs,
                            .chosen = b->route_chosen,
                            .weights = b->route_weights,
                            .slots = b->route_slots,
                            .first = b->route_first};
}

mlp_rows espl_calibrate_mlp(const calibrator *c, int64_t mlp) {
    const calibration_buffers *b = &c->b;
    if (c->d.E == 0)
        return (mlp_rows){.n = c->d.T, .in = b->middle_normed, .gate = b->gate, .up = b->up, .product = b->product};
    int64_t first = b->route_first[mlp], wide = first * c->d.F;
    return (mlp_rows){.n = b->route_first[mlp + 1] - first,
                      .in = b->expert_in + first * c->d.C,
                      .gate = b->gate + wide,
                      .up = b->up + wide,
                      .product = b->product + wide};
}

/* The linears of an expert: gate, up and down. */
static const espl_linear *expert_linears(const calibrator *c, int64_t local_layer, int64_t expert) {
    return &c->m->layers[local_layer].linears[espl_linear_at(ESPL_GATE_PROJ, expert)];
}

/* Routes middle_normed, and runs each expert up to the input of its down_proj. */
static void trace_experts(calibrator *c, int64_t local_layer) {
    const expert_routing r = calibrate_routing(c);
    espl_experts_route(c->m, local_layer, c->b.middle_normed, c->d.T, &r);
    for (int64_t e = 0; e < c->d.E; e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        float *gate_up[2] = {rows.gate, rows.up};
        if (rows.n == 0) continue;
        double t = espl_clock_now();
        espl_experts_gather(c->m, &r, e, false, c->b.middle_normed, rows.in);
        t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        espl_tensor_linear(expert_linears(c, local_layer, e), 2, rows.in, rows.n, gate_up, false, c->m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_tensor_glu_to(c->m->config.activation, rows.gate, rows.up, rows.n * c->d.F, rows.product);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    }
}

/* mlp_raw = what the experts of a layer make together. */
static void sum_experts(calibrator *c, int64_t local_layer) {
    const expert_routing r = calibrate_routing(c);
    memset(c->b.mlp_raw, 0, (size_t)(c->d.T * c->d.C) * sizeof *c->b.mlp_raw);
    for (int64_t e = 0; e < c->d.E; e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        if (rows.n == 0) continue;
        double t = espl_clock_now();
        espl_tensor_linear(expert_linears(c, local_layer, e) + 2, 1, rows.product, rows.n, &c->b.expert_out, false,
                           c->m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_experts_scatter(c->m, &r, e, true, c->b.expert_out, c->b.mlp_raw);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    }
}

static void add_experts(calibrator *c, int64_t local_layer, float *x) {
    float *scratch = c->d.branches ? c->b.branch : c->b.mlp_raw;
    sum_experts(c, local_layer);
    espl_layer_add_raw(c->m, local_layer, ESPL_DOWN_PROJ, c->b.mlp_raw, c->d.T, scratch, x);
}

/* ---------------------------------------------------------------- forward */

void espl_calibrate_trace(calibrator *c, int64_t local_layer, float *x) {
    const espl_model_config *g = &c->m->config;
    const model_layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    espl_attention_shape shape = espl_model_attention_shape(c->m, local_layer);
    espl_attention a = {.q = b->q, .out = b->attended, .k = b->k_heads, .v = b->v_heads, .T = T, .capacity = T};
    const float *before_attention = l->norms[ESPL_NORM_ATTENTION_IN], *before_mlp = l->norms[ESPL_NORM_MLP_IN];
    float eps = (float)g->rms_eps, *qkv[3] = {b->q, b->k, b->v}, *gate_up[2] = {b->gate, b->up};
    size_t stream_bytes = (size_t)(T * g->hidden) * sizeof *x;
    a.lse = b->lse; /* the backward pass recomputes probabilities from it */
    double t = espl_clock_now();
    if (before_attention)
        espl_tensor_rmsnorm(x, before_attention, T, g->hidden, eps, b->normed);
    else
        memcpy(b->normed, x, stream_bytes); /* the inputs of linears are kept, x changes */
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear(&l->linears[ESPL_Q_PROJ], 3, b->normed, T, qkv, false, c->m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    if (c->d.back && c->d.qk_norm) { /* the input of the norms, which work in place */
        memcpy(b->q_raw, b->q, (size_t)(T * c->d.Q) * sizeof(float));
        memcpy(b->k_raw, b->k, (size_t)(T * c->d.KV) * sizeof(float));
    }
    espl_layer_norm_rope(c->m, local_layer, false, b->q, T, b->positions);
    espl_layer_norm_rope(c->m, local_layer, true, b->k, T, b->positions);
    espl_tensor_cache_store(b->k, T, g->kv_heads, g->head_dim, b->k_heads, T);
    espl_tensor_cache_store(b->v, T, g->kv_heads, g->head_dim, b->v_heads, T);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_attention(&shape, &a, 1, c->m->workspace);
    espl_region_lap(ESPL_REGION_ATTENTION, t);
    espl_layer_add_branch(c->m, local_layer, ESPL_O_PROJ, b->attended, T, b->attention_raw, b->branch, x);

    t = espl_clock_now();
    if (before_mlp)
        espl_tensor_rmsnorm(x, before_mlp, T, g->hidden, eps, b->middle_normed);
    else
        memcpy(b->middle_normed, x, stream_bytes);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    if (g->experts > 0) {
        trace_experts(c, local_layer);
        return;
    }
    espl_tensor_linear(&l->linears[ESPL_GATE_PROJ], 2, b->middle_normed, T, gate_up, false, c->m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_glu_to(g->activation, b->gate, b->up, T * c->d.F, b->product);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

/* Adds the squares of the inputs of a layer's linears to those of the window, and counts the tokens that came to each.
 */
static void count_inputs(calibrator *c, int64_t local_layer) {
    const calibration_buffers *b = &c->b;
    espl_calibration *out = c->out;
    int64_t T = c->d.T, linears = espl_layout_layer_linears(out->layout);
    int64_t *reached = out->reached + local_layer * linears;
    double *sums = c->b.part_squares + local_layer * out->stride, t = espl_clock_now();
    /* q, k, v share an input, and so do gate and up */
    espl_tensor_square_sums(b->normed, T, c->d.C, sums + out->at[ESPL_Q_PROJ]);
    espl_tensor_square_sums(b->attended, T, c->d.Q, sums + out->at[ESPL_O_PROJ]);
    for (int64_t e = 0; e < espl_layout_mlps(out->layout); e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        double *at = sums + e * out->expert_stride;
        espl_tensor_square_sums(rows.in, rows.n, c->d.C, at + out->at[ESPL_GATE_PROJ]);
        espl_tensor_square_sums(rows.product, rows.n, c->d.F, at + out->at[ESPL_DOWN_PROJ]);
        for (int k = ESPL_GATE_PROJ; k < ESPL_LINEAR_KINDS; k++)
            reached[espl_linear_at((espl_linear_kind)k, e)] += rows.n;
    }
    for (int k = 0; k < ESPL_GATE_PROJ; k++) reached[k] += T;
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_layer_forward(calibrator *c, int64_t local_layer, float *x, bool count) {
    espl_calibrate_trace(c, local_layer, x);
    if (count) count_inputs(c, local_layer);
    if (c->m->config.experts > 0)
        add_experts(c, local_layer, x);
    else
        espl_layer_add_branch(c->m, local_layer, ESPL_DOWN_PROJ, c->b.product, c->d.T, c->b.mlp_raw, c->b.branch, x);
    if (c->m->tap) c->m->tap(c->m->tap_context, c->m->slice.first + local_layer, x, c->d.T);
}

/* --------------------------------------------------------------- backward */

/* Scores and distillation that need each weight's gradient: f32 for every weight of the slice. Replicas exchange the
 * gradients of one linear at a time, which then are added in the order of their windows. x NULL: no token of
 * this one's window reaches the linear, or it has none. */
static void weight_gradient_add(calibrator *c, const espl_linear *l, int64_t index, const float *x, const float *dy,
                                int64_t T) {
    float *total = c->gradient_squares ? c->gradient_squares[index] : c->o->gradient_sums[index];
    bool alone = !c->grid || c->grid->replicas == 1;
    float *own = alone ? total : c->b.part_weights;
    if (!alone) memset(own, 0, (size_t)(l->out * l->in) * sizeof *own);
    if (x && c->gradient_squares)
        espl_tensor_gradient_squares(l, x, dy, T, own, c->m->workspace);
    else if (x)
        espl_tensor_gradient_add(l, x, dy, T, own, c->m->workspace);
    if (!alone)
        espl_comm_add_round_f32(c->grid->peers, own, l->out * l->in, c->contributors, c->b.round_weights, total);
}

/* The same of the linears from place `first` of a layer on, without tokens. */
static void weight_gradient_skip(calibrator *c, int64_t local_layer, int64_t first, int n) {
    int64_t index = espl_linear_index(espl_model_layout(&c->m->config), local_layer, first);
    if (!c->gradient_squares && !c->o->gradient_sums) return;
    for (int i = 0; i < n; i++)
        weight_gradient_add(c, &c->m->layers[local_layer].linears[first + i], index + i, NULL, NULL, 0);
}

/* The order of linears is that of espl_calibrate_layer_backward. */
void espl_calibrate_layer_absent(calibrator *c, int64_t local_layer) {
    for (int64_t e = 0; e < espl_layout_mlps(espl_model_layout(&c->m->config)); e++) {
        weight_gradient_skip(c, local_layer, espl_linear_at(ESPL_DOWN_PROJ, e), 1);
        weight_gradient_skip(c, local_layer, espl_linear_at(ESPL_GATE_PROJ, e), 2);
    }
    weight_gradient_skip(c, local_layer, ESPL_O_PROJ, 1);
    weight_gradient_skip(c, local_layer, ESPL_Q_PROJ, 3);
}

/* n linears from place `first` of a layer on with the common input x [T, in], given dy of each: adds what is wanted of
 * their dL/dW to the result, and sets dx [T, in], which may be x. */
static void linears_backward(calibrator *c, int64_t local_layer, int64_t first, int n, const float *x, int64_t T,
                             const float *const *dy, float *dx) {
    const espl_linear *l = &c->m->layers[local_layer].linears[first];
    int64_t index = espl_linear_index(espl_model_layout(&c->m->config), local_layer, first);
    double sums[ESPL_LINEAR_KINDS], t = espl_clock_now();
    if (c->gradient_squares || c->o->gradient_sums) {
        for (int i = 0; i < n; i++) weight_gradient_add(c, &l[i], index + i, x, dy[i], T);
    } else {
        espl_tensor_gradient_sums(l, n, x, dy, T, c->b.partial, sums, c->m->workspace);
        for (int i = 0; i < n; i++) {
            c->b.part_gradients[index + i] += sums[i];
            c->out->reached_backward[index + i] += T;
            espl_tensor_square_sums(dy[i], T, l[i].out,
                                    c->b.part_outputs +
                                        espl_calibration_output_at(c->out, c->out->linears.first + index + i));
        }
    }
    espl_tensor_linear_backward(l, n, dy, T, dx, false, c->m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
}

/* The gradient of o_proj's or down_proj's output `raw` [T, hidden], given dy of the stream that it is added to. */
static const float *branch_backward(calibrator *c, int64_t local_layer, espl_linear_kind kind, const float *raw,
                                    const float *dy) {
    const espl_model_config *g = &c->m->config;
    const float *norm = espl_layer_out_norm(c->m, local_layer, kind);
    int64_t T = c->d.T, C = c->d.C;
    float scale = (float)g->residual_scale, *d = c->b.branch;
    if (!c->d.branches) return dy;
    double t = espl_clock_now();
    memset(d, 0, (size_t)(T * C) * sizeof *d); /* both kernels add */
    if (norm) {
        espl_tensor_rmsnorm_backward(raw, norm, dy, T, C, (float)g->rms_eps, d);
        if (scale != 1) espl_tensor_scale(d, scale, T * C);
    } else {
        espl_tensor_add_scaled(d, dy, scale, T * C);
    }
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    return d;
}

/* dy += the gradient of what a branch reads, given that of its norm's output d_normed; x is the stream at that place.
 */
static void branch_input_backward(calibrator *c, const float *norm, const float *x, float *dy) {
    int64_t T = c->d.T, C = c->d.C;
    double t = espl_clock_now();
    if (norm)
        espl_tensor_rmsnorm_backward(x, norm, c->b.d_normed, T, C, (float)c->m->config.rms_eps, dy);
    else
        espl_tensor_add_scaled(dy, c->b.d_normed, 1, T * C);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

/* The experts of a layer and their router, given dy of what they make together: sets d_normed. The gradient of an
 * expert's product takes the place of that product, those of gate and up take theirs. */
static void experts_backward(calibrator *c, int64_t local_layer, const float *dy) {
    const espl_model_config *g = &c->m->config;
    const espl_route_shape shape = espl_experts_shape(g);
    const expert_routing r = calibrate_routing(c);
    calibration_buffers *b = &c->b;
    const float *d_route[1] = {b->d_route}, *out[1] = {b->expert_out};
    int64_t T = c->d.T;
    memset(b->d_normed, 0, (size_t)(T * c->d.C) * sizeof *b->d_normed);
    for (int64_t e = 0; e < c->d.E; e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        const float *gate_up[2] = {rows.gate, rows.up};
        if (rows.n == 0) { /* the peers may have tokens for it */
            weight_gradient_skip(c, local_layer, espl_linear_at(ESPL_DOWN_PROJ, e), 1);
            weight_gradient_skip(c, local_layer, espl_linear_at(ESPL_GATE_PROJ, e), 2);
            continue;
        }
        double t = espl_clock_now();
        espl_tensor_linear(expert_linears(c, local_layer, e) + 2, 1, rows.product, rows.n, &b->expert_out, false,
                           c->m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_experts_weigh(c->m, &r, e, dy, b->expert_out, b->d_weights);
        espl_experts_gather(c->m, &r, e, true, dy, b->expert_out);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        linears_backward(c, local_layer, espl_linear_at(ESPL_DOWN_PROJ, e), 1, rows.product, rows.n, out, rows.product);
        t = espl_clock_now();
        espl_tensor_glu_backward(g->activation, rows.gate, rows.up, rows.product, rows.n * c->d.F);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        linears_backward(c, local_layer, espl_linear_at(ESPL_GATE_PROJ, e), 2, rows.in, rows.n, gate_up, b->expert_out);
        t = espl_clock_now();
        espl_experts_scatter(c->m, &r, e, false, b->expert_out, b->d_normed);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    }
    double t = espl_clock_now();
    espl_tensor_route_backward(&shape, b->route_probs, b->route_chosen, b->d_weights, T, b->d_route);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear_backward(&c->m->layers[local_layer].router, 1, d_route, T, b->d_normed, true, c->m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
}

void espl_calibrate_layer_backward(calibrator *c, int64_t local_layer, const float *x, float *dy) {
    const espl_model_config *g = &c->m->config;
    const model_layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    const float *out[1], *gate_up[2] = {b->gate, b->up}, *qkv[3] = {b->d_q, b->k, b->v};
    memcpy(b->middle, x, (size_t)(T * c->d.C) * sizeof *x);
    espl_calibrate_trace(c, local_layer, b->middle);
    bool normed = espl_layer_out_norm(c->m, local_layer, ESPL_DOWN_PROJ) != NULL; /* then its input is needed */
    if (normed && g->experts > 0) {
        sum_experts(c, local_layer);
    } else if (normed) {
        double t = espl_clock_now();
        espl_tensor_linear(&l->linears[ESPL_DOWN_PROJ], 1, b->product, T, &b->mlp_raw, false, c->m->workspace);
        espl_region_lap(ESPL_REGION_LINEAR, t);
    }

    /* MLP. The gradient of down_proj's input takes the place of that input, those of gate and up take theirs. */
    out[0] = branch_backward(c, local_layer, ESPL_DOWN_PROJ, b->mlp_raw, dy);
    double t;
    if (g->experts > 0) {
        experts_backward(c, local_layer, out[0]);
    } else {
        linears_backward(c, local_layer, ESPL_DOWN_PROJ, 1, b->product, T, out, b->product);
        t = espl_clock_now();
        espl_tensor_glu_backward(g->activation, b->gate, b->up, b->product, T * c->d.F);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        linears_backward(c, local_layer, ESPL_GATE_PROJ, 2, b->middle_normed, T, gate_up, b->d_normed);
    }
    branch_input_backward(c, l->norms[ESPL_NORM_MLP_IN], b->middle, dy);

    /* Attention. dk and dv take the places of k and v, whose values are in k_heads and v_heads. */
    out[0] = branch_backward(c, local_layer, ESPL_O_PROJ, b->attention_raw, dy);
    linears_backward(c, local_layer, ESPL_O_PROJ, 1, b->attended, T, out, b->d_attended);
    espl_attention_shape shape = espl_model_attention_shape(c->m, local_layer);
    espl_attention_gradient a = {.q = b->q, .dout = b->d_attended, .T = T, .capacity = T};
    a.k = b->k_heads, a.v = b->v_heads, a.lse = b->lse, a.delta = b->delta;
    a.dq = b->d_q, a.dk = b->k, a.dv = b->v;
    t = espl_clock_now();
    espl_tensor_attention_delta(&shape, b->attended, b->d_attended, T, b->delta);
    espl_tensor_attention_backward(&shape, &a, c->m->workspace);
    t = espl_region_lap(ESPL_REGION_ATTENTION, t);
    /* q_raw and k_raw are empty without norms, and then not read. */
    espl_layer_norm_rope_backward(c->m, local_layer, false, b->q_raw, b->d_q, T, b->positions);
    espl_layer_norm_rope_backward(c->m, local_layer, true, b->k_raw, b->k, T, b->positions);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    linears_backward(c, local_layer, ESPL_Q_PROJ, 3, b->normed, T, qkv, b->d_normed);
    branch_input_backward(c, l->norms[ESPL_NORM_ATTENTION_IN], x, dy);
    if (c->m->gradient_tap) c->m->gradient_tap(c->m->gradient_context, c->m->slice.first + local_layer - 1, dy, T);
}

/* Packs the rows of x that have a target, and the targets, at the front; returns how many. Few tokens of a window of
 * questions are answers, and the head is the dearest part of a small model. */
static int64_t head_pack(float *x, int32_t *targets, int64_t T, int64_t C) {
    int64_t n = 0;
    for (int64_t t = 0; t < T; t++) {
        if (targets[t] < 0) continue;
        if (n < t) memcpy(x + n * C, x + t * C, (size_t)C * sizeof *x);
        targets[n++] = targets[t];
    }
    return n;
}

/* Puts packed rows back to the places of their targets; the other rows become 0. */
static void head_unpack(float *x, const int32_t *targets, int64_t T, int64_t C, int64_t n) {
    for (int64_t t = T - 1; t >= 0; t--) {
        bool has = targets[t] >= 0;
        if (has && --n < t) memcpy(x + t * C, x + n * C, (size_t)C * sizeof *x);
        if (!has) memset(x + t * C, 0, (size_t)C * sizeof *x);
    }
}

/* L_i = sum of -log p(target), over the number of predictions of a mean sample. The last token of a text predicts
 * nothing. b->d_normed becomes the gradient of the final norm's output. */
static double head_predict(calibrator *c, int64_t i) {
    const espl_calibration_options *o = c->o;
    const espl_linear *head = &c->m->ends.head;
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    float scale = 1.0f / (float)c->out->predictions;
    double sum = 0;
    memcpy(b->targets, c->ids + i * T + 1, (size_t)(T - 1) * sizeof *b->targets);
    b->targets[T - 1] = -1;
    int64_t n = T;
    if (o->targets) {
        memcpy(b->targets, o->targets + i * T, (size_t)T * sizeof *b->targets);
        n = head_pack(b->normed, b->targets, T, c->d.C);
    }
    if (o->choices)
        espl_tensor_choices(head, b->normed, n, b->targets, o->choices, o->n_choices, scale, b->logprob, b->d_normed,
                            c->m->workspace);
    else if (n > 0)
        espl_tensor_head_backward(head, b->normed, n, b->targets, scale, b->logprob, b->d_normed, b->head,
                                  c->m->workspace);
    if (o->targets) head_unpack(b->d_normed, o->targets + i * T, T, c->d.C, n);
    for (int64_t t = 0; t < n; t++) sum -= b->logprob[t];
    return sum / c->out->predictions;
}

/* L_i = mean divergence from the teacher's predictions, times the sample's scale. */
static double head_distill(calibrator *c, int64_t i) {
    const espl_calibration_options *o = c->o;
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T, n = o->lengths[i];
    double sum = 0;
    espl_tensor_head_distill(&c->m->ends.head, b->normed, o->teacher[i], T, n, o->scales[i] / (float)n, b->logprob,
                             b->d_normed, b->head, c->m->workspace);
    for (int64_t t = 0; t < n; t++) sum += b->logprob[t];
    return (double)o->scales[i] * sum / (double)n;
}

void espl_calibrate_head(calibrator *c, int64_t i, const float *x, float *dx) {
    ESPL_REGION_SCOPE(ESPL_REGION_HEAD);
    const espl_model *m = c->m;
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    float eps = (float)m->config.rms_eps;
    espl_tensor_rmsnorm(x, m->ends.final_norm, T, c->d.C, eps, b->normed);
    c->out->loss[i] = c->o->teacher ? head_distill(c, i) : head_predict(c, i);
    memset(dx, 0, (size_t)(T * c->d.C) * sizeof *dx); /* rmsnorm_backward adds */
    espl_tensor_rmsnorm_backward(x, m->ends.final_norm, b->d_normed, T, c->d.C, eps, dx);
    if (m->gradient_tap) m->gradient_tap(m->gradient_context, m->config.layers - 1, dx, T);
}

void espl_calibrate_final_states(calibrator *c, int64_t i, const float *x) {
    int64_t T = c->d.T, C = c->d.C;
    espl_tensor_rmsnorm(x, c->m->ends.final_norm, T, C, (float)c->m->config.rms_eps, c->o->final_states + i * T * C);
}
