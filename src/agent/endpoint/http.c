/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One POST at a time over libcurl. The server may be slow, broken or hostile, and the key must go nowhere but to the
 * configured URL: hence limits on time and size, http and https only, no redirects, and no key in any text.
 */
#include "endpoint/http.h"

#include "espalier/base/memory.h"
#include "espalier/base/region.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* Longest nap while waiting: `cancelled` is polled this often. */
static const double POLL_SECONDS = 0.1;
/* A Retry-After beyond this many seconds counts as this: no overflow of milliseconds. */
static const curl_off_t RETRY_AFTER_MAX = 1000000;
/* Keys shorter than this occur in harmless text as well; nobody has such a key. */
enum { KEY_HIDDEN_MIN = 4 };

struct espl_http {
    CURL *curl;
    struct curl_slist *headers;
    char *url, *key, *ca_file; /* key and ca_file may be NULL */
    int64_t connect_ms, total_ms, max_bytes;
    bool loopback;
    bool (*cancelled)(void *);
    void *cancelled_arg;
};

/* ------------------------------------------------------------------ open */

static bool http_url_has(CURLU *url, CURLUPart part) {
    char *text = NULL;
    bool there = curl_url_get(url, part, &text, 0) == CURLUE_OK;
    curl_free(text);
    return there;
}

/* Checks the URL and learns whether its host is this machine. A user, password or key in it would end in the record,
 * and so would it in a message. */
static espl_status http_check_url(espl_http *h, CURLU *url, const char *text, bool with_key, bool plain_http) {
    bool https = strncasecmp(text, "https://", 8) == 0, scheme = https || strncasecmp(text, "http://", 7) == 0;
    if (!scheme || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK)
        return ESPL_FAIL(ESPL_CONFIG, "agent: \"%.200s\" is not an http or https URL", text);
    if (http_url_has(url, CURLUPART_USER) || http_url_has(url, CURLUPART_PASSWORD))
        return ESPL_FAIL(ESPL_CONFIG, "agent: the URL must not hold a user or password: name a key variable instead");
    if (espl_agent_url_holds_secret(text))
        return ESPL_FAIL(ESPL_CONFIG, "agent: the URL's query must not hold a key: name a key variable instead");
    char *host = NULL;
    struct in_addr address;
    if (curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        h->loopback = strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                      (inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
    curl_free(host);
    if (with_key && !https && !h->loopback && !plain_http)
        return ESPL_FAIL(ESPL_CONFIG,
                         "agent: the key would travel unencrypted over http to another host: use https, or "
                         "allow it with agent.plain_http=true");
    return ESPL_OK;
}

/* curl_slist_append returns NULL on failure and leaves the list as it is. */
static espl_status http_add_header(espl_http *h, const char *line) {
    struct curl_slist *longer = curl_slist_append(h->headers, line);
    if (!longer) return ESPL_FAIL(ESPL_NOMEM, "no memory for HTTP headers");
    h->headers = longer;
    return ESPL_OK;
}

espl_status espl_http_open(espl_http **out, const char *url, const char *key, const espl_agent_options *o) {
    CURLU *parsed = NULL;
    espl_str line = {0};
    espl_status st;
    *out = NULL;
    /* Counted by libcurl: each successful call needs its curl_global_cleanup. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return ESPL_FAIL(ESPL_INTERNAL, "libcurl cannot be initialised");
    ESPL_CHECK(st, done, espl_mem_alloc(out, 1, sizeof **out, "HTTP client"));
    espl_http *h = *out;
    h->connect_ms = o->connect_ms;
    h->total_ms = o->total_ms;
    h->max_bytes = o->max_reply_bytes;
    h->cancelled = o->cancelled;
    h->cancelled_arg = o->cancelled_arg;
    h->curl = curl_easy_init();
    parsed = curl_url();
    if (!h->curl || !parsed) {
        st = ESPL_FAIL(ESPL_NOMEM, "no memory for libcurl");
        goto done;
    }
    ESPL_CHECK(st, done, http_check_url(h, parsed, url, key && *key, o->plain_http));
    ESPL_CHECK(st, done, espl_str_dup(&h->url, url, "HTTP client"));
    if (o->ca_file && *o->ca_file) ESPL_CHECK(st, done, espl_str_dup(&h->ca_file, o->ca_file, "HTTP client"));
    ESPL_CHECK(st, done, http_add_header(h, "Content-Type: application/json"));
    ESPL_CHECK(st, done, http_add_header(h, "Accept: application/json"));
    ESPL_CHECK(st, done, http_add_header(h, "Expect:")); /* "100-continue" costs small servers a second */
    if (key && *key) {
        ESPL_CHECK(st, done, espl_str_dup(&h->key, key, "HTTP client"));
        for (const char *p = key; *p; p++) /* a line break would add headers */
            if (!isgraph((unsigned char)*p)) {
                st = ESPL_FAIL(ESPL_CONFIG, "agent: the API key holds a space, control or non-ASCII character");
                goto done;
            }
        espl_str_printf(&line, "Authorization: Bearer %s", key);
        ESPL_CHECK(st, done, espl_str_status(&line));
        ESPL_CHECK(st, done, http_add_header(h, line.data));
    }
done:
    curl_url_cleanup(parsed);
    if (line.data) explicit_bzero(line.data, (size_t)line.len);
    espl_str_free(&line);
    if (st != ESPL_OK && *out)
        espl_http_close(out);
    else if (st != ESPL_OK)
        curl_global_cleanup();
    return st;
}

void espl_http_close(espl_http **h) {
    if (!*h) return;
    curl_easy_cleanup((*h)->curl);
    curl_slist_free_all((*h)->headers);
    espl_mem_free(&(*h)->url);
    espl_mem_free(&(*h)->ca_file);
    /* Freed memory may end in a core dump. (libcurl's copy in the header list cannot be reached.) */
    if ((*h)->key) explicit_bzero((*h)->key, strlen((*h)->key));
    espl_mem_free(&(*h)->key);
    espl_mem_free(h);
    curl_global_cleanup();
}

/* ------------------------------------------------------------------ post */

typedef struct http_transfer {
    const espl_http *h;
    espl_http_reply *reply;
    bool too_big;
} http_transfer;

static bool http_is_cancelled(const espl_http *h) { return h->cancelled && h->cancelled(h->cancelled_arg); }

static size_t http_on_bytes(char *bytes, size_t size, size_t n, void *ctx) {
    http_transfer *t = ctx;
    int64_t len = (int64_t)(size * n);
    if (t->reply->body.len + len > t->h->max_bytes) {
        t->too_big = true;
        return 0; /* ends the transfer with CURLE_WRITE_ERROR */
    }
    espl_str_put(&t->reply->body, bytes, len);
    return t->reply->body.failed ? 0 : size * n;
}

static int http_on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void)a, (void)b, (void)c, (void)d;
    return http_is_cancelled(ctx); /* true ends the transfer with CURLE_ABORTED_BY_CALLBACK */
}

/* Failures of the network and of overloaded servers pass; wrong names of protocols, certificates or options do not. */
static espl_http_result http_result_of(CURLcode code, const http_transfer *t) {
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

/* All options are set anew for each request, so that none depends on the request before. */
void espl_http_post(espl_http *h, const char *body, int64_t len, espl_http_reply *reply) {
    CURL *c = h->curl;
    char error[CURL_ERROR_SIZE] = "";
    *reply = (espl_http_reply){0};
    http_transfer t = {h, reply, false};
    double start = espl_clock_now();
    espl_str_put(&reply->body, "", 0); /* data is never NULL */

    curl_easy_reset(c); /* options only: connections stay open */
    curl_easy_setopt(c, CURLOPT_URL, h->url);
#if LIBCURL_VERSION_NUM >= 0x075500 /* 7.85.0 */
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(c, CURLOPT_PROTOCOLS, CURLPROTO_HTTP | CURLPROTO_HTTPS);
#endif
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L); /* the key is meant for this host only */
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);       /* MPI and the stop signals own the handlers */
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, h->headers);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "espalier");
    curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING,
                     ""); /* some proxies compress unasked; max_bytes counts the plain bytes */
    curl_easy_setopt(c, CURLOPT_POST, 1L);
    curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)h->connect_ms);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)h->total_ms);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, http_on_bytes);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &t);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, http_on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    if (h->loopback) curl_easy_setopt(c, CURLOPT_NOPROXY, "*"); /* a cluster's proxy cannot reach this machine */
    if (h->ca_file) curl_easy_setopt(c, CURLOPT_CAINFO, h->ca_file);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, error);
    CURLcode code = curl_easy_perform(c);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, NULL); /* `error` ends with this function */

    long status = 0;
    curl_off_t after = 0;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &after); /* seconds, from either form of the header */
    reply->status = status;
    if (after > 0) reply->retry_after_ms = 1000 * (int64_t)(after < RETRY_AFTER_MAX ? after : RETRY_AFTER_MAX);
    reply->seconds = espl_clock_now() - start;
    reply->result = http_result_of(code, &t);
    /* libcurl would speak of a failed write. */
    if (t.too_big)
        snprintf(reply->error, sizeof reply->error, "the reply is longer than %" PRId64 " bytes", h->max_bytes);
    else if (code != CURLE_OK)
        snprintf(reply->error, sizeof reply->error, "%s", *error ? error : curl_easy_strerror(code));
}

/* In short naps: a stop signal must not wait for the end of a minute's pause. */
bool espl_http_wait(const espl_http *h, int64_t ms) {
    double end = espl_clock_now() + (double)ms / 1000;
    for (;;) {
        double left = end - espl_clock_now();
        if (http_is_cancelled(h)) return false;
        if (left <= 0) return true;
        struct timespec nap = {0, (long)((left < POLL_SECONDS ? left : POLL_SECONDS) * 1e9)};
        nanosleep(&nap, NULL);
    }
}

static int http_hex_value(const char *p, int digits) {
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (!isxdigit((unsigned char)p[i])) return -1;
        value = 16 * value + (isdigit((unsigned char)p[i]) ? p[i] - '0' : tolower((unsigned char)p[i]) - 'a' + 10);
    }
    return value;
}

/* Bytes of p[0 .. n) that stand for the character c: itself, uXXXX or %XX, behind any number of backslashes, because
 * JSON is quoted in JSON. 0: they stand for another. */
static size_t http_match_character(const char *p, size_t n, char c) {
    size_t b = 0;
    if (n >= 1 && p[0] == c) return 1;
    while (b < n && p[b] == '\\') b++;
    if (b + 1 <= n && p[b] == c) return b + 1;
    if (b > 0 && b + 5 <= n && p[b] == 'u' && http_hex_value(p + b + 1, 4) == c) return b + 5;
    return b + 3 <= n && p[b] == '%' && http_hex_value(p + b + 1, 2) == c ? b + 3 : 0;
}

void espl_http_hide_key(const espl_http *h, char *text, int64_t len) {
    if (!h->key || strlen(h->key) < KEY_HIDDEN_MIN || !text) return;
    for (char *p = text, *end = p + len; p < end; p++) {
        char *q = p;
        const char *k = h->key;
        for (size_t n; *k && (n = http_match_character(q, (size_t)(end - q), *k)) > 0; k++) q += n;
        if (!*k) memset(p, '*', (size_t)(q - p));
    }
}
