/* SPDX-License-Identifier: Apache-2.0 */
/* run: the estimate of the steps to the target, on a recorded run and on made-up ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pace.h"

enum { LAYERS = 8, KINDS = 7, LINEARS = LAYERS * KINDS, STEPS_MAX = 64 };
/* Sapling: hidden 96, heads 4 x 32, key-value heads 2, ffn 256; q, k, v, o, gate, up, down. */
static const double kind_weights[KINDS] = {96 * 128, 96 * 64, 96 * 64, 128 * 96, 96 * 256, 96 * 256, 256 * 96};

typedef struct recording {
    struct espl_pace_step steps[STEPS_MAX];
    double sparsity[STEPS_MAX][LINEARS]; /* after each step */
    double weights[LINEARS];
    int n;
} recording;

static void recording_read(recording *r) {
    char path[4096], line[4096];
    const char *root = getenv("ESPL_TEST_ROOT");
    double all = 0, now[LINEARS] = {0};
    memset(r, 0, sizeof *r);
    for (int i = 0; i < LINEARS; i++) all += r->weights[i] = kind_weights[i % KINDS];
    snprintf(path, sizeof path, "%s/unit/run/recorded_run.txt", root ? root : "tests");
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (line[0] == '#') continue;
        struct espl_pace_step *s = &r->steps[r->n];
        s->accepted = line[0] == '1';
        s->seconds = 2;
        for (char *word = strtok(line + 1, " \n"); word; word = strtok(NULL, " \n")) {
            char *end;
            long linear = strtol(word, &end, 10);
            assert_true(*end == ':' && linear >= 0 && linear < LINEARS);
            double step = strtod(end + 1, &end);
            assert_int_equal(*end, '\0');
            s->items++;
            s->removed += step;
            if (!s->accepted) continue;
            s->gain += step * r->weights[linear] / all;
            now[linear] += step;
        }
        memcpy(r->sparsity[r->n++], now, sizeof now);
    }
    fclose(f);
    assert_true(r->n > 20);
}

/* The promise of the log: right within a quarter from the tenth iteration on, or within one step at the end. */
static void a_recorded_run_is_forecast_within_a_quarter(void **state) {
    (void)state;
    static recording r;
    espl_pace p = {0};
    recording_read(&r);
    for (int k = 0; k < r.n - 1; k++) { /* after the last step, nothing is left but rounding */
        espl_pace_add(&p, &r.steps[k]);
        if (k + 1 < 10) continue;
        espl_pace_goal goal = {
            .sparsity = r.sparsity[k], .weights = r.weights, .linears = LINEARS, .max_linears = 8, .target = 0.45};
        double left = espl_pace_steps_left(&p, &goal), actual = r.n - 1 - k;
        if (fabs(left - actual) > fmax(0.25 * actual, 1.5))
            fail_msg("after step %d: %.2f steps estimated, %.0f left", k + 1, left, actual);
    }
    assert_float_equal(espl_pace_seconds(&p), 2, 1e-9);
}

/* A decision that names all linears is not limited by their number: the gain of the last steps counts. */
static void steps_that_name_all_linears_go_on_at_their_gain(void **state) {
    (void)state;
    double sparsity[4] = {0.2, 0.2, 0.2, 0.2}, weights[4] = {1, 1, 1, 1};
    espl_pace p = {0};
    espl_pace_goal goal = {.sparsity = sparsity, .weights = weights, .linears = 4, .max_linears = 8, .target = 0.5};
    assert_true(isnan(espl_pace_steps_left(&p, &goal)));
    for (int k = 0; k < 4; k++)
        espl_pace_add(
            &p, &(struct espl_pace_step){.items = 4, .removed = 0.2, .gain = 0.05, .seconds = -1, .accepted = true});
    assert_float_equal(espl_pace_steps_left(&p, &goal), 6, 1e-9);
    assert_true(isnan(espl_pace_seconds(&p)));
    goal.target = 0.2;
    assert_float_equal(espl_pace_steps_left(&p, &goal), 0, 0);
}

static void rollbacks_make_the_way_longer(void **state) {
    (void)state;
    double sparsity[8] = {0}, weights[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    espl_pace good = {0}, bad = {0};
    espl_pace_goal goal = {.sparsity = sparsity, .weights = weights, .linears = 8, .max_linears = 2, .target = 0.5};
    for (int k = 0; k < 8; k++) {
        struct espl_pace_step step = {.items = 2, .removed = 0.2, .gain = 0.025, .seconds = 1, .accepted = true};
        espl_pace_add(&good, &step);
        step.accepted = k % 2 == 0;
        if (!step.accepted) step.gain = 0;
        espl_pace_add(&bad, &step);
    }
    /* 8 linears x 5 visits, 2 a step: 20; half of them undone: 40; and a few at the end that are not full */
    assert_float_equal(espl_pace_steps_left(&good, &goal), 20, 2);
    assert_float_equal(espl_pace_steps_left(&bad, &goal), 40, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recorded_run_is_forecast_within_a_quarter),
        cmocka_unit_test(steps_that_name_all_linears_go_on_at_their_gain),
        cmocka_unit_test(rollbacks_make_the_way_longer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
