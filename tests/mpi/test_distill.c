/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Distillation against torch.optim.Adam (tests/golden/gradients.py): three steps of masked tiny models towards their
 * dense selves. Then on the same model what a caller relies on: masks stay, pruned weights keep the source's value, a
 * rollback restores every bit, and a second run gives the same.
 *
 * usage: test_distill MODEL_DIRECTORY ...
 */
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/methods/distill.h"
#include "espalier/weights/reader.h"
#include "harness.h"

enum { STEPS = 3, SAMPLES = 2 };
static const double RATE = 0.01;
/* Of the sum of absolute changes. Adam divides by the size of a gradient: where one is almost 0, its sign is chance. */
static const double TOLERANCE = 2e-2;

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_model *m;
    espl_masks masks;
    espl_distill_set set;
    const float *moves; /* [linears, 2] */
    int64_t T;
} run;

/* The rule of gradients.py. */
static bool is_kept(int64_t r, int64_t c, int64_t linear) { return (r * 31 + c * 17 + linear * 5) % 10 >= 3; }

static void prune(run *r) {
    for (int64_t i = r->masks.linears.first; i < r->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        uint64_t *mask = espl_masks_of(&r->masks, i);
        for (int64_t row = 0; row < l->out; row++)
            for (int64_t c = 0; c < l->in; c++)
                if (!is_kept(row, c, i)) espl_mask_row_clear(mask + row * espl_mask_words(l->in), c);
    }
}

static uint64_t hash_of(const run *r) {
    uint64_t h = 0;
    for (int64_t i = r->masks.linears.first; i < r->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        h = espl_hash64(espl_masks_update_of(&r->masks, i), l->out * l->in * (int64_t)espl_dtype_size(l->dtype), h);
    }
    return h;
}

static double train(run *r) {
    espl_distill_options o = {.window = r->T, .steps = STEPS, .batch = SAMPLES, .rate = RATE, .seed = 3};
    double loss;
    check(r, espl_masks_keep_updates(&r->masks) == ESPL_OK, "keep");
    check(r, espl_distill_run(r->c, &o, &r->set, &r->masks, &loss) == ESPL_OK, "distill");
    return loss;
}

static void compare_moves(run *r) {
    for (int64_t i = r->masks.linears.first; i < r->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i); /* has the new weights */
        int64_t n = l->out * l->in;
        float *now = malloc((size_t)n * sizeof *now), *before = malloc((size_t)n * sizeof *before);
        double weighted = 0, absolute = 0, wanted = (double)r->moves[2 * i + 1];
        espl_tensor_widen(l->weight, l->dtype, n, now);
        espl_masks_apply_dense(&r->masks);
        espl_tensor_widen(espl_model_linear(r->m, i)->weight, l->dtype, n, before);
        espl_masks_apply(&r->masks);
        for (int64_t k = 0; k < n; k++) {
            int64_t row = k / l->in, c = k % l->in;
            double change = (double)now[k] - (double)before[k];
            if (!is_kept(row, c, i)) {
                if (change != 0) harness_fail(r->h, "linear %lld: a pruned weight has moved", (long long)i);
                continue;
            }
            weighted += change * (double)((row * 31 + c * 17) % 7 - 3);
            absolute += fabs(change);
        }
        double far = fmax(fabs(absolute - wanted), fabs(weighted - (double)r->moves[2 * i]) / 3);
        if (wanted > 0) far /= wanted; /* an expert that no token reaches stays where it is */
        r->h->worst = fmax(r->h->worst, far);
        if (!(far <= TOLERANCE))
            harness_fail(r->h, "linear %lld moves by %g (%g), not %g (%g)", (long long)i, absolute, weighted, wanted,
                         (double)r->moves[2 * i]);
        free(now);
        free(before);
    }
}

static void test_opened(run *r, const int32_t *ids) {
    const espl_distill_watch watch = {0};
    check(r, espl_masks_create(&r->masks, r->m, true) == ESPL_OK, "masks");
    prune(r);
    check(r, espl_distill_set_create(r->c, &r->masks, r->T, ids, SAMPLES, NULL, NULL, 0, &watch, &r->set) == ESPL_OK,
          "set");
    double loss = train(r);
    compare_moves(r);
    uint64_t first = hash_of(r);
    espl_masks_roll_back(&r->masks);
    check(r, !r->masks.updated, "rolled back to the source's weights");
    double again = train(r);
    check(r, loss > 0 && loss == again && hash_of(r) == first, "the same again");
    espl_masks_accept(&r->masks);
    train(r);
    check(r, hash_of(r) != first, "a further step changes weights");
    espl_masks_roll_back(&r->masks);
    check(r, r->masks.updated && hash_of(r) == first, "a rollback restores the accepted weights");
    for (int64_t i = r->masks.linears.first; i < r->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(r->m, i);
        uint64_t h = espl_hash64(l->weight, l->out * l->in * (int64_t)espl_dtype_size(l->dtype), 0);
        espl_str_printf(&r->h->lines, "%s %lld %016llx\n", r->h->name, (long long)i, (unsigned long long)h);
    }
    if (espl_comm_rank(r->c) == 0) espl_str_printf(&r->h->lines, "%s %a\n", r->h->name, loss);
    espl_distill_set_free(&r->set);
    espl_masks_free(&r->masks);
}

static espl_weights *open_beside(run *r, const char *dir, const char *file) {
    char path[4096];
    espl_weights *w = NULL;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    check(r, espl_weights_open_file(path, &w) == ESPL_OK, file);
    return w;
}

static void test_model(run *r, const char *dir) {
    espl_weights *golden = open_beside(r, dir, "gradients.safetensors"),
                 *forward = open_beside(r, dir, "golden.safetensors");
    const espl_tensor_info *ids = espl_weights_find(forward, "input_ids"),
                           *moves = espl_weights_find(golden, "distill.moves");
    check(r, ids && moves, "tensors");
    if (ids && moves) {
        r->T = ids->dims[1];
        r->moves = moves->data;
        espl_model_options o = {.context = r->T, .batch_tokens = 4, .slots = 1};
        espl_status st = espl_model_open(r->c, dir, &o, &r->m);
        check(r, st == ESPL_OK || st == ESPL_CONFIG, "open"); /* fewer layers than ranks: nothing to do */
        if (st == ESPL_OK) test_opened(r, ids->data);
        espl_model_close(&r->m);
    }
    espl_weights_close(&golden);
    espl_weights_close(&forward);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 1, ESPL_LOG_QUIET)) return 2;
    espl_tensor_blas_init();
    for (int i = 1; i < argc; i++) {
        run r = {.h = &h, .c = h.c};
        h.name = harness_base_name(argv[i]);
        test_model(&r, argv[i]);
    }
    if (espl_comm_rank(h.c) == 0) fprintf(stderr, "largest relative difference on rank 0: %.2g\n", h.worst);
    return harness_end(&h);
}
