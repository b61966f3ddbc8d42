/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the action of a reply: which one, the lessons, and the plan, which may start from the policy's.
 */
#include "action.h"

#include "clean.h"
#include "find.h"
#include "policy/policy.h"
#include "reply.h"

#include "espalier/base/memory.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <string.h>

void espl_action_free(espl_action *a) {
    espl_decision_free(&a->plan);
    espl_mem_free(&a->linears);
    espl_str_free(&a->lessons);
}

/* A reply without "action" decides: what small models, the policy and recordings write. */
static void action_read_kind(const cJSON *doc, espl_action *out, espl_str *problems) {
    const cJSON *action = cJSON_GetObjectItemCaseSensitive(doc, "action");
    out->kind = ESPL_ACTION_PROPOSE;
    if (!action || cJSON_IsNull(action)) return;
    const char *name = cJSON_GetStringValue(action);
    out->kind = name ? espl_action_kind_parse(name) : ESPL_ACTION_COUNT;
    if (out->kind == ESPL_ACTION_COUNT)
        espl_str_puts(problems, "\"action\" must be \"propose\", \"predict\", \"measure\" or \"inspect\"\n");
}

/* What the paper's agent does not have. */
static void action_check_paper(const cJSON *doc, espl_str *problems) {
    static const char *const others[] = {"base", "scale", "knowledge", "power", "lessons"};
    const cJSON *item;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (cJSON_GetObjectItemCaseSensitive(doc, others[i]))
            espl_str_printf(problems, "\"%s\" is not possible here\n", others[i]);
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(doc, "prune")) {
        if (!item->string || !strchr(item->string, '*')) continue;
        espl_str_puts(problems, "\"prune\" must name linears one by one\n");
        return;
    }
}

/* The list is cleaned like all texts of a reply, and cut: a model that only adds to it would fill its own context. */
static void action_read_lessons(const cJSON *doc, espl_action *out, espl_str *problems, espl_str *notes) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(doc, "lessons"), *lesson;
    int64_t n = 0;
    if (!list || cJSON_IsNull(list)) return;
    if (!cJSON_IsArray(list)) {
        espl_str_puts(problems, "\"lessons\" must be a list of texts\n");
        return;
    }
    out->has_lessons = true;
    cJSON_ArrayForEach(lesson, list) {
        const char *text = cJSON_GetStringValue(lesson);
        if (!text || n++ >= ESPL_LESSONS_MAX) continue;
        espl_agent_put_clean(&out->lessons, text, (int64_t)strlen(text), ESPL_LESSON_BYTES_MAX);
        espl_str_puts(&out->lessons, "\n");
    }
    if (n > ESPL_LESSONS_MAX) espl_str_printf(notes, "only the first %d lessons are kept\n", ESPL_LESSONS_MAX);
}

/* The name or pattern of linears to be told about. Several are a list in JSON, which is one pattern too many for
 * fnmatch: the first is taken. */
static espl_status action_read_linears(const cJSON *doc, espl_action *out, espl_str *problems) {
    const cJSON *linears = cJSON_GetObjectItemCaseSensitive(doc, "linears");
    if (cJSON_IsArray(linears)) linears = cJSON_GetArrayItem(linears, 0);
    const char *text = cJSON_GetStringValue(linears);
    if (text) return espl_str_dup(&out->linears, text, "agent");
    espl_str_puts(problems, "\"linears\" must be a name or a pattern, as in {\"action\": \"inspect\", \"linears\": "
                            "\"layers.3.*\"}\n");
    return espl_str_status(problems);
}

/* Whether the plan starts from the policy's. */
static bool action_is_based(const cJSON *doc, espl_str *problems) {
    const cJSON *base = cJSON_GetObjectItemCaseSensitive(doc, "base");
    const char *name = cJSON_GetStringValue(base);
    if (!base || cJSON_IsNull(base) || (name && strcmp(name, "none") == 0)) return false;
    if (name && strcmp(name, "policy") == 0) return true;
    espl_str_puts(problems, "\"base\" must be \"policy\" or \"none\"\n");
    return false;
}

/* The policy's plan for this view, with another weight of knowledge where the reply gives one. */
static espl_status action_make_base(const cJSON *doc, const espl_agent_view *view, const espl_policy_options *policy,
                                    espl_decision *base, espl_str *problems) {
    const cJSON *knowledge = cJSON_GetObjectItemCaseSensitive(doc, "knowledge");
    espl_agent_view v = *view;
    espl_str json = {0}, notes = {0}, faults = {0};
    espl_status st;
    if (knowledge && !cJSON_IsNull(knowledge)) {
        double share = cJSON_IsNumber(knowledge) ? knowledge->valuedouble : -1;
        if (!(share >= 0 && share <= 1)) {
            espl_str_puts(problems, "\"knowledge\" must be a number from 0 to 1\n");
            return espl_str_status(problems);
        }
        v.budget.share = share;
    }
    ESPL_CHECK(st, done, espl_policy_propose(&v, policy, &json));
    st = espl_reply_parse(json.data, json.len, &v, base, &faults, &notes);
done:
    espl_str_free(&json);
    espl_str_free(&notes);
    espl_str_free(&faults);
    return st;
}

espl_status espl_action_parse(const char *text, int64_t len, const espl_agent_view *view,
                              const espl_policy_options *policy, espl_agent_sight sight, espl_action *out,
                              espl_str *problems, espl_str *notes) {
    cJSON *doc = NULL;
    espl_decision base = {0};
    espl_status st;
    *out = (espl_action){0};
    ESPL_CHECK(st, done, espl_reply_find(text, len, &doc, problems));
    if (doc) {
        action_read_kind(doc, out, problems);
        if (sight == ESPL_VIEW_PAPER) action_check_paper(doc, problems);
        action_read_lessons(doc, out, problems, notes);
    }
    if (problems->len == 0 && out->kind == ESPL_ACTION_INSPECT) {
        ESPL_CHECK(st, done, action_read_linears(doc, out, problems));
    } else if (problems->len == 0) {
        bool based = action_is_based(doc, problems);
        if (based) ESPL_CHECK(st, done, action_make_base(doc, view, policy, &base, problems));
        if (problems->len == 0)
            ESPL_CHECK(st, done, espl_reply_read(doc, view, based ? &base : NULL, &out->plan, problems, notes));
    }
    if (!out->plan.reason) ESPL_CHECK(st, done, espl_decision_init(&out->plan, 0));
    st = problems->failed || notes->failed || out->lessons.failed ? ESPL_FAIL(ESPL_NOMEM, "no memory to read a reply")
                                                                  : ESPL_OK;
done:
    cJSON_Delete(doc);
    espl_decision_free(&base);
    return st;
}
