/* SPDX-License-Identifier: Apache-2.0 */
/* The messages that a language model reads. */
#ifndef ESPL_AGENT_PROMPT_H
#define ESPL_AGENT_PROMPT_H

#include "espalier/agent/view.h"

/* Appends the system message: task, rules, form of the answer. model_name may be NULL. */
void espl_prompt_put_system(espl_str *out, const espl_agent_view *view, const char *model_name);
/* Appends the user message of an iteration: state, all profiles, as much of the history as keeps the message, without
 * the table of profiles, to max_bytes. ESPL_CONFIG: a view out of range. */
espl_status espl_prompt_put_user(espl_str *out, const espl_agent_view *view, int64_t max_bytes);
/* Appends the message that answers an invalid reply; problems: one per line. */
void espl_prompt_put_correction(espl_str *out, const espl_agent_view *view, const espl_str *problems);

#endif
