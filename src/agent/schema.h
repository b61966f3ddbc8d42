/* SPDX-License-Identifier: Apache-2.0 */
/* JSON schemas of actions: parameters of tool calls, and what servers may let a model write. */
#ifndef ESPL_AGENT_SCHEMA_H
#define ESPL_AGENT_SCHEMA_H

#include "action.h"

#include "espalier/base/json_writer.h"

/* Writes the schema of one action's members, "action" itself not among them. The bounds are those that reply.c checks;
 * names of linears are left open. */
void espl_schema_put_parameters(espl_json_writer *w, const char *key, const espl_agent_view *v, espl_action_kind kind);

/* Writes the schema of a reply: an object with "action", which is one of the `offered` kinds (bit 1 << kind), and that
 * action's members. Linears are listed by name, with a pattern for each kind and each layer, so that a server that
 * decodes by the schema cannot give another name. */
void espl_schema_put_reply(espl_json_writer *w, const char *key, const espl_agent_view *v, unsigned offered);

#endif
