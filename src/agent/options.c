/* SPDX-License-Identifier: Apache-2.0 */
/* Defaults, names and checks of the options, generated from the lists of agent/options.h. */
#include "check.h"

#include <string.h>

/* The parsing of names is the configuration's, which makes its tables from the same lists. */
const char *espl_agent_backend_name(espl_agent_backend b) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_BACKEND_LIST(X)
#undef X
    };
    return names[b];
}

const char *espl_agent_fallback_name(espl_agent_fallback f) {
    static const char *const names[] = {
#define X(name, text) text,
        ESPL_FALLBACK_LIST(X)
#undef X
    };
    return names[f];
}

/* Some providers take keys in the query; others need one for harmless things (api-version). */
bool espl_agent_url_holds_secret(const char *url) {
    static const char *const words[] = {"key", "token", "secret", "password", "sig"};
    const char *query = strchr(url, '?');
    bool found = strchr(url, '@') != NULL;
    for (size_t i = 0; query && i < sizeof words / sizeof *words; i++) found = found || strcasestr(query, words[i]);
    return found;
}

void espl_agent_options_init(espl_agent_options *o) {
    *o = (espl_agent_options){
#define X(type, section, key, value, lo, hi, resume, meaning) .key = (value),
        ESPL_AGENT_OPTION_LIST(X)
#undef X
    };
    o->policy = (espl_policy_options){
#define X(type, name, value, lo, hi, meaning) .name = (value),
        ESPL_POLICY_LIST(X)
#undef X
    };
}

/* The comparison is written so that NAN fails it. */
espl_status espl_agent_check_range(const char *name, double v, double lo, double hi) {
    if (v >= lo && v <= hi) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "agent: %s is %g, expected %g to %g", name, v, lo, hi);
}

/* Texts and choices have no range; what a backend needs of them is checked by name below. */
#define CHECK_TEXT(key, lo, hi)
#define CHECK_CHOICE(key, lo, hi)
#define CHECK_FLAG(key, lo, hi)
#define CHECK_REAL(key, lo, hi) ESPL_TRY(espl_agent_check_range(#key, o->key, lo, hi));
#define CHECK_INTEGER(key, lo, hi) ESPL_TRY(espl_agent_check_range(#key, (double)o->key, lo, (double)(hi)));

/* Callers that do not come through the configuration (tests, other programs) get the same ranges. */
espl_status espl_agent_options_check(const espl_agent_options *o) {
#define X(type, section, key, value, lo, hi, resume, meaning) CHECK_##type(key, lo, hi)
    ESPL_AGENT_OPTION_LIST(X)
#undef X
#define X(type, name, value, lo, hi, meaning) ESPL_TRY(espl_agent_check_range("policy." #name, o->policy.name, lo, hi));
    ESPL_POLICY_LIST(X)
#undef X
    if (o->backend == ESPL_BACKEND_OPENAI && (!o->base_url || !*o->base_url))
        return ESPL_FAIL(ESPL_CONFIG, "agent: base_url is missing, for example http://127.0.0.1:8000/v1");
    if (o->backend == ESPL_BACKEND_OPENAI && (!o->model || !*o->model))
        return ESPL_FAIL(ESPL_CONFIG, "agent: model is missing: the endpoint's name of the model to ask");
    if (o->backend == ESPL_BACKEND_LOCAL && (!o->model_path || !*o->model_path))
        return ESPL_FAIL(ESPL_CONFIG, "agent: backend local needs model_path: a model's directory, or \"self\"");
    if (o->backend == ESPL_BACKEND_REPLAY && (!o->replay || !*o->replay))
        return ESPL_FAIL(ESPL_CONFIG, "agent: backend replay needs the dialogue to replay");
    return ESPL_OK;
}
