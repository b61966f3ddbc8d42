/* SPDX-License-Identifier: Apache-2.0 */
/* What a reply may look like: forms for constrained decoding (espalier/form/form.h), and schemas of tools. */
#ifndef ESPL_AGENT_FORMS_H
#define ESPL_AGENT_FORMS_H

#include "action.h"

#include "espalier/base/json_writer.h"
#include "espalier/form/form.h"

/* Writes the schema of an action's parameters, for a server's list of tools. Names of linears are left open: in the
 * list of every tool they would take more of the model's context than its prompt. */
void espl_forms_put_parameters(espl_json_writer *w, const char *key, const espl_agent_view *v, espl_action_kind kind);

/* How much a form offers. */
typedef enum espl_forms_extent {
    ESPL_FORMS_WHOLE, /* all members */
    ESPL_FORMS_BRIEF, /* for small models: reasons, the policy's plan or none with a scale, and steps */
    ESPL_FORMS_PAPER  /* reasons and steps alone */
} espl_forms_extent;

/* The form of a reply: an object with "action", one of the `offered` kinds (bit 1 << kind), and that action's members,
 * all of them. A reply of a brief or paper form is a valid action, unless its plan was
 * just rolled back; the whole form leaves some checks to the parser (a plan without a step, too many linears). */
typedef struct espl_forms espl_forms;
espl_status espl_forms_create(espl_forms **out, const espl_agent_view *v, unsigned offered, espl_forms_extent extent);
/* NULL-safe. */
void espl_forms_free(espl_forms **f);
const espl_form *espl_forms_reply(const espl_forms *f);

#endif
