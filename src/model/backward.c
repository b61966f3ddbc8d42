/* One decoder layer with everything its backward pass needs, and that pass; then the head's. Nothing but the layer's
 * input outlives a layer: its activations are computed again (Chen et al. 2016). */
#include "calibrate.h"

#include <string.h>

static double lap(espl_region r, double since) {
    double now = espl_clock_now();
    espl_region_add(r, now - since);
    return now;
}

static espl_attention_shape shape_of(const espl_model *m, int64_t local_layer) {
    const espl_model_config *c = &m->config;
    return (espl_attention_shape){.heads = c->heads,
                                  .kv_heads = c->kv_heads,
                                  .head_dim = c->head_dim,
                                  .window = c->slides[m->slice.first + local_layer] ? c->window : 0};
}

/* Queries, keys and values, ready for attention; q_raw and k_raw keep what the norm saw. */
static void project(calibrator *c, int64_t local_layer, const float *x) {
    const espl_model_config *g = &c->m->config;
    const layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    float eps = (float)g->rms_eps, *qkv[3] = {b->q, b->k, b->v};
    double t = espl_clock_now();
    espl_tensor_rmsnorm(x, l->input_norm, T, g->hidden, eps, b->normed);
    t = lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear(&l->linears[ESPL_Q_PROJ], 3, b->normed, T, qkv, false, c->m->workspace);
    t = lap(ESPL_REGION_LINEAR, t);
    if (c->d.back && c->d.qk_norm) {
        memcpy(b->q_raw, b->q, (size_t)(T * c->d.Q) * sizeof(float));
        memcpy(b->k_raw, b->k, (size_t)(T * c->d.KV) * sizeof(float));
    }
    espl_tensor_norm_rope(b->q, T, c->d.Q, g->heads, l->q_norm, eps, &c->m->rope, b->positions);
    espl_tensor_norm_rope(b->k, T, c->d.KV, g->kv_heads, l->k_norm, eps, &c->m->rope, b->positions);
    espl_tensor_cache_store(b->k, T, g->kv_heads, g->head_dim, b->k_heads, T);
    espl_tensor_cache_store(b->v, T, g->kv_heads, g->head_dim, b->v_heads, T);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_trace(calibrator *c, int64_t local_layer, float *x) {
    const layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    float *gate_up[2] = {b->gate, b->up};
    espl_attention_shape shape = shape_of(c->m, local_layer);
    espl_attention a = {.q = b->q, .out = b->attended, .k = b->k_heads, .v = b->v_heads, .T = T, .capacity = T};
    a.lse = b->lse;
    project(c, local_layer, x);
    double t = espl_clock_now();
    espl_tensor_attention(&shape, &a, 1, c->m->workspace);
    t = lap(ESPL_REGION_ATTENTION, t);
    espl_tensor_linear(&l->linears[ESPL_O_PROJ], 1, b->attended, T, &x, true, c->m->workspace);
    t = lap(ESPL_REGION_LINEAR, t);
    espl_tensor_rmsnorm(x, l->post_norm, T, c->d.C, (float)c->m->config.rms_eps, b->middle_normed);
    t = lap(ESPL_REGION_ELEMENTWISE, t);
    espl_tensor_linear(&l->linears[ESPL_GATE_PROJ], 2, b->middle_normed, T, gate_up, false, c->m->workspace);
    t = lap(ESPL_REGION_LINEAR, t);
    espl_tensor_swiglu_to(b->gate, b->up, T * c->d.F, b->product);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

static void count_squares(calibrator *c, int64_t local_layer) {
    const espl_calibration *out = c->out;
    double *sums = out->squares + local_layer * out->stride, t = espl_clock_now();
    espl_tensor_square_sums(c->b.normed, c->d.T, c->d.C, sums + out->at[ESPL_Q_PROJ]);
    espl_tensor_square_sums(c->b.attended, c->d.T, c->d.Q, sums + out->at[ESPL_O_PROJ]);
    espl_tensor_square_sums(c->b.middle_normed, c->d.T, c->d.C, sums + out->at[ESPL_GATE_PROJ]);
    espl_tensor_square_sums(c->b.product, c->d.T, c->d.F, sums + out->at[ESPL_DOWN_PROJ]);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_layer_forward(calibrator *c, int64_t local_layer, float *x, bool count) {
    const espl_linear *down = &c->m->layers[local_layer].linears[ESPL_DOWN_PROJ];
    espl_calibrate_trace(c, local_layer, x);
    if (count) count_squares(c, local_layer);
    double t = espl_clock_now();
    espl_tensor_linear(down, 1, c->b.product, c->d.T, &x, true, c->m->workspace);
    lap(ESPL_REGION_LINEAR, t);
    if (c->m->tap) c->m->tap(c->m->tap_context, c->m->slice.first + local_layer, x, c->d.T);
}

static void weight_gradients(calibrator *c, int64_t local_layer, espl_linear_kind kind, int n, const float *x,
                             const float *const *dy) {
    const espl_linear *l = &c->m->layers[local_layer].linears[kind];
    int64_t index = espl_linear_index(local_layer, kind);
    double sums[ESPL_LINEAR_KINDS];
    if (c->gradient_squares) {
        for (int i = 0; i < n; i++)
            espl_tensor_gradient_squares(&l[i], x, dy[i], c->d.T, c->gradient_squares[index + i], c->m->workspace);
        return;
    }
    espl_tensor_gradient_sums(l, n, x, dy, c->d.T, c->b.partial, sums, c->m->workspace);
    for (int i = 0; i < n; i++) {
        c->out->gradient[index + i] += sums[i];
        espl_tensor_square_sums(dy[i], c->d.T, l[i].out,
                                c->out->output_squares + local_layer * c->out->output_stride +
                                    c->out->output_at[kind + i]);
    }
}

/* Backward of n linears from `kind` on with input x: what is wanted of their dL/dW, and dx. */
static void linears_backward(calibrator *c, int64_t local_layer, espl_linear_kind kind, int n, const float *x,
                             const float *const *dy, float *dx) {
    const espl_linear *l = &c->m->layers[local_layer].linears[kind];
    double t = espl_clock_now();
    weight_gradients(c, local_layer, kind, n, x, dy);
    espl_tensor_linear_backward(l, n, dy, c->d.T, dx, false, c->m->workspace);
    lap(ESPL_REGION_LINEAR, t);
}

static void mlp_backward(calibrator *c, int64_t local_layer, float *dy) {
    calibration_buffers *b = &c->b;
    const float *out[1] = {dy}, *gate_up[2] = {b->gate, b->up};
    linears_backward(c, local_layer, ESPL_DOWN_PROJ, 1, b->product, out, b->product);
    double t = espl_clock_now();
    espl_tensor_swiglu_backward(b->gate, b->up, b->product, c->d.T * c->d.F);
    lap(ESPL_REGION_ELEMENTWISE, t);
    linears_backward(c, local_layer, ESPL_GATE_PROJ, 2, b->middle_normed, gate_up, b->d_normed);
    t = espl_clock_now();
    espl_tensor_rmsnorm_backward(b->middle, c->m->layers[local_layer].post_norm, b->d_normed, c->d.T, c->d.C,
                                 (float)c->m->config.rms_eps, dy);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

/* From d_attended to d_q and, in the place of k and v, their gradients, all of them before RoPE and norm. */
static void attend_backward(calibrator *c, int64_t local_layer) {
    const espl_model_config *g = &c->m->config;
    const layer *l = &c->m->layers[local_layer];
    calibration_buffers *b = &c->b;
    espl_attention_shape shape = shape_of(c->m, local_layer);
    float eps = (float)g->rms_eps;
    espl_attention_gradient a = {.q = b->q, .out = b->attended, .dout = b->d_attended, .T = c->d.T, .capacity = c->d.T};
    a.k = b->k_heads, a.v = b->v_heads, a.lse = b->lse, a.delta = b->delta;
    a.dq = b->d_q, a.dk = b->k, a.dv = b->v;
    double t = espl_clock_now();
    espl_tensor_attention_backward(&shape, &a, c->m->workspace);
    t = lap(ESPL_REGION_ATTENTION, t);
    espl_tensor_norm_rope_backward(b->q_raw, b->d_q, c->d.T, g->heads, l->q_norm, eps, &c->m->rope, b->positions);
    espl_tensor_norm_rope_backward(b->k_raw, b->k, c->d.T, g->kv_heads, l->k_norm, eps, &c->m->rope, b->positions);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

static void attention_backward(calibrator *c, int64_t local_layer, const float *x, float *dy) {
    calibration_buffers *b = &c->b;
    const float *out[1] = {dy}, *qkv[3] = {b->d_q, b->k, b->v};
    linears_backward(c, local_layer, ESPL_O_PROJ, 1, b->attended, out, b->d_attended);
    attend_backward(c, local_layer);
    linears_backward(c, local_layer, ESPL_Q_PROJ, 3, b->normed, qkv, b->d_normed);
    double t = espl_clock_now();
    espl_tensor_rmsnorm_backward(x, c->m->layers[local_layer].input_norm, b->d_normed, c->d.T, c->d.C,
                                 (float)c->m->config.rms_eps, dy);
    lap(ESPL_REGION_ELEMENTWISE, t);
}

void espl_calibrate_layer_backward(calibrator *c, int64_t local_layer, const float *x, float *dy) {
    memcpy(c->b.middle, x, (size_t)(c->d.T * c->d.C) * sizeof *x);
    espl_calibrate_trace(c, local_layer, c->b.middle);
    mlp_backward(c, local_layer, dy);
    attention_backward(c, local_layer, x, dy);
    if (c->m->gradient_tap) c->m->gradient_tap(c->m->gradient_context, c->m->slice.first + local_layer - 1, dy, c->d.T);
}

/* L = mean over T - 1 predictions of -log p(next token). */
void espl_calibrate_head(calibrator *c, int64_t i, const float *x, float *dx) {
    const espl_model *m = c->m;
    calibration_buffers *b = &c->b;
    int64_t T = c->d.T;
    float eps = (float)m->config.rms_eps;
    double start = espl_clock_now(), sum = 0;
    memcpy(b->targets, c->ids + i * T + 1, (size_t)(T - 1) * sizeof *b->targets);
    b->targets[T - 1] = -1;
    espl_tensor_rmsnorm(x, m->final_norm, T, c->d.C, eps, b->normed);
    espl_tensor_head_backward(&m->head, b->normed, T, b->targets, 1.0f / (float)(T - 1), b->logprob, b->d_normed,
                              b->head, m->workspace);
    memset(dx, 0, (size_t)(T * c->d.C) * sizeof *dx);
    espl_tensor_rmsnorm_backward(x, m->final_norm, b->d_normed, T, c->d.C, eps, dx);
    for (int64_t t = 0; t < T; t++) sum -= b->logprob[t];
    c->out->loss[i] = sum / (double)(T - 1);
    if (m->gradient_tap) m->gradient_tap(m->gradient_context, m->config.layers - 1, dx, T);
    espl_region_add(ESPL_REGION_HEAD, espl_clock_now() - start);
}
