/* SPDX-License-Identifier: Apache-2.0 */
/* Times espl_prune_linear by row, from dense to 45 %, against reading the weights once, on one linear of each size.
 *
 * usage: bench_prune [--rounds N]
 * Rounds alternate between them; medians of the CPU time are printed. With OMP_NUM_THREADS=1 the result does not depend
 * on other processes. */
#include "../normal.h"
#include "espalier/base/memory.h"
#include "espalier/prune/linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name;
    int64_t out, in;
} shapes[] = {{"SmolLM2-135M up", 1536, 576}, {"Qwen3-0.6B up", 3072, 1024}, {"Qwen3-8B up", 12288, 4096}};

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static double read_all(const espl_linear *l) {
    const uint16_t *w = l->weight;
    double start = cpu_seconds();
    uint64_t sum = 0;
#pragma omp parallel for schedule(static) reduction(+ : sum)
    for (int64_t r = 0; r < l->out; r++)
        for (int64_t c = 0; c < l->in; c++) sum += w[r * l->in + c];
    double t = cpu_seconds() - start;
    return sum == 1 ? 0 : t; /* the sum is used */
}

static espl_status prune(const espl_linear *l, espl_score score, const float *norm, uint64_t *mask, espl_workspace *ws,
                         double *seconds) {
    espl_scoring by = {.score = score, .norm = norm};
    espl_pattern row = {.group = ESPL_GROUP_ROW};
    espl_mask_fill(mask, l->out, l->in);
    double start = cpu_seconds();
    ESPL_TRY(espl_prune_linear(l, &by, &row, l->out * l->in * 45 / 100, mask, ws));
    *seconds = cpu_seconds() - start;
    return ESPL_OK;
}

enum { MAX_ROUNDS = 101, SCORES = ESPL_SCORE_GBLM }; /* scores without gradients come first */

static espl_status measure(const char *name, const espl_linear *l, const float *norm, uint64_t *mask, int rounds) {
    double seconds[SCORES + 1][MAX_ROUNDS];
    espl_workspace *ws;
    ESPL_TRY(espl_workspace_create(&ws));
    espl_status st = ESPL_OK;
    for (int i = 0; i < rounds && st == ESPL_OK; i++) {
        seconds[SCORES][i] = read_all(l);
        for (int s = 0; s < SCORES && st == ESPL_OK; s++) st = prune(l, (espl_score)s, norm, mask, ws, &seconds[s][i]);
    }
    espl_workspace_destroy(&ws);
    double n = (double)(l->out * l->in) * 1e-9;
    printf("%-16s read %.2f ns per weight", name, median(seconds[SCORES], rounds) / n);
    for (int s = 0; s < SCORES && st == ESPL_OK; s++)
        printf(", %s %.2f", espl_score_name((espl_score)s), median(seconds[s], rounds) / n);
    printf("\n");
    return st;
}

static espl_status run(int rounds) {
    espl_rng rng;
    espl_rng_seed(&rng, 1, 0, 0);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t out = shapes[i].out, in = shapes[i].in;
        uint16_t *weight;
        float *norm;
        uint64_t *mask;
        ESPL_TRY(espl_mem_alloc(&weight, out * in, sizeof *weight, "weights"));
        ESPL_TRY(espl_mem_alloc(&norm, in, sizeof *norm, "norms"));
        ESPL_TRY(espl_mem_alloc(&mask, out * espl_mask_words(in), sizeof *mask, "mask"));
        for (int64_t k = 0; k < out * in; k++) {
            float w = (float)test_normal(&rng) * 0.02f;
            espl_tensor_narrow(&w, 1, ESPL_DTYPE_BF16, weight + k);
        }
        for (int64_t k = 0; k < in; k++) norm[k] = (float)espl_rng_uniform(&rng) * 30;
        espl_linear l = {.weight = weight, .dtype = ESPL_DTYPE_BF16, .out = out, .in = in};
        ESPL_TRY(measure(shapes[i].name, &l, norm, mask, rounds));
        espl_mem_free(&weight);
        espl_mem_free(&norm);
        espl_mem_free(&mask);
    }
    return ESPL_OK;
}

int main(int argc, char **argv) {
    long rounds = argc == 3 && strcmp(argv[1], "--rounds") == 0 ? strtol(argv[2], NULL, 10) : 21;
    if (rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "usage: bench_prune [--rounds 1 .. %d]\n", MAX_ROUNDS);
        return 2;
    }
    espl_status st = run((int)rounds);
    if (st != ESPL_OK) fprintf(stderr, "%s\n", espl_base_error_text());
    return espl_status_exit_code(st);
}
