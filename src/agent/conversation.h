/* SPDX-License-Identifier: Apache-2.0 */
/* One iteration's conversation with a language model: its questions, its invalid replies, and its decision. */
#ifndef ESPL_AGENT_CONVERSATION_H
#define ESPL_AGENT_CONVERSATION_H

#include "endpoint/openai.h"

#include "espalier/agent/agent.h"

/* Everything is borrowed. */
typedef struct espl_conversation {
    const espl_agent_options *o;
    const char *system; /* template of the system message; NULL: ours */
    const espl_agent_view *view;
    const espl_agent_host *host; /* NULL: nothing can be measured */
    espl_openai *openai;         /* NULL: the host completes */
    espl_journal *dialogue;      /* NULL: no record */
    espl_agent_state *state;
} espl_conversation;

/* Talks until the model has decided. Invalid replies are returned to it with what is wrong, questions are answered, and
 * the lessons it gives are kept. *out is filled on ESPL_OK only, and then owned by the caller. ESPL_AGENT: no usable
 * answer; ESPL_DENIED; ESPL_STOPPED; ESPL_IO: the record cannot be written; failures of the host. */
espl_status espl_conversation_decide(const espl_conversation *c, espl_decision *out, espl_str *notes);
/* Appends the messages with which it would begin, each under a line "--- role ---". ESPL_CONFIG: a view out of range.
 */
espl_status espl_conversation_put_prompt(const espl_conversation *c, espl_str *out);

#endif
