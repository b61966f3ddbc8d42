/* SPDX-License-Identifier: Apache-2.0 */
/* The part of an agent that a checkpoint carries, as JSON. */
#ifndef ESPL_AGENT_STATE_H
#define ESPL_AGENT_STATE_H

#include "espalier/agent/agent.h"

/* Members of a request that some models refuse; X(name, bit, name in JSON). */
#define ESPL_REFUSED_LIST(X)                                                                                           \
    X(MAX_TOKENS, 1, "max_tokens")                                                                                     \
    X(TEMPERATURE, 2, "temperature")                                                                                   \
    X(SEED, 4, "seed")
enum {
/* NOLINTNEXTLINE(bugprone-macro-parentheses): a member's name */
#define X(name, bit, text) ESPL_REFUSED_##name = bit,
    ESPL_REFUSED_LIST(X)
#undef X
        ESPL_REFUSED_ALL = 7
};

typedef struct espl_agent_state {
    bool response_format; /* false: the server refused this member of a request, so it is no longer sent */
    int64_t refused;      /* ESPL_REFUSED_...: so are these */
    int64_t failures;     /* iterations in a row without a usable answer */
    espl_agent_stats stats;
} espl_agent_state;

void espl_agent_state_put(espl_str *s, const espl_agent_state *state);
/* ESPL_FORMAT: not such a state; *state is unchanged then. */
espl_status espl_agent_state_read(espl_agent_state *state, const char *bytes, int64_t len);

#endif
