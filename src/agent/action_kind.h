/* SPDX-License-Identifier: Apache-2.0 */
/* The actions of a language model by name. All functions are Local; texts have static storage. */
#ifndef ESPL_AGENT_ACTION_KIND_H
#define ESPL_AGENT_ACTION_KIND_H

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

#endif
