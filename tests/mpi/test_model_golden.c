/* SPDX-License-Identifier: Apache-2.0 */
/* The forward pass against Hugging Face transformers (tests/golden/models), on any number of ranks.
 *
 * usage: mpirun -n N test_model_golden MODEL_DIR...
 * Compares hidden states per layer, logits (token by token through the KV cache), log-probabilities (in uneven pieces)
 * and greedy continuations; prints, per model, a hash of the log-probabilities' bits for tests/mpi/compare_np.sh. A
 * model with fewer layers than ranks must be refused. Exit 0: all hold. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/base/hash.h"
#include "espalier/chat/generate.h"
#include "espalier/eval/perplexity.h"
#include "espalier/model/forward.h"
#include "harness.h"

enum { PIECE = 11 };
static const double TOLERANCE = 1e-4;

typedef struct golden {
    espl_weights *file;
    const int32_t *ids; /* [B, T] */
    int64_t B, T, V, C;
} golden;

typedef struct run {
    harness *h;
    espl_comm *c;
    espl_model *m;
    golden g;
    const char *dir;
} run;

static const float *want(run *r, const char *name) {
    const espl_tensor_info *t = espl_weights_find(r->g.file, name);
    check(r, t != NULL, name);
    return t ? t->data : NULL;
}

static void compare_hidden(void *context, int64_t layer, const float *x, int64_t T) {
    run *r = context;
    char name[32];
    bool final = layer == espl_model_config_of(r->m)->layers;
    snprintf(name, sizeof name, final ? "final_norm" : "hidden.%lld", (long long)layer + 1);
    const float *w = want(r, name);
    if (w) harness_compare(r->h, name, x, w, T * r->g.C, TOLERANCE);
}

/* Both sequences as one micro-batch: two segments in two slots. */
static void whole_batch(run *r) {
    espl_segment s[2];
    for (int64_t b = 0; b < r->g.B; b++) s[b] = (espl_segment){.slot = b, .n = r->g.T, .ids = r->g.ids + b * r->g.T};
    espl_batch batch = {.segments = s, .n = r->g.B};
    espl_model_set_tap(r->m, compare_hidden, r);
    check(r, espl_model_run(r->m, &batch, 1, NULL, NULL) == ESPL_OK, "whole batch");
    espl_model_set_tap(r->m, NULL, NULL);
}

/* Token by token through the cache, logits each time. */
static void logits_by_token(run *r) {
    float *logits = malloc((size_t)(r->g.B * r->g.V) * sizeof *logits);
    const float *w = want(r, "logits");
    bool last = harness_is_last_rank(r->h);
    for (int64_t t = 0; t < r->g.T; t++) {
        espl_segment s[2];
        for (int64_t b = 0; b < r->g.B; b++)
            s[b] = (espl_segment){
                .slot = b, .pos = t, .n = 1, .ids = r->g.ids + b * r->g.T + t, .logits = logits + b * r->g.V};
        espl_batch batch = {.segments = s, .n = r->g.B};
        check(r, espl_model_run(r->m, &batch, 1, NULL, NULL) == ESPL_OK, "one token");
        for (int64_t b = 0; last && w && b < r->g.B; b++)
            harness_compare(r->h, "logits", logits + b * r->g.V, w + (b * r->g.T + t) * r->g.V, r->g.V, TOLERANCE);
    }
    free(logits);
}

/* The library's own evaluation: windows of T tokens in pieces of PIECE. */
static void logprobs_in_pieces(run *r) {
    espl_corpus corpus = {.ids = (int32_t *)(uintptr_t)r->g.ids, .n = r->g.B * r->g.T};
    double *got = malloc((size_t)corpus.n * sizeof *got);
    const float *w = want(r, "logprobs");
    check(r, espl_eval_logprobs(r->c, r->m, &corpus, r->g.T, "golden", got) == ESPL_OK, "logprobs");
    for (int64_t b = 0; w && b < r->g.B; b++)
        for (int64_t t = 1; t < r->g.T; t++) {
            float x = (float)got[b * r->g.T + t];
            harness_compare(r->h, "logprobs", &x, w + b * (r->g.T - 1) + t - 1, 1, TOLERANCE);
        }
    if (espl_comm_rank(r->c) == 0)
        espl_str_printf(&r->h->lines, "%s %016llx\n", harness_base_name(r->dir),
                        (unsigned long long)espl_hash64(got, corpus.n * (int64_t)sizeof *got, 0));
    free(got);
}

static void greedy(run *r) {
    const espl_tensor_info *t = espl_weights_find(r->g.file, "greedy");
    check(r, t != NULL, "greedy");
    if (!t) return;
    int32_t got[64] = {0};
    int64_t most = t->count < 64 ? t->count : 64;
    espl_generation g = {.prompt = r->g.ids, .n_prompt = 8, .max_tokens = most, .end = -1};
    espl_generated result;
    check(r, espl_chat_generate(r->c, r->m, &g, got, &result) == ESPL_OK, "generate");
    check(r, result.n <= most && memcmp(got, t->data, (size_t)result.n * sizeof *got) == 0, "greedy ids");
    check(r, result.n > 0, "greedy ids are not empty");
}

static bool open_golden(run *r) {
    char path[4096];
    snprintf(path, sizeof path, "%s/golden.safetensors", r->dir);
    if (espl_weights_open_file(path, &r->g.file) != ESPL_OK) return check(r, false, "golden.safetensors"), false;
    const espl_tensor_info *ids = espl_weights_find(r->g.file, "input_ids"),
                           *l = espl_weights_find(r->g.file, "logits"), *h = espl_weights_find(r->g.file, "hidden.0");
    if (!ids || !l || !h || ids->dims[0] > 2) return check(r, false, "goldens incomplete"), false;
    r->g.ids = ids->data;
    r->g.B = ids->dims[0];
    r->g.T = ids->dims[1];
    r->g.V = l->dims[2];
    r->g.C = h->dims[2];
    return true;
}

/* The logprob pieces and the whole batch want different micro-batch sizes: the model is opened twice. */
static void test_model(run *r) {
    espl_model_config config;
    if (espl_model_config_read(r->dir, &config) != ESPL_OK) return check(r, false, "config.json");
    bool too_many = espl_comm_size(r->c) > config.layers;
    espl_model_config_free(&config);
    for (int whole = 1; whole >= 0; whole--) {
        espl_model_options o = {
            .context = r->g.T, .batch_tokens = whole ? 2 * r->g.T : PIECE, .slots = 2, .logits_rows = 2};
        espl_status st = espl_model_open(r->c, r->dir, &o, &r->m);
        check(r, st == (too_many ? ESPL_CONFIG : ESPL_OK), "open");
        if (st != ESPL_OK) return;
        if (whole)
            whole_batch(r);
        else {
            logits_by_token(r);
            logprobs_in_pieces(r);
            greedy(r);
        }
        espl_model_close(&r->m);
    }
}

int main(int argc, char **argv) {
    harness h;
    if (!harness_begin(&h, &argc, &argv, 1, ESPL_LOG_QUIET)) return 2;
    espl_tensor_blas_init();
    for (int i = 1; i < argc; i++) {
        run r = {.h = &h, .c = h.c, .dir = argv[i]};
        h.name = argv[i];
        if (open_golden(&r)) test_model(&r);
        espl_weights_close(&r.g.file);
    }
    if (espl_comm_rank(h.c) == 0)
        fprintf(stderr, "%d models, largest relative difference on rank 0: %.2g\n", argc - 1, h.worst);
    return harness_end(&h);
}
