/* The agent: asks its backend, has invalid replies mended, falls back, and records all of it. */
#include "internal.h"

#include <string.h>

struct espl_agent {
    espl_agent_backend backend;
    espl_agent_fallback fallback;
    int64_t max_invalid, give_up_after, prompt_bytes;
    bool honour_stop;
    char *model_name;
    espl_policy_options policy;
    espl_journal *dialogue;
    espl_replay *replay;
    espl_openai *openai;
    espl_agent_memory memory;
    const char *source;
};

/* ------------------------------------------------------------------- create */

static espl_status open_agent(espl_agent *a, const espl_agent_options *o) {
    ESPL_TRY(espl_agent_options_check(o));
    a->backend = o->backend;
    a->fallback = o->fallback;
    a->max_invalid = o->max_invalid;
    a->give_up_after = o->give_up_after;
    a->prompt_bytes = o->prompt_bytes;
    a->honour_stop = o->honour_stop;
    a->policy = o->policy;
    a->memory.response_format = true;
    a->source = "";
    if (o->model_name) {
        ESPL_TRY(espl_mem_alloc(&a->model_name, (int64_t)strlen(o->model_name) + 1, 1, "agent"));
        memcpy(a->model_name, o->model_name, strlen(o->model_name) + 1);
    }
    if (o->backend == ESPL_BACKEND_REPLAY) ESPL_TRY(espl_replay_open(&a->replay, o->replay));
    if (o->backend == ESPL_BACKEND_OPENAI) ESPL_TRY(espl_openai_open(&a->openai, o));
    return o->dialogue_path ? espl_journal_open(&a->dialogue, o->dialogue_path, o->keep_iterations) : ESPL_OK;
}

espl_status espl_agent_create(espl_agent **out, const espl_agent_options *o) {
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "agent"));
    espl_status st = open_agent(*out, o);
    if (st != ESPL_OK) espl_agent_destroy(out);
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

espl_agent_stats espl_agent_stats_get(const espl_agent *a) { return a->memory.stats; }

espl_status espl_agent_state_save(const espl_agent *a, espl_str *out) {
    espl_agent_memory_put(out, &a->memory);
    return espl_str_status(out);
}

espl_status espl_agent_state_restore(espl_agent *a, const char *bytes, int64_t len) {
    return espl_agent_memory_read(&a->memory, bytes, len);
}

/* -------------------------------------------------------------------- record */

static espl_status record_decision(espl_agent *a, const espl_agent_view *v, const espl_decision *d, double seconds,
                                   const espl_str *notes) {
    espl_str s = {0};
    if (!a->dialogue) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, v->iteration, "decision");
    espl_str_printf(&s, ",\"backend\":\"%s\",\"source\":\"%s\",\"seconds\":%.3f", espl_agent_backend_name(a->backend),
                    a->source, seconds);
    if (notes->len > 0) espl_json_put_bytes(&w, "notes", notes->data, notes->len);
    espl_str_puts(&s, ",\"decision\":");
    espl_agent_put_decision(&s, d);
    return espl_journal_end(a->dialogue, &w);
}

static espl_status record_text(espl_agent *a, const espl_agent_view *v, const char *type, int64_t attempt,
                               const char *text, int64_t len) {
    espl_str s = {0};
    if (!a->dialogue) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, v->iteration, type);
    espl_str_printf(&s, ",\"attempt\":%lld", (long long)attempt);
    espl_json_put_bytes(&w, "text", text, len);
    return espl_journal_end(a->dialogue, &w);
}

/* -------------------------------------------------------------------- policy */

static espl_status parse_policy(const espl_agent_view *v, const espl_str *json, espl_decision *out, espl_str *notes) {
    espl_str problems = {0};
    espl_status st = espl_agent_parse(json->data, json->len, v, out, &problems, notes);
    if (st == ESPL_OK && problems.len > 0)
        st = ESPL_FAIL(ESPL_INTERNAL, "the policy's own decision is not valid: %.400s", problems.data);
    espl_str_free(&problems);
    return st;
}

static espl_status ask_policy(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    espl_str json = {0};
    espl_status st = espl_policy_propose(v, &a->policy, &json);
    if (st == ESPL_OK) st = parse_policy(v, &json, out, notes);
    espl_str_free(&json);
    return st;
}

/* ------------------------------------------------------------------ endpoint */

static void put_message(espl_str *messages, const char *role, const char *text, int64_t len) {
    espl_str_printf(messages, "%s{\"role\":\"%s\",\"content\":", messages->len ? "," : "[", role);
    espl_str_put_json(messages, text ? text : "", text ? len : 0);
    espl_str_puts(messages, "}");
}

static espl_status open_conversation(espl_agent *a, const espl_agent_view *v, espl_str *messages) {
    espl_str text = {0};
    espl_agent_put_system(&text, v, a->model_name);
    put_message(messages, "system", text.data, text.len);
    text.len = 0;
    espl_status st = espl_agent_put_user(&text, v, a->prompt_bytes);
    if (st == ESPL_OK) put_message(messages, "user", text.data, text.len);
    espl_str_free(&text);
    return st == ESPL_OK ? espl_str_status(messages) : st;
}

/* The invalid reply, shortened, and what is wrong with it. */
static espl_status tell_problems(espl_agent *a, const espl_agent_view *v, int64_t attempt, espl_str *messages,
                                 const espl_str *reply, const espl_str *problems) {
    espl_str text = {0};
    a->memory.stats.invalid++;
    espl_put_clean(&text, reply->data ? reply->data : "", reply->len, 4096);
    put_message(messages, "assistant", text.data, text.len);
    text.len = 0;
    espl_str_puts(&text, "This decision cannot be carried out:\n");
    espl_str_put(&text, problems->data, problems->len);
    espl_str_printf(&text,
                    "Mend it and answer with one JSON object and nothing else, as in\n"
                    "{\"reasoning\": \"why\", \"prune\": {\"layers.0.mlp.up_proj\": %.6g}, \"stop\": false}\n",
                    espl_view_example(v));
    put_message(messages, "user", text.data, text.len);
    espl_str_free(&text);
    ESPL_TRY(record_text(a, v, "invalid", attempt, problems->data, problems->len));
    return espl_str_status(messages);
}

static espl_status read_reply(const espl_agent *a, const espl_agent_view *v, const espl_str *reply, bool cut_off,
                              espl_decision *out, espl_str *problems, espl_str *notes) {
    problems->len = notes->len = 0;
    ESPL_TRY(espl_agent_parse(reply->data ? reply->data : "", reply->len, v, out, problems, notes));
    if (out->stop && !a->honour_stop) espl_str_puts(problems, "\"stop\" is not allowed before the target is reached\n");
    if (cut_off && problems->len > 0)
        espl_str_puts(problems, "the reply was cut off at the most tokens it may have: be brief\n");
    return espl_str_status(problems);
}

/* Asks until a reply is valid. *valid false: none was, *problems tells why the last was not. */
static espl_status converse(espl_agent *a, const espl_agent_view *v, espl_str *messages, espl_decision *out,
                            espl_str *problems, espl_str *notes) {
    espl_str reply = {0};
    bool cut_off;
    espl_chat chat = {.messages = messages,
                      .iteration = v->iteration,
                      .dialogue = a->dialogue,
                      .stats = &a->memory.stats,
                      .response_format = &a->memory.response_format};
    espl_status st = ESPL_OK;
    for (; st == ESPL_OK && chat.attempt <= a->max_invalid; chat.attempt++) {
        st = espl_openai_chat(a->openai, &chat, &reply, &cut_off);
        if (st != ESPL_OK) break;
        espl_decision_free(out);
        st = read_reply(a, v, &reply, cut_off, out, problems, notes);
        if (st != ESPL_OK || problems->len == 0) break;
        st = tell_problems(a, v, chat.attempt, messages, &reply, problems);
    }
    espl_str_free(&reply);
    return st;
}

static espl_status fail_with_problems(const espl_agent *a, const espl_str *problems) {
    espl_str s = {0};
    espl_put_problems(&s, problems);
    espl_status st = espl_str_status(&s);
    if (st == ESPL_OK)
        st = ESPL_FAIL(ESPL_AGENT, "the agent gave no valid reply in %lld attempts; last: %.400s",
                       (long long)a->max_invalid + 1, s.data);
    espl_str_free(&s);
    return st;
}

static espl_status ask_endpoint(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    espl_str messages = {0}, problems = {0};
    if (a->memory.failures >= a->give_up_after)
        return ESPL_FAIL(ESPL_AGENT, "the agent's endpoint gave no usable answer in %lld iterations: given up",
                         (long long)a->memory.failures);
    espl_status st = open_conversation(a, v, &messages);
    if (st == ESPL_OK) st = converse(a, v, &messages, out, &problems, notes);
    if (st == ESPL_OK && problems.len > 0) st = fail_with_problems(a, &problems);
    if (st == ESPL_AGENT) a->memory.failures++;
    if (st == ESPL_OK) a->memory.failures = 0;
    espl_str_free(&messages);
    espl_str_free(&problems);
    return st;
}

/* ------------------------------------------------------------------ fallback */

static espl_status stop_with(espl_decision *out, const char *reason) {
    espl_str s = {0};
    espl_str_puts(&s, reason);
    ESPL_TRY(espl_str_status(&s));
    espl_mem_free(&out->reason);
    out->reason = s.data;
    out->stop = true;
    return ESPL_OK;
}

static espl_status fall_back(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    const char *why = espl_base_error_text();
    if (a->fallback == ESPL_FALLBACK_FAIL) return ESPL_AGENT;
    a->memory.stats.fallbacks++;
    ESPL_INFO("agent: %s; %s", why,
              a->fallback == ESPL_FALLBACK_POLICY ? "the policy decides this iteration" : "stopping");
    ESPL_TRY(record_text(a, v, "fallback", 0, why, (int64_t)strlen(why)));
    espl_decision_free(out);
    notes->len = 0;
    if (a->fallback == ESPL_FALLBACK_POLICY) {
        a->source = "policy (fallback)";
        return ask_policy(a, v, out, notes);
    }
    a->source = "stop (fallback)";
    ESPL_TRY(espl_decision_init(out, 0));
    return stop_with(out, why);
}

/* ----------------------------------------------------------------------- ask */

static espl_status ask_backend(espl_agent *a, const espl_agent_view *v, espl_decision *out, espl_str *notes) {
    a->source = espl_agent_backend_name(a->backend);
    if (a->backend == ESPL_BACKEND_POLICY) return ask_policy(a, v, out, notes);
    if (a->backend == ESPL_BACKEND_REPLAY) return espl_replay_ask(a->replay, v, out);
    espl_status st = ask_endpoint(a, v, out, notes);
    return st == ESPL_AGENT ? fall_back(a, v, out, notes) : st;
}

espl_status espl_agent_ask(espl_agent *a, const espl_agent_view *view, espl_decision *out) {
    espl_str notes = {0};
    double start = espl_clock_now();
    *out = (espl_decision){0};
    ESPL_TRY(espl_view_check(view));
    espl_status st = ask_backend(a, view, out, &notes);
    double seconds = espl_clock_now() - start;
    a->memory.stats.seconds += seconds;
    if (st == ESPL_OK) st = record_decision(a, view, out, seconds, &notes);
    espl_str_free(&notes);
    return st;
}
