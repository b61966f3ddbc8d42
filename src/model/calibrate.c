/* The calibration pass through the pipeline: statistics forward, gradients backward, one forward one backward
 * (Narayanan et al. 2021): rank r is at most `ranks - r` samples ahead of its own backward pass. */
#include "calibrate.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- result */

void espl_calibration_free(espl_calibration *c) {
    espl_mem_free(&c->loss);
    espl_mem_free(&c->gradient);
    espl_mem_free(&c->squares);
    espl_mem_free(&c->output_squares);
    *c = (espl_calibration){0};
}

static bool in_slice(const espl_calibration *c, int64_t index) {
    return espl_linear_layer(index) >= c->slice.first && espl_linear_layer(index) < c->slice.last;
}

const double *espl_calibration_squares(const espl_calibration *c, int64_t index) {
    if (!in_slice(c, index)) return NULL;
    return c->squares + (espl_linear_layer(index) - c->slice.first) * c->stride + c->at[espl_linear_kind_of(index)];
}

const double *espl_calibration_output_squares(const espl_calibration *c, int64_t index) {
    if (!in_slice(c, index)) return NULL;
    return c->output_squares + (espl_linear_layer(index) - c->slice.first) * c->output_stride +
           c->output_at[espl_linear_kind_of(index)];
}

void espl_calibration_norms(const espl_calibration *c, int64_t index, int64_t in, float *norm) {
    const double *squares = espl_calibration_squares(c, index);
    for (int64_t j = 0; j < in; j++) norm[j] = (float)sqrt(squares[j]);
}

double espl_calibration_gradient(const espl_calibration *c, int64_t index) {
    if (!in_slice(c, index)) return NAN;
    return c->gradient[index - espl_linear_index(c->slice.first, ESPL_Q_PROJ)];
}

/* Linears with the same input share one piece. */
static void place_squares(const espl_model_config *c, espl_calibration *out) {
    int64_t q = c->heads * c->head_dim;
    out->at[ESPL_O_PROJ] = c->hidden;
    out->at[ESPL_GATE_PROJ] = out->at[ESPL_UP_PROJ] = c->hidden + q;
    out->at[ESPL_DOWN_PROJ] = 2 * c->hidden + q;
    out->stride = 2 * c->hidden + q + c->ffn;
}

static void place_output_squares(const espl_model_config *c, espl_calibration *out) {
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t features, in;
        espl_model_linear_shape(c, (espl_linear_kind)k, &features, &in);
        out->output_at[k] = out->output_stride;
        out->output_stride += features;
    }
}

static espl_status make_result(calibrator *c) {
    espl_calibration *out = c->out;
    place_squares(&c->m->config, out);
    place_output_squares(&c->m->config, out);
    out->slice = c->m->slice;
    out->window = c->o->window;
    out->forward_tokens = c->o->forward * c->o->window;
    out->samples = c->o->backward;
    ESPL_TRY(espl_mem_alloc(&out->loss, c->o->backward, sizeof *out->loss, "losses"));
    ESPL_TRY(espl_mem_alloc(&out->gradient, c->d.layers * ESPL_LINEAR_KINDS, sizeof *out->gradient, "gradients"));
    ESPL_TRY(espl_mem_alloc(&out->squares, c->d.layers * out->stride, sizeof *out->squares, "activation statistics"));
    return espl_mem_alloc(&out->output_squares, c->d.layers * out->output_stride, sizeof *out->output_squares,
                          "gradient statistics");
}

/* Sums over samples and weights become means. */
static void finish_gradients(calibrator *c) {
    for (int64_t i = 0; i < c->d.layers * ESPL_LINEAR_KINDS; i++) {
        const espl_linear *l = &c->m->layers[espl_linear_layer(i)].linears[espl_linear_kind_of(i)];
        int64_t n = espl_linear_survivors(l) * c->o->backward;
        c->out->gradient[i] = n > 0 ? c->out->gradient[i] / (double)n : NAN;
    }
}

/* -------------------------------------------------------------- schedule */

/* One sample's way through this rank, forward or backward; `turn` counts those of its direction. */
typedef struct pass {
    bool backward;
    int64_t sample, turn;
} pass;

/* Samples that are only looked at (`backward` .. `forward` - 1) come first; then 0 .. `backward` - 1, one forward and
 * one backward in turn after a head start that fills the pipeline. passes [forward passes + backward]. */
static int64_t schedule(const espl_calibration_options *o, int ahead, pass *passes) {
    int64_t n = 0, turn = 0;
    for (int64_t i = o->backward; i < o->forward; i++) passes[n++] = (pass){false, i, turn++};
    for (int64_t i = 0; i < o->backward + ahead; i++) {
        if (i < o->backward) passes[n++] = (pass){false, i, turn++};
        if (i >= ahead) passes[n++] = (pass){true, i - ahead, i - ahead};
    }
    return n;
}

static float *buffer(const calibrator *c, const pass *p) {
    float *const all[2][STREAMS] = {{c->b.stream0, c->b.stream1, c->b.stream2}, {c->b.grad0, c->b.grad1, c->b.grad2}};
    return all[p->backward][c->d.several ? p->turn % STREAMS : 0];
}

static float *saved_input(const calibrator *c, int64_t sample, int64_t local_layer) {
    return c->b.saved + (sample % c->d.in_flight * c->d.layers + local_layer) * c->d.T * c->d.C;
}

static void forward(calibrator *c, const pass *p) {
    espl_model *m = c->m;
    int64_t T = c->d.T, C = c->d.C;
    float *x = buffer(c, p);
    if (m->first) {
        espl_tensor_embed(m->embed->data, m->embed->dtype, C, c->ids + p->sample * T, T, x);
        if (m->tap) m->tap(m->tap_context, -1, x, T);
    }
    for (int64_t l = 0; l < c->d.layers; l++) {
        if (p->sample < c->o->backward) memcpy(saved_input(c, p->sample, l), x, (size_t)(T * C) * sizeof *x);
        espl_calibrate_layer_forward(c, l, x, p->sample < c->o->forward);
        espl_comm_progress(m->comm);
    }
}

/* On the last rank the sample's forward pass came just before: its output is still in the stream. */
static void backward(calibrator *c, const pass *p, const pass *before) {
    float *dy = buffer(c, p);
    if (c->m->last) espl_calibrate_head(c, p->sample, buffer(c, before), dy);
    for (int64_t l = c->d.layers - 1; l >= 0; l--) {
        espl_calibrate_layer_backward(c, l, saved_input(c, p->sample, l), dy);
        espl_comm_progress(c->m->comm);
    }
}

static void wait_for(const calibrator *c, espl_transfer *t) {
    double start = espl_clock_now();
    espl_comm_wait(c->m->comm, t);
    espl_region_add(ESPL_REGION_TRANSFER, espl_clock_now() - start);
}

static int64_t stream_bytes(const calibrator *c) { return c->d.T * c->d.C * (int64_t)sizeof(float); }

/* Starts receiving what pass p works on; its buffer may still be on its way out. */
static espl_status expect(calibrator *c, const pass *p) {
    int at = (int)(p->turn % STREAMS), from = espl_comm_rank(c->m->comm) + (p->backward ? 1 : -1);
    if (p->backward ? c->m->last : c->m->first) return ESPL_OK;
    wait_for(c, &c->sends[p->backward][at]);
    return espl_comm_receive(c->m->comm, buffer(c, p), stream_bytes(c), from, &c->receives[p->backward][at]);
}

static espl_status step(calibrator *c, const pass *passes, int64_t n, int64_t i) {
    const pass *p = &passes[i];
    int at = (int)(p->turn % STREAMS), to = espl_comm_rank(c->m->comm) + (p->backward ? -1 : 1);
    if (i + 1 < n) ESPL_TRY(expect(c, p + 1));
    wait_for(c, &c->sends[p->backward][at]);
    wait_for(c, &c->receives[p->backward][at]);
    if (p->backward)
        backward(c, p, p - 1);
    else
        forward(c, p);
    if (p->backward ? c->m->first : c->m->last) return ESPL_OK;
    return espl_comm_send(c->m->comm, buffer(c, p), stream_bytes(c), to, &c->sends[p->backward][at]);
}

static espl_status run_passes(calibrator *c, const pass *passes, int64_t n, espl_model_progress progress,
                              void *context) {
    espl_status st = expect(c, passes);
    for (int64_t i = 0; i < n && st == ESPL_OK; i++) {
        st = step(c, passes, n, i);
        if (progress) progress(context, i + 1, n);
    }
    for (int i = 0; i < 2 * STREAMS; i++) wait_for(c, &c->sends[i / STREAMS][i % STREAMS]);
    return st;
}

/* ----------------------------------------------------------------- entry */

static espl_status check_options(const espl_model *m, const espl_calibration_options *o, const int32_t *ids) {
    espl_attention_shape shape = {
        .heads = m->config.heads, .kv_heads = m->config.kv_heads, .head_dim = m->config.head_dim};
    int64_t windows = o->forward > o->backward ? o->forward : o->backward;
    if (o->forward < 0 || o->backward < 0 || windows < 1 || o->window < 2 || o->window > m->options.context)
        return ESPL_FAIL(
            ESPL_USAGE, "calibration wants windows of 2 to %lld tokens, not %lld forward, %lld backward of %lld",
            (long long)m->options.context, (long long)o->forward, (long long)o->backward, (long long)o->window);
    if (!espl_attention_backward_fits(&shape))
        return ESPL_FAIL(ESPL_UNSUPPORTED, "no backward pass for %lld query heads per key head of size %lld",
                         (long long)(shape.heads / shape.kv_heads), (long long)shape.head_dim);
    for (int64_t i = 0; i < windows * o->window; i++)
        if (ids[i] < 0 || ids[i] >= m->config.vocab)
            return ESPL_FAIL(ESPL_USAGE, "token id %d is outside the model's vocabulary of %lld", ids[i],
                             (long long)m->config.vocab);
    return ESPL_OK;
}

static espl_status prepare(calibrator *c, pass **passes) {
    const espl_model *m = c->m;
    ESPL_TRY(make_result(c));
    ESPL_TRY(espl_mem_alloc(passes, c->o->forward + 2 * c->o->backward, sizeof **passes, "calibration schedule"));
    ESPL_TRY(espl_arena_create(&c->arena, (size_t)espl_calibration_arena_bytes(&c->d), "calibration buffers"));
    if (!espl_calibration_carve(c->arena, &c->d, &c->b))
        return ESPL_FAIL(ESPL_INTERNAL, "calibration buffers sized wrongly for layers %lld to %lld",
                         (long long)m->slice.first, (long long)m->slice.last);
    for (int64_t t = 0; t < c->d.T; t++) c->b.positions[t] = t;
    return ESPL_OK;
}

espl_status espl_model_calibrate(espl_model *m, const espl_calibration_options *o, const int32_t *ids,
                                 espl_model_progress progress, void *context, espl_calibration *out) {
    int rank = espl_comm_rank(m->comm), ranks = espl_comm_size(m->comm);
    pass *passes = NULL;
    *out = (espl_calibration){0};
    ESPL_TRY(check_options(m, o, ids)); /* the same verdict on every rank */
    calibrator c = {.m = m, .o = o, .ids = ids, .out = out, .gradient_squares = o->gradient_squares};
    c.d = espl_calibration_dims_of(&m->config, o, m->slice, rank, ranks);
    espl_status st = espl_comm_agree(m->comm, prepare(&c, &passes));
    if (st == ESPL_OK) {
        int64_t n = schedule(o, c.d.in_flight > 0 ? (int)c.d.in_flight - 1 : 0, passes);
        st = espl_comm_agree(m->comm, run_passes(&c, passes, n, progress, context));
    }
    if (st == ESPL_OK) {
        finish_gradients(&c);
        espl_comm_broadcast(m->comm, out->loss, out->samples * (int64_t)sizeof *out->loss, ranks - 1);
    } else {
        espl_calibration_free(out);
    }
    espl_mem_free(&passes);
    espl_arena_destroy(&c.arena);
    return st;
}
