/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: agent */
/*
 * A reply for a small model with a tight budget. What is accepted must keep the budget, and must read back as itself.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "action.h"
#include "predict.h"
#include "tools.h"

#include "espalier/agent/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

enum { LAYERS = 3, LINEARS = LAYERS * ESPL_LINEAR_KINDS };

static void check_budget(const espl_agent_view *v, const espl_decision *d) {
    int64_t total = 0, pruned = 0, more = 0;
    for (int64_t i = 0; i < LINEARS; i++) {
        total += v->rows[i].weights;
        pruned += v->rows[i].pruned;
    }
    REQUIRE(d->n <= v->budget.max_linears && (d->n > 0) != d->stop);
    for (int64_t k = 0; k < d->n; k++) {
        const espl_decision_item *item = &d->items[k];
        REQUIRE(item->linear >= 0 && item->linear < LINEARS && (k == 0 || item->linear > d->items[k - 1].linear));
        bool is_n_m = espl_pattern_is_n_m(item->pattern);
        REQUIRE(item->step > 0 && item->step <= (is_n_m ? 0.5 : v->budget.max_step));
        const espl_profile_row *r = &v->rows[item->linear];
        REQUIRE(!is_n_m || (v->mixed && r->pruned == 0 && item->step == 0.5));
        REQUIRE(!espl_pattern_is_n_m(v->patterns[item->linear]));
        int64_t count = llround(item->step * (double)r->weights);
        REQUIRE(count > 0 && (double)(r->pruned + count) <= v->budget.cap * (double)r->weights + 1e-3);
        more += count;
    }
    REQUIRE(pruned + more <= llround(v->budget.target * (double)total));
}

static void read_back(const espl_agent_view *v, const espl_decision *d) {
    espl_str text = {0}, problems = {0}, notes = {0};
    espl_decision again;
    espl_reply_put(&text, v->layout, d);
    REQUIRE(espl_reply_parse(text.data, text.len, v, &again, &problems, &notes) == ESPL_OK);
    REQUIRE(problems.len == 0 && notes.len == 0 && again.n == d->n && again.stop == d->stop);
    for (int64_t k = 0; k < d->n; k++)
        REQUIRE(again.items[k].linear == d->items[k].linear && again.items[k].step == d->items[k].step &&
                espl_pattern_equal(again.items[k].pattern, d->items[k].pattern));
    espl_decision_free(&again);
    espl_str_free(&text);
    espl_str_free(&problems);
    espl_str_free(&notes);
}

/* A question or plan, and the answer to it. */
static void act(const espl_agent_view *v, const char *text, int64_t len) {
    espl_agent_options o;
    espl_str problems = {0}, notes = {0}, answer = {0};
    espl_action a;
    espl_agent_options_init(&o);
    REQUIRE(espl_action_parse(text, len, v, &o.policy, ESPL_VIEW_FULL, &a, &problems, &notes) == ESPL_OK);
    REQUIRE(a.lessons.len <= ESPL_LESSONS_MAX * (ESPL_LESSON_BYTES_MAX + 8));
    if (problems.len > 0) {
        REQUIRE(a.plan.n == 0 && !a.plan.stop);
    } else if (a.kind == ESPL_ACTION_INSPECT) {
        espl_tools_put_inspection(&answer, v, a.linears);
        REQUIRE(answer.len > 0);
    } else {
        check_budget(v, &a.plan);
        if (a.plan.n > 0) read_back(v, &a.plan);
        espl_tools_put_prediction(&answer, v, &o.policy, &a.plan, &notes);
        REQUIRE(espl_predict_repeated(v, &a.plan) == 0);
    }
    espl_action_free(&a);
    espl_str_free(&problems);
    espl_str_free(&notes);
    espl_str_free(&answer);
}

/* With or without N:M: then layer 0 is dense in part, and down_proj's inputs fit no pattern. */
static void read_reply(const uint8_t *data, size_t size, bool mixed) {
    espl_profile_row rows[LINEARS];
    espl_pattern patterns[LINEARS] = {0};
    espl_agent_view v = {.iteration = 1,
                         .budget = {.target = 0.45, .cap = 0.6, .max_step = 0.1, .max_linears = 8, .threshold = 0.1},
                         .layout = {.layers = LAYERS},
                         .rows = rows,
                         .mixed = mixed,
                         .in = {8, 8, 8, 8, 12, 8, 7},
                         .patterns = patterns};
    for (int64_t i = 0; i < LINEARS; i++) {
        int64_t weights = mixed ? 96 * (1 + i) : 100 + 371 * i;
        rows[i] = (espl_profile_row){.weights = weights, .pruned = mixed && i < 14 ? 0 : weights * (i % 7) / 10};
    }
    if (mixed) patterns[3] = espl_pattern_choices[ESPL_PATTERN_CHOICE_4_8];
    rows[3].pruned = mixed ? rows[3].weights / 2 : rows[3].pruned;
    espl_str problems = {0}, notes = {0};
    espl_decision d;
    REQUIRE(espl_reply_parse((const char *)data, (int64_t)size, &v, &d, &problems, &notes) == ESPL_OK);
    REQUIRE(problems.len < 8192 && notes.len < 8192);
    if (problems.len > 0) {
        REQUIRE(d.n == 0 && !d.stop);
    } else {
        check_budget(&v, &d);
        read_back(&v, &d);
    }
    espl_decision_free(&d);
    espl_str_free(&problems);
    espl_str_free(&notes);
    act(&v, (const char *)data, (int64_t)size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_reply(data, size, false);
    read_reply(data, size, true);
    return 0;
}
