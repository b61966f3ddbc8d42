/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forms of replies. The bounds are those that reply.c checks, so that what fits the form is a valid action.
 */
#include "forms.h"

#include "view.h"

#include "espalier/base/integer.h"
#include "espalier/base/memory.h"

#include <inttypes.h>
#include <math.h>

enum {
    REASON_BYTES = 800,       /* a form keeps a model from writing for ever */
    REASON_BRIEF_BYTES = 160, /* a small model has nothing to say beyond */
    BRIEF_NAMES = 16,         /* in a plan: each costs a dozen tokens */
    STEP_DECIMALS = 3,
    MEMBERS_MAX = 10 /* of an action */
};
static const double STEP_MIN = 0.001; /* a brief plan of steps of 0 would be none */

/* ----------------------------------------------------------------- schemas */

static void forms_put_type(espl_json_writer *w, const char *key, const char *type, const char *description) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", type);
    espl_json_put_text(w, "description", description);
    espl_json_close(w);
}

/* Steps by name or pattern, of any linears. */
static void forms_put_prune(espl_json_writer *w, const espl_agent_view *v) {
    static const char *const patterns[] = {"2:4", "4:8"};
    const espl_form step = {.kind = ESPL_FORM_NUMBER, .hi = v->budget.max_step, .decimals = STEP_DECIMALS},
                    pattern = {.kind = ESPL_FORM_CHOICE, .names = patterns, .n_names = ESPL_PATTERN_CHOICES};
    const espl_form_member values[] = {{NULL, &step}, {NULL, &pattern}};
    const espl_form either = {.kind = ESPL_FORM_EITHER, .members = values, .n_members = 2};
    espl_json_open_object(w, "prune", ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "object");
    espl_json_put_text(w, "description",
                       "sparsity to add, by name of a linear or by a pattern with stars, such as \"layers.3.*\" or "
                       "\"*.up_proj\"");
    espl_form_put_schema(w, "additionalProperties", v->mixed ? &either : &step);
    espl_json_close(w);
}

void espl_forms_put_parameters(espl_json_writer *w, const char *key, const espl_agent_view *v, espl_action_kind kind) {
    espl_json_open_object(w, key, ESPL_JSON_COMPACT);
    espl_json_put_text(w, "type", "object");
    espl_json_open_object(w, "properties", ESPL_JSON_COMPACT);
    if (kind == ESPL_ACTION_INSPECT) {
        forms_put_type(w, "linears", "string", "name of a linear, or a pattern with stars");
    } else {
        if (kind == ESPL_ACTION_PROPOSE) {
            forms_put_type(w, "reasoning", "string", "why this plan");
            forms_put_type(w, "reflection", "string", "what the last outcome taught");
            espl_json_open_object(w, "lessons", ESPL_JSON_COMPACT);
            espl_json_put_text(w, "type", "array");
            forms_put_type(w, "items", "string", "one lesson; the list replaces the one before");
            espl_json_close(w);
        }
        forms_put_type(w, "base", "string", "\"policy\": start from the policy's plan");
        forms_put_type(w, "scale", "number", "factor on the steps of the policy's plan");
        if (v->budget.share > 0)
            forms_put_type(w, "knowledge", "number", "weight of answers in the policy's plan, 0 to 1");
        if (isfinite(v->power)) forms_put_type(w, "power", "number", "exponent of the curvature score, 0 to 1");
        forms_put_prune(w, v);
        if (kind == ESPL_ACTION_PROPOSE) forms_put_type(w, "stop", "boolean", "true ends the run for good");
    }
    espl_json_close(w);
    espl_json_close(w);
}

/* ------------------------------------------------------------------- forms */

struct espl_forms {
    espl_form reply; /* VARIANTS: the actions */
    espl_form_member actions[ESPL_ACTION_COUNT];
    espl_form action[ESPL_ACTION_COUNT], kind[ESPL_ACTION_COUNT];
    const char *kind_name[ESPL_ACTION_COUNT];
    espl_form_member members[ESPL_ACTION_COUNT][MEMBERS_MAX];
    /* Members that actions share. */
    espl_form reasoning, reflection, lesson, lessons, base, scale, knowledge, power, prune, stop, linears;
    espl_form step, pattern, value;
    espl_form_member values[2];
    espl_form_member *names;                 /* [n_names] of `prune` */
    char (*texts)[2 * ESPL_LINEAR_NAME_MAX]; /* [n_texts] the patterns, then the names */
    int64_t n_texts;
    const char **subjects; /* [layers + kinds] what a brief INSPECT may ask about */
    int64_t n_names;       /* 0: no linear has room, and a plan is the policy's alone */
};

/* Linears that one pattern may be for: a layer or a kind. */
static int64_t forms_widest_pattern(const espl_agent_view *v) {
    return espl_max_i64(v->layout.layers * espl_layout_mlps(v->layout), espl_layout_layer_linears(v->layout));
}

/* Whether pattern p - a layer, then a kind - is for any linear that can be pruned. */
static bool forms_has_room(const espl_agent_view *v, int64_t p) {
    int64_t layers = v->layout.layers;
    for (int64_t i = 0; i < espl_view_linears(v); i++) {
        bool matches = p < layers ? espl_linear_layer(v->layout, i) == p
                                  : (int64_t)espl_linear_kind_of(v->layout, i) == p - layers;
        if (matches && espl_view_room(v, i) > 0) return true;
    }
    return false;
}

/* Adds a linear by its name, and the experts of a layer and kind together, at the first of them: hundreds of names
 * would fill the form. With `whole` also what has no room. */
static void forms_list_linear(espl_forms *f, const espl_agent_view *v, int64_t i, bool whole) {
    char *text = f->texts[f->n_texts];
    espl_layout l = v->layout;
    bool dense = v->rows[i].pruned <= v->rows[i].zeros, experts = espl_linear_expert(l, i) >= 0;
    int64_t room = espl_view_room(v, i);
    if (espl_linear_expert(l, i) > 0 || (experts && !whole && l.experts > v->budget.max_linears)) return;
    for (int64_t e = 1; experts && e < l.experts; e++) {
        const espl_profile_row *row = &v->rows[i + e * ESPL_MLP_LINEARS];
        room += espl_view_room(v, i + e * ESPL_MLP_LINEARS);
        dense = dense && row->pruned <= row->zeros;
    }
    if (!whole && room == 0) return;
    if (experts)
        snprintf(text, sizeof f->texts[0], "layers.%" PRId64 ".%s", espl_linear_layer(l, i),
                 espl_linear_pattern(l, espl_linear_kind_of(l, i)));
    else
        espl_linear_name(l, i, text);
    f->n_texts++;
    f->names[f->n_names++] = (espl_form_member){text, v->mixed && dense && whole ? &f->value : &f->step};
}

/* The members of "prune": linears by name, and each layer and each kind by pattern. A small model gets no linear
 * without room, and patterns only if one does not exceed max_linears: what it is offered is valid. */
static espl_status forms_list_names(espl_forms *f, const espl_agent_view *v, espl_forms_extent extent) {
    int64_t layers = v->layout.layers, patterns = layers + ESPL_LINEAR_KINDS;
    int64_t most = layers * ESPL_LINEAR_KINDS + patterns; /* experts count once */
    bool whole = extent == ESPL_FORMS_WHOLE, fit = forms_widest_pattern(v) <= v->budget.max_linears;
    ESPL_TRY(espl_mem_alloc(&f->names, most, sizeof *f->names, "form"));
    ESPL_TRY(espl_mem_alloc(&f->texts, most, sizeof *f->texts, "form"));
    ESPL_TRY(espl_mem_alloc(&f->subjects, patterns, sizeof *f->subjects, "form"));
    for (int64_t p = 0; p < patterns; p++) {
        char *text = f->texts[f->n_texts++];
        if (p < layers)
            snprintf(text, sizeof f->texts[0], "layers.%" PRId64 ".*", p);
        else
            snprintf(text, sizeof f->texts[0], "layers.*.%s",
                     espl_linear_pattern(v->layout, (espl_linear_kind)(p - layers)));
        f->subjects[p] = text;
        if (whole || (fit && forms_has_room(v, p))) f->names[f->n_names++] = (espl_form_member){text, &f->step};
    }
    for (int64_t i = 0; i < espl_view_linears(v); i++) forms_list_linear(f, v, i, whole);
    return ESPL_OK;
}

/* Names that a plan may hold at once. */
static int64_t forms_most_names(const espl_forms *f, const espl_agent_view *v, espl_forms_extent extent) {
    int64_t linears = v->budget.max_linears, widest = forms_widest_pattern(v), experts = espl_layout_mlps(v->layout);
    if (widest > linears && experts <= linears) widest = experts; /* then no wider pattern is offered */
    if (extent == ESPL_FORMS_WHOLE) return espl_min_i64(espl_min_i64(linears, f->n_names), ESPL_FORM_ENTRIES);
    /* Each name may be a pattern for so many linears. */
    int64_t most = widest <= linears ? linears / widest : linears;
    return espl_min_i64(espl_min_i64(most, BRIEF_NAMES), f->n_names);
}

/* The members that a plan is made of. */
static void forms_fill_members(espl_forms *f, const espl_agent_view *v, espl_forms_extent extent) {
    static const char *const bases[] = {"policy", "none"}, *const patterns[] = {"2:4", "4:8"};
    bool brief = extent != ESPL_FORMS_WHOLE;
    int64_t reason = brief ? REASON_BRIEF_BYTES : REASON_BYTES;
    f->reasoning = (espl_form){.kind = ESPL_FORM_TEXT, .max = reason, .about = "why this plan"};
    f->reflection = (espl_form){.kind = ESPL_FORM_TEXT, .max = reason, .about = "what the last outcome taught"};
    f->lesson = (espl_form){.kind = ESPL_FORM_TEXT, .max = ESPL_LESSON_BYTES_MAX};
    f->lessons = (espl_form){.kind = ESPL_FORM_ARRAY,
                             .element = &f->lesson,
                             .max = ESPL_LESSONS_MAX,
                             .about = "replaces the list of lessons"};
    f->base = (espl_form){.kind = ESPL_FORM_CHOICE,
                          .names = bases,
                          .n_names = f->n_names > 0 ? 2 : 1,
                          .about = "what the plan starts from"};
    f->scale = (espl_form){.kind = ESPL_FORM_NUMBER, .lo = 0.1, .hi = 10, .decimals = 2, .about = "factor on the base"};
    f->knowledge =
        (espl_form){.kind = ESPL_FORM_NUMBER, .hi = 1, .decimals = 2, .about = "weight of answers in the base"};
    f->power = (espl_form){.kind = ESPL_FORM_NUMBER, .hi = 1, .decimals = 2, .about = "exponent of the score"};
    f->stop = (espl_form){.kind = ESPL_FORM_BOOLEAN, .about = "true ends the run for good"};
    f->linears =
        (espl_form){.kind = ESPL_FORM_TEXT, .max = ESPL_LINEAR_NAME_MAX, .about = "a name, or a pattern with stars"};
    if (brief) /* a layer or a kind: small models write no patterns of their own */
        f->linears = (espl_form){
            .kind = ESPL_FORM_CHOICE, .names = f->subjects, .n_names = v->layout.layers + ESPL_LINEAR_KINDS};
    f->step =
        (espl_form){.kind = ESPL_FORM_NUMBER,
                    .lo = brief ? fmin(STEP_MIN, v->budget.max_step) : 0, /* 0 leaves a linear of the base alone */
                    .hi = v->budget.max_step,
                    .decimals = v->budget.max_step < STEP_MIN ? ESPL_FORM_DECIMALS : STEP_DECIMALS};
    f->pattern = (espl_form){.kind = ESPL_FORM_CHOICE, .names = patterns, .n_names = ESPL_PATTERN_CHOICES};
    f->values[0] = (espl_form_member){.form = &f->step};
    f->values[1] = (espl_form_member){.form = &f->pattern};
    f->value = (espl_form){.kind = ESPL_FORM_EITHER, .members = f->values, .n_members = 2};
    f->prune = (espl_form){.kind = ESPL_FORM_MAP,
                           .members = f->names,
                           .n_members = f->n_names,
                           .min = brief,
                           .max = forms_most_names(f, v, extent)};
}

static void forms_fill_action(espl_forms *f, const espl_agent_view *v, espl_action_kind kind,
                              espl_forms_extent extent) {
    espl_form_member *m = f->members[kind];
    int64_t n = 0;
    bool whole = extent == ESPL_FORMS_WHOLE, decides = kind == ESPL_ACTION_PROPOSE;
    f->kind_name[kind] = espl_action_name(kind);
    f->kind[kind] = (espl_form){.kind = ESPL_FORM_CHOICE, .names = &f->kind_name[kind], .n_names = 1};
    m[n++] = (espl_form_member){"action", &f->kind[kind]};
    if (kind == ESPL_ACTION_INSPECT) {
        m[n++] = (espl_form_member){"linears", &f->linears};
    } else {
        if (decides) m[n++] = (espl_form_member){"reasoning", &f->reasoning};
        if (decides) m[n++] = (espl_form_member){"reflection", &f->reflection};
        if (decides && whole) m[n++] = (espl_form_member){"lessons", &f->lessons};
        if (extent != ESPL_FORMS_PAPER) m[n++] = (espl_form_member){"base", &f->base};
        if (extent != ESPL_FORMS_PAPER) m[n++] = (espl_form_member){"scale", &f->scale};
        if (whole && v->budget.share > 0) m[n++] = (espl_form_member){"knowledge", &f->knowledge};
        if (whole && isfinite(v->power)) m[n++] = (espl_form_member){"power", &f->power};
        if (f->n_names > 0) m[n++] = (espl_form_member){"prune", &f->prune};
        if (decides && whole) m[n++] = (espl_form_member){"stop", &f->stop};
    }
    f->action[kind] = (espl_form){.kind = ESPL_FORM_OBJECT, .members = m, .n_members = n};
    f->actions[f->reply.n_members++] = (espl_form_member){NULL, &f->action[kind]};
}

espl_status espl_forms_create(espl_forms **out, const espl_agent_view *v, unsigned offered, espl_forms_extent extent) {
    espl_status st;
    ESPL_TRY(espl_mem_alloc(out, 1, sizeof **out, "form"));
    espl_forms *f = *out;
    ESPL_CHECK(st, failed, forms_list_names(f, v, extent));
    forms_fill_members(f, v, extent);
    f->reply = (espl_form){.kind = ESPL_FORM_VARIANTS, .members = f->actions};
    for (int k = 0; k < ESPL_ACTION_COUNT; k++)
        if (offered & 1U << k) forms_fill_action(f, v, (espl_action_kind)k, extent);
    return ESPL_OK;
failed:
    espl_forms_free(out);
    return st;
}

void espl_forms_free(espl_forms **f) {
    if (!*f) return;
    espl_mem_free(&(*f)->names);
    espl_mem_free(&(*f)->texts);
    espl_mem_free(&(*f)->subjects);
    espl_mem_free(f);
}

const espl_form *espl_forms_reply(const espl_forms *f) { return &f->reply; }
