/* One-shot pruning of a model, timed; the pruned weights, for comparison.
 *
 * usage: [mpirun -n N] bench_oneshot MODEL_DIR IDS.safetensors METHOD PATTERN SPARSITY [OUT.safetensors]
 * IDS: tensor "ids" I32 [samples, window]. METHOD: a score, or sparsegpt. OUT: weight.<linear> in the model's dtype, 0
 * where pruned. Prints one JSON line; seconds are those of espl_method_run, reading the weights included (they are
 * mapped), on the clock and of rank 0's CPU time. tests/bench/oneshot_llmcompressor.py makes the samples and does the
 * same with llmcompressor. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "espalier/methods/oneshot.h"
#include "espalier/model/shape.h"

typedef struct bench {
    espl_comm *c;
    espl_model *m;
    espl_weights *samples;
    espl_method_options o;
    int32_t *ids;
    int64_t first, mine, linears; /* linears: of this rank, of the model */
    espl_masks masks;
    double seconds, cpu;
} bench;

static double now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static espl_status take_ids(bench *b, const char *path) {
    ESPL_TRY(espl_weights_open_file(path, &b->samples));
    const espl_tensor_info *t = espl_weights_find(b->samples, "ids");
    if (!t || t->n_dims != 2 || t->bytes != t->count * 4) return ESPL_FAIL(ESPL_FORMAT, "%s: no ids I32 [n, T]", path);
    b->o.samples = t->dims[0];
    b->o.window = t->dims[1];
    ESPL_TRY(espl_mem_alloc(&b->ids, t->count, sizeof *b->ids, "ids"));
    memcpy(b->ids, t->data, (size_t)t->bytes);
    return ESPL_OK;
}

static espl_status take_method(bench *b, char **argv) {
    bool surgeon = strcmp(argv[0], "sparsegpt") == 0;
    if (surgeon) b->o.update = ESPL_UPDATE_SPARSEGPT;
    if (!surgeon && !espl_score_parse(argv[0], &b->o.score)) return ESPL_FAIL(ESPL_USAGE, "method %s", argv[0]);
    if (!espl_prune_pattern_parse(argv[1], b->o.score, b->o.update, &b->o.pattern))
        return ESPL_FAIL(ESPL_USAGE, "pattern %s", argv[1]);
    b->o.target = strtod(argv[2], NULL);
    return ESPL_OK;
}

static espl_status make_room(bench *b) {
    ESPL_TRY(espl_masks_create(&b->masks, b->m, true));
    b->first = b->masks.linears.first;
    b->mine = espl_range_count(b->masks.linears);
    b->linears = espl_model_config_of(b->m)->layers * ESPL_LINEAR_KINDS;
    return ESPL_OK;
}

/* The linear as pruned into its update. */
static const void *pruned(bench *b, int64_t i) {
    const espl_linear *l = espl_model_linear(b->m, b->first + i);
    size_t size = espl_dtype_size(l->dtype);
    char *to = b->masks.updates[i];
    if (b->o.update == ESPL_UPDATE_SPARSEGPT) return to;
    memcpy(to, l->weight, (size_t)(l->out * l->in) * size);
    for (int64_t r = 0; r < l->out; r++)
        for (int64_t c = 0; c < l->in; c++)
            if (!espl_mask_row_get(l->mask + r * espl_mask_words(l->in), c))
                memset(to + (size_t)(r * l->in + c) * size, 0, size);
    return to;
}

static espl_status plan_file(bench *b, const char *path, espl_weights_writer **w) {
    espl_tensor_spec *specs;
    char(*names)[32];
    espl_dtype dtype = espl_model_linear(b->m, b->first)->dtype;
    ESPL_TRY(espl_mem_alloc(&specs, b->linears, sizeof *specs, "tensors"));
    espl_status st = espl_mem_alloc(&names, b->linears, sizeof *names, "names");
    for (int64_t i = 0; st == ESPL_OK && i < b->linears; i++) {
        snprintf(names[i], sizeof names[i], "weight.%lld", (long long)i);
        specs[i] = (espl_tensor_spec){.name = names[i], .dtype = dtype, .n_dims = 2};
        espl_model_linear_shape(espl_model_config_of(b->m), espl_linear_kind_of(i), &specs[i].dims[0],
                                &specs[i].dims[1]);
    }
    if (st == ESPL_OK) st = espl_weights_writer_create(path, specs, b->linears, w);
    espl_mem_free(&names);
    espl_mem_free(&specs);
    return st;
}

static espl_status put_all(bench *b, espl_weights_writer *w) {
    for (int64_t i = 0; i < b->mine; i++)
        ESPL_TRY(espl_weights_writer_put(w, b->first + i, 0, pruned(b, i),
                                         espl_weights_writer_tensor_bytes(w, b->first + i)));
    return espl_weights_writer_flush(w);
}

static espl_status write_file(bench *b, const char *path) {
    espl_weights_writer *w = NULL;
    bool first = espl_comm_rank(b->c) == 0;
    espl_status st = espl_comm_agree(b->c, plan_file(b, path, &w));
    if (st == ESPL_OK) st = espl_comm_agree(b->c, first ? espl_weights_writer_start(w) : ESPL_OK);
    if (st == ESPL_OK) st = espl_comm_agree(b->c, put_all(b, w));
    if (st == ESPL_OK) st = espl_comm_agree(b->c, first ? espl_weights_writer_finish(w) : ESPL_OK);
    espl_weights_writer_destroy(&w);
    return st;
}

static void report(const bench *b, char **argv) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"method\": \"%s\", \"pattern\": \"%s\", \"samples\": %lld, \"window\": %lld, \"ranks\": %d, "
           "\"threads\": %d, \"seconds\": %.2f, \"cpu_seconds\": %.2f, \"peak_mib\": %.0f}\n",
           argv[0], argv[1], (long long)b->o.samples, (long long)b->o.window, espl_comm_size(b->c),
           espl_tensor_threads(), b->seconds, b->cpu, (double)usage.ru_maxrss / 1024);
}

static espl_status prepare(bench *b, char **argv) {
    b->o = espl_method_defaults();
    ESPL_TRY(take_method(b, argv + 3));
    return take_ids(b, argv[2]);
}

static espl_status run(bench *b, int argc, char **argv) {
    ESPL_TRY(espl_comm_agree(b->c, prepare(b, argv)));
    espl_model_options o = {.context = b->o.window, .batch_tokens = 16, .slots = 1};
    ESPL_TRY(espl_model_open(b->c, argv[1], &o, &b->m));
    ESPL_TRY(espl_comm_agree(b->c, make_room(b)));
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    ESPL_TRY(espl_method_run(b->c, &b->o, b->ids, &b->masks, NULL));
    b->seconds = now(CLOCK_MONOTONIC) - start;
    b->cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (espl_comm_rank(b->c) == 0) report(b, argv + 3);
    return argc > 6 ? write_file(b, argv[6]) : ESPL_OK;
}

static void release(bench *b) {
    espl_masks_free(&b->masks);
    espl_mem_free(&b->ids);
    espl_weights_close(&b->samples);
    espl_model_close(&b->m);
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
    release(&b);
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
