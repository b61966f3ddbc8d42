/* SPDX-License-Identifier: Apache-2.0 */
/* Schemas of actions, in the subset of JSON Schema that OpenAI's tools, vLLM, llama.cpp, SGLang and Ollama share. */
#include "schema.h"

#include "view.h"

#include <inttypes.h>
#include <math.h>

/* What a schema is for decides how linears are named. */
typedef enum schema_names { NAMES_OPEN, NAMES_LISTED } schema_names;

static void schema_put_type(espl_json_writer *w, const char *key, const char *type, const char *description) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", type);
    if (description) espl_json_put_text(w, "description", description);
    espl_json_close(w);
}

static void schema_put_number(espl_json_writer *w, const char *key, double lo, double hi, const char *description) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "number");
    espl_json_put_shortest(w, "minimum", lo);
    espl_json_put_shortest(w, "maximum", hi);
    if (description) espl_json_put_text(w, "description", description);
    espl_json_close(w);
}

/* One text out of several. */
static void schema_put_enum(espl_json_writer *w, const char *key, const char *const *values, int n) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "string");
    espl_json_open_array(w, "enum", ESPL_JSON_COMPACT);
    for (int i = 0; i < n; i++) espl_json_put_text(w, NULL, values[i]);
    espl_json_close(w);
    espl_json_close(w);
}

/* A step or, with prune.mixed, an N:M pattern. */
static void schema_put_step(espl_json_writer *w, const char *key, const espl_agent_view *v) {
    static const char *const patterns[] = {"2:4", "4:8"};
    if (!v->mixed) {
        schema_put_number(w, key, 0, v->budget.max_step, NULL);
        return;
    }
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_open_array(w, "anyOf", ESPL_JSON_COMPACT);
    schema_put_number(w, NULL, 0, v->budget.max_step, NULL);
    schema_put_enum(w, NULL, patterns, ESPL_PATTERN_CHOICES);
    espl_json_close(w);
    espl_json_close(w);
}

static void schema_put_prune(espl_json_writer *w, const espl_agent_view *v, schema_names names) {
    char name[2 * ESPL_LINEAR_NAME_MAX];
    espl_json_open_object(w, "prune", ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "object");
    if (names == NAMES_OPEN) {
        espl_json_put_text(w, "description",
                           "sparsity to add, by name of a linear or by a pattern with stars, such as \"layers.3.*\" or "
                           "\"*.up_proj\"");
        schema_put_step(w, "additionalProperties", v);
    } else {
        espl_json_open_object(w, "properties", ESPL_JSON_COMPACT);
        for (int64_t i = 0; i < espl_view_linears(v); i++) schema_put_step(w, espl_linear_name(i, name), v);
        for (int k = 0; k < ESPL_LINEAR_KINDS; k++) {
            snprintf(name, sizeof name, "layers.*.%s", espl_linear_path((espl_linear_kind)k));
            schema_put_step(w, name, v);
        }
        for (int64_t layer = 0; layer < v->layers; layer++) {
            snprintf(name, sizeof name, "layers.%" PRId64 ".*", layer);
            schema_put_step(w, name, v);
        }
        espl_json_close(w);
        espl_json_put_bool(w, "additionalProperties", false);
    }
    espl_json_close(w);
}

static void schema_put_members(espl_json_writer *w, const espl_agent_view *v, espl_action_kind kind,
                               schema_names names) {
    static const char *const base[] = {"policy"};
    if (kind == ESPL_ACTION_INSPECT) {
        schema_put_type(w, "linears", "string", "name of a linear, or a pattern with stars");
        return;
    }
    if (kind == ESPL_ACTION_PROPOSE) {
        schema_put_type(w, "reasoning", "string", "why this plan");
        schema_put_type(w, "reflection", "string", "what the last outcome taught");
        espl_json_open_object(w, "lessons", ESPL_JSON_COMPACT);
        espl_json_put_text(w, "type", "array");
        espl_json_put_text(w, "description", "replaces the list of lessons");
        schema_put_type(w, "items", "string", NULL);
        espl_json_put_i64(w, "maxItems", ESPL_LESSONS_MAX);
        espl_json_close(w);
    }
    schema_put_enum(w, "base", base, 1);
    schema_put_number(w, "scale", 0, 10, "factor on the steps of the base");
    if (v->budget.share > 0) schema_put_number(w, "knowledge", 0, 1, "weight of knowledge in the base");
    if (isfinite(v->power)) schema_put_number(w, "power", 0, 1, "exponent of the curvature score");
    schema_put_prune(w, v, names);
    if (kind == ESPL_ACTION_PROPOSE) schema_put_type(w, "stop", "boolean", "ends the run for good");
}

void espl_schema_put_parameters(espl_json_writer *w, const char *key, const espl_agent_view *v, espl_action_kind kind) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "object");
    espl_json_open_object(w, "properties", ESPL_JSON_COMPACT);
    schema_put_members(w, v, kind, NAMES_OPEN);
    espl_json_close(w);
    espl_json_close(w);
}

void espl_schema_put_reply(espl_json_writer *w, const char *key, const espl_agent_view *v, unsigned offered) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_open_array(w, "anyOf", ESPL_JSON_COMPACT);
    for (int k = 0; k < ESPL_ACTION_COUNT; k++) {
        const char *name = espl_action_name((espl_action_kind)k);
        if (!(offered & 1U << k)) continue;
        espl_json_open_object(w, NULL, ESPL_JSON_COMPACT);
        espl_json_put_text(w, "type", "object");
        espl_json_open_object(w, "properties", ESPL_JSON_COMPACT);
        schema_put_enum(w, "action", &name, 1);
        schema_put_members(w, v, (espl_action_kind)k, NAMES_LISTED);
        espl_json_close(w);
        espl_json_open_array(w, "required", ESPL_JSON_COMPACT);
        espl_json_put_text(w, NULL, "action");
        if (k == ESPL_ACTION_INSPECT) espl_json_put_text(w, NULL, "linears");
        if (k == ESPL_ACTION_PROPOSE) espl_json_put_text(w, NULL, "reasoning");
        espl_json_close(w);
        espl_json_put_bool(w, "additionalProperties", false);
        espl_json_close(w);
    }
    espl_json_close(w);
    espl_json_close(w);
}
