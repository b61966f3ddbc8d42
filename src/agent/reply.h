/* SPDX-License-Identifier: Apache-2.0 */
/* The second half of the reply parser, for a decision that is JSON already. */
#ifndef ESPL_AGENT_REPLY_H
#define ESPL_AGENT_REPLY_H

#include "espalier/agent/reply.h"

struct cJSON;

/* Reads a decision from a JSON object, as espl_reply_parse does once it has found the object in the text. Arguments and
 * failures are those of espl_reply_parse; `base`: the plan that the object starts from and overrides, or NULL. */
espl_status espl_reply_read(const struct cJSON *doc, const espl_agent_view *view, const espl_decision *base,
                            espl_decision *out, espl_str *problems, espl_str *notes);

#endif
