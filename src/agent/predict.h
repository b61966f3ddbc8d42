/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on plans that language models do badly: what a plan is expected to cost, and whether it was tried. */
#ifndef ESPL_AGENT_PREDICT_H
#define ESPL_AGENT_PREDICT_H

#include "espalier/agent/options.h"
#include "espalier/agent/view.h"

typedef struct espl_prediction {
    double text, answers; /* rise of the two losses in nats, by the profile's curves; NAN where there are none */
    double together;      /* the same as one rise, as the judge counts it; NAN without curves */
    double sparsity;      /* overall, after the plan */
    int64_t weights;      /* that the plan prunes */
} espl_prediction;

/* Of a valid plan for this view. N:M patterns cost the policy's factors (damage_2_4, damage_4_8) more. */
espl_prediction espl_predict(const espl_agent_view *v, const espl_policy_options *policy, const espl_decision *plan);

/* Notes in the plan itself what is expected of it. */
void espl_predict_note(const espl_agent_view *v, const espl_policy_options *policy, espl_decision *plan);

/* Sum of the measured rises of all outcomes whose rise was expected to be above 0, divided by the sum of the expected
 * ones: how far to trust the next prediction. NAN: no such outcome. */
double espl_predict_bias(const espl_agent_view *v);

/* The rise of an outcome that was expected, as the judge counts it; NAN: not known. */
double espl_predict_expected(const espl_agent_view *v, const espl_decision *d);

/* The rolled back iteration since the last accepted one whose decision the plan repeats, or nearly repeats: at least
 * nine tenths of the pruned weights are the same. 0: none. The state is the same as then, and so would be the verdict.
 */
int64_t espl_predict_repeated(const espl_agent_view *v, const espl_decision *plan);

#endif
