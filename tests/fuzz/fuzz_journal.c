/* SPDX-License-Identifier: Apache-2.0 */
/* rooms: agent */
/*
 * What a resumed run reads of the agent and of its logs. The first byte says what the rest is: a digit, a log that is
 * opened up to that iteration; r, a dialogue that is replayed; a, the agent's memory of a checkpoint; h, the body of an
 * endpoint's reply. A log is repaired once, whatever is in it: then it reads, and nothing is left to repair.
 */
#include "endpoint/openai.h"
#include "espalier/base.h"
#include "replay.h"
#include "scratch.h"
#include "state.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) abort();                                                                                     \
    } while (0)

static int64_t iteration_of(const void *context, int64_t i) {
    (void)context;
    return i + 1;
}

static espl_status put_line(const void *context, int64_t i, espl_json_writer *w) {
    (void)context;
    espl_json_put_i64(w, "value", i);
    return ESPL_OK;
}

typedef struct seen {
    int64_t lines, wanted, keep;
} seen;

static espl_status count_line(void *context, const struct cJSON *line, int64_t iteration) {
    seen *s = context;
    const char *type = "";
    s->lines++;
    REQUIRE(iteration <= s->keep);
    REQUIRE(espl_json_get_str(line, "type", "line", true, &type) == ESPL_OK);
    s->wanted += strcmp(type, "outcome") == 0;
    return ESPL_OK;
}

static void open_log(const char *bytes, size_t n, int64_t keep) {
    espl_journal_source source = {.type = "outcome", .n = keep, .iteration = iteration_of, .put = put_line};
    seen s = {.keep = keep};
    char *once, *twice, path[256];
    int64_t once_len, twice_len;
    espl_journal *j;
    snprintf(path, sizeof path, "%s", scratch_put("log", bytes, n));
    REQUIRE(espl_journal_open(&j, path, keep, &source) == ESPL_OK);
    espl_journal_close(&j);
    REQUIRE(espl_file_read(path, INT64_MAX, &once, &once_len) == ESPL_OK);
    REQUIRE(espl_journal_open(&j, path, keep, &source) == ESPL_OK);
    espl_journal_close(&j);
    REQUIRE(espl_file_read(path, INT64_MAX, &twice, &twice_len) == ESPL_OK);
    REQUIRE(once_len == twice_len && memcmp(once, twice, (size_t)once_len) == 0);
    REQUIRE(espl_journal_read(path, count_line, &s) == ESPL_OK);
    REQUIRE(s.wanted >= keep);
    espl_mem_free(&once);
    espl_mem_free(&twice);
}

static void replay(const char *bytes, size_t n) {
    enum { LAYERS = 2, LINEARS = LAYERS * ESPL_LINEAR_KINDS };
    espl_profile_row rows[LINEARS];
    espl_pattern patterns[LINEARS] = {0};
    espl_agent_view v = {.budget = {.target = 0.45, .cap = 0.6, .max_step = 0.1, .max_linears = 8, .threshold = 0.1},
                         .layout = {.layers = LAYERS},
                         .rows = rows,
                         .mixed = true,
                         .in = {8, 8, 8, 8, 12, 8, 7},
                         .patterns = patterns};
    espl_replay *r;
    for (int64_t i = 0; i < LINEARS; i++) rows[i] = (espl_profile_row){.weights = 96 * (1 + i)};
    if (espl_replay_open(&r, scratch_put("dialogue", bytes, n)) != ESPL_OK) return;
    for (v.iteration = 1; v.iteration < 4; v.iteration++) {
        espl_decision d;
        if (espl_replay_ask(r, &v, &d) == ESPL_OK)
            for (int64_t k = 0; k < d.n; k++) REQUIRE(d.items[k].linear >= 0 && d.items[k].linear < LINEARS);
        espl_decision_free(&d);
    }
    espl_replay_close(&r);
}

static void read_state(const char *bytes, size_t n) {
    espl_agent_state state = {0}, again = {0}, third = {0};
    espl_str text = {0}, same = {0};
    if (espl_agent_state_read(&state, bytes, (int64_t)n) == ESPL_OK) {
        espl_agent_state_put(&text, &state);
        REQUIRE(espl_agent_state_read(&again, text.data, text.len) == ESPL_OK);
        REQUIRE(again.failures == state.failures && again.refused == state.refused && again.form == state.form);
        /* Bytes that are not UTF-8 become U+FFFD, once. */
        espl_agent_state_put(&same, &again);
        REQUIRE(espl_agent_state_read(&third, same.data, same.len) == ESPL_OK);
        REQUIRE(third.lessons.len == again.lessons.len && again.lessons.len >= state.lessons.len);
    }
    espl_str_free(&state.lessons);
    espl_str_free(&again.lessons);
    espl_str_free(&third.lessons);
    espl_str_free(&same);
    espl_str_free(&text);
}

static void read_body(const char *bytes, size_t n) {
    espl_openai_outcome a = {.status = 200};
    espl_answer said = {0};
    espl_str body = {0}, action = {0}, id = {0};
    espl_str_put(&body, bytes, (int64_t)n);
    espl_openai_read_body(&body, &a, &said);
    REQUIRE(a.good == (a.error[0] == '\0') && (a.good || said.text.len == 0));
    REQUIRE(a.prompt_tokens >= 0 && a.completion_tokens >= 0 && a.status >= 200 && a.status < 600);
    for (int64_t k = 0; espl_openai_call_action(&said.calls, k, &action, &id); k++)
        REQUIRE(said.calls.len > 0 && k < (int64_t)n);
    espl_answer_free(&said);
    espl_str_free(&action);
    espl_str_free(&id);
    espl_str_free(&body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int64_t before = espl_mem_balance();
    if (size == 0) return 0;
    const char *rest = (const char *)data + 1;
    espl_log_init(ESPL_LOG_QUIET, 0);
    if (data[0] >= '0' && data[0] <= '9') open_log(rest, size - 1, data[0] - '0');
    if (data[0] == 'r') replay(rest, size - 1);
    if (data[0] == 'a') read_state(rest, size - 1);
    if (data[0] == 'h') read_body(rest, size - 1);
    REQUIRE(espl_mem_balance() == before);
    return 0;
}
