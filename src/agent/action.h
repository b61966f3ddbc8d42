/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a language model may do in its turn: ask the program about a plan or about linears, or decide. As a tool call
 * and as JSON in the text of a reply an action is the same object, {"action": "predict", "prune": {...}}.
 */
#ifndef ESPL_AGENT_ACTION_H
#define ESPL_AGENT_ACTION_H

#include "action_kind.h"

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"
#include "espalier/base/str.h"

typedef struct espl_action {
    espl_action_kind kind;
    espl_decision plan; /* empty for INSPECT */
    char *linears;      /* INSPECT: a name or pattern; else NULL */
    bool has_lessons;   /* the reply replaces the agent's list of lessons */
    espl_str lessons;   /* one per line */
} espl_action;

enum {
    ESPL_LESSONS_MAX = 12,      /* the list is read again in every iteration */
    ESPL_LESSON_BYTES_MAX = 240 /* of one */
};

/* Reads a reply: hostile text. *out is always initialised, and owned by the caller: espl_action_free. Problems and
 * notes are those of espl_reply_parse (espalier/agent/reply.h); with problems the plan is empty. A plan may start from
 * the policy's (`policy`: its options), but not in the paper's `sight`. Failures are those of espl_policy_propose. */
espl_status espl_action_parse(const char *text, int64_t len, const espl_agent_view *view,
                              const espl_policy_options *policy, espl_agent_sight sight, espl_action *out,
                              espl_str *problems, espl_str *notes);
void espl_action_free(espl_action *a);

#endif
