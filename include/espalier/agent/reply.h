/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replies: the JSON in which every agent - policy, language model, recording - gives its decision. One parser reads
 * them all, and trusts none. All functions are Local.
 */
#ifndef ESPALIER_AGENT_REPLY_H
#define ESPALIER_AGENT_REPLY_H

#include "espalier/agent/view.h"
#include "espalier/base/status.h"
#include "espalier/base/str.h"

enum {
    ESPL_AGENT_REPLY_MAX = 1 << 20, /* bytes of a reply that are read */
    ESPL_AGENT_TEXT_MAX = 4000      /* bytes of reasoning or reflection that are kept */
};

/* Reads a reply: hostile text of any length. Takes the last JSON object with "prune" or "stop" that is not the prompt's
 * example; thoughts, whatever marks them, and anything around the object are ignored. A name in "prune" may be a
 * pattern with stars, for all linears that match and can take the step; a linear's own name overrides patterns. *out is
 * always initialised, and owned by the caller.
 * Appends problems, which the author must fix, to *problems, one per line and at most a few; *out is empty then.
 * Appends notes on what was changed without asking (caps, the overall target, patterns that exceed it, steps beside
 * "stop") to *notes. ESPL_NOMEM is the only failure. */
espl_status espl_reply_parse(const char *text, int64_t len, const espl_agent_view *view, espl_decision *out,
                             espl_str *problems, espl_str *notes);

/* Appends the decision as reply JSON, with names of linears and patterns ("2:4"). Numbers read back as the same
 * doubles. */
void espl_reply_put(espl_str *s, espl_layout layout, const espl_decision *d);

#endif
