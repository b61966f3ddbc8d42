/* SPDX-License-Identifier: Apache-2.0 */
/* Times one-shot pruning of a model, and writes the pruned weights for a comparison.
 *
 * usage: [mpirun -n N] bench_oneshot MODEL_DIR IDS.safetensors METHOD PATTERN SPARSITY [OUT.safetensors]
 * IDS: tensor "ids" I32 [samples, window]. METHOD: a score, sparsegpt, or obs or reconstruct, which update the weights
 * for masks of magnitude. OUT: weight.<linear> in the model's dtype, 0 where pruned. Prints one JSON line; the times
 * are those of espl_method_run, or of espl_method_update alone, reading the (mapped) weights included: elapsed, and
 * rank 0's CPU time. tests/bench/oneshot_llmcompressor.py makes the samples and does the same with llmcompressor. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "espalier/base/json_writer.h"
#include "espalier/methods/oneshot.h"
#include "espalier/methods/update.h"
#include "espalier/model/shape.h"
#include "espalier/weights/writer.h"

typedef struct bench {
    espl_comm *c;
    espl_model *m;
    espl_weights *samples;
    espl_method_options o;
    int32_t *ids;
    espl_masks masks;
    double seconds, cpu;
} bench;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Options and samples from the arguments after the model's. Local. */
static espl_status read_arguments(bench *b, char **argv) {
    const char *path = argv[0], *method = argv[1], *pattern = argv[2];
    b->o = espl_method_defaults();
    b->o.target = strtod(argv[3], NULL);
    b->o.cap = 1;
    if (espl_update_parse(method, &b->o.update))
        b->o.score = ESPL_SCORE_MAGNITUDE;
    else if (!espl_score_parse(method, &b->o.score))
        return ESPL_FAIL(ESPL_USAGE, "METHOD %s is not a score or an update", method);
    if (!espl_prune_pattern_parse(pattern, b->o.score, b->o.update, &b->o.pattern))
        return ESPL_FAIL(ESPL_USAGE, "PATTERN %s is not unstructured, row, layer or N:M", pattern);
    ESPL_TRY(espl_weights_open_file(path, &b->samples));
    const espl_tensor_info *t = espl_weights_find(b->samples, "ids");
    if (!t || t->n_dims != 2 || t->bytes != t->count * (int64_t)sizeof *b->ids)
        return ESPL_FAIL(ESPL_FORMAT, "%s has no tensor \"ids\" I32 [samples, window]", path);
    b->o.samples = t->dims[0];
    b->o.window = t->dims[1];
    ESPL_TRY(espl_mem_alloc(&b->ids, t->count, sizeof *b->ids, "ids"));
    memcpy(b->ids, t->data, (size_t)t->bytes);
    return ESPL_OK;
}

/* The weights of a linear as pruned. Without an update its buffer is free to hold them. */
static const void *pruned_weights(bench *b, int64_t index) {
    const espl_linear *l = espl_model_linear(b->m, index);
    size_t size = espl_dtype_size(l->dtype);
    char *to = espl_masks_update_of(&b->masks, index);
    if (l->weight != to) memcpy(to, l->weight, (size_t)(l->out * l->in) * size);
    for (int64_t r = 0; r < l->out; r++)
        for (int64_t c = 0; c < l->in; c++)
            if (!espl_mask_row_get(l->mask + r * espl_mask_words(l->in), c))
                memset(to + (size_t)(r * l->in + c) * size, 0, size);
    return to;
}

/* Local. A writer for the weights of all linears. */
static espl_status plan_file(bench *b, const char *path, espl_weights_writer **w) {
    const espl_model_config *config = espl_model_config_of(b->m);
    int64_t linears = espl_model_linears_of(config);
    espl_dtype dtype = espl_model_linear(b->m, b->masks.linears.first)->dtype;
    espl_tensor_spec *specs = NULL;
    char(*names)[32] = NULL;
    espl_status st;
    ESPL_CHECK(st, done, espl_mem_alloc(&specs, linears, sizeof *specs, "tensors"));
    ESPL_CHECK(st, done, espl_mem_alloc(&names, linears, sizeof *names, "names"));
    for (int64_t i = 0; i < linears; i++) {
        snprintf(names[i], sizeof names[i], "weight.%" PRId64, i);
        specs[i] = (espl_tensor_spec){.name = names[i], .dtype = dtype, .n_dims = 2};
        espl_model_linear_shape(config, espl_linear_kind_of(espl_model_layout(config), i), &specs[i].dims[0],
                                &specs[i].dims[1]);
    }
    st = espl_weights_writer_create(path, specs, linears, w);
done:
    espl_mem_free(&names);
    espl_mem_free(&specs);
    return st;
}

/* Local. The linears of this rank. */
static espl_status put_linears(bench *b, espl_weights_writer *w) {
    for (int64_t i = b->masks.linears.first; i < b->masks.linears.last; i++)
        ESPL_TRY(espl_weights_writer_put(w, i, 0, pruned_weights(b, i), espl_weights_writer_tensor_bytes(w, i)));
    return espl_weights_writer_flush(w);
}

/* Collective. Rank 0 starts and finishes the file; each rank writes its linears. */
static espl_status write_file(bench *b, const char *path) {
    espl_weights_writer *w = NULL;
    bool root = espl_comm_rank(b->c) == 0;
    espl_status st;
    ESPL_CHECK(st, done, espl_comm_agree(b->c, plan_file(b, path, &w)));
    ESPL_CHECK(st, done, espl_comm_agree(b->c, root ? espl_weights_writer_start(w) : ESPL_OK));
    ESPL_CHECK(st, done, espl_comm_agree(b->c, put_linears(b, w)));
    st = espl_comm_agree(b->c, root ? espl_weights_writer_finish(w) : ESPL_OK);
done:
    espl_weights_writer_destroy(&w);
    return st;
}

static espl_status report(const bench *b, const char *method, const char *pattern) {
    struct rusage usage;
    espl_str line = {0};
    espl_json_writer w = espl_json_writer_on(&line);
    getrusage(RUSAGE_SELF, &usage);
    espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
    espl_json_put_text(&w, "method", method);
    espl_json_put_text(&w, "pattern", pattern);
    espl_json_put_i64(&w, "samples", b->o.samples);
    espl_json_put_i64(&w, "window", b->o.window);
    espl_json_put_i64(&w, "ranks", espl_comm_size(b->c));
    espl_json_put_i64(&w, "threads", espl_tensor_threads());
    espl_json_put_fixed(&w, "seconds", b->seconds, 2);
    espl_json_put_fixed(&w, "cpu_seconds", b->cpu, 2);
    espl_json_put_fixed(&w, "peak_mib", (double)usage.ru_maxrss / 1024, 0);
    espl_json_close(&w);
    espl_status st = espl_str_status(&line);
    if (st == ESPL_OK) puts(line.data);
    espl_str_free(&line);
    return st;
}

/* Collective. */
static espl_status run(bench *b, int argc, char **argv) {
    ESPL_TRY(espl_comm_agree(b->c, read_arguments(b, argv + 2)));
    espl_model_options o = {.context = b->o.window, .batch_tokens = 16, .slots = 1};
    ESPL_TRY(espl_model_open(b->c, argv[1], &o, &b->m));
    ESPL_TRY(espl_comm_agree(b->c, espl_masks_create(&b->masks, b->m, true)));
    espl_update_result result;
    bool masked = espl_update_holds_out(b->o.update);
    if (masked) ESPL_TRY(espl_method_run(b->c, &b->o, b->ids, &b->masks, NULL));
    if (masked) ESPL_TRY(espl_comm_agree(b->c, espl_masks_keep_updates(&b->masks)));
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    if (masked)
        ESPL_TRY(espl_method_update(b->c, &b->o, b->ids, &b->masks, &result));
    else
        ESPL_TRY(espl_method_run(b->c, &b->o, b->ids, &b->masks, NULL));
    b->seconds = now(CLOCK_MONOTONIC) - start;
    b->cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    ESPL_TRY(espl_comm_agree(b->c, espl_comm_rank(b->c) == 0 ? report(b, argv[3], argv[4]) : ESPL_OK));
    return argc > 6 ? write_file(b, argv[6]) : ESPL_OK;
}

int main(int argc, char **argv) {
    bench b = {0};
    if (espl_comm_create(&argc, &argv, &b.c) != ESPL_OK) return 1;
    if (argc < 6) {
        fprintf(stderr, "usage: bench_oneshot MODEL_DIR IDS METHOD PATTERN SPARSITY [OUT]\n");
        return 2;
    }
    espl_log_init(ESPL_LOG_QUIET, espl_comm_rank(b.c));
    espl_tensor_blas_init();
    espl_status st = run(&b, argc, argv);
    if (st != ESPL_OK && espl_comm_rank(b.c) == 0) fprintf(stderr, "%s\n", espl_base_error_text());
    espl_masks_free(&b.masks);
    espl_mem_free(&b.ids);
    espl_weights_close(&b.samples);
    espl_model_close(&b.m);
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
