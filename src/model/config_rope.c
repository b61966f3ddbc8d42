/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoPE in config.json: thetas, and the dictionaries of scalings (modeling_rope_utils.py of transformers 5.23).
 */
#include "config_rope.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "espalier/base/json.h"

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

/* RoPE over all of a head only. where: the file, or the dictionary in it. */
static espl_status check_rotary_factor(const cJSON *object, const char *where) {
    double factor = 1;
    ESPL_TRY(espl_json_get_f64(object, "partial_rotary_factor", where, false, -DBL_MAX, DBL_MAX, &factor));
    if (factor == 1) return ESPL_OK;
    return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: partial_rotary_factor %g is not supported, expected 1", where, factor);
}

/* The length that a scaling starts from. A field of that name outside the dictionary `rope` wins over the one inside.
 */
static espl_status rope_read_original(const cJSON *doc, const cJSON *rope, const char *where,
                                      const espl_model_config *c, espl_rope_config *r) {
    r->original = c->max_positions;
    ESPL_TRY(espl_json_get_i64(rope, original_key, where, false, 1, INT32_MAX, &r->original));
    ESPL_TRY(espl_json_get_i64(doc, original_key, where, false, 1, INT32_MAX, &r->original));
    return r->original > 0 ? ESPL_OK : ESPL_FAIL(ESPL_FORMAT, "%s: \"%s\" is missing", where, original_key);
}

static espl_status rope_read_llama3(const cJSON *rope, const char *where, espl_rope_config *r) {
    ESPL_TRY(espl_json_get_f64(rope, "factor", where, true, 1, 1e6, &r->factor));
    ESPL_TRY(espl_json_get_f64(rope, "low_freq_factor", where, true, 1e-6, 1e6, &r->low));
    ESPL_TRY(espl_json_get_f64(rope, "high_freq_factor", where, true, 1e-6, 1e6, &r->high));
    if (r->high > r->low) return ESPL_OK;
    return ESPL_FAIL(ESPL_FORMAT, "%s: high_freq_factor %g must exceed low_freq_factor %g", where, r->high, r->low);
}

/* The type of a dictionary: "type" is the older name of rope_type. */
static espl_status rope_read_type(const cJSON *rope, const char *where, const espl_family *f, espl_rope_type *type) {
    const char *text = "default";
    size_t i = 0;
    ESPL_TRY(espl_json_get_str(rope, "type", where, false, &text));
    ESPL_TRY(espl_json_get_str(rope, "rope_type", where, false, &text));
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

/* Refuses members of a dictionary that are neither read nor known to change nothing. */
static espl_status rope_check_keys(const cJSON *rope, const char *where, espl_model_config *c) {
    static const char *const keys[] = {
        "rope_type",        "type",       "rope_theta",           "factor", "low_freq_factor",
        "high_freq_factor", original_key, "partial_rotary_factor"};
    const cJSON *v;
    cJSON_ArrayForEach(v, rope) {
        ESPL_TRY(espl_config_check_once(rope, v, where));
        if (espl_config_key_in(v->string, keys, COUNT_OF(keys))) continue;
        bool inert = espl_config_key_in(v->string, inert_rope_keys, COUNT_OF(inert_rope_keys));
        if (!cJSON_IsNull(v) && !cJSON_IsFalse(v) && !inert)
            return ESPL_FAIL(ESPL_UNSUPPORTED, "%s: field \"%s\" is not supported", where, v->string);
        espl_config_note(c, where, "field \"%.64s\" is ignored", v->string);
    }
    return ESPL_OK;
}

/* Reads a dictionary into *r, whose theta is set to the one in force outside of it. */
static espl_status rope_read(const cJSON *doc, const cJSON *rope, const char *where, espl_model_config *c,
                             espl_rope_config *r) {
    if (!cJSON_IsObject(rope)) return ESPL_FAIL(ESPL_FORMAT, "%s: must be an object", where);
    ESPL_TRY(rope_check_keys(rope, where, c));
    ESPL_TRY(check_rotary_factor(rope, where));
    ESPL_TRY(espl_json_get_f64(rope, "rope_theta", where, false, 1e-3, 1e15, &r->theta));
    ESPL_TRY(rope_read_type(rope, where, c->family, &r->type));
    switch (r->type) {
    case ESPL_ROPE_LLAMA3:
        ESPL_TRY(rope_read_llama3(rope, where, r));
        return rope_read_original(doc, rope, where, c, r);
    case ESPL_ROPE_DYNAMIC:
        if (c->max_positions < 1)
            return ESPL_FAIL(ESPL_FORMAT, "%s: rope_type \"dynamic\" needs max_position_embeddings", where);
        r->limit = c->max_positions;
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &r->factor);
    case ESPL_ROPE_LINEAR:
        return espl_json_get_f64(rope, "factor", where, true, 1e-6, 1e6, &r->factor);
    default:
        return ESPL_OK;
    }
}

/* The dictionary in force is the classic "rope_scaling" unless it is empty or off, else "rope_parameters" of
 * transformers 5. */
espl_status espl_config_read_rope(const cJSON *doc, const char *name, espl_model_config *c) {
    espl_rope_config *r = &c->rope[ESPL_LAYER_ROPE_GLOBAL];
    const char *key = "rope_scaling";
    const cJSON *rope = espl_json_member(doc, key);
    char where[512];
    if (!rope || espl_config_is_off(rope)) rope = espl_json_member(doc, key = "rope_parameters");
    r->theta = c->family->rope_theta;
    c->rotary = c->head_dim;
    ESPL_TRY(check_rotary_factor(doc, name));
    ESPL_TRY(espl_json_get_f64(doc, "rope_theta", name, false, 1e-3, 1e15, &r->theta));
    snprintf(where, sizeof where, "%s: %s", name, key);
    return rope && !espl_config_is_off(rope) ? rope_read(doc, rope, where, c, r) : ESPL_OK;
}
