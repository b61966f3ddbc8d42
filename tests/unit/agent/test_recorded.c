/* SPDX-License-Identifier: Apache-2.0 */
/* The recorded replies of a small language model (tests/agent/fixtures/smollm2): the parser still finds the same
 * problems. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cjson/cJSON.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "espalier/agent/reply.h"

enum { LAYERS = 8, LINEARS = LAYERS * ESPL_LINEAR_KINDS };
#define LAYOUT ((espl_layout){.layers = LAYERS})
/* What the agent adds to the parser's problems. */
#define STOP "\"stop\" is not allowed before the target is reached\n"
#define CUT_OFF "the reply was cut off at the most tokens it may have: be brief\n"

/* Sapling, pruned by the recorded decisions; all of that run were accepted. */
typedef struct recorded {
    espl_profile_row rows[LINEARS];
    espl_str expected; /* problems of the newest reply; "" if it was valid */
    espl_decision decision;
    bool pending; /* a reply waits for its verdict */
    int64_t invalid, valid, decisions;
} recorded;

static espl_agent_view view_of(const recorded *r, int64_t iteration) {
    return (espl_agent_view){
        .iteration = iteration,
        .budget =
            {.target = 0.04, .cap = 0.8, .max_step = 0.1, .max_linears = 8, .threshold = 0.02, .max_iterations = 6},
        .layout = LAYOUT,
        .rows = r->rows};
}

static const char *text_of(const cJSON *line) {
    const char *text = NULL;
    assert_int_equal(espl_json_get_str(line, "text", "dialogue", true, &text), ESPL_OK);
    return text;
}

static void read_reply(recorded *r, const cJSON *line, int64_t iteration) {
    espl_agent_view v = view_of(r, iteration);
    espl_str notes = {0};
    const char *text = text_of(line);
    assert_false(r->pending);
    espl_decision_free(&r->decision);
    r->expected.len = 0;
    espl_str_puts(&r->expected, "");
    assert_int_equal(espl_reply_parse(text, (int64_t)strlen(text), &v, &r->decision, &r->expected, &notes), ESPL_OK);
    if (r->decision.stop) espl_str_puts(&r->expected, STOP); /* agent.honour_stop is false */
    if (r->expected.len > 0 && cJSON_IsTrue(espl_json_member(line, "cut_off"))) espl_str_puts(&r->expected, CUT_OFF);
    r->pending = true;
    espl_str_free(&notes);
}

static void check_invalid(recorded *r, const cJSON *line) {
    assert_true(r->pending);
    assert_string_equal(r->expected.data, text_of(line));
    r->pending = false;
    r->invalid++;
}

/* The decision of a valid reply is that reply's; any other was the policy's. Carries it out. */
static void check_decision(recorded *r, const cJSON *line, int64_t iteration) {
    espl_agent_view v = view_of(r, iteration);
    espl_str problems = {0}, notes = {0}, own = {0}, said = {0};
    espl_decision d;
    char *json = cJSON_PrintUnformatted(espl_json_member(line, "decision"));
    assert_int_equal(espl_reply_parse(json, (int64_t)strlen(json), &v, &d, &problems, &notes), ESPL_OK);
    assert_int_equal(problems.len, 0);
    if (r->pending) {
        assert_string_equal(r->expected.data, "");
        espl_reply_put(&own, LAYOUT, &r->decision);
        espl_reply_put(&said, LAYOUT, &d);
        assert_string_equal(own.data, said.data);
        r->valid++;
    }
    r->pending = false;
    r->decisions++;
    for (int64_t k = 0; k < d.n; k++)
        r->rows[d.items[k].linear].pruned += llround(d.items[k].step * (double)r->rows[d.items[k].linear].weights);
    espl_decision_free(&d);
    espl_str_free(&problems), espl_str_free(&notes), espl_str_free(&own), espl_str_free(&said);
    cJSON_free(json);
}

static espl_status read_line(void *ctx, const cJSON *line, int64_t iteration) {
    recorded *r = ctx;
    const char *type = NULL;
    assert_int_equal(espl_json_get_str(line, "type", "dialogue", true, &type), ESPL_OK);
    if (strcmp(type, "reply") == 0) read_reply(r, line, iteration);
    if (strcmp(type, "invalid") == 0) check_invalid(r, line);
    if (strcmp(type, "decision") == 0) check_decision(r, line, iteration);
    return ESPL_OK;
}

static void same_verdicts(void **state) {
    static const int64_t shape[ESPL_LINEAR_KINDS] = {96 * 128, 96 * 64,  96 * 64, 128 * 96,
                                                     96 * 256, 96 * 256, 256 * 96};
    recorded r = {0};
    char path[4096];
    (void)state;
    for (int64_t i = 0; i < LINEARS; i++) r.rows[i].weights = shape[espl_linear_kind_of(LAYOUT, i)];
    snprintf(path, sizeof path, "%s/agent/fixtures/smollm2/dialogue.jsonl", getenv("ESPL_TEST_ROOT"));
    assert_int_equal(espl_decision_init(&r.decision, 0), ESPL_OK);
    assert_int_equal(espl_journal_read(path, read_line, &r), ESPL_OK);
    assert_false(r.pending);
    assert_int_equal(r.invalid, 12);
    assert_int_equal(r.valid, 0);
    assert_int_equal(r.decisions, 6);
    espl_decision_free(&r.decision);
    espl_str_free(&r.expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_verdicts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
