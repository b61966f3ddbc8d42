/* SPDX-License-Identifier: Apache-2.0 */
/* What the program answers when a language model asks before it decides (action.h): texts for the model to read. */
#ifndef ESPL_AGENT_TOOLS_H
#define ESPL_AGENT_TOOLS_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"
#include "espalier/base/str.h"

/* Answers PREDICT for a valid plan. notes: what was trimmed from the plan, one per line. */
void espl_tools_put_prediction(espl_str *s, const espl_agent_view *v, const espl_policy_options *policy,
                               const espl_decision *plan, const espl_str *notes);
/* Answers MEASURE: after, accepted: what was measured, and what the verdict would be; left: further measurements in
 * this iteration. */
void espl_tools_put_measurement(espl_str *s, const espl_agent_view *v, const espl_policy_options *policy,
                                const espl_decision *plan, const espl_quality *after, bool accepted, int64_t left);
/* Answers INSPECT for all linears that match the name or pattern, which is hostile text. */
void espl_tools_put_inspection(espl_str *s, const espl_agent_view *v, const char *linears);

/* Appends the steps of a plan: " layers.0.mlp.up_proj 0.05 layers.3.mlp.down_proj 2:4". */
void espl_tools_put_items(espl_str *s, espl_layout layout, const espl_decision *plan);
/* Appends what came of a plan beside what was expected, in nats (NAN: that is not told): ", perplexity 4.41 -> 4.52
 * (+2.49 %, expected +1.8 %), loss of answers 0.21 -> 0.22 (+0.01, expected +0.02)". */
void espl_tools_put_change(espl_str *s, const espl_quality *before, const espl_quality *after, double expected_text,
                           double expected_answers);

#endif
