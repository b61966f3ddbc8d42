/* SPDX-License-Identifier: Apache-2.0 */
/* The part of an agent that a checkpoint carries, as JSON. */
#ifndef ESPL_AGENT_STATE_H
#define ESPL_AGENT_STATE_H

#include "espalier/agent/agent.h"

/* Members of a request that some models refuse; X(name, bit, name in JSON). */
#define ESPL_REFUSED_LIST(X)                                                                                           \
    X(MAX_TOKENS, 1, "max_tokens")                                                                                     \
    X(TEMPERATURE, 2, "temperature")                                                                                   \
    X(SEED, 4, "seed")                                                                                                 \
    X(TOOLS, 8, "tools")
enum {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name */
#define X(name, bit, text) ESPL_REFUSED_##name = bit,
    ESPL_REFUSED_LIST(X)
#undef X
        ESPL_REFUSED_ALL = 15
};

/* How a request asks for JSON: the strictest form that the server has not refused. X(name, name in the state) */
#define ESPL_REPLY_FORM_LIST(X)                                                                                        \
    X(SCHEMA, "json_schema")        /* what does not fit the schema cannot be written */                               \
    X(GUIDED, "json_object_schema") /* the same in the words of llama-cpp-python: a schema beside json_object */       \
    X(OBJECT, "json_object")                                                                                           \
    X(PLAIN, "plain") /* nothing is asked for */
typedef enum espl_reply_form {
#define X(name, text) ESPL_REPLY_##name,
    ESPL_REPLY_FORM_LIST(X)
#undef X
        ESPL_REPLY_FORMS
} espl_reply_form;
const char *espl_reply_form_name(espl_reply_form f);

typedef struct espl_agent_state {
    espl_reply_form form;
    int64_t refused;  /* ESPL_REFUSED_...: members of a request that the server refused */
    int64_t failures; /* iterations in a row without a usable answer */
    espl_str lessons; /* what the agent wants to remember, one lesson per line */
    espl_agent_stats stats;
} espl_agent_state;

void espl_agent_state_put(espl_str *s, const espl_agent_state *state);
/* Replaces *state, which owns its lessons. ESPL_FORMAT: not such a state; *state is unchanged then. */
espl_status espl_agent_state_read(espl_agent_state *state, const char *bytes, int64_t len);

#endif
