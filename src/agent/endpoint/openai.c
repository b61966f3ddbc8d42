/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The protocol of /v1/chat/completions. Servers differ in what they accept (tools, response_format), in how they fail
 * (status codes, HTML pages of proxies, bodies that end early) and in what they return; openai_judge is the one place
 * that decides whether a failure is worth another request. Everything sent and received is recorded in the dialogue.
 */
#include "endpoint/openai.h"

#include "clean.h"
#include "endpoint/http.h"
#include "forms.h"

#include "espalier/base/integer.h"
#include "espalier/base/json_writer.h"
#include "espalier/base/log.h"
#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    CALLS_MAX = 16,          /* of one reply: only the first is looked at, and each is answered */
    REFUSAL_SHOWN_MAX = 180, /* bytes of an error body that are told: the first sentence of it */
    HTTP_REQUEST_TIMEOUT = 408,
    HTTP_TOO_EARLY = 425,
    HTTP_TOO_MANY_REQUESTS = 429,
    HTTP_BAD_REQUEST = 400,
    HTTP_UNAUTHORIZED = 401,
    HTTP_FORBIDDEN = 403,
    HTTP_NOT_FOUND = 404,
    HTTP_UNPROCESSABLE = 422
};
static const char OPENAI_PATH[] = "/chat/completions";
/* Token counts from a server: larger ones are nonsense, and must not overflow the totals. */
static const double TOKENS_MAX = 1e12;

struct espl_openai {
    espl_http *http;
    char *model, *url;
    double temperature;
    bool tools;
    cJSON *extra; /* members for every request; NULL: none */
    int64_t max_tokens, seed, retries, retry_base_ms, retry_max_ms;
};

/* Reads agent.extra_body. What the program itself must write cannot be replaced. */
static espl_status openai_read_extra(const char *text, cJSON **out) {
    static const char *const own[] = {"model", "messages", "stream", "tools", "n"};
    if (!text || !*text) return ESPL_OK;
    *out = cJSON_ParseWithOpts(text, NULL, true);
    if (!cJSON_IsObject(*out)) return ESPL_FAIL(ESPL_CONFIG, "agent.extra_body is not a JSON object: %.200s", text);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (cJSON_GetObjectItemCaseSensitive(*out, own[i]))
            return ESPL_FAIL(ESPL_CONFIG, "agent.extra_body: \"%s\" is written by the program itself", own[i]);
    return ESPL_OK;
}

/* The key is read from the environment here and handed to the HTTP client; nothing else of the program sees it. */
espl_status espl_openai_open(espl_openai **out, const espl_agent_options *o) {
    const char *key = o->api_key_env && *o->api_key_env ? getenv(o->api_key_env) : NULL;
    int64_t n = (int64_t)strcspn(o->base_url, "?");
    const char *query = o->base_url + n; /* some providers have their version there */
    espl_str url = {0};
    espl_status st;
    *out = NULL;
    if (o->api_key_env && *o->api_key_env && (!key || !*key))
        return ESPL_FAIL(ESPL_CONFIG,
                         "agent: the environment variable that api_key_env names holds no API key; name no "
                         "variable for a server without keys");
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "agent"));
    espl_openai *c = *out;
    c->temperature = o->temperature;
    c->tools = o->tools == ESPL_TOOLS_AUTO && o->view == ESPL_VIEW_FULL && o->questions > 0;
    c->max_tokens = o->max_tokens;
    c->seed = o->seed;
    c->retries = o->retries;
    c->retry_base_ms = o->retry_base_ms;
    c->retry_max_ms = o->retry_max_ms;
    ESPL_CHECK(st, done, openai_read_extra(o->extra_body, &c->extra));
    ESPL_CHECK(st, done, espl_str_dup(&c->model, o->model, "agent"));
    while (n > 0 && o->base_url[n - 1] == '/') n--; /* "//chat" is another path to some servers */
    espl_str_put(&url, o->base_url, n);
    int64_t path_bytes = (int64_t)strlen(OPENAI_PATH);
    if (n < path_bytes || strncmp(o->base_url + n - path_bytes, OPENAI_PATH, (size_t)path_bytes) != 0)
        espl_str_puts(&url, OPENAI_PATH); /* else the whole URL was given */
    espl_str_puts(&url, query);
    ESPL_CHECK(st, done, espl_str_status(&url));
    ESPL_CHECK(st, done, espl_str_dup(&c->url, url.data, "agent"));
    ESPL_CHECK(st, done, espl_http_open(&c->http, url.data, key, o));
done:
    espl_str_free(&url);
    if (st != ESPL_OK) espl_openai_close(out);
    return st;
}

void espl_openai_close(espl_openai **c) {
    if (!*c) return;
    espl_http_close(&(*c)->http);
    cJSON_Delete((*c)->extra);
    espl_mem_free(&(*c)->model);
    espl_mem_free(&(*c)->url);
    espl_mem_free(c);
}

void espl_openai_hide_key(const espl_openai *c, char *text, int64_t len) { espl_http_hide_key(c->http, text, len); }

void espl_message_free(espl_message *m) {
    espl_str_free(&m->text);
    espl_str_free(&m->calls);
    espl_str_free(&m->call_id);
}

void espl_answer_free(espl_answer *a) {
    espl_str_free(&a->text);
    espl_str_free(&a->calls);
}

bool espl_openai_calls_tools(const espl_openai *c, const espl_agent_state *state) {
    return c->tools && !(state->refused & ESPL_REFUSED_TOOLS);
}

/* --------------------------------------------------------------- request */

static void openai_put_tools(espl_json_writer *w, const espl_chat *chat) {
    espl_json_open_array(w, "tools", ESPL_JSON_COMPACT);
    for (int k = 0; k < ESPL_ACTION_COUNT; k++) {
        if (!(chat->offered & 1U << k)) continue;
        espl_json_open_object(w, NULL, ESPL_JSON_COMPACT);
        espl_json_put_text(w, "type", "function");
        espl_json_open_object(w, "function", ESPL_JSON_COMPACT);
        espl_json_put_text(w, "name", espl_action_name((espl_action_kind)k));
        espl_json_put_text(w, "description", espl_action_meaning((espl_action_kind)k));
        espl_forms_put_parameters(w, "parameters", chat->view, (espl_action_kind)k);
        espl_json_close(w);
        espl_json_close(w);
    }
    espl_json_close(w);
}

static void openai_put_response_format(espl_json_writer *w, const espl_chat *chat) {
    espl_reply_form form = chat->state->form;
    espl_json_open_object(w, "response_format", ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", espl_reply_form_name(form == ESPL_REPLY_GUIDED ? ESPL_REPLY_OBJECT : form));
    if (form == ESPL_REPLY_GUIDED) espl_form_put_schema(w, "schema", chat->form);
    if (form == ESPL_REPLY_SCHEMA) {
        espl_json_open_object(w, "json_schema", ESPL_JSON_COMPACT);
        espl_json_put_text(w, "name", "action");
        espl_form_put_schema(w, "schema", chat->form);
        espl_json_close(w);
    }
    espl_json_close(w);
}

static void openai_put_message(espl_json_writer *w, const espl_message *m) {
    espl_json_open_object(w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "role", m->role);
    espl_json_put_bytes(w, "content", m->text.data ? m->text.data : "", m->text.len);
    if (m->calls.len > 0) espl_json_put_raw(w, "tool_calls", m->calls.data, m->calls.len);
    if (m->call_id.len > 0) espl_json_put_bytes(w, "tool_call_id", m->call_id.data, m->call_id.len);
    espl_json_close(w);
}

/* Appends agent.extra_body. */
static void openai_put_extra(espl_json_writer *w, const espl_openai *c) {
    for (const cJSON *i = c->extra ? c->extra->child : NULL; i; i = i->next) {
        char *json = cJSON_PrintUnformatted(i);
        if (json) espl_json_put_raw(w, i->string, json, (int64_t)strlen(json));
        w->out->failed = w->out->failed || !json;
        cJSON_free(json);
    }
}

/* True if the program writes this member itself: agent.extra_body has not replaced it. */
static bool openai_writes(const espl_openai *c, const char *member) {
    return !cJSON_GetObjectItemCaseSensitive(c->extra, member);
}

/* Writes the request, and records it as it is sent. Members that are switched off are left out, because some models
 * refuse them even with a neutral value. */
static espl_status openai_write_request(const espl_openai *c, const espl_chat *chat, espl_str *body) {
    espl_json_writer w = espl_json_writer_on(body);
    espl_json_open_object(&w, NULL, ESPL_JSON_COMPACT);
    espl_json_put_text(&w, "model", c->model);
    int64_t refused = chat->state->refused;
    if (c->temperature >= 0 && !(refused & ESPL_REFUSED_TEMPERATURE) && openai_writes(c, "temperature"))
        espl_json_put_shortest(&w, "temperature", c->temperature);
    if (c->max_tokens > 0 && openai_writes(c, "max_tokens") &&
        openai_writes(c, "max_completion_tokens")) /* models that think have it under a name of its own */
        espl_json_put_i64(&w, refused & ESPL_REFUSED_MAX_TOKENS ? "max_completion_tokens" : "max_tokens",
                          c->max_tokens);
    if (c->seed >= 0 && !(refused & ESPL_REFUSED_SEED) && openai_writes(c, "seed"))
        espl_json_put_i64(&w, "seed", c->seed);
    if (espl_openai_calls_tools(c, chat->state)) /* a format for the text would keep some servers from calls */
        openai_put_tools(&w, chat);
    else if (chat->state->form != ESPL_REPLY_PLAIN && openai_writes(c, "response_format"))
        openai_put_response_format(&w, chat);
    openai_put_extra(&w, c);
    espl_json_put_bool(&w, "stream", false);
    espl_json_open_array(&w, "messages", ESPL_JSON_COMPACT);
    for (int64_t k = 0; k < chat->n_messages; k++) openai_put_message(&w, &chat->messages[k]);
    espl_json_close(&w);
    espl_json_close(&w);
    ESPL_TRY(espl_str_status(body));

    /* Recorded once, not per repetition: those send the same bytes. The key is in a header, and so not in here. */
    espl_str line = {0};
    w = espl_journal_begin(&line, chat->iteration, "request");
    espl_json_put_text(&w, "backend", "openai");
    espl_json_put_i64(&w, "attempt", chat->attempt);
    espl_json_put_raw(&w, "body", body->data, body->len);
    return espl_journal_end(chat->dialogue, &w);
}

/* ---------------------------------------------------------------- answer */

/* Counts are the server's word: missing ones are 0, absurd ones too. */
static int64_t openai_token_count(const cJSON *doc, const char *key) {
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(doc, "usage");
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(usage, key);
    return cJSON_IsNumber(n) && n->valuedouble >= 0 && n->valuedouble < TOKENS_MAX ? (int64_t)n->valuedouble : 0;
}

/* Appends the text of a message's content: a string, or a list of parts of which those of type "text" are the reply. */
static void openai_put_content(const cJSON *content, espl_str *text) {
    const cJSON *part;
    const char *whole = cJSON_GetStringValue(content);
    if (whole) espl_str_puts(text, whole);
    if (!cJSON_IsArray(content)) return;
    cJSON_ArrayForEach(part, content) {
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
        const char *words = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "text"));
        if (type && words && (strcmp(type, "text") == 0 || strcmp(type, "output_text") == 0))
            espl_str_puts(text, words);
    }
}

static void openai_put_json(const cJSON *value, espl_str *out) {
    char *json = cJSON_PrintUnformatted(value);
    if (json)
        espl_str_puts(out, json);
    else
        out->failed = true;
    cJSON_free(json);
}

/* Keeps the first calls as one line of JSON, to be sent back as they came: the server matches answers to calls by their
 * id. One that is missing is made up, because strict servers want it back. */
static void openai_put_calls(const cJSON *calls, espl_str *out) {
    cJSON *kept = cJSON_CreateArray();
    const cJSON *call;
    char id[32];
    int n = 0;
    cJSON_ArrayForEach(call, calls) {
        if (!cJSON_IsObject(call) || n == CALLS_MAX) continue;
        cJSON *copy = cJSON_Duplicate(call, true);
        if (!copy || !cJSON_AddItemToArray(kept, copy)) out->failed = true;
        snprintf(id, sizeof id, "call_%d", n++);
        if (cJSON_IsString(cJSON_GetObjectItemCaseSensitive(copy, "id"))) continue;
        cJSON_DeleteItemFromObjectCaseSensitive(copy, "id");
        cJSON_AddStringToObject(copy, "id", id);
    }
    if (n > 0) openai_put_json(kept, out);
    cJSON_Delete(kept);
}

bool espl_openai_call_action(const espl_str *calls, int64_t k, espl_str *action, espl_str *id) {
    cJSON *doc = calls->len > 0 ? cJSON_ParseWithLength(calls->data, (size_t)calls->len) : NULL;
    const cJSON *call = cJSON_GetArrayItem(doc, (int)k);
    const cJSON *function = cJSON_GetObjectItemCaseSensitive(call, "function");
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(function, "name"));
    const char *call_id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(call, "id"));
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(function, "arguments");
    const char *text = cJSON_GetStringValue(given); /* JSON in a string; some servers send the object itself */
    cJSON *arguments = text ? cJSON_Parse(text) : cJSON_Duplicate(given, true);
    bool exists = call != NULL;
    action->len = id->len = 0;
    if (call_id) espl_str_puts(id, call_id);
    if (cJSON_IsObject(arguments) && name) {
        cJSON_DeleteItemFromObjectCaseSensitive(arguments, "action");
        cJSON_AddStringToObject(arguments, "action", name);
        openai_put_json(arguments, action);
    } else if (text) {
        espl_str_puts(action, text);
    }
    cJSON_Delete(arguments);
    cJSON_Delete(doc);
    return exists;
}

/* Proxies answer 200 with {"error": {"message": ..., "code": 429}}: its words are told, and its code counts. */
static bool openai_read_error(const cJSON *doc, espl_openai_outcome *a) {
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(doc, "error");
    const cJSON *code = cJSON_GetObjectItemCaseSensitive(error, "code");
    const char *words =
        cJSON_GetStringValue(cJSON_IsObject(error) ? cJSON_GetObjectItemCaseSensitive(error, "message") : error);
    espl_str s = {0};
    if (!words) return false;
    if (cJSON_IsNumber(code) && code->valuedouble >= HTTP_BAD_REQUEST && code->valuedouble < 600)
        a->status = (int64_t)code->valuedouble;
    espl_agent_put_clean(&s, words, (int64_t)strlen(words), REFUSAL_SHOWN_MAX);
    snprintf(a->error, sizeof a->error, "the server answers with an error: %s", s.data ? s.data : "");
    espl_str_free(&s);
    return true;
}

/* Reads the answer from a JSON value. */
static void openai_read_value(const cJSON *doc, espl_openai_outcome *a, espl_answer *said) {
    /* cJSON's getters take NULL, so that a missing member at any level leads to NULL here. */
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(doc, "choices"), 0);
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(choice, "message");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    const cJSON *finish = cJSON_GetObjectItemCaseSensitive(choice, "finish_reason");
    const cJSON *calls = cJSON_GetObjectItemCaseSensitive(message, "tool_calls");
    bool called = cJSON_IsArray(calls) && cJSON_GetArraySize(calls) > 0;
    const char *thoughts = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "reasoning_content"));
    if (!thoughts) thoughts = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "reasoning"));
    said->cut_off = cJSON_IsString(finish) && strcmp(finish->valuestring, "length") == 0;
    a->prompt_tokens = openai_token_count(doc, "prompt_tokens");
    a->completion_tokens = openai_token_count(doc, "completion_tokens");
    /* null: a model that called tools, or thought until max_tokens. That is an (empty) answer. */
    a->good = cJSON_IsObject(message) && (cJSON_IsString(content) || cJSON_IsArray(content) || cJSON_IsNull(content) ||
                                          called || (!content && thoughts));
    if (a->good) {
        openai_put_content(content, &said->text);
        if (called) openai_put_calls(calls, &said->calls);
        /* A server that takes all of a reply for thoughts, because their end was not marked. The last decision in them
         * is the answer, unless they were cut off before it. */
        if (said->text.len == 0 && !called && thoughts && !said->cut_off) espl_str_puts(&said->text, thoughts);
    } else if (!openai_read_error(doc, a)) {
        snprintf(a->error, sizeof a->error, "the reply has no choices[0].message.content");
    }
}

void espl_openai_read_body(const espl_str *body, espl_openai_outcome *a, espl_answer *said) {
    static const char event[] = "data:";
    cJSON *doc = cJSON_ParseWithLength(body->data, (size_t)body->len);
    if (doc)
        openai_read_value(doc, a, said);
    else if (body->len >= (int64_t)sizeof event - 1 && memcmp(body->data, event, sizeof event - 1) == 0)
        snprintf(a->error, sizeof a->error,
                 "the reply is a stream of events although \"stream\" is false: set the server not to stream");
    else
        snprintf(a->error, sizeof a->error, "the reply is not JSON");
    cJSON_Delete(doc);
}

/* Reads the answer, or tells in one clean line why there is none. */
static void openai_read_answer(const espl_openai *c, const espl_http_reply *r, espl_openai_outcome *a,
                               espl_answer *said) {
    *a = (espl_openai_outcome){.status = r->status};
    if (r->result != ESPL_HTTP_DONE) {
        snprintf(a->error, sizeof a->error, "%s", r->error);
        return;
    }
    if (r->status >= 300 && r->status < 400) {
        snprintf(a->error, sizeof a->error, "HTTP %" PRId64 ": redirects are not followed; name the final URL",
                 r->status);
        return;
    }
    if (r->status < 200 || r->status >= 300) {
        espl_str s = {0};
        if (r->status == HTTP_NOT_FOUND) { /* usually agent.base_url lacks "/v1", or has too much */
            espl_agent_put_clean(&s, c->url, (int64_t)strlen(c->url), REFUSAL_SHOWN_MAX / 2);
            espl_str_puts(&s, " is not found: ");
        }
        espl_agent_put_clean(&s, r->body.data ? r->body.data : "", r->body.len, REFUSAL_SHOWN_MAX);
        snprintf(a->error, sizeof a->error, "HTTP %" PRId64 ": %s", r->status, s.data ? s.data : "");
        espl_str_free(&s);
        return;
    }
    espl_openai_read_body(&r->body, a, said);
}

typedef enum openai_verdict {
    OPENAI_ANSWERED,
    OPENAI_AGAIN,    /* may succeed later */
    OPENAI_DISLIKED, /* may succeed without a member of the request */
    OPENAI_REFUSED,
    OPENAI_DENIED, /* the key is wrong or missing: no later iteration would fare better */
    OPENAI_CANCELLED
} openai_verdict;

/* The text has the word, not as a part of another one. */
static bool openai_names(const char *text, const char *word) {
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += n) {
        bool starts = p == text || (!isalnum((unsigned char)p[-1]) && p[-1] != '_');
        if (starts && !isalnum((unsigned char)p[n]) && p[n] != '_') return true;
    }
    return false;
}

/* The error of a failure speaks of a member that a later request can do without. */
static bool openai_names_member(const char *error) {
    static const char *const members[] = {"response_format", "tools", "max_tokens", "temperature", "seed"};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (openai_names(error, members[i])) return true;
    return false;
}

/* Decides what follows from one reply. A server that does not know a member of the request answers 400 or 422, and so
 * does one that dislikes something else, which the request without the member will show. llama-cpp-python answers 500
 * to a value that it does not know, in words that name the member. */
static openai_verdict openai_judge(const espl_http_reply *r, const espl_openai_outcome *a) {
    if (r->result == ESPL_HTTP_CANCELLED) return OPENAI_CANCELLED;
    if (a->good) return OPENAI_ANSWERED;
    if (r->result == ESPL_HTTP_TRANSIENT) return OPENAI_AGAIN;
    if (r->result == ESPL_HTTP_BROKEN) return OPENAI_REFUSED;
    if (a->status >= 200 && a->status < 300) return OPENAI_AGAIN; /* a proxy's page, a body that ends early */
    if (a->status >= 500 && openai_names_member(a->error)) return OPENAI_DISLIKED;
    if (a->status == HTTP_REQUEST_TIMEOUT || a->status == HTTP_TOO_EARLY || a->status == HTTP_TOO_MANY_REQUESTS ||
        a->status >= 500)
        return OPENAI_AGAIN;
    if (a->status == HTTP_UNAUTHORIZED || a->status == HTTP_FORBIDDEN) return OPENAI_DENIED;
    return a->status == HTTP_BAD_REQUEST || a->status == HTTP_UNPROCESSABLE ? OPENAI_DISLIKED : OPENAI_REFUSED;
}

/* Marks the member of the request that the error names as refused or, if it names none, asks for less of a form: no
 * tools, then a looser response_format. False: nothing is left to give up. */
static bool openai_drop_member(const espl_openai *c, espl_agent_state *state, const char *error) {
    const struct {
        int64_t bit;
        const char *name;
        bool sent;
    } members[] = {{ESPL_REFUSED_MAX_TOKENS, "max_tokens", c->max_tokens > 0},
                   {ESPL_REFUSED_TEMPERATURE, "temperature", c->temperature >= 0},
                   {ESPL_REFUSED_SEED, "seed", c->seed >= 0}};
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].sent && !(state->refused & members[i].bit) && openai_names(error, members[i].name)) {
            state->refused |= members[i].bit;
            return true;
        }
    if (espl_openai_calls_tools(c, state)) {
        state->refused |= ESPL_REFUSED_TOOLS;
        return true;
    }
    if (state->form == ESPL_REPLY_PLAIN) return false;
    state->form++;
    return true;
}

/* ------------------------------------------------------------------- ask */

/* Posts the body once and records what came back. */
static espl_status openai_post(espl_openai *c, const espl_chat *chat, const espl_str *body, espl_answer *said,
                               espl_openai_outcome *a, openai_verdict *verdict, int64_t *retry_after_ms) {
    espl_agent_stats *stats = &chat->state->stats;
    espl_http_reply r;
    espl_str line = {0};
    stats->requests++;
    espl_http_post(c->http, body->data, body->len, &r);
    espl_http_hide_key(c->http, r.body.data, r.body.len); /* before anything of it is recorded or logged */
    said->text.len = said->calls.len = 0;
    said->cut_off = false;
    openai_read_answer(c, &r, a, said);
    espl_openai_hide_key(c, said->text.data, said->text.len); /* decoding may have put it together again */
    espl_openai_hide_key(c, said->calls.data, said->calls.len);
    *verdict = openai_judge(&r, a);
    *retry_after_ms = r.retry_after_ms;
    stats->prompt_tokens += a->prompt_tokens;
    stats->completion_tokens += a->completion_tokens;

    espl_json_writer w = espl_journal_begin(&line, chat->iteration, a->good ? "reply" : "error");
    espl_json_put_text(&w, "backend", "openai");
    espl_json_put_i64(&w, "attempt", chat->attempt);
    espl_json_put_i64(&w, "http", r.status);
    espl_json_put_fixed(&w, "seconds", r.seconds, 3);
    if (a->good) {
        espl_json_put_i64(&w, "prompt_tokens", a->prompt_tokens);
        espl_json_put_i64(&w, "completion_tokens", a->completion_tokens);
        if (said->cut_off) espl_json_put_bool(&w, "cut_off", true);
        espl_json_put_bytes(&w, "text", said->text.data ? said->text.data : "", said->text.len);
        if (said->calls.len > 0) espl_json_put_raw(&w, "tool_calls", said->calls.data, said->calls.len);
    } else {
        espl_json_put_text(&w, "error", a->error);
    }
    espl_str_free(&r.body);
    return espl_journal_end(chat->dialogue, &w);
}

/* Posts until there is an answer or a repetition is no use. *verdict is never OPENAI_AGAIN. */
static espl_status openai_post_patiently(espl_openai *c, const espl_chat *chat, espl_answer *said,
                                         espl_openai_outcome *a, openai_verdict *verdict) {
    espl_str body = {0};
    int64_t backoff_ms = c->retry_base_ms, retry_after_ms;
    espl_status st;
    ESPL_CHECK(st, done, openai_write_request(c, chat, &body));
    for (int64_t repetition = 0;; repetition++) {
        ESPL_CHECK(st, done, openai_post(c, chat, &body, said, a, verdict, &retry_after_ms));
        if (*verdict != OPENAI_AGAIN) break;
        if (repetition == c->retries) {
            *verdict = OPENAI_REFUSED;
            break;
        }
        /* A server's Retry-After counts where it asks for more, but cannot hold a batch job for a day. */
        int64_t ms = espl_min_i64(espl_max_i64(backoff_ms, retry_after_ms), c->retry_max_ms);
        if (backoff_ms < c->retry_max_ms) backoff_ms *= 2; /* no jitter: a run repeats exactly */
        ESPL_DEBUG("agent: %s; again in %" PRId64 " ms", a->error, ms);
        chat->state->stats.retries++;
        espl_str line = {0};
        espl_json_writer w = espl_journal_begin(&line, chat->iteration, "retry");
        espl_json_put_i64(&w, "attempt", chat->attempt);
        espl_json_put_i64(&w, "wait_ms", ms);
        ESPL_CHECK(st, done, espl_journal_end(chat->dialogue, &w));
        if (!espl_http_wait(c->http, ms)) { /* the job is told to stop */
            *verdict = OPENAI_CANCELLED;
            break;
        }
    }
done:
    espl_str_free(&body);
    return st;
}

/* A server that refuses a member of the request gets it without that member and, if that helps, all later ones, in
 * resumed runs too. */
espl_status espl_openai_ask(espl_openai *c, const espl_chat *chat, espl_answer *answer) {
    espl_openai_outcome a = {0};
    openai_verdict verdict;
    espl_agent_state *state = chat->state;
    espl_reply_form form = state->form;
    int64_t refused = state->refused;
    do ESPL_TRY(openai_post_patiently(c, chat, answer, &a, &verdict));
    while (verdict == OPENAI_DISLIKED && openai_drop_member(c, state, a.error));
    if (verdict != OPENAI_ANSWERED) { /* that was not the reason */
        state->form = form;
        state->refused = refused;
    }
    if (verdict == OPENAI_CANCELLED) return ESPL_FAIL(ESPL_STOPPED, "stopped while waiting for the agent");
    if (verdict == OPENAI_DENIED)
        return ESPL_FAIL(ESPL_DENIED, "the agent's endpoint denies access (agent.api_key_env): %s", a.error);
    if (verdict != OPENAI_ANSWERED) return ESPL_FAIL(ESPL_AGENT, "the agent's endpoint gives no answer: %s", a.error);
    return espl_str_status(answer->calls.failed ? &answer->calls : &answer->text);
}
