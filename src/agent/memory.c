/* What an agent remembers beyond its view, as JSON; no times, so that equal runs have equal checkpoints. */
#include "internal.h"

#include <cjson/cJSON.h>

enum { VERSION = 1 };

/* X(member): the counters, in the order they are written. */
#define COUNTERS(X)                                                                                                    \
    X(requests)                                                                                                        \
    X(retries)                                                                                                         \
    X(invalid)                                                                                                         \
    X(fallbacks)                                                                                                       \
    X(prompt_tokens)                                                                                                   \
    X(completion_tokens)

void espl_agent_memory_put(espl_str *s, const espl_agent_memory *m) {
    espl_str_printf(s, "{\"version\":%d,\"response_format\":%s,\"failures\":%lld", VERSION,
                    m->response_format ? "true" : "false", (long long)m->failures);
#define X(name) espl_str_printf(s, ",\"" #name "\":%lld", (long long)m->stats.name);
    COUNTERS(X)
#undef X
    espl_str_puts(s, "}");
}

static espl_status read_memory(espl_agent_memory *m, const cJSON *doc) {
    static const char where[] = "agent state";
    int64_t version;
    ESPL_TRY(espl_json_get_i64(doc, "version", where, true, VERSION, VERSION, &version));
    ESPL_TRY(espl_json_get_bool(doc, "response_format", where, true, &m->response_format));
    ESPL_TRY(espl_json_get_i64(doc, "failures", where, true, 0, INT64_MAX, &m->failures));
#define X(name) ESPL_TRY(espl_json_get_i64(doc, #name, where, true, 0, INT64_MAX, &m->stats.name));
    COUNTERS(X)
#undef X
    return ESPL_OK;
}

espl_status espl_agent_memory_read(espl_agent_memory *m, const char *bytes, int64_t len) {
    cJSON *doc;
    espl_agent_memory fresh = {0};
    ESPL_TRY(espl_json_parse(bytes, len, "agent state", &doc));
    espl_status st = read_memory(&fresh, doc);
    espl_json_free(&doc);
    if (st == ESPL_OK) *m = fresh;
    return st;
}
