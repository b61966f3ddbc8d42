/* The protocol of /v1/chat/completions: requests, what to repeat, and where the answer stands. */
#include "internal.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

struct espl_openai {
    espl_http *http;
    char *model;
    double temperature;
    int64_t max_tokens, seed, retries, retry_base_ms, retry_max_ms;
};

/* --------------------------------------------------------------------- open */

static espl_status find_key(const char *name, const char **key) {
    *key = NULL;
    if (!name || !*name) return ESPL_OK;
    *key = getenv(name);
    if (!*key || !**key)
        return ESPL_FAIL(ESPL_CONFIG,
                         "agent: the environment variable %s holds no API key; name no variable for a server "
                         "without keys",
                         name);
    return ESPL_OK;
}

static espl_status open_openai(espl_openai *c, const espl_agent_options *o) {
    const char *key;
    espl_str url = {0};
    const char *base = o->base_url;
    int64_t n = (int64_t)strlen(base);
    while (n > 0 && base[n - 1] == '/') n--;
    c->temperature = o->temperature;
    c->max_tokens = o->max_tokens;
    c->seed = o->seed;
    c->retries = o->retries;
    c->retry_base_ms = o->retry_base_ms;
    c->retry_max_ms = o->retry_max_ms;
    ESPL_TRY(find_key(o->api_key_env, &key));
    ESPL_TRY(espl_mem_alloc(&c->model, (int64_t)strlen(o->model) + 1, 1, "agent"));
    memcpy(c->model, o->model, strlen(o->model) + 1);
    espl_str_put(&url, base, n);
    espl_str_puts(&url, "/chat/completions");
    espl_status st = espl_str_status(&url);
    if (st == ESPL_OK) st = espl_http_open(&c->http, url.data, key, o);
    if (st == ESPL_OK) espl_http_on_wait(c->http, o->cancelled, o->cancelled_arg);
    espl_str_free(&url);
    return st;
}

espl_status espl_openai_open(espl_openai **out, const espl_agent_options *o) {
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "agent"));
    espl_status st = open_openai(*out, o);
    if (st != ESPL_OK) espl_openai_close(out);
    return st;
}

void espl_openai_close(espl_openai **c) {
    if (!*c) return;
    espl_http_close(&(*c)->http);
    espl_mem_free(&(*c)->model);
    espl_mem_free(c);
}

/* ------------------------------------------------------------------ request */

static espl_status write_request(const espl_openai *c, const espl_chat *chat, espl_str *body) {
    espl_str_puts(body, "{\"model\":");
    espl_str_put_json(body, c->model, (int64_t)strlen(c->model));
    if (c->temperature >= 0) {
        espl_str_puts(body, ",\"temperature\":");
        espl_put_number(body, c->temperature);
    }
    if (c->max_tokens > 0) espl_str_printf(body, ",\"max_tokens\":%lld", (long long)c->max_tokens);
    if (c->seed >= 0) espl_str_printf(body, ",\"seed\":%lld", (long long)c->seed);
    if (*chat->response_format) espl_str_puts(body, ",\"response_format\":{\"type\":\"json_object\"}");
    espl_str_puts(body, ",\"stream\":false,\"messages\":");
    espl_str_put(body, chat->messages->data, chat->messages->len);
    espl_str_puts(body, "]}");
    return espl_str_status(body);
}

static espl_status record_request(const espl_chat *chat, const espl_str *body) {
    espl_str s = {0};
    if (!chat->dialogue) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, chat->iteration, "request");
    espl_str_printf(&s, ",\"backend\":\"openai\",\"attempt\":%lld,\"body\":", (long long)chat->attempt);
    espl_str_put(&s, body->data, body->len);
    return espl_journal_end(chat->dialogue, &w);
}

/* ------------------------------------------------------------------- answer */

static int64_t token_count(const cJSON *doc, const char *key) {
    const cJSON *usage = cJSON_GetObjectItemCaseSensitive(doc, "usage");
    const cJSON *n = cJSON_GetObjectItemCaseSensitive(usage, key);
    return cJSON_IsNumber(n) && n->valuedouble >= 0 && n->valuedouble < 1e12 ? (int64_t)n->valuedouble : 0;
}

/* What one HTTP reply came to. */
typedef struct answer {
    bool good, cut_off;
    char error[256];
    int64_t prompt_tokens, completion_tokens;
} answer;

static void read_message(const cJSON *doc, answer *a, espl_str *text) {
    const cJSON *choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(doc, "choices"), 0);
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(choice, "message");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(message, "content");
    const cJSON *finish = cJSON_GetObjectItemCaseSensitive(choice, "finish_reason");
    a->cut_off = cJSON_IsString(finish) && strcmp(finish->valuestring, "length") == 0;
    a->prompt_tokens = token_count(doc, "prompt_tokens");
    a->completion_tokens = token_count(doc, "completion_tokens");
    a->good = cJSON_IsObject(message) && (cJSON_IsString(content) || cJSON_IsNull(content));
    if (!a->good)
        snprintf(a->error, sizeof a->error, "the reply has no choices[0].message.content");
    else if (cJSON_IsString(content))
        espl_str_puts(text, content->valuestring);
}

/* Error bodies in one clean line, to tell the user what the server said. */
static void read_refusal(const espl_http_reply *r, answer *a) {
    espl_str s = {0};
    espl_put_clean(&s, r->body.data ? r->body.data : "", r->body.len, 180);
    if (r->status >= 300 && r->status < 400)
        snprintf(a->error, sizeof a->error, "HTTP %lld: redirects are not followed; name the final URL",
                 (long long)r->status);
    else
        snprintf(a->error, sizeof a->error, "HTTP %lld: %s", (long long)r->status, s.data ? s.data : "");
    espl_str_free(&s);
}

static void read_answer(const espl_http_reply *r, answer *a, espl_str *text) {
    *a = (answer){0};
    if (r->result != ESPL_HTTP_DONE) {
        snprintf(a->error, sizeof a->error, "%s", r->error);
        return;
    }
    if (r->status < 200 || r->status >= 300) return read_refusal(r, a);
    cJSON *doc = cJSON_ParseWithLength(r->body.data, (size_t)r->body.len);
    if (doc)
        read_message(doc, a, text);
    else
        snprintf(a->error, sizeof a->error, "the reply is not JSON");
    cJSON_Delete(doc);
}

static espl_status record_reply(const espl_chat *chat, const espl_http_reply *r, const answer *a,
                                const espl_str *text) {
    espl_str s = {0};
    if (!chat->dialogue) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, chat->iteration, a->good ? "reply" : "error");
    espl_str_printf(&s, ",\"backend\":\"openai\",\"attempt\":%lld,\"http\":%lld,\"seconds\":%.3f",
                    (long long)chat->attempt, (long long)r->status, r->seconds);
    if (a->good) {
        espl_str_printf(&s, ",\"prompt_tokens\":%lld,\"completion_tokens\":%lld", (long long)a->prompt_tokens,
                        (long long)a->completion_tokens);
        if (a->cut_off) espl_str_puts(&s, ",\"cut_off\":true");
        espl_json_put_bytes(&w, "text", text->data, text->len);
    } else
        espl_json_put_bytes(&w, "error", a->error, (int64_t)strlen(a->error));
    return espl_journal_end(chat->dialogue, &w);
}

/* ----------------------------------------------------------------- one call */

typedef enum verdict { ANSWERED, AGAIN, WITHOUT_FORMAT, REFUSED, CANCELLED } verdict;

static verdict judge(const espl_http_reply *r, const answer *a, bool format) {
    if (r->result == ESPL_HTTP_CANCELLED) return CANCELLED;
    if (a->good) return ANSWERED;
    if (r->result == ESPL_HTTP_TRANSIENT) return AGAIN;
    if (r->result == ESPL_HTTP_BROKEN) return REFUSED;
    if (r->status >= 200 && r->status < 300) return AGAIN; /* a proxy's page, a cut-off body */
    if (r->status == 408 || r->status == 425 || r->status == 429 || r->status >= 500) return AGAIN;
    return format && (r->status == 400 || r->status == 422) ? WITHOUT_FORMAT : REFUSED;
}

/* Posts once and records it. */
static espl_status call(espl_openai *c, const espl_chat *chat, const espl_str *body, espl_str *text, verdict *v,
                        answer *a, int64_t *retry_after_ms) {
    espl_http_reply r;
    chat->stats->requests++;
    espl_http_post(c->http, body->data, body->len, &r);
    espl_http_hide_key(c->http, &r.body);
    text->len = 0;
    read_answer(&r, a, text);
    *v = judge(&r, a, *chat->response_format);
    *retry_after_ms = r.retry_after_ms;
    chat->stats->prompt_tokens += a->prompt_tokens;
    chat->stats->completion_tokens += a->completion_tokens;
    espl_status st = record_reply(chat, &r, a, text);
    espl_http_reply_free(&r);
    return st;
}

static int64_t pause_ms(const espl_openai *c, int64_t repetition, int64_t retry_after_ms) {
    int64_t ms = c->retry_base_ms;
    for (int64_t k = 0; k < repetition && ms < c->retry_max_ms; k++) ms *= 2;
    if (retry_after_ms > ms) ms = retry_after_ms;
    return ms < c->retry_max_ms ? ms : c->retry_max_ms;
}

static espl_status record_wait(const espl_chat *chat, int64_t ms) {
    espl_str s = {0};
    chat->stats->retries++;
    if (!chat->dialogue) return ESPL_OK;
    espl_json_writer w = espl_journal_begin(&s, chat->iteration, "retry");
    espl_str_printf(&s, ",\"attempt\":%lld,\"wait_ms\":%lld", (long long)chat->attempt, (long long)ms);
    return espl_journal_end(chat->dialogue, &w);
}

/* Repeats while that makes sense. *v is never AGAIN afterwards: REFUSED when the repetitions are used up. */
static espl_status call_patiently(espl_openai *c, const espl_chat *chat, espl_str *text, verdict *v, answer *a) {
    espl_str body = {0};
    int64_t retry_after_ms;
    espl_status st = write_request(c, chat, &body);
    if (st == ESPL_OK) st = record_request(chat, &body);
    *v = AGAIN;
    for (int64_t k = 0; st == ESPL_OK && *v == AGAIN; k++) {
        st = call(c, chat, &body, text, v, a, &retry_after_ms);
        if (st != ESPL_OK || *v != AGAIN) break;
        if (k == c->retries) {
            *v = REFUSED;
            break;
        }
        int64_t ms = pause_ms(c, k, retry_after_ms);
        ESPL_DEBUG("agent: %s; again in %lld ms", a->error, (long long)ms);
        st = record_wait(chat, ms);
        if (!espl_http_wait(c->http, ms)) *v = CANCELLED;
    }
    espl_str_free(&body);
    return st;
}

espl_status espl_openai_chat(espl_openai *c, const espl_chat *chat, espl_str *text, bool *cut_off) {
    verdict v;
    answer a = {0};
    ESPL_TRY(call_patiently(c, chat, text, &v, &a));
    if (v == WITHOUT_FORMAT) { /* perhaps response_format is what it does not like */
        *chat->response_format = false;
        ESPL_TRY(call_patiently(c, chat, text, &v, &a));
        if (v != ANSWERED) *chat->response_format = true; /* it was not */
    }
    if (v == CANCELLED) return ESPL_FAIL(ESPL_STOPPED, "stopped while waiting for the agent");
    if (v != ANSWERED) return ESPL_FAIL(ESPL_AGENT, "the agent's endpoint gives no answer: %s", a.error);
    *cut_off = a.cut_off;
    return espl_str_status(text);
}
