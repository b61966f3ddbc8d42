/* SPDX-License-Identifier: Apache-2.0 */
/* The calibration pass against PyTorch autograd (tests/golden/models, gradients.safetensors), on any number of ranks.
 *
 * usage: mpirun -n N test_gradient_golden MODEL_DIR...
 * Dense and masked: losses, mean |dL/dW| per linear and sample, dL/d(embeddings), squares of the linears' inputs, and
 * the profile's 10th percentile; then more windows than ranks through the pipeline. Every rank prints hashes of its
 * linears' bits for tests/mpi/compare_np.sh. Exit 0: all hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/base/str.h"
#include "espalier/model/masks.h"
#include "espalier/model/shape.h"
#include "espalier/sensitivity.h"
#include "harness.h"

enum { MANY = 7, MANY_BACKWARD = 5 };
static const double TOLERANCE = 1e-4;

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_model *m;
    espl_weights *golden, *forward; /* gradients.safetensors, golden.safetensors */
    const int32_t *ids;             /* [2, T] */
    int64_t T, C, linears;
    const char *dir, *variant; /* "" or "masked." */
    int64_t sample;            /* of the next embedding gradient */
    espl_masks masks;
} run;

static const float *want(run *r, const char *name) {
    char full[64];
    snprintf(full, sizeof full, "%s%s", r->variant, name);
    const espl_tensor_info *t = espl_weights_find(r->golden, full);
    check(r, t != NULL, name);
    return t ? t->data : NULL;
}

/* |a - b| <= 1e-4 |b| */
static void compare(run *r, const char *what, double got, double expected) {
    double far = fabs(got - expected) / fmax(fabs(expected), 1e-30);
    if (far > r->h->worst) r->h->worst = far;
    if (!(far <= TOLERANCE)) harness_fail(r->h, "%s is %.9g, not %.9g", what, got, expected);
}

/* The same of n numbers of a linear. One of them may also be off by 1e-6 of the largest: a sum over the few tokens that
 * an expert has seen can be next to 0. */
static void compare_row(run *r, const char *what, const double *got, const float *expected, int64_t n) {
    double largest = 0;
    for (int64_t k = 0; k < n; k++) largest = fmax(largest, fabs((double)expected[k]));
    for (int64_t k = 0; k < n; k++)
        if (!(fabs(got[k] - (double)expected[k]) <= 1e-6 * largest)) compare(r, what, got[k], (double)expected[k]);
}

static void watch_embedding(void *context, int64_t layer, const float *dx, int64_t T) {
    run *r = context;
    const float *w = layer == -1 && !*r->variant ? want(r, "embedding") : NULL;
    if (w) harness_compare(r->h, "embedding", dx, w + r->sample * T * r->C, T * r->C, TOLERANCE);
    if (layer == -1) r->sample++;
}

static bool mine(const run *r, int64_t index) { return espl_model_linear(r->m, index) != NULL; }

static void compare_gradients(run *r, const espl_calibration *c, double share0, double share1) {
    const float *w = want(r, "gradient"), *loss = want(r, "loss");
    for (int64_t i = 0; w && i < r->linears; i++)
        if (mine(r, i))
            compare(r, "gradient", espl_calibration_gradient(c, i),
                    share0 * (double)w[i] + share1 * (double)w[r->linears + i]);
    for (int64_t i = 0; loss && i < c->samples; i++)
        compare(r, "loss", c->loss[i], (double)loss[share0 > 0 ? i % 2 : 1]);
}

static void compare_squares(run *r, const espl_calibration *c) {
    const float *w = want(r, "squares");
    for (int64_t i = 0; w && i < r->linears; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        const float *row =
            w + espl_model_slice(r->m).first * c->stride + (l ? espl_calibration_squares(c, i) - c->squares : 0);
        if (l) compare_row(r, "squares", espl_calibration_squares(c, i), row, l->in);
    }
}

/* The profile's columns; its z-scores only for being what rank 0 says everywhere (printed by main's rank 0). */
static void compare_profile(run *r, const espl_calibration *c) {
    const float *w = want(r, "quantile"), *damage = want(r, "damage");
    espl_profile_row *rows = calloc((size_t)r->linears, sizeof *rows);
    espl_sensitivity_removal by = {.score = ESPL_SCORE_WANDA, .group = ESPL_GROUP_ROW};
    check(r, espl_sensitivity_profile(r->c, r->m, c, &by, rows) == ESPL_OK, "profile");
    double sum = 0;
    for (int64_t i = 0; w && i < r->linears; i++) {
        compare(r, "quantile", rows[i].s, (double)w[i]);
        if (damage) compare_row(r, "damage", rows[i].damage, damage + i * ESPL_DAMAGE_LEVELS, ESPL_DAMAGE_LEVELS);
        check(r, (rows[i].pruned > 0) == (*r->variant != 0) && rows[i].pruned < rows[i].weights, "pruned");
        sum += rows[i].z_s * rows[i].z_s + rows[i].z_g * rows[i].z_g;
    }
    compare(r, "sum of squared z-scores", sum, 2 * (double)r->linears);
    if (harness_is_last_rank(r->h))
        espl_str_printf(&r->h->lines, "%s %sprofile %016llx\n", harness_base_name(r->dir), r->variant,
                        (unsigned long long)espl_hash64(rows, r->linears * (int64_t)sizeof *rows, 0));
    free(rows);
}

static void print_bits(run *r, const char *what, const espl_calibration *c) {
    for (int64_t i = 0; i < r->linears; i++) {
        double g = espl_calibration_gradient(c, i);
        const espl_linear *l = espl_model_linear(r->m, i);
        if (!l) continue;
        uint64_t h = espl_hash64(espl_calibration_squares(c, i), l->in * (int64_t)sizeof(double), 0);
        espl_str_printf(&r->h->lines, "%s %s%s %lld %016llx\n", harness_base_name(r->dir), r->variant, what,
                        (long long)i, (unsigned long long)espl_hash64(&g, sizeof g, h));
    }
    if (espl_comm_rank(r->c) == 0)
        espl_str_printf(&r->h->lines, "%s %s%s losses %016llx\n", harness_base_name(r->dir), r->variant, what,
                        (unsigned long long)espl_hash64(c->loss, c->samples * (int64_t)sizeof *c->loss, 0));
}

static void calibrate(run *r, int64_t forward, int64_t backward, const int32_t *ids, espl_calibration *out) {
    espl_calibration_options o = {.window = r->T, .forward = forward, .backward = backward};
    check(r, espl_model_calibrate(r->m, &o, ids, NULL, NULL, out) == ESPL_OK, "calibrate");
}

static void both_samples(run *r) {
    espl_calibration c;
    r->sample = 0;
    espl_model_set_gradient_tap(r->m, watch_embedding, r);
    calibrate(r, 2, 2, r->ids, &c);
    espl_model_set_gradient_tap(r->m, NULL, NULL);
    check(r, r->sample == (espl_comm_rank(r->c) == 0 ? 2 : 0), "embedding gradients seen");
    compare_gradients(r, &c, 0.5, 0.5);
    compare_squares(r, &c);
    compare_profile(r, &c);
    print_bits(r, "both", &c);
    espl_calibration_free(&c);
}

/* ---------------------------------------------------- answers, distillation */

/* Rules of gradients.py. */
static const int32_t CHOICES[] = {1, 5, 2, 7};
static bool is_answer(int64_t t, int64_t T) { return t < T - 1 && t % 3 == 1; }

/* The loss of answers, among the vocabulary or among a few ids, as a topic of the knowledge statistics. */
static void answers(run *r, const char *name, bool letters) {
    int32_t *targets = malloc((size_t)(2 * r->T) * sizeof *targets);
    espl_calibration_options o = {.window = r->T, .backward = 2, .targets = targets};
    espl_calibration c;
    char key[64];
    for (int64_t i = 0; i < 2 * r->T; i++) {
        int64_t t = i % r->T;
        targets[i] = !is_answer(t, r->T) ? -1 : letters ? CHOICES[t % 4] : r->ids[i + 1];
    }
    if (letters) {
        o.choices = CHOICES;
        o.n_choices = 4;
    }
    check(r, espl_model_calibrate(r->m, &o, r->ids, NULL, NULL, &c) == ESPL_OK, name);
    snprintf(key, sizeof key, "%s.loss", name);
    const float *loss = want(r, key);
    for (int i = 0; loss && i < 2; i++) compare(r, key, c.loss[i], (double)loss[i]);
    snprintf(key, sizeof key, "%s.gradient", name);
    const float *gradient = want(r, key);
    for (int64_t i = 0; gradient && i < r->linears; i++)
        if (mine(r, i)) compare(r, key, espl_calibration_gradient(&c, i), (double)gradient[i]);
    snprintf(key, sizeof key, "%s.outputs", name);
    const float *outputs = want(r, key);
    for (int64_t i = 0; outputs && i < r->linears; i++) {
        int64_t out, in;
        espl_model_linear_shape(espl_model_config_of(r->m),
                                espl_linear_kind_of(espl_model_layout(espl_model_config_of(r->m)), i), &out, &in);
        if (mine(r, i)) compare_row(r, key, espl_calibration_output_squares(&c, i), outputs, out);
        outputs += out;
    }
    print_bits(r, name, &c);
    espl_calibration_free(&c);
    free(targets);
}

/* The masked model learns from the dense one: divergence, and gradients of all weights. */
static void distillation(run *r) {
    int64_t hidden = espl_model_config_of(r->m)->hidden, lengths[] = {r->T - 1, r->T - 1};
    float *states = malloc((size_t)(2 * r->T * hidden) * sizeof *states), scales[] = {1, 1};
    const float *teacher[] = {states, states + r->T * hidden}, *loss = want(r, "distill.loss");
    const float *sums = want(r, "distill.sums");
    float **gradients = calloc((size_t)r->linears, sizeof *gradients);
    espl_range own = espl_model_linears(r->m);
    espl_calibration_options o = {.window = r->T, .forward = 2, .final_states = states};
    espl_calibration c;
    espl_masks_apply_dense(&r->masks);
    check(r, espl_model_calibrate(r->m, &o, r->ids, NULL, NULL, &c) == ESPL_OK, "teacher");
    espl_calibration_free(&c);
    espl_masks_apply(&r->masks);
    for (int64_t i = own.first; i < own.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        gradients[i - own.first] = calloc((size_t)(l->out * l->in), sizeof(float));
    }
    o = (espl_calibration_options){.window = r->T, .backward = 2, .gradient_sums = gradients};
    o.teacher = teacher;
    o.lengths = lengths;
    o.scales = scales;
    check(r, espl_model_calibrate(r->m, &o, r->ids, NULL, NULL, &c) == ESPL_OK, "distillation");
    for (int i = 0; loss && i < 2; i++) compare(r, "distill.loss", c.loss[i], (double)loss[i]);
    for (int64_t i = own.first; i < own.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        const float *g = gradients[i - own.first];
        double weighted = 0, absolute = 0;
        for (int64_t k = 0; k < l->out * l->in; k++) {
            weighted += (double)g[k] * (double)((k / l->in * 31 + k % l->in * 17) % 7 - 3);
            absolute += fabs((double)g[k]);
        }
        if (sums) compare(r, "distill.sums", absolute, (double)sums[2 * i + 1]);
        /* Terms of both signs cancel: the error is that of their absolute values. */
        if (sums) compare(r, "distill.weighted", absolute + weighted, (double)sums[2 * i + 1] + (double)sums[2 * i]);
        espl_str_printf(&r->h->lines, "%s distill %lld %016llx\n", harness_base_name(r->dir), (long long)i,
                        (unsigned long long)espl_hash64(g, l->out * l->in * (int64_t)sizeof *g, 0));
        free(gradients[i - own.first]);
    }
    espl_calibration_free(&c);
    free(gradients);
    free(states);
}

static void each_sample(run *r) {
    for (int i = 0; i < 2; i++) {
        espl_calibration c;
        calibrate(r, 0, 1, r->ids + i * r->T, &c);
        compare_gradients(r, &c, i == 0, i == 1);
        espl_calibration_free(&c);
    }
}

/* More windows than ranks, some forward only: the two sequences in turn. */
static void many_samples(run *r) {
    int32_t *ids = malloc((size_t)(MANY * r->T) * sizeof *ids);
    for (int i = 0; i < MANY; i++) memcpy(ids + i * r->T, r->ids + i % 2 * r->T, (size_t)r->T * sizeof *ids);
    espl_calibration c;
    calibrate(r, MANY, MANY_BACKWARD, ids, &c);
    compare_gradients(r, &c, 3.0 / MANY_BACKWARD, 2.0 / MANY_BACKWARD);
    print_bits(r, "many", &c);
    espl_calibration_free(&c);
    free(ids);
}

static void statistics_alone(run *r) {
    espl_calibration c;
    calibrate(r, 2, 0, r->ids, &c);
    compare_squares(r, &c);
    check(r, isnan(espl_calibration_gradient(&c, 0)), "no gradient without samples");
    espl_calibration_free(&c);
}

static void refusals(run *r) {
    espl_calibration c;
    const espl_calibration_options wrong[] = {{.window = 1, .forward = 1, .backward = 1},
                                              {.window = r->T + 1, .forward = 1, .backward = 1},
                                              {.window = r->T},
                                              {.window = r->T, .forward = -1, .backward = 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check(r, espl_model_calibrate(r->m, &wrong[i], r->ids, NULL, NULL, &c) == ESPL_USAGE, "options refused");
    int32_t far[2] = {0, (int32_t)espl_model_config_of(r->m)->vocab};
    const espl_calibration_options o = {.window = 2, .forward = 1};
    check(r, espl_model_calibrate(r->m, &o, far, NULL, NULL, &c) == ESPL_USAGE, "token refused");
}

/* By the rule of gradients.py. */
static void prune(run *r) {
    check(r, espl_masks_create(&r->masks, r->m, false) == ESPL_OK, "masks");
    for (int64_t i = r->masks.linears.first; i < r->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        for (int64_t row = 0; row < l->out; row++)
            for (int64_t c = 0; c < l->in; c++)
                if ((row * 31 + c * 17 + i * 5) % 10 < 3)
                    espl_mask_row_clear(espl_masks_of(&r->masks, i) + row * espl_mask_words(l->in), c);
    }
    espl_masks_apply(&r->masks);
    check(r, espl_model_set_mask(r->m, r->linears, NULL) == ESPL_INTERNAL, "mask of no linear");
}

static void test_opened(run *r) {
    r->linears = espl_model_linears_of(espl_model_config_of(r->m));
    r->C = espl_model_config_of(r->m)->hidden;
    both_samples(r);
    each_sample(r);
    statistics_alone(r);
    many_samples(r);
    refusals(r);
    r->variant = r->h->part = "masked.";
    prune(r);
    both_samples(r);
    r->h->part = "distill.";
    r->variant = "";
    distillation(r);
    r->variant = "masked.";
    espl_masks_apply_dense(&r->masks);
    r->variant = r->h->part = "";
    both_samples(r); /* dense again */
    answers(r, "answers", false);
    answers(r, "letters", true);
    espl_masks_free(&r->masks);
}

static espl_weights *open_beside(run *r, const char *file) {
    char path[4096];
    espl_weights *w = NULL;
    snprintf(path, sizeof path, "%s/%s", r->dir, file);
    check(r, espl_weights_open_file(path, &w) == ESPL_OK, file);
    return w;
}

static void test_model(run *r) {
    r->golden = open_beside(r, "gradients.safetensors");
    r->forward = open_beside(r, "golden.safetensors");
    const espl_tensor_info *ids = r->forward ? espl_weights_find(r->forward, "input_ids") : NULL;
    check(r, ids != NULL, "input_ids");
    if (r->golden && ids) {
        r->ids = ids->data;
        r->T = ids->dims[1];
        espl_model_options o = {.context = r->T, .batch_tokens = 4, .slots = 1};
        espl_status st = espl_model_open(r->c, r->dir, &o, &r->m);
        check(r, st == ESPL_OK || st == ESPL_CONFIG, "open"); /* fewer layers than ranks: nothing to do */
        if (st == ESPL_OK) test_opened(r);
        espl_model_close(&r->m);
    }
    espl_weights_close(&r->golden);
    espl_weights_close(&r->forward);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 1, ESPL_LOG_QUIET)) return 2;
    espl_tensor_blas_init();
    for (int i = 1; i < argc; i++) {
        run r = {.h = &h, .c = h.c, .dir = argv[i], .variant = ""};
        h.name = argv[i];
        test_model(&r);
    }
    if (espl_comm_rank(h.c) == 0)
        fprintf(stderr, "%d models, largest relative difference on rank 0: %.2g\n", argc - 1, h.worst);
    return harness_end(&h);
}
