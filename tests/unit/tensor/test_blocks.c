/* SPDX-License-Identifier: Apache-2.0 */
/* Windows in blocks of tokens, as the ranks of a team compute them: each kernel's results for the blocks of a part, and
 * for the weights of a part, are bit for bit those that it has for the whole window, in f32 and, where there is one,
 * bf16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../normal.h"
#include "espalier/base/integer.h"
#include "espalier/tensor/attention.h"
#include "espalier/tensor/linear.h"

static espl_rng rng;
static espl_workspace *ws;

static float *random_floats(int64_t n, float scale) {
    float *p = malloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = scale * (float)test_normal(&rng);
    return p;
}

/* A dense or masked f32 linear. */
static espl_linear make_linear(int64_t out, int64_t in, bool masked) {
    espl_linear l = {.dtype = ESPL_DTYPE_F32, .out = out, .in = in};
    uint64_t *mask = malloc((size_t)espl_mask_bytes(out, in));
    for (int64_t i = 0; i < out * espl_mask_words(in); i++) mask[i] = espl_rng_next(&rng);
    l.weight = random_floats(out * in, 0.1f);
    l.mask = masked ? mask : NULL;
    if (!masked) free(mask);
    return l;
}

static void free_linear(espl_linear *l) {
    free((void *)l->weight);
    free((void *)l->mask);
}

/* The rows of x [T, width] that part `part` of `parts` has, in blocks dealt in turn; *rows: how many. */
static float *part_of(const float *x, int64_t T, int64_t width, int part, int parts, int64_t *rows) {
    int64_t block = espl_tensor_block(T);
    float *own = malloc((size_t)(T * width) * sizeof *own);
    *rows = 0;
    for (int64_t at = part * block; at < T; at += parts * block) {
        int64_t n = espl_min_i64(block, T - at);
        memcpy(own + *rows * width, x + at * width, (size_t)(n * width) * sizeof *own);
        *rows += n;
    }
    return own;
}

/* own [rows, width] equals the part's rows of whole [T, width]. */
static void assert_part(const char *what, const float *own, const float *whole, int64_t T, int64_t width, int part,
                        int parts) {
    int64_t rows;
    float *want = part_of(whole, T, width, part, parts, &rows);
    if (memcmp(own, want, (size_t)(rows * width) * sizeof *own) != 0)
        fail_msg("%s of part %d of %d, %lld tokens, differs from the whole's", what, part, parts, (long long)T);
    free(want);
}

static const int64_t lengths[] = {3, 257, 700};
static const int teams[] = {2, 4};

static void every_part(void (*check)(int64_t T, int part, int parts)) {
    for (size_t a = 0; a <= (espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "bf16") == ESPL_OK); a++)
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
            for (size_t k = 0; k < sizeof teams / sizeof *teams; k++)
                for (int part = 0; part < teams[k]; part++) {
                    espl_workspace_use(ws, a ? ESPL_ARITHMETIC_BF16 : ESPL_ARITHMETIC_F32);
                    espl_rng_seed(&rng, (uint64_t)i, 0, 0);
                    check(lengths[i], part, teams[k]);
                }
}

/* ----------------------------------------------------------------- linears */

/* 130 outputs of 140 inputs are cut into tiles of half as many rows in some lengths. */
static void check_linear(int64_t T, int part, int parts) {
    enum { IN = 140, OUT = 130, VOCAB = 2500 };
    espl_linear l = make_linear(OUT, IN, true), head = make_linear(VOCAB, IN, false);
    int64_t rows;
    float *x = random_floats(T * IN, 1), *dy = random_floats(T * OUT, 1);
    float *y = malloc((size_t)(T * OUT) * 4), *own_y = malloc((size_t)(T * OUT) * 4);
    float *dx = malloc((size_t)(T * IN) * 4), *own_dx = malloc((size_t)(T * IN) * 4);
    float *own_x = part_of(x, T, IN, part, parts, &rows), *own_dy = part_of(dy, T, OUT, part, parts, &rows);
    espl_tensor_linear(&l, 1, x, T, &y, false, ws);
    espl_tensor_linear_blocks(&l, 1, own_x, rows, T, &own_y, false, ws);
    assert_part("y", own_y, y, T, OUT, part, parts);
    espl_tensor_linear_backward(&l, 1, (const float *const[]){dy}, T, dx, false, ws);
    espl_tensor_linear_backward_blocks(&l, 1, (const float *const[]){own_dy}, rows, T, own_dx, false, ws);
    assert_part("dx", own_dx, dx, T, IN, part, parts);

    int32_t *targets = malloc((size_t)T * sizeof *targets), *own_targets = malloc((size_t)T * sizeof *targets);
    double *logprob = malloc((size_t)T * sizeof *logprob), *own_logprob = malloc((size_t)T * sizeof *logprob);
    float *buffer = malloc((size_t)espl_head_backward_floats(&head, T) * 4);
    for (int64_t t = 0; t < T; t++) targets[t] = t % 5 == 4 ? -1 : (int32_t)(t * 37 % VOCAB);
    float *rows_of_targets = part_of((const float *)targets, T, 1, part, parts, &rows); /* 4 bytes each */
    memcpy(own_targets, rows_of_targets, (size_t)rows * 4);
    espl_tensor_head_backward(&head, x, T, targets, 0.5f, logprob, dx, buffer, ws);
    espl_tensor_head_backward_blocks(&head, own_x, rows, T, own_targets, 0.5f, own_logprob, own_dx, buffer, ws);
    assert_part("the head's dx", own_dx, dx, T, IN, part, parts);
    assert_part("logprob", (const float *)own_logprob, (const float *)logprob, T, 2, part, parts);
    void *const mine[] = {x,      dy,      y,           own_y,   dx,          own_dx, own_x,
                          own_dy, targets, own_targets, logprob, own_logprob, buffer, rows_of_targets};
    for (size_t i = 0; i < sizeof mine / sizeof *mine; i++) free(mine[i]);
    free_linear(&l);
    free_linear(&head);
}

static void linears_and_the_head_do_not_depend_on_the_part(void **state) {
    (void)state;
    every_part(check_linear);
}

/* Columns c0 .. of x [T, width]. */
static float *columns_of(const float *x, int64_t T, int64_t width, int64_t c0, int64_t n) {
    float *part = malloc((size_t)(T * n) * sizeof *part + 1);
    for (int64_t t = 0; t < T; t++) memcpy(part + t * n, x + t * width + c0, (size_t)n * sizeof *part);
    return part;
}

static void weight_gradients_of_parts_add_up_to_the_whole(void **state) {
    (void)state;
    enum { T = 300, IN = 1100, OUT = 700, PARTS = 3 };
    for (int a = 0; a <= (espl_arithmetic_check(ESPL_ARITHMETIC_BF16, "bf16") == ESPL_OK); a++)
        for (int by_columns = 0; by_columns < 2; by_columns++) {
            espl_workspace_use(ws, a ? ESPL_ARITHMETIC_BF16 : ESPL_ARITHMETIC_F32);
            espl_rng_seed(&rng, 7, 0, 0);
            espl_linear l = make_linear(OUT, IN, true);
            float *x = random_floats(T * IN, 1), *dy = random_floats(T * OUT, 1);
            int64_t n = espl_gradient_partials(&l, 1), covered = 0, at = 0;
            double *partial = calloc((size_t)n, sizeof *partial), *some = calloc((size_t)n, sizeof *some), whole, sum;
            espl_tensor_gradient_sums(&l, 1, x, (const float *const[]){dy}, T, partial, &whole, ws);
            memset(partial, 0, (size_t)n * sizeof *partial);
            for (int part = 0; part < PARTS; part++) {
                espl_weight_block b;
                espl_gradient_part(&l, 1, by_columns, PARTS, part, &b);
                float *xs = columns_of(x, T, IN, b.c0, b.columns), *dys = columns_of(dy, T, OUT, b.r0, b.rows);
                assert_int_equal(by_columns ? b.c0 : b.r0, at);
                at += by_columns ? b.columns : b.rows;
                covered += b.rows * b.columns;
                espl_tensor_gradient_partials(&l, 1, &b, xs, (const float *const[]){dys}, T, some, ws);
                for (int64_t i = 0; i < n; i++) {
                    assert_true(some[i] == 0 || partial[i] == 0); /* each tile in one part */
                    partial[i] += some[i];
                }
                free(xs);
                free(dys);
            }
            assert_int_equal(covered, OUT * IN);
            espl_gradient_add_partials(&l, 1, partial, &sum);
            assert_memory_equal(&sum, &whole, sizeof sum);
            free(x), free(dy), free(partial), free(some);
            free_linear(&l);
        }
}

/* Queries, keys and values of a wide model: one list of tiles, of which each part has as many, give or take one. */
static void parts_of_several_linears_are_even(void **state) {
    (void)state;
    enum { N = 3, PARTS = 8 };
    const espl_linear l[N] = {{.out = 4096, .in = 4096}, {.out = 1024, .in = 4096}, {.out = 1024, .in = 4096}};
    int64_t at[N] = {0};
    double least = 1e300, most = 0;
    for (int part = 0; part < PARTS; part++) {
        espl_weight_block b[N];
        espl_gradient_part(l, N, false, PARTS, part, b);
        for (int i = 0; i < N; i++) {
            assert_true(b[i].rows == 0 || b[i].r0 == at[i]); /* consecutive, nothing left out */
            assert_int_equal(b[i].columns, l[i].in);
            at[i] += b[i].rows;
        }
        double one = espl_gradient_elapsed(l, N, b, 2048, 1);
        least = one < least ? one : least;
        most = one > most ? one : most;
    }
    for (int i = 0; i < N; i++) assert_int_equal(at[i], l[i].out);
    assert_true(most / least <= 2);
}

/* --------------------------------------------------------------- attention */

/* Groups of 3 query heads, whose blocks of queries do not divide 256; with a sliding window and without. */
static void check_attention(int64_t T, int part, int parts) {
    enum { HEADS = 6, KV = 2, D = 32, Q = HEADS * D };
    int64_t block = espl_tensor_block(T), rows;
    for (int64_t window = 0; window <= 90; window += 90) {
        const espl_attention_shape s = {.heads = HEADS, .kv_heads = KV, .head_dim = D, .window = window};
        float *q = random_floats(T * Q, 1), *dout = random_floats(T * Q, 1), *k = random_floats(KV * T * D, 1);
        float *v = random_floats(KV * T * D, 1), *out = malloc((size_t)(T * Q) * 4),
              *lse = malloc((size_t)T * HEADS * 4);
        float *own_out = malloc((size_t)(T * Q) * 4), *own_lse = malloc((size_t)T * HEADS * 4);
        float *delta = malloc((size_t)T * HEADS * 4), *dq[2], *dk[2], *dv[2];
        espl_attention whole[64], own[64];
        float *own_q = part_of(q, T, Q, part, parts, &rows);
        int n = 0, mine = 0;
        for (int64_t at = 0; at < T; at += block, n++) {
            espl_attention a = {.k = k, .v = v, .T = espl_min_i64(block, T - at), .pos = at, .capacity = T};
            whole[n] = own[mine] = a;
            whole[n].q = q + at * Q, whole[n].out = out + at * Q, whole[n].lse = lse + at * HEADS;
            if (n % parts != part) continue;
            own[mine].q = own_q + mine * block * Q, own[mine].out = own_out + mine * block * Q;
            own[mine].lse = own_lse + mine * block * HEADS;
            mine++;
        }
        espl_tensor_attention(&s, whole, n, ws);
        espl_tensor_attention(&s, own, mine, ws);
        assert_part("out", own_out, out, T, Q, part, parts);
        assert_part("lse", own_lse, lse, T, HEADS, part, parts);
        espl_tensor_attention_delta(&s, out, dout, T, delta);
        for (int i = 0; i < 2; i++) {
            dq[i] = malloc((size_t)(T * Q) * 4), dk[i] = malloc((size_t)(T * KV * D) * 4);
            dv[i] = malloc((size_t)(T * KV * D) * 4);
            espl_attention_gradient g = {.q = q,
                                         .dout = dout,
                                         .k = k,
                                         .v = v,
                                         .lse = lse,
                                         .delta = delta,
                                         .dq = dq[i],
                                         .dk = dk[i],
                                         .dv = dv[i],
                                         .T = T,
                                         .capacity = T,
                                         .block = block,
                                         .part = i ? part : 0,
                                         .parts = i ? parts : 1};
            espl_tensor_attention_backward(&s, &g, ws);
        }
        float *const got[] = {dq[1], dk[1], dv[1]}, *const want[] = {dq[0], dk[0], dv[0]};
        for (int i = 0; i < 3; i++) {
            int64_t width = i ? KV * D : Q;
            float *taken = part_of(got[i], T, width, part, parts, &rows);
            assert_part(i == 0 ? "dq" : i == 1 ? "dk" : "dv", taken, want[i], T, width, part, parts);
            free(taken);
        }
        float *const all[] = {q,     dout,  k,     v,     out,   lse,   own_out, own_lse,
                              delta, own_q, dq[0], dq[1], dk[0], dk[1], dv[0],   dv[1]};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    }
}

static void attention_does_not_depend_on_the_part(void **state) {
    (void)state;
    every_part(check_attention);
}

static int open_workspace(void **state) {
    (void)state;
    return espl_workspace_create(&ws) == ESPL_OK ? 0 : -1;
}

static int close_workspace(void **state) {
    (void)state;
    espl_workspace_destroy(&ws);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linears_and_the_head_do_not_depend_on_the_part),
        cmocka_unit_test(weight_gradients_of_parts_add_up_to_the_whole),
        cmocka_unit_test(parts_of_several_linears_are_even),
        cmocka_unit_test(attention_does_not_depend_on_the_part),
    };
    return cmocka_run_group_tests(tests, open_workspace, close_workspace);
}
