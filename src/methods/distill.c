/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distillation of the dense model into the surviving weights.
 *
 * Each rank trains the linears of its slice: gradients of a step are sums over its windows, formed in their order on
 * the rank that holds the layer, so that no sum depends on the grid of ranks. Replicas share the windows of a step,
 * then each makes the same step. Weights are kept in f32 while they are trained, and stored in the source's dtype,
 * which is what the next step's passes see.
 */
#include "espalier/methods/distill.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"
#include "espalier/model/shape.h"

static const double DECAY_MEAN = 0.9, DECAY_SQUARE = 0.99, TINY = 1e-8; /* Adam's betas and epsilon */
enum { ORDER_PURPOSE = 0xD1 };

/* ---------------------------------------------------------------- the set */

/* Adds n windows that share `share` of the weight; the mean scale of all windows is 1. */
static void distill_add(espl_distill_set *s, int64_t window, const int32_t *ids, const int64_t *lengths, int64_t n,
                        double share, int64_t all) {
    for (int64_t i = 0; i < n; i++) {
        s->ids[s->n] = ids + i * window;
        s->lengths[s->n] = lengths ? lengths[i] : window - 1;
        s->scales[s->n++] = (float)(share * (double)all / (double)n);
    }
}

void espl_distill_set_free(espl_distill_set *s) {
    espl_mem_free(&s->ids);
    espl_mem_free(&s->lengths);
    espl_mem_free(&s->scales);
    espl_mem_free(&s->states);
    *s = (espl_distill_set){0};
}

/* Collective. The source's final states of each window, a round of one window for each replica at a time. */
static espl_status distill_teach(espl_comm *comm, espl_model *m, int64_t window, const espl_distill_watch *watch,
                                 espl_distill_set *s) {
    int64_t floats = window * espl_model_config_of(m)->hidden, round = espl_comm_grid(comm)->replicas;
    int32_t *ids = NULL; /* [round, window] */
    espl_status st = espl_mem_alloc(&ids, round * window, sizeof *ids, "distillation");
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    for (int64_t i = 0; i < s->n; i += round) {
        espl_calibration_options o = {.window = window, .forward = espl_min_i64(round, s->n - i)};
        espl_calibration none;
        for (int64_t k = 0; ids && k < o.forward; k++)
            memcpy(ids + k * window, s->ids[i + k], (size_t)window * sizeof *ids);
        o.final_states = s->states ? s->states + i * floats : NULL;
        ESPL_CHECK(st, done, espl_model_calibrate(m, &o, ids, NULL, NULL, &none));
        espl_calibration_free(&none);
        if (watch->progress) watch->progress(watch->context, i + o.forward, s->n);
        if (watch->check) ESPL_CHECK(st, done, watch->check(watch->context));
    }
done:
    espl_mem_free(&ids);
    return st;
}

espl_status espl_distill_set_create(espl_comm *comm, const espl_masks *masks, int64_t window, const int32_t *ids,
                                    int64_t windows, const espl_topic_samples *topics, const int64_t *topic_lengths,
                                    double share, const espl_distill_watch *watch, espl_distill_set *out) {
    espl_model *m = masks->m;
    const espl_grid *grid = espl_comm_grid(comm);
    int64_t questions = 0, at = 0;
    espl_status st;
    *out = (espl_distill_set){0};
    for (int t = 0; topics && share > 0 && t < ESPL_TOPICS; t++) questions += topics[t].windows;
    if (questions == 0) share = 0;
    int64_t n = windows + questions;
    ESPL_CHECK(st, agree, espl_mem_alloc(&out->ids, n, sizeof *out->ids, "distillation"));
    ESPL_CHECK(st, agree, espl_mem_alloc(&out->lengths, n, sizeof *out->lengths, "distillation"));
    ESPL_CHECK(st, agree, espl_mem_alloc(&out->scales, n, sizeof *out->scales, "distillation"));
    if (grid->stage == grid->stages - 1)
        st = espl_mem_alloc(&out->states, n * window, (size_t)espl_model_config_of(m)->hidden * sizeof *out->states,
                            "the dense model's final states");
agree:
    ESPL_CHECK(st, done, espl_comm_agree(comm, st));
    distill_add(out, window, ids, NULL, windows, 1 - share, n);
    for (int t = 0; questions > 0 && t < ESPL_TOPICS; t++) {
        double part = share * (double)topics[t].windows / (double)questions;
        if (topics[t].windows > 0)
            distill_add(out, window, topics[t].ids, topic_lengths + at, topics[t].windows, part, n);
        at += topics[t].windows;
    }
    espl_masks_apply_dense(masks);
    st = distill_teach(comm, m, window, watch, out);
done:
    if (st != ESPL_OK) espl_distill_set_free(out);
    return st;
}

/* ---------------------------------------------------------------- training */

/* A linear in training; arrays of [out, in]. */
typedef struct trained_linear {
    float *weight, *gradient, *mean, *square;
    double rms; /* of the surviving weights at the start */
} trained_linear;

typedef struct distiller {
    espl_model *m;
    const espl_distill_options *o;
    const espl_distill_set *set;
    espl_masks *masks;
    espl_range linears;
    trained_linear *trained; /* [slice linears] */
    float **gradients;       /* [slice linears] */
    float *all;              /* one allocation for all arrays */
    int64_t batch;           /* windows of a step */
    int64_t *order;          /* [windows] */
    int32_t *ids;            /* [batch, window] */
    const float **teacher;   /* [batch] */
    int64_t *lengths;        /* [batch] */
    float *scales;           /* [batch] */
} distiller;

int64_t espl_distill_bytes(const espl_model_config *c, espl_range slice) {
    return 4 * espl_range_count(slice) * espl_model_layer_linear_weights(c) * (int64_t)sizeof(float);
}

static void distiller_free(distiller *d) {
    espl_mem_free(&d->trained);
    espl_mem_free(&d->gradients);
    espl_mem_free(&d->all);
    espl_mem_free(&d->order);
    espl_mem_free(&d->ids);
    espl_mem_free(&d->teacher);
    espl_mem_free(&d->lengths);
    espl_mem_free(&d->scales);
}

/* Starts from the weights that the model has now. */
static void distiller_load(distiller *d, int64_t i, float **next) {
    trained_linear *t = &d->trained[i];
    const espl_linear *l = espl_model_linear(d->m, d->linears.first + i);
    int64_t n = l->out * l->in, words = espl_mask_words(l->in), kept = 0;
    const uint64_t *mask = espl_masks_of(d->masks, d->linears.first + i);
    double squares = 0;
    float **arrays[] = {&t->weight, &t->gradient, &t->mean, &t->square};
    for (int k = 0; k < 4; k++) {
        *arrays[k] = *next;
        *next += n;
    }
    d->gradients[i] = t->gradient;
    espl_tensor_widen(l->weight, l->dtype, n, t->weight);
    for (int64_t r = 0; r < l->out; r++)
        for (int64_t c = 0; c < l->in; c++) {
            if (!espl_mask_row_get(mask + r * words, c)) continue;
            squares += (double)t->weight[r * l->in + c] * (double)t->weight[r * l->in + c];
            kept++;
        }
    t->rms = kept > 0 ? sqrt(squares / (double)kept) : 0;
}

/* Local. */
static espl_status distiller_prepare(distiller *d) {
    int64_t n = espl_range_count(d->linears), floats = 0, window = d->o->window;
    for (int64_t i = 0; i < n; i++) {
        const espl_linear *l = espl_model_linear(d->m, d->linears.first + i);
        floats += 4 * l->out * l->in;
    }
    ESPL_TRY(espl_mem_alloc(&d->trained, n, sizeof *d->trained, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->gradients, n, sizeof *d->gradients, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->all, floats, sizeof *d->all, "weights in training"));
    ESPL_TRY(espl_mem_alloc(&d->order, d->set->n, sizeof *d->order, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->ids, d->batch * window, sizeof *d->ids, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->teacher, d->batch, sizeof *d->teacher, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->lengths, d->batch, sizeof *d->lengths, "distillation"));
    ESPL_TRY(espl_mem_alloc(&d->scales, d->batch, sizeof *d->scales, "distillation"));
    float *next = d->all;
    for (int64_t i = 0; i < n; i++) distiller_load(d, i, &next);
    return ESPL_OK;
}

/* Adam's step number `step` (from 1) on one linear, over `samples` windows. */
static void distiller_move(const distiller *d, int64_t i, double rate, int64_t step, int64_t samples) {
    const trained_linear *t = &d->trained[i];
    const espl_linear *l = espl_model_linear(d->m, d->linears.first + i);
    int64_t words = espl_mask_words(l->in);
    const uint64_t *mask = espl_masks_of(d->masks, d->linears.first + i);
    float b1 = (float)DECAY_MEAN, b2 = (float)DECAY_SQUARE, tiny = (float)TINY, part = 1.0f / (float)samples;
    float size = (float)(rate * t->rms / (1 - pow(DECAY_MEAN, (double)step)));
    float unbias = (float)(1 / (1 - pow(DECAY_SQUARE, (double)step)));
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < l->out; r++) {
        int64_t at = r * l->in;
        for (int64_t c = 0; c < l->in; c++, at++) {
            float g = part * t->gradient[at];
            /* A 0 that the mask keeps, such as one of the source in an N:M group, would come to life here. */
            if (!espl_mask_row_get(mask + r * words, c) || t->weight[at] == 0) continue;
            t->mean[at] = b1 * t->mean[at] + (1 - b1) * g;
            t->square[at] = b2 * t->square[at] + (1 - b2) * g * g;
            t->weight[at] -= size * t->mean[at] / (sqrtf(unbias * t->square[at]) + tiny);
        }
    }
}

/* What the next passes see: the trained weights in the dtype of the source. */
static void distiller_store(const distiller *d) {
    for (int64_t i = 0; i < espl_range_count(d->linears); i++) {
        const espl_linear *l = espl_model_linear(d->m, d->linears.first + i);
        espl_tensor_narrow(d->trained[i].weight, l->out * l->in, l->dtype,
                           espl_masks_update_of(d->masks, d->linears.first + i));
    }
    d->masks->updated = true;
    espl_masks_apply(d->masks);
}

/* Collective. One step on windows order[first .. first + n): *loss becomes the sum of their losses. */
static espl_status distiller_step(distiller *d, int64_t first, int64_t n, double rate, int64_t step, double *loss) {
    int64_t window = d->o->window, floats = window * espl_model_config_of(d->m)->hidden;
    espl_calibration_options o = {.window = window, .backward = n, .gradient_sums = d->gradients};
    espl_calibration c;
    for (int64_t k = 0; k < n; k++) {
        int64_t w = d->order[first + k];
        memcpy(d->ids + k * window, d->set->ids[w], (size_t)window * sizeof *d->ids);
        d->teacher[k] = d->set->states ? d->set->states + w * floats : NULL;
        d->lengths[k] = d->set->lengths[w];
        d->scales[k] = d->set->scales[w];
    }
    for (int64_t i = 0; i < espl_range_count(d->linears); i++) {
        const espl_linear *l = espl_model_linear(d->m, d->linears.first + i);
        memset(d->trained[i].gradient, 0, (size_t)(l->out * l->in) * sizeof(float));
    }
    o.teacher = d->teacher;
    o.lengths = d->lengths;
    o.scales = d->scales;
    ESPL_TRY(espl_model_calibrate(d->m, &o, d->ids, NULL, NULL, &c));
    for (int64_t k = 0; k < n; k++) *loss += c.loss[k];
    espl_calibration_free(&c);
    for (int64_t i = 0; i < espl_range_count(d->linears); i++) distiller_move(d, i, rate, step, n);
    distiller_store(d);
    return ESPL_OK;
}

static void distiller_shuffle(distiller *d, int64_t pass) {
    espl_rng rng;
    espl_rng_seed(&rng, d->o->seed, d->o->stream * 4096 + (uint64_t)pass, ORDER_PURPOSE);
    for (int64_t i = 0; i < d->set->n; i++) d->order[i] = i;
    espl_rng_shuffle(&rng, d->order, d->set->n);
}

espl_status espl_distill_run(espl_comm *comm, const espl_distill_options *o, const espl_distill_set *set,
                             espl_masks *masks, double *loss) {
    distiller d = {.m = masks->m, .o = o, .set = set, .masks = masks, .linears = masks->linears};
    d.batch = espl_min_i64(o->batch, set->n);
    int64_t at = set->n, windows = 0;
    double sum = 0;
    espl_status st;
    *loss = NAN;
    espl_masks_apply(masks);
    ESPL_CHECK(st, done, espl_comm_agree(comm, distiller_prepare(&d)));
    for (int64_t step = 0, pass = 0; step < o->steps; step++) {
        double rate = o->rate * (double)(o->steps - step) / (double)o->steps;
        if (at == set->n) { /* a pass is over */
            distiller_shuffle(&d, pass++);
            at = windows = 0;
            sum = 0;
        }
        int64_t n = espl_min_i64(d.batch, set->n - at);
        ESPL_CHECK(st, done, distiller_step(&d, at, n, rate, step + 1, &sum));
        at += n;
        windows += n;
        if (o->watch.progress) o->watch.progress(o->watch.context, step + 1, o->steps);
        if (o->watch.check) ESPL_CHECK(st, done, o->watch.check(o->watch.context));
    }
    if (windows > 0) *loss = sum / (double)windows;
done:
    distiller_free(&d);
    return st;
}
