/* SPDX-License-Identifier: Apache-2.0 */
/* How well linears, their gradients and attention keep many threads busy, by counting units of work: no clock. A unit's
 * cost is its multiplications; threads take units in order, as OpenMP's dynamic schedule hands them out. And that units
 * follow the threads without changing a tile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <omp.h>

#include "../../normal.h"
#include "linear_tile.h"

enum { MOST_THREADS = 128 };

typedef struct work {
    double total, elapsed; /* multiplications of all threads; time until the last of them is done */
} work;

static void add(work *w, const tile_list *list, int64_t inner, int64_t threads) {
    double busy[MOST_THREADS] = {0}, last = 0;
    for (int64_t unit = 0; unit < list->count; unit++) {
        int64_t index = unit, thread = 0;
        int i = tile_list_find(list, &index);
        tile at = tile_at(&list->grids[i], index);
        double cost = (double)(at.rn * at.cn * inner);
        for (int64_t t = 1; t < threads; t++) thread = busy[t] < busy[thread] ? t : thread;
        busy[thread] += cost;
        w->total += cost;
        if (busy[thread] > last) last = busy[thread];
    }
    w->elapsed += last;
}

/* The calls that one layer makes for T tokens: q, k and v together; o; gate and up together; down. */
typedef struct shape {
    const char *name;
    int64_t hidden, q, kv, ffn;
} shape;
enum { CALLS = 4 };

static int layer_call(const shape *s, int call, espl_linear *l) {
    const int64_t out[CALLS][3] = {{s->q, s->kv, s->kv}, {s->hidden}, {s->ffn, s->ffn}, {s->hidden}};
    const int64_t in[CALLS] = {s->hidden, s->q, s->hidden, s->ffn};
    static const int counts[CALLS] = {3, 1, 2, 1};
    for (int i = 0; i < counts[call]; i++) l[i] = (espl_linear){.out = out[call][i], .in = in[call]};
    return counts[call];
}

typedef struct efficiency {
    double forward, backward, gradient, all;
} efficiency;

static double of(const work *w, int64_t threads) { return w->total / (w->elapsed * (double)threads); }

static efficiency measure(const shape *s, int64_t T, int64_t threads) {
    work forward = {0}, backward = {0}, gradient = {0};
    for (int call = 0; call < CALLS; call++) {
        espl_linear l[3];
        int n = layer_call(s, call, l);
        int64_t outputs = 0;
        for (int i = 0; i < n; i++) outputs += l[i].out;
        tile_list f = espl_linear_units(l, n, T, T, threads), b = espl_linear_backward_units(l, n, T, T, threads);
        tile_list g = espl_gradient_units(l, n);
        add(&forward, &f, l[0].in, threads);
        add(&backward, &b, outputs, threads);
        add(&gradient, &g, T, threads);
    }
    work all = {forward.total + backward.total + gradient.total, forward.elapsed + backward.elapsed + gradient.elapsed};
    return (efficiency){of(&forward, threads), of(&backward, threads), of(&gradient, threads), of(&all, threads)};
}

static void a_node_is_busy_with_an_8b_layer(void **state) {
    (void)state;
    static const shape shapes[] = {{"0.6B", 1024, 2048, 1024, 3072},
                                   {"4B", 2560, 4096, 1024, 9728},
                                   {"8B", 4096, 4096, 1024, 12288},
                                   {"32B", 5120, 8192, 1024, 25600}};
    static const int64_t tokens[] = {512, 1024, 2048}, threads[] = {2, 16, 64};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t k = 0; k < sizeof tokens / sizeof *tokens; k++)
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
                efficiency e = measure(&shapes[i], tokens[k], threads[t]);
                printf("%-5s %5lld tokens %3lld threads: forward %.2f, backward %.2f, gradients %.2f, all %.2f\n",
                       shapes[i].name, (long long)tokens[k], (long long)threads[t], e.forward, e.backward, e.gradient,
                       e.all);
                if (strcmp(shapes[i].name, "8B") == 0) {
                    assert_true(e.forward >= 0.85);
                    assert_true(e.all >= 0.85);
                }
                if (threads[t] == 2) assert_true(e.all >= 0.95);
            }
}

/* Units of 1 thread and of many: the same tiles, so the same bits. */
static void units_change_no_result(void **state) {
    (void)state;
    enum { T = 700, OUT = 600, IN = 530 };
    espl_rng rng;
    espl_rng_seed(&rng, 3, 0, 0);
    float *w = malloc((size_t)OUT * IN * 4), *x = malloc((size_t)T * IN * 4), *dy = malloc((size_t)T * OUT * 4);
    for (int i = 0; i < OUT * IN; i++) w[i] = (float)test_normal(&rng);
    for (int i = 0; i < T * IN; i++) x[i] = (float)test_normal(&rng);
    for (int i = 0; i < T * OUT; i++) dy[i] = (float)test_normal(&rng);
    espl_linear l = {.weight = w, .dtype = ESPL_DTYPE_F32, .out = OUT, .in = IN};
    assert_int_not_equal(espl_linear_units(&l, 1, T, T, 1).count, espl_linear_units(&l, 1, T, T, 32).count);
    assert_int_not_equal(espl_linear_backward_units(&l, 1, T, T, 1).count,
                         espl_linear_backward_units(&l, 1, T, T, 32).count);
    float *y[2], *dx[2];
    int before = omp_get_max_threads();
    for (int i = 0; i < 2; i++) {
        omp_set_num_threads(i ? 32 : 1);
        espl_workspace *ws;
        assert_int_equal(espl_workspace_create(&ws), ESPL_OK);
        y[i] = malloc((size_t)T * OUT * 4);
        dx[i] = malloc((size_t)T * IN * 4);
        espl_tensor_linear(&l, 1, x, T, &y[i], false, ws);
        espl_tensor_linear_backward(&l, 1, (const float *const[]){dy}, T, dx[i], false, ws);
        espl_workspace_destroy(&ws);
    }
    omp_set_num_threads(before);
    assert_memory_equal(y[0], y[1], (size_t)T * OUT * 4);
    assert_memory_equal(dx[0], dx[1], (size_t)T * IN * 4);
    for (int i = 0; i < 2; i++) {
        free(y[i]);
        free(dx[i]);
    }
    free(w);
    free(x);
    free(dy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_is_busy_with_an_8b_layer),
        cmocka_unit_test(units_change_no_result),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
