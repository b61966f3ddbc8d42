/* SPDX-License-Identifier: Apache-2.0 */
/* How close one sensitivity profile (calibration forward and backward, rows, z-scores) comes to its FLOP count at
 * OpenBLAS sgemm's own rate.
 *
 * usage: [mpirun -n N] bench_profile MODEL_DIR [--window 1024] [--forward 2] [--backward 1] [--rounds 3] [--pruned 0]
 *        [--questions 0] [--bf16 0]
 * Each round times sgemm (f32, ready in memory, `window` rows, the shapes of the linears), the profile of random token
 * ids, and sgemm again. The count: every matrix product that the calibration makes,
 *     forward window   linears once, attention's two products (causal)
 *     sample           linears four times (forward, again without down_proj, input and weight gradients), attention
 *                      forward twice, its five backward products, the head three times (logits twice, input gradient)
 * --questions: windows of probe questions whose answers' gradients are taken besides, one token in eight an answer; the
 * count leaves them out, so that the ratio shows what they cost.
 * Prints one JSON line: medians over rounds, ratio = our time / count at sgemm's rate, ratio_minimal = the same with
 * neither recomputed activations nor the second logits in the count, and a hash of the profile's bits. --bf16 1: each
 * round also profiles in bf16, right after f32; "bf16_to_f32" is the ratio of their times, and the correlations are
 * those of the z-scores and of the damage at a quarter between the two. Where others use the cores, take one thread and
 * --cpu 1: CPU seconds of this process instead of the clock's. */
#include <cblas.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "espalier/base/hash.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"
#include "espalier/base/rng.h"
#include "espalier/model/masks.h"
#include "espalier/model/shape.h"
#include "espalier/sensitivity.h"

enum { MOST_ROUNDS = 32 };

typedef struct bench {
    espl_comm *c;
    espl_model *m;
    int64_t window, forward, backward, rounds, cpu, questions, bf16;
    int64_t pruned; /* percent */
    espl_masks masks;
    int32_t *ids, *targets;
    espl_profile_row *rows;
    float *a, *b, *y;
    double correlations[3], faster[MOST_ROUNDS]; /* of --bf16 */
} bench;

static double now(const bench *b) {
    struct timespec t;
    clock_gettime(b->cpu ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double time_gemm(bench *b, int64_t n, int64_t k) {
    double best = INFINITY;
    for (int i = 0; i < 3; i++) {
        double start = now(b);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)b->window, (int)n, (int)k, 1.0f, b->a, (int)k, b->b,
                    (int)k, 0, b->y, (int)n);
        best = fmin(best, now(b) - start);
    }
    return best;
}

/* FLOP/s of sgemm over the linears of a layer, all ranks together. */
static double sgemm_rate(bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    double seconds = 0, all[4096], sum = 0;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
        int64_t out, in;
        espl_model_linear_shape(c, (espl_linear_kind)k, &out, &in);
        seconds += time_gemm(b, out, in) * (double)espl_layout_kind_linears(espl_model_layout(c), (espl_linear_kind)k);
    }
    espl_comm_gather_f64(b->c, 2 * (double)(b->window * espl_model_layer_linear_weights(c)) / seconds, all);
    for (int r = 0; r < espl_comm_size(b->c); r++) sum += all[r];
    return sum;
}

/* FLOPs of one profile. */
static double count_flops(const bench *b, bool minimal) {
    const espl_model_config *c = espl_model_config_of(b->m);
    double linears = 2 * (double)(c->layers * espl_model_layer_linear_weights(c)), attention = -linears;
    double down = 2 * (double)(c->layers * c->hidden * c->ffn), head = espl_model_head_flops(c);
    for (int64_t i = 0; i < c->layers; i++) attention += espl_model_layer_flops(c, i, b->window);
    int64_t looks = b->forward > b->backward ? b->forward - b->backward : 0;
    double look = linears + attention, sample = 3 * linears + 3.5 * attention + 2 * head;
    if (!minimal) sample += linears - down + attention + head;
    return (double)b->window * ((double)looks * look + (double)b->backward * sample);
}

static espl_status make_operands(bench *b) {
    const espl_model_config *c = espl_model_config_of(b->m);
    int64_t q = c->heads * c->head_dim, wide = c->ffn > c->hidden ? c->ffn : c->hidden;
    int64_t windows = b->forward > b->backward ? b->forward : b->backward;
    wide = q > wide ? q : wide;
    windows = b->questions > windows ? b->questions : windows;
    espl_rng rng;
    espl_rng_seed(&rng, 1, 0, 0);
    ESPL_TRY(espl_mem_alloc(&b->a, b->window * wide, sizeof *b->a, "operand"));
    ESPL_TRY(espl_mem_alloc(&b->b, c->hidden * (c->ffn + q), sizeof *b->b, "operand"));
    ESPL_TRY(espl_mem_alloc(&b->y, b->window * wide, sizeof *b->y, "operand"));
    ESPL_TRY(espl_mem_alloc(&b->ids, windows * b->window, sizeof *b->ids, "ids"));
    ESPL_TRY(espl_mem_alloc(&b->targets, windows * b->window, sizeof *b->targets, "targets"));
    ESPL_TRY(espl_mem_alloc(&b->rows, espl_model_linears_of(c), sizeof *b->rows, "rows"));
    for (int64_t i = 0; i < b->window * wide; i++) b->a[i] = (float)(i % 13) - 6;
    for (int64_t i = 0; i < c->hidden * (c->ffn + q); i++) b->b[i] = (float)(i % 7) - 3;
    for (int64_t i = 0; i < windows * b->window; i++) b->ids[i] = (int32_t)espl_rng_below(&rng, c->vocab);
    for (int64_t i = 0; i < windows * b->window; i++) b->targets[i] = i % 8 == 0 ? b->ids[i] : -1;
    return ESPL_OK;
}

/* Random masks, about `pruned` percent. */
static espl_status prune(bench *b) {
    ESPL_TRY(espl_masks_create(&b->masks, b->m, false));
    for (int64_t i = b->masks.linears.first; i < b->masks.linears.last; i++) {
        const espl_linear *l = espl_model_linear(b->m, i);
        int64_t words = espl_mask_words(l->in);
        espl_rng rng;
        espl_rng_seed(&rng, 1, (uint64_t)i, 1);
        for (int64_t r = 0; r < l->out; r++)
            for (int64_t c = 0; c < words * ESPL_MASK_BITS; c++) /* draws for the padding too, as ever: same masks */
                if (espl_rng_below(&rng, 100) < b->pruned && c < l->in)
                    espl_mask_row_clear(espl_masks_of(&b->masks, i) + r * words, c);
    }
    espl_masks_apply(&b->masks);
    return ESPL_OK;
}

static espl_status profile(bench *b, double *seconds) {
    espl_calibration_options o = {.window = b->window, .forward = b->forward, .backward = b->backward};
    espl_calibration c;
    double start = now(b);
    ESPL_TRY(espl_model_calibrate(b->m, &o, b->ids, NULL, NULL, &c));
    espl_topic_samples topics[ESPL_TOPICS] = {0};
    topics[ESPL_TOPIC_FACTS] = (espl_topic_samples){.windows = b->questions, .ids = b->ids, .targets = b->targets};
    if (b->questions > 0) ESPL_TRY(espl_model_calibrate_knowledge(b->m, topics, b->window, 0.2, &c));
    double calibrated = now(b);
    espl_sensitivity_removal by = {.score = ESPL_SCORE_WANDA, .group = ESPL_GROUP_ROW};
    espl_status st = espl_sensitivity_profile(b->c, b->m, &c, &by, b->rows);
    *seconds = now(b) - start;
    ESPL_INFO("  calibration %.2f s, rows %.3f s", calibrated - start, *seconds - (calibrated - start));
    espl_calibration_free(&c);
    return st;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, ascending);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Correlation over the linears of the number at `offset` in two profiles. */
static double correlation(const espl_profile_row *a, const espl_profile_row *b, int64_t n, size_t offset) {
    double sa = 0, sb = 0, saa = 0, sbb = 0, sab = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = *(const double *)(const void *)((const char *)&a[i] + offset);
        double y = *(const double *)(const void *)((const char *)&b[i] + offset);
        sa += x, sb += y, saa += x * x, sbb += y * y, sab += x * y;
    }
    double count = (double)n;
    return (sab - sa * sb / count) / sqrt((saa - sa * sa / count) * (sbb - sb * sb / count));
}

/* After the f32 profile of the round, whose rows are kept in `rows`. */
static espl_status profile_bf16(bench *b, double *seconds) {
    int64_t n = espl_model_config_of(b->m)->layers * ESPL_LINEAR_KINDS;
    espl_profile_row *f32 = b->rows;
    ESPL_TRY(espl_mem_alloc(&b->rows, n, sizeof *b->rows, "rows"));
    espl_workspace_use(espl_model_workspace(b->m), ESPL_ARITHMETIC_BF16);
    espl_status st = profile(b, seconds);
    espl_workspace_use(espl_model_workspace(b->m), ESPL_ARITHMETIC_F32);
    if (st == ESPL_OK && espl_comm_rank(b->c) == 0) {
        size_t damage = offsetof(espl_profile_row, damage) + (ESPL_DAMAGE_LEVELS / 4 - 1) * sizeof(double);
        b->correlations[0] = correlation(f32, b->rows, n, offsetof(espl_profile_row, z_s));
        b->correlations[1] = correlation(f32, b->rows, n, offsetof(espl_profile_row, z_g));
        b->correlations[2] = correlation(f32, b->rows, n, damage);
    }
    espl_mem_free(&b->rows);
    b->rows = f32;
    return st;
}

static void report(bench *b, const char *dir, double *seconds, double *rates, double *ratios) {
    const espl_model_config *c = espl_model_config_of(b->m);
    espl_calibration_options o = {.window = b->window, .forward = b->forward, .backward = b->backward};
    int64_t extra = espl_model_calibration_bytes(c, &o, espl_model_slice(b->m), espl_comm_grid(b->c));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double ratio = median(ratios, b->rounds);
    printf(
        "{\"model\": \"%s\", \"ranks\": %d, \"threads\": %d, \"window\": %lld, \"forward\": %lld, \"backward\": %lld, "
        "\"pruned\": %lld, \"rounds\": %lld, \"seconds\": %.2f, \"sgemm_gflops\": %.1f, \"ratio\": %.3f, "
        "\"ratio_minimal\": %.3f, \"ratio_min\": %.3f, \"ratio_max\": %.3f, \"calibration_mib\": %.0f, "
        "\"peak_mib\": %.0f, \"profile\": \"%016llx\"",
        dir, espl_comm_size(b->c), espl_tensor_threads(), (long long)b->window, (long long)b->forward,
        (long long)b->backward, (long long)b->pruned, (long long)b->rounds, median(seconds, b->rounds),
        median(rates, b->rounds) / 1e9, ratio, ratio * count_flops(b, false) / count_flops(b, true), ratios[0],
        ratios[b->rounds - 1], (double)extra / 1048576, (double)usage.ru_maxrss / 1024,
        (unsigned long long)espl_hash64(b->rows, espl_model_linears_of(c) * (int64_t)sizeof *b->rows, 0));
    if (b->bf16) {
        double faster = median(b->faster, b->rounds);
        printf(", \"bf16_to_f32\": %.3f, \"bf16_to_f32_min\": %.3f, \"bf16_to_f32_max\": %.3f, \"z_s\": %.6f, "
               "\"z_g\": %.6f, \"damage\": %.6f",
               faster, b->faster[0], b->faster[b->rounds - 1], b->correlations[0], b->correlations[1],
               b->correlations[2]);
    }
    puts("}");
    for (int g = 0; g < ESPL_REGION_COUNT; g++)
        ESPL_INFO("  %-14s %8.3f s per profile", espl_region_label((espl_region)g),
                  espl_region_seconds((espl_region)g) / (double)b->rounds);
}

static espl_status run(bench *b, const char *dir) {
    espl_model_options o = {.context = b->window, .batch_tokens = 16, .slots = 1};
    double seconds[MOST_ROUNDS], rates[MOST_ROUNDS], ratios[MOST_ROUNDS], warm;
    ESPL_TRY(espl_model_open(b->c, dir, &o, &b->m));
    ESPL_TRY(make_operands(b));
    if (b->pruned > 0) ESPL_TRY(prune(b));
    if (b->bf16) ESPL_TRY(espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "--bf16"));
    int64_t forward = b->forward, backward = b->backward;
    b->forward = 1, b->backward = 0; /* pages mapped */
    ESPL_TRY(profile(b, &warm));
    b->forward = forward, b->backward = backward;
    espl_region_reset();
    for (int64_t r = 0; r < b->rounds; r++) {
        double before = sgemm_rate(b);
        ESPL_TRY(profile(b, &seconds[r]));
        rates[r] = (before + sgemm_rate(b)) / 2;
        if (b->bf16) {
            double in_bf16;
            ESPL_TRY(profile_bf16(b, &in_bf16));
            b->faster[r] = seconds[r] / in_bf16;
        }
        ratios[r] = seconds[r] * rates[r] / count_flops(b, false);
    }
    if (espl_comm_rank(b->c) == 0) report(b, dir, seconds, rates, ratios);
    return ESPL_OK;
}

static void take_option(bench *b, const char *name, const char *value) {
    const struct {
        const char *name;
        int64_t *at;
    } table[] = {{"--window", &b->window},       {"--forward", &b->forward}, {"--backward", &b->backward},
                 {"--rounds", &b->rounds},       {"--cpu", &b->cpu},         {"--pruned", &b->pruned},
                 {"--questions", &b->questions}, {"--bf16", &b->bf16}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0) *table[i].at = strtoll(value, NULL, 10);
}

int main(int argc, char **argv) {
    bench b = {.window = 1024, .forward = 2, .backward = 1, .rounds = 3};
    if (espl_comm_create(&argc, &argv, &b.c) != ESPL_OK) return 1;
    espl_log_init(ESPL_LOG_INFO, espl_comm_rank(b.c));
    espl_tensor_blas_init();
    for (int i = 2; i + 1 < argc; i += 2) take_option(&b, argv[i], argv[i + 1]);
    if (b.rounds < 1 || b.rounds > MOST_ROUNDS || argc < 2) return 2;
    espl_status st = espl_comm_agree(b.c, run(&b, argv[1]));
    if (st != ESPL_OK && espl_comm_rank(b.c) == 0) fprintf(stderr, "%s\n", espl_base_error_text());
    void *const mine[] = {&b.a, &b.b, &b.y, &b.ids, &b.targets, &b.rows};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) espl_mem_free(mine[i]);
    espl_masks_free(&b.masks);
    espl_model_close(&b.m);
    espl_comm_destroy(&b.c);
    return espl_status_exit_code(st);
}
