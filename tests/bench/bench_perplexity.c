/* SPDX-License-Identifier: Apache-2.0 */
/* How close the forward pass comes to its bound: OpenBLAS sgemm's own time for the same matrix products.
 *
 * usage: [mpirun -n N] bench_perplexity MODEL_DIR [--window 2048] [--windows 4] [--batch 1024] [--rounds 3] [--cpu 0]
 * [--bf16 0] Alternates, per round, (a) the perplexity of random token ids with (b) sgemm, f32 weights ready in memory,
 * on the shapes of one window: every linear and the head with all `window` rows at once; attention's two products,
 * causal, are counted at the rate reached there. On N ranks each rank times sgemm with its own threads at the same
 * time, and the bound assumes a perfect split. Prints one JSON line, medians over rounds. "ratio": bound time / our
 * time, all matrix products counted; "ratio_linear": with linears and head alone in the bound, so that attention counts
 * as overhead.
 * --bf16 1: each round also measures bf16 arithmetic, right after f32; "bf16": tokens/s, the ratio to f32's in the same
 * round, and the relative difference of the perplexities.
 * Where other processes share the cores, take one rank and --cpu 1: CPU seconds of this process instead of the clock's,
 * and OMP_WAIT_POLICY=PASSIVE with several threads. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "espalier/base/json_writer.h"
#include "espalier/eval/perplexity.h"
#include "espalier/model/shape.h"

enum { MAX_ROUNDS = 32 };

typedef struct bench {
    espl_comm *c;
    espl_model *m;
    int64_t window, windows, batch, rounds, cpu, bf16;
    float *a, *b, *y; /* sgemm operands, as large as the largest shape */
    size_t a_n, b_n, y_n;
} bench;

static double seconds(const bench *b) {
    struct timespec t;
    clock_gettime(b->cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_gemm(bench *b, int64_t m, int64_t n, int64_t k, int repeats) {
    double best = INFINITY;
    for (int i = 0; i < repeats; i++) {
        double start = seconds(b);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1.0f, b->a, (int)k, b->b, (int)k,
                    0, b->y, (int)n);
        best = fmin(best, seconds(b) - start);
    }
    return best;
}

/* Seconds of sgemm for the linears and the head of one window. */
static double linear_bound(bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    double sum = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        sum += time_gemm(b, b->window, out, in, 3) * (double)c->layers;
    }
    return sum + time_gemm(b, b->window, c->vocab, c->hidden, 1);
}

/* FLOPs of a window: linears and head; attention's two products, causal (half the square). */
static double linear_flops(const bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    return (double)b->window *
           (espl_model_head_flops(c) + 2 * (double)(c->layers * espl_model_layer_linear_weights(c)));
}

static double attention_flops(const bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    double sum = 0;
    for (int64_t i = 0; i < c->layers; i++) sum += espl_model_layer_flops(c, i, b->window);
    return (double)b->window * (sum + espl_model_head_flops(c)) - linear_flops(b);
}

static void make_operands(bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    int64_t wide = c->ffn > c->hidden ? c->ffn : c->hidden;
    wide = c->heads * c->head_dim > wide ? c->heads * c->head_dim : wide;
    b->a_n = (size_t)(b->window * wide);
    b->b_n = (size_t)((c->vocab > wide ? c->vocab : wide) * c->hidden);
    b->b_n = (size_t)(wide * wide) > b->b_n ? (size_t)(wide * wide) : b->b_n;
    b->y_n = (size_t)(b->window * (c->vocab > wide ? c->vocab : wide));
    b->a = malloc(b->a_n * 4);
    b->b = malloc(b->b_n * 4);
    b->y = malloc(b->y_n * 4);
    if (!b->a || !b->b || !b->y) abort();
    for (size_t i = 0; i < b->a_n; i++) b->a[i] = (float)(i % 13) - 6;
    for (size_t i = 0; i < b->b_n; i++) b->b[i] = (float)(i % 7) - 3;
    memset(b->y, 0, b->y_n * 4);
}

static double mean_over_ranks(espl_comm *c, double mine) {
    double all[4096], sum = 0;
    int n = espl_comm_size(c);
    espl_comm_gather_f64(c, mine, all);
    for (int i = 0; i < n; i++) sum += all[i];
    return sum / n;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static espl_status run(bench *b, const char *dir) {
    espl_model_options o = {.context = b->window, .batch_tokens = b->batch, .slots = 1};
    ESPL_TRY(espl_model_open(b->c, dir, &o, &b->m));
    const espl_model_config *c = espl_model_config_of(b->m);
    espl_corpus corpus = {.n = b->window * b->windows};
    espl_rng rng;
    ESPL_TRY(espl_mem_alloc(&corpus.ids, corpus.n, sizeof *corpus.ids, "ids"));
    espl_rng_seed(&rng, 1, 0, 0);
    for (int64_t i = 0; i < corpus.n; i++) corpus.ids[i] = (int32_t)espl_rng_below(&rng, c->vocab);
    double ours[MAX_ROUNDS], ratio[MAX_ROUNDS], ratio_linear[MAX_ROUNDS], linear[MAX_ROUNDS];
    double in_bf16[MAX_ROUNDS], faster[MAX_ROUNDS];
    double *nll;
    espl_perplexity p, p_bf16 = {0};
    if (b->bf16) ESPL_TRY(espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "--bf16"));
    ESPL_TRY(espl_mem_alloc(&nll, b->windows, sizeof *nll, "nll"));
    ESPL_TRY(espl_eval_perplexity(b->c, b->m, &corpus, b->window, 0, nll, &p)); /* warm: pages mapped */
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    espl_region_reset();
    make_operands(b);
    int ranks = espl_comm_size(b->c);
    for (int64_t r = 0; r < b->rounds; r++) {
        double bound_linear = mean_over_ranks(b->c, linear_bound(b)) / ranks;
        double start = seconds(b);
        ESPL_TRY(espl_eval_perplexity(b->c, b->m, &corpus, b->window, 0, nll, &p));
        ours[r] = (seconds(b) - start) / (double)b->windows;
        if (b->bf16) {
            espl_workspace_use(espl_model_workspace(b->m), ESPL_ARITHMETIC_BF16);
            start = seconds(b);
            ESPL_TRY(espl_eval_perplexity(b->c, b->m, &corpus, b->window, 0, nll, &p_bf16));
            in_bf16[r] = (seconds(b) - start) / (double)b->windows;
            faster[r] = ours[r] / in_bf16[r];
            espl_workspace_use(espl_model_workspace(b->m), ESPL_ARITHMETIC_F32);
        }
        ratio_linear[r] = bound_linear / ours[r];
        ratio[r] = ratio_linear[r] * (1 + attention_flops(b) / linear_flops(b));
        linear[r] = bound_linear;
    }
    espl_model_memory mem = espl_model_memory_used(b->m);
    double planned =
        (double)(mem.weights + mem.activations + mem.kv_cache + mem.workspace + mem.tables + mem.libraries);
    if (espl_comm_rank(b->c) == 0) {
        double each = median(ours, b->rounds), bound_linear = median(linear, b->rounds);
        double all = median(ratio, b->rounds), linears = median(ratio_linear, b->rounds); /* sorted from here on */
        espl_str line = {0};
        espl_json_writer w = espl_json_writer_on(&line);
        espl_json_open_object(&w, NULL, ESPL_JSON_SPACED);
        espl_json_put_text(&w, "model", dir);
        espl_json_put_i64(&w, "ranks", ranks);
        espl_json_put_i64(&w, "threads", espl_tensor_threads());
        espl_json_put_text(&w, "clock", b->cpu ? "cpu" : "wall");
        espl_json_put_i64(&w, "window", b->window);
        espl_json_put_i64(&w, "windows", b->windows);
        espl_json_put_i64(&w, "batch", b->batch);
        espl_json_put_i64(&w, "rounds", b->rounds);
        espl_json_put_fixed(&w, "tokens_per_second", (double)b->window / each, 1);
        espl_json_put_fixed(&w, "sgemm_gflops", linear_flops(b) / bound_linear / 1e9, 1);
        espl_json_put_fixed(&w, "ratio", all, 3);
        espl_json_put_fixed(&w, "ratio_linear", linears, 3);
        espl_json_put_fixed(&w, "ratio_min", ratio[0], 3);
        espl_json_put_fixed(&w, "ratio_max", ratio[b->rounds - 1], 3);
        if (b->bf16) {
            espl_json_put_fixed(&w, "bf16_tokens_per_second", (double)b->window / median(in_bf16, b->rounds), 1);
            espl_json_put_fixed(&w, "bf16_to_f32", median(faster, b->rounds), 3);
            espl_json_put_fixed(&w, "bf16_to_f32_min", faster[0], 3);
            espl_json_put_fixed(&w, "bf16_to_f32_max", faster[b->rounds - 1], 3);
            espl_json_put_f64(&w, "bf16_perplexity_difference", p_bf16.perplexity / p.perplexity - 1);
        }
        espl_json_put_fixed(&w, "peak_mib", (double)usage.ru_maxrss / 1024, 0);
        espl_json_put_fixed(&w, "planned_mib", planned / 1048576, 0);
        espl_json_close(&w);
        puts(line.data ? line.data : "");
        espl_str_free(&line);
        for (int g = 0; g < ESPL_REGION_COUNT; g++)
            ESPL_INFO("  %-14s %8.3f s per window", espl_region_label((espl_region)g),
                      espl_region_seconds((espl_region)g) / (double)(b->windows * b->rounds));
    }
    espl_mem_free(&nll);
    espl_mem_free(&corpus.ids);
    espl_model_close(&b->m);
    return ESPL_OK;
}

static void take_option(bench *b, const char *name, const char *value) {
    const struct {
        const char *name;
        int64_t *at;
    } table[] = {{"--window", &b->window}, {"--windows", &b->windows}, {"--batch", &b->batch},
                 {"--rounds", &b->rounds}, {"--cpu", &b->cpu},         {"--bf16", &b->bf16}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) *table[i].at = strtoll(value, NULL, 10);
}

int main(int argc, char **argv) {
    bench b = {.window = 2048, .windows = 4, .batch = 1024, .rounds = 3};
    if (espl_comm_create(&argc, &argv, &b.c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_INFO, espl_comm_rank(b.c));
    espl_tensor_blas_init();
    for (int i = 2; i + 1 < argc; i += 2) take_option(&b, argv[i], argv[i + 1]);
    if (b.rounds < 1 || b.rounds > MAX_ROUNDS || argc < 2) return 2;
    espl_status st = espl_comm_agree(b.c, run(&b, argv[1]));
    if (st != ESPL_OK && espl_comm_rank(b.c) == 0) fprintf(stderr, "%s\n", espl_base_error_text());
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
