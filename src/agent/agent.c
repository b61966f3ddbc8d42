/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: asks its backend, falls back when there is no usable answer, and records what was decided. Backends differ
 * only in where the JSON of a decision comes from:
 *
 *     espl_agent_ask -> agent_ask_own    -> espl_policy_propose, espl_random_propose -> espl_reply_parse
 *                    -> agent_ask_model  -> espl_conversation_decide -> espl_openai_ask, or host->complete
 *                                                                    -> espl_action_parse
 *                    -> espl_replay_ask  -> espl_reply_read
 *
 * Layers of the room, each using those behind it: agent; conversation; endpoint/, prompt, tools, forms; action, replay;
 * policy/, random; reply, find; predict; view, clean, state; options.
 */
#include "espalier/agent/agent.h"

#include "check.h"
#include "conversation.h"
#include "policy/policy.h"
#include "predict.h"
#include "prompt.h"
#include "random.h"
#include "replay.h"
#include "state.h"
#include "view.h"

#include "espalier/agent/reply.h"
#include "espalier/base/file.h"
#include "espalier/base/journal.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"
#include "espalier/base/region.h"

#include <inttypes.h>
#include <string.h>

enum { PROMPT_FILE_MAX = 1 << 20 };

struct espl_agent {
    espl_agent_options o;      /* of its texts only model_name is kept */
    char *model_name, *system; /* system: of agent.prompt_file; NULL: ours */
    espl_journal *dialogue;    /* NULL: no record */
    espl_replay *replay;       /* of backend REPLAY */
    espl_openai *openai;       /* of backend OPENAI */
    espl_agent_state state;
    const char *source; /* of the newest decision */
};

/* No default in the switches over the backend: the compiler names the places that a new backend must be added to. */
static espl_status agent_unknown_backend(espl_agent_backend b) {
    return ESPL_FAIL(ESPL_INTERNAL, "the agent has no backend %d", (int)b);
}

static espl_status agent_open_backend(espl_agent *a, const espl_agent_options *o) {
    switch (a->o.backend) {
    case ESPL_BACKEND_POLICY:
    case ESPL_BACKEND_LOCAL:
    case ESPL_BACKEND_RANDOM:
        return ESPL_OK; /* nothing to open: the run has the model */
    case ESPL_BACKEND_OPENAI:
        return espl_openai_open(&a->openai, o);
    case ESPL_BACKEND_REPLAY:
        return espl_replay_open(&a->replay, o->replay);
    case ESPL_BACKEND_COUNT:
        break;
    }
    return agent_unknown_backend(a->o.backend);
}

static int64_t agent_iteration_of(const void *options, int64_t i) {
    return ((const espl_agent_options *)options)->history[i].iteration;
}

/* Of a decision that is missing in the dialogue. What was said before it is lost. */
static espl_status agent_put_decision_again(const void *options, int64_t i, espl_json_writer *w) {
    const espl_agent_options *o = options;
    espl_str decision = {0};
    espl_reply_put(&decision, o->layout, &o->history[i].decision);
    espl_status st = espl_str_status(&decision);
    if (st == ESPL_OK) espl_json_put_raw(w, "decision", decision.data, decision.len);
    espl_str_free(&decision);
    return st;
}

/* Once, when the run starts: a file that changes later must not change the agent. */
static espl_status agent_read_prompt(espl_agent *a, const char *path) {
    int64_t len;
    ESPL_TRY(espl_file_read_regular(path, PROMPT_FILE_MAX, &a->system, &len));
    return espl_prompt_check_template(a->system, path);
}

espl_status espl_agent_create(espl_agent **out, const espl_agent_options *o) {
    espl_journal_source decisions = {.type = "decision",
                                     .n = o->n_history,
                                     .context = o,
                                     .iteration = agent_iteration_of,
                                     .put = agent_put_decision_again};
    espl_status st;
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "agent"));
    espl_agent *a = *out;
    ESPL_CHECK(st, failed, espl_agent_options_check(o));
    a->o = *o;
    a->source = "";
    if (o->model_name) ESPL_CHECK(st, failed, espl_str_dup(&a->model_name, o->model_name, "agent"));
    a->o.model_name = a->model_name;
    if (o->prompt_file && *o->prompt_file) ESPL_CHECK(st, failed, agent_read_prompt(a, o->prompt_file));
    ESPL_CHECK(st, failed, agent_open_backend(a, o));
    /* Last: it cuts the file, which a wrong option must leave as it is. */
    if (o->dialogue_path)
        ESPL_CHECK(st, failed, espl_journal_open(&a->dialogue, o->dialogue_path, o->keep_iterations, &decisions));
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
    espl_str_free(&(*a)->state.lessons);
    espl_mem_free(&(*a)->model_name);
    espl_mem_free(&(*a)->system);
    espl_mem_free(a);
}

espl_status espl_agent_seal_dialogue(espl_agent *a, int64_t iteration) {
    return espl_journal_seal(a->dialogue, iteration);
}

const char *espl_agent_source(const espl_agent *a) { return a->source; }

espl_agent_stats espl_agent_stats_get(const espl_agent *a) { return a->state.stats; }

static const char *agent_decided_by(const espl_agent_options *o, const espl_agent_stats *n) {
    bool fell_back =
        o->fallback == ESPL_FALLBACK_POLICY && (double)n->fallbacks > o->max_fallback_share * (double)n->decisions;
    return espl_agent_backend_name(fell_back ? ESPL_BACKEND_POLICY : o->backend);
}

const char *espl_agent_decided_by(const espl_agent *a) { return agent_decided_by(&a->o, &a->state.stats); }

espl_status espl_agent_state_decided_by(const espl_agent_options *o, const char *bytes, int64_t len,
                                        const char **name) {
    espl_agent_state state = {0};
    ESPL_TRY(espl_agent_state_read(&state, bytes, len));
    *name = agent_decided_by(o, &state.stats);
    espl_str_free(&state.lessons);
    return ESPL_OK;
}

espl_status espl_agent_state_save(const espl_agent *a, espl_str *out) {
    espl_agent_state_put(out, &a->state);
    return espl_str_status(out);
}

espl_status espl_agent_state_restore(espl_agent *a, const char *bytes, int64_t len) {
    ESPL_TRY(espl_agent_state_read(&a->state, bytes, len));
    if (a->state.failures >= a->o.give_up_after) a->state.failures = 0; /* somebody may have mended the endpoint */
    return ESPL_OK;
}

/* ------------------------------------------------------------------- ask */

/* The policy, or chance, writes JSON and the parser reads it: its decisions are checked and trimmed like anybody's. */
static espl_status agent_ask_own(espl_agent *a, espl_agent_backend who, const espl_agent_view *v, espl_decision *out,
                                 espl_str *notes) {
    espl_str json = {0}, problems = {0};
    espl_status st = who == ESPL_BACKEND_RANDOM ? espl_random_propose(v, &a->o.policy, a->o.run_seed, a->o.seed, &json)
                                                : espl_policy_propose(v, &a->o.policy, &json);
    ESPL_CHECK(st, done, st);
    ESPL_CHECK(st, done, espl_reply_parse(json.data, json.len, v, out, &problems, notes));
    if (problems.len > 0)
        st = ESPL_FAIL(ESPL_INTERNAL, "the %s backend's own decision is not valid: %.400s",
                       espl_agent_backend_name(who), problems.data);
done:
    espl_str_free(&json);
    espl_str_free(&problems);
    return st;
}

static espl_conversation agent_conversation(espl_agent *a, const espl_agent_view *v, const espl_agent_host *host) {
    return (espl_conversation){.o = &a->o,
                               .system = a->system,
                               .view = v,
                               .host = host,
                               .openai = a->openai,
                               .dialogue = a->dialogue,
                               .state = &a->state};
}

espl_status espl_agent_put_prompt(espl_agent *a, const espl_agent_view *view, const espl_agent_host *host,
                                  espl_str *out) {
    espl_conversation c = agent_conversation(a, view, host);
    return espl_conversation_put_prompt(&c, out);
}

/* ESPL_AGENT: no usable answer. */
static espl_status agent_ask_model(espl_agent *a, const espl_agent_view *v, const espl_agent_host *host,
                                   espl_decision *out, espl_str *notes) {
    espl_conversation c = agent_conversation(a, v, host);
    /* A dead server costs its time-outs in every iteration, hours in all. */
    if (a->state.failures >= a->o.give_up_after)
        return ESPL_FAIL(ESPL_AGENT, "the agent's model gave no usable answer in %" PRId64 " iterations: given up",
                         a->state.failures);
    espl_status st = espl_conversation_decide(&c, out, notes);
    /* A cancelled wait or a full disk says nothing about the endpoint. */
    if (st == ESPL_AGENT) a->state.failures++;
    if (st == ESPL_OK) a->state.failures = 0;
    return st;
}

/* Decides without the endpoint, which has just failed: the current error says why. */
static espl_status agent_fall_back(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    const char *why = espl_base_error_text();
    bool policy = a->o.fallback == ESPL_FALLBACK_POLICY;
    a->state.stats.fallbacks++;
    a->source = policy ? "policy (fallback)" : "stop (fallback)";
    ESPL_INFO("agent: %s; %s", why, policy ? "the policy decides this iteration" : "stopping");
    espl_str line = {0};
    espl_json_writer w = espl_journal_begin(&line, v->iteration, "fallback");
    espl_json_put_text(&w, "text", why);
    ESPL_TRY(espl_journal_end(a->dialogue, &w));
    espl_decision_free(out);
    notes->len = 0;
    if (policy) return agent_ask_own(a, ESPL_BACKEND_POLICY, v, out, notes);
    ESPL_TRY(espl_decision_init(out, 0));
    espl_str reason = {0}; /* the report of the run shows it */
    espl_str_puts(&reason, why);
    ESPL_TRY(espl_str_status(&reason));
    espl_mem_free(&out->reason);
    out->reason = reason.data;
    out->stop = true;
    return ESPL_OK;
}

espl_status espl_agent_ask(espl_agent *a, const espl_agent_view *view, const espl_agent_host *host,
                           espl_decision *out) {
    espl_str notes = {0}, line = {0}, decision = {0};
    double start = espl_clock_now();
    espl_status st = ESPL_OK;
    *out = (espl_decision){0};
    ESPL_TRY(espl_view_check(view));
    a->source = espl_agent_backend_name(a->o.backend);
    switch (a->o.backend) {
    case ESPL_BACKEND_POLICY:
    case ESPL_BACKEND_RANDOM:
        st = agent_ask_own(a, a->o.backend, view, out, &notes);
        break;
    case ESPL_BACKEND_OPENAI:
    case ESPL_BACKEND_LOCAL:
        st = agent_ask_model(a, view, host, out, &notes);
        break;
    case ESPL_BACKEND_REPLAY:
        st = espl_replay_ask(a->replay, view, out);
        break;
    case ESPL_BACKEND_COUNT:
        st = agent_unknown_backend(a->o.backend);
        break;
    }
    /* Only a language model fails with ESPL_AGENT. All else (no memory, no disk, cancelled) ends the run. */
    if (st == ESPL_AGENT && a->o.fallback != ESPL_FALLBACK_FAIL) st = agent_fall_back(a, view, out, &notes);
    double seconds = espl_clock_now() - start;
    a->state.stats.seconds += seconds;
    if (st != ESPL_OK) goto done;

    a->state.stats.decisions++;
    espl_predict_note(view, &a->o.policy, out);
    /* What the run carries out, in a form that backend "replay" reads back as the same decision. */
    espl_reply_put(&decision, view->layout, out);
    ESPL_CHECK(st, done, espl_str_status(&decision));
    espl_json_writer w = espl_journal_begin(&line, view->iteration, "decision");
    espl_json_put_text(&w, "backend", espl_agent_backend_name(a->o.backend));
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
