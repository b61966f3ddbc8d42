/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One decoder layer with everything that its backward pass needs, and that pass; then the head's.
 *
 * Only a layer's input outlives its forward pass; the backward pass computes the activations again (Chen et al. 2016).
 * A window is one sequence without a cache, so keys and values are those of the window.
 *
 * The ranks of a team share the window by tokens (team.h). What is computed token by token stays where the token is.
 * Attention needs the keys and values of all tokens, and its backward pass also the queries and their gradients.
 * Gradients of weights are sums over all tokens of which the absolute value is taken: each rank forms some of the
 * weights' whole, from columns of x and dy that it gathers. Sums of squares run over the tokens of a block, then over
 * the blocks in their order. So no result depends on how many ranks share a window.
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
        return (mlp_rows){
            .n = c->team.rows, .in = b->middle_normed, .gate = b->gate, .up = b->up, .product = b->product};
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

/* Routes middle_normed, and runs each expert up to the input of its down_proj, or gathers its inputs only. */
static void trace_experts(calibrator *c, int64_t local_layer, bool inputs_only) {
    const expert_routing r = calibrate_routing(c);
    espl_experts_route(c->m, local_layer, c->b.middle_normed, c->team.rows, &r);
    for (int64_t e = 0; e < c->d.E; e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        float *gate_up[2] = {rows.gate, rows.up};
        if (rows.n == 0) continue;
        double t = espl_clock_now();
        espl_experts_gather(c->m, &r, e, false, c->b.middle_normed, rows.in);
        t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        if (inputs_only) continue;
        espl_tensor_linear(expert_linears(c, local_layer, e), 2, rows.in, rows.n, gate_up, false, c->m->workspace);
        t = espl_region_lap(ESPL_REGION_LINEAR, t);
        espl_tensor_glu_to(c->m->config.activation, rows.gate, rows.up, rows.n * c->d.F, rows.product);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    }
}

/* mlp_raw = what the experts of a layer make together. */
static void sum_experts(calibrator *c, int64_t local_layer) {
    const expert_routing r = calibrate_routing(c);
    memset(c->b.mlp_raw, 0, (size_t)(c->team.rows * c->d.C) * sizeof *c->b.mlp_raw);
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
    espl_layer_add_raw(c->m, local_layer, ESPL_DOWN_PROJ, c->b.mlp_raw, c->team.rows, scratch, x);
}

/* ---------------------------------------------------------------- forward */

/* The keys or values of the whole window [kv_heads, T, head_dim] from those of this rank's tokens. */
static void trace_store_keys(const calibrator *c, const float *own, float *whole, float *heads) {
    const espl_model_config *g = &c->m->config;
    int64_t T = c->d.T;
    if (c->team.parts > 1) espl_team_gather(&c->team, own, c->d.KV, c->b.counts, whole);
    double t = espl_clock_now();
    espl_tensor_cache_store(c->team.parts > 1 ? whole : own, T, g->kv_heads, g->head_dim, heads, T);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

/* Each block of tokens attends as a sequence of its own, so that blocks of queries lie within it. The backward pass
 * recomputes probabilities from lse. */
static void trace_attend(calibrator *c, int64_t local_layer) {
    const espl_attention_shape shape = espl_model_attention_shape(c->m, local_layer);
    const window_team *team = &c->team;
    calibration_buffers *b = &c->b;
    double t = espl_clock_now();
    for (int64_t k = 0; k < team->blocks; k++) {
        int64_t row = k * team->block;
        b->sequences[k] = (espl_attention){.q = b->q + row * c->d.Q,
                                           .out = b->attended + row * c->d.Q,
                                           .lse = b->lse + row * c->d.H,
                                           .k = b->k_heads,
                                           .v = b->v_heads,
                                           .T = espl_team_block_rows(team, k),
                                           .pos = espl_team_block_first(team, k),
                                           .capacity = c->d.T};
    }
    espl_tensor_attention(&shape, b->sequences, team->blocks, c->m->workspace);
    espl_region_lap(ESPL_REGION_ATTENTION, t);
}

void espl_calibrate_attention(calibrator *c, int64_t local_layer, const float *x, bool input_only) {
    const espl_model_config *g = &c->m->config;
    const model_layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t n = c->team.rows;
    const float *before = l->norms[ESPL_NORM_ATTENTION_IN];
    float *qkv[3] = {b->q, b->k, b->v};
    double t = espl_clock_now();
    if (before)
        espl_tensor_rmsnorm(x, before, n, g->hidden, (float)g->rms_eps, b->normed);
    else
        memcpy(b->normed, x, (size_t)(n * g->hidden) * sizeof *x); /* the inputs of linears are kept, x changes */
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    if (input_only) return;
    espl_tensor_linear_blocks(&l->linears[ESPL_Q_PROJ], 3, b->normed, n, c->d.T, qkv, false, c->m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    if (c->d.back && c->d.qk_norm) { /* the input of the norms, which work in place */
        memcpy(b->q_raw, b->q, (size_t)(n * c->d.Q) * sizeof(float));
        memcpy(b->k_raw, b->k, (size_t)(n * c->d.KV) * sizeof(float));
    }
    espl_layer_norm_rope(c->m, local_layer, false, b->q, n, b->positions);
    espl_layer_norm_rope(c->m, local_layer, true, b->k, n, b->positions);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    trace_store_keys(c, b->k, b->whole_k, b->k_heads);
    trace_store_keys(c, b->v, b->whole_v, b->v_heads);
    trace_attend(c, local_layer);
}

void espl_calibrate_add_attention(calibrator *c, int64_t local_layer, float *x) {
    const calibration_buffers *b = &c->b;
    espl_layer_add_branch(c->m, local_layer, ESPL_O_PROJ, b->attended, c->team.rows, c->d.T, b->attention_raw,
                          b->branch, x);
}

void espl_calibrate_feed(calibrator *c, int64_t local_layer, const float *x, bool input_only) {
    const espl_model_config *g = &c->m->config;
    const model_layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t n = c->team.rows;
    const float *before = l->norms[ESPL_NORM_MLP_IN];
    float *gate_up[2] = {b->gate, b->up};
    double t = espl_clock_now();
    if (before)
        espl_tensor_rmsnorm(x, before, n, g->hidden, (float)g->rms_eps, b->middle_normed);
    else
        memcpy(b->middle_normed, x, (size_t)(n * g->hidden) * sizeof *x);
    t = espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    if (g->experts > 0) {
        trace_experts(c, local_layer, input_only);
        return;
    }
    if (input_only) return;
    espl_tensor_linear_blocks(&l->linears[ESPL_GATE_PROJ], 2, b->middle_normed, n, c->d.T, gate_up, false,
                              c->m->workspace);
    t = espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_tensor_glu_to(g->activation, b->gate, b->up, n * c->d.F, b->product);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_add_feed(calibrator *c, int64_t local_layer, float *x) {
    const calibration_buffers *b = &c->b;
    if (c->m->config.experts > 0)
        add_experts(c, local_layer, x);
    else
        espl_layer_add_branch(c->m, local_layer, ESPL_DOWN_PROJ, b->product, c->team.rows, c->d.T, b->mlp_raw,
                              b->branch, x);
}

void espl_calibrate_trace(calibrator *c, int64_t local_layer, float *x) {
    espl_calibrate_attention(c, local_layer, x, false);
    espl_calibrate_add_attention(c, local_layer, x);
    espl_calibrate_feed(c, local_layer, x, false);
}

/* sums [C] of each block += the squares of its rows of x [rows, C]; from one block's sums to the next `stride`. */
static void count_blocks(const calibrator *c, const float *x, int64_t C, double *sums, int64_t stride) {
    const window_team *t = &c->team;
    for (int64_t k = 0; k < t->blocks; k++)
        espl_tensor_square_sums(x + k * t->block * C, espl_team_block_rows(t, k), C, sums + k * stride);
}

/* Adds the squares of the inputs of a layer's linears to those of the window, and counts the tokens that came to each.
 * The tokens of an expert are on one rank, and are summed as one block. */
static void count_inputs(calibrator *c, int64_t local_layer) {
    const calibration_buffers *b = &c->b;
    espl_calibration *out = c->out;
    int64_t n = c->team.rows, linears = espl_layout_layer_linears(out->layout), stride = c->d.block_stride;
    int64_t *reached = out->reached + local_layer * linears;
    double *sums = c->b.part_squares + local_layer * out->stride, *blocks = b->block_squares, t = espl_clock_now();
    bool experts = c->d.E > 0;
    memset(blocks, 0, (size_t)(c->d.blocks * stride) * sizeof *blocks);
    /* q, k, v share an input, and so do gate and up */
    count_blocks(c, b->normed, c->d.C, blocks + out->at[ESPL_Q_PROJ], stride);
    count_blocks(c, b->attended, c->d.Q, blocks + out->at[ESPL_O_PROJ], stride);
    if (!experts) {
        count_blocks(c, b->middle_normed, c->d.C, blocks + out->at[ESPL_GATE_PROJ], stride);
        count_blocks(c, b->product, c->d.F, blocks + out->at[ESPL_DOWN_PROJ], stride);
    }
    for (int64_t e = 0; e < espl_layout_mlps(out->layout); e++) {
        mlp_rows rows = espl_calibrate_mlp(c, e);
        double *at = sums + e * out->expert_stride;
        if (experts) {
            espl_tensor_square_sums(rows.in, rows.n, c->d.C, at + out->at[ESPL_GATE_PROJ]);
            espl_tensor_square_sums(rows.product, rows.n, c->d.F, at + out->at[ESPL_DOWN_PROJ]);
        }
        for (int k = ESPL_GATE_PROJ; k < ESPL_LINEAR_KINDS; k++)
            reached[espl_linear_at((espl_linear_kind)k, e)] += rows.n;
    }
    for (int k = 0; k < ESPL_GATE_PROJ; k++) reached[k] += n;
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    espl_team_add_blocks(&c->team, blocks, stride, b->round, sums);
}

void espl_calibrate_layer_forward(calibrator *c, int64_t local_layer, float *x, bool count) {
    espl_calibrate_trace(c, local_layer, x);
    if (count) count_inputs(c, local_layer);
    espl_calibrate_add_feed(c, local_layer, x);
    if (c->m->tap) c->m->tap(c->m->tap_context, c->m->slice.first + local_layer, x, c->team.rows);
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

/* Where the squared gradients of a linear's outputs are summed. */
static double *output_squares(const calibrator *c, int64_t index) {
    return c->b.part_outputs + espl_calibration_output_at(c->out, c->out->linears.first + index);
}

/* Which columns of the weights of linear i of n each part has, or which rows. */
static void team_parts(const calibrator *c, const espl_linear *l, int n, int i, bool by_columns) {
    for (int part = 0; part < c->team.parts; part++) {
        espl_weight_block all[ESPL_LINEAR_KINDS] = {0}, *w = &all[i];
        espl_gradient_part(l, n, by_columns, c->team.parts, part, all);
        c->b.columns[part] =
            by_columns ? (espl_range){w->c0, w->c0 + w->columns} : (espl_range){w->r0, w->r0 + w->rows};
    }
}

/* sums [n] = those of |dL/dW|, and the squared gradients of outputs, of linears whose tokens are all here. */
static void window_gradient_sums(calibrator *c, const espl_linear *l, int n, int64_t index, const float *x,
                                 const float *const *dy, int64_t T, double *sums) {
    double t = espl_clock_now();
    espl_tensor_gradient_sums(l, n, x, dy, T, c->b.partial, sums, c->m->workspace);
    for (int i = 0; i < n; i++) espl_tensor_square_sums(dy[i], T, l[i].out, output_squares(c, index + i));
    espl_region_lap(ESPL_REGION_LINEAR, t);
}

/* The same of linears whose x and dy the team has by tokens. Every rank forms whole tiles of its part of the weights,
 * from all tokens. */
static void team_gradient_sums(calibrator *c, const espl_linear *l, int n, int64_t index, const float *x,
                               const float *const *dy, double *sums) {
    const window_team *team = &c->team;
    calibration_buffers *b = &c->b;
    bool by_columns = espl_calibration_cuts_inputs(l, n);
    int64_t T = team->T;
    espl_weight_block mine[ESPL_LINEAR_KINDS] = {0};
    const float *x_part = by_columns ? b->whole1 : b->whole0, *dy_part[ESPL_LINEAR_KINDS] = {b->whole0};
    espl_gradient_part(l, n, by_columns, team->parts, team->part, mine);
    if (by_columns) {
        team_parts(c, l, n, 0, true);
        espl_team_gather(team, dy[0], l->out, b->counts, b->whole0);
        espl_team_gather_columns(team, x, l->in, b->columns, b->pack, b->counts, b->whole1);
    } else {
        float *to = b->whole1;
        espl_team_gather(team, x, l->in, b->counts, b->whole0);
        for (int i = 0; i < n; to += T * mine[i++].rows) {
            team_parts(c, l, n, i, false);
            espl_team_gather_columns(team, dy[i], l[i].out, b->columns, b->pack, b->counts, to);
            dy_part[i] = to;
        }
    }
    double t = espl_clock_now();
    espl_tensor_gradient_partials(l, n, mine, x_part, dy_part, T, b->partial, c->m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
    espl_comm_merge(team->comm, b->partial, espl_gradient_partials(l, n) * (int64_t)sizeof *b->partial);
    espl_gradient_add_partials(l, n, b->partial, sums);
    t = espl_clock_now();
    for (int i = 0; i < n; i++) {
        double *squares = output_squares(c, index + i);
        if (!by_columns) { /* of the outputs of its part of the weights */
            espl_tensor_square_sums(dy_part[i], T, mine[i].rows, squares + mine[i].r0);
            continue;
        }
        int64_t first = espl_part_begin(l[i].out, team->parts, team->part); /* all outputs are here: some for each */
        int64_t last = espl_part_begin(l[i].out, team->parts, team->part + 1);
        espl_tensor_column_square_sums(dy_part[i] + first, l[i].out, T, last - first, squares + first);
    }
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

/* n linears from place `first` of a layer on with the common input x [rows, in], given dy of each: adds what is wanted
 * of their dL/dW to the result, and sets dx [rows, in], which may be x. T: of how many tokens the rows are blocks. */
static void linears_backward(calibrator *c, int64_t local_layer, int64_t first, int n, const float *x, int64_t rows,
                             int64_t T, const float *const *dy, float *dx) {
    const espl_linear *l = &c->m->layers[local_layer].linears[first];
    int64_t index = espl_linear_index(espl_model_layout(&c->m->config), local_layer, first);
    double sums[ESPL_LINEAR_KINDS], t = espl_clock_now();
    if (c->gradient_squares || c->o->gradient_sums) {
        for (int i = 0; i < n; i++) weight_gradient_add(c, &l[i], index + i, x, dy[i], rows);
    } else {
        if (c->team.parts > 1)
            team_gradient_sums(c, l, n, index, x, dy, sums);
        else
            window_gradient_sums(c, l, n, index, x, dy, rows, sums);
        for (int i = 0; i < n; i++) {
            if (c->team.part == 0) c->b.part_gradients[index + i] += sums[i]; /* the same on every rank of the team */
            c->out->reached_backward[index + i] += rows;
        }
        t = espl_clock_now();
    }
    espl_tensor_linear_backward_blocks(l, n, dy, rows, T, dx, false, c->m->workspace);
    espl_region_lap(ESPL_REGION_LINEAR, t);
}

/* The gradient of o_proj's or down_proj's output `raw` [rows, hidden], given dy of the stream that it is added to. */
static const float *branch_backward(calibrator *c, int64_t local_layer, espl_linear_kind kind, const float *raw,
                                    const float *dy) {
    const espl_model_config *g = &c->m->config;
    const float *norm = espl_layer_out_norm(c->m, local_layer, kind);
    int64_t n = c->team.rows, C = c->d.C;
    float scale = (float)g->residual_scale, *d = c->b.branch;
    if (!c->d.branches) return dy;
    double t = espl_clock_now();
    memset(d, 0, (size_t)(n * C) * sizeof *d); /* both kernels add */
    if (norm) {
        espl_tensor_rmsnorm_backward(raw, norm, dy, n, C, (float)g->rms_eps, d);
        if (scale != 1) espl_tensor_scale(d, scale, n * C);
    } else {
        espl_tensor_add_scaled(d, dy, scale, n * C);
    }
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
    return d;
}

/* dy += the gradient of what a branch reads, given that of its norm's output d_normed; x is the stream at that place.
 */
static void branch_input_backward(calibrator *c, const float *norm, const float *x, float *dy) {
    int64_t n = c->team.rows, C = c->d.C;
    double t = espl_clock_now();
    if (norm)
        espl_tensor_rmsnorm_backward(x, norm, c->b.d_normed, n, C, (float)c->m->config.rms_eps, dy);
    else
        espl_tensor_add_scaled(dy, c->b.d_normed, 1, n * C);
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
        linears_backward(c, local_layer, espl_linear_at(ESPL_DOWN_PROJ, e), 1, rows.product, rows.n, rows.n, out,
                         rows.product);
        t = espl_clock_now();
        espl_tensor_glu_backward(g->activation, rows.gate, rows.up, rows.product, rows.n * c->d.F);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        linears_backward(c, local_layer, espl_linear_at(ESPL_GATE_PROJ, e), 2, rows.in, rows.n, rows.n, gate_up,
                         b->expert_out);
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

/* d_attended becomes the gradients of queries, keys and values before norms and RoPE: d_q, and k and v, which take the
 * places of what is also in k_heads and v_heads. A team gathers the queries and the gradients of what they attended. */
static void attention_backward(calibrator *c, int64_t local_layer) {
    const espl_attention_shape shape = espl_model_attention_shape(c->m, local_layer);
    const window_team *team = &c->team;
    calibration_buffers *b = &c->b;
    int64_t n = team->rows;
    espl_attention_gradient a = {.q = b->q,
                                 .dout = b->d_attended,
                                 .k = b->k_heads,
                                 .v = b->v_heads,
                                 .lse = b->lse,
                                 .delta = b->delta,
                                 .dq = b->d_q,
                                 .dk = b->k,
                                 .dv = b->v,
                                 .T = c->d.T,
                                 .capacity = c->d.T,
                                 .block = team->block,
                                 .part = team->part,
                                 .parts = team->parts};
    double t = espl_clock_now();
    espl_tensor_attention_delta(&shape, b->attended, b->d_attended, n, b->delta);
    t = espl_region_lap(ESPL_REGION_ATTENTION, t);
    if (team->parts > 1) {
        espl_team_gather(team, b->q, c->d.Q, b->counts, b->whole0);
        espl_team_gather(team, b->d_attended, c->d.Q, b->counts, b->whole1);
        espl_team_gather(team, b->lse, c->d.H, b->counts, b->whole_lse);
        espl_team_gather(team, b->delta, c->d.H, b->counts, b->whole_delta);
        a.q = b->whole0, a.dout = b->whole1, a.lse = b->whole_lse, a.delta = b->whole_delta;
        a.dq = b->whole_dq, a.dk = b->whole_k, a.dv = b->whole_v;
        t = espl_clock_now();
    }
    espl_tensor_attention_backward(&shape, &a, c->m->workspace);
    t = espl_region_lap(ESPL_REGION_ATTENTION, t);
    if (team->parts > 1) {
        espl_team_take(team, a.dq, c->d.Q, b->d_q);
        espl_team_take(team, a.dk, c->d.KV, b->k);
        espl_team_take(team, a.dv, c->d.KV, b->v);
    }
    /* q_raw and k_raw are empty without norms, and then not read. */
    espl_layer_norm_rope_backward(c->m, local_layer, false, b->q_raw, b->d_q, n, b->positions);
    espl_layer_norm_rope_backward(c->m, local_layer, true, b->k_raw, b->k, n, b->positions);
    espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_layer_backward(calibrator *c, int64_t local_layer, const float *x, float *dy) {
    const espl_model_config *g = &c->m->config;
    const model_layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T, n = c->team.rows;
    const float *out[1], *gate_up[2] = {b->gate, b->up}, *qkv[3] = {b->d_q, b->k, b->v};
    memcpy(b->middle, x, (size_t)(n * c->d.C) * sizeof *x);
    espl_calibrate_trace(c, local_layer, b->middle);
    bool normed = espl_layer_out_norm(c->m, local_layer, ESPL_DOWN_PROJ) != NULL; /* then its input is needed */
    if (normed && g->experts > 0) {
        sum_experts(c, local_layer);
    } else if (normed) {
        double t = espl_clock_now();
        espl_tensor_linear_blocks(&l->linears[ESPL_DOWN_PROJ], 1, b->product, n, T, &b->mlp_raw, false,
                                  c->m->workspace);
        espl_region_lap(ESPL_REGION_LINEAR, t);
    }

    /* MLP. The gradient of down_proj's input takes the place of that input, those of gate and up take theirs. */
    out[0] = branch_backward(c, local_layer, ESPL_DOWN_PROJ, b->mlp_raw, dy);
    if (g->experts > 0) {
        experts_backward(c, local_layer, out[0]);
    } else {
        linears_backward(c, local_layer, ESPL_DOWN_PROJ, 1, b->product, n, T, out, b->product);
        double t = espl_clock_now();
        espl_tensor_glu_backward(g->activation, b->gate, b->up, b->product, n * c->d.F);
        espl_region_lap(ESPL_REGION_ELEMENTWISE, t);
        linears_backward(c, local_layer, ESPL_GATE_PROJ, 2, b->middle_normed, n, T, gate_up, b->d_normed);
    }
    branch_input_backward(c, l->norms[ESPL_NORM_MLP_IN], b->middle, dy);

    out[0] = branch_backward(c, local_layer, ESPL_O_PROJ, b->attention_raw, dy);
    linears_backward(c, local_layer, ESPL_O_PROJ, 1, b->attended, n, T, out, b->d_attended);
    attention_backward(c, local_layer);
    linears_backward(c, local_layer, ESPL_Q_PROJ, 3, b->normed, n, T, qkv, b->d_normed);
    branch_input_backward(c, l->norms[ESPL_NORM_ATTENTION_IN], x, dy);
    if (c->m->gradient_tap) c->m->gradient_tap(c->m->gradient_context, c->m->slice.first + local_layer - 1, dy, n);
}

/* -------------------------------------------------------------------- head */

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

/* The head of targets that few tokens have. A team gathers these tokens, of which each rank then takes all through the
 * head: to share them would save little. Returns the sum of log p(target). */
static double head_predict_targets(calibrator *c, int64_t i, float scale) {
    const espl_calibration_options *o = c->o;
    const espl_linear *head = &c->m->ends.head;
    calibration_buffers *b = &c->b;
    bool alone = c->team.parts == 1;
    int64_t T = c->d.T, C = c->d.C;
    float *x = alone ? b->normed : b->whole0, *dx = alone ? b->d_normed : b->whole1;
    double sum = 0;
    if (!alone) espl_team_gather(&c->team, b->normed, C, b->counts, x);
    memcpy(b->targets, o->targets + i * T, (size_t)T * sizeof *b->targets);
    int64_t n = head_pack(x, b->targets, T, C);
    if (o->choices)
        espl_tensor_choices(head, x, n, b->targets, o->choices, o->n_choices, scale, b->logprob, dx, c->m->workspace);
    else if (n > 0)
        espl_tensor_head_backward(head, x, n, b->targets, scale, b->logprob, dx, b->head, c->m->workspace);
    head_unpack(dx, o->targets + i * T, T, C, n);
    if (!alone) espl_team_take(&c->team, dx, C, b->d_normed);
    for (int64_t t = 0; t < n; t++) sum += b->logprob[t];
    return c->team.part == 0 ? sum : 0;
}

/* The head of the next token, at all tokens but the last, which predicts nothing. Returns the sum of log p(target) on
 * one rank of the team, 0 on the others. */
static double head_predict_next(calibrator *c, int64_t i, float scale) {
    const window_team *t = &c->team;
    calibration_buffers *b = &c->b;
    double sum = 0;
    for (int64_t r = 0; r < t->rows; r++) {
        int64_t next = b->positions[r] + 1;
        b->targets[r] = next < t->T ? c->ids[i * t->T + next] : -1;
    }
    espl_tensor_head_backward_blocks(&c->m->ends.head, b->normed, t->rows, t->T, b->targets, scale, b->logprob,
                                     b->d_normed, b->head, c->m->workspace);
    memset(b->block_losses, 0, (size_t)c->d.blocks * sizeof *b->block_losses);
    for (int64_t k = 0; k < t->blocks; k++)
        for (int64_t r = 0; r < espl_team_block_rows(t, k); r++) b->block_losses[k] += b->logprob[k * t->block + r];
    espl_team_add_blocks(t, b->block_losses, 1, b->round, &sum);
    return sum;
}

/* L_i = sum of -log p(target), over the number of predictions of a mean sample; on one rank of a team, 0 on the others.
 * b->d_normed becomes the gradient of the final norm's output. */
static double head_predict(calibrator *c, int64_t i) {
    float scale = 1.0f / (float)c->out->predictions;
    double sum = c->o->targets ? head_predict_targets(c, i, scale) : head_predict_next(c, i, scale);
    return (0 - sum) / c->out->predictions; /* 0, not -0, without a sum: the bytes of the ranks are merged */
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
    int64_t n = c->team.rows;
    float eps = (float)m->config.rms_eps;
    espl_tensor_rmsnorm(x, m->ends.final_norm, n, c->d.C, eps, b->normed);
    c->out->loss[i] = c->o->teacher ? head_distill(c, i) : head_predict(c, i);
    memset(dx, 0, (size_t)(n * c->d.C) * sizeof *dx); /* rmsnorm_backward adds */
    espl_tensor_rmsnorm_backward(x, m->ends.final_norm, b->d_normed, n, c->d.C, eps, dx);
    if (m->gradient_tap) m->gradient_tap(m->gradient_context, m->config.layers - 1, dx, n);
}

void espl_calibrate_final_states(calibrator *c, int64_t i, const float *x) {
    int64_t T = c->d.T, C = c->d.C;
    espl_tensor_rmsnorm(x, c->m->ends.final_norm, T, C, (float)c->m->config.rms_eps, c->o->final_states + i * T * C);
}
