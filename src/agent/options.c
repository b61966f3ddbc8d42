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
    *o = (espl_agent_options){
#define X(type, section, key, value, lo, hi, resume, meaning) .key = (value),
        ESPL_AGENT_OPTION_LIST(X)
#undef X
    };
    espl_policy_options_init(&o->policy);
}

/* ------------------------------------------------------------------ checks */

static espl_status in_range(const char *name, double v, double lo, double hi) {
    if (v >= lo && v <= hi) return ESPL_OK;
    return ESPL_FAIL(ESPL_CONFIG, "agent: %s is %g, expected %g to %g", name, v, lo, hi);
}

#define CHECK_TEXT(key, lo, hi)
#define CHECK_CHOICE(key, lo, hi)
#define CHECK_FLAG(key, lo, hi)
#define CHECK_REAL(key, lo, hi) ESPL_TRY(in_range(#key, o->key, lo, hi));
#define CHECK_INTEGER(key, lo, hi) ESPL_TRY(in_range(#key, (double)o->key, lo, (double)(hi)));

espl_status espl_agent_options_check(const espl_agent_options *o) {
#define X(type, section, key, value, lo, hi, resume, meaning) CHECK_##type(key, lo, hi)
    ESPL_AGENT_OPTION_LIST(X)
#undef X
#define X(type, name, value, lo, hi, meaning) ESPL_TRY(in_range("policy." #name, o->policy.name, lo, hi));
    ESPL_POLICY_LIST(X)
#undef X
    if (o->backend == ESPL_BACKEND_OPENAI && (!o->base_url || !*o->base_url))
        return ESPL_FAIL(ESPL_CONFIG, "agent: base_url is missing, for example http://127.0.0.1:8000/v1");
    if (o->backend == ESPL_BACKEND_OPENAI && (!o->model || !*o->model))
        return ESPL_FAIL(ESPL_CONFIG, "agent: model is missing: the endpoint's name of the model to ask");
    if (o->backend == ESPL_BACKEND_REPLAY && (!o->replay || !*o->replay))
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
