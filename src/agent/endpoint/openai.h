/* SPDX-License-Identifier: Apache-2.0 */
/* A client of /v1/chat/completions: requests, repetitions, and where the answer is in a reply. */
#ifndef ESPL_AGENT_ENDPOINT_OPENAI_H
#define ESPL_AGENT_ENDPOINT_OPENAI_H

#include "state.h"

#include "espalier/base/journal.h"

typedef struct espl_openai espl_openai;

/* Copies what it needs of the options. Owned by the caller. ESPL_CONFIG: unusable URL or key, or the key's environment
 * variable is not set. */
espl_status espl_openai_open(espl_openai **out, const espl_agent_options *o);
/* NULL-safe. */
void espl_openai_close(espl_openai **c);

typedef struct espl_message {
    const char *role; /* "system", "user" or "assistant"; static storage */
    espl_str text;
} espl_message;

/* One question. Everything is borrowed. */
typedef struct espl_chat {
    const espl_message *messages; /* [n_messages] */
    int64_t n_messages, iteration, attempt;
    espl_journal *dialogue;  /* NULL: no record */
    espl_agent_state *state; /* counters, and whether response_format is sent; both are updated */
} espl_chat;

/* Asks, repeating what may succeed later. *text is replaced by the assistant's text; *cut_off: it ended at max_tokens.
 * ESPL_AGENT: no answer; ESPL_STOPPED: cancelled; ESPL_IO: the record cannot be written. */
espl_status espl_openai_ask(espl_openai *c, const espl_chat *chat, espl_str *text, bool *cut_off);

#endif
