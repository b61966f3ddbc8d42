/* SPDX-License-Identifier: Apache-2.0 */
/* A client of /v1/chat/completions: requests, repetitions, and where the answer is in a reply. */
#ifndef ESPL_AGENT_ENDPOINT_OPENAI_H
#define ESPL_AGENT_ENDPOINT_OPENAI_H

#include "action.h"
#include "state.h"

#include "espalier/base/journal.h"
#include "espalier/form/form.h"

typedef struct espl_openai espl_openai;

/* Copies what it needs of the options. Owned by the caller. ESPL_CONFIG: unusable URL or key, or the key's environment
 * variable is not set. */
espl_status espl_openai_open(espl_openai **out, const espl_agent_options *o);
/* NULL-safe. */
void espl_openai_close(espl_openai **c);

typedef struct espl_message {
    const char *role; /* "system", "user", "assistant" or "tool"; static storage */
    espl_str text;
    espl_str calls;   /* of an assistant that called tools: the JSON array of its calls, as it came; else empty */
    espl_str call_id; /* of a tool: the call that it answers */
} espl_message;
void espl_message_free(espl_message *m);

/* One question. Everything is borrowed. */
typedef struct espl_chat {
    const espl_message *messages; /* [n_messages] */
    int64_t n_messages, iteration, attempt;
    const espl_agent_view *view; /* bounds of the tools' parameters */
    const espl_form *form;       /* of a reply, for response_format */
    unsigned offered;            /* actions that the model may take now: bit 1 << espl_action_kind */
    espl_journal *dialogue;      /* NULL: no record */
    espl_agent_state *state;     /* counters, and which members of a request are refused; both are updated */
} espl_chat;

/* What the model said. Free with espl_answer_free. */
typedef struct espl_answer {
    espl_str text;
    espl_str calls; /* tool calls as a JSON array, or empty */
    bool cut_off;   /* it ended at max_tokens */
} espl_answer;
void espl_answer_free(espl_answer *a);

/* What one HTTP reply says, besides the model's words. */
typedef struct espl_openai_outcome {
    bool good;
    int64_t status; /* of HTTP, or of an error in a body of status 200 */
    char error[256];
    int64_t prompt_tokens, completion_tokens;
} espl_openai_outcome;
/* Reads the body of a reply of status 200, which is hostile input: appends to *said, or sets a->error. Both are
 * initialised by the caller. */
void espl_openai_read_body(const espl_str *body, espl_openai_outcome *a, espl_answer *said);

/* Asks, repeating what may succeed later. *answer is replaced. ESPL_AGENT: no answer; ESPL_DENIED: 401 or 403;
 * ESPL_STOPPED: cancelled; ESPL_IO: the record cannot be written. */
espl_status espl_openai_ask(espl_openai *c, const espl_chat *chat, espl_answer *answer);

/* Rewrites call k of `calls` as the action that a reply in JSON would be, {"action": NAME, arguments...}, and its id.
 * Arguments that are not a JSON object are given as they are, for the parser to complain of. False: there is no such
 * call. */
bool espl_openai_call_action(const espl_str *calls, int64_t k, espl_str *action, espl_str *id);

/* Local. Overwrites the key with asterisks wherever it occurs in the text (http.h): what was decoded may hold it again.
 */
void espl_openai_hide_key(const espl_openai *c, char *text, int64_t len);

/* True if tools are offered to the model as tools, rather than described in words. */
bool espl_openai_calls_tools(const espl_openai *c, const espl_agent_state *state);

#endif
