/* SPDX-License-Identifier: Apache-2.0 */
/* The first half of the reply parser: from hostile text to one JSON object. */
#ifndef ESPL_AGENT_FIND_H
#define ESPL_AGENT_FIND_H

#include "espalier/base/str.h"

struct cJSON;

/* Finds the last JSON object of a reply that acts: one with "prune", "stop", "base" or the name of an action. Thoughts,
 * whatever marks them, the prompt's own example, and anything around the object are ignored. *doc is NULL if there is
 * none; *problems then says why, in one line for the author. Owned by the caller: cJSON_Delete. ESPL_NOMEM is the only
 * failure. */
espl_status espl_reply_find(const char *text, int64_t len, struct cJSON **doc, espl_str *problems);

#endif
