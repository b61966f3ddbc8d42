/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: asks its backend, returns invalid replies to their author with what is wrong, falls back when there is no
 * usable answer, and records all of it. The three backends differ only in where the JSON of a decision comes from:
 *
 *     espl_agent_ask -> agent_ask_policy    -> espl_policy_propose -> espl_reply_parse
 *                    -> agent_ask_endpoint  -> espl_openai_ask     -> espl_reply_parse
 *                    -> espl_replay_ask     -> espl_reply_read
 *
 * Layers of the room, each using those behind it: agent; policy/, endpoint/, replay, prompt; reply; view, clean, state;
 * options.
 */
#include "espalier/agent/agent.h"

#include "check.h"
#include "clean.h"
#include "endpoint/openai.h"
#include "policy/policy.h"
#include "prompt.h"
#include "replay.h"
#include "state.h"
#include "view.h"

#include "espalier/agent/reply.h"
#include "espalier/base/journal.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of an invalid reply that its author reads again: enough to recognise it, without spending its context. */
enum { REPLY_REPEATED_MAX = 4096 };

struct espl_agent {
    espl_agent_backend backend;
    espl_agent_fallback fallback;
    int64_t max_invalid, give_up_after, prompt_bytes;
    bool honour_stop;
    char *model_name;
    espl_policy_options policy;
    espl_journal *dialogue; /* NULL: no record */
    espl_replay *replay;    /* of backend REPLAY */
    espl_openai *openai;    /* of backend OPENAI */
    espl_agent_state state;
    const char *source; /* of the newest decision */
};

/* No default in the switches over the backend: the compiler names the places that a new backend must be added to. */
static espl_status agent_unknown_backend(espl_agent_backend b) {
    return ESPL_FAIL(ESPL_INTERNAL, "the agent has no backend %d", (int)b);
}

static espl_status agent_open_backend(espl_agent *a, const espl_agent_options *o) {
    switch (a->backend) {
    case ESPL_BACKEND_POLICY:
        return ESPL_OK; /* nothing to open */
    case ESPL_BACKEND_OPENAI:
        return espl_openai_open(&a->openai, o);
    case ESPL_BACKEND_REPLAY:
        return espl_replay_open(&a->replay, o->replay);
    case ESPL_BACKEND_COUNT:
        break;
    }
    return agent_unknown_backend(a->backend);
}

espl_status espl_agent_create(espl_agent **out, const espl_agent_options *o) {
    espl_status st;
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "agent"));
    espl_agent *a = *out;
    ESPL_CHECK(st, failed, espl_agent_options_check(o));
    a->backend = o->backend;
    a->fallback = o->fallback;
    a->max_invalid = o->max_invalid;
    a->give_up_after = o->give_up_after;
    a->prompt_bytes = o->prompt_bytes;
    a->honour_stop = o->honour_stop;
    a->policy = o->policy;
    a->state.response_format = true;
    a->source = "";
    if (o->model_name) ESPL_CHECK(st, failed, espl_str_dup(&a->model_name, o->model_name, "agent"));
    ESPL_CHECK(st, failed, agent_open_backend(a, o));
    /* Last: it cuts the file, which a wrong option must leave as it is. */
    if (o->dialogue_path) ESPL_CHECK(st, failed, espl_journal_open(&a->dialogue, o->dialogue_path, o->keep_iterations));
    return ESPL_OK;
failed:
    espl_agent_destroy(out);
    return st;
}

void espl_agent_destroy(espl_agent **a) {
    if (!a || !*a) return;
    espl_openai_close(&(*a)->openai);
    espl_replay_close(&(*a)->replay);
    espl_journal_close(&(*a)->dialogue);
    espl_mem_free(&(*a)->model_name);
    espl_mem_free(a);
}

const char *espl_agent_source(const espl_agent *a) { return a->source; }

espl_agent_stats espl_agent_stats_get(const espl_agent *a) { return a->state.stats; }

espl_status espl_agent_state_save(const espl_agent *a, espl_str *out) {
    espl_agent_state_put(out, &a->state);
    return espl_str_status(out);
}

espl_status espl_agent_state_restore(espl_agent *a, const char *bytes, int64_t len) {
    return espl_agent_state_read(&a->state, bytes, len);
}

/* ------------------------------------------------------------------- ask */

/* The policy writes JSON and the parser reads it: its decisions are checked and trimmed like anybody's. */
static espl_status agent_ask_policy(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    espl_str json = {0}, problems = {0};
    espl_status st;
    ESPL_CHECK(st, done, espl_policy_propose(v, &a->policy, &json));
    ESPL_CHECK(st, done, espl_reply_parse(json.data, json.len, v, out, &problems, notes));
    if (problems.len > 0)
        st = ESPL_FAIL(ESPL_INTERNAL, "the policy's own decision is not valid: %.400s", problems.data);
done:
    espl_str_free(&json);
    espl_str_free(&problems);
    return st;
}

/* Appends a line {..., "attempt", "text"} to the dialogue. */
static espl_status agent_record_text(espl_agent *a, const espl_agent_view *v, const char *type, int64_t attempt,
                                     const char *text, int64_t len) {
    espl_str line = {0};
    espl_json_writer w = espl_journal_begin(&line, v->iteration, type);
    espl_json_put_i64(&w, "attempt", attempt);
    espl_json_put_bytes(&w, "text", text, len);
    return espl_journal_end(a->dialogue, &w);
}

/* A conversation with the endpoint: a new one in each iteration. */
typedef struct agent_conversation {
    espl_message *messages; /* those of `chat`, which borrows them */
    espl_chat chat;
} agent_conversation;

/* Adds a message, and returns its text to fill in. */
static espl_str *conversation_add_message(agent_conversation *c, const char *role) {
    espl_message *added = &c->messages[c->chat.n_messages++];
    added->role = role;
    return &added->text;
}

static espl_status conversation_open(agent_conversation *c, const espl_agent *a, const espl_agent_view *v) {
    /* System and user message, plus two messages for each retry. */
    ESPL_TRY(espl_mem_alloc(&c->messages, 2 + 2 * a->max_invalid, sizeof *c->messages, "agent"));
    c->chat.messages = c->messages;
    espl_prompt_put_system(conversation_add_message(c, "system"), v, a->model_name);
    return espl_prompt_put_user(conversation_add_message(c, "user"), v, a->prompt_bytes);
}

/* Returns an invalid reply to its author, with its problems. The author reads its own reply again, cleaned: its bytes
 * go into a request and into the record. */
static espl_status conversation_answer_invalid(agent_conversation *c, const espl_agent_view *v, const char *text,
                                               int64_t len, const espl_str *problems) {
    espl_str *said = conversation_add_message(c, "assistant");
    espl_agent_put_clean(said, text, len, REPLY_REPEATED_MAX);
    espl_str *correction = conversation_add_message(c, "user");
    espl_prompt_put_correction(correction, v, problems);
    return espl_str_status(said->failed ? said : correction);
}

static void conversation_free(agent_conversation *c) {
    for (int64_t k = 0; k < c->chat.n_messages; k++) espl_str_free(&c->messages[k].text);
    espl_mem_free(&c->messages);
}

/* Asks the endpoint until a reply is valid; every invalid reply is answered with its problems. ESPL_AGENT: no usable
 * answer. */
static espl_status agent_ask_endpoint(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    agent_conversation c = {.chat = {.iteration = v->iteration, .dialogue = a->dialogue, .state = &a->state}};
    espl_str reply = {0}, problems = {0}, told = {0};
    espl_status st;
    /* A dead server costs its time-outs in every iteration, hours in all. */
    if (a->state.failures >= a->give_up_after)
        return ESPL_FAIL(ESPL_AGENT, "the agent's endpoint gave no usable answer in %" PRId64 " iterations: given up",
                         a->state.failures);
    ESPL_CHECK(st, done, conversation_open(&c, a, v));
    for (;; c.chat.attempt++) {
        bool cut_off = false;
        ESPL_CHECK(st, done, espl_openai_ask(a->openai, &c.chat, &reply, &cut_off));
        espl_decision_free(out); /* of the attempt before */
        problems.len = notes->len = 0;
        const char *text = reply.data ? reply.data : "";
        ESPL_CHECK(st, done, espl_reply_parse(text, reply.len, v, out, &problems, notes));
        if (out->stop && !a->honour_stop)
            espl_str_puts(&problems, "\"stop\" is not allowed before the target is reached\n");
        /* A reply that ends early is often no JSON; only this tells its author why. */
        if (cut_off && problems.len > 0)
            espl_str_puts(&problems, "the reply was cut off at the most tokens it may have: be brief\n");
        ESPL_CHECK(st, done, espl_str_status(&problems));
        if (problems.len == 0) break;

        a->state.stats.invalid++;
        ESPL_CHECK(st, done, agent_record_text(a, v, "invalid", c.chat.attempt, problems.data, problems.len));
        if (c.chat.attempt == a->max_invalid) {
            espl_agent_put_joined(&told, &problems);
            ESPL_CHECK(st, done, espl_str_status(&told));
            st = ESPL_FAIL(ESPL_AGENT, "the agent gave no valid reply in %" PRId64 " attempts; last: %.400s",
                           a->max_invalid + 1, told.data);
            goto done;
        }
        ESPL_CHECK(st, done, conversation_answer_invalid(&c, v, text, reply.len, &problems));
    }
done:
    /* A cancelled wait or a full disk says nothing about the endpoint. */
    if (st == ESPL_AGENT) a->state.failures++;
    if (st == ESPL_OK) a->state.failures = 0;
    conversation_free(&c);
    espl_str_free(&reply);
    espl_str_free(&problems);
    espl_str_free(&told);
    return st;
}

/* Decides without the endpoint, which has just failed: the current error says why. */
static espl_status agent_fall_back(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    const char *why = espl_base_error_text();
    bool policy = a->fallback == ESPL_FALLBACK_POLICY;
    a->state.stats.fallbacks++;
    a->source = policy ? "policy (fallback)" : "stop (fallback)";
    ESPL_INFO("agent: %s; %s", why, policy ? "the policy decides this iteration" : "stopping");
    ESPL_TRY(agent_record_text(a, v, "fallback", 0, why, (int64_t)strlen(why)));
    espl_decision_free(out);
    notes->len = 0;
    if (policy) return agent_ask_policy(a, v, out, notes);
    ESPL_TRY(espl_decision_init(out, 0));
    espl_str reason = {0}; /* the report of the run shows it */
    espl_str_puts(&reason, why);
    ESPL_TRY(espl_str_status(&reason));
    espl_mem_free(&out->reason);
    out->reason = reason.data;
    out->stop = true;
    return ESPL_OK;
}

espl_status espl_agent_ask(espl_agent *a, const espl_agent_view *view, espl_decision *out) {
    espl_str notes = {0}, line = {0}, decision = {0};
    double start = espl_clock_now();
    espl_status st = ESPL_OK;
    *out = (espl_decision){0};
    ESPL_TRY(espl_view_check(view));
    a->source = espl_agent_backend_name(a->backend);
    switch (a->backend) {
    case ESPL_BACKEND_POLICY:
        st = agent_ask_policy(a, view, out, &notes);
        break;
    case ESPL_BACKEND_OPENAI:
        st = agent_ask_endpoint(a, view, out, &notes);
        break;
    case ESPL_BACKEND_REPLAY:
        st = espl_replay_ask(a->replay, view, out);
        break;
    case ESPL_BACKEND_COUNT:
        st = agent_unknown_backend(a->backend);
        break;
    }
    /* Only the endpoint fails with ESPL_AGENT. All else (no memory, no disk, cancelled) ends the run. */
    if (st == ESPL_AGENT && a->fallback != ESPL_FALLBACK_FAIL) st = agent_fall_back(a, view, out, &notes);
    double seconds = espl_clock_now() - start;
    a->state.stats.seconds += seconds;
    if (st != ESPL_OK) goto done;

    /* What the run carries out, in a form that backend "replay" reads back as the same decision. */
    espl_reply_put(&decision, out);
    ESPL_CHECK(st, done, espl_str_status(&decision));
    espl_json_writer w = espl_journal_begin(&line, view->iteration, "decision");
    espl_json_put_text(&w, "backend", espl_agent_backend_name(a->backend));
    espl_json_put_text(&w, "source", a->source);
    espl_json_put_fixed(&w, "seconds", seconds, 3);
    if (notes.len > 0) espl_json_put_bytes(&w, "notes", notes.data, notes.len);
    espl_json_put_raw(&w, "decision", decision.data, decision.len);
    st = espl_journal_end(a->dialogue, &w);
done:
    espl_str_free(&notes);
    espl_str_free(&decision);
    return st;
}
