/* Defaults, names and ranges of the options; and the sums and checks of a view. */
#include "internal.h"

#include <math.h>
#include <string.h>

static const char *const backend_names[] = {
#define X(name, text) text,
    ESPL_BACKEND_LIST(X)
#undef X
};
static const char *const fallback_names[] = {
#define X(name, text) text,
    ESPL_FALLBACK_LIST(X)
#undef X
};

const char *espl_agent_backend_name(espl_agent_backend b) { return backend_names[b]; }

const char *espl_agent_fallback_name(espl_agent_fallback f) { return fallback_names[f]; }

bool espl_agent_backend_parse(const char *name, espl_agent_backend *out) {
    for (int i = 0; i < ESPL_BACKEND_COUNT; i++)
        if (strcmp(name, backend_names[i]) == 0) return *out = (espl_agent_backend)i, true;
    return false;
}

bool espl_agent_fallback_parse(const char *name, espl_agent_fallback *out) {
    for (int i = 0; i < ESPL_FALLBACK_COUNT; i++)
        if (strcmp(name, fallback_names[i]) == 0) return *out = (espl_agent_fallback)i, true;
    return false;
}

void espl_policy_options_init(espl_policy_options *o) {
    *o = (espl_policy_options){
#define X(type, name, value, lo, hi, meaning) .name = (value),
        ESPL_POLICY_LIST(X)
#undef X
    };
}

void espl_agent_options_init(espl_agent_options *o) {
    *o = (espl_agent_options){.backend = ESPL_BACKEND_POLICY,
                              .fallback = ESPL_FALLBACK_POLICY,
                              .max_invalid = 2,
                              .give_up_after = 3,
                              .honour_stop = true,
                              .prompt_bytes = 65536};
    o->openai = (espl_openai_options){.temperature = 0.2,
                                      .max_tokens = 4096,
                                      .connect_ms = 10000,
                                      .total_ms = 300000,
                                      .retries = 4,
                                      .retry_base_ms = 1000,
                                      .retry_max_ms = 60000,
                                      .max_reply_bytes = ESPL_AGENT_REPLY_MAX};
    espl_policy_options_init(&o->policy);
}

/* ------------------------------------------------------------------ checks */

static espl_status in_range(const char *name, double v, double lo, double hi) {
    if (v >= lo && v <= hi) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "agent: %s is %g, expected %g to %g", name, v, lo, hi);
}

static espl_status check_policy(const espl_policy_options *o) {
#define X(type, name, value, lo, hi, meaning) ESPL_TRY(in_range("policy." #name, o->name, lo, hi));
    ESPL_POLICY_LIST(X)
#undef X
    return ESPL_OK;
}

static espl_status check_openai(const espl_openai_options *o) {
    if (!o->base_url || !*o->base_url)
        return ESPL_FAIL(ESPL_CONFIG, "agent: base_url is missing, for example http://127.0.0.1:8000/v1");
    if (!o->model || !*o->model) return ESPL_FAIL(ESPL_CONFIG, "agent: the endpoint's model is not named");
    if (!isnan(o->temperature)) ESPL_TRY(in_range("temperature", o->temperature, 0, 10));
    ESPL_TRY(in_range("max_tokens", (double)o->max_tokens, 0, 1e7));
    ESPL_TRY(in_range("connect_ms", (double)o->connect_ms, 1, 1e9));
    ESPL_TRY(in_range("total_ms", (double)o->total_ms, 1, 1e9));
    ESPL_TRY(in_range("retries", (double)o->retries, 0, 100));
    ESPL_TRY(in_range("retry_base_ms", (double)o->retry_base_ms, 0, 1e9));
    ESPL_TRY(in_range("retry_max_ms", (double)o->retry_max_ms, 0, 1e9));
    return in_range("max_reply_bytes", (double)o->max_reply_bytes, 1024, 1 << 28);
}

espl_status espl_agent_options_check(const espl_agent_options *o) {
    ESPL_TRY(check_policy(&o->policy));
    ESPL_TRY(in_range("max_invalid", (double)o->max_invalid, 0, 100));
    ESPL_TRY(in_range("give_up_after", (double)o->give_up_after, 1, 1e9));
    ESPL_TRY(in_range("prompt_bytes", (double)o->prompt_bytes, 2048, 1 << 26));
    ESPL_TRY(in_range("keep_iterations", (double)o->keep_iterations, 0, 1e15));
    if (o->backend == ESPL_BACKEND_OPENAI) return check_openai(&o->openai);
    if (o->backend == ESPL_BACKEND_REPLAY && !o->replay_path)
        return ESPL_FAIL(ESPL_CONFIG, "agent: backend replay needs the dialogue to replay");
    return ESPL_OK;
}

/* -------------------------------------------------------------------- view */

int64_t espl_view_weights(const espl_agent_view *v) {
    int64_t sum = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) sum += v->rows[i].weights;
    return sum;
}

int64_t espl_view_left(const espl_agent_view *v) {
    int64_t pruned = 0;
    for (int64_t i = 0; i < espl_view_linears(v); i++) pruned += v->rows[i].pruned;
    return llround(v->budget.target * (double)espl_view_weights(v)) - pruned;
}

int64_t espl_view_room(const espl_agent_view *v, int64_t i) {
    const espl_profile_row *r = &v->rows[i];
    if (espl_pattern_is_n_m(espl_view_pattern(v, i))) return 0;
    int64_t most = (int64_t)floor(v->budget.cap * (double)r->weights + 1e-6);
    return most > r->pruned ? most - r->pruned : 0;
}

bool espl_view_fits(const espl_agent_view *v, int64_t i, espl_pattern p) {
    int64_t in = v->in[espl_linear_kind_of(i)];
    return in > 0 && in % p.m == 0;
}

espl_status espl_view_check(const espl_agent_view *v) {
    const espl_budget *b = &v->budget;
    ESPL_TRY(in_range("target", b->target, 0, 1));
    ESPL_TRY(in_range("cap", b->cap, 0, 1));
    ESPL_TRY(in_range("max_step", b->max_step, 1e-9, 1));
    ESPL_TRY(in_range("max_linears", (double)b->max_linears, 1, 1e9));
    ESPL_TRY(in_range("threshold", b->threshold, 0, 1e9));
    ESPL_TRY(in_range("layers", (double)v->layers, 1, 1e6));
    for (int64_t i = 0; i < espl_view_linears(v); i++)
        if (v->rows[i].pruned < 0 || v->rows[i].weights < v->rows[i].pruned || v->rows[i].weights > (int64_t)1 << 50)
            return ESPL_FAIL(ESPL_CONFIG, "agent: profile row %lld has %lld of %lld weights pruned", (long long)i,
                             (long long)v->rows[i].pruned, (long long)v->rows[i].weights);
    return ESPL_OK;
}

double espl_outcome_rise(const espl_outcome *o) {
    double before = o->before.perplexity, after = o->after.perplexity;
    if (!isfinite(before) || before <= 0 || after == 0) return NAN;
    return isfinite(after) ? after / before - 1 : INFINITY;
}
