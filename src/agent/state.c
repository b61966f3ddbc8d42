/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an agent remembers beyond its view. The policy learns from the history alone, so this is only the endpoint's
 * part: whether it still answers, what it refuses, and the totals of the report. No times: equal runs have equal
 * checkpoints.
 */
#include "state.h"

#include "espalier/base/json.h"
#include "espalier/base/json_writer.h"

#include <cjson/cJSON.h>
#include <string.h>

/* Raise it when members change: a state of another version is refused. */
enum { STATE_VERSION = 2 };

/* Members of espl_agent_stats that are saved, in the order of the file. X(member) */
#define STATE_COUNTERS(X)                                                                                              \
    X(requests)                                                                                                        \
    X(retries)                                                                                                         \
    X(invalid)                                                                                                         \
    X(decisions)                                                                                                       \
    X(questions)                                                                                                       \
    X(experiments)                                                                                                     \
    X(fallbacks)                                                                                                       \
    X(prompt_tokens)                                                                                                   \
    X(completion_tokens)

const char *espl_reply_form_name(espl_reply_form f) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_REPLY_FORM_LIST(X)
#undef X
    };
    return names[f];
}

/* The bytes are compared between runs: members and their order are part of the file. */
void espl_agent_state_put(espl_str *s, const espl_agent_state *state) {
    espl_json_writer w = espl_json_writer_on(s);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_i64(&w, "version", STATE_VERSION);
    espl_json_put_text(&w, "form", espl_reply_form_name(state->form));
    espl_json_put_i64(&w, "refused", state->refused);
    espl_json_put_i64(&w, "failures", state->failures);
    espl_json_put_bytes(&w, "lessons", state->lessons.data ? state->lessons.data : "", state->lessons.len);
#define X(name) espl_json_put_i64(&w, #name, state->stats.name);
    STATE_COUNTERS(X)
#undef X
    espl_json_close(&w);
}

espl_status espl_agent_state_read(espl_agent_state *state, const char *bytes, int64_t len) {
    static const char where[] = "agent state";
    cJSON *doc;
    espl_agent_state fresh = {0};
    const char *form, *lessons;
    int64_t version;
    espl_status st;
    /* A checkpoint may be of another program, or damaged: every member is required and checked. */
    ESPL_TRY(espl_json_parse(bytes, len, where, &doc));
    ESPL_CHECK(st, done, espl_json_get_i64(doc, "version", where, true, STATE_VERSION, STATE_VERSION, &version));
    ESPL_CHECK(st, done, espl_json_get_str(doc, "form", where, true, &form));
    while (fresh.form < ESPL_REPLY_FORMS && strcmp(form, espl_reply_form_name(fresh.form)) != 0) fresh.form++;
    if (fresh.form == ESPL_REPLY_FORMS) {
        st = ESPL_FAIL(ESPL_FORMAT,
                       "%s: \"form\" must be \"json_schema\", \"json_object_schema\", \"json_object\" or \"plain\"",
                       where);
        goto done;
    }
    ESPL_CHECK(st, done, espl_json_get_i64(doc, "refused", where, true, 0, ESPL_REFUSED_ALL, &fresh.refused));
    ESPL_CHECK(st, done, espl_json_get_str(doc, "lessons", where, true, &lessons));
    ESPL_CHECK(st, done, espl_json_get_i64(doc, "failures", where, true, 0, INT64_MAX, &fresh.failures));
#define X(name) ESPL_CHECK(st, done, espl_json_get_i64(doc, #name, where, true, 0, INT64_MAX, &fresh.stats.name));
    STATE_COUNTERS(X)
#undef X
    espl_str_puts(&fresh.lessons, lessons);
    ESPL_CHECK(st, done, espl_str_status(&fresh.lessons));
    espl_str_free(&state->lessons);
    *state = fresh;
    fresh.lessons = (espl_str){0};
done:
    espl_str_free(&fresh.lessons);
    espl_json_free(&doc);
    return st;
}
