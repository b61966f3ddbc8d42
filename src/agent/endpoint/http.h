/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP client for one URL, over libcurl: POST of JSON with limits on time and size, no redirects, errors in words.
 */
#ifndef ESPL_AGENT_ENDPOINT_HTTP_H
#define ESPL_AGENT_ENDPOINT_HTTP_H

#include "espalier/agent/options.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

typedef enum espl_http_result {
    ESPL_HTTP_DONE,      /* status and body are valid */
    ESPL_HTTP_TRANSIENT, /* refused, lost or timed out: a repetition may succeed */
    ESPL_HTTP_BROKEN,    /* a repetition would fail as well */
    ESPL_HTTP_CANCELLED
} espl_http_result;

typedef struct espl_http_reply {
    espl_http_result result;
    int64_t status;
    int64_t retry_after_ms; /* 0: not sent */
    double seconds;
    espl_str body;
    char error[256]; /* "" if done */
} espl_http_reply;

typedef struct espl_http espl_http;

/* Opens a client for `url`, with the time and size limits, the CA file and the cancellation of the options. key NULL or
 * "": no Authorization header. All texts are copied. ESPL_CONFIG: unusable URL or key. Owned by the caller. */
espl_status espl_http_open(espl_http **out, const char *url, const char *key, const espl_agent_options *o);
/* NULL-safe. Overwrites the key in memory. */
void espl_http_close(espl_http **h);

/* Posts a JSON body and waits for the reply, at most total_ms. *reply is initialised here; its body is owned by the
 * caller: espl_str_free. */
void espl_http_post(espl_http *h, const char *body, int64_t len, espl_http_reply *reply);
/* Sleeps; false if cancelled. */
bool espl_http_wait(const espl_http *h, int64_t ms);
/* Overwrites the key with asterisks wherever it occurs in the text, also escaped as in JSON or URLs: servers quote it
 * in their errors. */
void espl_http_hide_key(const espl_http *h, char *text, int64_t len);

#endif
