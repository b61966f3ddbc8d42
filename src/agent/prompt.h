/* SPDX-License-Identifier: Apache-2.0 */
/* The messages that a language model reads. */
#ifndef ESPL_AGENT_PROMPT_H
#define ESPL_AGENT_PROMPT_H

#include "espalier/agent/view.h"
#include "espalier/base/str.h"

typedef struct espl_prompt_options {
    const char *system;      /* template of the system message; NULL: ours */
    const char *model_name;  /* of the model that is pruned; may be NULL */
    int64_t max_bytes;       /* of the user message, without the table of profiles */
    bool groups;             /* the table of profiles by layer and by kind */
    bool paper;              /* z_s, z_g and sparsity alone, and no questions */
    int64_t questions;       /* that may be asked in an iteration, 0: none; */
    int64_t experiments;     /* those of them that may be measured */
    bool calls;              /* questions are tool calls, whose form the server explains to the model */
    const espl_str *lessons; /* of the agent, one per line */
} espl_prompt_options;

/* ESPL_CONFIG naming path and field if a template has a "{{field}}" that is none of ours. */
espl_status espl_prompt_check_template(const char *text, const char *path);
/* Appends the system message: task, rules, what may be asked, form of the answer. */
void espl_prompt_put_system(espl_str *out, const espl_agent_view *view, const espl_prompt_options *how);
/* Appends the user message of an iteration: state, all profiles, lessons, as much of the history as max_bytes allows.
 * ESPL_CONFIG: a view out of range. */
espl_status espl_prompt_put_user(espl_str *out, const espl_agent_view *view, const espl_prompt_options *how);
/* Appends the message that answers an invalid reply; problems: one per line. */
void espl_prompt_put_correction(espl_str *out, const espl_agent_view *view, const espl_str *problems);

#endif
