/* SPDX-License-Identifier: Apache-2.0 */
/* One-shot pruning against transcriptions of the published methods on transformers models (tests/golden/prune), on any
 * number of ranks.
 *
 * usage: mpirun -n N test_oneshot GOLDEN_DIR MODEL_DIR...
 * For each model: every method whose masks GOLDEN_DIR/<model>.safetensors has is run and compared; without such a file
 * (a trained model) the methods are only run. Prints, per method and linear, a hash of mask and weights for
 * tests/mpi/compare_np.sh. A model with fewer layers than ranks is passed over. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/methods/allocate.h"
#include "espalier/methods/cost.h"
#include "espalier/methods/oneshot.h"
#include "espalier/methods/update.h"
#include "espalier/model/shape.h"
#include "espalier/tensor/statistics.h"
#include "harness.h"
#include "peak.h"

enum { FREE_SAMPLES = 9, FREE_WINDOW = 48, HANDLES = 4096 /* bytes */ };
/* Activations differ by rounding: scores closer than that may change places, one pair in a linear, and with SparseGPT,
 * where weights depend on those before them, one bit in a thousand. Updated weights, by norm; sparsities. */
static const double SURGEON_TOLERANCE = 0.001, WEIGHT_TOLERANCE = 0.02, SPARSITY_TOLERANCE = 1e-3;

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_model *m;
    espl_weights *golden; /* or NULL */
    const char *name;
    int32_t *ids;
    int64_t samples, window, mine, first, linears; /* linears of this rank, the first of them, of the model */
    espl_masks masks;
    int64_t *counts;
    int calls; /* of the fitness */
    int64_t bits, differing;
} run;

static const espl_tensor_info *golden(const run *r, const char *part, const char *method, int64_t linear) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s.%" PRId64, part, method, linear);
    return r->golden ? espl_weights_find(r->golden, name) : NULL;
}

static int64_t mask_bytes(const espl_linear *l) { return espl_mask_bytes(l->out, l->in); }

/* Bits that may differ from the transcription's. */
static int64_t allowance(const char *method, const espl_linear *l) {
    if (strncmp(method, "sparsegpt", 9) == 0) return 2 + (int64_t)(SURGEON_TOLERANCE * (double)(l->out * l->in));
    return strncmp(method, "magnitude", 9) == 0 ? 0 : 2;
}

static void compare_mask(run *r, const char *method, int64_t i) {
    const espl_linear *l = espl_model_linear(r->m, r->first + i);
    const espl_tensor_info *want = golden(r, "mask", method, r->first + i);
    int64_t differing = 0, index = r->first + i, bits = l->out * l->in;
    if (!want) return;
    check(r, want->bytes == mask_bytes(l), "size of a golden mask");
    const uint8_t *a = (const uint8_t *)r->masks.bits[i], *b = want->data;
    for (int64_t k = 0; k < mask_bytes(l) && k < want->bytes; k++)
        differing += __builtin_popcount((unsigned)(a[k] ^ b[k]));
    r->bits += bits;
    r->differing += differing;
    if (differing <= allowance(method, l)) return;
    harness_fail(r->h, "%s: %" PRId64 " of %" PRId64 " bits of linear %" PRId64 " differ", method, differing, bits,
                 index);
}

static void compare_weights(run *r, const char *method, int64_t i) {
    const espl_linear *l = espl_model_linear(r->m, r->first + i);
    const espl_tensor_info *want = golden(r, "weight", method, r->first + i);
    int64_t n = l->out * l->in, index = r->first + i;
    if (!want) return;
    float *a = malloc((size_t)n * sizeof *a), *b = malloc((size_t)n * sizeof *b);
    espl_tensor_widen(r->masks.updates[i], l->dtype, n, a);
    espl_tensor_widen(want->data, want->dtype, n, b);
    double diff = 0, size = 0;
    for (int64_t k = 0; k < n; k++) {
        diff += ((double)a[k] - (double)b[k]) * ((double)a[k] - (double)b[k]);
        size += (double)b[k] * (double)b[k];
    }
    if (!(sqrt(diff) <= WEIGHT_TOLERANCE * sqrt(size)))
        harness_fail(r->h, "%s: weights of linear %" PRId64 " differ by %g", method, index, sqrt(diff / size));
    free(a);
    free(b);
}

static void print_linear(run *r, const char *method, int64_t i, bool updated) {
    const espl_linear *l = espl_model_linear(r->m, r->first + i);
    uint64_t hash = espl_hash64(r->masks.bits[i], mask_bytes(l), 0);
    int64_t weight_bytes = l->out * l->in * (int64_t)espl_dtype_size(l->dtype), index = r->first + i;
    if (updated) hash = espl_hash64(r->masks.updates[i], weight_bytes, hash);
    espl_str_printf(&r->h->lines, "%s %s %" PRId64 " %016" PRIx64 "\n", r->name, method, index, hash);
}

/* The masks in effect, the counts, and zeros where an updated weight is masked. */
static void check_effect(run *r, int64_t i, bool updated) {
    const espl_linear *l = espl_model_linear(r->m, r->first + i);
    check(r, l->mask == r->masks.bits[i] && (l->weight == r->masks.updates[i]) == updated, "in effect in the model");
    check(r, l->out * l->in - espl_linear_survivors(l) == r->counts[r->first + i], "count");
    for (int64_t k = 0; updated && k < l->out * l->in; k++) {
        float w;
        espl_tensor_widen((const char *)l->weight + (size_t)k * espl_dtype_size(l->dtype), l->dtype, 1, &w);
        if (!espl_mask_row_get(l->mask + k / l->in * espl_mask_words(l->in), k % l->in) && w != 0)
            check(r, false, "a pruned weight is not 0");
    }
}

static espl_method_options options_of(const run *r) {
    espl_method_options o = espl_method_defaults();
    o.samples = r->samples;
    o.window = r->window;
    o.target = 0.5;
    o.cap = 0.95; /* no sparsity of the goldens is clipped */
    return o;
}

/* What the method allocated against espl_method_bytes, which does not count handles and schedules. */
static void compare_bytes(run *r, const char *method, const espl_method_options *o) {
    int64_t bytes = espl_method_bytes(espl_model_config_of(r->m), o, espl_model_slice(r->m), espl_comm_rank(r->c),
                                      espl_comm_size(r->c), 1);
    if (peak.peak < bytes || peak.peak > bytes + HANDLES)
        harness_fail(r->h, "%s allocated %" PRId64 " bytes, not the %" PRId64 " of espl_method_bytes", method,
                     peak.peak, bytes);
}

static void one_shot(run *r, const char *method, const espl_method_options *o) {
    bool updated = o->update == ESPL_UPDATE_SPARSEGPT;
    peak_begin("sums of the ranks"); /* the communicator's */
    espl_status st = espl_method_run(r->c, o, r->ids, &r->masks, r->counts);
    compare_bytes(r, method, o);
    check(r, st == ESPL_OK, method);
    for (int64_t i = 0; i < r->mine && st == ESPL_OK; i++) {
        compare_mask(r, method, i);
        if (updated) compare_weights(r, method, i);
        check_effect(r, i, updated);
        print_linear(r, method, i, updated);
    }
}

static const struct {
    const char *name, *score, *pattern;
    espl_update update;
} methods[] = {{"magnitude-layer", "magnitude", "unstructured", ESPL_UPDATE_NONE},
               {"wanda-row", "wanda", "unstructured", ESPL_UPDATE_NONE},
               {"wanda-2:4", "wanda", "2:4", ESPL_UPDATE_NONE},
               {"wanda-4:8", "wanda", "4:8", ESPL_UPDATE_NONE},
               {"ria-layer", "ria", "unstructured", ESPL_UPDATE_NONE},
               {"gblm-row", "gblm", "unstructured", ESPL_UPDATE_NONE},
               {"rgs-row", "rgs", "unstructured", ESPL_UPDATE_NONE},
               {"sparsegpt-layer", "wanda", "unstructured", ESPL_UPDATE_SPARSEGPT},
               {"sparsegpt-2:4", "wanda", "2:4", ESPL_UPDATE_SPARSEGPT},
               {"sparsegpt-row", "wanda", "row", ESPL_UPDATE_SPARSEGPT}};

static void all_methods(run *r) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        espl_method_options o = options_of(r);
        o.update = methods[i].update;
        check(r, espl_score_parse(methods[i].score, &o.score), "score");
        check(r, espl_prune_pattern_parse(methods[i].pattern, o.score, o.update, &o.pattern), "pattern");
        one_shot(r, methods[i].name, &o);
    }
}

/* Sum of counts is exact; the sparsities are those of the transcription. */
static void compare_counts(run *r, const char *name, bool per_linear) {
    const espl_tensor_info *want = r->golden ? espl_weights_find(r->golden, name) : NULL;
    const float *sparsity = want ? want->data : NULL;
    int64_t sum = 0, all = 0;
    for (int64_t i = 0; i < r->linears; i++) {
        int64_t out, in;
        espl_model_linear_shape(espl_model_config_of(r->m),
                                espl_linear_kind_of(espl_model_layout(espl_model_config_of(r->m)), i), &out, &in);
        double got = (double)r->counts[i] / (double)(out * in);
        sum += r->counts[i], all += out * in;
        double tolerance = fmax(SPARSITY_TOLERANCE, 1 / (double)(out * in)); /* a weight of a small linear */
        int64_t at = per_linear ? i : espl_linear_layer(espl_model_layout(espl_model_config_of(r->m)), i);
        if (sparsity && fabs(got - (double)sparsity[at]) > tolerance) check(r, false, name);
    }
    check(r, sum == llround(0.5 * (double)all), "the budget is met exactly");
}

static void allocations(run *r) {
    static const espl_allocation kinds[] = {ESPL_ALLOCATION_OWL, ESPL_ALLOCATION_LSA, ESPL_ALLOCATION_LSA_LINEAR};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        espl_method_options o = options_of(r);
        o.allocation = kinds[i];
        one_shot(r, espl_allocation_name(kinds[i]), &o);
        compare_counts(r, espl_allocation_name(kinds[i]), kinds[i] == ESPL_ALLOCATION_LSA_LINEAR);
    }
}

/* Masks from statistics of the dense model, and SparseGPT by counts and row weights from them. */
static void curvatures(run *r) {
    static const struct {
        const char *name, *pattern;
        double power;
        espl_allocation allocation;
        espl_update update;
    } kinds[] = {{"curvature-layer", "unstructured", 1, ESPL_ALLOCATION_UNIFORM, ESPL_UPDATE_NONE},
                 {"curvature-2:4", "2:4", 0.5, ESPL_ALLOCATION_UNIFORM, ESPL_UPDATE_NONE},
                 {"curvature-global", "unstructured", 0.5, ESPL_ALLOCATION_GLOBAL, ESPL_UPDATE_NONE},
                 {"curvature-owl", "row", 0.5, ESPL_ALLOCATION_OWL, ESPL_UPDATE_NONE},
                 {"curvature-global-sparsegpt", "unstructured", 1, ESPL_ALLOCATION_GLOBAL, ESPL_UPDATE_SPARSEGPT}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        espl_method_options o = options_of(r);
        o.score = ESPL_SCORE_CURVATURE;
        o.update = kinds[i].update;
        o.allocation = kinds[i].allocation;
        o.gradient_samples = r->samples;
        o.curvature_power = kinds[i].power;
        check(r, espl_prune_pattern_parse(kinds[i].pattern, o.score, o.update, &o.pattern), "pattern");
        one_shot(r, kinds[i].name, &o);
        if (!espl_pattern_is_n_m(o.pattern)) compare_counts(r, kinds[i].name, true);
    }
}

/* The fewer weights layer 0 has left, the better: what the search must then find. */
static espl_status survivors_of_layer_0(void *context, int64_t stage, double *value) {
    run *r = context;
    r->calls++;
    *value = (double)stage;
    for (int64_t i = 0; i < r->mine; i++)
        if (espl_linear_layer(espl_model_layout(espl_model_config_of(r->m)), r->first + i) == 0)
            *value += (double)espl_linear_survivors(espl_model_linear(r->m, r->first + i));
    espl_comm_broadcast(r->c, value, sizeof *value, 0); /* layer 0 is rank 0's */
    return ESPL_OK;
}

static void searches(run *r) {
    espl_method_options o = options_of(r);
    int64_t weights = espl_model_layer_linear_weights(espl_model_config_of(r->m)), pruned = 0;
    o.allocation = ESPL_ALLOCATION_SEARCH;
    o.fitness = survivors_of_layer_0;
    o.context = r;
    o.search_evaluations = r->golden ? 300 : 60; /* a trained model is larger */
    o.search.seed = 3;
    one_shot(r, "search", &o);
    compare_counts(r, "search", true);
    for (int64_t k = 0; k < espl_layout_layer_linears(espl_model_layout(espl_model_config_of(r->m))); k++)
        pruned += r->counts[k];
    check(r, r->calls >= o.search_evaluations, "the search spends its evaluations");
    /* A step moves a level of one linear: the more linears, the shorter the way. */
    bool few = r->golden && espl_model_config_of(r->m)->experts == 0;
    check(r, pruned > weights * (few ? 60 : 52) / 100, "the search finds what its fitness wants");
}

/* Local. Where the mask prunes, the source's weights stand: a later step may put them back. Returns whether others are
 * new. */
static bool check_update(run *r, int64_t i) {
    const espl_linear *l = espl_model_linear(r->m, r->first + i);
    size_t size = espl_dtype_size(l->dtype);
    const char *updated = r->masks.updates[i];
    int64_t words = espl_mask_words(l->in);
    bool changed = false;
    check(r, l->weight == updated, "updated weights are in effect");
    espl_masks_apply_dense(&r->masks);
    for (int64_t k = 0; k < l->out * l->in; k++) {
        bool same = memcmp((const char *)l->weight + (size_t)k * size, updated + (size_t)k * size, size) == 0;
        bool kept = espl_mask_row_get(r->masks.bits[i] + k / l->in * words, k % l->in);
        if (!kept && !same) return check(r, false, "a pruned weight is not the source's"), false;
        changed = changed || !same;
    }
    espl_masks_apply(&r->masks);
    return changed;
}

/* New weights for Wanda's masks, which stay; a rollback takes them back. */
static void updates(run *r) {
    static const struct {
        const char *name;
        espl_update update;
        bool shift;
    } kinds[] = {{"update-sparsegpt", ESPL_UPDATE_SPARSEGPT, true},
                 {"update-obs", ESPL_UPDATE_OBS, true},
                 {"update-reconstruct", ESPL_UPDATE_RECONSTRUCT, true},
                 {"update-own", ESPL_UPDATE_RECONSTRUCT, false}};
    espl_method_options o = options_of(r);
    espl_update_result result;
    uint64_t *masks = malloc((size_t)espl_masks_bytes(espl_model_config_of(r->m), espl_model_slice(r->m)));
    int64_t mask_bytes_of_all = espl_masks_bytes(espl_model_config_of(r->m), espl_model_slice(r->m));
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, r->counts) == ESPL_OK, "masks to update for");
    memcpy(masks, r->masks.all_bits, (size_t)mask_bytes_of_all);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        int64_t changed = 0;
        double all, mine;
        o.update = kinds[k].update;
        o.shift = kinds[k].shift;
        check(r, espl_masks_keep_updates(&r->masks) == ESPL_OK, "keep");
        peak_begin("sums of the ranks");
        espl_status st = espl_method_update(r->c, &o, r->ids, &r->masks, &result);
        int64_t bytes =
            espl_method_update_bytes(espl_model_config_of(r->m), &o, espl_comm_rank(r->c), espl_comm_size(r->c));
        if (peak.peak < bytes || peak.peak > bytes + HANDLES)
            harness_fail(r->h, "%s allocated %" PRId64 " bytes, not the %" PRId64 " of espl_method_update_bytes",
                         kinds[k].name, peak.peak, bytes);
        check(r, st == ESPL_OK, kinds[k].name);
        check(r, memcmp(masks, r->masks.all_bits, (size_t)mask_bytes_of_all) == 0, "an update changes no mask");
        for (int64_t i = 0; i < r->mine; i++) {
            print_linear(r, kinds[k].name, i, true);
            changed += check_update(r, i);
        }
        int64_t chosen = 0;
        for (int d = 0; d < ESPL_UPDATE_DAMPINGS; d++) chosen += result.chosen[d];
        check(r, result.linears == r->linears && chosen + result.kept == r->linears, "the result counts all linears");
        mine = (double)changed, all = 0;
        double every[64];
        espl_comm_gather_f64(r->c, mine, every);
        for (int rank = 0; rank < espl_comm_size(r->c); rank++) all += every[rank];
        check(r, (int64_t)all == chosen && chosen > 0, "as many linears changed as chose a damping");
        espl_masks_roll_back(&r->masks);
        check(r, !r->masks.updated && r->masks.updates_before == NULL, "rolled back");
    }
    check(r, espl_method_update(r->c, &o, r->ids, &r->masks, &result) == ESPL_USAGE, "without weights before");
    check(r, espl_masks_keep_updates(&r->masks) == ESPL_OK, "keep");
    o.samples = 1;
    check(r, espl_method_update(r->c, &o, r->ids, &r->masks, &result) == ESPL_CONFIG, "nothing to hold out");
    o.samples = r->samples, o.damping = 0;
    check(r, espl_method_update(r->c, &o, r->ids, &r->masks, &result) == ESPL_CONFIG, "no damping");
    espl_masks_roll_back(&r->masks);
    free(masks);
}

static void refusals(run *r) {
    espl_method_options o = options_of(r);
    o.allocation = ESPL_ALLOCATION_GIVEN;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "given, without");
    o = options_of(r);
    o.allocation = ESPL_ALLOCATION_SEARCH;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "search, without");
    o = options_of(r);
    o.update = ESPL_UPDATE_SPARSEGPT;
    espl_masks without_updates;
    check(r, espl_masks_create(&without_updates, r->m, false) == ESPL_OK, "masks");
    check(r, espl_method_run(r->c, &o, r->ids, &without_updates, NULL) == ESPL_USAGE, "no room for updates");
    espl_masks_free(&without_updates);
    o = options_of(r);
    o.target = 0.97;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "beyond the cap");
    o.score = ESPL_SCORE_CURVATURE;
    o.pattern.group = ESPL_GROUP_LAYER;
    o.allocation = ESPL_ALLOCATION_GLOBAL;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "no gradient samples");
    o.gradient_samples = 1;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "beyond all caps together");
    o.target = 0.5;
    o.pattern.group = ESPL_GROUP_ROW;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_CONFIG, "global by row");
    int32_t keep = r->ids[3];
    o = options_of(r);
    r->ids[3] = -1;
    check(r, espl_method_run(r->c, &o, r->ids, &r->masks, NULL) == ESPL_USAGE, "token refused");
    r->ids[3] = keep;
}

/* --------------------------------------------------------------- set-up */

static void make_room(run *r) {
    check(r, espl_masks_create(&r->masks, r->m, true) == ESPL_OK, "masks");
    r->first = r->masks.linears.first;
    r->mine = espl_range_count(r->masks.linears);
    r->linears = espl_model_linears_of(espl_model_config_of(r->m));
    r->counts = calloc((size_t)r->linears, sizeof *r->counts);
}

static void clear_room(run *r) {
    espl_masks_free(&r->masks);
    free(r->counts);
}

static void take_ids(run *r, int64_t vocab) {
    const espl_tensor_info *t = r->golden ? espl_weights_find(r->golden, "ids") : NULL;
    espl_rng rng;
    espl_rng_seed(&rng, 5, 0, 0);
    r->samples = t ? t->dims[0] : FREE_SAMPLES;
    r->window = t ? t->dims[1] : FREE_WINDOW;
    r->ids = malloc((size_t)(r->samples * r->window) * sizeof *r->ids);
    for (int64_t i = 0; i < r->samples * r->window; i++) r->ids[i] = (int32_t)espl_rng_below(&rng, vocab);
    if (t) memcpy(r->ids, t->data, (size_t)t->bytes);
}

static void test_opened(run *r) {
    take_ids(r, espl_model_config_of(r->m)->vocab);
    make_room(r);
    all_methods(r);
    allocations(r);
    curvatures(r);
    searches(r);
    updates(r);
    refusals(r);
    clear_room(r);
    free(r->ids);
}

static void test_model(harness *h, const char *goldens, const char *dir) {
    run r = {.h = h, .c = h->c, .name = harness_base_name(dir)};
    h->name = r.name;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.safetensors", goldens, r.name);
    if (espl_file_exists(path)) check(&r, espl_weights_open_file(path, &r.golden) == ESPL_OK, path);
    espl_model_options o = {.context = 64, .batch_tokens = 4, .slots = 1};
    espl_status st = espl_model_open(r.c, dir, &o, &r.m);
    check(&r, st == ESPL_OK || st == ESPL_CONFIG, "open"); /* fewer layers than ranks: nothing to do */
    if (st == ESPL_OK) test_opened(&r);
    espl_model_close(&r.m);
    espl_weights_close(&r.golden);
    if (r.bits && espl_comm_rank(r.c) == 0)
        fprintf(stderr, "%s: %" PRId64 " of %" PRId64 " mask bits differ on rank 0\n", r.name, r.differing, r.bits);
}

/* ------------------------------------------------------ global selection */

enum { SELECTED = 7 }; /* linears of curvature.safetensors */

static const espl_tensor_info *selected_tensor(const espl_weights *w, int linear, const char *part) {
    char name[64];
    snprintf(name, sizeof name, "%d.%s", linear, part);
    return espl_weights_find(w, name);
}

/* Linears of all dtypes, spread over the ranks, against NumPy, which puts all scores into one list and repeats the
 * selection while a linear is above its cap. Every mask is the same to the bit. */
static void test_global_selection(harness *h, const char *goldens) {
    static const double powers[] = {0, 0.5, 1}, unit = 0.25, sparsity = 0.45, cap = 0.8; /* make_curvature.py */
    run r = {.h = h, .c = h->c, .name = "global selection"};
    int rank = espl_comm_rank(h->c), ranks = espl_comm_size(h->c);
    int64_t first = SELECTED * rank / ranks, n = SELECTED * (rank + 1) / ranks - first, all = 0;
    int64_t max[SELECTED], counts[SELECTED];
    espl_linear linears[SELECTED];
    espl_scored_linear own[SELECTED];
    uint64_t *masks[SELECTED];
    float *norms[SELECTED], *rows[SELECTED];
    espl_workspace *ws;
    char path[4096];
    h->name = r.name;
    snprintf(path, sizeof path, "%s/curvature.safetensors", goldens);
    espl_weights *w = NULL;
    check(&r, espl_weights_open_file(path, &w) == ESPL_OK && espl_workspace_create(&ws) == ESPL_OK, path);
    if (!w) return;
    for (int i = 0; i < SELECTED; i++) {
        const espl_tensor_info *t = selected_tensor(w, i, "weight"), *norm = selected_tensor(w, i, "norm");
        linears[i] = (espl_linear){.weight = t->data, .dtype = t->dtype, .out = t->dims[0], .in = t->dims[1]};
        int64_t weights = linears[i].out * linears[i].in;
        all += weights;
        max[i] = espl_min_i64((int64_t)(cap * (double)weights), weights - 1);
        masks[i] = malloc((size_t)mask_bytes(&linears[i]));
        norms[i] = malloc((size_t)norm->bytes);
        memcpy(norms[i], norm->data, (size_t)norm->bytes);
        rows[i] = malloc((size_t)linears[i].out * sizeof *rows[i]);
    }
    for (size_t p = 0; p < sizeof powers / sizeof *powers; p++) {
        for (int i = 0; i < SELECTED; i++) {
            const espl_tensor_info *t = selected_tensor(w, i, "squares");
            for (int64_t k = 0; k < linears[i].out; k++) {
                float f;
                memcpy(&f, (const char *)t->data + (size_t)k * sizeof f, sizeof f);
                espl_tensor_row_factors(&(double){(double)f}, 1, unit, powers[p], &rows[i][k]);
            }
            espl_mask_fill(masks[i], linears[i].out, linears[i].in);
        }
        for (int64_t i = 0; i < n; i++)
            own[i] = (espl_scored_linear){
                .l = &linears[first + i],
                .mask = masks[first + i],
                .by = {.score = ESPL_SCORE_CURVATURE, .norm = norms[first + i], .rows = rows[first + i]}};
        peak_begin("sums of the ranks");
        espl_status st =
            espl_allocate_global(h->c, own, first, n, max, SELECTED, llround(sparsity * (double)all), counts, ws);
        int64_t bytes = espl_allocate_global_bytes(n, SELECTED);
        check(&r, st == ESPL_OK && peak.peak >= bytes && peak.peak <= bytes + HANDLES, "bytes");
        for (int64_t i = first; i < first + n && st == ESPL_OK; i++) {
            espl_pattern layer = {.group = ESPL_GROUP_LAYER};
            char part[32];
            snprintf(part, sizeof part, "global.%g", powers[p]);
            const espl_tensor_info *want = selected_tensor(w, (int)i, part);
            check(&r,
                  espl_prune_linear(&linears[i], &own[i - first].by, &layer, counts[i], masks[i], ws) == ESPL_OK &&
                      want->bytes == mask_bytes(&linears[i]) && memcmp(masks[i], want->data, (size_t)want->bytes) == 0,
                  part);
        }
    }
    check(&r, espl_allocate_global(h->c, own, first, n, max, SELECTED, all, counts, ws) == ESPL_CONFIG, "too many");
    check(&r, espl_allocate_global(h->c, own, first, n, max, SELECTED, 0, counts, ws) == ESPL_OK && counts[0] == 0,
          "none");
    for (int i = 0; i < SELECTED; i++) {
        free(masks[i]);
        free(norms[i]);
        free(rows[i]);
    }
    espl_workspace_destroy(&ws);
    espl_weights_close(&w);
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 2, ESPL_LOG_QUIET)) return 2;
    espl_tensor_blas_init();
    test_global_selection(&h, argv[1]);
    for (int i = 2; i < argc; i++) test_model(&h, argv[1], argv[i]);
    return harness_end(&h);
}
