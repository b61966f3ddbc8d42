/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversation of an iteration. Each round sends all messages so far and reads one action: a question is answered
 * in the next message, an invalid reply with its problems, and a valid decision ends the loop. Every round is bounded:
 * by agent.questions for questions, by agent.max_invalid for problems.
 */
#include "conversation.h"

#include "clean.h"
#include "forms.h"
#include "predict.h"
#include "prompt.h"
#include "tools.h"

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/memory.h"
#include "espalier/base/rng.h"

#include <inttypes.h>
#include <string.h>

/* Bytes of a reply that its author reads again: enough to recognise it, without spending its context. */
enum { REPLY_REPEATED_MAX = 4096 };
/* Of a local model's context: a reply may take the fourth part; an answer takes up to so many tokens. */
enum { REPLY_PART = 4, ANSWER_TOKENS = 2048 };

typedef struct talk {
    const espl_conversation *with;
    espl_message *messages; /* those of `chat`, which borrows them */
    int64_t room;           /* messages that fit */
    espl_chat chat;
    espl_answer said;   /* the newest */
    espl_str reply, id; /* the newest action as JSON; of a tool call: its id, else empty */
    espl_action action;
    espl_str problems;
    bool called; /* a tool, once at least */
    int64_t invalid, questions, experiments;
    int64_t tokens; /* of the newest prompt and reply of a local model */
} talk;

/* -------------------------------------------------------------- messages */

/* Adds an empty message to fill in. */
static espl_status talk_add_message(talk *t, const char *role, espl_message **out) {
    if (t->chat.n_messages == t->room) {
        t->room += 16;
        ESPL_TRY(espl_mem_resize(&t->messages, t->room, sizeof *t->messages, "agent"));
    }
    t->chat.messages = t->messages;
    *out = &t->messages[t->chat.n_messages++];
    **out = (espl_message){.role = role};
    return ESPL_OK;
}

static espl_status talk_open(talk *t) {
    const espl_conversation *c = t->with;
    espl_prompt_options how = {.system = c->system,
                               .model_name = c->o->model_name,
                               .max_bytes = c->o->prompt_bytes,
                               .groups = c->o->table == ESPL_TABLE_GROUPS,
                               .paper = c->o->view == ESPL_VIEW_PAPER,
                               .questions = c->o->tools == ESPL_TOOLS_NONE ? 0 : c->o->questions,
                               .experiments = c->host && c->host->measure ? c->o->experiments : 0,
                               .calls = c->openai && espl_openai_calls_tools(c->openai, c->state),
                               .lessons = &c->state->lessons};
    espl_message *m;
    ESPL_TRY(talk_add_message(t, "system", &m));
    espl_prompt_put_system(&m->text, c->view, &how);
    ESPL_TRY(espl_str_status(&m->text));
    ESPL_TRY(talk_add_message(t, "user", &m));
    return espl_prompt_put_user(&m->text, c->view, &how);
}

/* Adds the newest reply and the answer to it. The author reads its own words again, cleaned: they go into a request and
 * into the record. Calls go back as they came, each with an answer, or servers refuse the next request. */
static espl_status talk_answer(talk *t, const espl_str *answer) {
    static const char one_by_one[] = "Not looked at: make one call at a time.";
    bool called = t->said.calls.len > 0;
    espl_message *m;
    ESPL_TRY(talk_add_message(t, "assistant", &m));
    espl_agent_put_clean(&m->text, t->said.text.data ? t->said.text.data : "", t->said.text.len, REPLY_REPEATED_MAX);
    espl_str_put(&m->calls, t->said.calls.data, t->said.calls.len);
    ESPL_TRY(espl_str_status(m->calls.failed ? &m->calls : &m->text));
    for (int64_t k = 0; k == 0 || espl_openai_call_action(&t->said.calls, k, &t->reply, &t->id); k++) {
        ESPL_TRY(talk_add_message(t, called ? "tool" : "user", &m));
        if (k == 0) espl_openai_call_action(&t->said.calls, 0, &t->reply, &t->id);
        if (called) espl_str_put(&m->call_id, t->id.data, t->id.len);
        if (k == 0)
            espl_str_put(&m->text, answer->data, answer->len);
        else
            espl_str_puts(&m->text, one_by_one);
        ESPL_TRY(espl_str_status(m->call_id.failed ? &m->call_id : &m->text));
    }
    return ESPL_OK;
}

static void talk_free(talk *t) {
    for (int64_t k = 0; k < t->chat.n_messages; k++) espl_message_free(&t->messages[k]);
    espl_mem_free(&t->messages);
    espl_answer_free(&t->said);
    espl_action_free(&t->action);
    espl_str_free(&t->reply);
    espl_str_free(&t->id);
    espl_str_free(&t->problems);
}

/* Appends a line {..., "attempt", "action", "text"} to the record; action NULL: without it. */
static espl_status talk_record(const talk *t, const char *type, const char *action, const espl_str *text) {
    espl_str line = {0};
    espl_json_writer w = espl_journal_begin(&line, t->chat.iteration, type);
    espl_json_put_i64(&w, "attempt", t->chat.attempt);
    if (action) espl_json_put_text(&w, "action", action);
    espl_json_put_bytes(&w, "text", text->data ? text->data : "", text->len);
    return espl_journal_end(t->with->dialogue, &w);
}

/* ---------------------------------------------------------------- rounds */

/* Tokens of a local model's reply. Its forms need a few hundred, and the prompt must fit beside it. */
static int64_t talk_max_tokens(const espl_agent_options *o) {
    int64_t most = o->context / REPLY_PART;
    return o->max_tokens > 0 ? espl_min_i64(o->max_tokens, most) : most;
}

/* The actions that are open now. A model that has asked enough is offered the decision alone. */
static unsigned talk_offer(const talk *t) {
    const espl_conversation *c = t->with;
    unsigned offered = 1U << ESPL_ACTION_PROPOSE;
    if (c->o->view == ESPL_VIEW_PAPER || c->o->tools == ESPL_TOOLS_NONE || t->questions >= c->o->questions)
        return offered;
    /* Another question and its answer might leave no room for the decision. */
    if (!c->openai && t->tokens + ANSWER_TOKENS + 2 * talk_max_tokens(c->o) > c->o->context) return offered;
    offered |= 1U << ESPL_ACTION_PREDICT | 1U << ESPL_ACTION_INSPECT;
    if (c->host && c->host->measure && t->experiments < c->o->experiments) offered |= 1U << ESPL_ACTION_MEASURE;
    return offered;
}

/* Problems of a valid action at this point of the conversation. */
static void talk_check(talk *t) {
    const espl_agent_view *v = t->with->view;
    const espl_action *a = &t->action;
    bool decides = a->kind == ESPL_ACTION_PROPOSE;
    if (!(t->chat.offered & 1U << a->kind))
        espl_str_printf(&t->problems, "\"%s\" is not possible %sin this iteration\n", espl_action_name(a->kind),
                        t->questions > 0 ? "any more " : "");
    if (decides && a->plan.stop && !t->with->o->honour_stop)
        espl_str_puts(&t->problems, "\"stop\" is not allowed before the target is reached\n");
    if (!decides && a->kind != ESPL_ACTION_INSPECT && a->plan.n == 0)
        espl_str_puts(&t->problems, "the plan prunes nothing\n");
    int64_t before = a->kind == ESPL_ACTION_INSPECT ? 0 : espl_predict_repeated(v, &a->plan);
    if (before > 0)
        espl_str_printf(&t->problems,
                        "this plan was rolled back in iteration %" PRId64
                        ", and the model is the same as then: choose other linears, or smaller steps\n",
                        before);
}

/* What the model reads, as an endpoint's request is recorded. */
static espl_status talk_record_messages(const talk *t) {
    espl_str line = {0};
    espl_json_writer w = espl_journal_begin(&line, t->chat.iteration, "request");
    espl_json_put_text(&w, "backend", "local");
    espl_json_put_i64(&w, "attempt", t->chat.attempt);
    espl_json_open_object(&w, "body", ESPL_JSON_COMPACT);
    espl_json_open_array(&w, "messages", ESPL_JSON_COMPACT);
    for (int64_t k = 0; k < t->chat.n_messages; k++) {
        espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
        espl_json_put_text(&w, "role", t->messages[k].role);
        espl_json_put_bytes(&w, "content", t->messages[k].text.data, t->messages[k].text.len);
        espl_json_close(&w);
    }
    espl_json_close(&w);
    espl_json_close(&w);
    return espl_journal_end(t->with->dialogue, &w);
}

/* Another one for each reply: a model that repeats itself would never leave an invalid one. */
static uint64_t talk_seed(const talk *t) {
    espl_rng r;
    espl_rng_seed(&r, (uint64_t)t->with->o->run_seed, (uint64_t)t->chat.iteration, (uint64_t)t->with->o->seed);
    return espl_rng_next(&r) + (uint64_t)t->chat.attempt;
}

/* What is wrong with the machine or the run, rather than with this one reply. */
static bool talk_ends_run(espl_status st) {
    return st == ESPL_STOPPED || st == ESPL_IO || st == ESPL_NOMEM || st == ESPL_COMM;
}

/* Has the run's own model reply. Its failures to fit the context count as no usable answer. */
static espl_status talk_complete(talk *t) {
    const espl_conversation *c = t->with;
    espl_agent_message *messages = NULL;
    espl_agent_completion reply = {0};
    espl_str line = {0};
    espl_status st;
    if (!c->host || !c->host->complete) return ESPL_FAIL(ESPL_INTERNAL, "the agent has no model to ask");
    ESPL_TRY(talk_record_messages(t));
    ESPL_CHECK(st, done, espl_mem_alloc(&messages, t->chat.n_messages, sizeof *messages, "agent"));
    for (int64_t k = 0; k < t->chat.n_messages; k++)
        messages[k] = (espl_agent_message){t->messages[k].role, t->messages[k].text.data};
    espl_agent_prompt prompt = {.messages = messages,
                                .n_messages = t->chat.n_messages,
                                .form = t->chat.form,
                                .max_tokens = talk_max_tokens(c->o),
                                .temperature = c->o->temperature > 0 ? c->o->temperature : 0,
                                .seed = talk_seed(t)};
    c->state->stats.requests++;
    double start = espl_clock_now();
    st = c->host->complete(c->host->arg, &prompt, &reply);
    if (st != ESPL_OK && !talk_ends_run(st))
        st = ESPL_FAIL(ESPL_AGENT, "%s (agent.context, agent.table, agent.prompt_bytes, agent.max_tokens)",
                       espl_base_error_text());
    ESPL_CHECK(st, done, st);
    t->said.text.len = t->said.calls.len = 0;
    espl_str_put(&t->said.text, reply.text.data, reply.text.len);
    t->said.cut_off = reply.cut_off;
    t->tokens = reply.prompt_tokens + reply.tokens;
    c->state->stats.prompt_tokens += reply.prompt_tokens;
    c->state->stats.completion_tokens += reply.tokens;

    espl_json_writer w = espl_journal_begin(&line, t->chat.iteration, "reply");
    espl_json_put_text(&w, "backend", "local");
    espl_json_put_i64(&w, "attempt", t->chat.attempt);
    espl_json_put_fixed(&w, "seconds", espl_clock_now() - start, 3);
    espl_json_put_i64(&w, "prompt_tokens", reply.prompt_tokens);
    espl_json_put_i64(&w, "completion_tokens", reply.tokens);
    if (reply.cut_off) espl_json_put_bool(&w, "cut_off", true);
    espl_json_put_bytes(&w, "text", reply.text.data ? reply.text.data : "", reply.text.len);
    st = espl_journal_end(c->dialogue, &w);
done:
    espl_str_free(&reply.text);
    espl_mem_free(&messages);
    return st;
}

/* Sends the messages and gets the reply, in the form of what is open now where the model can be held to it. */
static espl_status talk_ask(talk *t) {
    const espl_conversation *c = t->with;
    espl_forms *forms = NULL;
    espl_status st;
    t->chat.offered = talk_offer(t);
    espl_forms_extent extent = c->o->view == ESPL_VIEW_PAPER ? ESPL_FORMS_PAPER
                               : c->openai                   ? ESPL_FORMS_WHOLE
                                                             : ESPL_FORMS_BRIEF;
    ESPL_TRY(espl_forms_create(&forms, c->view, t->chat.offered, extent));
    t->chat.form = espl_forms_reply(forms);
    st = c->openai ? espl_openai_ask(c->openai, &t->chat, &t->said) : talk_complete(t);
    espl_forms_free(&forms);
    return st;
}

/* A server may quote the key in pieces, which decoding or leaving out thoughts joins. */
static void talk_hide_key(talk *t) {
    espl_action *a = &t->action;
    char *texts[] = {t->reply.data, t->problems.data, a->lessons.data, a->linears, a->plan.reason, a->plan.reflection};
    for (size_t i = 0; t->with->openai && i < sizeof texts / sizeof *texts; i++)
        if (texts[i]) espl_openai_hide_key(t->with->openai, texts[i], (int64_t)strlen(texts[i]));
}

/* Sends the messages, and reads the reply into t->action, t->problems and *notes. */
static espl_status talk_listen(talk *t, espl_str *notes) {
    const espl_conversation *c = t->with;
    ESPL_TRY(talk_ask(t));
    espl_action_free(&t->action);
    t->problems.len = notes->len = 0;
    t->called = t->called || t->said.calls.len > 0;
    if (!espl_openai_call_action(&t->said.calls, 0, &t->reply, &t->id)) {
        t->reply.len = 0;
        espl_str_put(&t->reply, t->said.text.data, t->said.text.len);
    }
    ESPL_TRY(espl_str_status(&t->reply));
    talk_hide_key(t);
    ESPL_TRY(espl_action_parse(t->reply.data ? t->reply.data : "", t->reply.len, c->view, &c->o->policy, c->o->view,
                               &t->action, &t->problems, notes));
    talk_hide_key(t);
    if (t->problems.len == 0) talk_check(t);
    /* A reply that ends early is often no JSON; only this tells its author why. */
    if (t->said.cut_off && t->problems.len > 0)
        espl_str_puts(&t->problems, "the reply was cut off at the most tokens it may have: be brief\n");
    return espl_str_status(&t->problems);
}

/* Returns an invalid reply to its author. ESPL_AGENT: it was the last that was allowed. */
static espl_status talk_correct(talk *t) {
    const espl_conversation *c = t->with;
    espl_str text = {0};
    espl_status st;
    c->state->stats.invalid++;
    /* A server may take tools and show its model none of them. The form of a text is then what holds the model. */
    if (c->openai && !t->called && c->state->stats.questions == 0) c->state->refused |= ESPL_REFUSED_TOOLS;
    ESPL_CHECK(st, done, talk_record(t, "invalid", NULL, &t->problems));
    if (t->invalid++ == c->o->max_invalid) {
        espl_agent_put_joined(&text, &t->problems);
        ESPL_CHECK(st, done, espl_str_status(&text));
        st = ESPL_FAIL(ESPL_AGENT, "the agent gave no valid reply in %" PRId64 " attempts; last: %.400s", t->invalid,
                       text.data);
        goto done;
    }
    espl_prompt_put_correction(&text, c->view, &t->problems);
    ESPL_CHECK(st, done, espl_str_status(&text));
    st = talk_answer(t, &text);
done:
    espl_str_free(&text);
    return st;
}

/* Answers a question. */
static espl_status talk_reply(talk *t, const espl_str *notes) {
    const espl_conversation *c = t->with;
    espl_action *a = &t->action;
    espl_str text = {0};
    espl_status st;
    c->state->stats.questions++;
    t->questions++;
    if (a->kind == ESPL_ACTION_PREDICT) {
        espl_tools_put_prediction(&text, c->view, &c->o->policy, &a->plan, notes);
    } else if (a->kind == ESPL_ACTION_INSPECT) {
        espl_tools_put_inspection(&text, c->view, a->linears);
    } else {
        espl_quality after = {0};
        bool accepted = false;
        c->state->stats.experiments++;
        t->experiments++;
        espl_predict_note(c->view, &c->o->policy, &a->plan);
        ESPL_CHECK(st, done, c->host->measure(c->host->arg, &a->plan, &after, &accepted));
        espl_tools_put_measurement(&text, c->view, &c->o->policy, &a->plan, &after, accepted,
                                   c->o->experiments - t->experiments);
    }
    if (t->questions == c->o->questions) espl_str_puts(&text, "\nNo questions are left: decide now.");
    ESPL_CHECK(st, done, espl_str_status(&text));
    ESPL_CHECK(st, done, talk_record(t, "answer", espl_action_name(a->kind), &text));
    st = talk_answer(t, &text);
done:
    espl_str_free(&text);
    return st;
}

espl_status espl_conversation_decide(const espl_conversation *c, espl_decision *out, espl_str *notes) {
    talk t = {.with = c,
              .chat = {.iteration = c->view->iteration, .view = c->view, .dialogue = c->dialogue, .state = c->state}};
    espl_status st;
    ESPL_CHECK(st, done, talk_open(&t));
    for (;; t.chat.attempt++) {
        ESPL_CHECK(st, done, talk_listen(&t, notes));
        if (t.action.has_lessons && t.problems.len == 0) { /* the list is the agent's, whole */
            espl_str_free(&c->state->lessons);
            c->state->lessons = t.action.lessons;
            t.action.lessons = (espl_str){0};
        }
        if (t.problems.len > 0) {
            ESPL_CHECK(st, done, talk_correct(&t));
        } else if (t.action.kind != ESPL_ACTION_PROPOSE) {
            ESPL_CHECK(st, done, talk_reply(&t, notes));
        } else {
            *out = t.action.plan;
            t.action.plan = (espl_decision){0};
            break;
        }
    }
done:
    talk_free(&t);
    return st;
}

espl_status espl_conversation_put_prompt(const espl_conversation *c, espl_str *out) {
    talk t = {.with = c};
    espl_status st = talk_open(&t);
    for (int64_t k = 0; st == ESPL_OK && k < t.chat.n_messages; k++) {
        espl_str_printf(out, "--- %s ---\n", t.messages[k].role);
        espl_str_put(out, t.messages[k].text.data, t.messages[k].text.len);
        espl_str_puts(out, "\n");
    }
    talk_free(&t);
    return st == ESPL_OK ? espl_str_status(out) : st;
}
