/* SPDX-License-Identifier: Apache-2.0 */
/* run: the time left, on recorded runs (record_run.py). The promise of docs/run.md: from the tenth step on within a
 * quarter of what it then took, or within two steps. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "forecast.h"

enum { STEPS_MAX = 160 };

typedef struct recorded_step {
    double clock, seconds;
    bool accepted;
    espl_decision decision;
} recorded_step;

typedef struct recording {
    espl_config config;
    int64_t layers, final_steps;
    double weights[ESPL_LINEAR_KINDS], report, distill_seconds, end;
    recorded_step steps[STEPS_MAX];
    int n;
} recording;

static void recording_take_step(recording *r, char *line) {
    recorded_step *s = &r->steps[r->n++];
    char *at;
    assert_true(r->n <= STEPS_MAX);
    s->clock = strtod(line, &at);
    s->seconds = strtod(at, &at);
    s->accepted = strtol(at, &at, 10) == 1;
    assert_true(s->clock > 0 && s->seconds > 0);
    assert_int_equal(espl_decision_init(&s->decision, r->layers * ESPL_LINEAR_KINDS), ESPL_OK);
    for (char *word = strtok(at, " \n"); word; word = strtok(NULL, " \n")) {
        char *end;
        int64_t linear = strtoll(word, &end, 10);
        assert_int_equal(*end, ':');
        s->decision.items[s->decision.n++] = (espl_decision_item){.linear = linear, .step = strtod(end + 1, &end)};
        assert_int_equal(*end, '\0');
    }
}

static void recording_take_value(recording *r, const char *key, char *value) {
    double number = strtod(value, NULL);
    if (strcmp(key, "layers") == 0) r->layers = (int64_t)number;
    if (strcmp(key, "target") == 0) r->config.prune_target = number;
    if (strcmp(key, "max_linears") == 0) r->config.prune_max_linears = (int64_t)number;
    if (strcmp(key, "max_iterations") == 0) r->config.prune_max_iterations = (int64_t)number;
    if (strcmp(key, "report") == 0) r->report = number;
    if (strcmp(key, "distill_steps") == 0) r->config.distill_steps = (int64_t)number;
    if (strcmp(key, "final_steps") == 0) r->final_steps = (int64_t)number;
    if (strcmp(key, "distill_seconds") == 0) r->distill_seconds = number;
    if (strcmp(key, "end") == 0) r->end = number;
    if (strcmp(key, "weights") != 0) return;
    for (int k = 0; k < ESPL_LINEAR_KINDS; k++) r->weights[k] = strtod(value, &value);
}

static void recording_read(recording *r, const char *name) {
    char path[4096], line[1 << 14];
    const char *root = getenv("ESPL_TEST_ROOT");
    memset(r, 0, sizeof *r);
    assert_int_equal(espl_config_init(&r->config), ESPL_OK);
    snprintf(path, sizeof path, "%s/unit/run/%s", root ? root : "tests", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        char key[32];
        int at;
        if (line[0] == '#') continue;
        if (sscanf(line, "%31[a-z_] %n", key, &at) == 1)
            recording_take_value(r, key, line + at);
        else
            recording_take_step(r, line);
    }
    fclose(f);
}

static void recording_free(recording *r) {
    for (int k = 0; k < r->n; k++) espl_decision_free(&r->steps[k].decision);
    espl_config_free(&r->config);
}

/* A job that has done nothing so far. distill.passes over one window are the recorded number of final steps. */
static espl_job job_of(recording *r, espl_profile_row *rows) {
    espl_job j = {.o = &r->config, .root = true, .rows = rows, .linears = r->layers * ESPL_LINEAR_KINDS};
    r->config.distill_passes = (double)r->final_steps;
    j.distill.n = r->final_steps > 0;
    j.target = r->config.prune_target;
    j.report_seconds = r->report;
    for (int64_t i = 0; i < j.linears; i++) {
        rows[i].weights = (int64_t)r->weights[espl_linear_kind_of((espl_layout){.layers = r->layers}, i)];
        j.weights += rows[i].weights;
    }
    return j;
}

/* Carries the recorded step out: rows and job are then those behind it. */
static void job_take_step(espl_job *j, const recorded_step *s) {
    for (int64_t i = 0; s->accepted && i < s->decision.n; i++) {
        espl_profile_row *row = &j->rows[s->decision.items[i].linear];
        int64_t more = llround(s->decision.items[i].step * (double)row->weights);
        row->pruned += more;
        j->pruned += more;
    }
}

/* Checks the steps from number `from` on; the last one has nothing but the report behind it. */
static void check_recording(const char *name, int at_least, int from) {
    static recording r;
    static espl_profile_row rows[1024], before[1024];
    int wrong = 0;
    recording_read(&r, name);
    assert_true(r.n >= at_least);
    memset(rows, 0, sizeof rows);
    espl_job j = job_of(&r, rows);
    for (int k = 0; k < r.n; k++) {
        const recorded_step *s = &r.steps[k];
        memcpy(before, rows, sizeof before);
        espl_outcome o = {.iteration = k + 1, .decision = s->decision, .accepted = s->accepted};
        o.sparsity_before = (double)j.pruned / (double)j.weights;
        job_take_step(&j, s);
        o.sparsity_after = (double)j.pruned / (double)j.weights;
        j.iteration = k + 1;
        j.distill_steps += r.config.distill_steps;
        j.distill_seconds += r.distill_seconds * (double)r.config.distill_steps;
        j.rows = before; /* the profile's rows are those before the step */
        assert_int_equal(espl_forecast_step(&j, &o, s->seconds), ESPL_OK);
        j.rows = rows;
        double actual = r.end - s->clock, left = j.seconds_left;
        if (getenv("ESPL_TEST_SHOW"))
            printf("%s %3d: %7.1f s estimated, %7.1f s left, ratio %.2f\n", name, k + 1, left, actual, left / actual);
        if (k + 1 < from || k == r.n - 1) continue;
        if (fabs(left - actual) <= fmax(0.25 * actual, 2 * s->clock / (k + 1))) continue;
        printf("%s: after step %d: %.1f s estimated, %.1f s left\n", name, k + 1, left, actual);
        wrong++;
    }
    recording_free(&r);
    assert_int_equal(wrong, 0);
}

static void many_small_steps(void **state) {
    (void)state;
    check_recording("recorded_small.txt", 30, 10);
}

static void a_slow_endpoint(void **state) {
    (void)state;
    check_recording("recorded_slow.txt", 30, 10);
}

static void the_demo(void **state) {
    (void)state;
    check_recording("recorded_demo.txt", 5, 1); /* all its steps: it has few */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_small_steps),
        cmocka_unit_test(a_slow_endpoint),
        cmocka_unit_test(the_demo),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
