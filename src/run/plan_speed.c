/* SPDX-License-Identifier: Apache-2.0 */
/* Measures the parts of a job on a stand-in of the model (plan_speed.h). */
#include "plan_speed.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "espalier/base/integer.h"
#include "espalier/eval/perplexity.h"
#include "espalier/model/shape.h"
#include "espalier/sensitivity.h"

enum { WINDOW_MAX = 512, ROUNDS = 3 }; /* longer windows take long and tell the same per FLOP */

enum { SHORT, LONG, LENGTHS };
static const int64_t layers_of[LENGTHS] = {1, 3};

/* Two stand-ins and what is run through them. Their difference is what layers take, the rest is the head's. */
typedef struct trial {
    const espl_job *j;
    espl_comm *alone;
    espl_model *models[LENGTHS], *m; /* m: the one that runs now */
    int64_t window;
    double layer, head; /* FLOPs of a window */
    double weights;     /* of a layer's linears */
    int32_t *ids;       /* [2, window] */
    double nll[1];
} trial;

static void trial_free(trial *t) {
    for (int k = 0; k < LENGTHS; k++) espl_model_close(&t->models[k]);
    espl_comm_release(&t->alone);
    espl_mem_free(&t->ids);
}

/* The first layers stand for all: what differs between layers is in their FLOPs. */
static espl_status trial_create(trial *t) {
    const espl_config *o = t->j->o;
    const espl_model_config *c;
    t->window = espl_min_i64(WINDOW_MAX, espl_max_i64(o->calibration_window, o->validation_window));
    espl_model_options options = {
        .context = t->window, .batch_tokens = espl_min_i64(o->run_batch, t->window), .slots = 1};
    ESPL_TRY(espl_comm_create_alone(&t->alone));
    for (int k = 0; k < LENGTHS; k++)
        ESPL_TRY(
            espl_model_open_stand_in(t->alone, o->model_path, layers_of[k], ESPL_DTYPE_BF16, &options, &t->models[k]));
    for (int k = 0; k < LENGTHS; k++) espl_workspace_use(espl_model_workspace(t->models[k]), o->compute_arithmetic);
    c = espl_model_config_of(t->models[SHORT]);
    ESPL_TRY(espl_mem_alloc(&t->ids, 2 * t->window, sizeof *t->ids, "tokens"));
    for (int64_t i = 0; i < 2 * t->window; i++) t->ids[i] = (int32_t)(i * 37 % c->vocab);
    t->layer = espl_model_layer_flops(c, 0, t->window) * (double)t->window;
    t->weights = (double)espl_model_layer_linear_weights(c);
    t->head = espl_model_head_flops(c) * (double)t->window;
    return ESPL_OK;
}

/* Seconds that this rank has computed. One thread is timed by its processor time, which other jobs on the machine do
 * not lengthen; several ones by the clock, which also sees them wait for each other. */
static double trial_clock(void) {
    struct timespec now;
    if (espl_tensor_threads() > 1) return espl_clock_now();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Seconds of one layer, and of what does not depend on the number of layers. */
typedef struct lap {
    double body, head;
} lap;

/* Of several runs the least: what else runs on the machine only adds. */
static espl_status trial_lap(trial *t, espl_status (*run)(trial *, void *), void *what, lap *out) {
    double least[LENGTHS] = {INFINITY, INFINITY};
    for (int i = 0; i < LENGTHS * (ROUNDS + 1); i++) {
        int k = i % LENGTHS;
        t->m = t->models[k];
        double start = trial_clock();
        ESPL_TRY(run(t, what));
        if (i >= LENGTHS) least[k] = fmin(least[k], trial_clock() - start); /* the first ones warm caches and threads */
    }
    out->body = fmax(0, least[LONG] - least[SHORT]) / (double)(layers_of[LONG] - layers_of[SHORT]);
    out->head = fmax(0, least[SHORT] - out->body * (double)layers_of[SHORT]);
    return ESPL_OK;
}

static espl_status run_evaluation(trial *t, void *tokens) {
    espl_corpus text = {.ids = t->ids, .n = *(int64_t *)tokens};
    espl_perplexity result;
    return espl_eval_perplexity(t->alone, t->m, &text, text.n, 0, t->nll, &result);
}

static espl_status run_calibration(trial *t, void *options) {
    espl_calibration none;
    ESPL_TRY(espl_model_calibrate(t->m, options, t->ids, NULL, NULL, &none));
    espl_calibration_free(&none);
    return ESPL_OK;
}

static espl_status run_rows(trial *t, void *calibrations) {
    const espl_config *o = t->j->o;
    espl_profile_row *rows;
    espl_sensitivity_removal by = {
        .score = o->prune_score, .group = (espl_group)espl_config_step_pattern(o).group, .power = 0.5};
    const espl_calibration *all = calibrations;
    ESPL_TRY(espl_mem_alloc(&rows, espl_model_linears_of(espl_model_config_of(t->m)), sizeof *rows, "profile"));
    espl_status st = espl_sensitivity_profile(t->alone, t->m, &all[t->m == t->models[LONG]], &by, rows);
    espl_mem_free(&rows);
    return st;
}

/* ----------------------------------------------------------------- parts */

static espl_status measure_evaluation(trial *t, espl_plan_speed *out) {
    int64_t few = ESPL_PLAN_DECODED;
    lap l;
    ESPL_TRY(trial_lap(t, run_evaluation, &t->window, &l));
    out->forward = l.body / t->layer;
    out->head = l.head / t->head;
    ESPL_TRY(trial_lap(t, run_evaluation, &few, &l));
    out->decode = l.body / t->weights;
    return ESPL_OK;
}

static espl_status measure_profile(trial *t, espl_plan_speed *out) {
    espl_calibration_options forward = {.window = t->window, .forward = 1};
    espl_calibration_options both = {.window = t->window, .forward = 1, .backward = 1};
    espl_calibration all[LENGTHS] = {0};
    espl_status st;
    lap l;
    ESPL_TRY(trial_lap(t, run_calibration, &forward, &l));
    out->look = l.body / t->layer;
    ESPL_TRY(trial_lap(t, run_calibration, &both, &l));
    out->backward = fmax(l.body / t->layer - out->look, out->look);
    out->head_backward = l.head / t->head;
    for (int k = 0; k < LENGTHS; k++)
        ESPL_CHECK(st, done, espl_model_calibrate(t->models[k], &both, t->ids, NULL, NULL, &all[k]));
    ESPL_CHECK(st, done, trial_lap(t, run_rows, all, &l));
    out->rows = l.body / t->weights;
done:
    for (int k = 0; k < LENGTHS; k++) espl_calibration_free(&all[k]);
    return st;
}

/* Steps of distillation; `n` windows each. */
typedef struct distillation {
    espl_masks masks[LENGTHS];
    espl_distill_set sets[LENGTHS];
    int64_t n;
} distillation;

static espl_status run_distillation(trial *t, void *context) {
    distillation *d = context;
    double loss;
    int k = t->m == t->models[LONG];
    espl_distill_options o = {.window = t->window, .steps = 1, .batch = d->n, .rate = 1e-6};
    return espl_distill_run(t->alone, &o, &d->sets[k], &d->masks[k], &loss);
}

/* One window and two tell what a window takes and what a step. */
static espl_status measure_distillation(trial *t, espl_plan_speed *out) {
    const espl_distill_watch watch = {0};
    distillation d = {.n = 1};
    lap one, two;
    espl_status st;
    for (int k = 0; k < LENGTHS; k++) {
        ESPL_CHECK(st, done, espl_masks_create(&d.masks[k], t->models[k], true));
        ESPL_CHECK(
            st, done,
            espl_distill_set_create(t->alone, &d.masks[k], t->window, t->ids, 2, NULL, NULL, 0, &watch, &d.sets[k]));
    }
    ESPL_CHECK(st, done, trial_lap(t, run_distillation, &d, &one));
    d.n = 2;
    ESPL_CHECK(st, done, trial_lap(t, run_distillation, &d, &two));
    out->learn = fmax(0, two.body - one.body) / t->layer;
    out->head_learn = two.head / (2 * t->head);
    out->adam = fmax(0, 2 * one.body - two.body) / t->weights;
done:
    for (int k = 0; k < LENGTHS; k++) {
        espl_distill_set_free(&d.sets[k]);
        espl_masks_free(&d.masks[k]);
    }
    return st;
}

espl_status espl_plan_measure_speed(const espl_job *j, espl_plan_speed *out) {
    trial t = {.j = j};
    espl_status st;
    *out = (espl_plan_speed){0};
    ESPL_CHECK(st, done, espl_plan_measure_flops(&j->config, &out->flops));
    ESPL_CHECK(st, done, trial_create(&t));
    ESPL_CHECK(st, done, measure_evaluation(&t, out));
    ESPL_CHECK(st, done, measure_profile(&t, out));
    if (espl_config_distills(j->o)) ESPL_CHECK(st, done, measure_distillation(&t, out));
    ESPL_DEBUG(
        "seconds at %.4g FLOP/s, by FLOP of the linears' rate: forward %.3g, look %.3g, backward %.3g, learn %.3g, "
        "head %.3g, its gradient %.3g, its divergence %.3g; ns per weight: row %.3g, decode %.3g, Adam %.3g",
        out->flops, out->forward * out->flops, out->look * out->flops, out->backward * out->flops,
        out->learn * out->flops, out->head * out->flops, out->head_backward * out->flops, out->head_learn * out->flops,
        out->rows * 1e9, out->decode * 1e9, out->adam * 1e9);
done:
    trial_free(&t);
    return st;
}

/* --------------------------------------------------------------- machine */

/* A linear of the model's shape; matrices larger than RATE_WIDTH_MAX do not run faster, and take longer. */
espl_status espl_plan_measure_flops(const espl_model_config *c, double *out) {
    enum { RATE_TOKENS = 512, RATE_WIDTH_MAX = 2048, RATE_ROUNDS = 8 };
    int64_t rows = espl_min_i64(c->ffn, RATE_WIDTH_MAX), in = espl_min_i64(c->hidden, RATE_WIDTH_MAX);
    float *buffer = NULL;
    espl_workspace *ws = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&buffer, rows * in + RATE_TOKENS * (in + rows), sizeof *buffer, "speed test"));
    ESPL_CHECK(st, done, espl_workspace_create(&ws));
    espl_linear l = {.weight = buffer, .dtype = ESPL_DTYPE_F32, .out = rows, .in = in};
    float *x = buffer + rows * in, *y = x + RATE_TOKENS * in;
    double best = INFINITY;
    for (int i = 0; i < RATE_ROUNDS; i++) {
        double start = trial_clock();
        espl_tensor_linear(&l, 1, x, RATE_TOKENS, &y, false, ws);
        best = fmin(best, trial_clock() - start);
    }
    *out = 2.0 * RATE_TOKENS * (double)(rows * in) / best;
done:
    espl_workspace_destroy(&ws);
    espl_mem_free(&buffer);
    return st;
}

/* Half of a round trip between ranks 0 and 1. */
static espl_status machine_time_message(espl_comm *c, char *buffer, int64_t bytes, double *out) {
    int rank = espl_comm_rank(c);
    espl_transfer t = {0};
    *out = INFINITY;
    for (int i = 0; i < ROUNDS * ROUNDS; i++) {
        double start = espl_clock_now();
        for (int way = 0; way < 2 && rank < 2; way++) {
            bool sends = rank == way;
            ESPL_TRY(sends ? espl_comm_send(c, buffer, bytes, 1 - rank, &t)
                           : espl_comm_receive(c, buffer, bytes, 1 - rank, &t));
            espl_comm_wait(c, &t);
        }
        *out = fmin(*out, (espl_clock_now() - start) / 2);
    }
    return ESPL_OK;
}

static espl_status machine_measure_messages(espl_comm *c, espl_machine *m) {
    enum { LARGE = 8 << 20 };
    char *buffer = NULL;
    double small, large;
    if (espl_comm_size(c) < 2) return ESPL_OK;
    espl_status st = espl_comm_agree(c, espl_mem_alloc(&buffer, LARGE, 1, "messages"));
    if (st == ESPL_OK) st = machine_time_message(c, buffer, 1, &small);
    if (st == ESPL_OK) st = machine_time_message(c, buffer, LARGE, &large);
    if (st == ESPL_OK) {
        m->latency = small;
        m->bandwidth = LARGE / fmax(large - small, 1e-9);
    }
    espl_mem_free(&buffer);
    return espl_comm_agree(c, st);
}

/* Writing and fsync of a file without a name in `dir`. */
static espl_status machine_measure_disk(const char *dir, espl_machine *m) {
    enum { BYTES = 32 << 20 };
    char *buffer;
    int fd = open(dir, O_TMPFILE | O_WRONLY, 0600);
    if (fd < 0) {
        ESPL_INFO("note: no file can be made in %s to measure the disk: %.2g GB/s is assumed", dir, m->disk * 1e-9);
        return ESPL_OK;
    }
    espl_status st = espl_mem_alloc(&buffer, BYTES, 1, "disk test");
    double start = espl_clock_now();
    if (st == ESPL_OK && write(fd, buffer, BYTES) == BYTES && fsync(fd) == 0)
        m->disk = BYTES / fmax(espl_clock_now() - start, 1e-9);
    close(fd);
    espl_mem_free(&buffer);
    return st;
}

static espl_status machine_measure_threads(const espl_model_config *config, espl_machine *m) {
    int most = espl_tensor_threads();
    espl_status st = ESPL_OK;
    for (int threads = 1; st == ESPL_OK && threads <= most && m->n < ESPL_MACHINE_SPEEDS;
         threads = threads == most ? most + 1 : (int)espl_min_i64(2 * threads, most)) {
        espl_machine_speed *s = &m->speeds[m->n++];
        espl_tensor_set_threads(threads);
        s->threads = threads;
        st = espl_plan_measure_flops(config, &s->flops);
    }
    espl_tensor_set_threads(most);
    return st;
}

espl_status espl_plan_measure_machine(espl_comm *c, const espl_model_config *config, const char *dir,
                                      espl_machine *out) {
    bool root = espl_comm_rank(c) == 0;
    *out = espl_machine_unknown();
    ESPL_TRY(machine_measure_messages(c, out));
    ESPL_TRY(espl_comm_agree(c, root ? machine_measure_threads(config, out) : ESPL_OK));
    return espl_comm_agree(c, root ? machine_measure_disk(dir, out) : ESPL_OK);
}
