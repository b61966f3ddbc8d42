/* SPDX-License-Identifier: Apache-2.0 */
/* The part of an agent that a checkpoint carries, as JSON. */
#ifndef ESPL_AGENT_STATE_H
#define ESPL_AGENT_STATE_H

#include "espalier/agent/agent.h"

typedef struct espl_agent_state {
    bool response_format; /* false: the server refused this member of a request, so it is no longer sent */
    int64_t failures;     /* iterations in a row without a usable answer */
    espl_agent_stats stats;
} espl_agent_state;

void espl_agent_state_put(espl_str *s, const espl_agent_state *state);
/* ESPL_FORMAT: not such a state; *state is unchanged then. */
espl_status espl_agent_state_read(espl_agent_state *state, const char *bytes, int64_t len);

#endif
