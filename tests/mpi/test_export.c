/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage: mpirun -n N test_export good|bad|again MODEL DIR
 *
 * good   masks MODEL, gives one of its linears other weights, exports it to DIR, and compares the tensors in DIR,
 *        and the log-probabilities of both models, bit for bit with what they should be
 * bad    the export must fail, with the same status on every rank; rank 0 prints the message
 * again  first bad, then good
 *
 * tests/mpi/test_export.sh and tests/fault/test_export.sh look at the files. Exit code 0: all checks hold.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/export.h"
#include "espalier/loop/loop.h"
#include "espalier/model/forward.h"
#include "espalier/model/shape.h"
#include "harness.h"

enum { TOKENS = 20 };            /* of the prompt that both models compute */
enum { UPDATED = 1, DENSE = 3 }; /* the linear with other weights, and the one without a mask */

typedef struct export_test {
    harness *h;
    espl_comm *c;
    const char *source, *dir;
    espl_model *m;
    espl_weights *before;
    int64_t linears;
    uint64_t **masks; /* [linears] of the whole model, NULL: dense */
    void *updated;
} export_test;

/* ------------------------------------------------------------------ pruning */

/* Three of ten weights, in the pattern of tests/golden/gradients.py. */
static bool is_pruned(int64_t linear, int64_t row, int64_t column) {
    return linear != DENSE && (31 * row + 17 * column + 5 * linear) % 10 < 3;
}

/* Where the source has a linear: rows first .. first + out - 1 of a tensor. */
typedef struct stored {
    const espl_tensor_info *t;
    int64_t first, out, in, bytes;
    const uint8_t *data;
} stored;

static stored stored_of(const export_test *r, int64_t linear) {
    const espl_model_config *c = espl_model_config_of(r->m);
    espl_linear_place place = espl_model_linear_place(c, linear);
    stored s = {.t = espl_weights_find(r->before, place.name), .first = place.first};
    espl_model_linear_shape(c, espl_linear_kind_of(espl_model_layout(c), linear), &s.out, &s.in);
    int64_t row_bytes = s.in * (int64_t)espl_dtype_size(s.t->dtype);
    s.bytes = s.out * row_bytes;
    s.data = (const uint8_t *)s.t->data + s.first * row_bytes;
    return s;
}

static uint64_t *make_mask(stored s, int64_t linear) {
    int64_t words = espl_mask_words(s.in);
    uint64_t *mask = calloc((size_t)(s.out * words), sizeof *mask);
    for (int64_t row = 0; row < s.out; row++)
        for (int64_t c = 0; c < s.in; c++)
            if (!is_pruned(linear, row, c)) espl_mask_row_set(mask + row * words, c);
    return mask;
}

/* Other weights: the lowest bit of each is flipped, and some are -0, which an export must keep: only pruned weights
 * become +0. */
static void *make_update(stored s) {
    size_t size = espl_dtype_size(s.t->dtype);
    uint8_t *v = malloc((size_t)s.bytes);
    memcpy(v, s.data, (size_t)s.bytes);
    for (int64_t i = 0; i < s.out * s.in; i++) {
        v[(size_t)i * size] ^= 1; /* little-endian */
        if (i % 11 == 0) memset(v + (size_t)i * size, 0, size - 1), v[((size_t)i + 1) * size - 1] = 0x80;
    }
    return v;
}

static void prune_model(export_test *r) {
    espl_range slice = espl_model_slice(r->m);
    r->linears = espl_model_linears_of(espl_model_config_of(r->m));
    r->masks = calloc((size_t)r->linears, sizeof *r->masks);
    r->updated = make_update(stored_of(r, UPDATED));
    for (int64_t i = 0; i < r->linears; i++) {
        if (i != DENSE) r->masks[i] = make_mask(stored_of(r, i), i);
        int64_t layer = espl_linear_layer(espl_model_layout(espl_model_config_of(r->m)), i);
        if (layer < slice.first || layer >= slice.last) continue;
        check(r, espl_model_set_mask(r->m, i, r->masks[i]) == ESPL_OK, "set mask");
        if (i == UPDATED) check(r, espl_model_set_weight(r->m, i, r->updated) == ESPL_OK, "set weight");
    }
}

/* ---------------------------------------------------------------- comparing */

static bool same_header(const espl_tensor_info *t, const espl_tensor_info *u) {
    return u && u->bytes == t->bytes && u->offset == t->offset && u->dtype == t->dtype && u->n_dims == t->n_dims &&
           strcmp(strrchr(t->file, '/'), strrchr(u->file, '/')) == 0;
}

/* got: the linear's weights in the export. */
static bool same_linear(export_test *r, int64_t linear, const uint8_t *got) {
    static const uint8_t zero[8];
    stored s = stored_of(r, linear);
    size_t size = espl_dtype_size(s.t->dtype);
    const uint8_t *want = linear == UPDATED ? r->updated : s.data;
    for (int64_t i = 0; i < s.out * s.in; i++) {
        bool gone = is_pruned(linear, i / s.in, i % s.in);
        if (memcmp(got + (size_t)i * size, gone ? zero : want + (size_t)i * size, size) != 0) return false;
    }
    return true;
}

static void compare_tensors(export_test *r) {
    espl_weights *after;
    check(r, espl_weights_open(r->dir, &after) == ESPL_OK, "exported weights open");
    if (!after) return;
    check(r, espl_weights_count(after) == espl_weights_count(r->before), "as many tensors");
    for (int64_t i = 0; i < espl_weights_count(r->before); i++) {
        const espl_tensor_info *t = espl_weights_at(r->before, i), *u = espl_weights_find(after, t->name);
        bool same = same_header(t, u), linears = false;
        for (int64_t l = 0; same && l < r->linears; l++) {
            stored s = stored_of(r, l);
            if (s.t != t) continue;
            linears = true;
            same = same_linear(r, l, (const uint8_t *)u->data + (s.data - (const uint8_t *)t->data));
        }
        check(r, same && (linears || memcmp(t->data, u->data, (size_t)t->bytes) == 0), t->name);
    }
    espl_weights_close(&after);
}

static void compute(export_test *r, espl_model *m, double *logprob) {
    int32_t ids[TOKENS + 1];
    for (int i = 0; i <= TOKENS; i++) ids[i] = (int32_t)((7 * i + 3) % espl_model_config_of(m)->vocab);
    espl_segment s = {.n = TOKENS, .ids = ids, .targets = ids + 1, .logprob = logprob};
    espl_batch batch = {.segments = &s, .n = 1};
    check(r, espl_model_run(m, &batch, 1, NULL, NULL) == ESPL_OK, "run");
}

/* Bit for bit: the exported zeros must act as the masks do. */
static void compare_models(export_test *r, const espl_model_options *o) {
    espl_model *again;
    double masked[TOKENS] = {0}, exported[TOKENS] = {0};
    check(r, espl_model_open(r->c, r->dir, o, &again) == ESPL_OK, "exported model opens");
    if (!again) return;
    compute(r, r->m, masked);
    compute(r, again, exported);
    bool last = espl_comm_rank(r->c) == espl_comm_size(r->c) - 1;
    check(r, !last || masked[TOKENS - 1] < 0, "something is computed");
    for (int i = 0; i < TOKENS; i++) check(r, masked[i] == exported[i], "the same log-probabilities");
    espl_model_close(&again);
}

/* ---------------------------------------------------------------- exporting */

/* The card is on rank 0 alone, as in a run. */
static espl_status export_model(export_test *r) {
    espl_export_about about = {0};
    if (espl_comm_rank(r->c) == 0) {
        bool known;
        check(r, espl_export_put_licence(r->source, &about.card, &known) == ESPL_OK, "licence");
        espl_str_printf(&about.card, "card: %d\n", known);
        espl_str_puts(&about.recipe, "{}\n");
    }
    espl_status st = espl_export_model(r->c, r->m, r->source, r->dir, &about);
    espl_str_free(&about.card);
    espl_str_free(&about.recipe);
    return st;
}

static void check_success(export_test *r, const espl_model_options *o) {
    espl_status st = export_model(r);
    check(r, st == ESPL_OK, "export");
    if (st != ESPL_OK) return;
    compare_tensors(r);
    compare_models(r, o);
}

static void check_failure(export_test *r) {
    espl_status st = export_model(r);
    check(r, st == ESPL_IO, "the export fails");
    check(r, espl_comm_max(r->c, (int)st) == (int)st && -espl_comm_max(r->c, -(int)st) == (int)st,
          "the same status on every rank");
    if (espl_comm_rank(r->c) == 0) printf("%s\n", espl_base_error_text());
}

static void run_test(export_test *r, const char *mode) {
    espl_model_options o = {.context = TOKENS, .batch_tokens = TOKENS, .slots = 1};
    check(r, espl_model_open(r->c, r->source, &o, &r->m) == ESPL_OK, "open");
    if (!r->m) return;
    check(r, espl_weights_open(r->source, &r->before) == ESPL_OK, "weights open");
    prune_model(r);
    if (strcmp(mode, "good") != 0) check_failure(r);
    if (strcmp(mode, "bad") != 0) check_success(r, &o);
    for (int64_t i = 0; i < r->linears; i++) free(r->masks[i]);
    free(r->masks);
    free(r->updated);
    espl_weights_close(&r->before);
    espl_model_close(&r->m);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 3, ESPL_LOG_INFO)) return 2;
    export_test r = {.h = &h, .c = h.c, .source = argv[2], .dir = argv[3]};
    h.name = r.dir;
    espl_tensor_blas_init();
    run_test(&r, argv[1]);
    return harness_end(&h);
}
