/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a language model may do in its turn: ask the program about a plan or about linears, or decide. As a tool call
 * and as JSON in the text of a reply an action is the same object, {"action": "predict", "prune": {...}}.
 */
#ifndef ESPL_AGENT_ACTION_H
#define ESPL_AGENT_ACTION_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"
#include "espalier/base/str.h"

/* X(name, name in JSON, meaning). All but PROPOSE are questions. */
#define ESPL_ACTION_LIST(X)                                                                                            \
    X(PROPOSE, "propose", "decides: the plan is carried out, judged, and kept or rolled back")                         \
    X(PREDICT, "predict", "computes from the profile what a plan is expected to cost; nothing is pruned")              \
    X(MEASURE, "measure", "prunes by a plan, measures the losses that would judge it, and takes it back")              \
    X(INSPECT, "inspect", "tells all that is known of linears: sensitivities, damage at further steps, what was tried")
typedef enum espl_action_kind {
#define X(name, text, meaning) ESPL_ACTION_##name,
    ESPL_ACTION_LIST(X)
#undef X
        ESPL_ACTION_COUNT
} espl_action_kind;

const char *espl_action_name(espl_action_kind kind);
const char *espl_action_meaning(espl_action_kind kind);
/* ESPL_ACTION_COUNT if there is no such action. */
espl_action_kind espl_action_kind_parse(const char *name);

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
 * the policy's (`policy`: its options). ESPL_NOMEM is the only failure. */
espl_status espl_action_parse(const char *text, int64_t len, const espl_agent_view *view,
                              const espl_policy_options *policy, espl_action *out, espl_str *problems, espl_str *notes);
void espl_action_free(espl_action *a);

#endif
