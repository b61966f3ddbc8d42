/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoPE in config.json: thetas, and the dictionaries of scalings (modeling_rope_utils.py of transformers 5.23).
 */
#include "config_rope.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/json.h"
#include "espalier/base/memory.h"

static const struct {
    const char *name;
    espl_rope_type type;
} rope_types[] = {
#define X(name, text) {text, ESPL_ROPE_##name},
    ESPL_ROPE_TYPE_LIST(X)
#undef X
};

const char *espl_rope_type_name(espl_rope_type type) { return rope_types[type].name; }

/* Keys of a RoPE dictionary that the types computed here do not read, and one of a training script. */
static const char *const inert_rope_keys[] = {"finetuned", "attention_factor", "beta_fast",
                                              "beta_slow", "mscale",           "mscale_all_dim",
                                              "truncate",  "short_factor",     "long_factor"};

static const char original_key[] = "original_max_position_embeddings";

/* How much of a head RoPE rotates; the innermost factor counts. where: the file, or the dictionary in it. */
static espl_status rope_read_rotary(const cJSON *object, const char *where, espl_model_config *c) {
    double factor = (double)c->rotary / (double)c->head_dim;
    if (!espl_json_member(object, "partial_rotary_factor")) return ESPL_OK;
    ESPL_TRY(espl_json_get_f64(object, "partial_rotary_factor", where, false, -DBL_MAX, DBL_MAX, &factor));
    if (factor != 1 && !c->family->partial_rotary)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported, expected 1", where, factor);
    c->rotary = factor > 0 && factor <= 1 ? (int64_t)((double)c->head_dim * factor) : 0;
    if (c->rotary >= 2 && c->rotary % 2 == 0) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED,
                     "%s: partial_rotary_factor %g of %" PRId64 " features, expected an even number of at least 2",
                     where, factor, c->head_dim);
}

/* The length that a scaling starts from. A field of that name outside the dictionary `rope` wins over the one inside.
 */
static espl_status rope_read_original(const cJSON *doc, const cJSON *rope, const char *where,
                                      const espl_model_config *c, espl_rope_config *r) {
    r->original = c->family->rope_original > 0 ? c->family->rope_original : c->max_positions;
    if (c->family->rope_original == 0)
        ESPL_TRY(espl_json_get_i64(rope, original_key, where, false, 1, INT32_MAX, &r->original));
    if (doc) ESPL_TRY(espl_json_get_i64(doc, original_key, where, false, 1, INT32_MAX, &r->original));
    return r->original > 0 ? ESPL_OK : ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is missing", where, original_key);
}

static espl_status rope_read_llama3(const cJSON *rope, const char *where, espl_rope_config *r) {
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, true, 1, 1e6, &r->factor));
    ESPL_TRY(espl_json_get_f64(rope, "low_freq_factor", where, true, 1e-6, 1e6, &r->low));
    ESPL_TRY(espl_json_get_f64(rope, "high_freq_factor", where, true, 1e-6, 1e6, &r->high));
    if (r->high > r->low) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: high_freq_factor %g must exceed low_freq_factor %g", where, r->high, r->low);
}

/* LongRoPE (arXiv 2402.13753): each frequency has a divisor, another one in texts beyond the original length. */
static espl_status rope_read_longrope(const cJSON *rope, const char *where, const espl_model_config *c,
                                      espl_rope_config *r) {
    const cJSON *list = espl_json_member(rope, "short_factor"), *v;
    int64_t i = 0;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != c->rotary / 2)
        return ESPL_FAIL(ESPL_FORMAT, "%s: \"short_factor\" must be a list of %" PRId64 " numbers", where,
                         c->rotary / 2);
    ESPL_TRY(espl_mem_alloc(&r->divisors, c->rotary / 2, sizeof *r->divisors, "RoPE divisors"));
    cJSON_ArrayForEach(v, list) {
        if (!cJSON_IsNumber(v) || !(v->valuedouble > 0))
            return ESPL_FAIL(ESPL_FORMAT, "%s: short_factor[%" PRId64 "] must be a number above 0", where, i);
        r->divisors[i++] = (double)(float)v->valuedouble; /* f32 in transformers */
    }
    r->limit = r->original;
    r->factor = (double)c->max_positions / (double)r->original;
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, false, 1e-6, 1e6, &r->factor));
    r->attention = r->factor > 1 ? sqrt(1 + log(r->factor) / log((double)r->original)) : 1;
    return espl_json_get_f64(rope, "attention_factor", where, false, 1e-6, 1e6, &r->attention);
}

/* The feature pair whose wave makes that many rotations in the original length. */
static double yarn_pair(const espl_rope_config *r, int64_t rotary, double rotations) {
    static const double TWO_PI = 6.283185307179586476925287;
    return (double)rotary * log((double)r->original / (rotations * TWO_PI)) / (2 * log(r->theta));
}

/* YaRN's attention factor grows with the logarithm of the scaling. */
static double yarn_attention(double factor, double scale) { return factor > 1 ? 0.1 * scale * log(factor) + 1 : 1; }

/* YaRN (arXiv 2309.00071): frequencies of short waves stay, those of long waves are divided by the factor, those
 * between are blended; which, follows from how often a wave turns in the original length. */
static espl_status rope_read_yarn(const cJSON *rope, const char *where, const espl_model_config *c,
                                  espl_rope_config *r) {
    double fast = 0, slow = 0, scale = 0, scale_all = 0;
    bool truncate = true;
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &r->factor));
    ESPL_TRY(espl_json_get_f64(rope, "beta_fast", where, false, 0, 1e6, &fast)); /* 0 means missing, as null does */
    ESPL_TRY(espl_json_get_f64(rope, "beta_slow", where, false, 0, 1e6, &slow));
    ESPL_TRY(espl_json_get_f64(rope, "mscale", where, false, 0, 1e6, &scale));
    ESPL_TRY(espl_json_get_f64(rope, "mscale_all_dim", where, false, 0, 1e6, &scale_all));
    ESPL_TRY(espl_json_get_bool(rope, "truncate", where, false, &truncate));
    if (r->theta <= 1) return ESPL_FAIL(ESPL_FORMAT, "%s: yarn needs a rope_theta above 1, not %g", where, r->theta);
    if (!truncate && c->family->local_theta > 0) /* transformers looks for it outside of this dictionary */
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"truncate\": false is not supported for model_type \"%s\"", where,
                         c->family->type);
    double low = yarn_pair(r, c->rotary, fast > 0 ? fast : 32), high = yarn_pair(r, c->rotary, slow > 0 ? slow : 1);
    if (truncate) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)c->rotary - 1);
    if (low == high) high += 0.001;
    ESPL_TRY(espl_mem_alloc(&r->divisors, c->rotary / 2, sizeof *r->divisors, "RoPE divisors"));
    for (int64_t j = 0; j < c->rotary / 2; j++) {
        double ramp = fmin(fmax(((double)j - low) / (high - low), 0), 1);
        r->divisors[j] = 1 / (1 - ramp + ramp / r->factor);
    }
    bool both = scale > 0 && scale_all > 0;
    r->attention =
        both ? yarn_attention(r->factor, scale) / yarn_attention(r->factor, scale_all) : yarn_attention(r->factor, 1);
    return espl_json_get_f64(rope, "attention_factor", where, false, 1e-6, 1e6, &r->attention);
}

/* The type of a dictionary: "type" is the older name of rope_type. */
static espl_status rope_read_type(const cJSON *rope, const char *where, const espl_family *f, espl_rope_type *type) {
    const char *text = "default";
    size_t i = 0;
    ESPL_TRY(espl_json_get_str(rope, "type", where, false, &text));
    ESPL_TRY(espl_json_get_str(rope, "rope_type", where, false, &text));
    if (strcmp(text, "su") == 0) text = "longrope"; /* its name in early Phi-3 */
    while (i < COUNT_OF(rope_types) && strcmp(rope_types[i].name, text) != 0) i++;
    if (i < COUNT_OF(rope_types) && (!f->rope_types || f->rope_types >> rope_types[i].type & 1)) {
        *type = rope_types[i].type;
        return ESPL_OK;
    }
    espl_str known = {0};
    for (i = 0; i < COUNT_OF(rope_types); i++)
        if (!f->rope_types || f->rope_types >> rope_types[i].type & 1)
            espl_str_printf(&known, "%s%s", known.len ? ", " : "", rope_types[i].name);
    espl_status st = ESPL_FAIL(ESPL_UNSUPPORTED,
                               "%s: rope_type \"%s\" is not supported for model_type \"%s\", expected "
                               "one of %s",
                               where, text, f->type, known.data ? known.data : "default");
    espl_str_free(&known);
    return st;
}

/* True for the members that only some types read. */
static bool rope_type_reads(espl_rope_type type, const char *key) {
    static const char *const longrope[] = {"short_factor", "long_factor", "attention_factor"};
    static const char *const yarn[] = {"attention_factor", "beta_fast",      "beta_slow",
                                       "mscale",           "mscale_all_dim", "truncate"};
    return (type == ESPL_ROPE_LONGROPE && espl_config_key_in(key, longrope, COUNT_OF(longrope))) ||
           (type == ESPL_ROPE_YARN && espl_config_key_in(key, yarn, COUNT_OF(yarn)));
}

/* Refuses members of a dictionary that are neither read nor known to change nothing. */
static espl_status rope_check_keys(const cJSON *rope, const char *where, espl_rope_type type, espl_model_config *c) {
    static const char *const keys[] = {
        "rope_type",        "type",       "rope_theta",           "factor", "low_freq_factor",
        "high_freq_factor", original_key, "partial_rotary_factor"};
    const cJSON *v;
    cJSON_ArrayForEach(v, rope) {
        ESPL_TRY(espl_config_check_once(rope, v, where));
        if (espl_config_key_in(v->string, keys, COUNT_OF(keys)) || rope_type_reads(type, v->string)) continue;
        bool inert = espl_config_key_in(v->string, inert_rope_keys, COUNT_OF(inert_rope_keys));
        if (!cJSON_IsNull(v) && !cJSON_IsFalse(v) && !inert)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: field \"%s\" is not supported", where, v->string);
        espl_config_note(c, where, "field \"%.64s\" is ignored", v->string);
    }
    return ESPL_OK;
}

/* Reads a dictionary into *r, whose theta is set to the one in force outside of it. doc NULL: no field outside of it
 * counts. */
static espl_status rope_read(const cJSON *doc, const cJSON *rope, const char *where, espl_model_config *c,
                             espl_rope_config *r) {
    if (!cJSON_IsObject(rope)) return ESPL_FAIL(ESPL_FORMAT, "%s: must be an object", where);
    ESPL_TRY(rope_read_type(rope, where, c->family, &r->type));
    ESPL_TRY(rope_check_keys(rope, where, r->type, c));
    ESPL_TRY(rope_read_rotary(rope, where, c));
    ESPL_TRY(espl_json_get_f64(rope, "rope_theta", where, false, 1e-3, 1e15, &r->theta));
    switch (r->type) {
    case ESPL_ROPE_LLAMA3:
        ESPL_TRY(rope_read_llama3(rope, where, r));
        return rope_read_original(doc, rope, where, c, r);
    case ESPL_ROPE_DYNAMIC:
        if (c->max_positions < 1)
            return ESPL_FAIL(ESPL_FORMAT, "%s: rope_type \"dynamic\" needs max_position_embeddings", where);
        r->limit = c->max_positions;
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &r->factor);
    case ESPL_ROPE_LONGROPE:
        ESPL_TRY(rope_read_original(doc, rope, where, c, r));
        return rope_read_longrope(rope, where, c, r);
    case ESPL_ROPE_YARN:
        ESPL_TRY(rope_read_original(doc, rope, where, c, r));
        return rope_read_yarn(rope, where, c, r);
    case ESPL_ROPE_LINEAR:
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &r->factor);
    default:
        return ESPL_OK;
    }
}

/* A dictionary of transformers 5 for each kind of layer. *local_given: that of sliding layers has a theta. */
static espl_status rope_read_kinds(const cJSON *kinds, const char *name, espl_model_config *c, bool *local_given) {
    static const char *const keys[ESPL_LAYER_ROPES] = {
        [ESPL_LAYER_ROPE_GLOBAL] = "full_attention", [ESPL_LAYER_ROPE_LOCAL] = "sliding_attention"};
    const cJSON *v;
    char where[512];
    if (!cJSON_IsObject(kinds)) return ESPL_FAIL(ESPL_FORMAT, "%s: rope_parameters: must be an object", name);
    cJSON_ArrayForEach(v, kinds) {
        int k = 0;
        ESPL_TRY(espl_config_check_once(kinds, v, name));
        while (k < ESPL_LAYER_ROPES && strcmp(keys[k], v->string) != 0) k++;
        if (k == ESPL_LAYER_ROPES)
            return ESPL_FAIL(ESPL_UNSUPPORTED,
                             "%s: rope_parameters: field \"%s\" is not supported, expected \"full_attention\" and "
                             "\"sliding_attention\"",
                             name, v->string);
        if (cJSON_IsNull(v)) continue;
        snprintf(where, sizeof where, "%s: rope_parameters: %s", name, keys[k]);
        ESPL_TRY(rope_read(NULL, v, where, c, &c->rope[k]));
        if (k == ESPL_LAYER_ROPE_LOCAL) *local_given = espl_json_member(v, "rope_theta") != NULL;
    }
    return ESPL_OK;
}

/* Full and sliding layers with RoPE of their own. The classic "rope_scaling" is that of full layers. */
static espl_status rope_read_global_and_local(const cJSON *doc, const char *name, espl_model_config *c) {
    const espl_family *f = c->family;
    const cJSON *scaling = espl_json_member(doc, "rope_scaling"), *kinds = espl_json_member(doc, "rope_parameters");
    espl_rope_config *global = &c->rope[ESPL_LAYER_ROPE_GLOBAL], *local = &c->rope[ESPL_LAYER_ROPE_LOCAL];
    bool local_given = f->local_theta_key != NULL;
    char where[512];
    snprintf(where, sizeof where, "%s: rope_scaling", name);
    global->theta = f->rope_theta;
    local->theta = f->local_theta;
    ESPL_TRY(espl_json_get_f64(doc, "rope_theta", name, false, 1e-3, 1e15, &global->theta));
    if (f->local_theta_key)
        ESPL_TRY(espl_json_get_f64(doc, f->local_theta_key, name, false, 1e-3, 1e15, &local->theta));
    double outside = global->theta;
    if (scaling && espl_config_is_off(scaling)) scaling = NULL;
    if (kinds && espl_config_is_off(kinds)) kinds = NULL;
    if (scaling && kinds)
        return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: \"rope_scaling\" beside \"rope_parameters\", expected one of them",
                         name);
    if (scaling) ESPL_TRY(rope_read(NULL, scaling, where, c, global));
    if (kinds) ESPL_TRY(rope_read_kinds(kinds, name, c, &local_given));
    /* transformers takes a classic rope_theta for full layers only, and the class default for the others; other
     * programs take it for all. */
    if (!local_given && outside != f->local_theta)
        return ESPL_FAIL(ESPL_UNSUPPORTED,
                         "%s: rope_theta %g does not say that of sliding layers; expected %g, or "
                         "\"rope_parameters\" with a rope_theta for each kind of layer",
                         name, outside, f->local_theta);
    return ESPL_OK;
}

/* The dictionary in force is the classic "rope_scaling" unless it is empty or off, else "rope_parameters" of
 * transformers 5. */
static espl_status rope_read_single(const cJSON *doc, const char *name, espl_model_config *c) {
    espl_rope_config *r = &c->rope[ESPL_LAYER_ROPE_GLOBAL];
    const char *key = "rope_scaling";
    const cJSON *rope = espl_json_member(doc, key);
    char where[512];
    if (!rope || espl_config_is_off(rope)) rope = espl_json_member(doc, key = "rope_parameters");
    r->theta = c->family->rope_theta;
    ESPL_TRY(espl_json_get_f64(doc, "rope_theta", name, false, 1e-3, 1e15, &r->theta));
    snprintf(where, sizeof where, "%s: %s", name, key);
    return rope && !espl_config_is_off(rope) ? rope_read(doc, rope, where, c, r) : ESPL_OK;
}

espl_status espl_config_read_rope(const cJSON *doc, const char *name, espl_model_config *c) {
    c->rotary = c->head_dim;
    ESPL_TRY(rope_read_rotary(doc, name, c));
    ESPL_TRY(c->family->local_theta > 0 ? rope_read_global_and_local(doc, name, c) : rope_read_single(doc, name, c));
    for (int k = 0; k < ESPL_LAYER_ROPES; k++) {
        const espl_rope_config *r = &c->rope[k];
        if (r->limit == 0 || r->limit >= c->max_positions) continue;
        espl_config_note(c, name, "rope_type %s is computed up to %" PRId64 " tokens, not %" PRId64,
                         espl_rope_type_name(r->type), r->limit, c->max_positions);
        c->max_positions = r->limit;
    }
    return ESPL_OK;
}
