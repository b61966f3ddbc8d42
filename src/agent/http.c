/* One POST at a time over libcurl: bounded in time and size, no redirects, errors in words. */
#include "internal.h"

#include <ctype.h>
#include <curl/curl.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct espl_http {
    CURL *curl;
    struct curl_slist *headers;
    char *url, *key, *ca_file;
    int64_t connect_ms, total_ms, max_bytes;
    bool loopback;
    bool (*cancelled)(void *);
    void *cancelled_arg;
};

/* --------------------------------------------------------------------- open */

static espl_status copy_text(char **out, const char *text) {
    *out = NULL;
    if (!text || !*text) return ESPL_OK;
    ESPL_TRY(espl_mem_alloc(out, (int64_t)strlen(text) + 1, 1, "agent"));
    memcpy(*out, text, strlen(text) + 1);
    return ESPL_OK;
}

static bool has_part(CURLU *url, CURLUPart part) {
    char *text = NULL;
    bool there = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return there;
}

static bool is_loopback(CURLU *url) {
    char *host = NULL;
    if (curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK) return false;
    bool yes = strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 || strcmp(host, "[::1]") == 0;
    curl_free(host);
    return yes;
}

static espl_status check_url(espl_http *h, CURLU *url, const char *text) {
    bool scheme = strncasecmp(text, "http://", 7) == 0 || strncasecmp(text, "https://", 8) == 0;
    if (!scheme || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK)
        return ESPL_FAIL(ESPL_CONFIG, "agent: \"%.200s\" is no http or https URL", text);
    if (has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD))
        return ESPL_FAIL(ESPL_CONFIG, "agent: the URL must not hold a user or password: name a key variable instead");
    h->loopback = is_loopback(url);
    return ESPL_OK;
}

static espl_status check_key(const char *key) {
    for (const char *p = key; *p; p++)
        if (!isgraph((unsigned char)*p))
            return ESPL_FAIL(ESPL_CONFIG, "agent: the API key holds a space, control or non-ASCII character");
    return ESPL_OK;
}

static espl_status add_header(espl_http *h, const char *line) {
    struct curl_slist *longer = curl_slist_append(h->headers, line);
    if (!longer) return ESPL_FAIL(ESPL_NOMEM, "no memory for HTTP headers");
    h->headers = longer;
    return ESPL_OK;
}

static espl_status set_key(espl_http *h, const char *key) {
    espl_str line = {0};
    if (!key) return ESPL_OK;
    ESPL_TRY(check_key(key));
    ESPL_TRY(copy_text(&h->key, key));
    espl_str_printf(&line, "Authorization: Bearer %s", key);
    espl_status st = espl_str_status(&line);
    if (st == ESPL_OK) st = add_header(h, line.data);
    espl_str_free(&line);
    return st;
}

static espl_status open_http(espl_http *h, const char *url, const char *key, const espl_agent_options *o) {
    CURLU *parsed = curl_url();
    if (!parsed || !h->curl) {
        curl_url_cleanup(parsed);
        return ESPL_FAIL(ESPL_NOMEM, "no memory for libcurl");
    }
    espl_status st = check_url(h, parsed, url);
    curl_url_cleanup(parsed);
    if (st != ESPL_OK) return st;
    ESPL_TRY(copy_text(&h->url, url));
    ESPL_TRY(copy_text(&h->ca_file, o->ca_file));
    ESPL_TRY(add_header(h, "Content-Type: application/json"));
    ESPL_TRY(add_header(h, "Accept: application/json"));
    ESPL_TRY(add_header(h, "Expect:"));
    h->connect_ms = o->connect_ms;
    h->total_ms = o->total_ms;
    h->max_bytes = o->max_reply_bytes;
    return set_key(h, key);
}

espl_status espl_http_open(espl_http **out, const char *url, const char *key, const espl_agent_options *o) {
    *out = NULL;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return ESPL_FAIL(ESPL_INTERNAL, "libcurl cannot be initialised");
    espl_status st = espl_mem_alloc(out, 1, sizeof **out, "HTTP client");
    if (st != ESPL_OK) {
        curl_global_cleanup();
        return st;
    }
    (*out)->curl = curl_easy_init();
    st = open_http(*out, url, key, o);
    if (st != ESPL_OK) espl_http_close(out);
    return st;
}

void espl_http_close(espl_http **h) {
    if (!*h) return;
    curl_easy_cleanup((*h)->curl);
    curl_slist_free_all((*h)->headers);
    espl_mem_free(&(*h)->url);
    espl_mem_free(&(*h)->ca_file);
    if ((*h)->key) explicit_bzero((*h)->key, strlen((*h)->key));
    espl_mem_free(&(*h)->key);
    espl_mem_free(h);
    curl_global_cleanup();
}

void espl_http_on_wait(espl_http *h, bool (*cancelled)(void *), void *arg) {
    h->cancelled = cancelled;
    h->cancelled_arg = arg;
}

/* --------------------------------------------------------------------- post */

typedef struct transfer {
    const espl_http *h;
    espl_http_reply *reply;
    bool too_big;
} transfer;

static bool is_cancelled(const espl_http *h) { return h->cancelled && h->cancelled(h->cancelled_arg); }

static size_t on_bytes(char *bytes, size_t size, size_t n, void *ctx) {
    transfer *t = ctx;
    int64_t len = (int64_t)(size * n);
    if (t->reply->body.len + len > t->h->max_bytes) {
        t->too_big = true;
        return 0;
    }
    espl_str_put(&t->reply->body, bytes, len);
    return t->reply->body.failed ? 0 : size * n;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return is_cancelled(ctx);
}

static void set_protocols(CURL *c) {
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
}

static void set_options(espl_http *h, const char *body, int64_t len, transfer *t) {
    CURL *c = h->curl;
    curl_easy_reset(c); /* connections stay open */
    curl_easy_setopt(c, CURLOPT_URL, h->url);
    set_protocols(c);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, h->headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "espalier");
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_ms);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)h->total_ms);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    if (h->loopback) curl_easy_setopt(c, CURLOPT_NOPROXY, "*");
    if (h->ca_file) curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
}

static espl_http_result result_of(CURLcode code, const transfer *t) {
    if (code == CURLE_OK) return ESPL_HTTP_DONE;
    if (code == CURLE_ABORTED_BY_CALLBACK) return ESPL_HTTP_CANCELLED;
    if (t->too_big) return ESPL_HTTP_BROKEN;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
        return ESPL_HTTP_TRANSIENT;
    default:
        return ESPL_HTTP_BROKEN;
    }
}

static void read_info(CURL *c, espl_http_reply *reply) {
    long status = 0;
    curl_off_t after = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &after); /* seconds, from either form of the header */
    reply->status = status;
    if (after > 0) reply->retry_after_ms = after < 1000000 ? (int64_t)after * 1000 : 1000000000;
}

void espl_http_post(espl_http *h, const char *body, int64_t len, espl_http_reply *reply) {
    char error[CURL_ERROR_SIZE] = "";
    *reply = (espl_http_reply){0};
    transfer t = {h, reply, false};
    double start = espl_clock_now();
    espl_str_put(&reply->body, "", 0);
    set_options(h, body, len, &t);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, error);
    CURLcode code = curl_easy_perform(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, NULL);
    read_info(h->curl, reply);
    reply->seconds = espl_clock_now() - start;
    reply->result = result_of(code, &t);
    if (t.too_big)
        snprintf(reply->error, sizeof reply->error, "the reply is longer than %lld bytes", (long long)h->max_bytes);
    else if (code != CURLE_OK)
        snprintf(reply->error, sizeof reply->error, "%s", *error ? error : curl_easy_strerror(code));
}

void espl_http_reply_free(espl_http_reply *r) { espl_str_free(&r->body); }

/* -------------------------------------------------------------------- waits */

bool espl_http_wait(espl_http *h, int64_t ms) {
    double end = espl_clock_now() + (double)ms / 1000;
    for (;;) {
        double left = end - espl_clock_now();
        if (is_cancelled(h)) return false;
        if (left <= 0) return true;
        struct timespec nap = {0, (long)((left < 0.1 ? left : 0.1) * 1e9)};
        nanosleep(&nap, NULL);
    }
}

void espl_http_hide_key(const espl_http *h, espl_str *text) {
    size_t n = h->key ? strlen(h->key) : 0;
    if (n < 4 || !text->data) return;
    for (char *p = text->data; (p = memmem(p, (size_t)(text->data + text->len - p), h->key, n)); p += n)
        memset(p, '*', n);
}
