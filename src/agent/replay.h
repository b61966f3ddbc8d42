/* SPDX-License-Identifier: Apache-2.0 */
/* Backend "replay": repeats the decisions of a recorded dialogue. */
#ifndef ESPL_AGENT_REPLAY_H
#define ESPL_AGENT_REPLAY_H

#include "espalier/agent/view.h"

typedef struct espl_replay espl_replay;

/* Reads the decisions of a dialogue.jsonl. Owned by the caller. ESPL_IO; ESPL_FORMAT: not a dialogue, no decision in
 * it, or decisions out of order. */
espl_status espl_replay_open(espl_replay **out, const char *path);
/* NULL-safe. */
void espl_replay_close(espl_replay **r);
/* The recorded decision of view->iteration; *out is always initialised. ESPL_FORMAT: there is none, or it does not fit
 * the view. */
espl_status espl_replay_ask(const espl_replay *r, const espl_agent_view *view, espl_decision *out);

#endif
